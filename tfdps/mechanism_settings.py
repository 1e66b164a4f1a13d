"""Which settings each mechanism takes, and their defaults."""

_GRADIENT = {
    "accountant": "rdp",
    "batch_size": 50,
    "clip_norm": 0.5,
    "regularization": 5.0,
    "generator": "mlp",
    "latent_dim": 16,
}
DEFAULTS = {
    "joint": _GRADIENT,
    "none": _GRADIENT,
    "per_record": {
        "accountant": "pld",
        "clip_norm": 1.0,
        "regularization": 1.0,
        "generator": "mixture",
        "latent_dim": 51,
        "num_atoms": 4,
        "grain": 1.0,
        "warp": 0.0,
        "mirror": False,
    },
}
# What has no meaning where no gradient trains the generator.
_GRADIENTS_ONLY = (
    "loss",
    "debias_ratio",
    "cost",
    "cost_l1_weight",
    "schedule",
    "schedule_exponent",
    "label_scale",
    "learning_rate",
    "weight_decay",
    "ema_decay",
    "precision",
)

# What has no meaning where a gradient does.
_MIXTURE_ONLY = ("num_atoms", "grain", "warp", "mirror")


def without_use(mechanism):
    """Returns the names of the settings that mean nothing with a mechanism."""
    return _GRADIENTS_ONLY if mechanism == "per_record" else _MIXTURE_ONLY
