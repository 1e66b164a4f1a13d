"""Starts an audit from Python: `audit`. TensorFlow is imported when it is called."""

from __future__ import annotations

import typing

from tfdps.config.evaluation_options import EvaluationOptions
from tfdps.config.run_config import RunConfig
from tfdps.distributed import startup

if typing.TYPE_CHECKING:
    from tfdps.data.arrays import PassedRecords

_DEFAULT = EvaluationOptions()


def audit(
    config: RunConfig,
    options: EvaluationOptions = _DEFAULT,
    dataset: PassedRecords | None = None,
    test_dataset: PassedRecords | None = None,
) -> dict[str, typing.Any]:
    """Audits the run at `config.model_dir`; writes and returns report/audit.json.

    An audit can find a fault; it cannot prove that there is none.

    Guarantee: none. It reads private records without noise; what it writes is marked so, and goes
    to the report's folder, never into the export.

    Args:
      config: a RunConfig: its model_dir and its data_dir.
      options: the EvaluationOptions: which attacks (audit_parts), how many trials.
      dataset: the records that the run was trained on, where they were passed to `train`.
      test_dataset: at least 300 records that were not trained on, likewise, for membership and
        memorisation; None: those that `options` or the run's data set have.

    Returns:
      The content of audit.json, with its "verdict".

    Raises:
      UsageError: an attack needs what is not there: a run, a mechanism, held-out records.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(mechanism="joint", num_steps=20, model_dir="run")
      >>> card = tfdps.train(config)
      >>> options = tfdps.EvaluationOptions(audit_parts="mechanism", audit_trials=150)
      >>> results = tfdps.audit(config, options)
      >>> results["verdict"]
      'no violation found'
    """
    startup.load_tensorflow()
    from tfdps.auditing import attacks

    return attacks.audit(config, options, dataset, test_dataset)
