"""The whole job: data, plan, private training with resume, export."""

import contextlib
import dataclasses
import json

import tensorflow as tf

from tfdps import batches, callbacks, checks, data, ledger, models, noise_streams, replicas
from tfdps.authorization import LedgerWriter
from tfdps.plan import PrivacyPlan, make_plan
from tfdps.preemption import StopRequest
from tfdps.run_dir import RunDir
from tfdps.run_export import export_run, public_flags

_STEPS_PER_EXECUTION = 10
_CHECKPOINTS_KEPT = 2


def train(config, say=print, stop=None):
    """Trains the run of `config`, or resumes it, and exports the generator.

    Started again after an interruption it resumes from the last checkpoint; steps that the ledger
    covers count as taken whether or not the checkpoint has them. Interrupted (KeyboardInterrupt) it
    saves a checkpoint and lets the interruption through.

    Args:
      config: a RunConfig with a model_dir. On several workers all call this; model_dir is the
        chief's, and the others leave theirs alone.
      say: called with each line for the user.
      stop: a StopRequest: once it is requested the run is interrupted between two steps.

    Returns:
      The model card, a dict; None on workers that are not the chief.

    Raises:
      UsageError: before the first step, for anything the user can put right.
      WorkerLostError: when another worker is gone. Started again, all go on from the last checkpoint.
    """
    stop = stop or StopRequest()
    on = replicas.of(config, say)
    stop.listen_again()
    with on.noticing_losses():
        return _train(config, on, say if on.is_chief else _silent, stop)


def _train(config, on, say, stop):
    run, opened = RunDir(config.model_dir), contextlib.ExitStack()
    on.on_chief(lambda: _prepare(run, config, say))
    dataset = data.load_of(config, part=(on.worker, on.num_workers), records_mib=config.records_mib)
    _check_size(config, dataset.size)
    plan = _shared_plan(on, run, config, dataset.size)
    on.same_on_all(_public_settings(config, dataset))
    say(describe(plan, on))
    model = models.build_model(config, dataset.spec, plan, on=on)  # what refuses must start no run
    noise_streams.check(on, model.mechanism)
    kept = _Kept()

    def begin():
        kept.open_ledger = opened.enter_context(_open_ledger(run, plan))
        run.write(config, dataset.spec, dataset.size)
        kept.manager = _checkpoint_manager(run, model)
        _restore(model, kept.manager, plan, kept.open_ledger, say)

    with opened:
        on.on_chief(begin)
        if on.num_workers > 1 or kept.manager.latest_checkpoint is not None:
            model.learner.restored()
        _fit(model, dataset, plan, run, kept, config, on, stop)

    def export():
        kept.card = export_run(run, model, plan, dataset.spec, config, say)

    try:
        with on.noticing_losses():
            on.on_chief(export)
    except replicas.WorkerLostError:
        if kept.card is None:
            raise  # else all is done: only the word of it does not reach another
    return kept.card


def export_checkpoint(config, say=print):
    """Exports the generator of a run's last checkpoint again; returns the model card."""
    run = RunDir(config.model_dir)
    config, spec, num_records = run.read()
    plan = plan_of_run(run, config, num_records)
    model = models.build_model(config, spec, plan)
    manager = _checkpoint_manager(run, model)
    if manager.latest_checkpoint is None:
        raise checks.UsageError(f"no checkpoint in {run.checkpoints} yet: train first.")
    manager.checkpoint.restore(manager.latest_checkpoint).expect_partial()
    model.learner.restored()
    return export_run(run, model, plan, spec, config, say)


@dataclasses.dataclass
class _Kept:
    """What the chief alone has: its ledger, its checkpoints, and at last the model card."""

    open_ledger: ledger.Ledger | None = None
    manager: tf.train.CheckpointManager | None = None
    card: dict | None = None


def _silent(line):
    """Says nothing: of several workers the chief speaks for all."""


def _prepare(run, config, say):
    run.prepare()
    if run.started:
        changed = run.check_resume(config)
        more = f" Changed: {', '.join(changed)}." if changed else ""
        say(f"Resuming the run at {run.root}.{more}")


def _shared_plan(on, run, config, num_records):
    """The chief's plan, on every worker."""
    plan = on.on_chief(lambda: plan_of_run(run, config, num_records))
    if on.num_workers == 1:
        return plan
    sent = on.broadcast(json.dumps(dataclasses.asdict(plan)).encode() if plan else b"")
    return PrivacyPlan(**json.loads(sent))


def _public_settings(config, dataset):
    """What all workers must agree on, as lines: all flags but for their machine's paths."""
    data_set = f"{dataset.size} records, {dataset.fingerprint}", str(dataset.spec)
    return "\n".join([*public_flags(config, dataset.spec), *data_set])


