"""A real text that comes with every Python, and a text's characters as ids."""

from __future__ import annotations

import importlib

import numpy as np
from numpy.typing import NDArray


def load_pydoc() -> str:
    """Return Python's own help as one text: ``pydoc_data.topics`` of the standard library, about 465,000 characters.

    The topics are sorted by name and separated by blank lines. The text depends on the Python version, so
    results can be compared only within one version.

    Returns
    -------
    str

    Raises
    ------
    RuntimeError
        If this Python lacks the module, as some reduced installations do.
    """
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        raise RuntimeError(
            "this Python has no text in pydoc_data.topics; any other str serves a character model as well"
        ) from None
    return "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"


def characters(text: str) -> tuple[str, NDArray[np.int64]]:
    """Return the different characters of a text, and for each place the number of its character.

    ``"".join(alphabet[k] for k in ids) == text``.

    Parameters
    ----------
    text : str
        n characters, at least one.

    Returns
    -------
    alphabet : str
        The different characters in sorted order.
    ids : ndarray of int64, (n,)

    Raises
    ------
    ValueError
        If the text is empty.
    TypeError
        If it is not a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected a str, got {type(text).__name__}")
    if not text:
        raise ValueError("text: expected at least one character, got ''")
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    different, ids = np.unique(points, return_inverse=True)
    return "".join(map(chr, different.tolist())), ids.astype(np.int64)
