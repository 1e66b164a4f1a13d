"""The layer of the mixture generator: classes of atoms, each a rectified Gaussian in a subspace.

    image = clip(bent(clip(mean + gain * ((F g) B), -2, 2)) + grain * noise(g), -1, 1),  g ~ N(0, I)

with mean and gain (per pixel) of the atom that z picks, F of the class, basis B and grain for all; bent
and mirrored, where its owner says that images may be (`deformation.py`). No
gradient trains it: whoever has released moments sets its weights in closed form (`set_atoms`).
"""

import functools
import typing
from collections.abc import Sequence

import keras
import numpy as np

from tfdps import checks
from tfdps.generators.byte_table import ByteTable, fixed
from tfdps.generators.deformation import Deformation
from tfdps.generators.random_cosines import RandomCosines

# An edge that no z reaches: that of an atom of weight 0.
_NEVER = 2.0

# The normal coordinates end at 4.75 standard deviations: finite at z = 0 and z = 1, and so are
# their slopes. Two normals in a million lie further out.
_TAIL = 1e-6

# Giles, "Approximating the erfinv function" (GPU Computing Gems, 2011), table 5: highest first, the
# centre w < 5 in w - 2.5 and the tails in sqrt(w) - 3.
_CENTRE = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAILS = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)

# What a pixel is clipped to before it is bent: twice the range, so that grain does not show where an
# image is far beyond black or white. Background may lie a hundred times as far: between such a pixel
# and its neighbour, rounding of where an image is bent to would be seen.
_FARTHEST = 2.0

_INITIAL_STDDEV = 0.25  # of a pixel, before somebody sets the atoms


def images(z, labels, image_shape, num_classes, *, num_atoms):
    """Returns the images, a Keras tensor, of a new `MixtureLayer` named "images".

    Raises:
      UsageError: for no atoms, or a z of another size than 1 + p with 1 <= p <= pixels.
    """
    checks.at_least("num_atoms", num_atoms, 1)
    pixels = int(np.prod(image_shape))
    if not 2 <= z.shape[-1] <= 1 + pixels:
        raise checks.UsageError(
            "generator mixture takes latent_dim = 1 + p (one number picks the atom, p are its "
            f"coordinates), p from 1 to the {pixels} pixels; received latent_dim={z.shape[-1]}."
        )
    layer = MixtureLayer(image_shape, num_classes=num_classes, num_atoms=num_atoms, name="images")
    return layer([z, labels])


