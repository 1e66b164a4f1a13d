"""What a run is told: its settings, its flags and their defaults."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.config.evaluation_options import EvaluationOptions as EvaluationOptions
    from tfdps.config.run_config import RunConfig as RunConfig
else:
    __getattr__, __dir__, __all__ = _face(__name__)
