"""The command line's flags: the mode, RunConfig's fields, what sampling and evaluation take."""

import dataclasses
import typing

from absl import flags

from tfdps import checks
from tfdps.config import flagfiles, help, run_checks
from tfdps.config.evaluation_options import EvaluationOptions
from tfdps.config.run_config import RunConfig

MODES = ("train", "account", "sample", "export", "evaluate", "audit", "report", "demo")

_ABSL_OWN = ("flagfile", "undefok")  # that it knows without a definition
_DEFINE = {
    bool: flags.DEFINE_boolean,
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
}


def parse(argv):
    """Returns (absl FlagValues, RunConfig) of a command line.

    A bare flagfile name is looked for in the working directory, then among the package's own. What the
    command line itself says comes before what any flagfile says, wherever it stands; of flagfiles
    the later comes before the earlier. --refiner=none of the command line takes a flagfile's refiner
    out with all of its settings, and --refiner_steps=0 takes those of its private steps out.

    Args:
      argv: the program's name and its arguments.

    Raises:
      UsageError: on an unknown flag, a value that does not parse, a stray argument, a flag that the
        command line gives twice with different values, or a flagfile that is not there.
    """
    values = flags.FlagValues()
    _define(values)
    program, *arguments = argv
    of_files, direct = _separated(arguments, values)
    without_use = _without_use(direct)
    of_files = [word for word in of_files if not word.lstrip("-").startswith(without_use)]
    # One after the other: to absl the later one wins, which would be a flagfile at the end.
    for part in (of_files, [word for words in direct for word in words]):
        try:
            stray = values([program, *part])[1:]
        except (flags.Error, ValueError) as error:
            raise checks.UsageError(f"{error}. --help lists the flags.") from error
        if stray:
            raise checks.UsageError(
                f"unexpected argument {stray[0]!r}: every setting is a flag, --name=value."
            )
    _check_said_once(direct, values)
    return values, _settings(RunConfig, values)


def recorded(lines):
    """Returns the RunConfig of the flags that a model card has.

    Args:
      lines: --name=value each.

    Raises:
      UsageError: as for `parse`, and for a flagfile: none is read on a stranger's word.
    """
    for line in lines:
        if line.lstrip("-").startswith("flagfile"):
            raise checks.UsageError(
                f"flags of a model card must name no flagfile, received {line!r}."
            )
    return parse(["tfdps", *lines])[1]


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
    return help.text(values, flagfiles.own())


def _define(values):
    common = {"flag_values": values, "module_name": "tfdps"}
    flags.DEFINE_enum("mode", "train", MODES, "What to do. train: the whole job.", **common)
    for field in (*dataclasses.fields(RunConfig), *dataclasses.fields(EvaluationOptions)):
        text, choices = field.metadata["help"], field.metadata.get("choices")
        kind = _plain_type(field.type)
        if choices and kind is str:
            flags.DEFINE_enum(field.name, field.default, choices, text, **common)
        else:
            _DEFINE[kind](field.name, field.default, text, **common)
    flags.DEFINE_integer("num", 64, "--mode=sample: how many images.", **common)
    flags.DEFINE_string(
        "labels",
        None,
        "--mode=sample: classes, taken in turn: 0-4,7 or names. Where names are numbers, numbers are "
        'names; one with a comma goes in quotes: "a, b",c.',
        **common,
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


def _without_use(direct):
    """How flags of a flagfile begin that mean nothing beside those of the command line, a tuple."""
    said = ["=".join(words).lstrip("-") for words in direct]
    if "refiner=none" in said:
        return ("refiner_",)
    return run_checks.OF_PRIVATE_STEPS if "refiner_steps=0" in said else ()


def _separated(arguments, values):
    """(the flags in flagfiles, [[word, ...], ...]: one list a flag).

    A flag that is no boolean and has no "=" takes the next word, as absl has it. From "--" or a word
    that is no flag on all words are one list: absl hands them back as stray.
    """
    of_files, direct, rest = [], [], list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        takes_next = not values[name].boolean if name in values else name in _ABSL_OWN
        if takes_next and not equals and rest:
            equals, value = " ", rest.pop(0)
        if name == "flagfile" and equals:
            of_files += flagfiles.flags_of(value)
        else:
            direct.append([word, value] if equals == " " else [word])
    _check_values(of_files, values)
    return of_files, [*direct, rest]


def _check_values(words, values):
    """Raises UsageError for a flag of a file that would take the next line for its value."""
    for word in words:
        name, equals, _ = word.lstrip("-").partition("=")
        if not equals and name in values and not values[name].boolean:
            raise checks.UsageError(
                f"Missing value for flag --{name} in a flagfile: write --{name}=VALUE."
            )


def _check_said_once(direct, values):
    """Raises UsageError when a flag is given twice with different values."""
    said = {}
    for word, *value in (words for words in direct if words):
        name, equals, text = word.lstrip("-").partition("=")
        if not equals:
            text = value[0] if value else "true"
        if name not in values and name[2:] in values:  # --noname
            name, text = name[2:], "false"
        if name not in values:  # "--" or absl's own
            continue
        parsed = values[name].parser.parse(text)
        if said.setdefault(name, parsed) != parsed:
            raise checks.UsageError(
                f"{name} must be given once, received {said[name]} and {parsed}: leave one of them out."
            )
