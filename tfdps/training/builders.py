"""The model of a run: its learner, with generators, mechanism and optimizer, on its replicas."""

from tfdps.accounting.plan import PrivacyPlan
from tfdps.config import automatic, mechanism_registry
from tfdps.config.run_config import RunConfig
from tfdps.data.dataset import DatasetSpec
from tfdps.distributed import replicas
from tfdps.training.model import DPSinkhorn


def build_model(
    config: RunConfig, spec: DatasetSpec, plan: PrivacyPlan, *, on: replicas.Replicas | None = None
) -> DPSinkhorn:
    """Returns the DPSinkhorn model of a run.

    Args:
      config: the RunConfig; what it leaves open is chosen, see `automatic.settled`.
      spec: the DatasetSpec.
      plan: the PrivacyPlan.
      on: the Replicas to run on; default: one device.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(mechanism="joint", num_steps=10)
      >>> spec = tfdps.DatasetSpec("arrays:pets", (32, 32, 3), ("cat", "dog"))
      >>> model = tfdps.training.build_model(config, spec, tfdps.make_plan(config, 1000))
      >>> model.generator.output_shape
      (None, 32, 32, 3)
    """
    config, _ = automatic.settled(
        config, plan.dataset_size, num_classes=spec.num_classes, image_shape=spec.image_shape
    )
    learner = mechanism_registry.load(mechanism_registry.entry(config.mechanism).learner)
    return DPSinkhorn(learner.of_run(config, spec, plan, on=on or replicas.Replicas()))