@keras.saving.register_keras_serializable(package="tfdps")
class MixtureLayer(keras.layers.Layer):
    """Images of a mixture of K rectified Gaussians for each of L classes, from [z, labels].

    z[:, 0] picks the atom by the inverse of the class's cumulative weights, z[:, 1:] become
    standard normals by the inverse of theirs: both rise with z, so that an image follows a slowly
    moved coordinate. A batch of n holds n p^2 numbers for a moment: 40 MB for 1000 and p = 100.

    Grain and bends are random functions of the same normals (`random_cosines.py`). Where images are
    mirrored, it is those of the second half of the z[:, 0] that pick an atom.

    Weights, none trainable, with d pixels and p coordinates; see `set_atoms`:
      edges [L, K]: the smallest z[:, 0] that picks the atom; 2 for an atom that is never picked.
      means, gains [L, K, d], factors [L, p, p], basis [p, d], each a ByteTable: rounded by a part of
        what they are known to, MNIST's images of 128 atoms a class by 0.3 of a grey level on average.
      grain [d], a standard deviation.
      those of `noise`, a RandomCosines, and of `deformation`, a Deformation.

    Before `set_atoms` it makes mid-grey noise.

    Args:
      image_shape: (height, width, channels), of d pixels together.
      num_classes: L.
      num_atoms: K.

    Examples:
      >>> import numpy as np, tfdps
      >>> layer = tfdps.generators.MixtureLayer((4, 4, 1), num_classes=2, num_atoms=3)
      >>> layer([np.full([5, 3], 0.5, np.float32), np.zeros(5, np.int32)]).shape
      TensorShape([5, 4, 4, 1])
    """

    def __init__(
        self, image_shape: Sequence[int], *, num_classes: int, num_atoms: int, **kwargs: typing.Any
    ) -> None:
        super().__init__(**kwargs)
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        self.num_atoms = num_atoms
        self.noise = RandomCosines(int(np.prod(self.image_shape)), seed=0, name="noise")
        self.deformation = Deformation(self.image_shape, name="deformation")

    def build(self, input_shape: typing.Any) -> None:
        rank, pixels = input_shape[0][-1] - 1, int(np.prod(self.image_shape))
        atoms = (self.num_classes, self.num_atoms)
        constant = functools.partial(self.add_weight, trainable=False)
        even = _edges(np.ones(atoms))
        self.edges = constant(name="edges", shape=atoms, initializer=fixed(even))
        # The rows of an orthonormal basis spread a variance of p over d pixels.
        gain = _INITIAL_STDDEV * np.sqrt(pixels / rank)
        random = np.random.default_rng(0).normal(size=(pixels, rank))
        factors, basis = np.eye(rank)[None], np.linalg.qr(random)[0].T
        self.means = ByteTable((*atoms, pixels), axis=1, bent=True, name="means")
        self.gains = ByteTable((*atoms, pixels), axis=1, bent=True, initial=gain, name="gains")
        square = (self.num_classes, rank, rank)
        self.factors = ByteTable(square, axis=1, initial=factors, name="factors")
        self.basis = ByteTable((rank, pixels), axis=1, initial=basis, name="basis")
        self.grain = constant(name="grain", shape=(pixels,), initializer="zeros")
        self.noise.build((None, rank))
        self.deformation.build([(None, *self.image_shape), (None, rank), (None,)])

    def set_atoms(
        self,
        *,
        weights: np.ndarray,
        means: np.ndarray,
        factors: np.ndarray,
        basis: np.ndarray,
        gains: np.ndarray,
        grain: np.ndarray,
    ) -> None:
        """Sets the mixture; returns None. Bends and mirror: see `deformation.set`.

        Args:
          weights: [L, K], >= 0, of sum 1 in each class. An atom of weight 0 is never picked.
          means: [L, K, d], in pixel units. May lie outside [-1, 1]: the sum is clipped.
          factors: [L, p, p]; an atom's covariance in basis coordinates is F F^T.
          basis: [p, d], of orthonormal rows.
          gains: [L, K, d], >= 0, a factor on each pixel's deviation.
          grain: [d], >= 0, the standard deviation of the noise on each pixel.

        Raises:
          UsageError: for a shape, a value or a sum that is not as above. Nothing is set then.

        Guarantee: every number given is written into the generator and ships with it. Give released
        numbers only.
        """
        weights = np.asarray(weights, np.float64)
        given = {"means": means, "factors": factors, "basis": basis}
        given |= {"gains": gains, "grain": grain}
        given = {name: np.asarray(value, np.float32) for name, value in given.items()}
        for name, value in (("weights", weights), *given.items()):
            expected = tuple(getattr(self, "edges" if name == "weights" else name).shape)
            if value.shape != expected:
                raise checks.UsageError(f"{name} must be {expected}, received {value.shape}.")
            if not np.isfinite(value).all():
                raise checks.UsageError(f"{name} must be finite, received NaN or infinity.")
        totals = weights.sum(axis=1)
        if (weights < 0).any() or np.abs(totals - 1).max() > 1e-4:
            raise checks.UsageError(
                "weights must be >= 0 and of sum 1 in each class, received a smallest of "
                f"{weights.min():.3g} and sums from {totals.min():.6g} to {totals.max():.6g}."
            )
        for name in ("gains", "grain"):
            if (given[name] < 0).any():
                raise checks.UsageError(f"{name} must be >= 0, received {given[name].min():.3g}.")
        rows = given["basis"]
        error = np.abs(rows @ rows.T - np.eye(len(rows))).max()
        if error > 1e-3:
            raise checks.UsageError(
                f"basis must have orthonormal rows, received B B^T that differs by {error:.3g} from "
                "the identity: orthonormalise it first."
            )
        self.edges.assign(_edges(weights))
        for name, value in given.items():
            getattr(self, name).assign(value)

    def call(self, inputs: typing.Any) -> typing.Any:
        z, labels = inputs
        atom, in_second_half = self.place_of(z[:, 0], labels)
        means, gains = (table.entries(labels, atom) for table in (self.means, self.gains))
        factors = keras.ops.take(self.factors.values(), labels, axis=0)
        normals = inverse_normal(z[:, 1:])
        coordinates = keras.ops.matmul(factors, normals[:, :, None])[:, :, 0]
        pixels = means + gains * keras.ops.matmul(coordinates, self.basis.values())
        pixels = keras.ops.clip(pixels, -_FARTHEST, _FARTHEST)
        images = keras.ops.reshape(pixels, (-1, *self.image_shape))
        images = self.deformation([images, normals, in_second_half])
        pixels = keras.ops.reshape(images, keras.ops.shape(pixels))
        pixels = keras.ops.clip(pixels + self.grain * self.noise(normals), -1.0, 1.0)
        return keras.ops.reshape(pixels, (-1, *self.image_shape))

    def place_of(self, z: typing.Any, labels: typing.Any) -> tuple[typing.Any, typing.Any]:
        """Returns what z, float32 [n] in [0, 1], picks: (atoms, in the second half of their z).

        The last atom, int32 [n] in [0, K), whose edge z has reached, and whether z is nearer to the
        next edge, bool [n]. Not a search among sums made here: a GPU adds in another order than a
        CPU or an ONNX runtime, and all have to pick the same atom.
        """
        edges, z = keras.ops.take(self.edges, labels, axis=0), keras.ops.maximum(z, 0.0)
        reached = z[:, None] >= edges
        numbers = keras.ops.arange(self.num_atoms, dtype="int32")
        atoms = keras.ops.max(keras.ops.where(reached, numbers, 0), axis=1)
        start = keras.ops.max(keras.ops.where(reached, edges, 0.0), axis=1)
        end = keras.ops.min(keras.ops.where(reached, 1.0, keras.ops.minimum(edges, 1.0)), axis=1)
        return atoms, z >= 0.5 * (start + end)

    def compute_output_shape(self, input_shape: typing.Any) -> tuple[int | None, ...]:
        return (input_shape[0][0], *self.image_shape)

    def get_config(self) -> dict[str, typing.Any]:
        return super().get_config() | {
            "image_shape": self.image_shape,
            "num_classes": self.num_classes,
            "num_atoms": self.num_atoms,
        }


