"""Write figures to files and show them in notebooks, always with alternative text and the same bytes on every run."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstm_numba._files import write_whole
from lstm_numba.plots._base import STYLE, check_choice, check_sequence, style

__all__ = [
    "save",
    "show",
]

NOTEBOOK_DPI = 144  # one and a half pixels for each that a notebook gives a figure's inch, for finer screens
_QUICK_DPI, _LAYOUT_DPI = 110, 100


def save(
    figure: Figure,
    path_stem: str | os.PathLike[str],
    *,
    alt: str,
    formats: Sequence[str] = ("svg", "png"),
    title: str | None = None,
) -> list[Path]:
    """Write a figure with its alternative text, with the same bytes on every run.

    The SVG stores the text as ``<title>`` and ``<desc>``, with type as outlines; the PNG stores it as its
    description, the PDF as its subject. All formats are drawn before the first file is touched, and each file is
    written whole or not at all.

    Parameters
    ----------
    figure : Figure
    path_stem : path
        File name without its suffix, in an existing folder.
    alt : str
        A description for readers who can't see the figure.
    formats : sequence of {"svg", "png", "pdf"}
    title : str, optional
        Short title of the SVG; by default that of the figure or its first titled axes, else the file's name.

    Returns
    -------
    list of Path
        The files, in the order of ``formats``.

    Raises
    ------
    TypeError, ValueError
        An empty alt text, an unknown format.
    FileNotFoundError
        The folder does not exist.
    """
    if not isinstance(figure, Figure):
        raise TypeError(f"figure: expected a matplotlib Figure, got {type(figure).__name__}")
    text = alt_text(alt)
    if isinstance(formats, str):
        raise TypeError(f"formats: expected a sequence such as ('svg', 'png'), got the str {formats!r}")
    for form in check_sequence("formats", formats, "a sequence such as ('svg', 'png')"):
        check_choice("formats", form, ("svg", "png", "pdf"))
    if not isinstance(path_stem, str | os.PathLike):
        raise TypeError(f"path_stem: expected a path, got {type(path_stem).__name__}")
    stem = Path(path_stem)
    if not stem.parent.is_dir():
        raise FileNotFoundError(f"path_stem: expected an existing folder, got {stem.parent}")
    name = " ".join((title or _figure_title(figure) or stem.name).split())
    pictures = _pictures(figure, formats, name, text, STYLE["savefig.dpi"])
    targets = [stem.with_name(f"{stem.name}.{form}") for form in formats]
    for target, picture in zip(targets, pictures, strict=True):
        write_whole(target, picture)
    return targets


def show(ax_or_figure: Axes | Figure, alt: str) -> None:
    """Show a figure in a notebook with its alternative text, and close it.

    The output holds one PNG twice, with the same bytes on every run: as an HTML image with its ``alt``, which pages
    show, and as ``image/png``, which goes into LaTeX and PDF. The second alone would do, but JupyterLab shows it
    without the text.

    Parameters
    ----------
    ax_or_figure : Axes or Figure
        The result of a function of this package, or a figure of your own; for axes their whole figure is
        shown.
    alt : str
        A description for readers who can't see the figure.

    Raises
    ------
    TypeError, ValueError
        If the argument is neither axes nor a figure, or the alt text is empty.
    ImportError
        If IPython is not installed, so that this can't be a notebook.

    Examples
    --------
    >>> show(memory_block(), alt="Diagram of the memory block of an LSTM.")  # doctest: +SKIP
    """
    if not isinstance(ax_or_figure, Axes | Figure):
        raise TypeError(f"ax_or_figure: expected matplotlib Axes or a Figure, got {type(ax_or_figure).__name__}")
    text = alt_text(alt)
    try:
        from IPython.display import display
    except ImportError as error:
        raise ImportError("plots.show needs IPython, which every notebook has; plots.save writes files") from error
    figure = ax_or_figure if isinstance(ax_or_figure, Figure) else ax_or_figure.figure.figure
    try:
        (large,) = _pictures(figure, ("png",), _figure_title(figure) or "figure", text, NOTEBOOK_DPI)
        png = _smaller(large)
        data = {"text/html": _tag(figure, text, png), "image/png": _base64(png), "text/plain": text}
        display(data, metadata={"image/png": {"alt": text, "width": _width(figure)}}, raw=True)
    finally:
        plt.close(figure)


def quick_image(figure: Figure, alt: str) -> str:
    """Return the figure as an HTML image, drawn once and coarser, for a picture that follows a slider."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_QUICK_DPI, pil_kwargs={"compress_level": 1})
    return _tag(figure, alt_text(alt), buffer.getvalue())


