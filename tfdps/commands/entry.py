"""What all commands have in common: every error that a user can put right is one line, and a status."""

import argparse
import os
import sys

import tfdps
from tfdps import checks, console, files


def run(program, work, *, interrupted, missing):
    """Runs `work` and returns the exit status: its own or 0; 2 usage error, 130 interrupted, 141 pipe.

    Args:
      program: its name, before every message.
      work: a function of no arguments.
      interrupted: what to say after Ctrl-C.
      missing: what to say of a ModuleNotFoundError, a function: of a package that this command takes
        and others do not.
    """
    try:
        with console.lines_to(print):
            return work() or 0
    except checks.UsageError as error:
        return _said(program, error)
    except KeyboardInterrupt:
        print(f"{program}: interrupted{interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, `| head` say, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] == "tfdps":
            raise
        return _said(program, missing(error))
    except OSError as error:  # permissions, a full disk
        where = "" if error.filename is None else f": {error.filename}"
        return _said(program, f"{files.reason(error)}{where}")


def parser(program, description, examples):
    """Returns an argparse.ArgumentParser with --version, whose help ends with the examples."""
    made = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"tfdps {tfdps.__version__}")
    return made


def _said(program, message):
    print(f"{program}: error: {message}", file=sys.stderr)
    return 2
