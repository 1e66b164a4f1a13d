"""A labelled image set of tensorflow_datasets as arrays. TensorFlow loads on first use."""

import hashlib

import numpy as np

from tfdps import checks
from tfdps.data import partition, tfds_builder, tfds_features

BATCH = 256  # records a read: small beside the array they go into
_LABELS_A_READ = 4096


class Records:
    """A split of a tfds set, or a part of it, as labelled images; downloads the set where necessary.

    Attributes:
      class_names: tuple of str.
      total: N, the number of records of all parts.
      channels: of every image, 1 or 3.
      image_shape: (height, width, channels); None where the set does not say before it is read.
      fingerprint: the set's version and how its records lie in files.
      bytes_of_image: of a record in memory; 0 where it is not known, and the records can only be read.

    Args:
      name: a tfds name, with "/config" and ":version" as tfds has it.
      data_dir: where tfds keeps its data; default: tfds's own.
      label: the name of the class feature, or none; see `data.load`.
      image_size: side in pixels to resize to; default: as they are.
      split: a split of the set.
      part: (index, count), see `parts`: records next to each other, so that a part reads its files.

    Raises:
      UsageError: no such set, split or label; cannot be downloaded; not images of those kinds.
    """

    def __init__(
        self,
        name,
        *,
        data_dir=None,
        label=None,
        image_size=None,
        split="train",
        part=partition.WHOLE,
    ):
        self._split, self._image_size = split, image_size
        with tfds_builder.quiet():
            self._builder = builder = tfds_builder.find(name, data_dir)
            if not builder.is_prepared():
                tfds_builder.prepare(builder, name)
            checks.one_of("split", split, tuple(builder.info.splits))
            self._image_path = tfds_features.image_path(builder)
            label_path, self.class_names = tfds_features.label(builder, label)
        self._keys_of_label = label_path.split("/") if label_path else []
        self.total = builder.info.splits[split].num_examples
        if self.total == 0:
            raise checks.UsageError(f"split {split} of {name} is empty.")
        files = builder.info.splits[split]
        listed = f"{builder.info.full_name} {split} {files.num_bytes} {files.shard_lengths}"
        self.fingerprint = hashlib.sha256(listed.encode()).hexdigest()[:16]
        self._first, self._end = partition.contiguous(part, self.total)
        shape = builder.info.features[self._image_path].shape
        self.channels = shape[2]
        sides = shape[:2] if image_size is None else (image_size, image_size)
        self.image_shape = (*sides, shape[2]) if None not in sides else None
        self.bytes_of_image = int(np.prod(self.image_shape)) if self.image_shape else 0

    def __len__(self):
        return self._end - self._first

    def read(self):
        """Returns (images uint8 [n, H, W, C], labels int32 [n], as stored: -1 where there is none)."""
        with tfds_builder.quiet():
            records = self._open(0, len(self)).map(self._decoded, num_parallel_calls=-1)
            return self._fill(self._batches(records))

    def labels(self):
        """Returns the labels int32 [n] of `read`, without reading an image."""
        if not self._keys_of_label:
            return np.zeros(len(self), np.int32)
        found = np.empty(len(self), np.int32)
        with tfds_builder.quiet():
            records = self._open(0, len(self), image=False, in_order=True).map(self._label_of)
            done = 0
            for batch in records.batch(_LABELS_A_READ).as_numpy_iterator():
                found[done : done + len(batch)] = batch
                done += len(batch)
        if done != len(self):
            raise self._damaged(f"not the {len(self)} records it states")
        return found

    def gather(self, indices):
        """Returns the images of some records, uint8 [k, H, W, C]: decodes these alone.

        Args:
          indices: of the part, increasing, int64 [k].
        """
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        if not len(indices):
            return images
        first, end = int(indices[0]), int(indices[-1]) + 1
        wanted = np.zeros(end - first, bool)
        wanted[indices - first] = True
        with tfds_builder.quiet():
            records = self._open(first, end, decode=False, in_order=True)
            records = _only(records, wanted).map(self._decode, num_parallel_calls=-1)
            done = 0
            for batch, _ in self._batches(records):
                images[done : done + len(batch)] = batch
                done += len(batch)
        if done != len(indices):
            raise self._damaged(f"not the {len(self)} records it states")
        return images

    def _open(self, first, end, *, image=True, decode=True, in_order=False):
        """A tf.data.Dataset of the records first to end of the part, in the fields that are used.

        in_order: as they are numbered; else as fast as several files can be read, always alike.
        """
        tfds, fields = tfds_builder.import_tfds(), True
        for key in reversed(self._keys_of_label):
            fields = {key: fields}
        fields = {} if fields is True else fields
        if image:
            fields[self._image_path] = True
        decoders = None if decode else {self._image_path: tfds.decode.SkipDecoding()}
        config = {"interleave_cycle_length": 1} if in_order else {}
        return self._builder.as_dataset(
            split=tfds.core.ReadInstruction(
                self._split, from_=self._first + first, to=self._first + end, unit="abs"
            ),
            decoders=tfds.decode.PartialDecoding(fields, decoders=decoders),
            # Cached by tfds it would hold the images twice.
            read_config=tfds.ReadConfig(try_autocache=False, **config),
        )

    def _label_of(self, record):
        import tensorflow as tf

        label = record if self._keys_of_label else 0
        for key in self._keys_of_label:
            label = label[key]
        return tf.cast(label, tf.int32)

    def _decode(self, record):
        image = self._builder.info.features[self._image_path].decode_example(
            record[self._image_path]
        )
        return self._decoded({**record, self._image_path: image})

    def _decoded(self, record):
        """(image of the right size, label) of a record."""
        import tensorflow as tf

        image = record[self._image_path]
        if self._image_size is not None:
            image = tf.image.resize(image, [self._image_size] * 2, antialias=True)
            image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
        return image, self._label_of(record)

    def _batches(self, records):
        """Yields NumPy (images, labels) batches; raises UsageError for what tfds cannot read."""
        import tensorflow as tf

        mixed = not records.element_spec[0].shape.is_fully_defined()
        try:
            yield from records.batch(BATCH).prefetch(2).as_numpy_iterator()
        except tf.errors.OpError as error:
            if (
                mixed and "shapes" in str(error).lower()
            ):  # "Cannot batch tensors of different shapes"
                raise self._mixed_shapes() from error
            raise self._damaged(type(error).__name__) from error

    def _fill(self, batches):
        """Returns all batches as one array of images and one of labels, without a second copy."""
        images, labels, done = None, np.empty(len(self), np.int32), 0
        for batch, batch_labels in batches:
            if images is None:
                images = np.empty((len(self), *batch.shape[1:]), np.uint8)
            if batch.shape[1:] != images.shape[1:]:
                raise self._mixed_shapes()
            end = done + len(batch)
            images[done:end], labels[done:end] = batch, batch_labels
            done = end
        if done != len(self):
            raise self._damaged(f"not the {len(self)} records it states")
        return images, labels

    def _damaged(self, how):
        return checks.UsageError(f"{self._builder.data_path} is damaged ({how}); prepare it again.")

    def _mixed_shapes(self):
        return checks.UsageError(
            f"images of {self._builder.name} are not all of one shape; "
            "--image_size=... resizes them to a square of that side."
        )


def _only(records, wanted):
    """The records of a tf.data.Dataset whose place is True in `wanted`."""
    import tensorflow as tf

    mask = tf.constant(wanted)
    numbered = records.enumerate().filter(lambda place, _: mask[place])
    return numbered.map(lambda _, record: record)


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


def num_classes(name, *, data_dir=None, label=None):
    """Returns how many classes a set describes; raises UsageError where it is unknown or has none."""
    with tfds_builder.quiet():
        return len(tfds_features.label(tfds_builder.find(name, data_dir), label)[1])
