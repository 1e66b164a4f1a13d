"""What is made of a release."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.learners.joint import ImageGradientLearner as ImageGradientLearner
    from tfdps.learners.per_record.learner import MomentLearner as MomentLearner
    from tfdps.learners.refiner.learner import RefinedLearner as RefinedLearner
else:
    __getattr__, __dir__, __all__ = _face(__name__)
