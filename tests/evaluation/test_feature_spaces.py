"""The feature spaces: the CNN trained on the data set, and Inception from a file."""

import dataclasses
import hashlib
import random
import re

import numpy as np
import pytest
import tensorflow as tf

from tfdps import checks, console
from tfdps.data import loading
from tfdps.data.dataset import Dataset, DatasetSpec
from tfdps.evaluation import feature_cnn, feature_space, inception

# ------------------------------------------------------------------- a CNN trained on the data set


@pytest.fixture(scope="module")
def digits():
    return loading.load("digits")


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """The feature space of the digits after few of its updates: (space, folder, lines)."""
    folder, said = tmp_path_factory.mktemp("cache"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_cnn, "_FEWEST_UPDATES", 60)
        states = global_random_states()
        with console.lines_to(said.append):
            space = feature_cnn.load(digits, folder, progress=False)
        assert global_random_states() == states
    return space, folder, said


def global_random_states():
    """What a global seed would change: Python's and NumPy's states, TensorFlow's and Keras's seed."""
    from keras.src.backend.common import global_state
    from tensorflow.python.eager import context

    return (
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        context.global_seed(),
        global_state.get_global_attribute("global_seed_generator"),
        global_state.get_global_attribute("global_random_seed"),
    )


def no_training(*args):
    raise AssertionError("the network was trained")


def untrained(*args):
    """In the place of the training: leaves the first weights, and says accuracy 0.5."""
    return 0.5


def cached_weights(folder):
    with np.load(next(folder.glob("nonprivate/*.npz"))) as file:
        return [file[f"weight_{index}"].astype(np.float64) for index in range(10)]


def accuracy_by_hand(dataset, folder, features):
    """The training accuracy from the features and the cached last layer."""
    kernel, bias = cached_weights(folder)[8:]
    return np.mean((features @ kernel + bias).argmax(1) == dataset.labels)


def some(dataset, count):
    return dataclasses.replace(
        dataset, images=dataset.images[:count], labels=dataset.labels[:count]
    )


@pytest.mark.slow
def test_features_are_128_floats_an_image_and_do_not_depend_on_the_batch(digits, trained):
    space = trained[0]
    features = space.extract(digits.images)
    assert features.shape == (1438, 128)
    assert features.dtype == np.float32
    assert features.min() == 0  # after the ReLU
    # float32 sums of products of order one, in another order for another batch
    alone = space.extract(digits.images[1200:1201])
    assert alone[0] == pytest.approx(features[1200], abs=1e-4)


@pytest.mark.slow
def test_features_are_the_networks_by_hand(digits, trained):
    """The layers again in NumPy, from the cached weights, on two images."""
    weights = cached_weights(trained[1])
    x = digits.images[:2].repeat(3, axis=1).repeat(3, axis=2) / 127.5 - 1  # 8 x 8 to 24 x 24

    def convolved(x, kernel, bias):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        return np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias

    def pooled(x):
        n, height, width, channels = x.shape
        x = x[:, : height // 2 * 2, : width // 2 * 2]
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))

    x = np.maximum(pooled(convolved(x, *weights[0:2])), 0)
    x = np.maximum(pooled(convolved(x, *weights[2:4])), 0)
    x = np.maximum(convolved(x, *weights[4:6]), 0)
    x = np.maximum(x.reshape(2, -1) @ weights[6] + weights[7], 0)
    assert weights[8].shape == (128, 10)
    # float32 against float64
    assert trained[0].extract(digits.images[:2]) == pytest.approx(x, abs=1e-4)


@pytest.mark.slow
def test_the_nearest_class_mean_of_the_features_reads_digits_it_has_not_seen(digits, trained):
    test = loading.load("digits", split="test")
    features, unseen = trained[0].extract(digits.images), trained[0].extract(test.images)
    means = np.stack([features[digits.labels == label].mean(0) for label in range(10)])
    nearest = np.square(unseen[:, np.newaxis] - means).sum(-1).argmin(1)
    assert (nearest == test.labels).mean() > 0.9


