"""Which records are drawn, what may leave a private batch, and nothing else."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.mechanisms.batches import PoissonBatches as PoissonBatches
    from tfdps.mechanisms.joint import JointMechanism as JointMechanism
    from tfdps.mechanisms.none import NoMechanism as NoMechanism
    from tfdps.mechanisms.per_record import PerRecordMechanism as PerRecordMechanism
    from tfdps.mechanisms.poisson import PoissonSampler as PoissonSampler
else:
    __getattr__, __dir__, __all__ = _face(__name__)
