"""Figures of "Look inside your own LSTM": what PyTorch's networks know of the sunspots, and what they forget."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import LSTM
from lstm_numba.data import Sunspots, load_sunspot_nets, load_sunspots
from lstm_numba.exchange import from_torch
from lstm_numba.tutorials.gallery import Drawn, figure, without_window

NOTEBOOK = "11_look_inside_your_own_lstm.ipynb"
BEFORE, AFTER = "as it comes", "forget bias 3"  # two of the trained networks
UNITS, AHEAD, FIRST_TEST = 16, 36, (1930 - 1749) * 12  # of months
LONGEST, CYCLE, EVERY = 264, 132, 6
IN_VIEW = (6, *range(12, CYCLE + 1, 12))


class Net(NamedTuple):
    """A forecaster: ŷᵗ = w · hᵗ + b."""

    layer: LSTM
    w: NDArray
    b: float


def _net(state: dict[str, NDArray]) -> Net:
    layer: Any = from_torch(state, name="lstm", dtype=np.float64)
    return Net(layer, state["out.weight"][0].astype(float), float(state["out.bias"][0]))


@cache
def _series() -> tuple[Sunspots, NDArray, NDArray]:
    """The sunspots, in hundreds too, and the months in which the test's forecasts are made."""
    sun = load_sunspots()
    return sun, sun.numbers / 100, np.arange(FIRST_TEST, len(sun.numbers) - AHEAD)


@cache
def _nets() -> dict[str, list[Net]]:
    return {name: [_net(state) for state in states] for name, states in load_sunspot_nets().items()}


def _windows(ends: NDArray, length: int) -> NDArray:
    """The months up to and including each end (length, B, 1)."""
    z = _series()[1]
    return np.stack([z[end + 1 - length : end + 1] for end in ends], axis=1)[:, :, None]


def _error(forecast: NDArray | float) -> float:
    """Root of the mean squared error over the test, in sunspots."""
    _, z, made = _series()
    return 100 * float(np.sqrt(np.mean((forecast - z[made + AHEAD]) ** 2)))


def _forecast(net: Net) -> NDArray:
    _, z, made = _series()
    return net.layer.forward(z[:, None, None]).h[made, 0] @ net.w + net.b


def _error_in_view(net: Net, n: int) -> float:
    """The error where the net begins with an empty state n months before."""
    return _error(net.layer.forward(_windows(_series()[2], n)).h[-1] @ net.w + net.b)


@cache
def _line(n: int) -> NDArray:
    """Coefficients of a linear fit to the last n months, the latest first, and its constant."""
    z = _series()[1]
    ends = np.arange(n - 1, FIRST_TEST - AHEAD)
    inputs = np.column_stack([_windows(ends, n)[::-1, :, 0].T, np.ones(len(ends))])
    return np.linalg.lstsq(inputs, z[ends + AHEAD], rcond=None)[0]


def _line_error(n: int) -> float:
    beta = _line(n)
    return _error(_windows(_series()[2], n)[::-1, :, 0].T @ beta[:n] + beta[n])


def _one_cycle_before() -> float:
    _, z, made = _series()
    return _error(z[made + AHEAD - CYCLE])


def _derivatives(net: Net) -> NDArray:
    """∂ŷ/∂x of the months 0, 1, 2 … back (LONGEST, forecasts)."""
    ends = _series()[2][::EVERY]
    trace = net.layer.forward(_windows(ends, LONGEST))
    return net.layer.backward(trace, dh_last=np.tile(net.w, (len(ends), 1))).x[::-1, :, 0]


def _gates(name: str, title: str, what: str, reading: str) -> Drawn:
    _, z, made = _series()
    layer = _nets()[name][0].layer
    trace = layer.forward(z[:, None, None])
    part = slice(FIRST_TEST, FIRST_TEST + LONGEST)
    f, c = trace.f[part, 0], trace.c[part, 0]
    logs = np.log(trace.f[made, 0]).mean(axis=0)
    drawn = without_window().unit_maps({"f": f, "c": c}, x=z[part], units=np.argsort(-1 / logs), title=title)
    bottom = next(ax for ax in drawn.axes if ax.get_xlabel())
    bottom.set_xticks(range(0, LONGEST, 48), [str(year) for year in range(1930, 1952, 4)])
    bottom.set_xlabel("year")
    lives = np.log(0.5) / logs
    return (
        drawn,
        f"Heat maps of the forget gates and the cells of {UNITS} units over the years 1930 to 1951, below the"
        f" sunspots of two cycles. {what} The median forget gate is {np.median(f):.2f}, and half of a cell is"
        f" forgotten after {np.median(lives):.1f} months in the median, {lives.max():.1f} at most.",
        reading,
    )


