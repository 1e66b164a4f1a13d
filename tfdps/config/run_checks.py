"""What a RunConfig may hold: ranges of its values, and what goes with what."""

import dataclasses
import re

from tfdps import checks
from tfdps.config import data_settings

PERSONS = ("folder", "column", "dicom", "passed")
MOST_IMAGES = 100  # of a person

_SMALLEST = {
    "latent_dim": 1,
    "num_atoms": 1,
    "batch_size": 1,
    "num_steps": 1,
    "dataset_size": 2,
    "image_size": 4,
    "refiner_levels": 1,
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
OF_PRIVATE_STEPS = (
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
    _check_texts(config)
    most = data_settings.MOST_OF_16_BITS
    if config.max_value is not None and not 1 <= config.max_value <= most:
        raise checks.UsageError(f"max_value must be from 1 to {most}, received {config.max_value}.")
    data_settings.window(config.dicom_window)
    if config.held_out is not None:
        checks.fraction("held_out", config.held_out)
    if config.labels_csv == "":
        raise checks.UsageError("labels_csv needs a path, as in --labels_csv=labels.csv.")
    for name in _POSITIVE:
        if getattr(config, name) is not None:
            checks.positive(name, getattr(config, name))
    for name in _NOT_NEGATIVE:
        checks.not_negative(name, getattr(config, name) or 0.0)
    checks.fraction("warp", config.warp or 0.0, zero=True, one=True)
    for name, smallest in _SMALLEST.items():
        if getattr(config, name) is not None:
            checks.at_least(name, getattr(config, name), smallest)
    _check_multiple("generator_width", config.generator_width, of=4)
    _check_mechanism(config, entry)
    _check_refiner(config)
    _check_person(config)
    if config.tpu is not None and config.strategy != "tpu":
        raise checks.UsageError(f"--tpu={config.tpu} needs --strategy=tpu.")
    checks.fraction("delta", config.delta)
    checks.fraction("debias_ratio", config.debias_ratio, zero=True, one=True)
    checks.fraction("fresh_clip", config.fresh_clip, one=True)
    checks.fraction("ema_decay", config.ema_decay, zero=True)


def _check_texts(config):
    """Raises UsageError for a text that run.flags, which is UTF-8, could not hold."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        try:
            isinstance(value, str) and value.encode()
        except UnicodeEncodeError as error:
            raise checks.UsageError(
                f"{field.name} must be text in UTF-8, received {value!r}."
            ) from error


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
    _check_multiple("refiner_width", config.refiner_width, of=8)
    if not config.refined:
        _check_unused(config, ("refiner_",), "without a refiner: give --refiner")
    elif not config.refiner_steps:
        _check_unused(config, OF_PRIVATE_STEPS, "without private steps: give --refiner_steps")


def _check_multiple(name, value, *, of):
    if value is not None and (value < of or value % of):
        raise checks.UsageError(f"{name} must be a multiple of {of}, received {value}.")


def _check_person(config):
    if config.images_per_person is not None and not 1 <= config.images_per_person <= MOST_IMAGES:
        raise checks.UsageError(
            f"images_per_person must be from 1 to {MOST_IMAGES}, received {config.images_per_person}."
        )
    if config.person is None:
        return
    if config.strategy not in ("one", "mirrored"):
        raise checks.UsageError(
            f"person needs --strategy=one or mirrored, received {config.strategy}: several machines "
            "cannot share out persons yet."
        )
    if config.person not in PERSONS:
        person_pattern(config.person)


def person_pattern(text):
    """Returns the compiled pattern of a --person that is a regular expression.

    Raises:
      UsageError: it is none, or has not exactly one group.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        pattern, why = None, f"it is no regular expression: {error}"
    else:
        why = f"it has {pattern.groups} groups"
    if pattern is None or pattern.groups != 1:
        raise checks.UsageError(
            f"person must be {', '.join(PERSONS)} or a regular expression with one group, as in "
            f"--person='(.+)_[0-9]+', received {text!r}: {why}."
        )
    return pattern


def _check_unused(config, prefixes, why):
    """Raises UsageError for a setting, by how its name begins, that is not its default."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.startswith(prefixes) and value != field.default:
            raise checks.UsageError(
                f"{field.name}={value} means nothing {why}, or leave --{field.name} out."
            )
