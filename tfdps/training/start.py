"""Starts a run from Python: `train`. TensorFlow is imported when it is called."""

from __future__ import annotations

import typing

from tfdps.artefacts.card import ModelCard
from tfdps.config.run_config import RunConfig
from tfdps.distributed import startup

if typing.TYPE_CHECKING:
    from tfdps.data.arrays import PassedRecords
    from tfdps.distributed.preemption import StopRequest


def train(
    config: RunConfig,
    dataset: PassedRecords | None = None,
    *,
    stop: StopRequest | None = None,
) -> ModelCard | None:
    """Trains the run of `config`, or resumes it, and exports the generator.

    Called again after an interruption it resumes from the last checkpoint; steps that the ledger
    covers count as taken whether or not the checkpoint has them. Interrupted (KeyboardInterrupt) it
    saves a checkpoint and lets the interruption through.

    Args:
      config: a RunConfig with a model_dir. On several workers all call this; model_dir is the
        chief's, and the others leave theirs alone.
      dataset: the records, where `config.dataset` is "arrays" or "arrays:NAME": (images, labels),
        images uint8 [N, H, W] or [N, H, W, C] with C 1 or 3, labels integers [N]; or a
        tf.data.Dataset of such pairs, one record each, in one order; or a Dataset. Where the unit is a
        person, config.person "passed": (images, labels, persons), persons texts or integers [N], or a
        Dataset that has units. None: the data set that `config.dataset` names. The classes of arrays
        are declared, in the order of their labels: `config.class_names`. A resumed run is passed the
        same records again.
      stop: a StopRequest: once it is requested the run is interrupted between two steps.

    Returns:
      The ModelCard; None on workers that are not the chief.

    Raises:
      UsageError: before the first step, for anything the user can put right: settings, records that
        are not as described or not those of the run, a folder that holds other things.
      WorkerLostError: when another worker is gone. Started again, all go on from the last checkpoint.

    Examples:
      >>> import sklearn.datasets, numpy as np, tfdps
      >>> digits = sklearn.datasets.load_digits()
      >>> images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
      >>> config = tfdps.RunConfig(
      ...     dataset="arrays:digits", class_names="0,1,2,3,4,5,6,7,8,9", model_dir="run"
      ... )
      >>> card = tfdps.train(config, (images, digits.target))
      >>> card.dataset, card.dataset_size, card.epsilon <= 10
      ('arrays:digits', 1797, True)
    """
    startup.load_tensorflow()
    from tfdps.training import job

    return job.train(config, dataset, stop=stop)
