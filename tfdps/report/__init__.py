"""The page that a person looks at after a run."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.report.page import write_report as write_report
else:
    __getattr__, __dir__, __all__ = _face(__name__)
