"""Reads a labelled image set of tensorflow_datasets into arrays. TensorFlow loads on first use."""

import numpy as np

from tfdps import checks, tfds_builder

BATCH = 256  # records a read: small beside the array they go into


def read(name, *, data_dir=None, label=None, image_size=None, split="train"):
    """Returns (images, labels, class_names) of one split, downloading the set where necessary.

    Args:
      name: a tfds name, with "/config" and ":version" as tfds has it.
      data_dir: where tfds keeps its data; default: tfds's own.
      label: the name of the class feature; see `data.load`.
      image_size: side in pixels to resize to; default: as they are.
      split: a split of the set.

    Returns:
      images: uint8 [N, H, W, C], C in {1, 3}.
      labels: int32 [N], as stored: -1 where tfds has no label.
      class_names: tuple of str.

    Raises:
      UsageError: no such set, split or label; cannot be downloaded; not images of those kinds.
    """
    with tfds_builder.quiet():
        builder = tfds_builder.find(name, data_dir)
        if not builder.is_prepared():
            tfds_builder.prepare(builder, name)
        checks.one_of("split", split, tuple(builder.info.splits))
        image_path = _image_path(builder)
        label_path, class_names = _label(builder, label)
        if builder.info.splits[split].num_examples == 0:
            raise checks.UsageError(f"split {split} of {name} is empty.")
        images, labels = _read(builder, split, image_path, label_path, image_size)
    return images, labels, class_names


def count(name, *, data_dir=None, split="train"):
    """Returns the number of records the prepared set states; raises UsageError if unprepared."""
    with tfds_builder.quiet():
        builder = tfds_builder.find(name, data_dir)
        if not builder.is_prepared():
            raise checks.UsageError(
                f"{name} is not prepared in {tfds_builder.root_of(builder)}, so its size is unknown; "
                "--data_dir=... says where it is, --dataset_size=N gives the public number by hand."
            )
        checks.one_of("split", split, tuple(builder.info.splits))
        return builder.info.splits[split].num_examples


def _image_path(builder):
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


def _label(builder, label):
    """Returns (the feature's path, its class names) of `label`, or of the only one there is."""
    tfds = tfds_builder.import_tfds()
    candidates = dict(_label_features(builder.info.features))
    if label is None:
        path = _default_label(builder, candidates)
    else:
        matches = [path for path in candidates if label in (path, path.split("/")[-1])]
        if label not in matches and len(matches) != 1:
            raise checks.UsageError(
                f"label must be one of {', '.join(candidates) or 'none'} for {builder.name}, "
                f"received {label!r}."
            )
        path = label if label in matches else matches[0]
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


def _read(builder, split, image_path, label_path, image_size):
    """Returns (images, labels) of a split, read a batch at a time into arrays of its size."""
    import tensorflow as tf

    tfds, keys = tfds_builder.import_tfds(), label_path.split("/")

    def fields(record):
        image, label = record[image_path], record
        for key in keys:
            label = label[key]
        if image_size is not None:
            image = tf.image.resize(image, (image_size, image_size), antialias=True)
            image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
        return image, tf.cast(label, tf.int32)

    wanted = True
    for key in reversed(keys):
        wanted = {key: wanted}
    records = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding({image_path: True, **wanted}),
        read_config=tfds.ReadConfig(try_autocache=False),  # it would hold the images twice
    ).map(fields, num_parallel_calls=tf.data.AUTOTUNE)
    return _fill(_batches(records, builder), builder.info.splits[split].num_examples, builder)


def _batches(records, builder):
    """Yields NumPy (images, labels) batches; raises UsageError for what tfds cannot read."""
    import tensorflow as tf

    mixed = not records.element_spec[0].shape.is_fully_defined()
    try:
        yield from records.batch(BATCH).prefetch(2).as_numpy_iterator()
    except tf.errors.OpError as error:
        if mixed and "shapes" in str(error).lower():  # "Cannot batch tensors of different shapes"
            raise _mixed_shapes(builder) from error
        raise _damaged(builder, type(error).__name__) from error


def _fill(batches, num_records, builder):
    """Returns all batches as one array of images and one of labels, without a second copy."""
    images, labels, done = None, np.empty(num_records, np.int32), 0
    for batch, batch_labels in batches:
        if images is None:
            images = np.empty((num_records, *batch.shape[1:]), np.uint8)
        if batch.shape[1:] != images.shape[1:]:
            raise _mixed_shapes(builder)
        end = done + len(batch)
        images[done:end], labels[done:end] = batch, batch_labels
        done = end
    if done != num_records:
        raise _damaged(builder, f"not the {num_records} records it states")
    return images, labels


def _damaged(builder, how):
    return checks.UsageError(f"{builder.data_path} is damaged ({how}); prepare it again.")


def _mixed_shapes(builder):
    return checks.UsageError(
        f"images of {builder.name} are not all of one shape; "
        "--image_size=... resizes them to a square of that side."
    )
