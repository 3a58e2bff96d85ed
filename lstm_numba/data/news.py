"""Find or download the news queries and word vectors of the original program.

X. Yuan, recurrent-net-lstm (2015), folder ``dataset``, MIT licence. They are not shipped with this package. They come
from the folder that ``LSTM_NUMBA_DATA`` names, else from the cache, else from the original's public repository.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import DTypeLike

from .readers import file_error, read_tagged
from .sentences import TaggedSentence
from .word_vectors import WordVectors, read_word_vectors

VARIABLE = "LSTM_NUMBA_DATA"
BASE_URL = (
    "https://raw.githubusercontent.com/xingdi-eric-yuan/recurrent-net-lstm/"
    "8b47f7b8dc1b8fa139c624e2cc636a00dc87cac4/dataset/"
)
QUERIES = "news_tagged_data.txt"
VECTORS = "wordvecs.txt"
SHA256 = {
    QUERIES: "385c9326fcdef10da6e0b28a445b3c8462e93cc207f40ee41f37641b060e1982",
    VECTORS: "3a5484af7125aef4056762e25269c7999cc696deb5101d3940f628b97f4c32e4",
}
# Seconds to wait for a connection and for data, so that a machine without network fails soon.
TIMEOUT = (3.0, 15.0)


class DownloadError(OSError):
    """The data is not here and could not be downloaded; the message says what to do."""


def load_news(*, download: bool = True, cache_dir: str | os.PathLike[str] | None = None) -> list[TaggedSentence]:
    """The original's 1000 news queries, 11,100 words with nine labels.

    The labels are O and B-, I- of NEWSTYPE, KEYWORDS, SECTION and PROVIDER.

    Parameters
    ----------
    download : bool
        Whether to download the file if it isn't found.
    cache_dir : path, optional
        The cache; by default the user's cache folder for ``lstm_numba``.

    Returns
    -------
    list of TaggedSentence

    Raises
    ------
    DownloadError
        If the file is not here and can't be downloaded, or the downloaded file has a wrong SHA-256 (it is not kept).
    DataError
        If the file in the folder that LSTM_NUMBA_DATA names has a wrong SHA-256.
    """
    with _located(QUERIES, download, cache_dir) as path:
        return read_tagged(path)


def load_news_vectors(
    dtype: DTypeLike = np.float32,
    *,
    download: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
) -> WordVectors:
    """The original's word vectors for the news queries: 930 words, 300 numbers each, of unit norm.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    download, cache_dir
        As in `load_news`, with the same errors.

    Returns
    -------
    WordVectors
    """
    with _located(VECTORS, download, cache_dir) as path:
        return read_word_vectors(path, dtype)


def news_available(cache_dir: str | os.PathLike[str] | None = None) -> bool:
    """Return whether `load_news` and `load_news_vectors` will both find their files without network.

    A file with a wrong SHA-256 counts as absent.
    """
    return all(_intact_copy(name, _cache_folder(cache_dir)) is not None for name in SHA256)


@contextmanager
def _located(name: str, download: bool, cache_dir: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Provide the path of an intact copy as long as the context lasts."""
    given = _given_file(name)
    if given is not None and _sha256(given) != SHA256[name]:
        message = f"not the original's file: its SHA-256 is {_sha256(given)}, expected {SHA256[name]}"
        raise file_error(given, None, f"{message}; replace it or unset {VARIABLE}")
    cache = _cache_folder(cache_dir)
    path = _intact_copy(name, cache)
    if path is not None:
        yield path
    elif not download:
        raise DownloadError(f"{name} is not here ({_looked(cache)}) and download=False. {_advice(name)}")
    elif cache is not None and _can_write(cache):
        yield _download(name, cache)
    else:  # no place to keep it: use it, then drop it
        with tempfile.TemporaryDirectory() as folder:
            yield _download(name, Path(folder))


def _given_file(name: str) -> Path | None:
    folder = os.environ.get(VARIABLE)
    path = Path(folder, name) if folder else None
    return path if path is not None and path.is_file() else None


def _intact_copy(name: str, cache: Path | None) -> Path | None:
    """Return the file to use without network: that of the given folder, else that of the cache."""
    path = _given_file(name) or (cache / name if cache is not None else None)
    if path is None or not path.is_file() or _sha256(path) != SHA256[name]:
        return None
    return path


def _cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path | None:
    if cache_dir is not None:
        return Path(cache_dir)
    try:
        return Path(_pooch().os_cache("lstm_numba"))
    except DownloadError:
        return None


def _pooch() -> Any:
    try:
        return importlib.import_module("pooch")
    except ImportError:
        raise DownloadError("downloading needs the package pooch, which is not installed") from None


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _download(name: str, folder: Path) -> Path:
    """Download into the folder; pooch moves the file to its place only if its SHA-256 is right."""
    url = BASE_URL + name
    try:
        pooch = _pooch()
        downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
        with _quiet(pooch.get_logger()):
            found = pooch.retrieve(url, f"sha256:{SHA256[name]}", fname=name, path=folder, downloader=downloader)
        return Path(found)
    except DownloadError as error:
        reason = str(error)
    except ValueError:  # pooch's answer to a wrong hash
        reason = "what arrived is not the original's file, its SHA-256 is another"
    except OSError as error:  # as requests' errors are
        reason = _reason(error, url)
    raise DownloadError(f"{name} is not here ({_looked(None)}) and can't be downloaded: {reason}. {_advice(name)}")


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Suppress the notice of a download that the caller asked for."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _reason(error: OSError, url: str) -> str:
    """Return the reason of a failure in a few words; the message of requests is a page of nested errors."""
    kind = type(error).__name__
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return f"no answer from {urlsplit(url).netloc} in time"
    if "ConnectionError" in kind or "ProxyError" in kind or "SSLError" in kind:
        return f"no connection to {urlsplit(url).netloc} ({kind})"
    return f"{kind}: {error!s:.120}"


def _looked(cache: Path | None) -> str:
    folder = os.environ.get(VARIABLE)
    given = f"{VARIABLE} is not set" if not folder else f"not in {folder}, which {VARIABLE} names"
    return given if cache is None else f"{given}; not in the cache {cache}"


def _advice(name: str) -> str:
    return (
        f"Get {BASE_URL}{name} by other means, put it in a folder and set the environment variable {VARIABLE}"
        " to that folder; or use generate_news(), which needs no network."
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
