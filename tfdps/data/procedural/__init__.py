"""Public images that are made up on the spot, of nobody, like kinds of real ones in their detail."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.data.procedural.families import FAMILIES as FAMILIES
    from tfdps.data.procedural.families import images as images
else:
    __getattr__, __dir__, __all__ = _face(__name__)
