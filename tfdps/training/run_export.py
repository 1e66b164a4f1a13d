"""Exports a run: its averaged generator with what the ledger says it cost."""

import dataclasses
import logging
import os

import tensorflow as tf

from tfdps import checks, files
from tfdps.accounting import shown
from tfdps.accounting.statement import privacy_statement
from tfdps.artefacts import export, layout
from tfdps.generators import networks

_logger = logging.getLogger(__name__)


def export_run(run, model, plan, spec, config):
    """Exports the averaged generator with what the ledger says it cost; returns the ModelCard.

    Raises:
      UsageError: the ledger lacks steps that the generator has taken, or the export cannot be written.
    """
    charges = run.charges(plan)
    if plan.private:
        refuse_uncovered(model, sum(charge.steps for charge in charges))
    # Of float32 and of no strategy, whatever the run computed in and on.
    generator = networks.of_run(config, spec)
    generator.set_weights(model.averaged_generator.get_weights())
    networks.recalibrate(generator, num_classes=spec.num_classes)
    lost, of_refiner = lost_rounds(model, plan, charges), lost_refiner_steps(model, plan)
    training = {
        "generator_updates": model.learner.updates,
        **({"rounds_lost": [entry.title for entry in lost]} if plan.shares else {}),
        **({"refiner_steps_lost": of_refiner} if plan.refiner_steps else {}),
        "target_epsilon": plan.target_epsilon,
        "flags": public_flags(config, spec),
    }
    try:
        card = export.write_export(
            run.export,
            generator=generator,
            generator_name=config.generator,
            spec=spec,
            privacy=privacy_statement(plan, charges, model.mechanism, spec),
            training=training,
        )
    except (OSError, tf.errors.OpError) as error:
        raise checks.UsageError(
            f"cannot write the export {run.export}: {files.reason(error)}. The run is finished and its "
            "checkpoint kept, so nothing is lost: free some space and start again to export."
        ) from error
    clauses = [lost_line(lost, plan, "was never asked")]
    if of_refiner:
        were = "was" if of_refiner == 1 else "were"
        clauses.append(f"{of_refiner} of the refiner's {plan.refiner_steps} steps {were} lost")
    for line in _summary(run, card, ", and ".join(filter(None, clauses))):
        _logger.info(line)
    return card


def refuse_uncovered(model, covered):
    """Raises UsageError where the model has taken more steps than the `covered` ones of the ledger.

    Guarantee: a card that is written after it charges at least the steps that the generator has seen.
    """
    taken = int(model.noisy_steps.numpy())
    if taken > covered:
        raise checks.UsageError(
            f"the ledger covers {covered} steps, but the checkpoint has taken {taken}: "
            "entries are missing from it. Restore it from a backup, or use a new --model_dir."
        )


def lost_rounds(model, plan, charges):
    """Returns the rounds that were paid for and have no answer, a list of RoundShare.

    Those that will never have one: what can still be asked is. Of the joint mechanism, whose steps
    are all alike, none.
    """
    if plan.shares is None:
        return []
    return model.learner.never_asked(sum(charge.steps for charge in charges))


def lost_refiner_steps(model, plan):
    """Returns how many steps of the refiner were paid for, and taught the denoiser nothing."""
    if not plan.refiner_steps:
        return 0
    steps = model.learner.steps
    return max(0, int(model.noisy_steps.numpy()) - steps.first) - steps.taken


def lost_line(lost, plan, fate):
    """Returns what `lost_rounds` found as a clause, "1 of 6 rounds was lost: ..."; "" for nothing.

    Args:
      lost: the list of RoundShare.
      plan: the PrivacyPlan.
      fate: what to say of each of them: "was never asked" at the end of a run.
    """
    if not lost:
        return ""
    named = " and ".join(f"the round {entry.title} {fate}" for entry in lost)
    were = "was" if len(lost) == 1 else "were"
    return f"{len(lost)} of {len(plan.shares)} rounds {were} lost: {named}"


def public_flags(config, spec):
    """Returns the run's flags as lines, without this machine's paths: as the model card has them."""
    csv = config.labels_csv and os.path.basename(config.labels_csv)
    paths = {"labels_csv": csv, "data_dir": None, "model_dir": None, "tpu": None}
    public = dataclasses.replace(config, dataset=spec.name, **paths)
    return public.to_flags().splitlines()


def _summary(run, card, lost):
    if card.private:
        spent = ", ".join(
            f"{name.upper()} {shown.up(epsilon)}" for name, epsilon in card.epsilons.items()
        )
        yield (
            f"Done{lost and f', but {lost}'}. Spent epsilon {shown.up(card.epsilon)} at delta "
            f"{card.delta:g} ({card.accountant.upper()}; {spent}) in {card.steps} noisy steps."
        )
    else:
        yield "Done. NOT PRIVATE: epsilon is infinity; do not ship this generator."
    yield f"SavedModel  {run.export / layout.SAVED_MODEL}"
    yield f"ONNX        {run.export / layout.ONNX}"
    yield f"Model card  {run.export / layout.CARD}"
    yield f"Samples     {run.export / 'samples.png'}{_pictured(card.class_names)}"


def _pictured(class_names):
    """Which classes samples.png has a row of, where it has not all of them."""
    shown = export.GRID_CLASSES
    if len(class_names) <= shown:
        return ""
    return (
        f"  (the first {shown} of {len(class_names)} classes, {class_names[0]} to "
        f"{class_names[shown - 1]}; --mode=sample draws any)"
    )
