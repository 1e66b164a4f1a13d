"""From latents to images: networks and mixtures."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.generators.denoiser import Denoiser as Denoiser
    from tfdps.generators.mixture import MixtureLayer as MixtureLayer
    from tfdps.generators.networks import build as build
    from tfdps.generators.networks import recalibrate as recalibrate
    from tfdps.generators.refinement import Refinement as Refinement
    from tfdps.generators.refinement import RefinerShape as RefinerShape
else:
    __getattr__, __dir__, __all__ = _face(__name__)
