"""Figures of notebook 09: two faults of the 2015 program, and the explosion that they make together."""

from __future__ import annotations

import numpy as np

from lstm_numba.data import split
from lstm_numba.tutorials import bugs_of_2015
from lstm_numba.tutorials.gallery import Drawn, figure, without_window
from lstm_numba.tutorials.gallery.subjects import SEED, Subjects

NOTEBOOK = "09_the_bugs_of_2015.ipynb"
LAYERS, STEPS, RATE = (32, 32, 32), 300, 4e-3
ALPHA, MU = 2e-3, 1e-2  # of the program


@figure("wrong_slope", notebook=NOTEBOOK, title="The slope of tanh, given a for tanh(a)")
def wrong_slope() -> Drawn:
    """Parabola and bell."""
    a = np.linspace(-2.5, 2.5, 201)
    curves = {"1 - a²": bugs_of_2015.tanh_slope(a, True), "1 - tanh²(a)": bugs_of_2015.tanh_slope(a, False)}
    ax = without_window().functions(a, curves, ylabel="slope of tanh", title="Fault 1: the slope of tanh")
    return (
        ax.figure.figure,
        "Two functions of a from -2.5 to 2.5. The slope of tanh, 1 - tanh²(a), is a bell between 0 and 1. The parabola"
        " 1 - a² agrees with it near 0, crosses zero at ±1 and is at -5.25 at the edges.",
        "A saturated unit should pass no error back. The parabola passes more the further out the unit is, with the"
        " wrong sign. Near 0, where the units of an untrained net are, both look alike.",
    )


@figure("shared_buffer", notebook=NOTEBOOK, title="Dividing by a velocity")
def shared_buffer() -> Drawn:
    """The step's pole."""
    s = np.linspace(-0.03, 0.03, 601)
    with np.errstate(divide="ignore"):
        step = ALPHA / (s + MU)
    step[np.abs(s + MU) < 5e-4] = np.nan
    curves = {"α / (s + μ)": step, "own H ≥ 0:\nat most α / μ": np.where(s >= 0, ALPHA / (s + MU), np.nan)}
    ax = without_window().functions(
        s,
        curves,
        ylim=(-2, 2),
        xlabel="what stands in the buffer, $s$",
        ylabel="step for a gradient of 1",
        title="Fault 3: one buffer for velocity and divisor",
    )
    return (
        ax.figure.figure,
        "The step for a gradient of one, α / (s + μ), as a function of what the buffer holds. For positive values it"
        f" falls from {ALPHA / MU:.1f}. Towards s = -{MU:g} it rises without bound, and beyond it is negative.",
        "A running mean of squares stays to the right of 0, where the step is small. A velocity in the same buffer can"
        " have any value: at -μ the step is infinite, and to the left of it the network learns the opposite.",
    )


@figure("blow_up", notebook=NOTEBOOK, title="The explosion of 2015, one fault mended at a time")
def blow_up(data: Subjects) -> Drawn:
    """Cost over the updates of four programs."""
    programs = {
        "as it was": bugs_of_2015.ALL,
        "only the buffers\nmended": bugs_of_2015.ALL - {bugs_of_2015.SHARED_BUFFERS},
        "only the slope\nmended": bugs_of_2015.ALL - {bugs_of_2015.TANH_SLOPE},
        "all mended": bugs_of_2015.NONE,
    }
    train, _ = split(data.news, seed=SEED)
    histories = {}
    for name, chosen in programs.items():
        network, batches = bugs_of_2015.news_windows(train, None, LAYERS)
        histories[name] = bugs_of_2015.train(network, batches, STEPS, chosen, learning_rate=RATE)
    ax = without_window().step_curves(
        {name: history.cost for name, history in histories.items()}, scale="linear", top=32, title="Three layers"
    )
    dead = [" ".join(name.split()) for name, history in histories.items() if history.died]
    alive = {" ".join(name.split()): history.cost[-1] for name, history in histories.items() if not history.died}
    ends = ", ".join(f"{name} at {cost:.1f}" for name, cost in alive.items())
    return (
        ax.figure.figure,
        f"Cost of the batch over {STEPS} updates of a network of three layers for four"
        " programs. All start at 11.5."
        f" Ends in NaN: {', '.join(dead) or 'none'}. Still training: {ends}.",
        "An × at the upper edge is a cost that is not a number. The shared buffer gives the update a pole, and the"
        " wrong slope multiplies what the huge step has done.",
    )
