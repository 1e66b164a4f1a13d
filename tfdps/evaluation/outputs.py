"""Can results be written where they are to go? Asked before the minutes of work that they take."""

import tempfile

from tfdps import checks, files

_NETWORKS = "nonprivate"  # the sub-folder of a feature cache


def networks_folder(cache_dir):
    """Returns the folder below `cache_dir`, a pathlib.Path, that keeps feature networks."""
    return cache_dir / _NETWORKS


def check_report(report_dir):
    """Makes the folder of results; raises UsageError unless files can be written to it.

    Args:
      report_dir: pathlib.Path.
    """
    _check(report_dir, "cannot write results to", "Give another folder with --report_dir=PATH.")


def check_cache(cache_dir, *, empty=False):
    """Makes the folder of feature networks; raises UsageError unless files can be written to it.

    One that has networks already may be for reading alone: theirs may be the one that is asked for.

    Args:
      cache_dir: pathlib.Path, see EvaluationOptions.cache_dir.
      empty: whether it is known not to hold the network.
    """
    folder = networks_folder(cache_dir)
    if empty or not any(folder.glob("*.npz")):
        _check(
            folder,
            "cannot write the feature network to",
            "Give another folder with --feature_cache=PATH, or --feature_cache=report.",
        )


def _check(folder, problem, fix):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise checks.UsageError(f"{problem} {folder}: {files.reason(error)}. {fix}") from error