def _tag(figure: Figure, alt: str, png: bytes) -> str:
    return f'<img alt="{in_attribute(alt)}" width="{_width(figure)}" src="data:image/png;base64,{_base64(png)}">'


def _width(figure: Figure) -> int:
    """Return the width on the page, in pixels, that makes the figure as large as on paper."""
    return round(96 * figure.get_figwidth())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _smaller(png: bytes) -> bytes:
    """The same picture with at most 256 colours, none off by what an eye can see: about a third of the bytes."""
    from PIL import Image  # which matplotlib brings along

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def in_attribute(text: str) -> str:
    """Return text as it is written between double quotes in HTML and SVG, where an apostrophe stays as it is."""
    return escape(text, {'"': "&quot;"})


def alt_text(alt: str) -> str:
    if not isinstance(alt, str):
        raise TypeError(f"alt: expected a str, got {type(alt).__name__}")
    text = " ".join(alt.split())
    if not text:
        raise ValueError("alt: expected a description of the figure, got an empty text")
    if re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", text):
        raise ValueError(f"alt: expected text without control characters, got {alt!r}")
    return text


def _figure_title(figure: Figure) -> str:
    return figure.get_suptitle() or next((ax.get_title() for ax in figure.axes if ax.get_title()), "")


def _pictures(figure: Figure, formats: Sequence[str], title: str, alt: str, dpi: int) -> list[bytes]:
    """Return the figure in each format; the layout is settled once, so the order of formats doesn't matter."""
    engine = figure.get_layout_engine()
    same: dict[Any, Any] = {"svg.hashsalt": "lstm_numba", "svg.fonttype": "path", "savefig.bbox": None}
    same["savefig.dpi"] = dpi
    with style(), mpl.rc_context(same):
        try:
            if engine is not None:
                _settle(figure)
            figure.set_layout_engine("none")
            _round_places(figure)
            return [_picture(figure, form, title, alt) for form in formats]
        finally:
            figure.set_layout_engine(engine)


def _settle(figure: Figure) -> None:
    """Draw until the layout stops changing: each drawing starts from the positions that the last one found."""
    places, dpi = np.zeros(0), figure.dpi
    figure.set_dpi(_LAYOUT_DPI)
    try:
        for _ in range(20):
            before = places
            figure.draw_without_rendering()
            places = np.array([ax.get_position().bounds for ax in figure.axes]).ravel()
            if places.shape == before.shape and np.allclose(places, before, rtol=0, atol=1e-10):
                return
    finally:
        figure.set_dpi(dpi)


def _round_places(figure: Figure) -> None:
    """Round the positions, whose last bits differ from drawing to drawing and would get into SVG ids."""
    for ax in figure.axes:
        counts = ax.get_in_layout()
        ax.set_position(tuple(np.round(ax.get_position(original=True).bounds, 6)))
        ax.set_in_layout(counts)  # set_position takes the axes out of later layouts


def _picture(figure: Figure, form: str, title: str, alt: str) -> bytes:
    buffer = io.BytesIO()
    if form == "png":
        figure.savefig(buffer, format="png", metadata={"Software": None, "Title": title, "Description": alt})
        return buffer.getvalue()
    if form == "pdf":
        nothing = {"Creator": None, "Producer": None, "CreationDate": None}  # which differ from run to run
        figure.savefig(buffer, format="pdf", metadata={"Title": title, "Subject": alt} | nothing)
        return buffer.getvalue()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _described(buffer.getvalue().decode("utf-8"), title, alt).encode("utf-8")


def _described(svg: str, title: str, alt: str) -> str:
    """Put title and alternative text first in an SVG, where screen readers look for them."""
    words = f"\n <title>{escape(title)}</title>\n <desc>{escape(alt)}</desc>"
    label = in_attribute(alt)
    return re.sub(
        r"<svg\b([^>]*)>",
        lambda found: f'<svg role="img" aria-label="{label}"{found[1]}>{words}',
        svg,
        count=1,
    )
