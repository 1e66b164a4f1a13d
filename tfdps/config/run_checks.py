"""What a RunConfig may hold: ranges of its values, and what goes with what."""

import dataclasses

from tfdps import checks

_SMALLEST = {
    "latent_dim": 1,
    "num_atoms": 1,
    "batch_size": 1,
    "num_steps": 1,
    "dataset_size": 2,
    "image_size": 4,
    "refiner_levels": 1,
    "refiner_width": 8,
    "refiner_pretraining": 0,
    "refiner_steps": 0,
    "refiner_batch_size": 1,
    "refiner_views": 1,
}
_POSITIVE = (
    "clip_norm",
    "regularization",
    "schedule_exponent",
    "learning_rate",
    "target_epsilon",
    "noise_multiplier",
    "checkpoint_secs",
    "sample_secs",
    "records_mib",
    "refiner_noise_multiplier",
    "refiner_learning_rate",
)
_OF_PRIVATE_STEPS = (
    "refiner_batch_size",
    "refiner_noise_multiplier",
    "refiner_views",
    "refiner_learning_rate",
)
_NOT_NEGATIVE = ("cost_l1_weight", "label_scale", "weight_decay", "grain")


def check(config, entry):
    """Raises UsageError unless all values of a RunConfig are what its help texts allow.

    Args:
      config: the RunConfig, its types checked.
      entry: the MechanismEntry of its mechanism.
    """
    for field in dataclasses.fields(config):
        value, choices = getattr(config, field.name), field.metadata["choices"]
        if choices is not None and value is not None:
            checks.one_of(field.name, value, choices)
    checks.names("class_names", config.class_names)
    for name in _POSITIVE:
        if getattr(config, name) is not None:
            checks.positive(name, getattr(config, name))
    for name in _NOT_NEGATIVE:
        checks.not_negative(name, getattr(config, name) or 0.0)
    checks.fraction("warp", config.warp or 0.0, zero=True, one=True)
    for name, smallest in _SMALLEST.items():
        if getattr(config, name) is not None:
            checks.at_least(name, getattr(config, name), smallest)
    _check_mechanism(config, entry)
    _check_refiner(config)
    if config.tpu is not None and config.strategy != "tpu":
        raise checks.UsageError(f"--tpu={config.tpu} needs --strategy=tpu.")
    checks.fraction("delta", config.delta)
    checks.fraction("debias_ratio", config.debias_ratio, zero=True, one=True)
    checks.fraction("ema_decay", config.ema_decay, zero=True)


def _check_mechanism(config, entry):
    if config.generator not in entry.generators:
        raise checks.UsageError(
            f"mechanism={config.mechanism} cannot train generator={config.generator}, but "
            f"{', '.join(entry.generators)}: leave --generator out."
        )
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in entry.without_use and value != field.default:
            raise checks.UsageError(
                f"{field.name}={value} means nothing with mechanism={config.mechanism}: leave "
                f"--{field.name} out, or take another --mechanism."
            )


def _check_refiner(config):
    if config.refiner_start is not None and not 0.03 <= config.refiner_start <= 1:
        raise checks.UsageError(
            f"refiner_start must be from 0.03 to 1, received {config.refiner_start}."
        )
    if config.refiner_width % 8:
        raise checks.UsageError(
            f"refiner_width must be a multiple of 8, received {config.refiner_width}."
        )
    if not config.refined:
        _check_unused(config, ("refiner_",), "without a refiner: give --refiner")
    elif not config.refiner_steps:
        _check_unused(config, _OF_PRIVATE_STEPS, "without private steps: give --refiner_steps")


def _check_unused(config, prefixes, why):
    """Raises UsageError for a setting, by how its name begins, that is not its default."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.startswith(prefixes) and value != field.default:
            raise checks.UsageError(
                f"{field.name}={value} means nothing {why}, or leave --{field.name} out."
            )
