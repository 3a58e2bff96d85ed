"""Maps of how much each output depends on each input, and the decay of this sensitivity over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator
from numpy.typing import ArrayLike

from lstm_numba.plots._base import (
    BELOW,
    DIRECTIONS,
    MAGNITUDE,
    NOT_FINITE,
    WIDTH,
    BoolArray,
    FloatArray,
    axes_or_new,
    check_choice,
    check_mapping,
    check_norms,
    check_words,
    inches_of,
    ink,
    label_margin,
    numbered_steps,
    steps_axis,
)
from lstm_numba.plots._curves import End, curve_look, draw_curve, edge_key, label_ends, log_limits, steps_of
from lstm_numba.plots._scales import flag_cells, magnitude_scale

__all__ = [
    "decay",
    "sensitivity_map",
    "vanishing_gradient",
]


def sensitivity_map(
    S: ArrayLike,
    ax: Axes | None = None,
    *,
    log: bool = True,
    direction: str = "forward",
    words: Sequence[object] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    colorbar: bool = True,
    of: str = "h",
    wrt: str = "x",
    label: str | None = None,
    title: str | None = None,
) -> Axes:
    r"""Draw a map of how much every output depends on every input: S[s, t] = ‖∂hᵗ/∂xˢ‖.

    Rows are inputs xˢ, columns are outputs hᵗ. A column shows the inputs that one output depends on; a row shows
    the outputs that one input affects.

    Parameters
    ----------
    S : array_like, shape (T, T)
        Norms, as :func:`lstm_numba.sensitivity` returns them.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    log : bool
        Colour scale logarithmic (sensitivities decay by factors) or linear from zero.
    direction : {"forward", "backward", "both"}
        The outputs that an input can reach. "forward": s ≤ t, cells with s > t stay blank; "backward": s ≥ t,
        for a layer with ``reverse=True``; "both": every cell is drawn, for a bidirectional network.
    words : sequence of T words, optional
        Labels of both axes; time steps 1 ... T by default.
    vmin, vmax : float, optional
        Ends of the colour scale, to compare maps; by default the least positive and the largest value.
    colorbar : bool
        Draw the colour bar. In any case a key names cells whose value has no colour on the scale:
        exact zeros on a log scale, values below ``vmin``, NaN and infinity.
    of, wrt : str
        Numerator and denominator of the derivative, as given to :func:`lstm_numba.sensitivity`, for the labels.
    label : str, optional
        Label of the colour bar; by default ‖∂hᵗ/∂xˢ‖ with these two names.
    title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        S that is not square, negative, or nonzero where ``direction`` rules it out; a wrong number of words;
        limits that are not positive.
    """
    derivative = _derivative(of, wrt, "t", "s")
    values = check_norms("S", S, (2,))
    steps = len(values)
    if values.shape != (steps, steps):
        raise ValueError(f"S: expected shape (T, T), got {values.shape}")
    texts = check_words("words", words, steps)
    drawn = _reachable(values, direction)
    scale = magnitude_scale(values[drawn], log, vmin, vmax)
    below, not_finite = scale.masks(values)
    side = WIDTH - (1.9 if texts is None else 1.8 + 0.1 * max(map(len, texts)))
    if ax is not None:  # words and colour bar will make these axes smaller
        side = 0.7 * min(inches_of(ax))
    height = side + 0.6 + label_margin(texts, side / steps) + (0.3 if title else 0.0)
    with axes_or_new(ax, WIDTH, height, "compressed") as ax:
        hidden = ~drawn | below | not_finite
        image = ax.imshow(np.ma.array(values, mask=hidden), cmap=MAGNITUDE, norm=scale.norm(), interpolation="none")
        flag_cells(ax, drawn & below, BELOW)
        flag_cells(ax, drawn & not_finite, NOT_FINITE)
        steps_axis(ax.xaxis, texts, steps, side / steps)
        steps_axis(ax.yaxis, texts, steps, side / steps)
        ax.set(xlabel=f"{_named(of, 't')} at step $t$", ylabel=f"{_named(wrt, 's')} at step $s$")
        if title:
            ax.set_title(title)
        if colorbar:
            scale.bar(image, ax, derivative if label is None else label)
        else:  # put the key where no cells are
            corner, anchor = _KEY_PLACES[direction]
            scale.key(ax, corner, anchor)
    return ax


_WORDS = {"h": "output", "x": "input", "c": "cell state"}


def _named(name: str, step: str) -> str:
    """Return "output $h^t$" for h; a state of another cell is called a state."""
    return f"{_WORDS.get(name, 'state')} ${_symbol(name)}^{step}$"


def _symbol(name: str) -> str:
    """Return a name in mathematical type; a name of several letters is upright."""
    return name if len(name) == 1 else rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"


def _derivative(of: str, wrt: str, t: str, s: str) -> str:
    for argument, name in (("of", of), ("wrt", wrt)):
        if not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(f"{argument}: expected the name of a state or x, got {name!r}")
    return rf"$\|\partial {_symbol(of)}^{t} / \partial {_symbol(wrt)}^{s}\|$"


_KEY_PLACES = {
    "forward": ("lower left", (0.02, 0.02)),
    "backward": ("upper right", (0.98, 0.98)),
    "both": ("upper left", (1.02, 1.0)),
}


def _reachable(S: FloatArray, direction: str) -> BoolArray:
    check_choice("direction", direction, DIRECTIONS)
    every = np.ones(S.shape, dtype=bool)
    drawn = {"forward": np.triu(every), "backward": np.tril(every), "both": every}[direction]
    wrong = np.argwhere(~drawn & (S != 0))  # NaN counts: nothing may be hidden
    if len(wrong):
        s, t = (int(n) for n in wrong[0])
        order = "s > t" if direction == "forward" else "s < t"
        raise ValueError(
            f"S: expected 0 for {order}, got {S[s, t]:g} at [{s}, {t}]; "
            'direction="backward" or "both" draws a map that is not zero there'
        )
    return drawn


def decay(
    curves: Mapping[str, ArrayLike] | ArrayLike,
    ax: Axes | None = None,
    *,
    labels: Sequence[object] | None = None,
    references: Mapping[str, ArrayLike] | None = None,
    of: str = "h",
    wrt: str = "x",
    ylabel: str | None = None,
    title: str | None = None,
) -> Axes:
    """Draw the sensitivity to the first input over time on a log scale, with one labelled curve per net.

    Parameters
    ----------
    curves : mapping of name to array_like, or array_like
        Norms ‖∂hᵗ/∂x¹‖ for t = 1 ... T. Each name has an array of shape (T,), or (n, T) for n seeds: each seed is
        drawn thin, their median thick. An array without a mapping has shape (T,) or (curves, T). Lengths may
        differ between names.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    labels : sequence of str, optional
        Names of the curves of an array without a mapping.
    references : mapping of name to array_like of shape (T,), optional
        Thin dotted lines for comparison, such as a predicted rate.
    of, wrt : str
        Numerator and denominator of the derivative, for the label of the axis: ‖∂cᵗ/∂x¹‖ with ``of="c"``.
    ylabel, title : str, optional

    Returns
    -------
    Axes

    Notes
    -----
    A step at which the sensitivity is exactly zero has a ▼ on the lower edge, one with NaN or infinity an ×
    on the upper edge. The median is NaN if a seed is NaN.

    Raises
    ------
    TypeError, ValueError
        No curves, negative values, a wrong number of labels, or labels given with a mapping.
    """
    derivative = _derivative(of, wrt, "t", "1")
    named = _named_curves(curves, labels)
    given = check_mapping("references", {} if references is None else references, "a mapping of name to norms")
    lines = {name: check_norms(f"references[{name!r}]", value, (1,)) for name, value in given.items()}
    with axes_or_new(ax, WIDTH, 4.6) as ax:
        ax.set_yscale("log")
        log_limits(ax, [*named.values(), *lines.values()])
        ends = [_draw_seeds(ax, name, seeds, n) for n, (name, seeds) in enumerate(named.items())]
        for name, line in lines.items():
            draw_curve(ax, steps_of(line), line, color=ink(), linewidth=1.2, linestyle=":", gid=name)
            ends.append((name, ink(), steps_of(line), line))
        word = _WORDS.get(wrt, f"state {wrt}")
        own = f"sensitivity to the first {word}\n{derivative}"
        ax.set(xlabel="time step $t$", ylabel=own if ylabel is None else ylabel)
        ax.xaxis.set_major_locator(FixedLocator(numbered_steps(max(len(end[2]) for end in ends))))
        if title:
            ax.set_title(title)
        edge_key(ax)
        label_ends(ax, ends)
    return ax


def vanishing_gradient(
    rnn_curve: ArrayLike,
    lstm_curve: ArrayLike,
    ax: Axes | None = None,
    *,
    title: str | None = "The vanishing gradient",
    **options: Any,
) -> Axes:
    """Draw the vanishing gradient of a simple recurrent net beside that of an LSTM.

    Parameters
    ----------
    rnn_curve, lstm_curve : array_like, shape (T,) or (n_seeds, T)
        Norms ‖∂hᵗ/∂x¹‖ for t = 1 ... T. With several seeds each is drawn thin and the median thick.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    title : str, optional
    **options
        Passed to :func:`decay` (``references``, ``of``, ``wrt``, ``ylabel``).

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        As in :func:`decay`.
    """
    curves = {
        "simple\nrecurrent net": check_norms("rnn_curve", rnn_curve, (1, 2)),
        "LSTM": check_norms("lstm_curve", lstm_curve, (1, 2)),
    }
    return decay(curves, ax, title=title, **options)


def _named_curves(
    curves: Mapping[str, ArrayLike] | ArrayLike, labels: Sequence[object] | None
) -> dict[str, FloatArray]:
    """Return curves by name, each of shape (seeds, T)."""
    if isinstance(curves, Mapping):
        if labels is not None:
            raise ValueError("labels: expected None with a mapping of curves, whose keys are the labels")
        if not curves:
            raise ValueError("curves: expected at least one curve, got an empty mapping")
        return {str(name): np.atleast_2d(check_norms(f"curves[{name!r}]", c, (1, 2))) for name, c in curves.items()}
    rows = np.atleast_2d(check_norms("curves", curves, (1, 2)))
    if labels is None:
        names = [str(n + 1) for n in range(len(rows))] if len(rows) > 1 else [""]
    else:
        check_words("labels", labels, len(rows))
        names = [str(label) for label in labels]
    if len(set(names)) < len(names):
        raise ValueError(f"labels: expected different names, got {names}")
    return {name: row[None] for name, row in zip(names, rows, strict=True)}


def _draw_seeds(ax: Axes, name: str, seeds: FloatArray, number: int) -> End:
    """Draw one net's curves: the only one, or every seed thin below their median."""
    steps, look = steps_of(seeds), curve_look(number, seeds.shape[1])
    if len(seeds) > 1:
        for seed in seeds:
            thin = {"color": look["color"], "linewidth": 0.7, "alpha": 0.45, "zorder": 1.5}
            draw_curve(ax, steps, seed, gid=f"seed of {name}", **thin)
    with np.errstate(invalid="ignore"):
        middle = np.median(seeds, axis=0)
    draw_curve(ax, steps, middle, gid=name, **look)
    return f"{name}\n(median of {len(seeds)})" if len(seeds) > 1 else name, look["color"], steps, middle