@pytest.mark.slow
def test_the_second_load_reads_the_cache_and_gives_the_same(digits, trained, monkeypatch):
    space, folder, said = trained
    assert [line for line in said if "Training the feature network" in line] == said
    monkeypatch.setattr(feature_cnn, "_fit", no_training)
    with console.lines_to(said.append):
        again = feature_cnn.load(digits, folder, progress=False)
    assert len(said) == 1
    assert again.digest == space.digest
    assert again.description == space.description
    assert np.array_equal(again.extract(digits.images[:50]), space.extract(digits.images[:50]))
    accuracy = re.search(r"training accuracy ([01]\.\d{4})", space.description)
    right = accuracy_by_hand(digits, folder, space.extract(digits.images))
    assert float(accuracy[1]) == pytest.approx(right, abs=0.002)  # ties of float32 on three records
    assert (
        len(list(folder.rglob("*"))) == 2
    )  # the folder nonprivate and one file: nothing left over


def test_other_records_labels_classes_or_recipe_have_another_key(digits, monkeypatch):
    images, labels = digits.images.copy(), digits.labels.copy()
    images[700, 3, 3, 0] ^= 1
    labels[1437] += 1
    larger = dataclasses.replace(digits.spec, class_names=(*digits.spec.class_names, "ten"))
    keys = [
        feature_cnn._key(digits.images, digits.labels, digits.spec),
        feature_cnn._key(images, digits.labels, digits.spec),
        feature_cnn._key(digits.images, labels, digits.spec),
        feature_cnn._key(digits.images, digits.labels, larger),
    ]
    assert feature_cnn._key(digits.images, digits.labels, digits.spec) == keys[0]
    monkeypatch.setattr(feature_cnn, "_RECIPE", "another")
    keys.append(feature_cnn._key(digits.images, digits.labels, digits.spec))
    assert len(set(keys)) == len(keys)


def test_a_large_split_is_thinned_evenly(digits, monkeypatch):
    monkeypatch.setattr(feature_cnn, "_MOST_RECORDS", 500)
    images, labels = feature_cnn._chosen(digits)
    assert len(labels) == 500
    expected = [index * 1438 // 500 for index in range(500)]
    assert np.array_equal(images, digits.images[expected])
    assert np.array_equal(labels, digits.labels[expected])
    assert max(np.diff(expected)) - min(np.diff(expected)) == 1


def damages(whole):
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    return {"flipped": flipped, "cut": whole[:middle], "empty": b"", "text": b"no weights here"}


@pytest.mark.parametrize("kind", ["flipped", "cut", "empty", "text", "shapes", "one array"])
def test_a_damaged_cache_is_said_to_be_and_replaced(digits, monkeypatch, tmp_path, kind):
    monkeypatch.setattr(feature_cnn, "_fit", untrained)
    few, said = some(digits, 20), []
    feature_cnn.load(few, tmp_path, progress=False)
    path = next(tmp_path.glob("nonprivate/cnn_digits_*.npz"))
    if kind == "shapes":
        arrays = {f"weight_{index}": np.zeros(3) for index in range(10)}
        np.savez(path, accuracy=1.0, **arrays)
    elif kind == "one array":
        np.save(path.with_suffix(".npy"), np.zeros(3))
        path.with_suffix(".npy").replace(path)
    else:
        path.write_bytes(damages(path.read_bytes())[kind])
    with console.lines_to(said.append):
        again = feature_cnn.load(few, tmp_path, progress=False)
    assert f"{path} is damaged" in said[0]
    assert "is trained again" in said[0]
    monkeypatch.setattr(feature_cnn, "_fit", no_training)
    assert feature_cnn.load(few, tmp_path, progress=False).digest == again.digest


@pytest.mark.slow
def test_two_trainings_agree_but_for_rounding(digits, monkeypatch, tmp_path):
    """The seeds are fixed: one epoch again from the same start, in the same order."""
    monkeypatch.setattr(feature_cnn, "_EPOCHS", 1)
    monkeypatch.setattr(feature_cnn, "_FEWEST_UPDATES", 1)
    few = some(digits, 600)
    first, second = (
        feature_cnn.load(few, tmp_path / name, progress=False).extract(few.images)
        for name in ("first", "second")
    )
    # Adam's two steps move a weight by 1e-3 each; the sums of a parallel machine differ by 1e-7.
    assert first == pytest.approx(second, abs=1e-3)
    assert np.abs(first).max() > 0.1


@pytest.mark.parametrize("shape", [(18, 18, 1), (17, 30, 3), (32, 20, 3), (5, 4, 1)])
def test_every_shape_of_image_is_accepted(shape, monkeypatch, tmp_path):
    monkeypatch.setattr(feature_cnn, "_fit", untrained)
    images = np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(np.uint8)
    spec = DatasetSpec("folder:my pictures/x", shape, ("a", "b"))
    train = Dataset(images, np.arange(6, dtype=np.int32) % 2, spec)
    space = feature_cnn.load(train, tmp_path, progress=False)
    assert space.extract(images).shape == (6, 128)
    names = [path.name for path in tmp_path.glob("nonprivate/*")]
    assert len(names) == 1
    assert names[0].startswith("cnn_folder_my_pictures_x_")


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 8, 8, 1), np.float32),
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 9, 8, 1), np.uint8),
        np.zeros((0, 8, 8, 1), np.uint8),
    ],
)
def test_images_that_do_not_fit_are_refused(trained, images):
    with pytest.raises(checks.UsageError, match=r"must be uint8 \[n, 8, 8, 1\] with n >= 1"):
        trained[0].extract(images)


