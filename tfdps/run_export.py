"""Exports a run: its averaged generator with what the ledger says it cost."""

import dataclasses

import tensorflow as tf

from tfdps import checks, export, files, generators, models
from tfdps.plan import privacy_statement


def export_run(run, model, plan, spec, config, say):
    """Exports the averaged generator with what the ledger says it cost; returns the model card."""
    # Of float32 and of no strategy, whatever the run computed in and on.
    generator = models.build_generator(config, spec)
    generator.set_weights(model.averaged_generator.get_weights())
    generators.recalibrate(generator, num_classes=spec.num_classes)
    training = {
        "generator_updates": model.learner.updates,
        "target_epsilon": plan.target_epsilon,
        "flags": public_flags(config, spec),
    }
    try:
        card = export.write_export(
            run.export,
            generator=generator,
            generator_name=config.generator,
            spec=spec,
            privacy=privacy_statement(plan, run.charges(plan), model.mechanism),
            training=training,
        )
    except (OSError, tf.errors.OpError) as error:
        raise checks.UsageError(
            f"cannot write the export {run.export}: {files.reason(error)}. The run is finished and its "
            "checkpoint kept, so nothing is lost: free some space and start again to export."
        ) from error
    for line in _summary(run, card):
        say(line)
    return card


def public_flags(config, spec):
    """Returns the run's flags as lines, without this machine's paths: as the model card has them."""
    public = dataclasses.replace(config, dataset=spec.name, data_dir=None, model_dir=None, tpu=None)
    return public.to_flags().splitlines()


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
