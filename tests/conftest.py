"""Shared by all tests: quiet TensorFlow, the real data sets, a small real run."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = pathlib.Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def tfds_dir():
    """The folder of prepared real data sets."""
    path = SHARED / "tfds"
    if not path.is_dir():
        pytest.skip(f"no prepared data sets at {path}")
    return str(path)


@pytest.fixture(scope="session")
def sinkhorn_reference():
    """Losses and gradients of the published implementation, float64, by field name."""
    import numpy as np

    path = SHARED / "reference" / "sinkhorn_reference.npz"
    if not path.is_file():
        pytest.skip(f"no stored reference values at {path}")
    return dict(np.load(path))


@pytest.fixture(scope="session")
def features(sinkhorn_reference):
    """(x, y, x_fresh) of the stored values, pixels and scaled labels."""
    import numpy as np
    import tensorflow as tf

    stored = sinkhorn_reference
    scale, eye = float(stored["embed_multiplier"]), np.eye(10)

    def join(pixels, labels):
        return tf.constant(np.concatenate([pixels, scale * eye[labels]], axis=1))

    fresh_labels = stored["x_labels"][:10]
    return (
        join(stored["X"], stored["x_labels"]),
        join(stored["Y"], stored["y_labels"]),
        join(stored["Xalt"], fresh_labels),
    )


@pytest.fixture
def command(tmp_path):
    """Runs the command line in a process of its own, from an empty folder; returns the result."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def run(*flags, timeout=300):
        return subprocess.run(
            [sys.executable, "-m", "tfdps.launch", *flags],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A finished private run on the digits, short: (model_dir, RunConfig, model card, lines said)."""
    from tfdps import console
    from tfdps.training import job

    model_dir = tmp_path_factory.mktemp("digits") / "run"
    config = small_config(model_dir)
    said = []
    with console.lines_to(said.append):
        return model_dir, config, job.train(config), said


@pytest.fixture(scope="session")
def short_networks():
    """A context in which networks that judge images learn little, from few; so do attacks on samples.

    What they find has tests of its own; others ask what is done with it.
    """

    @contextlib.contextmanager
    def shortened():
        from tfdps.auditing import attacks
        from tfdps.evaluation import classifiers, feature_cnn

        changes = {"max_epochs": 2, "fewest_updates": 10, "batch": 64}
        short = {
            name: dataclasses.replace(recipe, **changes)
            for name, recipe in classifiers._RECIPES.items()
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(classifiers, "_RECIPES", short)
            patch.setattr(feature_cnn, "_FEWEST_UPDATES", 30)
            patch.setattr(attacks, "_NUM_IMAGES", 1000)
            yield

    return shortened


def failed_checks(result):
    """Names of the checks that a mechanism audit found wanting."""
    return [check["name"] for check in result["checks"] if not check["passed"]]


def small_config(model_dir, **changes):
    """A RunConfig of 60 private steps of the joint mechanism on the digits."""
    from tfdps.config.run_config import RunConfig

    settings = {
        "mechanism": "joint",
        "num_steps": 60,
        "batch_size": 10,
        "regularization": 10.0,
        **changes,
    }
    return RunConfig(model_dir=str(model_dir), **settings)