def inverse_normal(probability):
    """Returns the standard normal quantiles, float32, within 1e-5, of probabilities in [0, 1].

    Those within 1e-6 of 0 or 1 count as that far from it. Of logarithms, roots and products only:
    ONNX has no inverse of erf.
    """
    probability = keras.ops.clip(probability, _TAIL, 1 - _TAIL)
    # 1 - x^2 for x = 2 probability - 1, without the rounding of x near the ends.
    w = -keras.ops.log(4.0 * probability * (1.0 - probability))
    centre = _polynomial(_CENTRE, w - 2.5)
    # sqrt has no slope at w = 0: compiled, the gradient of the branch not taken would be NaN there.
    tails = _polynomial(_TAILS, keras.ops.sqrt(keras.ops.maximum(w, 5.0)) - 3.0)
    return 2**0.5 * (2.0 * probability - 1.0) * keras.ops.where(w < 5.0, centre, tails)


def _polynomial(coefficients, x):
    return functools.reduce(lambda value, coefficient: value * x + coefficient, coefficients)


def _edges(weights):
    """Returns the smallest z that picks each atom, float32 [L, K]: the weights before it, summed."""
    ends = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    starts = np.concatenate([np.zeros_like(ends[:, :1]), ends[:, :-1]], axis=1)
    return np.where(weights > 0, starts, _NEVER).astype(np.float32)
