"""What is shipped: how it is written, and how it is checked."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.artefacts.card import ModelCard as ModelCard
    from tfdps.artefacts.export import write_export as write_export
    from tfdps.artefacts.verification import Verdict as Verdict
    from tfdps.artefacts.verification import verify as verify
else:
    __getattr__, __dir__, __all__ = _face(__name__)
