"""The text of --help: the flags that an owner needs first, then all of them in groups."""

import dataclasses
import re
import textwrap

from tfdps.config.evaluation_options import EvaluationOptions
from tfdps.config.run_config import RunConfig

_COLUMNS = 100
# The title of each group of RunConfig's fields, by the group's first.
_GROUPS = {
    "dataset": "Data",
    "mechanism": "Privacy",
    "loss": "Transport (joint and none)",
    "generator": "Generator",
    "strategy": "Running",
}
_OF_MODES = ("num", "labels", "out", "seed", "export", "port")
_FIRST = ("flagfile", "dataset", "target_epsilon", "model_dir", "mode")
_KINDS = {"int": "N", "float": "X"}
_FLAGFILE = "A file of flags, one a line; a bare name is also looked for among the package's own."


def text(values, flagfiles):
    """Returns what --help prints.

    Args:
      values: absl FlagValues with all flags.
      flagfiles: names of the package's own flag files.
    """
    lines = [
        "Trains a differentially private image generator and exports it.",
        "",
        "  python -m tfdps.launch --flagfile=digits.flags --model_dir=runs/digits",
        "  python -m tfdps.launch --dataset=folder:PATH --target_epsilon=5 --model_dir=runs/mine",
        "",
        *_wrapped("Flag files of the package: " + ", ".join(sorted(flagfiles)), ""),
        "",
        "The first to know:",
    ]
    for name in _FIRST:
        lines += _of_flag(values, name)
    for title, names in groups().items():
        lines += ["", f"{title}:"]
        for name in names:
            if name not in _FIRST:
                lines += _of_flag(values, name)
    lines += ["", "--version prints the version, --help this text."]
    return "\n".join(lines) + "\n"


def groups():
    """Returns the names of all flags that are settings, by the title of their group."""
    found = {}
    for field in dataclasses.fields(RunConfig):
        if field.name in _GROUPS:
            names = found.setdefault(_GROUPS[field.name], [])
        names.append(field.name)
    options = [field.name for field in dataclasses.fields(EvaluationOptions)]
    return {**found, "Evaluation, audit and report": options, "Samples and the page": _OF_MODES}


def _of_flag(values, name):
    if name == "flagfile":
        return ["  --flagfile=FILE", *_wrapped(_FLAGFILE, " " * 6)]
    flag = values[name]
    if flag.boolean:
        head = f"  --[no]{name}"
    else:
        choices = getattr(flag.parser, "enum_values", None)
        kind = "|".join(choices) if choices else _KINDS.get(flag.flag_type(), "TEXT")
        head = f"  --{name}={kind}"
    default = str(flag.default).lower() if flag.boolean else flag.default
    head += "" if flag.default is None else f" (default: {default})"
    return [head, *_wrapped(re.sub(r"^<.*?>: ", "", flag.help), " " * 6)]


def _wrapped(words, indent):
    return textwrap.wrap(
        words, _COLUMNS, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
