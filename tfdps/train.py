"""The whole job: data, plan, private training with resume, export."""

import contextlib
import dataclasses

import tensorflow as tf

from tfdps import batches, callbacks, checks, data, export, generators, ledger, questions, schedule
from tfdps.image_gradient import ImageGradientLearner
from tfdps.mechanisms.joint import JointMechanism
from tfdps.mechanisms.none import NoMechanism
from tfdps.mechanisms.per_record import PerRecordMechanism
from tfdps.moment_learner import Finish, MomentLearner
from tfdps.plan import make_plan, privacy_statement
from tfdps.run_dir import RunDir
from tfdps.trainer import DPSinkhorn

_STEPS_PER_EXECUTION = 10
_CHECKPOINTS_KEPT = 2


def train(config, say=print):
    """Trains the run of `config`, or resumes it, and exports the generator.

    Started again after an interruption it resumes from the last checkpoint; steps that the ledger
    covers count as taken whether or not the checkpoint has them. Interrupted (KeyboardInterrupt) it
    saves a checkpoint and lets the interruption through.

    Args:
      config: a RunConfig with a model_dir.
      say: called with each line for the user.

    Returns:
      The model card, a dict.

    Raises:
      UsageError: before the first step, for anything the user can put right.
    """
    run = RunDir(config.model_dir)
    run.prepare()
    if run.started:
        changed = run.check_resume(config)
        say(
            f"Resuming the run at {run.root}."
            + (f" Changed: {', '.join(changed)}." if changed else "")
        )
    dataset = data.load_of(config)
    _check_size(config, len(dataset))
    plan = plan_of_run(run, config, len(dataset))
    say(describe(plan))
    model = build_model(config, dataset.spec, plan)  # what it refuses must not start a run
    with _open_ledger(run, plan) as open_ledger:
        run.write(config, dataset.spec, len(dataset))
        manager = _checkpoint_manager(run, model)
        _restore(model, manager, plan, open_ledger, say)
        _fit(model, dataset, plan, run, manager, open_ledger, config)
    return export_run(run, model, plan, dataset.spec, config, say)


def export_checkpoint(config, say=print):
    """Exports the generator of a run's last checkpoint again; returns the model card."""
    run = RunDir(config.model_dir)
    config, spec, num_records = run.read()
    plan = plan_of_run(run, config, num_records)
    model = build_model(config, spec, plan)
    manager = _checkpoint_manager(run, model)
    if manager.latest_checkpoint is None:
        raise checks.UsageError(f"no checkpoint in {run.checkpoints} yet: train first.")
    manager.checkpoint.restore(manager.latest_checkpoint).expect_partial()
    model.learner.restored()
    return export_run(run, model, plan, spec, config, say)


def build_model(config, spec, plan):
    """Returns the DPSinkhorn model of a run: its learner, generators, mechanism and optimizer."""

    def generator(**atoms):
        return generators.build(
            config.generator,
            image_shape=spec.image_shape,
            num_classes=spec.num_classes,
            latent_dim=config.latent_dim,
            **atoms,
        )

    if config.mechanism == "per_record":
        settings = questions.Settings(
            image_shape=spec.image_shape,
            num_classes=spec.num_classes,
            class_size=plan.batch_size / spec.num_classes,
            rank=config.latent_dim - 1,
            clip_norm=plan.clip_norm,
            regularization=config.regularization,
        )
        learner = MomentLearner(
            generator(num_atoms=config.num_atoms),
            PerRecordMechanism(),
            plan=plan,
            schedule=schedule.of(config.num_atoms),
            settings=settings,
            finish=Finish(grain=config.grain, warp=config.warp, mirror=config.mirror),
        )
        return DPSinkhorn(learner)
    if plan.private:
        mechanism = JointMechanism(
            clip_norm=plan.clip_norm,
            noise_multiplier=plan.noise_multiplier,
            learning_rate=config.learning_rate,
        )
    else:
        mechanism = NoMechanism(learning_rate=config.learning_rate)
    return DPSinkhorn(
        ImageGradientLearner(
            generator(), generator(), mechanism, config=config, num_classes=spec.num_classes
        )
    )


