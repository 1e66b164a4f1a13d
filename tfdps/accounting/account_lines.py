"""What --mode=account prints of a plan."""

import math

from tfdps import checks
from tfdps.accounting import accountants, class_signal, persons, records_an_atom, shown


def account(config, plan, *, num_classes=None):
    """Yields the lines that tell what a plan costs by each accountant, and what it could take.

    Args:
      config: the RunConfig.
      plan: its PrivacyPlan.
      num_classes: L, where it is known.
    """
    yield from _costs(config, plan)
    classes = checks.names("class_names", config.class_names)
    num_classes = num_classes or (classes and len(classes))
    note = records_an_atom.word(config.num_atoms, plan.dataset_size, num_classes)
    if note:
        yield note
    little = class_signal.word(plan, num_classes) if num_classes else ""
    if little:
        yield little


def _costs(config, plan):
    if not plan.private:
        yield f"NOT PRIVATE: no noise is added, epsilon is infinity. {plan.steps} steps."
        return
    units = "records" if plan.images_per_person is None else "persons"
    yield f"{units} N                 {plan.dataset_size}"
    if plan.images_per_person is not None:
        yield f"images of a person        at most {plan.images_per_person}"
    yield f"batch size B              {plan.batch_size}"
    yield f"sampling probability      {plan.sampling_probability:.6g}"
    yield f"noise multiplier          {plan.noise_multiplier:.6g}"
    yield f"steps                     {plan.steps}"
    yield f"delta                     {plan.delta:g}"
    for name in accountants.ACCOUNTANTS:
        spent = shown.up(plan.epsilon(plan.steps, name), decimals=6)
        yield f"epsilon by {name.upper()}            {spent}"
    if config.images_per_person is not None and config.person is None:
        yield f"epsilon of a person       {_of_person(plan, config)}"
    if plan.shares is not None:
        for number, (share, sigma) in enumerate(
            zip(plan.shares, plan.noise_multipliers, strict=False), start=1
        ):
            yield f"round {number:<4} share {share:<8.4g} noise multiplier {sigma:.6g}"
        for stage in plan.stages[1:]:
            of_each = (
                f"noise multiplier {plan.refiner_noise_multiplier:.6g}, sampling probability "
                f"{stage.sampling_probability:.6g}"
            )
            yield f"refiner    {stage.steps} steps, {of_each}"
        return
    if config.target_epsilon is None:
        return
    for name in accountants.ACCOUNTANTS:
        most = accountants.steps(
            target_epsilon=config.target_epsilon,
            noise_multiplier=plan.noise_multiplier,
            sampling_probability=plan.sampling_probability,
            delta=plan.delta,
            accountant=name,
        )
        yield f"most steps by {name.upper()}         {most} at epsilon {config.target_epsilon:g}"


def _of_person(plan, config):
    images = config.images_per_person
    spent = persons.epsilon(plan, images, one_replica=config.strategy == "one")
    if spent == math.inf:
        return f"of at most {images} images: too large to be claimed"
    if spent is None:
        return (
            f"of at most {images} images: where images are drawn by chance it takes a newer "
            "dp-accounting, which Python 3.12 and 3.13 have"
        )
    return f"{shown.up(spent, decimals=6)} with at most {images} images, by PLD"
