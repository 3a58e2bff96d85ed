"""The backward pass through time as an animation, in which derivatives travel from the last step to the first."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FixedLocator
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks
from lstm_numba.plots._base import (
    BELOW,
    MAGNITUDE,
    NOT_FINITE,
    WIDTH,
    FloatArray,
    check_norms,
    check_words,
    draw_arrow,
    fits,
    ink,
    numbered_steps,
    style,
    word_size,
)
from lstm_numba.plots._curves import curve_look, draw_curve, edge_key, log_limits
from lstm_numba.plots._scales import Scale, log_labels, log_ticks, magnitude_scale
from lstm_numba.plots.output import alt_text

__all__ = [
    "backward_animation",
    "backward_step",
]

_RADIUS = 0.36  # of a node; columns are 1 apart
_ROW = 1.5  # distance of the rows
_LEFT, _RIGHT = 1.8, 0.15  # inches beside the nodes
_GIF_DPI = 100


def backward_step(
    epsilons: Mapping[str, ArrayLike],
    step: int = 1,
    *,
    words: Sequence[object] | None = None,
    reference: float | None = None,
    ylabel: str = "norm of the derivative",
    title: str | None = "Backward pass",
) -> Figure:
    """Draw the backward pass at one step: computed derivatives are coloured, the rest is white.

    The upper part has a row of nodes for each series of derivatives. The lower part shows the same numbers as curves on
    a log scale; a strip beside the curves shows the node's colour for each height.

    Parameters
    ----------
    epsilons : mapping of name to array_like, shape (T,)
        Norms, such as ‖ε_hᵗ‖ = ‖∂L/∂hᵗ‖ for t = 1 ... T; all of the same length.
    step : int
        The step, 1 ... T, that the pass has just computed; T + 1 before it begins.
    words : sequence of T words, optional
        Labels of the steps; 1 ... T by default.
    reference : float, optional
        Value of a dotted line for comparison.
    ylabel, title : str, optional

    Returns
    -------
    Figure

    Raises
    ------
    TypeError, ValueError
        No series, values that are not norms, lengths that differ, a step outside 1 ... T + 1.
    """
    figure, draw = _stage(epsilons, words, reference, ylabel)
    steps = len(np.asarray(next(iter(epsilons.values()))))
    if isinstance(step, bool | np.bool_) or not isinstance(step, int | np.integer):
        raise TypeError(f"step: expected a whole number from 1 to {steps + 1}, got {step!r}")
    if not 1 <= step <= steps + 1:
        raise ValueError(f"step: expected 1 to {steps + 1}, got {step}")
    with style():
        draw(int(step), title)
    return figure


def backward_animation(
    epsilons: Mapping[str, ArrayLike],
    *,
    alt: str,
    words: Sequence[object] | None = None,
    reference: float | None = None,
    ylabel: str = "norm of the derivative",
    title: str | None = "Backward pass",
    seconds: float = 0.3,
    pause: float = 3.0,
) -> bytes:
    """Return the backward pass as an animated GIF, one picture per step from T to 1, with the same bytes on every run.

    Parameters
    ----------
    epsilons, words, reference, ylabel, title
        As in :func:`backward_step`.
    alt : str
        A description for readers who can't see the animation; it is stored as the file's comment.
    seconds, pause : float
        How long to show each step, and the last one.

    Returns
    -------
    bytes
        A GIF that repeats forever.

    Raises
    ------
    TypeError, ValueError
        As in :func:`backward_step`; also for an empty alt text, or times below 0.02 seconds.

    Examples
    --------
    >>> gif = backward_animation({"net": [0.1, 0.3, 1.0]}, alt="A derivative shrinks on its way back.")
    >>> gif[:6]
    b'GIF89a'
    """
    text = alt_text(alt)
    for name, value in (("seconds", seconds), ("pause", pause)):
        if not (np.isfinite(value) and value >= 0.02):
            raise ValueError(f"{name}: expected at least 0.02 seconds, got {value!r}")
    figure, draw = _stage(epsilons, words, reference, ylabel)
    steps = len(np.asarray(next(iter(epsilons.values()))))
    pictures = []
    with style():
        canvas = FigureCanvasAgg(figure)
        for step in range(steps + 1, 0, -1):
            draw(step, title)
            canvas.draw()
            pictures.append(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())
    return _gif(pictures, [seconds] * steps + [pause], text)


def _gif(pictures: Sequence[NDArray[np.uint8]], seconds: Sequence[float], comment: str) -> bytes:
    """Return pictures (height, width, 3) as a GIF in their 255 most frequent colours, which keeps plain areas exact."""
    from PIL import Image

    packed: NDArray[np.int64] = np.stack(pictures).astype(np.int64) @ np.array([65536, 256, 1], np.int64)
    colours, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    palette = parts[np.argsort(-counts, kind="stable")[:255]]
    nearest = np.concatenate([_nearest(part, palette) for part in np.array_split(parts, 1 + len(parts) // 1000)])
    frames = []
    for indices in nearest[places].reshape(packed.shape).astype(np.uint8):
        frames.append(Image.fromarray(indices))
        frames[-1].putpalette(palette.astype(np.uint8).tobytes())  # which makes it a picture with a palette
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[round(1000 * each) for each in seconds],
        loop=0,
        disposal=1,
        optimize=False,
        comment=comment.encode("utf-8"),
    )
    return buffer.getvalue()


def _nearest(colours: NDArray[np.int64], palette: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each colour the index of the most similar one in the palette."""
    return np.square(colours[:, None] - palette).sum(axis=2).argmin(axis=1)


