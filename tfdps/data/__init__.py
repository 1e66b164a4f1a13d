"""Where records come from, and what they are before anything is computed."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.data.counting import dataset_size as dataset_size
    from tfdps.data.dataset import Dataset as Dataset
    from tfdps.data.dataset import DatasetSpec as DatasetSpec
    from tfdps.data.dataset import StreamedDataset as StreamedDataset
    from tfdps.data.loading import load as load
else:
    __getattr__, __dir__, __all__ = _face(__name__)
