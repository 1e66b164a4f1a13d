"""The mechanisms that a run may have: one entry each, and no other list of them.

A new mechanism is an entry here, the modules that it names, and no comparison of names elsewhere.
"""

import dataclasses
import importlib
import typing

_GRADIENT_DEFAULTS = {
    "accountant": "rdp",
    "batch_size": 50,
    "clip_norm": 0.5,
    "regularization": 5.0,
    "generator": "mlp",
    "latent_dim": 16,
}
# What has no meaning where no gradient trains the generator.
_GRADIENTS_ONLY = (
    "loss",
    "debias_ratio",
    "fresh_clip",
    "cost",
    "cost_l1_weight",
    "schedule",
    "schedule_exponent",
    "label_scale",
    "generator_width",
    "learning_rate",
    "learning_rate_schedule",
    "weight_decay",
    "ema_decay",
    "precision",
)
# What has no meaning where a gradient does.
_MIXTURE_ONLY = (
    "num_atoms",
    "grain",
    "warp",
    "mirror",
    "refiner",
    "refiner_start",
    "refiner_levels",
    "refiner_width",
    "refiner_pretraining",
    "refiner_steps",
    "refiner_batch_size",
    "refiner_noise_multiplier",
    "refiner_views",
    "refiner_learning_rate",
)


@dataclasses.dataclass(frozen=True)
class MechanismEntry:
    """What the rest of the package has to know of a mechanism. All of it is public.

    Attributes:
      name: as --mechanism takes it.
      private: whether there is a guarantee at all.
      defaults: {setting: its default with this mechanism}.
      chosen_where_open: names of the settings that `automatic` chooses where they are not given.
      without_use: names of the settings that mean nothing with it.
      generators: the architectures that it can train.
      steps_are_rounds: whether each step is a round of `round_shares` with its own share of the budget.
      clip_norm_is_relative: whether clip_norm is over the contribution that a step expects.
      replicas_share_batch: whether B images are split over the replicas.
      any_batches: whether any two batches, neighbours or not, are within the sensitivity.
      sensitivity_meaning: of the card's `sensitivity`, in words.
      learner: "module:class" of what trains the generator; its `of_run` makes that of a run.
      audit: the module of `auditing` that knows its worst case, and how to watch it; None: no
        such attack is known.
    """

    name: str
    private: bool
    defaults: dict
    chosen_where_open: tuple
    without_use: tuple
    generators: tuple
    steps_are_rounds: bool
    clip_norm_is_relative: bool
    replicas_share_batch: bool
    any_batches: bool
    sensitivity_meaning: str
    learner: str
    audit: typing.Optional[str]


_OF_GRADIENTS: dict[str, typing.Any] = {
    "defaults": _GRADIENT_DEFAULTS,
    "chosen_where_open": (),
    "generators": ("mlp", "dcgan", "biggan"),
    "steps_are_rounds": False,
    "clip_norm_is_relative": False,
    "replicas_share_batch": True,
    "any_batches": True,
    "learner": "tfdps.learners.joint:ImageGradientLearner",
}
_ENTRIES = (
    MechanismEntry(
        name="joint",
        private=True,
        sensitivity_meaning=(
            "The most that one record moves what a step adds its noise to, in L2 norm: two gradients "
            "clipped to clip_norm are at most twice clip_norm apart."
        ),
        audit="tfdps.auditing.joint",
        without_use=_MIXTURE_ONLY,
        **_OF_GRADIENTS,
    ),
    MechanismEntry(
        name="per_record",
        private=True,
        defaults={
            "accountant": "pld",
            "clip_norm": 1.0,
            "regularization": 1.0,
            "generator": "mixture",
            "warp": 0.0,
            "mirror": False,
        },
        chosen_where_open=("num_atoms", "latent_dim", "grain", "refiner"),
        without_use=_GRADIENTS_ONLY,
        generators=("mixture",),
        steps_are_rounds=True,
        clip_norm_is_relative=True,
        replicas_share_batch=False,
        any_batches=False,
        sensitivity_meaning=(
            "The most that one record moves the sums of a round, in L2 norm, over the root mean square "
            "of a contribution as that round expects it from public values: the round clips records to "
            "C = clip_norm times that, and its noise has standard deviation noise_multiplier times C."
        ),
        learner="tfdps.learners.refiner.learner:RefinedLearner",
        audit="tfdps.auditing.per_record",
    ),
    MechanismEntry(
        name="none",
        private=False,
        sensitivity_meaning="Nothing limits what one record changes.",
        audit=None,
        without_use=(*_MIXTURE_ONLY, "fresh_clip"),  # nothing is clipped
        **_OF_GRADIENTS,
    ),
)
_OF_NAME = {entry.name: entry for entry in _ENTRIES}
NAMES = tuple(_OF_NAME)


def entry(name):
    """Returns the MechanismEntry of a name in `NAMES`."""
    return _OF_NAME[name]


def load(path):
    """Returns what an entry names by "module" or "module:class"; imports the module."""
    module, _, name = path.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, name) if name else loaded
