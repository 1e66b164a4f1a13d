"""Reads what evaluation and audit measured: JSON files that may be absent or damaged."""

import contextlib
import datetime
import json
import shlex

from tfdps import checks
from tfdps.data import arrays


def command(mode, model_dir, dataset):
    """Returns the command line that makes a file of `mode` for the run at `model_dir`.

    A call in Python where `dataset`, the name of its data set, says that a program passed the records.
    """
    if arrays.is_name(dataset):
        run = f"tfdps.RunConfig(model_dir={str(model_dir)!r})"
        return f"tfdps.{mode}({run}, dataset=(images, labels), test_dataset=(others, their_labels))"
    return f"python -m tfdps.launch --mode={mode} --model_dir={shlex.quote(str(model_dir))}"


def read(path, made_by):
    """Returns the JSON object at `path`, a dict, or None where there is no file.

    Args:
      path: pathlib.Path.
      made_by: the command that makes the file again.

    Raises:
      UsageError: when the file is no JSON object.
    """
    with refusing_damage(path, made_by):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, received a {type(value).__name__}")
        return value


@contextlib.contextmanager
def refusing_damage(path, made_by):
    """Turns what a wrong value in the file at `path` raises into a UsageError that names the file."""
    try:
        yield
    except checks.UsageError:
        raise  # says itself what is wrong
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise checks.UsageError(f"{path} is damaged: {reason}. Make it again: {made_by}") from error


def is_older(made, than):
    """Returns whether the ISO time `made` lies before `than`; False when either is no such time."""
    try:
        return datetime.datetime.fromisoformat(made) < datetime.datetime.fromisoformat(than)
    except (TypeError, ValueError):
        return False
