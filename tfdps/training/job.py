"""The whole job: data, plan, private training with resume, export."""

import contextlib
import dataclasses
import logging
import typing

import tensorflow as tf

from tfdps import checks, console
from tfdps.accounting import ledger
from tfdps.accounting.plan import PrivacyPlan
from tfdps.artefacts.card import ModelCard
from tfdps.config.run_config import RunConfig
from tfdps.data import loading, names
from tfdps.distributed import replicas
from tfdps.distributed.preemption import StopRequest
from tfdps.mechanisms import batches, exactness
from tfdps.training import builders, callbacks, needs, plan_lines, run_plan
from tfdps.training.ledger_gate import LedgerWriter
from tfdps.training.run_dir import RunDir
from tfdps.training.run_export import (
    export_run,
    lost_line,
    lost_rounds,
    public_flags,
    refuse_uncovered,
)

_logger = logging.getLogger(__name__)

_STEPS_PER_EXECUTION = 10
_CHECKPOINTS_KEPT = 2


def train(config, dataset=None, *, stop=None):
    """Trains the run of `config`, or resumes it, and exports the generator; returns the ModelCard.

    What `start.train` does once TensorFlow is loaded; arguments and errors are as there.
    """
    stop = stop or StopRequest()
    on = replicas.of_config(config)
    stop.listen_again()
    with contextlib.ExitStack() as around:
        if names.source(config.dataset) == "tfds":  # whose images TensorFlow decodes
            around.enter_context(console.python_alone_on_stderr())
        around.enter_context(on.noticing_losses())
        return _train(config, dataset, on, stop)


def _train(config, records, on, stop):
    run, opened = RunDir(config.model_dir), contextlib.ExitStack()
    on.on_chief(lambda: _prepare(run, config))
    dataset = _load(config, records, on)
    config, choices = run_plan.settled(on, run, config, dataset)
    on.same_on_all(_public_settings(config, dataset))
    on.same_data(dataset.fingerprint)
    on.on_chief(lambda: run.check_data(dataset))  # before a file of the run is touched
    plan = run_plan.shared(on, run, config, dataset)
    if on.is_chief:  # who speaks for all workers
        for line in plan_lines.of_run(config, plan, dataset, on, choices):
            _logger.info(line)
    images = dataset.size * plan.images_per_unit
    on.on_chief(lambda: needs.refuse_what_cannot_fit(config, dataset.spec, images))
    model = builders.build_model(
        config, dataset.spec, plan, on=on
    )  # what refuses must start no run
    if model.mechanism.sums_integers_in_float64:
        exactness.check(on)
    job = _Job(config, run, dataset, plan, model, on, stop)

    def begin():
        job.open_ledger = opened.enter_context(_open_ledger(run, plan))
        run.keep_fingerprint(dataset.fingerprint)  # before run.json, with which a run is started
        run.write(config, dataset.spec, dataset.size)
        job.manager = _checkpoint_manager(run, model)
        _restore(model, job.manager, plan, job.open_ledger)

    with opened:
        on.on_chief(begin)
        begun = on.any(on.is_chief and job.manager.latest_checkpoint)
        if begun or on.num_workers > 1:
            model.learner.restored()
        if not begun:
            model.learner.prepare()
        _fit(job)

    def export():
        job.card = export_run(run, model, plan, dataset.spec, config)

    try:
        with on.noticing_losses():
            on.on_chief(export)
    except replicas.WorkerLostError:
        if job.card is None:
            raise  # else all is done: only the word of it does not reach another
    return job.card


def export_checkpoint(config: RunConfig) -> ModelCard:
    """Exports the generator of a run's last checkpoint again; returns the ModelCard.

    Args:
      config: a RunConfig; its model_dir is the run's, and the run has the other settings.

    Raises:
      UsageError: no run, no checkpoint yet, or a run of tfdps 0.1.

    Examples:
      >>> import tfdps
      >>> config = tfdps.RunConfig(mechanism="joint", num_steps=20, model_dir="run")
      >>> card = tfdps.train(config)
      >>> again = tfdps.training.export_checkpoint(config)
      >>> again.epsilon == card.epsilon
      True
    """
    run = RunDir(config.model_dir)
    config, spec, num_records = run.read()
    plan = run_plan.of_run(run, config, num_records, spec.num_classes)
    model = builders.build_model(config, spec, plan)
    manager = _checkpoint_manager(run, model)
    if manager.latest_checkpoint is None:
        raise checks.UsageError(f"no checkpoint in {run.checkpoints} yet: train first.")
    manager.checkpoint.restore(manager.latest_checkpoint).expect_partial()
    model.learner.restored()
    return export_run(run, model, plan, spec, config)


