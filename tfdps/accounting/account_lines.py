"""What --mode=account prints of a plan."""

from tfdps import checks
from tfdps.accounting import accountants, records_an_atom, shown


def account(config, plan):
    """Yields the lines that tell what a plan costs by each accountant, and what it could take."""
    yield from _costs(config, plan)
    classes = checks.names("class_names", config.class_names)
    note = records_an_atom.word(config.num_atoms, plan.dataset_size, classes and len(classes))
    if note:
        yield note


def _costs(config, plan):
    if not plan.private:
        yield f"NOT PRIVATE: no noise is added, epsilon is infinity. {plan.steps} steps."
        return
    yield f"records N                 {plan.dataset_size}"
    yield f"batch size B              {plan.batch_size}"
    yield f"sampling probability      {plan.sampling_probability:.6g}"
    yield f"noise multiplier          {plan.noise_multiplier:.6g}"
    yield f"steps                     {plan.steps}"
    yield f"delta                     {plan.delta:g}"
    for name in accountants.ACCOUNTANTS:
        spent = shown.up(plan.epsilon(plan.steps, name), decimals=6)
        yield f"epsilon by {name.upper()}            {spent}"
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