def export_run(run, model, plan, spec, config, say):
    """Exports the averaged generator with what the ledger says it cost; returns the model card."""
    generators.recalibrate(model.averaged_generator, num_classes=spec.num_classes)
    card = export.write_export(
        run.export,
        generator=model.averaged_generator,
        generator_name=config.generator,
        spec=spec,
        privacy=privacy_statement(plan, run.charges(plan), model.mechanism),
        training={
            "generator_updates": model.learner.updates,
            "target_epsilon": plan.target_epsilon,
            "flags": _public_flags(config, spec),
        },
    )
    for line in _summary(run, card):
        say(line)
    return card


def _public_flags(config, spec):
    """The run's flags for the model card, which travels: without this machine's paths."""
    public = dataclasses.replace(config, dataset=spec.name, data_dir=None, model_dir=None)
    return public.to_flags().splitlines()


def describe(plan):
    """Returns the plan as one line."""
    if not plan.private:
        return f"NOT PRIVATE: no noise is added, epsilon is infinity. {plan.steps} steps."
    return (
        f"Plan: {plan.steps} steps, noise multiplier {plan.noise_multiplier:.4g}, sampling "
        f"probability {plan.sampling_probability:.4g} of {plan.dataset_size} records: epsilon "
        f"{plan.epsilon(plan.steps):.4g} at delta {plan.delta:g} ({plan.accountant.upper()})."
    )


def _summary(run, card):
    privacy = card["privacy"]
    if privacy["private"]:
        yield (
            f"Done. Spent epsilon {privacy['epsilon']:.4g} at delta {privacy['delta']:g} "
            f"({privacy['accountant'].upper()}; RDP {privacy['epsilon_rdp']:.4g}, PLD "
            f"{privacy['epsilon_pld']:.4g}) in {privacy['steps']} noisy steps."
        )
    else:
        yield "Done. NOT PRIVATE: epsilon is infinity; do not ship this generator."
    yield f"SavedModel  {run.export / 'saved_model' / '1'}"
    yield f"ONNX        {run.export / 'generator.onnx'}"
    yield f"Model card  {run.export / 'model_card.json'}"
    yield f"Samples     {run.export / 'samples.png'}"


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
        model.learner.restored()
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


def _fit(model, dataset, plan, run, manager, open_ledger, config):
    """Takes the steps that are left of the plan."""
    taken = int(model.noisy_steps.numpy()) if open_ledger is None else open_ledger.total_steps
    left = plan.steps - taken
    if left <= 0:
        return
    # A step of an eager learner is a good part of the run: none may be lost, nor be taken unseen.
    eager = model.learner.eager
    checkpoints = callbacks.Checkpoints(manager, 0 if eager else config.checkpoint_secs)
    stride = 1 if eager else _STEPS_PER_EXECUTION
    around = [
        checkpoints,  # before the callbacks that may fail on a full disk
        callbacks.Progress(plan),
        callbacks.Scalars(plan, run.logs),
        callbacks.SampleGrids(run.samples, run.logs, config.sample_secs, dataset.spec.num_classes),
    ]
    if open_ledger is not None:
        around.insert(0, callbacks.LedgerWriter(open_ledger, plan, stride))
    model.steps_per_execution = stride
    try:
        model.fit(
            batches.poisson_batches(
                dataset,
                plan.sampling_probability,
                left,
                truncated=model.mechanism.bounds_any_batches,
            ),
            steps_per_epoch=left,
            verbose=0,
            shuffle=False,
            callbacks=around,
        )
    except KeyboardInterrupt:
        if checkpoints.model is not None:  # None: interrupted before fit had begun
            checkpoints.save()
        raise
