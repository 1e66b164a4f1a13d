"""No other source of noise: every random generator of the package, and what it is for."""

import ast
import re

from test_layout import MODULES

GENERATORS = re.compile(
    r"^(?:tf|tensorflow|np|numpy|keras|scipy)(?:\.\w+)*\.random\b|default_rng|RandomState|SeedGenerator"
    r"|standard_normal|[Ss]tateful_?[Rr]andom|[Pp]hilox|random_normal|RandomNormal|GaussianNoise"
    r"|^random(?:\.|$)|^secrets(?:\.|$)|urandom|getrandom|SystemRandom|Cipher|RandomBits|tensorflow_probability"
)
NOISE = {"mechanisms.exact_gaussian"}  # the one source of noise of a release
OTHERS = {
    "mechanisms.random_bits": "the bits of noise and of draws",
    "mechanisms.poisson": "which records are drawn, by those bits; which of too many are left out",
    "learners.joint": "latents and labels of generated images: public",
    "learners.per_record.learner": "where draws of the released model fall: public choices",
    "generators.networks": "first weights, and latents of a recalibration: public",
    "generators.layers": "first weights, and power iterations: public",
    "generators.mixture": "first weights: public",
    "generators.random_cosines": "a fixed random basis: public",
    "mechanisms.exactness": "fixed numbers of the start-up check: no record, no noise",
    "training.callbacks": "latents of sample grids, from the released generator",
    "artefacts.export": "latents inside the exported generator, and those of its parity check",
    "samplers.onnx_sampler": "latents of a client of the exported generator",
    "data.procedural.families": "procedural images: public",
    "learners.refiner.pretraining": "noise on procedural images: public",
    "learners.refiner.private_steps": "noise and sides that records are shown with: public",
    "report.pictures": "latents of the report's pictures",
}
AFTERWARDS = (
    "evaluation.",
    "auditing.",
)  # networks, resampling, canaries: they release no training


def names_in(path):
    """Dotted names that a module's code uses or imports; not what its texts say."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Name):
            # `random` is also what modules call a generator that they were given.
            if node.id != "random":
                yield node.id
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def makes_random_numbers(path):
    own = {"random." + name for name in ("integers", "permutation", "random", "normal", "choice")}
    return any(GENERATORS.search(name) and name not in own for name in names_in(path))


def test_every_random_generator_of_the_package_is_known_and_one_makes_noise():
    found = {name for name, path in MODULES.items() if makes_random_numbers(path)}
    assert {name for name in found if not name.startswith(AFTERWARDS)} == NOISE | set(OTHERS)


def test_the_search_sees_each_kind_of_generator(tmp_path):
    for code in (
        "import tensorflow as tf\nx = tf.random.normal([3])",
        "import tensorflow as tf\nx = tf.keras.random.normal([3])",
        "import numpy as np\nnp.random.seed(3)",
        "from numpy.random import default_rng",
        "import random\nrandom.gauss(0, 1)",
        "from random import gauss",
        "import secrets",
        "import os\nos.urandom(3)",
        "from tensorflow.python.ops import stateful_random_ops",
        "import keras\nlayer = keras.layers.GaussianNoise(1.0)",
    ):
        path = tmp_path / "module.py"
        path.write_text(code)
        assert makes_random_numbers(path), code
    path.write_text('"""Says np.random.normal."""\n# tf.random\nrandomly = strandom.normal()')
    assert not makes_random_numbers(path)
