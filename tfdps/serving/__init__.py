"""Ask a model server for images, or be the server of a page that draws them."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.serving.clients import GrpcClient as GrpcClient
    from tfdps.serving.clients import RestClient as RestClient
    from tfdps.serving.clients import ServingError as ServingError
    from tfdps.serving.demo import serve as _serve

    serve_demo = _serve
else:
    __getattr__, __dir__, __all__ = _face(__name__)
