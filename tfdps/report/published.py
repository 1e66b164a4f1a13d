"""Published figures of other systems that train without public data, by data set and epsilon.

Accuracy is in per cent on the real test split. An FID is given as its source gives it; FIDs of
different protocols (feature extractor, number of images, reference set) do not compare, neither
with each other nor with a number of this package.
"""

import dataclasses
import math
import typing

CLASSIC = "the classic protocol, of DP-Sinkhorn's paper"
DPIMAGEBENCH = "DPImageBench: mean of ResNet, WideResNet and ResNeXt"
DIRECT = "no generator: a classifier trained on the private records with DP-SGD"
DIRECT_CNN = "no generator: a CNN trained on the private records with DP-SGD"


@dataclasses.dataclass(frozen=True)
class Published:
    """One system's figures on one data set at one epsilon (delta 1e-5 unless the source says so).

    Attributes:
      source: the system, and who measured it if not its authors.
      protocol: CLASSIC, DPIMAGEBENCH, DIRECT or DIRECT_CNN.
      logreg, mlp, cnn: accuracies of the classic protocol, where published.
      accuracy: the one accuracy of the other protocols.
      fid: the published FID, by the source's own protocol.
    """

    source: str
    protocol: str = CLASSIC
    logreg: typing.Optional[float] = None
    mlp: typing.Optional[float] = None
    cnn: typing.Optional[float] = None
    accuracy: typing.Optional[float] = None
    fid: typing.Optional[float] = None

    @property
    def classic(self):
        """Whether the three accuracies are the classic protocol's."""
        return self.protocol == CLASSIC


def _three(source, logreg, mlp, cnn, fid=None):
    return Published(source, logreg=logreg, mlp=mlp, cnn=cnn, fid=fid)


def _bench(source, accuracy, fid=None):
    return Published(source, DPIMAGEBENCH, accuracy=accuracy, fid=fid)


_PEARL, _DPDM, _SINKHORN = "PEARL", "DPDM", "DP-Sinkhorn"
_RERUN = "DP-Sinkhorn, rerun by SoK-PPDS"
_DP_SGD = "DP-SGD classifier"

_FIGURES = {
    "mnist": {
        10.0: (
            _three(_SINKHORN, 82.8, 82.7, 83.2, 48.4),
            _three(_RERUN, 77.6, 77.0, 79.6, 78.0),
            _three(_DPDM, 90.8, 94.8, 98.1, 5.0),
            _bench("FETA-Pro", 98.6, 2.5),
            Published(_DP_SGD, DIRECT, accuracy=96.4),
        ),
        1.0: (
            _three(_RERUN, 66.9, 61.5, 61.9),
            _three(_PEARL, 76.0, 79.6, 78.2),
            _three(_DPDM, 86.7, 91.6, 95.3),
            _bench("FETA-Pro", 97.2),
            Published(_DP_SGD, DIRECT, accuracy=88.2),
        ),
        0.2: (
            _three(_RERUN, 58.7, 56.6, 48.8),
            _three(_PEARL, 76.2, 77.1, 77.6),
            _three(_DPDM, 81.0, 81.7, 86.3),
            Published(_DP_SGD, DIRECT, accuracy=69.9),
        ),
    },
    "fashion_mnist": {
        10.0: (
            _three(_SINKHORN, 75.1, 74.6, 71.1, 128.0),
            _three(_RERUN, 71.2, 69.4, 65.4),
            _three(_DPDM, 81.1, 83.0, 86.2, 18.6),
            _bench("FETA-Pro", 88.3, 11.9),
            Published(_DP_SGD, DIRECT_CNN, accuracy=77.1),
        ),
        1.0: (
            _three(_RERUN, 62.6, 58.0, 56.3),
            Published(_DPDM, cnn=79.4),
            _bench("FETA-Pro", 83.0),
            Published(_DP_SGD, DIRECT_CNN, accuracy=70.5),
        ),
        0.2: (
            _three(_RERUN, 50.6, 45.9, 44.3),
            Published(_DPDM, cnn=72.3),
            _bench("DP-FETA", 73.4),
            Published(_DP_SGD, DIRECT_CNN, accuracy=59.5),
        ),
    },
    "cifar10": {
        10.0: (
            _bench("DP-FETA", 43.3),
            _bench("DP-FETA, larger network", 50.6),
            _bench(_DPDM, 36.8),
            _bench("DP-GAN", 30.5),
            _bench("DP-MERF", 29.0),
        ),
        1.0: (_bench("DP-FETA", 35.1), _bench(_DPDM, 28.9), _bench("DP-MERF", 27.2)),
    },
    "celeb_a": {
        10.0: (
            Published(f"{_SINKHORN} (delta 1e-6)", mlp=76.2, cnn=75.8, fid=189.0),
            _bench("DP-FETA", 94.2, 24.8),
            _bench(_DPDM, 91.8),
        ),
        1.0: (_bench("FETA-Pro", 90.0), _bench("DP-FETA", 82.3)),
    },
}


def benchmark_name(spec, label):
    """Returns the name of the published benchmark that a run's data are, or None.

    Args:
      spec: the run's DatasetSpec; a version behind a tfds name ("mnist:3.0.1") does not matter.
      label: the run's --label; CelebA's figures are of 32x32 images with the class Male.
    """
    name = spec.name.split(":")[0]
    if name == "celeb_a":
        is_benchmark = spec.image_shape[:2] == (32, 32) and str(label).split("/")[-1] == "Male"
        return name if is_benchmark else None
    shapes = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
    return name if shapes.get(name) == spec.image_shape else None


def nearest(name, epsilon):
    """Returns (published epsilon, its tuple of Published) nearest to `epsilon` in ratio.

    Args:
      name: from `benchmark_name`; None has no figures.
      epsilon: > 0; infinity is nearest to the largest.

    Returns:
      (None, ()) where nothing is published.
    """
    by_epsilon = _FIGURES.get(name)
    if not by_epsilon:
        return None, ()
    wanted = math.log(min(max(epsilon, 1e-9), 1e9))
    chosen = min(by_epsilon, key=lambda published: abs(math.log(published) - wanted))
    return chosen, by_epsilon[chosen]
