"""A memory block with sliders for its gates and inputs, for notebooks.

The block is one unit of an LSTM whose weights are set so that each slider is one number of the equations: the gates'
non-linearity is the identity, so a gate is its bias, and the cell input is a_cᵗ = xᵗ. The engine computes the rest:

    cᵗ = f cᵗ⁻¹ + i tanh(xᵗ)        hᵗ = o tanh(cᵗ)

ipywidgets is imported when an explorer is made, matplotlib when one is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstm_numba import _checks
from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.recurrent import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SETTINGS", "Setting", "block_trace", "draw_block", "memory_block_explorer"]

STEPS = 12
_LIMITS = (2.0, 5.0, 15.0, 30.0)
_OWN = "(own setting)"
_STEP, _DECIMALS = 0.05, 2  # of the sliders; a browser sends 0.7999999999999998 for 0.8


class Setting(NamedTuple):
    """The positions of the sliders: the gates, the input at every step, the state before the first step."""

    i: float
    f: float
    o: float
    x: float
    c0: float


# What a memory block can do, each with the gates that make it do so.
SETTINGS: dict[str, Setting] = {
    "hold, unseen": Setting(i=0.0, f=1.0, o=0.0, x=0.5, c0=0.8),
    "hold and show": Setting(i=0.0, f=1.0, o=1.0, x=0.5, c0=0.8),
    "take over": Setting(i=1.0, f=0.0, o=1.0, x=0.5, c0=0.8),
    "forget slowly": Setting(i=0.0, f=0.75, o=1.0, x=0.5, c0=0.8),
    "add up": Setting(i=0.25, f=1.0, o=1.0, x=0.5, c0=-0.8),
    "reset": Setting(i=0.0, f=0.0, o=1.0, x=0.5, c0=0.8),
}


def _name_of(setting: Setting) -> str:
    return next((name for name, known in SETTINGS.items() if known == setting), _OWN)


def block_trace(setting: Setting, steps: int = STEPS) -> Trace:
    """Run one memory block whose gates and input stay the same at every step.

    Parameters
    ----------
    setting : Setting
        Gates from 0 to 1, and finite numbers.
    steps : int
        T.

    Returns
    -------
    Trace
        Of one sequence and one unit, in float64.

    Raises
    ------
    TypeError, ValueError
        Something that is no number, gates outside 0 ... 1, fewer than one step.
    """
    i, f, o, x, c0 = (_checks.number(name, value) for name, value in zip(Setting._fields, setting, strict=True))
    for name, gate in (("i", i), ("f", f), ("o", o)):
        if not 0 <= gate <= 1:
            raise ValueError(f"{name}: expected a gate from 0 to 1, got {gate:g}")
    steps = _checks.size("steps", steps)
    layer = LSTM(1, 1, peepholes=False, gate="identity", dtype=np.float64, seed=0)
    layer["U"][:] = 0
    layer["W"][:] = 0
    layer["U_c"][:] = 1
    layer["b"][:, 0] = i, f, o, 0
    return layer.forward(np.full((steps, 1, 1), x), c0=np.full((1, 1), c0))


def draw_block(setting: Setting, t: int = 0, steps: int = STEPS) -> tuple[Figure, str]:
    """Draw the block at one step above its cell and output at all steps.

    Parameters
    ----------
    setting : Setting
    t : int
        Step to draw, 0 ... steps − 1.
    steps : int

    Returns
    -------
    (Figure, str)
        The figure and its alternative text, with the numbers of this setting.

    Raises
    ------
    TypeError, ValueError
        As `block_trace`; a time that there is not.
    """
    from matplotlib.figure import Figure

    from lstm_numba import plots
    from lstm_numba.plots.step import block_over_time, block_step, short

    trace = block_trace(setting, steps)
    with plots.style():
        figure = Figure(figsize=(plots.WIDTH, 5.1))
        above = figure.add_axes((0.0, 0.38, 1.0, 0.57))
        below = figure.add_axes((0.12, 0.11, 0.85, 0.2))
        block_step(trace, t, above, title=f"time step {t + 1} of {steps}")
        c, h = trace.c[:, 0, 0], trace.h[:, 0, 0]
        largest = np.abs(c).max()  # a few fixed scales, so that one sees a change as a change
        limit = next((limit for limit in _LIMITS if limit >= largest), None)
        block_over_time(c, h, below, t=t, limit=limit)
    at = {name: short(float(getattr(trace, name)[t, 0, 0])) for name in ("i", "f", "o", "g", "c_prev", "c", "h")}
    alt = (
        f"Memory block at time step {t + 1} of {steps}: input gate {at['i']}, forget gate {at['f']}, output gate"
        f" {at['o']}. The squashed cell input is {at['g']}, the cell goes from {at['c_prev']} to {at['c']}, the output"
        f" is {at['h']}. Below, cell and output at all steps: the cell ends at {short(float(trace.c[-1, 0, 0]))}, the"
        f" output at {short(float(trace.h[-1, 0, 0]))}."
    )
    return figure, alt


def memory_block_explorer(setting: Setting | str = "hold, unseen", *, steps: int = STEPS) -> Any:
    """Return a memory block with sliders, to be shown as the last line of a notebook's cell.

    A menu has the settings of `SETTINGS`, sliders have the three gates, the input and the first state, and the time
    step that is drawn. A still picture for pages without a running kernel is `draw_block`.

    Parameters
    ----------
    setting : Setting or str
        Where the sliders stand at first, or a name out of `SETTINGS`.
    steps : int
        T.

    Returns
    -------
    ipywidgets.VBox
        Its ``sliders`` are a dict of the sliders by name, its ``picture`` is the HTML widget with the image.

    Raises
    ------
    ImportError
        Without ipywidgets.
    TypeError, ValueError
        As `block_trace`; a name that `SETTINGS` does not have.
    """
    try:
        import ipywidgets as widgets
    except ImportError as error:
        raise ImportError("memory_block_explorer needs ipywidgets: pip install 'lstm-numba[notebooks]'") from error
    from lstm_numba.plots.output import quick_image

    if isinstance(setting, str):
        _checks.choice("setting", setting, SETTINGS)
        setting = SETTINGS[setting]
    block_trace(setting, steps)  # what is wrong is said here, not by a slider

    look: dict[str, Any] = {"layout": widgets.Layout(width="auto"), "style": {"description_width": "7.5em"}}

    def slider(name: str, low: float, high: float, value: float) -> Any:
        return widgets.FloatSlider(value, min=low, max=high, step=_STEP, description=name, **look)

    sliders: dict[str, Any] = {
        "i": slider("input gate i", 0, 1, setting.i),
        "f": slider("forget gate f", 0, 1, setting.f),
        "o": slider("output gate o", 0, 1, setting.o),
        "x": slider("input x", -2, 2, setting.x),
        "c0": slider("state c⁰", -2, 2, setting.c0),
        "t": widgets.IntSlider(1, min=1, max=steps, description="time step t", **look),
    }
    menu = widgets.Dropdown(options=[_OWN, *SETTINGS], value=_name_of(setting), description="setting", **look)
    picture = widgets.HTML()
    choosing = False

    def redraw(_: Any = None) -> None:
        if choosing:
            return
        chosen = Setting(**{name: round(sliders[name].value, _DECIMALS) for name in Setting._fields})
        menu.value = _name_of(chosen)
        picture.value = quick_image(*draw_block(chosen, sliders["t"].value - 1, steps))

    def choose(change: Any) -> None:
        nonlocal choosing
        if change["new"] in SETTINGS:
            choosing = True  # one picture for all sliders, not one for each
            try:
                for name, value in SETTINGS[change["new"]]._asdict().items():
                    sliders[name].value = value
            finally:
                choosing = False
            redraw()

    for each in sliders.values():
        each.observe(redraw, names="value")
    menu.observe(choose, names="value")
    redraw()
    columns = ((menu, "t"), ("i", "f", "o"), ("x", "c0"))  # beside each other, so that the picture stays in sight
    controls = [widgets.VBox([sliders.get(each, each) for each in column]) for column in columns]
    wide = widgets.Layout(grid_template_columns="repeat(3, 1fr)", grid_gap="0 1em", width="70em", max_width="100%")
    box = widgets.VBox([widgets.GridBox(controls, layout=wide), picture])
    box.sliders, box.menu, box.picture = sliders, menu, picture
    return box
