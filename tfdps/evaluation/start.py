"""Starts an evaluation from Python: `evaluate`. TensorFlow is imported when it is called."""

from __future__ import annotations

import typing

from tfdps.config.evaluation_options import EvaluationOptions
from tfdps.config.run_config import RunConfig
from tfdps.distributed import startup

if typing.TYPE_CHECKING:
    from tfdps.data.arrays import PassedRecords

_DEFAULT = EvaluationOptions()


def evaluate(
    config: RunConfig,
    options: EvaluationOptions = _DEFAULT,
    dataset: PassedRecords | None = None,
    test_dataset: PassedRecords | None = None,
) -> dict[str, typing.Any]:
    """Evaluates the export at `config.model_dir`; writes and returns report/evaluation.json.

    Classifiers are trained on generated images and tested on real ones; distances between real and
    generated images are measured, and how well a classifier tells them apart. The generated images
    go to report/gen.npz, some real ones, for the page alone, to report/nonprivate/real.npz.

    Guarantee: none. It reads private records without noise; what it writes of them is marked so, and
    goes to the report's folder, never into the export. gen.npz there holds generated images alone.

    Args:
      config: a RunConfig: its model_dir, a run or an export, and its data_dir.
      options: the EvaluationOptions.
      dataset: the records that the run was trained on, where they were passed to `train`.
      test_dataset: at least 100 records that were not trained on, likewise, labels numbered as the
        generator's classes; None: those that `options` or the run's data set have.

    Returns:
      The content of evaluation.json; accuracies in [0, 1].

    Raises:
      UsageError: for an export that is not whole, or real data that do not fit it.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(mechanism="joint", num_steps=20, model_dir="run")
      >>> card = tfdps.train(config)
      >>> few = dict(eval_samples=200, eval_quick=True, feature_cache="report")
      >>> results = tfdps.evaluate(config, tfdps.EvaluationOptions(**few))
      >>> 0 <= results["accuracy"]["logreg"]["mean"] <= 1
      True
    """
    startup.load_tensorflow()
    from tfdps.evaluation import protocols

    return protocols.evaluate(config, options, dataset, test_dataset)