@dataclasses.dataclass(eq=False)
class _Job:
    """One training: what it is of, on every worker; and what the chief alone has, None elsewhere.

    open_ledger: of a run without a mechanism None too.
    """

    config: RunConfig
    run: RunDir
    dataset: typing.Any
    plan: PrivacyPlan
    model: typing.Any
    on: replicas.Replicas
    stop: StopRequest
    open_ledger: ledger.Ledger | None = None
    manager: tf.train.CheckpointManager | None = None
    card: ModelCard | None = None


def _prepare(run, config):
    run.prepare()
    if run.started:
        changed = run.check_resume(config)
        more = f" Changed: {', '.join(changed)}." if changed else ""
        _logger.info(f"Resuming the run at {run.root}.{more}")


def _load(config, records, on):
    """The worker's part of the data; what any worker's loader refuses is refused by all."""
    dataset, refused = None, None
    try:
        dataset = loading.load_of(
            config,
            part=(on.worker, on.num_workers),
            records_mib=config.records_mib,
            records=records,
        )
    except checks.UsageError as error:
        refused = error
    if on.any(refused is not None):
        raise refused or checks.UsageError(
            "the data are refused on another worker, which says why."
        )
    return dataset


def _public_settings(config, dataset):
    """What all workers must agree on, as lines: all flags but for their machine's paths."""
    data_set = f"{dataset.size} records", str(dataset.spec)
    return "\n".join([*public_flags(config, dataset.spec), *data_set])


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


def _restore(model, manager, plan, open_ledger):
    """Loads the last checkpoint if there is one, and holds it against the ledger."""
    if manager.latest_checkpoint is not None:
        manager.checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    if open_ledger is None:
        return
    taken, covered = int(model.noisy_steps.numpy()), open_ledger.total_steps
    if taken < covered:
        _logger.info(
            f"{covered - taken} steps after the last checkpoint were lost; they stay spent."
        )
    if manager.latest_checkpoint is None and covered >= plan.steps:
        raise checks.UsageError(
            f"all {covered} steps of the run are spent, but it was stopped before its first "
            "checkpoint: there is no generator to export. Use a new --model_dir."
        )
    refuse_uncovered(model, covered)
    lost = lost_line(lost_rounds(model, plan, open_ledger.charges), plan, "will not be asked")
    if lost:
        _logger.info(f"{lost}.")


def _fit(job):
    """Takes the steps that are left of the plan, stage by stage."""
    model, plan, on = job.model, job.plan, job.on
    opened = job.open_ledger
    taken = int(model.noisy_steps.numpy()) if opened is None else opened.total_steps
    taken = on.broadcast_number(taken)
    model.noisy_steps.assign(taken)
    stride = 1 if model.learner.eager else _STEPS_PER_EXECUTION
    for stage in plan.stages:
        left = stage.first + stage.steps - max(taken, stage.first)
        if left > 0:
            around = _callbacks(job, stage, stride)
            draws = batches.PoissonBatches.of_run(job.dataset, model.learner, on=on, stage=stage)
            try:
                model.take_steps(
                    draws, left, on=on, total=plan.steps, per_execution=stride, callbacks=around
                )
            except (KeyboardInterrupt, ledger.LedgerWriteError, tf.errors.OpError) as error:
                for each in around:
                    # Without a model fit had not begun.
                    if isinstance(each, callbacks.Checkpoints) and each.model is not None:
                        each.save()
                if isinstance(error, tf.errors.OpError) and draws.failure is not None:
                    # TensorFlow's own has the text of it, and where in the code it was.
                    raise draws.failure from None
                raise


def _callbacks(job, stage, stride):
    """The callbacks of a stage, which come every `stride` steps."""
    plan, run, config, in_ledger = job.plan, job.run, job.config, job.open_ledger
    around = [LedgerWriter(in_ledger, plan, stride, on=job.on, stop=job.stop)]
    if not job.on.is_chief:
        return around
    # A round is a good part of the run: none may be lost, nor be taken unseen.
    is_round = plan.shares is not None and stage.first == 0
    return [
        *around,
        # Before the callbacks that may fail on a full disk.
        callbacks.Checkpoints(job.manager, 0 if is_round else config.checkpoint_secs),
        callbacks.Progress(plan, in_ledger),
        callbacks.Scalars(plan, in_ledger, run.logs),
        callbacks.SampleGrids(
            run.samples, run.logs, config.sample_secs, job.dataset.spec.num_classes
        ),
    ]
