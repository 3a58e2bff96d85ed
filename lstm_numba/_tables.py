"""HTML tables for notebooks, for the ``_repr_html_`` of layers, traces, models and checks."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

ARRAY_HEAD = ("name", "shape", "smallest", "largest", "NaN or ∞")


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]], marked: Collection[int] = ()) -> str:
    """Return an HTML table, with all text escaped.

    Parameters
    ----------
    title
        Its caption.
    head, rows
        The names of the columns, and the rows with one value for each column.
    marked
        Numbers of rows to show in bold.
    """
    lines = [_row("th", head, "")]
    lines += [_row("td", row, ' style="font-weight: bold"' if n in marked else "") for n, row in enumerate(rows)]
    caption = f'<caption style="text-align: left; white-space: pre-line">{html.escape(title, quote=False)}</caption>'
    return f"<table>{caption}{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[object], style: str) -> str:
    return f"<tr{style}>{''.join(f'<{tag}>{html.escape(str(cell), quote=False)}</{tag}>' for cell in cells)}</tr>"


def of_arrays(title: str, arrays: Mapping[str, NDArray]) -> str:
    """Return a table of arrays: name, shape, range of the finite numbers, and how many are not finite."""
    return table(title, ARRAY_HEAD, [(name, *_about(array)) for name, array in arrays.items()])


def _about(array: NDArray) -> tuple[str, ...]:
    shape = " × ".join(map(str, array.shape))
    if array.dtype.kind not in "fiu":
        return shape, "", "", ""

    finite = array[np.isfinite(array)]
    strange = array.size - finite.size
    ends = (f"{finite.min():.4g}", f"{finite.max():.4g}") if finite.size else ("", "")
    return (shape, *ends, f"{strange:,}" if strange else "")
