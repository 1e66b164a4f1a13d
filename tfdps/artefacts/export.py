"""Ships a trained generator: SavedModel, ONNX, their parity, the model card, flags, a sample grid."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import typing

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

import tfdps
from tfdps import checks, console
from tfdps.artefacts import layout, onnx_metadata, onnx_names, onnx_tables, warmup
from tfdps.artefacts.card import ModelCard
from tfdps.generators import networks, pixels

if typing.TYPE_CHECKING:
    from tfdps.data.dataset import DatasetSpec


ONNX_OPSET = 17
# Largest difference of a pixel in [-1, 1]. Float32 rounding alone gives 4e-6 for mlp and dcgan and
# up to 1e-5 for biggan (its convolutions against float64: 6e-6); a grey level is 8e-3. The card has
# what was measured.
PARITY_TOLERANCE = 5e-5

_GRID_COLUMNS = 10
GRID_CLASSES = 20  # of a data set with more classes samples.png shows the first ones


def write_export(
    directory: str | os.PathLike[str],
    *,
    generator: keras.Model,
    generator_name: str,
    spec: DatasetSpec,
    privacy: dict[str, typing.Any],
    training: dict[str, typing.Any],
) -> ModelCard:
    """Writes the export folder and returns its ModelCard, as model_card.json has it.

    The folder holds what `artefacts` lists. It appears under its name only when all of it is written
    and the two formats agree; a former export stays until then, and stays if this one fails.

    The SavedModel answers (TensorFlow Serving layout, with requests to warm it up):
      sample, serving_default: labels int32 [None], seed int32 [2] -> images uint8 [None, H, W, C];
        z is drawn inside, and the same seed and labels give the same images.
      decode: z float32 [None, latent], labels int32 [None] -> images float32 [None, H, W, C] in
        [-1, 1]. Both refuse labels outside [0, num_classes).
    generator.onnx is `decode`, opset 17. ONNX has no assertions: a label outside the range is an error
    of ONNX Runtime where the generator looks it up in a table, and an image of NaN where it does not.

    Guarantee: holds the generator's weights and statistics, the card and what follows from them;
    no optimizer, noise or sampler state.

    Args:
      directory: the folder to write, model_dir/export. One that exists must be an export.
      generator: the model of `generators.build`, with the weights to ship.
      generator_name: its architecture.
      spec: the DatasetSpec: name, image_shape, num_classes, class_names.
      privacy: the card's privacy block, verbatim.
      training: the card's training block, verbatim. Neither may hold NaN or infinity. Its `flags`, a
        list of lines, are run.flags.

    Raises:
      UsageError: if `directory` holds something that is no export.
      ValueError: if a block is not strict JSON, or the generator's images are not the spec's.
      RuntimeError: if ONNX and SavedModel differ by more than 5e-5. Nothing is published.

    Examples:
      >>> import tfdps
      >>> generator = tfdps.generators.build("mlp", image_shape=(8, 8, 1), num_classes=2, latent_dim=4)
      >>> card = tfdps.artefacts.write_export(
      ...     "export",
      ...     generator=generator,
      ...     generator_name="mlp",
      ...     spec=tfdps.DatasetSpec("arrays:pets", (8, 8, 1), ("cat", "dog")),
      ...     privacy={"private": False, "epsilon": "infinity"},
      ...     training={},
      ... )
      >>> tfdps.load_sampler("export").sample([0, 1], seed=0).shape
      (2, 8, 8, 1)
    """
    if tuple(generator.output_shape[1:]) != tuple(spec.image_shape):
        raise ValueError(
            f"the generator makes images {generator.output_shape[1:]}, the data set has "
            f"{tuple(spec.image_shape)}."
        )
    card = ModelCard(
        {
            "tfdps_version": tfdps.__version__,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "privacy": privacy,
            "generator": {
                "name": generator_name,
                "latent_dim": generator.inputs[0].shape[-1],
                "latent_distribution": networks.LATENT_DISTRIBUTION,
                "num_classes": spec.num_classes,
                "class_names": list(spec.class_names),
                "image_shape": list(spec.image_shape),
                "dataset": spec.name,
            },
            "training": training,
        }
    )
    card.to_json()  # fails before the work
    with _replacing(os.path.abspath(os.path.expanduser(directory))) as folder:
        saved_model = os.path.join(folder, layout.SAVED_MODEL)
        _write_saved_model(saved_model, generator, spec.num_classes)
        warmup.write_warmup(
            saved_model,
            name=spec.name,
            latent_dim=card.latent_dim,
            num_classes=spec.num_classes,
        )
        loaded = tf.saved_model.load(saved_model)
        onnx_model = _to_onnx(generator, spec.num_classes)
        error = _parity_error(onnx_model, loaded, spec.num_classes)
        if not error <= PARITY_TOLERANCE:  # a NaN fails too
            raise RuntimeError(
                f"ONNX and SavedModel differ by {error:.3g} on the same z and labels, more than "
                f"{PARITY_TOLERANCE:g}; nothing was exported."
            )
        parity = {"onnx_max_abs_error": error, "onnx_opset": ONNX_OPSET}
        labels = np.repeat(np.arange(min(spec.num_classes, GRID_CLASSES)), _GRID_COLUMNS)
        images = loaded.sample(tf.constant(labels, tf.int32), tf.constant([0, 0]))["images"]
        pixels.save_png(os.path.join(folder, "samples.png"), images, columns=_GRID_COLUMNS)
        _write(folder, "run.flags", "".join(f"{line}\n" for line in training.get("flags", ())))
        onnx_path = os.path.join(folder, layout.ONNX)
        onnx.save(onnx_model, onnx_path)
        text = card.extended(parity=parity, files=layout.hashes(folder)).to_json()
        onnx.helper.set_model_props(onnx_model, {onnx_metadata.MODEL_CARD: text})
        onnx.checker.check_model(onnx_model, full_check=True)
        onnx.save(onnx_model, onnx_path)
        for path in (layout.CARD_IN_SAVED_MODEL, layout.CARD):
            _write(folder, path, text)
    return ModelCard.from_json(text)


def _write(folder, path, text):
    with open(os.path.join(folder, path), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


@contextlib.contextmanager
def _replacing(directory):
    """Yields an empty folder that takes the place of `directory` if the block succeeds."""
    new, old = directory + ".new", directory + ".old"
    if os.path.exists(old) and not os.path.exists(directory):
        os.rename(old, directory)  # a former process died between the two renames below
    card = os.path.join(directory, layout.CARD)
    if os.path.exists(directory) and os.listdir(directory) and not os.path.exists(card):
        raise checks.UsageError(
            f"{directory} exists and is no export (it has no {layout.CARD}): it is not "
            "replaced. Move it away or name another folder."
        )
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    os.makedirs(new)
    try:
        yield new
        if os.path.exists(directory):
            os.rename(directory, old)
        os.rename(new, directory)
    except BaseException:
        if os.path.exists(old) and not os.path.exists(directory):
            os.rename(old, directory)
        shutil.rmtree(new, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_saved_model(path, generator, num_classes):
    """Writes the SavedModel; ExportArchive, because session loaders cannot read a tf.Module's."""
    latent_dim = generator.inputs[0].shape[-1]
    labels = tf.TensorSpec([None], tf.int32, name="labels")
    seed = tf.TensorSpec([2], tf.int32, name="seed")

    def decode(z, labels):
        # Refused rather than answered with the image of no class. (XLA drops assertions.)
        known = tf.debugging.Assert(
            tf.reduce_all((labels >= 0) & (labels < num_classes)),
            [f"labels must be in [0, {num_classes}), received", labels],
            summarize=16,
        )
        with tf.control_dependencies([known]):  # before a table is asked, whose words are others
            labels = tf.identity(labels)
        return {"images": generator([z, labels], training=False)}

    # Not archive.track(generator): the endpoints bring their weights, and track would store them
    # a second time. With signatures, so that endpoints are traced once: a function that was traced
    # before is traced again when it is saved, and both are kept.
    archive = keras.export.ExportArchive()
    decode_endpoint = archive.add_endpoint("decode", decode, [_z_spec(generator), labels])

    def sample(labels, seed):
        # Philox on every device: the same seed gives the same images wherever it is served.
        z = tf.random.stateless_uniform([tf.shape(labels)[0], latent_dim], seed, alg="philox")
        images = decode_endpoint(z, labels)["images"]
        # pixels.to_uint8, in TensorFlow.
        images = tf.clip_by_value(tf.round((images + 1.0) * 127.5), 0.0, 255.0)
        return {"images": tf.cast(images, tf.uint8)}

    for name in ("sample", "serving_default"):
        archive.add_endpoint(name, sample, [labels, seed])
    with console.quiet("absl", "tensorflow"):
        archive.write_out(path, verbose=False)


