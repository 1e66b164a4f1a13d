"""Serves a page that runs a generator.onnx in the visitor's browser, from this machine alone."""

import contextlib
import functools
import gzip
import http.server
import logging
import os
import pathlib
import threading

from tfdps import checks, files
from tfdps.samplers import onnx_sampler

_logger = logging.getLogger(__name__)

_PAGE = pathlib.Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}
# The page loads nothing from anywhere else, and sends nothing anywhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def serve(path: str | os.PathLike[str], *, port: int) -> None:
    """Serves the page until interrupted.

    Args:
      path: a generator.onnx, or the export or model_dir that holds one.
      port: of 127.0.0.1; 0 for any that is free.

    Raises:
      UsageError: there is no such generator, or the port is taken.

    Examples:
      >>> from tfdps import serving
      >>> serving.serve_demo("saved_models/mnist_eps1", port=8000)  # doctest: +SKIP
    """
    with serving(path, port=port) as url:
        _logger.info(f"{url}  shows it. Images are drawn in the browser. Ctrl-C stops.")
        with contextlib.suppress(KeyboardInterrupt):
            _forever()


def _forever():
    threading.Event().wait()


@contextlib.contextmanager
def serving(path, *, port):
    """Serves the page while the block runs; yields its URL. See `serve`."""
    content = _content(path)
    try:
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", port), functools.partial(_Handler, content)
        )
    except (OSError, OverflowError) as error:
        reason = files.reason(error) if isinstance(error, OSError) else error
        raise checks.UsageError(
            f"port {port} cannot be used: {reason}. Give another --port, or --port=0 for any."
        ) from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _content(path):
    """{URL path: (media type, gzipped bytes)} of all there is: nothing else can be asked for."""
    path = onnx_sampler.onnx_path(path)
    sampler = onnx_sampler.load(path)
    found = {
        "/generator.onnx": (_TYPES[".onnx"], gzip.compress(pathlib.Path(path).read_bytes(), 1)),
        "/model_card.json": (_TYPES[".json"], gzip.compress(sampler.card.to_json().encode())),
    }
    for file in _PAGE.rglob("*"):
        name, data = "/" + file.relative_to(_PAGE).as_posix(), None
        if file.suffix == ".gz":
            name, data = name.removesuffix(".gz"), file.read_bytes()
        media_type = _TYPES.get(pathlib.PurePath(name).suffix)
        if media_type:
            found[name] = (media_type, data or gzip.compress(file.read_bytes()))
    found["/"] = found["/index.html"]
    return found


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, content, *arguments):
        self._content = content
        super().__init__(*arguments)

    def do_GET(self):  # noqa: N802
        path = self.path.split("?")[0]
        if path not in self._content:
            self.send_error(404)
            return
        media_type, data = self._content[path]
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a visitor who left
            self.wfile.write(data)

    def log_message(self, *arguments):
        """Keeps quiet: who looks is nobody's business."""
