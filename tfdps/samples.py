"""Draws images from an export and writes them as a grid, an npz file or a folder of images."""

import json
import os
import re
import shutil

import numpy as np
import tensorflow as tf

from tfdps import checks, grids

_CHUNK = 500  # images per call of the SavedModel; part of what a seed means, so never changed
_GRID_COLUMNS = 10


class Sampler:
    """An export, loaded: `card` (the model card), `class_names`, `image_shape`, `sample`, `decode`."""

    def __init__(self, saved_model, card):
        self.card = card
        self.class_names = tuple(card["generator"]["class_names"])
        self.image_shape = tuple(card["generator"]["image_shape"])
        self._model = tf.saved_model.load(saved_model)  # kept: the function alone holds no weights
        self._sample = self._model.signatures["sample"]
        self._decode = self._model.signatures["decode"]

    def sample(self, labels, seed):
        """Returns uint8 images [n, H, W, C], one for each label; the same for the same seed.

        Image i depends on the seed, on i and on its label alone: a longer list of labels begins
        with the images of the shorter one (up to float32 rounding, one grey level).

        Args:
          labels: integers [n] in [0, num_classes), n >= 1.
          seed: an integer in [0, 2**31).

        Raises:
          UsageError: for labels or a seed outside these ranges.
        """
        labels = self._checked(labels)
        if checks.at_least("seed", seed, 0) >= 2**31:
            raise checks.UsageError(f"seed must be < 2**31, received {seed}.")
        chunks = [
            self._sample(
                labels=tf.constant(labels[start : start + _CHUNK], tf.int32),
                seed=tf.constant([seed, start // _CHUNK], tf.int32),
            )["images"].numpy()
            for start in range(0, len(labels), _CHUNK)
        ]
        return np.concatenate(chunks)

    def decode(self, z, labels):
        """Returns float32 images [n, H, W, C] in [-1, 1], one for each latent and label.

        Args:
          z: finite numbers [n, latent_dim]; the generator was trained on z uniform on [0, 1].
          labels: integers [n] in [0, num_classes), n >= 1.

        Raises:
          UsageError: for latents of another shape, or labels outside their range.
        """
        labels, z = self._checked(labels), np.asarray(z, np.float32)
        expected = (len(labels), self.card["generator"]["latent_dim"])
        if z.shape != expected or not np.all(np.isfinite(z)):
            raise checks.UsageError(
                f"z must be finite numbers {list(expected)}, received {list(z.shape)}"
                f"{' with NaN or infinity' if z.shape == expected else ''}."
            )
        chunks = [
            self._decode(
                z=tf.constant(z[start : start + _CHUNK]),
                labels=tf.constant(labels[start : start + _CHUNK], tf.int32),
            )["images"].numpy()
            for start in range(0, len(labels), _CHUNK)
        ]
        return np.concatenate(chunks)

    def _checked(self, labels):
        """`labels` as an array; raises UsageError for what is no list of this export's classes."""
        labels, num_classes = np.asarray(labels), len(self.class_names)
        if labels.ndim != 1 or not labels.size or not np.issubdtype(labels.dtype, np.integer):
            raise checks.UsageError(
                "labels must be a list of at least one integer, received "
                f"{labels.dtype} {list(labels.shape)}."
            )
        if labels.min() < 0 or labels.max() >= num_classes:
            raise checks.UsageError(
                f"labels must be in [0, {num_classes}), received {labels.min()} to {labels.max()}."
            )
        return labels


def load_sampler(path):
    """Returns the Sampler of the export at `path`.

    Args:
      path: a model_dir, an export folder, its saved_model folder, or one version in that. Of
        several versions the highest is loaded.

    Raises:
      UsageError: if there is no such folder, or no SavedModel with its model card in it.
    """
    root = os.path.abspath(path)
    if not os.path.isdir(root):
        raise checks.UsageError(f"{path} is no folder. Expected a model_dir or an export folder.")
    saved_model = _saved_model(root)
    if saved_model is None:
        raise checks.UsageError(
            f"{path} holds no export (no export/saved_model/1/saved_model.pb). A run writes one "
            "at its end; --mode=export writes one from its last checkpoint."
        )
    card_path = os.path.join(os.path.dirname(os.path.dirname(saved_model)), "model_card.json")
    try:
        with open(card_path, encoding="utf-8") as file:
            card = json.load(file)
    except (OSError, json.JSONDecodeError) as error:
        raise checks.UsageError(f"{card_path} is missing or no model card: {error}.") from error
    try:
        return Sampler(saved_model, card)
    except (tf.errors.OpError, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise checks.UsageError(
            f"the export at {path} is damaged or lacks files ({type(error).__name__}: {reason}). "
            "--mode=export writes it again from the run's last checkpoint."
        ) from error


def _saved_model(root):
    """Returns the folder of the SavedModel that `root` names or holds, or None."""
    if os.path.isfile(os.path.join(root, "saved_model.pb")):
        return root
    for parts in ((), ("saved_model",), ("export", "saved_model")):
        folder = os.path.join(root, *parts)
        versions = [
            name
            for name in (os.listdir(folder) if os.path.isdir(folder) else ())
            if name.isdigit() and os.path.isfile(os.path.join(folder, name, "saved_model.pb"))
        ]
        if versions:
            return os.path.join(folder, max(versions, key=int))
    return None


def save_samples(out, images, labels, class_names):
    """Writes the images where `out` says, whole or not at all; returns None.

    Args:
      out: *.png for a grid, in the order given; *.npz for the arrays images and labels; a path
        that ends in "/" or has no suffix for a folder of PNG files, one sub-folder a class, which
        --dataset=folder:PATH reads.
      images: uint8 [n, H, W, C].
      labels: integers [n].
      class_names: the name of each label.

    Raises:
      UsageError: for another suffix, or a folder that exists and is not empty.
    """
    suffix = "" if out.endswith(("/", os.sep)) else os.path.splitext(out)[1].lower()
    if suffix == ".png":
        grids.save_png(out, images, columns=_GRID_COLUMNS)
    elif suffix == ".npz":
        _save_npz(os.path.abspath(out), images, labels)
    elif suffix == "":
        _save_folder(os.path.abspath(out), images, labels, class_names)
    else:
        raise checks.UsageError(
            f'out must end in .png, .npz or, for a folder, in "/"; received {out!r}.'
        )


def _save_npz(path, images, labels):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:  # an open file: savez adds .npz to a name
            np.savez_compressed(file, images=images, labels=np.asarray(labels, np.int32))
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def _save_folder(path, images, labels, class_names):
    if os.path.exists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise checks.UsageError(f"{path} exists and is not empty. Name a new folder.")
    names = _folder_names(class_names)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            grids.save_image(os.path.join(temporary, names[label], f"{index:06d}.png"), image)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _folder_names(class_names):
    """Returns a distinct folder name for each class: "T - shirt / top" -> "T_-_shirt_top"."""
    names = [re.sub(r"[^\w.-]+", "_", name).strip("._") for name in class_names]
    if len({name.lower() for name in names}) < len(names) or "" in names:
        names = [f"{label:03d}_{name}" for label, name in enumerate(names)]
    return names
