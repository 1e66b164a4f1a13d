"""What a run is made of, settled before its first step: the settings it leaves open, and its plan."""

import dataclasses
import json

from tfdps import checks
from tfdps.accounting import ledger
from tfdps.accounting.plan import PrivacyPlan, make_plan
from tfdps.config import automatic


def settled(on, run, config, dataset):
    """Returns (the RunConfig with what it leaves open, the Choices that were made now).

    What a run that was started has chosen stays. All workers get the chief's.

    Args:
      on: the Replicas.
      run: the RunDir.
      config: the RunConfig.
      dataset: the worker's Dataset.
    """

    def as_it_was():
        return json.dumps(automatic.of_run(run.read()[0] if run.started else config))

    kept = on.on_chief(as_it_was)
    if on.num_workers > 1:
        kept = on.broadcast((kept or "").encode()).decode()
    config = automatic.kept(config, json.loads(kept))
    spec = dataset.spec
    return automatic.settled(
        config, dataset.size, num_classes=spec.num_classes, image_shape=spec.image_shape
    )


def shared(on, run, config, dataset):
    """Returns the chief's PrivacyPlan, on every worker; arguments as for `settled`."""
    plan = on.on_chief(lambda: of_run(run, config, dataset.size, dataset.spec.num_classes))
    if on.num_workers == 1:
        return plan
    sent = on.broadcast(json.dumps(dataclasses.asdict(plan)).encode() if plan else b"")
    return PrivacyPlan(**json.loads(sent))


def of_run(run, config, num_records, num_classes):
    """The plan of a run: a started one's own, as its ledger has it, if the flags still mean it.

    A calibrated noise multiplier may come out a digit different after an upgrade of a library.

    Raises:
      UsageError: for a run whose steps had another kind of noise than today's.
    """
    plan = make_plan(config, num_records, num_classes=num_classes)
    if not plan.private or not run.ledger.exists():
        return plan
    recorded = ledger.read_plan(run.ledger)
    if recorded.noise != plan.noise:
        raise checks.UsageError(
            f"the run at {run.root} was begun by tfdps 0.1, whose noise was not Gaussian: its epsilon "
            "does not hold at its delta, so it is neither resumed nor exported. Train again, in a new "
            "--model_dir."
        )
    calibrated = {"noise_multiplier": recorded.noise_multiplier, "steps": recorded.steps}
    near = all(abs(value / getattr(plan, name) - 1) < 1e-3 for name, value in calibrated.items())
    meets = plan.target_epsilon is None or (recorded.epsilon(recorded.steps) <= plan.target_epsilon)
    if near and meets and dataclasses.replace(plan, **calibrated) == recorded:
        return recorded
    return plan  # which the ledger then refuses, naming what differs
