"""Differentially private image generators with DP-Sinkhorn: train, account, export, verify.

    import tfdps

    config = tfdps.RunConfig(dataset="digits", target_epsilon=10.0, model_dir="runs/digits")
    card = tfdps.train(config)
    images = tfdps.load_sampler("runs/digits").sample([0, 1, 2], seed=0)

Names load on first use, so `import tfdps` does not load TensorFlow.
"""

import ast
import importlib
import sys
import typing

__version__ = "0.2.0.dev0"


def _face(package, *present):
    """Returns (__getattr__, __dir__, __all__) of a package whose names load on first use.

    The names are those that the package's file imports under `if typing.TYPE_CHECKING:`, as type
    checkers and editors see them:

        if typing.TYPE_CHECKING:
            from tfdps.data.dataset import Dataset as Dataset
            from tfdps.data.loading import load as _load

            load_dataset = _load
        else:
            __getattr__, __dir__, __all__ = _face(__name__)

    Sub-packages, `from tfdps import data as data`, are names too, but not in `__all__`. A name that a
    module calls otherwise is assigned, since to type checkers `load as load_dataset` is no export.

    Args:
      package: its `__name__`.
      *present: names for `__all__` that the file defines itself.
    """
    places = _imports(package)
    shown = sorted([name for name, place in places.items() if place[0] != package] + list(present))

    def load(name):
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = places[name]
        if module == package:
            return importlib.import_module(f"{package}.{attribute}")
        value = getattr(importlib.import_module(module), attribute)
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: sorted({*shown, *places}), shown


def _imports(package):
    """{name: (module, attribute)} of the imports, all with `as`, that a package's file has."""
    source = sys.modules[package].__spec__.loader.get_source(package)
    places = {}
    for block in ast.parse(source).body:
        for node in block.body if isinstance(block, ast.If) else ():
            if isinstance(node, ast.ImportFrom):
                places |= {alias.asname: (node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Assign):
                places[node.targets[0].id] = places.pop(node.value.id)
    return places


if typing.TYPE_CHECKING:
    from tfdps import accounting as accounting
    from tfdps import artefacts as artefacts
    from tfdps import auditing as auditing
    from tfdps import config as config
    from tfdps import data as data
    from tfdps import evaluation as evaluation
    from tfdps import generators as generators
    from tfdps import learners as learners
    from tfdps import mechanisms as mechanisms
    from tfdps import report as report
    from tfdps import samplers as samplers
    from tfdps import serving as serving
    from tfdps import sinkhorn as sinkhorn
    from tfdps import training as training
    from tfdps.accounting.plan import PrivacyPlan as PrivacyPlan
    from tfdps.accounting.plan import make_plan as make_plan
    from tfdps.artefacts.verification import verify as verify
    from tfdps.auditing.start import audit as audit
    from tfdps.checks import UsageError as UsageError
    from tfdps.config.evaluation_options import EvaluationOptions as EvaluationOptions
    from tfdps.config.run_config import RunConfig as RunConfig
    from tfdps.data.dataset import Dataset as Dataset
    from tfdps.data.dataset import DatasetSpec as DatasetSpec
    from tfdps.data.loading import load as _load
    from tfdps.evaluation.start import evaluate as evaluate
    from tfdps.report.page import write_report as write_report
    from tfdps.samplers.loading import load_sampler as load_sampler
    from tfdps.sinkhorn.divergence import sinkhorn_divergence as sinkhorn_divergence
    from tfdps.sinkhorn.keras_loss import SinkhornDivergence as SinkhornDivergence
    from tfdps.training.model import DPSinkhorn as DPSinkhorn
    from tfdps.training.start import train as train

    load_dataset = _load
else:
    __getattr__, __dir__, __all__ = _face(__name__, "__version__")
