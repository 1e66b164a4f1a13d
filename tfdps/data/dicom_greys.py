"""Grey values of a DICOM file as 8 bits: its modality table, then a window. Arrays in, arrays out.

A window says which values are black and which are white. One that is declared is the same for all
files; a file's own is a function of that file alone. Neither follows from other records.
"""

import collections.abc

import numpy as np

from tfdps.data.unusable import UnusableError

GREY = "grey DICOM"  # how the phrases begin
_PIXEL_VALUES, _WINDOWS = "PixelValueTransformationSequence", "FrameVOILUTSequence"
_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


def to_eight_bits(stored, header, window):
    """Returns (uint8 [H, W], a phrase on the window that was used).

    Args:
      stored: integers [H, W], the stored values of the first frame.
      header: a pydicom Dataset with the tags that `dicom_files` reads.
      window: the declared (center, width), in what the modality table yields (Hounsfield units of CT);
        None: the file's own.

    Raises:
      UnusableError: the file's tables or window mean nothing.
    """
    values, low, high = _modality(stored.astype(np.int64), header)
    own = _of_first_frame(header, _WINDOWS)
    share, phrase = _shown(values, low, high, own, window, _is_little(header))
    if header.PhotometricInterpretation == "MONOCHROME1":  # its least value is white
        share = 1 - share
    return np.rint(255 * share).astype(np.uint8), f"{GREY}, {phrase}"


def _of_first_frame(header, sequence):
    """The item of a functional group of an enhanced file's first frame; else the header itself."""
    for groups in _GROUPS:
        items = header.get(groups)
        if items and items[0].get(sequence):
            return items[0][sequence][0]
    return header


def _modality(stored, header):
    """(values, the least that the file's bits can hold, the largest) after the modality table."""
    table = _of_first_frame(header, _PIXEL_VALUES)
    if table.get("ModalityLUTSequence"):
        values, white = _looked_up(stored, table.ModalityLUTSequence[0], _is_little(header))
        return values, 0, white
    bits, signed = int(header.BitsStored), bool(header.get("PixelRepresentation"))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = table.get("RescaleSlope"), table.get("RescaleIntercept")
    slope = 1.0 if slope is None else float(slope)
    intercept = 0.0 if intercept is None else float(intercept)
    if not (np.isfinite([slope, intercept]).all() and slope):
        raise UnusableError("has a RescaleSlope or a RescaleIntercept that means nothing")
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return stored * slope + intercept, *ends


def _is_little(header):
    return header.original_encoding[1] is not False


def _shown(values, low, high, own, window, little):
    """(what the window makes of values, in [0, 1]; which window)."""
    center, width = _first(own.get("WindowCenter")), _first(own.get("WindowWidth"))
    if window is not None:
        named = ",".join(f"{number:g}" for number in window)
        return linear(values, *window), f"window {named} (--dicom_window)"
    if own.get("VOILUTSequence"):
        found, white = _looked_up(values, own.VOILUTSequence[0], little)
        return found / white, "by the files' own tables (--dicom_window)"
    if center is None or width is None:
        share = (values - low) / (high - low)
        return share, "without a window: all that their bits can hold (--dicom_window)"
    return _by_function(values, center, width, own), "by the files' own windows (--dicom_window)"


def _by_function(values, center, width, own):
    function = str(own.get("VOILUTFunction") or "LINEAR").upper()
    least = 1 if function == "LINEAR" else 1e-12
    if not (np.isfinite([center, width]).all() and width >= least):
        raise UnusableError(
            f"has a window whose width means nothing, {width:g}; declare one, --dicom_window"
        )
    if function == "LINEAR":
        return linear(values, center, width)
    if function == "LINEAR_EXACT":
        return _ramp(values, center - width / 2, center + width / 2)
    if function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    raise UnusableError("has a window of an unknown function; declare one, --dicom_window")


def linear(values, center, width):
    """Returns what a window of the function LINEAR makes of values: 0 to 1.

    PS3.3 C.11.2.1.2.1: black up to center - 0.5 - (width - 1) / 2, white from center - 0.5 +
    (width - 1) / 2 on, so that a width of 1 is a threshold.

    Args:
      values: an array.
      center: a number.
      width: a number, >= 1.
    """
    middle, half = center - 0.5, (width - 1) / 2
    return _ramp(values, middle - half, middle + half)


def _ramp(values, black, white):
    if black == white:
        return (values > white).astype(np.float64)
    return np.clip((values - black) / (white - black), 0, 1)


def _looked_up(values, table, little):
    """(values by a table of DICOM, the largest that it can hold)."""
    count, start, bits = (int(number) for number in table.LUTDescriptor)
    count = count % 2**16 or 2**16  # which 16 bits cannot hold
    data = table.LUTData
    if isinstance(data, bytes):
        words = "<u2" if little else ">u2"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * count else words)
    entries = np.atleast_1d(np.asarray(data)).astype(np.int64)[:count]
    white = 2**bits - 1
    if len(entries) < count or not 0 <= entries.min() <= entries.max() <= white:
        raise UnusableError("has a table of grey values that contradicts its own description")
    return entries[np.clip(np.rint(values).astype(np.int64) - start, 0, count - 1)], white


def _first(value):
    """The first of one or several numbers of a tag, a float; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, collections.abc.Sequence):
        return _first(value[0]) if value else None
    return float(value)
