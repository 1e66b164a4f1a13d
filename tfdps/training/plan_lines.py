"""What is said of a run before its first step: its plan, and what is taken as public."""

from tfdps import checks
from tfdps.accounting import class_signal, records_an_atom, shown
from tfdps.config import automatic
from tfdps.training import needs


def of_run(config, plan, dataset, on, choices=()):
    """Yields the plan, what is public of the data, what was read, a word where they do not fit.

    Args:
      config: the RunConfig, with nothing left open.
      plan: its PrivacyPlan.
      dataset: the Dataset.
      on: the Replicas.
      choices: the Choices of `automatic.settled`.
    """
    yield of_plan(plan, on)
    yield of_data(dataset)
    yield from dataset.notes
    if choices:
        yield automatic.line(choices)
    images = dataset.size * plan.images_per_unit
    few = records_an_atom.word(config.num_atoms, images, dataset.spec.num_classes)
    if few:
        yield few
    little = class_signal.word(plan, dataset.spec.num_classes)
    if little:
        yield little
    needed = needs.of_run(config, dataset.spec, images)
    if needed:
        yield of_needs(needed)


def of_plan(plan, on):
    """Returns the plan as one line."""
    spread = f" On {on.count} replicas." if on.count > 1 else ""
    if not plan.private:
        return f"NOT PRIVATE: no noise is added, epsilon is infinity. {plan.steps} steps.{spread}"
    units = "records"
    if plan.images_per_person is not None:
        units = f"persons with at most {plan.images_per_person} images each"
    refining = ""
    for stage in plan.stages[1:]:
        refining = (
            f"; then {stage.steps} of the refiner, noise multiplier "
            f"{plan.refiner_noise_multiplier:.4g}, sampling probability "
            f"{stage.sampling_probability:.4g}"
        )
    return (
        f"Plan: {plan.stages[0].steps} steps, noise multiplier {plan.noise_multiplier:.4g}, "
        f"sampling probability {plan.sampling_probability:.4g} of {plan.dataset_size} {units}"
        f"{refining}: epsilon {shown.up(plan.epsilon(plan.steps))} at delta {plan.delta:g} "
        f"({plan.accountant.upper()}).{spread}"
    )


def of_data(dataset):
    """Returns what is declared of the data, and taken as public, as one line."""
    spec = dataset.spec
    height, width, channels = spec.image_shape
    what = f"{dataset.size} images"
    if dataset.units is not None:
        what = f"{dataset.size} persons with at most {dataset.units.shape[1]} images each"
    return (
        f"Public: {what}, {height}x{width} {'grey' if channels == 1 else 'colour'}, "
        f"{checks.counted_classes(spec.class_names)}."
    )


def of_needs(needed):
    """Returns what a run needs of the machine, its Needs, as one line."""
    minutes = needed.seconds / 60
    long = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{max(1, round(minutes))} min"
    return (
        f"Needs: about {needed.memory / 1e9:.1f} GB of memory, and {long} on this machine's cores."
    )
