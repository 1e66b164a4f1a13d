"""Finds a prepared tensorflow_datasets set, or downloads and prepares it, quietly."""

import contextlib
import difflib
import io
import logging
import os
import pathlib
import shutil
import socket
import urllib.parse
import urllib.request

from tfdps import checks, console
from tfdps.data import names

PROBE_SECS = 5.0


def import_tfds():
    """Returns the tensorflow_datasets module, without its progress bars."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    return tfds


@contextlib.contextmanager
def quiet():
    """Keeps what tfds and its downloads print and log below an error off the screen."""
    loggers = console.quiet("absl", "tensorflow", "urllib3")
    with loggers, contextlib.redirect_stdout(io.StringIO()):
        yield


def find(name, data_dir):
    """Returns the tfds builder of `name`, prepared or not; raises UsageError for an unknown one."""
    tfds = import_tfds()
    data_dir = data_dir and os.path.abspath(os.path.expanduser(data_dir))
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        close = difflib.get_close_matches(name.lower(), known) or ["mnist", "cifar10", "celeb_a"]
        raise checks.UsageError(
            f"dataset must be a tfds name (such as {', '.join(close)}), folder:PATH or digits; "
            f"received {name!r}.{names.hint(name)}"
        ) from error
    except Exception as error:  # a builder's own code: a bad config, version or argument
        raise checks.UsageError(f"tfds cannot build {name!r}: {_brief(error)}") from error


def root_of(builder):
    """Returns the data_dir a builder looks in: its folder less name, configuration and version."""
    folder = pathlib.Path(builder.data_path)
    return folder.parents[builder.info.full_name.count("/")].absolute()


def _brief(error):
    lines = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}"
    return text if len(text) <= 250 else text[:247] + "..."


def prepare(builder, name):
    """Downloads and prepares a set; raises one UsageError that says why it could not."""
    root = root_of(builder)
    try:
        fetched = [root / "downloads" / builder.name, root / "downloads" / "manual"]
        if not any(list(folder.glob("*")) for folder in fetched):  # else no network may be needed
            _probe_network(builder.url_infos or {})
        logging.getLogger(__name__).warning("Downloading and preparing %s in %s.", name, root)
        with _no_litter(builder):
            builder.download_and_prepare()
    except Exception as error:  # whatever a set's own code and the network may raise
        raise checks.UsageError(
            f"{name} is not prepared in {root}, and could not be downloaded: {_brief(error)}\n"
            "Give the folder that has it with --data_dir=..., or prepare it on a machine with "
            f"network, with python -c 'import tensorflow_datasets as t; t.load(\"{name}\")', and "
            "copy its folder."
        ) from error


def _probe_network(urls):
    """Raises OSError when no host of the set answers: tfds alone would retry for minutes."""
    if urllib.request.getproxies():
        return  # only the proxy needs to answer, and it is tfds that knows how to ask
    hosts = {urllib.parse.urlsplit(url).hostname for url in urls} - {None}
    hosts.add("storage.googleapis.com")  # tfds's own copies
    error = None
    for host in sorted(hosts):
        try:
            socket.create_connection((host, 443), timeout=PROBE_SECS).close()
            return
        except OSError as failure:
            error = failure
    raise OSError(f"no network: {', '.join(sorted(hosts))}: {error}")


@contextlib.contextmanager
def _no_litter(builder):
    """Removes what a failed preparation leaves: part files and the folders made for them.

    Whole downloads stay, and so does all that was there before. A folder that was made goes only
    if it is empty, since another process may have prepared a set in it meanwhile.
    """
    root = root_of(builder)
    downloads, config = root / "downloads", root / builder.name / ".config"
    folders = [downloads / builder.name, downloads / "extracted", downloads]
    folders += pathlib.Path(builder.data_path).parents
    made = [folder for folder in folders if not folder.exists()]
    before = {config} if config.exists() else set()
    before.update(downloads.glob(f"{builder.name}/*.tmp.*"))
    try:
        yield
    except BaseException:
        for part in {config, *downloads.glob(f"{builder.name}/*.tmp.*")} - before:
            shutil.rmtree(part, ignore_errors=True)
        for folder in made:  # the deepest first
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