def _z_spec(generator):
    return tf.TensorSpec([None, generator.inputs[0].shape[-1]], tf.float32, name="z")


def _to_onnx(generator, num_classes):
    """Returns the ONNX model of the generator in inference mode: z, labels -> images."""
    tables = onnx_tables.TablesApart(generator)
    labels = tf.TensorSpec([None], tf.int32, name="labels")
    signature = [_z_spec(generator), labels, *tables.signature]

    def decode(z, labels, *codes):
        known = (labels >= 0) & (labels < num_classes)
        # A table has no row num_classes, while one of a negative number is counted from its end.
        with tables.taken_from(codes):
            images = generator([z, tf.where(known, labels, num_classes)], training=False)
        nothing = tf.where(known, np.float32(0), np.float32(np.nan))
        return {"images": images + nothing[:, None, None, None]}

    with console.quiet("tf2onnx", "tensorflow"):
        model, _ = tf2onnx.convert.from_function(
            tf.function(decode, input_signature=signature, autograph=False),
            input_signature=signature,
            opset=ONNX_OPSET,
        )
    tables.put_back(model)
    onnx_names.shorten(model)
    return model


def _parity_error(onnx_model, loaded, num_classes):
    """Returns the largest difference of ONNX and the loaded SavedModel's decode, a float.

    tf2onnx converts unknown operations without complaint, so the model is run: on one image and on
    a batch with all classes.
    """
    session = onnxruntime.InferenceSession(
        onnx_model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    latent_dim = session.get_inputs()[0].shape[1]
    random = np.random.default_rng(0)
    errors = []
    for size in (1, max(33, num_classes)):
        z = random.random((size, latent_dim), np.float32)
        labels = np.arange(size, dtype=np.int32) % num_classes
        expected = loaded.decode(tf.constant(z), tf.constant(labels))["images"].numpy()
        (received,) = session.run(["images"], {"z": z, "labels": labels})
        errors.append(np.max(np.abs(expected - received)))
    return float(np.max(errors))
