"""Images out of an artefact."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.samplers.base import Sampler as Sampler
    from tfdps.samplers.loading import load_sampler as load_sampler
    from tfdps.samplers.onnx_sampler import OnnxSampler as OnnxSampler
    from tfdps.samplers.saved_model_sampler import SavedModelSampler as SavedModelSampler
    from tfdps.samplers.writers import open_benchmark_writer as open_benchmark_writer
    from tfdps.samplers.writers import open_writer as open_writer
else:
    __getattr__, __dir__, __all__ = _face(__name__)
