"""One field of a settings dataclass: its default, what --help says, what a resumed run may do."""

import dataclasses

# What a resumed run may do with a field that differs from the run's first start.
GUARANTEE = "guarantee"  # it enters epsilon, or says whose epsilon it is: refused
MODEL = "model"  # it shapes the generator or its weights: refused
FREE = "free"  # post-processing or housekeeping: taken over from the new command


def setting(default, help_text, *, resume=FREE, choices=None):
    """Returns a dataclass field.

    Args:
      default: its value where none is given.
      help_text: what --help and the page of flags say.
      resume: GUARANTEE, MODEL or FREE.
      choices: a tuple of the values that it may have; None: any of its type.
    """
    return dataclasses.field(
        default=default, metadata={"help": help_text, "resume": resume, "choices": choices}
    )
