"""The run: the model, its steps, its folder and its export."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.training.builders import build_model as build_model
    from tfdps.training.job import export_checkpoint as export_checkpoint
    from tfdps.training.model import DPSinkhorn as DPSinkhorn
    from tfdps.training.run_dir import RunDir as RunDir
    from tfdps.training.start import train as train
else:
    __getattr__, __dir__, __all__ = _face(__name__)