@figure("own_gates_before", notebook=NOTEBOOK, title="An LSTM of PyTorch's, as it comes: gates that let go")
def own_gates_before() -> Drawn:
    """Forget gates and cells of the network as it came."""
    return _gates(
        BEFORE,
        "As it comes: gates that let go",
        "Most gates are far from open.",
        "A row is a unit, those that forget fastest on top; a column is a month. With half-lives of a few months the"
        " cells can't hold what a forecast of three years needs.",
    )


@figure("own_gates_after", notebook=NOTEBOOK, title="The same LSTM after a forget bias of 3: gates that hold")
def own_gates_after() -> Drawn:
    """Forget gates and cells of a network that was trained from open gates."""
    return _gates(
        AFTER,
        "Forget bias 3: gates that hold",
        "Nearly all gates are open, and the cells move slowly.",
        "Trained in the same way from open gates. The cells are larger and move slowly: what is read is added to what"
        " is there.",
    )


@figure("own_gradient", notebook=NOTEBOOK, title="What the gradient reaches before training")
def own_gradient() -> Drawn:
    """Derivatives of the untrained network's forecast, with other forget biases."""
    (untrained,) = load_sunspot_nets()["as it comes, untrained"]
    curves = {}
    for bias in (None, 3, 1, 5):  # BEFORE and AFTER first: the same colours in all figures
        state = {name: array.copy() for name, array in untrained.items()}
        if bias is not None:
            state["lstm.bias_ih_l0"][UNITS : 2 * UNITS], state["lstm.bias_hh_l0"][UNITS : 2 * UNITS] = bias, 0
        name = BEFORE if bias is None else f"forget bias {bias}"
        curves[name] = np.sqrt(np.mean(_derivatives(_net(state)) ** 2, axis=1))[: CYCLE + 1]
    ax = without_window().decay(
        curves,
        ylabel="derivative of the forecast\n" + r"$|\partial \hat y^t / \partial x^{t-d}|$",
        title="Before training: what the gradient reaches",
    )
    ax.set(xlabel="months back, $d$")
    ax.set_xticks(range(1, CYCLE + 2, 24), range(0, CYCLE + 1, 24))
    return (
        ax.figure,
        "Derivative of an untrained LSTM's forecast with respect to the input d months back, on a logarithmic scale."
        " 96 months back: " + ", ".join(f"{name} {curve[96]:.0e}" for name, curve in curves.items()) + ".",
        "PyTorch's LSTM begins with forget gates near one half, so that the derivative falls by a factor each month. A"
        " forget bias opens them, and training can begin from what happened years ago.",
    )


@figure("own_changes", notebook=NOTEBOOK, title="What each change of the network has done")
def own_changes() -> Drawn:
    """Errors of all trained networks."""
    trained = {name: nets for name, nets in _nets().items() if "untrained" not in name}
    order = [BEFORE, *(name for name in trained if name != BEFORE and "bias" not in name)]
    order += sorted(name for name in trained if "bias" in name)
    errors = {name.replace(", ", ",\n"): [_error(_forecast(net)) for net in trained[name]] for name in order}
    line, before = _line_error(96), _one_cycle_before()
    ax = without_window().error_dots(
        errors,
        references={"a line,\n96 months": line, "eleven years\nbefore": before},
        emphasis=AFTER,
        xlabel="error of the test's forecasts, in sunspots",
        title="What each change has done",
    )
    return (
        ax.figure,
        f"Errors of three seeds for each change of an LSTM, beside those of a straight line through 96 months"
        f" ({line:.1f}) and of the number of eleven years before ({before:.1f}). Medians: "
        + ", ".join(f"{' '.join(name.split())} {np.median(each):.1f}" for name, each in errors.items())
        + ".",
        "A dot is a seed, a bar the median; further left is better. A forget bias of 3 helped most; a bias of 5 helped"
        " only where nearly closed input gates kept cells small. The best LSTM is about as good as a straight line.",
    )


