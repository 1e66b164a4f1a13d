"""The command line's flags: the mode, RunConfig's fields, what sampling and evaluation take."""

import dataclasses
import pathlib
import typing

from absl import flags

from tfdps import checks
from tfdps.config import RunConfig
from tfdps.options import EvaluationOptions

MODES = ("train", "account", "sample", "export", "evaluate", "audit", "report", "demo")

_PACKAGE_FLAGFILES = (
    pathlib.Path(__file__).parent / "flagfiles",  # installed
    pathlib.Path(__file__).parent.parent / "launch",  # a checkout
)
_DEFINE = {
    bool: flags.DEFINE_boolean,
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
}


def parse(argv):
    """Returns (absl FlagValues, RunConfig) of a command line.

    A bare flagfile name is looked for in the working directory, then among the package's own.

    Args:
      argv: the program's name and its arguments.

    Raises:
      UsageError: on an unknown flag, a value that does not parse, a stray argument, or a flagfile
        that is not there.
    """
    values = flags.FlagValues()
    _define(values)
    try:
        stray = values(_with_flagfile_paths(argv))[1:]
    except (flags.Error, UnicodeDecodeError) as error:
        raise checks.UsageError(f"{error}. --help lists the flags.") from error
    if stray:
        raise checks.UsageError(
            f"unexpected argument {stray[0]!r}: every setting is a flag, --name=value."
        )
    return values, _settings(RunConfig, values)


def evaluation_options(values):
    """Returns the EvaluationOptions of parsed flags.

    Args:
      values: the FlagValues of `parse`.

    Raises:
      UsageError: when a value lies outside what its help text allows.
    """
    return _settings(EvaluationOptions, values)


def _settings(settings, values):
    return settings(**{f.name: values[f.name].value for f in dataclasses.fields(settings)})


def help_text():
    """Returns the description of all flags."""
    values = flags.FlagValues()
    _define(values)
    lines = [
        "Trains a differentially private image generator and exports it.",
        "",
        "  python -m tfdps.launch --flagfile=digits.flags --model_dir=runs/digits",
        "",
        "Flag files of the package: " + ", ".join(sorted(_package_flagfiles())),
        "",
        values.module_help("tfdps").strip(),
    ]
    return "\n".join(lines) + "\n"


def _define(values):
    common = {"flag_values": values, "module_name": "tfdps"}
    flags.DEFINE_enum("mode", "train", MODES, "What to do. train: the whole job.", **common)
    for field in (*dataclasses.fields(RunConfig), *dataclasses.fields(EvaluationOptions)):
        text, choices = field.metadata["help"], field.metadata.get("choices")
        if choices:
            flags.DEFINE_enum(field.name, field.default, choices, text, **common)
        else:
            _DEFINE[_plain_type(field.type)](field.name, field.default, text, **common)
    flags.DEFINE_integer("num", 64, "--mode=sample: how many images.", **common)
    flags.DEFINE_string(
        "labels", None, "--mode=sample: classes, taken in turn: 0-4,7 or names.", **common
    )
    flags.DEFINE_string(
        "out", None, "--mode=sample: a .png, .npz or .parquet file, or a folder/.", **common
    )
    flags.DEFINE_string(
        "export", None, "--mode=demo: an export, a generator.onnx or a model_dir.", **common
    )
    flags.DEFINE_integer("port", 8000, "--mode=demo: of this machine; 0: any.", **common)
    flags.DEFINE_integer("seed", 0, "--mode=sample: the same seed, the same images.", **common)


def _plain_type(annotation):
    return next(t for t in (*typing.get_args(annotation), annotation) if t in _DEFINE)


def _with_flagfile_paths(argv):
    """argv with every bare --flagfile name replaced by the path it stands for."""
    result, previous = [], None
    for argument in argv:
        if previous in ("--flagfile", "-flagfile"):
            argument = _flagfile_path(argument)
        elif argument.startswith(("--flagfile=", "-flagfile=")):
            prefix, name = argument.split("=", 1)
            argument = f"{prefix}={_flagfile_path(name)}"
        result.append(argument)
        previous = argument
    return result


def _flagfile_path(name):
    if pathlib.Path(name).expanduser().is_file():
        return name
    own = _package_flagfiles()
    if name in own:
        return str(own[name])
    raise checks.UsageError(
        f"flagfile {name!r} is neither in {pathlib.Path.cwd()} nor among the package's own: "
        f"{', '.join(sorted(own))}."
    )


def _package_flagfiles():
    """{name: path} of the package's flag files."""
    return {
        path.name: path for folder in _PACKAGE_FLAGFILES for path in sorted(folder.glob("*.flags"))
    }
