"""The privacy audit: what an attacker finds in the samples, and in the mechanism itself."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.auditing.start import audit as audit
else:
    __getattr__, __dir__, __all__ = _face(__name__)
