"""Text files that users write: in UTF-8, whatever the machine's own encoding is."""

import codecs
import pathlib

from tfdps import checks, files


def read(path, what):
    """Returns the text of a file in UTF-8, with or without a byte order mark.

    Args:
      path: of the file.
      what: what it is, for the message.

    Raises:
      UsageError: there is no such file, or it is no text in UTF-8.
    """
    try:
        content = pathlib.Path(path).expanduser().read_bytes()
    except OSError as error:
        raise checks.UsageError(f"{what} {path} cannot be read: {files.reason(error)}.") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        received = "UTF-16, as some programs of Windows write it" if wide else "other bytes"
        raise checks.UsageError(
            f"{what} {path} must be text in UTF-8, received {received}: save it as UTF-8."
        ) from error