def _stage(
    epsilons: Mapping[str, ArrayLike], words: Sequence[object] | None, reference: float | None, ylabel: str
) -> tuple[Figure, Callable[[int, str | None], None]]:
    """Return an empty figure of the right size, and a function that draws one step into it."""
    if not isinstance(epsilons, Mapping):
        raise TypeError(f"epsilons: expected a mapping of name to norms, got {type(epsilons).__name__}")
    if not epsilons:
        raise ValueError("epsilons: expected at least one series, got an empty mapping")
    series = {str(name): check_norms(f"epsilons[{name!r}]", each, (1,)) for name, each in epsilons.items()}
    steps = len(next(iter(series.values())))
    for name, values in series.items():
        if len(values) != steps:
            raise ValueError(f"epsilons[{name!r}]: expected {steps} steps as the first series, got {len(values)}")
    texts = check_words("words", words, steps)
    reference = None if reference is None else _checks.number("reference", reference)
    scale = magnitude_scale(np.concatenate(list(series.values())), True, None, None)
    each = (WIDTH - _LEFT - _RIGHT) / steps
    with style():
        turned = texts is not None and not fits(texts, each)
        margin = 0.62 + (0.1 * max(map(len, texts or [""])) if turned else 0.0)
        rows = len(series) * _ROW * min(each, 0.5)
        height = 0.55 + rows + 0.35 + 2.2 + margin
        figure = Figure(figsize=(WIDTH, height), facecolor=mpl.rcParams["figure.facecolor"])
    x, w = _LEFT / WIDTH, (WIDTH - _LEFT - _RIGHT) / WIDTH
    nodes_at = (x, (margin + 2.55) / height, w, rows / height)
    curves_at = (x, margin / height, w, 2.2 / height)

    def draw(step: int, title: str | None) -> None:
        figure.clear()
        nodes, curves = figure.add_axes(nodes_at), figure.add_axes(curves_at)
        for row, (name, values) in enumerate(series.items()):
            _draw_nodes(nodes, name, values, _ROW * (len(series) - 1 - row), step, scale, row)
        nodes.set(xlim=(0.5, steps + 0.5), ylim=(-_ROW / 2, _ROW * (len(series) - 0.5)))
        nodes.set_aspect("equal", anchor="W")
        nodes.set_axis_off()
        _draw_curves(curves, series, step, reference, ylabel)
        _label_steps(curves, texts, steps, each)
        _colour_strip(curves, scale)
        if title:
            now = f"{title}: begins at the last step" if step > steps else f"{title}: step $t$ = {step}"
            figure.text(0.5, 1 - 0.16 / height, now, ha="center", va="top", size=mpl.rcParams["axes.titlesize"])

    return figure, draw


