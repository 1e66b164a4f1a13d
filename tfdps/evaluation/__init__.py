"""How good the samples are: downstream accuracy and distances between distributions."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.evaluation.distances import frechet_distance as frechet_distance
    from tfdps.evaluation.distances import kernel_distance as kernel_distance
    from tfdps.evaluation.distances import precision_recall as precision_recall
    from tfdps.evaluation.start import evaluate as evaluate
else:
    __getattr__, __dir__, __all__ = _face(__name__)
