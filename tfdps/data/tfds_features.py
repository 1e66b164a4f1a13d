"""Which features of a tensorflow_datasets set are the image and the class."""

import numpy as np

from tfdps import checks
from tfdps.data import names, tfds_builder


def image_path(builder):
    """Returns the name of the one uint8 image feature with 1 or 3 channels."""
    tfds, features = tfds_builder.import_tfds(), builder.info.features
    images = [n for n, f in features.items() if type(f) is tfds.features.Image]
    supervised = (builder.info.supervised_keys or (None,))[0]
    if supervised in images:
        images = [supervised]
    elif "image" in images:
        images = ["image"]
    if len(images) != 1:
        raise checks.UsageError(
            f"{builder.name} must have one image feature; its features are: {', '.join(features)}."
        )
    feature = features[images[0]]
    if feature.np_dtype != np.uint8 or feature.shape[-1] not in (1, 3):
        raise checks.UsageError(
            f"images of {builder.name} must be uint8 with 1 or 3 channels, received "
            f"{np.dtype(feature.np_dtype).name} of shape {feature.shape}."
        )
    return images[0]


def label(builder, name):
    """Returns (the feature's path, its class names) of a name, or of the only one there is.

    For `names.WITHOUT_LABEL` it is (None, the set's own name as that of its one class).
    """
    if name == names.WITHOUT_LABEL:
        return None, (builder.name,)
    tfds = tfds_builder.import_tfds()
    candidates = dict(_label_features(builder.info.features))
    if name is None:
        path = _default_label(builder, candidates)
    else:
        matches = [path for path in candidates if name in (path, path.split("/")[-1])]
        if name not in matches and len(matches) != 1:
            raise checks.UsageError(
                f"label must be one of {', '.join(candidates) or 'none'} for {builder.name}, "
                f"received {name!r}."
            )
        path = name if name in matches else matches[0]
    feature, short = candidates[path], path.split("/")[-1]
    if isinstance(feature, tfds.features.ClassLabel):
        return path, tuple(feature.names or ())
    return path, (f"not {short}", short)


def _default_label(builder, candidates):
    tfds = tfds_builder.import_tfds()
    supervised = (builder.info.supervised_keys or (None, None))[1]
    classes = [p for p, f in candidates.items() if isinstance(f, tfds.features.ClassLabel)]
    if isinstance(supervised, str) and supervised in candidates:
        return supervised
    for only in (classes, list(candidates)):
        if len(only) == 1:
            return only[0]
    if not candidates:
        raise checks.UsageError(
            f"{builder.name} has no ClassLabel or bool feature to condition on."
        )
    raise checks.UsageError(
        f"{builder.name} has several labels; choose one with --label=...: {', '.join(candidates)}."
    )


def _label_features(features, prefix=""):
    """Yields (path, feature) of all ClassLabel and scalar bool features, "a/b" for nested ones."""
    tfds = tfds_builder.import_tfds()
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _label_features(feature, f"{prefix}{name}/")
        elif isinstance(feature, tfds.features.ClassLabel) or (
            isinstance(feature, tfds.features.Tensor)
            and feature.shape == ()
            and feature.np_dtype == np.bool_
        ):
            yield prefix + name, feature