def _draw_nodes(ax: Axes, name: str, values: FloatArray, row: float, step: int, scale: Scale, number: int) -> None:
    """Draw one row: nodes from the last to ``step`` in the colours of their values, and an arrow to the latest one."""
    colours = ScalarMappable(scale.norm(), MAGNITUDE)
    below, not_finite = scale.masks(values)
    for t in range(1, len(values) + 1):
        look: dict[str, Any] = {"facecolor": "white", "edgecolor": "#9a9a9a", "linewidth": 0.9}
        if t >= step:
            look = {"facecolor": colours.to_rgba(np.array([values[t - 1]]))[0], "edgecolor": ink(), "linewidth": 0.9}
            if below[t - 1] or not_finite[t - 1]:
                face, hatch, edge = NOT_FINITE if not_finite[t - 1] else BELOW
                look = {"facecolor": face, "hatch": hatch, "edgecolor": edge, "linewidth": 0.9}
        if t == step:
            look["linewidth"] = 2.6
        ax.add_patch(Circle((t, row), _RADIUS, zorder=3, **look))
        if t < len(values):
            known = t >= step
            colour = ink() if known else "#c9c9c9"
            draw_arrow(ax, (t + 1, row), (t, row), _RADIUS + 0.02, head_size=5.0, linewidth=0.9, color=colour)
    look = curve_look(number, len(values))
    ax.text(0.35, row, name, ha="right", va="center", color=look["color"], linespacing=1.0)


def _draw_curves(ax: Axes, series: Mapping[str, FloatArray], step: int, reference: float | None, ylabel: str) -> None:
    """Draw the computed numbers as curves, on axes that stay the same from step to step."""
    ax.set_yscale("log")
    steps = len(next(iter(series.values())))
    every = [*series.values(), *([] if reference is None else [np.array([reference])])]
    log_limits(ax, every)
    low, high = ax.get_ylim()
    ticks = log_ticks(low, high)
    ax.set_yticks(ticks, log_labels(ticks))
    ax.minorticks_off()
    ax.set(xlim=(0.5, steps + 0.5), ylabel=ylabel, xlabel="time step $t$  (the pass goes from right to left)")
    if reference is not None:
        ax.axhline(reference, color=ink(), linewidth=1.0, linestyle=":")
    for number, (name, values) in enumerate(series.items()):
        if step <= steps:
            at = np.arange(step, steps + 1, dtype=float)
            look = curve_look(number, steps)
            draw_curve(ax, at, values[step - 1 :], gid=name, **(look | {"markevery": [0]}))  # a marker at this step
    edge_key(ax)


def _colour_strip(ax: Axes, scale: Scale) -> None:
    """Draw the colour of every value on the curves' axis, at the right edge."""
    edges = np.geomspace(scale.low, scale.high, 65)
    middles = np.sqrt(edges[1:] * edges[:-1])
    strip = ax.inset_axes((1.005, 0.0, 0.02, 1.0), sharey=ax)
    strip.pcolormesh([0.0, 1.0], edges, middles[:, None], norm=scale.norm(), cmap=MAGNITUDE)
    strip.set_axis_off()


def _label_steps(ax: Axes, words: list[str] | None, steps: int, each: float) -> None:
    if words is None:
        ax.xaxis.set_major_locator(FixedLocator(numbered_steps(steps)))
        return
    ax.set_xticks(range(1, steps + 1), words, parse_math=False)
    if not fits(words, each):
        ax.tick_params(axis="x", rotation=90, labelsize=word_size(each))
