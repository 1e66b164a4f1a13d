"""What is said of a run before its first step: its plan, and what is taken as public."""

from tfdps import checks
from tfdps.accounting import records_an_atom, shown


def of_run(config, plan, dataset, on):
    """Yields the lines: the plan, what is public of the data, and a word where they do not fit."""
    yield of_plan(plan, on)
    yield of_data(dataset)
    few = records_an_atom.word(config.num_atoms, dataset.size, dataset.spec.num_classes)
    if few:
        yield few


def of_plan(plan, on):
    """Returns the plan as one line."""
    spread = f" On {on.count} replicas." if on.count > 1 else ""
    if not plan.private:
        return f"NOT PRIVATE: no noise is added, epsilon is infinity. {plan.steps} steps.{spread}"
    refining = ""
    for stage in plan.stages[1:]:
        refining = (
            f"; then {stage.steps} of the refiner, noise multiplier "
            f"{plan.refiner_noise_multiplier:.4g}, sampling probability "
            f"{stage.sampling_probability:.4g}"
        )
    return (
        f"Plan: {plan.stages[0].steps} steps, noise multiplier {plan.noise_multiplier:.4g}, "
        f"sampling probability {plan.sampling_probability:.4g} of {plan.dataset_size} records"
        f"{refining}: epsilon {shown.up(plan.epsilon(plan.steps))} at delta {plan.delta:g} "
        f"({plan.accountant.upper()}).{spread}"
    )


def of_data(dataset):
    """Returns what is declared of the data, and taken as public, as one line."""
    spec = dataset.spec
    return (
        f"Public: {dataset.size} records of {'x'.join(map(str, spec.image_shape))}, "
        f"{spec.num_classes} classes: {checks.listed(spec.class_names)}."
    )