@figure("own_memory", notebook=NOTEBOOK, title="What the past is worth to a line and to two LSTMs")
def own_memory() -> Drawn:
    """Errors over the number of months in view."""
    curves = {}
    for name in (BEFORE, AFTER):
        every = [[_error_in_view(net, n) for n in IN_VIEW] for net in _nets()[name]]
        curves[name] = list(np.median(every, axis=0))
    curves["a line"] = [_line_error(n) for n in IN_VIEW]
    look: dict[str, Any] = {"xlabel": "months in view", "ylabel": "error, in sunspots", "ylim": (30, 75)}
    ax = without_window().functions(IN_VIEW, curves, title="What the past is worth", **look)
    ax.set_xticks(IN_VIEW[1::2])
    at = {n: IN_VIEW.index(n) for n in (24, 96)}
    return (
        ax.figure,
        "Error of forecasts three years ahead over the number of months in view. From 24 to 96 months it falls "
        + ", ".join(f"from {curve[at[24]]:.0f} to {curve[at[96]]:.0f} ({name})" for name, curve in curves.items())
        + ".",
        "Where a curve falls, the method makes use of what comes into view there. The LSTM as it came makes little use"
        " of what is older than two years; with open forget gates it makes use of eight.",
    )


@figure("own_cycle", notebook=NOTEBOOK, title="Does the network know the eleven-year cycle?")
def own_cycle() -> Drawn:
    """Effects on the forecast of each year back."""

    def by_year(per_month: NDArray) -> NDArray:
        return per_month[:CYCLE].reshape(-1, 12).sum(axis=1)

    effect = {}
    for name in (BEFORE, AFTER):
        effect[name] = np.median([by_year(_derivatives(net).mean(axis=1)) for net in _nets()[name]], axis=0)
    effect["a line"] = by_year(_line(CYCLE)[:CYCLE])
    ax = without_window().functions(
        np.arange(1, CYCLE // 12 + 1),
        effect,
        xlabel="years back",
        ylabel="effect on the forecast\nof one sunspot more",
        title="Does it know the cycle?",
    )
    return (
        ax.figure,
        "Effect on a forecast three years ahead of one more sunspot in every month of a year, over how many years back"
        " that year is. In the second, sixth and eighth year back: "
        + "; ".join(f"{name} {each[1]:.2f}, {each[5]:.2f} and {each[7]:.2f}" for name, each in effect.items())
        + ".",
        "Above zero: many spots then, many spots in three years. Below zero: many then, few in three years. The line"
        " and the LSTM with open gates have both parts of the wave, the LSTM as it came only the first.",
    )


@figure("own_forecasts", notebook=NOTEBOOK, title="Sunspots three years ahead, before and after the change")
def own_forecasts() -> Drawn:
    """Forecasts of two networks over the test part."""
    sun, z, made = _series()
    lines = {}
    for name in (BEFORE, AFTER):
        lines[name] = np.full(len(z), np.nan)
        lines[name][made + AHEAD] = 100 * _forecast(_nets()[name][0])
    shown = sun.years >= 1930
    kept = {name: line[shown] for name, line in lines.items()}
    look: dict[str, Any] = {"ylabel": "sunspot number", "title": "Three years ahead, on years not learned from"}
    ax = without_window().forecasts(sun.years[shown], sun.numbers[shown], kept, **look)
    r = {name: np.corrcoef(line[made + AHEAD], sun.numbers[made + AHEAD])[0, 1] for name, line in lines.items()}
    return (
        ax.figure,
        "Measured sunspot numbers from 1930 to 2008 and two forecasts that were made three years before. Their"
        " correlation with what was measured is " + ", ".join(f"{each:.2f} ({name})" for name, each in r.items()) + ".",
        "Grey is what was measured; each forecast stands at the month that it is about. Neither foresees how high a"
        " cycle will be; with open forget gates the network is better at when it rises and falls.",
    )
