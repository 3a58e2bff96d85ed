"""Properties of every letter of a text that follow from simple rules, such as its column, or whether it is quoted.

Each function returns one value per letter, the value *after* that letter was read, as known to a reader who has read up
to this letter. A model that reads letter by letter can be compared with these values.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

__all__ = ["column", "distinct_paragraphs", "indentation", "inside_parentheses", "inside_quotes"]


def _checked(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text: expected a str, got {type(text).__name__}")
    return text


def distinct_paragraphs(text: str) -> str:
    """Return the text with repeated paragraphs left out.

    Paragraphs are separated by blank lines. A text that repeats itself, as a manual does, would otherwise put the same
    paragraphs into the training part and into the test part.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        The remaining paragraphs in their order, separated by one blank line.

    Raises
    ------
    TypeError
        If `text` is not a str.
    """
    paragraphs = re.split(r"\n(?:[ \t]*\n)+", _checked(text).strip("\n"))
    return "\n\n".join(dict.fromkeys(paragraphs))


def column(text: str) -> NDArray[np.int64]:
    """Number of letters read since the line began, including this one; 0 at the line's end.

    Raises
    ------
    TypeError
        If `text` is not a str.
    """
    lengths = [len(line) + 1 for line in _checked(text).split("\n")]
    steps = np.arange(1, sum(lengths) + 1)
    starts = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    counted = steps - starts
    return np.where(counted == np.repeat(lengths, lengths), 0, counted)[: len(text)]


def indentation(text: str) -> NDArray[np.int64]:
    """Number of spaces read at the beginning of the line; 0 at the line's end.

    In a line that begins with four spaces it is 1, 2, 3, 4 over these and 4 to the end.

    Raises
    ------
    TypeError
        If `text` is not a str.
    """
    spaces, still, result = 0, True, np.zeros(len(_checked(text)), np.int64)
    for n, letter in enumerate(text):
        if letter == "\n":
            spaces, still = 0, True
        elif still and letter == " ":
            spaces += 1
        else:
            still = False
        result[n] = spaces
    return result


def inside_quotes(text: str, mark: str = '"') -> NDArray[np.bool_]:
    """Whether an odd number of marks has been read since the paragraph began.

    The opening mark counts as inside, the closing one as outside. A blank line ends a quotation that was never closed.

    Parameters
    ----------
    text : str
    mark : str
        The quotation mark, one letter.

    Raises
    ------
    TypeError, ValueError
        If `text` is not a str, or `mark` not one letter.
    """
    if not isinstance(mark, str) or len(mark) != 1:
        raise ValueError(f"mark: expected one letter, got {mark!r}")
    inside, before, result = False, "", np.zeros(len(_checked(text)), bool)
    for n, letter in enumerate(text):
        if letter == "\n" == before:
            inside = False
        elif letter == mark:
            inside = not inside
        result[n], before = inside, letter
    return result


def inside_parentheses(text: str, opening: str = "(", closing: str = ")") -> NDArray[np.bool_]:
    """Whether a parenthesis is open: more have been opened than closed since the paragraph began.

    A closing parenthesis without an opening one doesn't count; a blank line closes all.

    Parameters
    ----------
    text : str
    opening, closing : str
        Two different letters.

    Raises
    ------
    TypeError, ValueError
        If `text` is not a str, or `opening` and `closing` are not two different letters.
    """
    for name, letter in (("opening", opening), ("closing", closing)):
        if not isinstance(letter, str) or len(letter) != 1:
            raise ValueError(f"{name}: expected one letter, got {letter!r}")
    if opening == closing:
        raise ValueError(f"closing: expected a letter other than opening, got {closing!r} for both")
    depth, before, result = 0, "", np.zeros(len(_checked(text)), bool)
    for n, letter in enumerate(text):
        if letter == "\n" == before:
            depth = 0
        elif letter == opening:
            depth += 1
        elif letter == closing:
            depth = max(0, depth - 1)
        result[n], before = depth > 0, letter
    return result
