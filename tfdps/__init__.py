"""Differentially private image generators with DP-Sinkhorn: train, account, export.

Sub-modules load on first use, so `import tfdps` does not load TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_MODULES = (
    "accounting",
    "config",
    "data",
    "export",
    "generators",
    "sampling_client",
    "serving",
    "sinkhorn",
    "trainer",
    "verification",
)


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"tfdps.{name}")
    raise AttributeError(f"module 'tfdps' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_MODULES])
