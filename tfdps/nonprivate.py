"""Files of results computed from private records without noise: marked as such, written whole."""

import datetime
import json
import math

import tfdps
from tfdps import files

MARK = (
    "nonprivate/: computed from private records without noise. Not covered by epsilon: keep it "
    "where the private records may be kept."
)


def write_results(path, results):
    """Writes a dict as a JSON file with the mark, the time and the version; returns what it holds.

    Infinite numbers are written as the text "infinity", which strict JSON has no number for.

    Args:
      path: pathlib.Path of the file; its folder is made. Written whole or not at all.
      results: a dict of texts, numbers, lists and dicts.
    """
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    marked = {
        "nonprivate": MARK,
        "created": created,
        "tfdps_version": tfdps.__version__,
        **_strict(results),
    }
    files.write_whole(path, json.dumps(marked, indent=2, allow_nan=False) + "\n")
    return marked


def _strict(value):
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    return value