def test_long_work_in_a_log_is_a_line_now_and_then_and_short_work_says_nothing(capsys, monkeypatch):
    space = feature_space.FeatureSpace(
        name="sums",
        description="",
        digest="",
        image_shape=(None, None, 1),
        batch_size=2,
        compute=lambda images: images.sum((1, 2), dtype=np.float32),
    )
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    assert space.extract(images)[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(console, "_SECONDS_IN_A_LOG", 0)
    space.extract(images)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert [line for line in lines if "features sums" in line and "4/5" in line]
    dataclasses.replace(space, progress=False).extract(images)
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------------------ Inception of 2015

_MEANS, _VARIANCES, _BETAS, _GAMMAS = (np.linspace(low, low + 1, 2048) for low in (0, 0.5, -1, 1))
_MIX = np.random.default_rng(0).normal(size=(3, 2048))


def graph_of_2015(*, output="pool_3", width=2048):
    """A small graph made as the published one is: one image's static shape, an operation of 2015.

    Mul -> mean over the image -> 1x1 convolution -> old batch normalisation -> pool_3.
    """
    graph = tf.compat.v1.GraphDef()
    graph.versions.producer = 8  # the last with BatchNormWithGlobalNormalization

    def node(name, operation, inputs=(), **attributes):
        new = graph.node.add(name=name, op=operation, input=inputs)
        new.attr["dtype" if operation in ("Const", "Placeholder") else "T"].type = 1  # float32
        for key, value in attributes.items():
            new.attr[key].CopyFrom(value)

    def attribute(**value):
        return tf.compat.v1.AttrValue(**value)

    def integers(*values):
        return attribute(list=tf.compat.v1.AttrValue.ListValue(i=values))

    def constant(name, value):
        node(name, "Const", value=attribute(tensor=tf.make_tensor_proto(np.float32(value))))

    shape = attribute(shape=tf.TensorShape([1, 299, 299, 3]).as_proto())
    valid = attribute(s=b"VALID")
    node("ResizeBilinear", "Placeholder", shape=shape)
    constant("Mul/y", 1 / 128)
    node("Mul", "Mul", ["ResizeBilinear", "Mul/y"])
    mean = {"ksize": integers(1, 299, 299, 1), "strides": integers(1, 1, 1, 1), "padding": valid}
    node("mean", "AvgPool", ["Mul"], **mean)
    constant("mix", _MIX[:, :width].reshape(1, 1, 3, width))
    node("conv", "Conv2D", ["mean", "mix"], strides=integers(1, 1, 1, 1), padding=valid)
    statistics = zip("mvbg", (_MEANS, _VARIANCES, _BETAS, _GAMMAS), strict=True)
    for name, value in statistics:
        constant(name, value[:width])
    node(
        output,
        "BatchNormWithGlobalNormalization",
        ["conv", "m", "v", "b", "g"],
        variance_epsilon=attribute(f=1e-3),
        scale_after_normalization=attribute(b=True),
    )
    return graph.SerializeToString()


def resized_2015(images):
    """TF1's bilinear resize to 299 x 299: pixel i of the result lies at i * side / 299."""

    def along(x, axis):
        side = x.shape[axis]
        at = np.arange(299) * side / 299
        low = np.floor(at).astype(int)
        shape = [-1 if a == axis else 1 for a in range(x.ndim)]
        part = (at - low).reshape(shape)
        high = np.minimum(low + 1, side - 1)
        return np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part

    return along(along(images.astype(np.float64), 1), 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_graph_of_2015_sees_images_as_published(tmp_path, channels):
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(graph_of_2015())
    images = np.random.default_rng(1).integers(0, 256, (53, 14, 9, channels)).astype(np.uint8)
    space = inception.load(str(path), progress=False)
    assert space.name == "inception_2015"
    features = space.extract(images)
    means = ((resized_2015(images) - 128) / 128).mean((1, 2)).repeat(3 // channels, axis=1)
    expected = (means @ _MIX - _MEANS) / np.sqrt(_VARIANCES + 1e-3) * _GAMMAS + _BETAS
    assert features.shape == (53, 2048)
    # float32 means of 89,401 values; the half-pixel resize of TF2 differs by 1e-2
    assert features == pytest.approx(expected, abs=1e-4)


def test_the_digest_is_that_of_the_file(tmp_path):
    path = tmp_path / "graph.PB"
    path.write_bytes(graph_of_2015())
    space = inception.load(path)
    assert space.digest == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert "graph.PB" in space.description


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xff no graph", "is damaged or no TensorFlow graph"),
        (b"", "must be a graph from Mul:0"),
        (graph_of_2015(output="pool_4"), "must be a graph from Mul:0 .* to pool_3:0"),
        (graph_of_2015(width=64), r"pool_3:0 \[n, 1, 1, 2048\]: pool_3:0 is \(None, 1, 1, 64\)"),
    ],
    ids=["damaged", "empty", "no pool_3", "too narrow"],
)
def test_another_graph_is_refused(tmp_path, content, message):
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    with pytest.raises(checks.UsageError, match=message) as caught:
        inception.load(str(path))
    assert "frozen_inception_v1_2015_12_05.tar.gz" in str(caught.value)


def test_other_files_are_refused_with_where_the_right_ones_are(tmp_path):
    for name, message in [("weights.pth", "must end in .pb or .h5"), ("none.pb", "there is none")]:
        with pytest.raises(checks.UsageError, match=message) as caught:
            inception.load(str(tmp_path / name))
        assert "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5" in str(caught.value)


def test_four_channels_are_refused(tmp_path):
    path = tmp_path / "graph.pb"
    path.write_bytes(graph_of_2015())
    with pytest.raises(checks.UsageError, match="1 or 3 channels, received 4"):
        inception.load(str(path)).extract(np.zeros((2, 9, 9, 4), np.uint8))


# ------------------------------------------------------------------------------ Keras's Inception


def save_as_published(network, path):
    """Writes the weights as Keras 2 did, the format of the published file."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{index}:0" for index in range(len(layer.weights))]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()


@pytest.mark.slow
def test_keras_inception_gives_the_networks_own_output(tmp_path):
    import keras

    network = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg")
    path = tmp_path / "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
    save_as_published(network, path)
    space = inception.load(str(path), progress=False)
    assert space.name == "inception_v3_keras"
    images = np.random.default_rng(2).integers(0, 256, (3, 20, 24, 1)).astype(np.uint8)
    resized = tf.image.resize(images.repeat(3, axis=-1), [299, 299]).numpy()
    prepared = keras.applications.inception_v3.preprocess_input(resized)
    expected = network.predict(prepared, verbose=0)
    assert space.extract(images) == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert expected.std() > 1e-5

    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(checks.UsageError, match="damaged or holds no weights of InceptionV3"):
        inception.load(str(path))


def test_weights_of_another_network_are_refused(tmp_path):
    import keras

    path = tmp_path / "weights.h5"
    save_as_published(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), path)
    with pytest.raises(checks.UsageError, match="holds no weights of InceptionV3 without top"):
        inception.load(str(path))