def describe(plan, on):
    """Returns the plan as one line."""
    spread = f" On {on.count} replicas." if on.count > 1 else ""
    if not plan.private:
        return f"NOT PRIVATE: no noise is added, epsilon is infinity. {plan.steps} steps.{spread}"
    return (
        f"Plan: {plan.steps} steps, noise multiplier {plan.noise_multiplier:.4g}, sampling "
        f"probability {plan.sampling_probability:.4g} of {plan.dataset_size} records: epsilon "
        f"{plan.epsilon(plan.steps):.4g} at delta {plan.delta:g} ({plan.accountant.upper()}).{spread}"
    )


def plan_of_run(run, config, num_records):
    """The plan of a run: a started one's own, as its ledger has it, if the flags still mean it.

    A calibrated noise multiplier may come out a digit different after an upgrade of a library.
    """
    plan = make_plan(config, num_records)
    if not plan.private or not run.ledger.exists():
        return plan
    recorded = ledger.read_plan(run.ledger)
    calibrated = {"noise_multiplier": recorded.noise_multiplier, "steps": recorded.steps}
    near = all(abs(value / getattr(plan, name) - 1) < 1e-3 for name, value in calibrated.items())
    meets = plan.target_epsilon is None or (recorded.epsilon(recorded.steps) <= plan.target_epsilon)
    if near and meets and dataclasses.replace(plan, **calibrated) == recorded:
        return recorded
    return plan  # which the ledger then refuses, naming what differs


def _check_size(config, num_records):
    if config.dataset_size is not None and config.dataset_size != num_records:
        raise checks.UsageError(
            f"--dataset_size={config.dataset_size} but {config.dataset} has {num_records} records: the "
            "guarantee depends on it. Leave the flag out, or set it to the true number."
        )


@contextlib.contextmanager
def _open_ledger(run, plan):
    """The run's open ledger, or None without a mechanism."""
    if not plan.private:
        yield None
        return
    opened = ledger.open_ledger(run.ledger, plan)
    try:
        yield opened
    finally:
        opened.close()


def _checkpoint_manager(run, model):
    checkpoint = tf.train.Checkpoint(noisy_steps=model.noisy_steps, **model.learner.saved_state())
    return tf.train.CheckpointManager(checkpoint, str(run.checkpoints), _CHECKPOINTS_KEPT)


def _restore(model, manager, plan, open_ledger, say):
    """Loads the last checkpoint if there is one, and holds it against the ledger."""
    if manager.latest_checkpoint is not None:
        manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    if open_ledger is None:
        return
    taken, covered = int(model.noisy_steps.numpy()), open_ledger.total_steps
    if taken < covered:
        say(f"{covered - taken} steps after the last checkpoint were lost; they stay spent.")
    if manager.latest_checkpoint is None and covered >= plan.steps:
        raise checks.UsageError(
            f"all {covered} steps of the run are spent, but it was stopped before its first "
            "checkpoint: there is no generator to export. Use a new --model_dir."
        )
    if taken > covered:
        raise checks.UsageError(
            f"the ledger covers {covered} steps, but the checkpoint has taken {taken}: "
            "entries are missing from it. Restore it from a backup, or use a new --model_dir."
        )


def _fit(model, dataset, plan, run, kept, config, on, stop):
    """Takes the steps that are left of the plan."""
    taken = (
        int(model.noisy_steps.numpy()) if kept.open_ledger is None else kept.open_ledger.total_steps
    )
    taken = on.broadcast_number(taken)
    model.noisy_steps.assign(taken)
    left = plan.steps - taken
    if left <= 0:
        return
    # A step of an eager learner is a good part of the run: none may be lost, nor be taken unseen.
    eager = model.learner.eager
    stride = 1 if eager else _STEPS_PER_EXECUTION
    around = [LedgerWriter(kept.open_ledger, plan, stride, on=on, stop=stop)]
    checkpoints = None
    if on.is_chief:
        checkpoints = callbacks.Checkpoints(kept.manager, 0 if eager else config.checkpoint_secs)
        classes = dataset.spec.num_classes
        around += [
            checkpoints,  # before the callbacks that may fail on a full disk
            callbacks.Progress(plan),
            callbacks.Scalars(plan, run.logs),
            callbacks.SampleGrids(run.samples, run.logs, config.sample_secs, classes),
        ]
    draws = batches.PoissonBatches(
        dataset,
        plan.sampling_probability,
        truncated=model.mechanism.bounds_any_batches,
        shards=on.local_count,
        num_workers=on.num_workers,
    )
    model.steps_per_execution, model.total_steps = stride, plan.steps
    model.parts_per_step = draws.parts_per_step
    try:
        model.fit(
            on.distribute(draws.dataset(left)),
            steps_per_epoch=left,
            verbose=0,
            shuffle=False,
            callbacks=around,
        )
    except (KeyboardInterrupt, ledger.LedgerWriteError):
        if checkpoints is not None and checkpoints.model is not None:  # None: before fit had begun
            checkpoints.save()
        raise
