"""The factor by which a derivative grows or shrinks with each step, measured and predicted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from lstm_numba.plots._base import WIDTH, axes_or_new, check_mapping, check_norms, check_numbers, ink
from lstm_numba.plots._curves import CURVES
from lstm_numba.plots._scales import log_labels, log_ticks

__all__ = [
    "growth_rates",
]


def growth_rates(
    settings: ArrayLike,
    measured: ArrayLike,
    ax: Axes | None = None,
    *,
    predictions: Mapping[str, ArrayLike] | None = None,
    log: bool = True,
    xlabel: str = "setting",
    ylabel: str = "factor for each step",
    title: str | None = None,
) -> Axes:
    """Draw the factors by which a derivative is multiplied at each step, against a setting of the net.

    Below the line at 1 the derivative vanishes, above it explodes.

    Parameters
    ----------
    settings : array_like, shape (n,)
        Values of the setting.
    measured : array_like, shape (n,) or (n, seeds)
        Measured factors, drawn as dots.
    ax : Axes, optional
        Axes to draw into; a new figure by default.
    predictions : mapping of name to array_like, shape (n,), optional
        Lines for comparison.
    log : bool
        Whether the scale of the settings is logarithmic; that of the factors always is.
    xlabel, ylabel, title : str, optional

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Factors that are not positive and finite, lengths that differ.
    """
    x = check_numbers("settings", settings, (1,))
    dots = check_norms("measured", measured, (1, 2)).reshape(len(np.atleast_1d(measured)), -1)
    named = check_mapping("predictions", {} if predictions is None else predictions, "a mapping of name to factors")
    lines = {name: check_norms(f"predictions[{name!r}]", line, (1,)) for name, line in named.items()}
    for name, values in {"measured": dots, **{f"predictions[{name!r}]": line for name, line in lines.items()}}.items():
        if len(values) != len(x):
            raise ValueError(f"{name}: expected {len(x)} settings, got {len(values)}")
        if not np.all(np.isfinite(values) & (values > 0)):
            raise ValueError(f"{name}: expected positive, finite factors, got {values.min():g} ... {values.max():g}")
    with axes_or_new(ax, WIDTH, 4.4) as ax:
        if log:
            ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.set_yscale("log")
        ax.axhline(1.0, color=ink(), linewidth=1.0)
        for n, (name, line) in enumerate(lines.items(), start=1):
            colour, _, dash = CURVES[n % len(CURVES)]
            ax.plot(x, line, color=colour, linestyle=dash, label=name, gid=name)
        colour, marker, _ = CURVES[0]
        across = np.repeat(x, dots.shape[1])
        look = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 5.5, "zorder": 3.0}
        ax.plot(across, dots.ravel(), label="measured", gid="measured", **look)  # type: ignore[arg-type]
        low, high = ax.get_ylim()
        ticks = log_ticks(low, high)
        ax.set_yticks(ticks, log_labels(ticks))
        ax.minorticks_off()
        ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(low, high))
        ax.legend(loc="best")
        if title:
            ax.set_title(title)
    return ax
