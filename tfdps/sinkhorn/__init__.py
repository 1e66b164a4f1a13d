"""Optimal transport: the Sinkhorn divergence, its solvers and its costs. Nothing here is private."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.sinkhorn.divergence import TransportResult as TransportResult
    from tfdps.sinkhorn.divergence import semi_debiased_loss as semi_debiased_loss
    from tfdps.sinkhorn.divergence import sinkhorn_divergence as sinkhorn_divergence
    from tfdps.sinkhorn.divergence import transport_cost as transport_cost
    from tfdps.sinkhorn.keras_loss import SinkhornDivergence as SinkhornDivergence
else:
    __getattr__, __dir__, __all__ = _face(__name__)
