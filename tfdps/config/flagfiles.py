"""Files of flags: where one is, and the flags in it, with those of the files that it names."""

import io
import pathlib
import re

from tfdps import checks
from tfdps.config import text_files

_FOLDERS = (
    pathlib.Path(__file__).parents[1] / "flagfiles",  # installed
    pathlib.Path(__file__).parents[2] / "launch",  # a checkout
)
_FLAG = re.compile(r"--?(\w+)(?:=(.*))?")
# Their values are lists of names, in which quotes have a meaning.
_WITH_QUOTES = ("class_names", "labels")


def flags_of(name, around=()):
    """Returns the flags of a file, texts --name or --name=value, in their order.

    A flag that names another file stands for the flags of that one.

    Args:
      name: a path, or the bare name of one of the package's own files; "~" is the user's home.
      around: the paths of the files that this one is named in.

    Raises:
      UsageError: there is no such file, it is no text in UTF-8, a line is no flag, a value is in
        quotes, or files name each other in a circle.
    """
    path = _path_of(name)
    if path in around:
        raise checks.UsageError(f"flagfile {path} names itself: leave that line out.")
    found = []
    lines = io.StringIO(text_files.read(path, "flagfile"), newline=None)  # of any system
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith(("#", "//")):
            continue
        flag = _FLAG.fullmatch(line)
        if not flag:
            raise checks.UsageError(
                f"line {number} of flagfile {path} must be a flag, --name=value; received {line!r}."
            )
        key, value = flag.groups()
        if key == "flagfile":
            found += flags_of(value or "", (*around, path))
            continue
        if value and value[0] in "\"'" and len(value) > 1 and value[-1] == value[0]:
            _refuse_quotes(key, value, f"line {number} of flagfile {path}")
        found.append(line)
    return found


def own():
    """Returns {name: path} of the package's own files."""
    return {path.name: path for folder in _FOLDERS for path in sorted(folder.glob("*.flags"))}


def _path_of(name):
    path = pathlib.Path(name).expanduser()
    if path.is_file():
        return path
    if name in own():
        return own()[name]
    raise checks.UsageError(
        f"flagfile {name!r} is neither in {pathlib.Path.cwd()} nor among the package's own: "
        f"{', '.join(sorted(own()))}."
    )


def _refuse_quotes(key, value, where):
    if key not in _WITH_QUOTES:
        raise checks.UsageError(
            f"{where}: a flagfile takes no quotes around a value, received --{key}={value}: write "
            f"--{key}={value[1:-1]}"
        )
