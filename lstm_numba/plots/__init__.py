"""Figures: sensitivities, gates over time, learning, and the diagrams of the net and of the memory block.

Every function takes arrays and ``ax``, draws, and returns the axes. Those that draw several panels need a figure of
their own: they take no ``ax`` and return the figure, whose ``axes`` are the panels. With ``ax=None`` a function makes a
new figure in the style of :func:`style`; with an ``ax`` it keeps the current style, so that your own settings apply.
Functions compute only what the picture needs.

Colours have the same meaning everywhere. Magnitudes are viridis, darker is more. Signed values go from purple
to orange with white at zero. A value that has no colour is never left out: an exact zero on a log scale, NaN
and infinity each have their own hatched colour (on a curve, a marker), which the colour bar or legend names.

Time steps are numbered 1 ... T as in the equations, or labelled with the words of the sentence if these are given.
"""

from __future__ import annotations

from lstm_numba.plots._base import BELOW, DIRECTIONS, INK, MAGNITUDE, NOT_FINITE, SIGNED, STYLE, WIDTH, style
from lstm_numba.plots._curves import CURVES
from lstm_numba.plots._maps import TRACE
from lstm_numba.plots.animation import backward_animation, backward_step
from lstm_numba.plots.block import memory_block
from lstm_numba.plots.coloured_text import ColouredLetters, coloured_letters, coloured_letters_html
from lstm_numba.plots.forecast import error_dots, forecasts
from lstm_numba.plots.gradients import gradient_errors
from lstm_numba.plots.learning import confusion_matrix, learning_curves
from lstm_numba.plots.maps_of_units import number_steps, unit_maps
from lstm_numba.plots.output import save, show
from lstm_numba.plots.packing import packed_weights
from lstm_numba.plots.preservation import unfolded_gates
from lstm_numba.plots.rates import growth_rates
from lstm_numba.plots.rungs import ladder
from lstm_numba.plots.scores import scores_and_chance
from lstm_numba.plots.sensitivity import decay, sensitivity_map, vanishing_gradient
from lstm_numba.plots.step import block_history, block_over_time, block_step
from lstm_numba.plots.studies import solved_shares, spread_of_curves, variant_boxes
from lstm_numba.plots.traces import gates
from lstm_numba.plots.training import functions, shares, step_curves
from lstm_numba.plots.unfolded import unfolded_network
from lstm_numba.plots.words import word_sensitivity

__all__ = [
    "BELOW",
    "CURVES",
    "DIRECTIONS",
    "INK",
    "MAGNITUDE",
    "NOT_FINITE",
    "SIGNED",
    "STYLE",
    "TRACE",
    "WIDTH",
    "ColouredLetters",
    "backward_animation",
    "backward_step",
    "block_history",
    "block_over_time",
    "block_step",
    "coloured_letters",
    "coloured_letters_html",
    "confusion_matrix",
    "decay",
    "error_dots",
    "forecasts",
    "functions",
    "gates",
    "gradient_errors",
    "growth_rates",
    "ladder",
    "learning_curves",
    "memory_block",
    "number_steps",
    "packed_weights",
    "save",
    "scores_and_chance",
    "sensitivity_map",
    "shares",
    "show",
    "solved_shares",
    "spread_of_curves",
    "step_curves",
    "style",
    "unfolded_gates",
    "unfolded_network",
    "unit_maps",
    "vanishing_gradient",
    "variant_boxes",
    "word_sensitivity",
]
