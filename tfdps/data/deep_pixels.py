"""Grey values of 16 bits as 8 bits: what is white is declared, or the file's format says it.

It never follows from the values. The format may say it in two ways: a TIFF states its bits, 12 say. A
PNG has 8 or 16, and its chunk sBIT states how many of them are significant; then the writer scaled the
values up to 16 bits, and shifting them back gives the original ones (PNG, third edition, 11.3.2.7 and
12.4).
"""

import struct

import numpy as np

from tfdps.data.unusable import UnusableError

_MOST = 65535
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF
_WHITE_IS_ZERO = 0


def is_deep(image, stored):
    """Returns whether a Pillow image, of the file `stored`, has 16 bits a channel in its file.

    Pillow keeps the upper 8 of them where there are several channels.
    """
    if image.mode.startswith("I;16"):
        return True
    if image.format == "PNG":
        return stored[24] == 16  # of the header, which comes first
    return image.format == "TIFF" and 16 in image.tag_v2.get(_BITS_PER_SAMPLE, (8,))


def to_eight_bits(image, stored, max_value):
    """Returns (uint8 [H, W], what was taken as white) of a grey Pillow image.

    Args:
      image: of mode I;16 or its kin.
      stored: the bytes of its file.
      max_value: what is white, in [1, 65535]; None: as the file's format says.

    Raises:
      UnusableError: a value is larger than that, or contradicts the file's own sBIT chunk.
    """
    values = np.asarray(image).astype(np.int64)
    bits = _significant_bits(stored) if image.format == "PNG" else 16
    if max_value is None and bits < 16:
        values, white = _shifted_back(values, bits), 2**bits - 1
    else:
        white = max_value or _white_of_format(image)
    if values.max() > white:
        raise UnusableError(
            f"has values above {white}, which was declared to be white; declare a larger --max_value"
        )
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = white - values  # Pillow does this for 8 bits alone
    return np.rint(values * (255 / white)).astype(np.uint8), white


def _white_of_format(image):
    if image.format != "TIFF":
        return _MOST
    return 2 ** image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0] - 1


def _significant_bits(stored):
    """What the chunk sBIT of a grey PNG says; 16 where there is none."""
    position = 8
    while position + 9 <= len(stored):
        length, kind = struct.unpack_from(">I4s", stored, position)
        if kind == b"sBIT":
            return min(stored[position + 8], 16) or 16
        if kind == b"IDAT":
            break
        position += 12 + length
    return 16


def _shifted_back(values, bits):
    """The original values; refuses those that no way of scaling them up to 16 bits gives."""
    shift, white = 16 - bits, 2**bits - 1
    original = values >> shift
    # Zeros below, copies of the upper bits below, or the nearest: the last two differ by one at most.
    nearest = np.rint(np.rint(values * (white / _MOST)) * (_MOST / white))
    if np.any((original << shift != values) & (np.abs(nearest - values) > 1)):
        raise UnusableError(
            f"contradicts itself: by its sBIT chunk {bits} of 16 bits are significant, and its values "
            f"were not scaled up from those; declare what is white, --max_value={white} perhaps"
        )
    return original
