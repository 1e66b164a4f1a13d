"""What a round of a per-record run asks of the mechanism, and what the rounds have in common."""

import dataclasses
import io
import typing

import numpy as np

from tfdps import shrinkage
from tfdps.frequencies import cosine_basis
from tfdps.local_gaussians import Proposal
from tfdps.mechanisms.per_record import Atoms, Scales

MASS = 0.7  # scale of the masses, over the root mean square distance of a record from its atom
_BAND = 8  # coordinates of like variance that shrink together


class Question(typing.NamedTuple):
    """What a round asks of the mechanism. Public.

    atoms, scales, pooled: the arguments of `PerRecordMechanism.release`.
    expected: the Proposal that the atoms came from, or None.
    """

    atoms: Atoms
    scales: Scales
    pooled: bool
    expected: Proposal | None = None

    def to_bytes(self):
        """Returns the arguments of the release, without `expected`, as bytes."""
        fields = {"pooled": np.array(self.pooled)}
        for kind, settings in (("atoms", self.atoms), ("scales", self.scales)):
            for name, value in dataclasses.asdict(settings).items():
                if value is not None:
                    fields[f"{kind}.{name}"] = value
        file = io.BytesIO()
        np.savez(file, **fields)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data):
        """Returns the Question that `to_bytes` wrote; its `expected` is None."""
        kinds = {"atoms": {}, "scales": {}}
        with np.load(io.BytesIO(data)) as stored:
            for key in set(stored.files) - {"pooled"}:
                kind, name = key.split(".")
                value = stored[key]
                kinds[kind][name] = value if value.ndim else float(value)
            pooled = bool(stored["pooled"])
        return cls(Atoms(**kinds["atoms"]), Scales(**kinds["scales"]), pooled)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the rounds need to know of the run; all of it public.

    image_shape: (height, width, channels).
    num_classes: L.
    class_size: N / L, the public stand-in for the size of a class.
    rank: p, the dimension of the subspace.
    clip_norm: the clip, over the root mean square of a contribution as the model expects it.
    regularization: lambda of the atoms' softmax.
    """

    image_shape: tuple
    num_classes: int
    class_size: float
    rank: int
    clip_norm: float
    regularization: float


def bands(model):
    """Returns int [p]: coordinates of the basis in bands of like variance, for shrinkage."""
    return np.arange(len(model.basis)) // _BAND


def counts(moments, expected, mass=None):
    """Returns the masses to divide by: never so small that noise would be blown up.

    Args:
      moments: the released Moments.
      expected: the expected masses, [L, K] or one for all.
      mass: an estimate of the masses; default: the released ones.
    """
    mass = moments.mass if mass is None else mass
    return np.maximum(mass, np.maximum(0.3 * expected, 2 * moments.mass_stddev))


def smooth(images, image_shape, noise):
    """Returns noisy images as their waves suggest, shrunk ring by ring: see `shrinkage.rings`.

    Args:
      images: float [..., d].
      image_shape: (height, width, channels).
      noise: standard deviation on every pixel, broadcasts against [...].
    """
    waves, ring_of = cosine_basis(image_shape)
    return shrinkage.rings(images @ waves.T, ring_of, np.asarray(noise)[..., None]) @ waves
