"""Writing a text file whole or not at all, and why a file cannot be written."""

import os


def write_whole(path, text):
    """Writes a text to a file that appears under its name only when all of it is on disk.

    Args:
      path: pathlib.Path; its folder is made. What was there before stays until then.
      text: the content, UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def reason(error):
    """Returns an error of a file, an OSError or one of TensorFlow's, in few words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error.message).split(";")[-1].split("[Op:")[0].strip()
