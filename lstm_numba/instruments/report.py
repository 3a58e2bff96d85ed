"""Show what a stored recurrent layer does with a series: figures, each with one sentence that says what it shows.

    l = choose(model, x)          one layer in one direction, and the steps to draw
    for picture in pictures(l):   its gates, states, output, sensitivities, and the gradient of its last output
        picture.figure, picture.reading, picture.numbers

The cell's equations determine which names are gates, and which factor of a state a step keeps
(`lstm_numba.instruments.roles`). Every sentence is made from the numbers in the figure. Two measures need a definition:

- A step keeps a factor of a state: fᵗ of an LSTM's cᵗ⁻¹, zᵗ of a GRU's hᵗ⁻¹. The half-life of a state is the number of
  steps after which half of its content is left, given the geometric mean of this factor over the steps drawn:
  ln ½ / mean(ln f).
- A gate counts as open above 0.9 and as closed below 0.1, as in A. Karpathy, J. Johnson & L. Fei-Fei, *Visualizing and
  Understanding Recurrent Networks* (2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks
from lstm_numba.instruments.jacobians import sensitivity
from lstm_numba.instruments.roles import Roles, flat_share
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.layers.stack import Stack, as_stack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Number of steps drawn by default: as many as a page can show; maps of all pairs cost the square of it.
STEPS = 200
_OPEN, _CLOSED = 0.9, 0.1
# Shares of the largest value below which a derivative counts as gone, a slope as flat, an output as silent.
_GONE, _FLAT, _SILENT = 0.01, 0.1, 0.05

# Words for the names of equations in sentences; any other name is written as it is.
_GATES = {"i": "input", "f": "forget", "o": "output", "r": "reset", "z": "update"}
_PARTS = {"g": "squashed cell input", "n": "candidate"}
_STATES = {"h": "output", "c": "cell state"}


class Picture(NamedTuple):
    """A figure, and what it shows.

    Attributes
    ----------
    name
        Name of its files, without the suffix.
    figure
        The matplotlib figure.
    alt, reading
        The text for readers who can't see it, and one or two sentences that say what it shows.
    numbers
        The numbers behind these sentences, in a form that JSON can hold.
    """

    name: str
    figure: Figure
    alt: str
    reading: str
    numbers: dict[str, Any]


class Chosen:
    """One layer of a model in one direction, its trace for one sequence, and the steps to draw.

    Attributes
    ----------
    layer
        The layer, of any cell.
    roles
        The roles of the names in its equations.
    stack
        The model up to this layer, with only this direction at the top.
    number, direction
        The layer's number, from 0; "forward" or "backward".
    x : (T, I)
        The model's input.
    trace
        The layer's `Trace`, B = 1.
    start, stop
        The steps to draw, from 0: start ≤ t < stop.
    units, sorted
        Numbers of the units in the order of drawing; whether they are sorted by half-life.
    """

    def __init__(self, stack: Stack, x: NDArray, start: int, stop: int) -> None:
        self.stack = stack
        self.number = len(stack.layers) - 1
        self.x = x
        self.start, self.stop = start, stop
        self._stack_trace = stack.forward(x[:, None])
        self.trace = self._stack_trace.layers[-1][0]
        self.layer: Recurrent = self.trace.layer
        self.roles = Roles(self.layer)
        self.direction = "backward" if self.layer.reverse else "forward"
        self.units: NDArray
        self.sorted = False

    def of(self, name: str) -> NDArray:
        """Return an array of the trace at the steps to draw (steps, H), float64."""
        return np.asarray(getattr(self.trace, name)[self.start : self.stop, 0], np.float64)

    @cached_property
    def remembers(self) -> str | None:
        """The state of which a step keeps a factor set by gates; None if there is none."""
        return next((state for state, x in self.roles.kept.items() if x.op != "number" and not _unsteady(x)), None)

    @cached_property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates; if no function marks one, the names that set the factor that is kept."""
        if self.roles.gates or self.remembers is None:
            return self.roles.gates
        return tuple(self.roles.read_by(self.roles.kept[self.remembers]))

    def kept(self) -> NDArray:
        """The factor of that state that each step keeps (steps, H)."""
        assert self.remembers is not None
        factor = self.roles.values(self.roles.kept[self.remembers], self.trace)
        return factor[self.start : self.stop, 0]

    @property
    def last(self) -> int:
        """The step that is processed last among those to draw."""
        return self.start if self.layer.reverse else self.stop - 1

    @cached_property
    def S(self) -> NDArray:
        """‖∂hᵗ/∂xˢ‖ of the layer's output with respect to the model's input, for all pairs of steps to draw."""
        times = range(self.start, self.stop)
        return np.atleast_2d(sensitivity(self.stack, self.x, t=times, s=times))

    def of_last_output(self, wrt: str) -> NDArray:
        """‖∂hᵀ/∂sˢ‖ of the layer's output at the last step with respect to one of its own earlier states (steps,)."""
        trace = self.trace
        states = {f"{state}0": getattr(trace, f"{state}0") for state in self.layer.states}
        times = range(self.start, self.stop)
        return np.atleast_1d(sensitivity(self.layer, trace.x, t=self.last, s=times, wrt=wrt, **states))


def choose(
    model: Any,
    x: ArrayLike,
    *,
    layer: int | None = None,
    direction: str | None = None,
    sequence: int = 0,
    steps: tuple[int, int] | None = None,
    units: Sequence[int] | None = None,
) -> Chosen:
    """Run a model over one sequence, and choose the part to look at.

    Parameters
    ----------
    model
        A layer of any cell, a `Stack` or a `Network`.
    x : (T, B, I)
        Input.
    layer
        Number of the layer, from 0. By default the last one, whose output the rest of the model sees.
    direction
        "forward" or "backward"; by default the first that the layer has.
    sequence
        Number of the sequence in the batch.
    steps
        The first and the last step to draw, from 1. By default the last `STEPS`. The model always runs over all steps.
    units
        Units in the order of drawing. By default all, with the slowest to forget at the top if gates set their memory.

    Raises
    ------
    TypeError, ValueError
        If `model` is no model, the input doesn't fit, or a layer, direction, sequence, step or unit doesn't exist; the
        message names the argument.
    """
    stack = as_stack(model)
    x = _checks.floats("x", x, ("T", "B", "I"), stack.dtype)
    if x.shape[2] != stack.input_size:
        raise ValueError(f"x: expected {stack.input_size} numbers per step, as in the model, got {x.shape[2]}")
    number = _number("layer", len(stack.layers) - 1 if layer is None else layer, len(stack.layers))
    b = _number("sequence", sequence, x.shape[1])
    T = len(x) if stack.lengths is None else int(np.broadcast_to(stack.lengths, x.shape[1])[b])
    if not T:
        raise ValueError(f"sequence: expected one with steps, got {b}, whose length is 0")
    start, stop = _steps(steps, T)
    part = _part(stack, number, _direction(stack, number, direction), b)
    chosen = Chosen(part, np.ascontiguousarray(x[:T, b]), start, stop)
    chosen.units = _ordered(chosen) if units is None else _units(units, chosen.layer.hidden_size)
    chosen.sorted = units is None and chosen.remembers is not None
    return chosen


def _number(name: str, value: Any, size: int) -> int:
    number = _checks.size(name, value, 0)
    if number >= size:
        expected = "0, the only one" if size == 1 else f"0 to {size - 1}"
        raise ValueError(f"{name}: expected {expected}, got {number}")
    return number


def _direction(stack: Stack, number: int, direction: str | None) -> int:
    """Return the index of the chosen direction of a layer."""
    there = ["backward" if each.reverse else "forward" for each in stack.layers[number]]
    if direction is None:
        return 0
    _checks.choice("direction", direction, ("forward", "backward"))
    if direction not in there:
        raise ValueError(f"direction: expected {there[0]}, the only one that layer {number} has, got {direction}")
    return there.index(direction)


def _steps(steps: tuple[int, int] | None, T: int) -> tuple[int, int]:
    """Return start and stop of the steps to draw, from 0."""
    if steps is None:
        return max(0, T - STEPS), T
    first, last = (_checks.size("steps", each) for each in steps)
    if not first <= last <= T:
        raise ValueError(f"steps: expected a first and a last step of 1 to {T}, got {first} to {last}")
    return first - 1, last


def _units(units: Sequence[int], H: int) -> NDArray:
    chosen = [_number("units", unit, H) for unit in units]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"units: expected different units of 0 to {H - 1}, got {list(units)}")
    return np.array(chosen)


def _part(stack: Stack, number: int, d: int, b: int) -> Stack:
    """Return the stack up to a layer, with only one of its directions, and the initial states of sequence b."""
    layers = [list(each) for each in stack.layers[:number]] + [[stack.layers[number][d]]]
    below = sum(len(each) for each in layers[:-1])
    states = {}
    for name in stack.initial_names:
        given = getattr(stack, name)
        if given is not None:
            rows = [*list(given)[:below], given[below + d]]
            states[name] = [np.asarray(row)[min(b, len(row) - 1)][None] for row in rows]
    return Stack.of(layers, merge=stack.merge, **states)


def introduction(model: Any, chosen: Chosen, weights: str, series: str) -> Iterator[str]:
    """Describe in two lines the model and the part of it that is shown."""
    stack, layer = as_stack(model), chosen.layer
    options = [*_options(layer), (bool(layer.bias), "bias")]
    runs = groupby(options, key=lambda each: each[0])
    kinds = [f"{'with' if has else 'without'} {_list([text for _, text in run])}" for has, run in runs]
    sizes = [_size(directions) for directions in stack.layers]
    layers = f"{_plural(len(sizes), 'layer')} of " + (sizes[0] if len(set(sizes)) == 1 else _list(sizes))
    yield f"{weights}: {kind_of(layer)} {', '.join(kinds)}; {_plural(stack.input_size, 'input')}, {layers}"
    T = len(chosen.x)
    drawn = f"steps {chosen.start + 1} to {chosen.stop} of " + (f"{T} in " if chosen.stop - chosen.start < T else "")
    yield f"layer {chosen.number}, {chosen.direction}, {drawn}{series}; layers and units are numbered from 0"


def kind_of(layer: Recurrent) -> str:
    """Return the name of a layer: its class, or its cell for the general class `Recurrent`."""
    return layer.cell.name if type(layer) is Recurrent else type(layer).__name__


def _options(layer: Recurrent) -> Iterator[tuple[bool, str]]:
    """Name the options of a layer: switches, numbers, unusual functions, and always a cell's only function."""
    functions = [value for value in layer.options.values() if isinstance(value, str)]
    for key, value in layer.options.items():
        if isinstance(value, bool):
            yield bool(value), key
        elif not isinstance(value, str):
            yield True, f"{key} {value:g}"
        elif len(functions) == 1:
            yield True, value
        elif value != layer.cell.options[key]:
            yield True, f"{key} {value}"


def _size(directions: Sequence[Recurrent]) -> str:
    """Return how many units a layer has, in words."""
    return _plural(directions[0].hidden_size, "unit") + " each way" * (len(directions) == 2)


def description(chosen: Chosen) -> dict[str, Any]:
    """Return the same description in a form that JSON can hold."""
    return {
        "layer": chosen.layer.config() | {"number": chosen.number, "direction": chosen.direction},
        "steps": [chosen.start + 1, chosen.stop],
        "units": [int(unit) for unit in chosen.units],
    }


# Numbers


def half_lives(f: NDArray) -> NDArray:
    """Steps after which half of a state's content is left, ln ½ / mean(ln |f|) over the steps; ∞ where it doesn't fade.

    Parameters
    ----------
    f : (T, H)
        The factor that each step keeps, such as forget gates.

    Returns
    -------
    ndarray (H,)
    """
    with np.errstate(divide="ignore"):
        rates = np.log(np.abs(f)).mean(axis=0)
        return np.where(rates >= 0, np.inf, np.log(0.5) / np.minimum(rates, -1e-300))


def _ordered(chosen: Chosen) -> NDArray:
    if chosen.remembers is None:
        return np.arange(chosen.layer.hidden_size)
    return np.argsort(-half_lives(chosen.kept()), kind="stable")


def reach(profile: NDArray) -> int | None:
    """Return the distance from which on a profile stays below 1 % of its largest value; None if it never does."""
    left = np.flatnonzero(~(profile < _GONE * profile.max()))
    return None if left[-1] == len(profile) - 1 else int(left[-1]) + 1


def by_distance(S: NDArray, direction: str) -> NDArray:
    """Return the mean of S[s, t] over all pairs of steps that are 0, 1, 2, … apart, in the existing directions."""
    signs = {"forward": (1,), "backward": (-1,), "both": (1, -1)}[direction]
    return np.array([np.mean([np.diagonal(S, sign * d).mean() for sign in signs]) for d in range(len(S))])


def directions_of(stack: Stack) -> str:
    """Return which outputs an input of a stack can reach: "forward", "backward" or "both"."""
    found = {bool(each.reverse) for directions in stack.layers for each in directions}
    return "both" if len(found) == 2 else "backward" if found == {True} else "forward"


def _unsteady(x: Any) -> bool:
    """Return whether an expression reads a state before the step, so that it isn't a factor set by gates."""
    return any(each.endswith("_prev") for each in x.names())


# Pictures


def pictures(chosen: Chosen, x_names: list[str] | None = None) -> Iterator[Picture]:
    """Draw one figure after the other; close each before asking for the next.

    Parameters
    ----------
    chosen
        The result of `choose`.
    x_names
        Names of the model's inputs.

    Yields
    ------
    Picture
        "gates", if there are any; one for each state other than h: "cell" for c, and "state_n" for another state n;
        and for every layer "output", "sensitivity" and "gradient".
    """
    if chosen.gates:
        yield _gates(chosen, x_names)
    for state in chosen.layer.states[1:]:
        if state not in chosen.gates:
            yield _state(chosen, state, x_names)
    yield _output(chosen, x_names)
    yield _sensitivity(chosen)
    yield _gradient(chosen)


def _maps(chosen: Chosen, names: Sequence[str], x_names: list[str] | None, told: Sequence[int] = ()) -> Figure:
    """Draw the arrays of these names; units that the text mentions have their numbers beside them."""
    from lstm_numba import plots

    return plots.unit_maps(
        {name: chosen.of(name) for name in names},
        chosen.x[chosen.start : chosen.stop],
        units=chosen.units,
        first=chosen.start + 1,
        x_names=x_names,
        units_name="unit (slowest to\nforget at the top)" if chosen.sorted else "unit",
        gates=chosen.gates,
        numbered=told,
    )


def _where(chosen: Chosen) -> str:
    n = len(chosen.units)
    return f"of {n} unit{'s' * (n > 1)} at steps {chosen.start + 1} to {chosen.stop}, the input above"


def _broken(chosen: Chosen, names: Sequence[str]) -> str | None:
    """Return a sentence on the step at which NaN or infinity first occur, if they do."""
    bad = np.zeros(chosen.stop - chosen.start, bool)
    for name in names:
        bad |= ~np.isfinite(chosen.of(name)[:, chosen.units]).all(axis=1)
    steps = chosen.start + 1 + np.flatnonzero(bad)
    if not len(steps):
        return None
    many = _plural(len(steps), "step")
    return f"NaN or ∞ (hatched) at {many}, the first of them step {steps[0]}: the numbers grew too large"


def _gates(chosen: Chosen, x_names: list[str] | None) -> Picture:
    names = chosen.gates
    words = _gate_words(names)
    what = f"Heat map{'s' * (len(names) > 1)} of the {words} {_where(chosen)}"
    figure, broken = _maps(chosen, names, x_names, _longest_and_shortest(chosen)), _broken(chosen, names)
    if broken:
        return Picture("gates", figure, f"{what}. In words: {broken}.", f"{broken}.", {})

    parts: list[str] = []
    numbers: dict[str, Any] = {}
    if chosen.remembers is not None:
        text, numbers["half_life"] = _forgetting(chosen)
        parts.append(text)
    true = [name for name in names if _is_between(chosen, name)]
    if true:
        for kind, counts in (("open", lambda gate: gate > _OPEN), ("closed", lambda gate: gate < _CLOSED)):
            numbers[kind] = {name: float(counts(chosen.of(name)[:, chosen.units]).mean()) for name in true}
        is_open, closed = (_shares(numbers[kind]) for kind in ("open", "closed"))
        which = _gate_words(true) if len(true) > 1 else f"the {_gate_words(true)}'s values"
        parts.append(f"Of {which} {is_open} are open (above 0.9), {closed} closed (below 0.1)")
    reading = ". ".join(parts) or "these gates are no sigmoids: any value can be theirs"
    return Picture("gates", figure, f"{what}. In words: {reading}.", f"{reading}.", numbers)


def _is_between(chosen: Chosen, name: str) -> bool:
    """Return whether a gate lies between 0 and 1, judged by its function or, without one, by its values."""
    if name in chosen.roles.gates:
        return chosen.roles.is_sigmoid(name)
    values = chosen.of(name)
    return bool(((values >= 0) & (values <= 1)).all())


def _longest_and_shortest(chosen: Chosen) -> list[int]:
    """Return the units that `_forgetting` mentions."""
    if chosen.remembers is None:
        return []
    order = np.argsort(-half_lives(chosen.kept()[:, chosen.units]), kind="stable")
    return [int(chosen.units[n]) for n in (*order[:3], *order[-1:])]


def _gate_words(names: Sequence[str]) -> str:
    """Turn i, f into "input and forget gates", and k into "gate k"."""
    if all(name in _GATES for name in names):
        return f"{_list([_GATES[name] for name in names])} gate{'s' * (len(names) > 1)}"
    return f"gate{'s' * (len(names) > 1)} {_list(list(names))}"


def _forgetting(chosen: Chosen) -> tuple[str, dict[int, float | None]]:
    """Say in which units a state lasts longest and shortest, and the half-life of each."""
    units, state = chosen.units, chosen.remembers
    lives = half_lives(chosen.kept()[:, units])
    order = np.argsort(-lives, kind="stable")
    slowest = [f"{_after(lives[n])} in unit {units[n]}" for n in order[:3]]
    text = f"half of what {'a cell' if state == 'c' else state} holds is gone {_list(slowest)}"
    if len(units) > 3:
        text += f"; in the quickest, unit {units[order[-1]]}, {_after(lives[order[-1]])}"
    return text, {int(unit): _finite(life) for unit, life in zip(units, lives, strict=True)}


def _state(chosen: Chosen, state: str, x_names: list[str] | None) -> Picture:
    """Draw a state other than the output, below the parts that it is made of."""
    name = "cell" if state == "c" else f"state_{state}"
    word = _state_word(state)
    drawn = [*chosen.roles.parts(state), state]
    parts = [*(_PARTS.get(each, each) for each in drawn[:-1]), word]
    what = f"Heat map{'s' * (len(drawn) > 1)} of {_list([f'the {part}' for part in parts])} {_where(chosen)}"
    values = chosen.of(state)[:, chosen.units]
    t, n = (int(place) for place in np.unravel_index(int(np.abs(values).argmax()), values.shape))
    figure, broken = _maps(chosen, drawn, x_names, [int(chosen.units[n])]), _broken(chosen, drawn)
    if broken:
        return Picture(name, figure, f"{what}. In words: {broken}.", f"{broken}.", {})

    function = chosen.roles.squashed(state)
    largest, unit, step = float(abs(values[t, n])), int(chosen.units[n]), chosen.start + t + 1
    share = None if function is None else flat_share(function, values, _FLAT)
    numbers = {"largest": largest, "unit": unit, "step": step, "flat": share}
    reading = f"the largest |{state}| is {largest:.3g}, in unit {unit} at step {step}"
    if function is not None and share is not None:
        what_lies = "cell states" if state == "c" else f"values of {state}"
        reading += f". {_flat(what_lies, share, function)}"
    if share:
        reading += ": what changes there is hardly seen outside, and gets little gradient"
    return Picture(name, figure, f"{what}. In words: {reading}.", f"{reading}.", numbers)


def _state_word(state: str) -> str:
    return _STATES.get(state, f"state {state}")


def _output(chosen: Chosen, x_names: list[str] | None) -> Picture:
    drawn = [*chosen.roles.parts("h"), "h"]
    parts = [f"the {_PARTS.get(each, each)}" for each in drawn[:-1]]
    what = f"Heat map{'s' * (len(drawn) > 1)} of {_list([*parts, 'the output'])} {_where(chosen)}"
    units, h = chosen.units, chosen.of("h")[:, chosen.units]
    strength = np.sqrt(np.square(h).mean(axis=0))
    strongest = [int(unit) for unit in units[np.argsort(-strength, kind="stable")[:3]]]
    figure, broken = _maps(chosen, drawn, x_names, strongest), _broken(chosen, drawn)
    if broken:
        return Picture("output", figure, f"{what}. In words: {broken}.", f"{broken}.", {})
    peaks = np.abs(h).max(axis=0)
    silent = units[peaks <= _SILENT * peaks.max()]
    loudest = [str(unit) for unit in strongest]
    numbers: dict[str, Any] = {
        "largest": float(peaks.max()),
        "root_mean_square": {int(unit): float(value) for unit, value in zip(units, strength, strict=True)},
        "silent": [int(unit) for unit in silent],
    }
    if not peaks.any():
        reading = "every output is exactly 0"
    else:
        n = len(units)
        few = f"{len(silent)} of {_plural(n, 'unit')} stay" if len(silent) else f"none of {_plural(n, 'unit')} stays"
        reading = (
            f"the strongest {'is unit' if len(units) == 1 else 'are units'} {_list(loudest)} (by root mean square);"
            f" {few} within a twentieth of the largest |h|, {peaks.max():.3g}, at every step"
        )
    outermost = chosen.roles.outermost("h")
    if outermost is not None:
        function, argument = outermost
        a = chosen.roles.values(argument, chosen.trace)[chosen.start : chosen.stop, 0]
        numbers["flat"] = share = flat_share(function, a[:, units], _FLAT)
        if share is not None:
            reading += f". {_flat('outputs', share, function)}"
    return Picture("output", figure, f"{what}. In words: {reading}.", f"{reading}.", numbers)


def _sensitivity(chosen: Chosen) -> Picture:
    from lstm_numba import plots

    direction = directions_of(chosen.stack)
    profile = by_distance(chosen.S, direction)
    ax = plots.sensitivity_map(chosen.S, direction=direction)
    steps = chosen.stop - chosen.start
    plots.number_steps(ax.xaxis, steps, chosen.start + 1)
    plots.number_steps(ax.yaxis, steps, chosen.start + 1)
    numbers: dict[str, Any] = {"by_distance": [_finite(value) for value in profile], "direction": direction}
    bad = int((~np.isfinite(chosen.S)).sum())
    if bad:
        reading = f"{bad:,} of the pairs of steps are NaN or ∞: on its way the gradient explodes"
    elif not profile.any():
        reading = "no output here depends on any input at all"
    else:
        distance = reach(profile)
        numbers |= {"peak": int(profile.argmax()), "below_1_percent_from": distance}
        reading = _effect(profile, distance, direction)
        if distance is not None:
            _mark_distance(ax, distance, direction)
    alt = (
        f"Map of the norms of the derivatives of the output at step t with respect to the input at step s, for steps"
        f" {chosen.start + 1} to {chosen.stop}, logarithmic colours. In words: {reading}."
    )
    return Picture("sensitivity", ax.figure.figure, alt, f"{reading}.", numbers)


def _effect(profile: NDArray, distance: int | None, direction: str) -> str:
    peak = int(profile.argmax())
    later = {"forward": "later", "backward": "earlier", "both": "away"}[direction]
    own = "of its own step" if peak == 0 else f"{_count(peak)} {later}"
    text = f"on average an input acts most on the output {own}"
    if len(profile) == 1:
        return text
    if distance is None:
        left = _percent(profile[-1] / profile.max())
        return f"{text}; {_count(len(profile) - 1)} {later}, the most that is drawn, {left} of that is left"
    return f"{text}; from {_count(distance)} {later} on (dashed line) less than 1 % of that is left"


def _mark_distance(ax: Any, distance: int, direction: str) -> None:
    """Draw a dashed line along the distance from which on the mean is below 1 % of its largest value."""
    n = ax.images[0].get_array().shape[0]
    ends, near = (distance - 1, n - 0.5), (-0.5, n - distance)  # between the cells that lie d - 1 and d steps apart
    for forward in (True, False) if direction == "both" else (direction == "forward",):
        across, down = (ends, near) if forward else (near, ends)
        ax.plot(across, down, color="white", linewidth=2.6, gid="1 %")
        ax.plot(across, down, color="#222222", linewidth=1.3, linestyle=(0, (4, 3)), gid="1 %")
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))


def _gradient(chosen: Chosen) -> Picture:
    from lstm_numba import plots

    last, start = chosen.last, chosen.start
    curves = {"input $x^s$": chosen.S[:, last - start], "output $h^s$": chosen.of_last_output("h")}
    others = chosen.layer.states[1:]
    for state in others:
        word = "cell\nstate" if state == "c" else "state"
        curves[f"{word} ${state}^s$"] = chosen.of_last_output(state)
    label = f"norm of the derivative of the output\n$h^t$ at step $t$ = {last + 1} with respect to"
    ax = plots.decay(curves, ylabel=label)
    plots.number_steps(ax.xaxis, chosen.stop - start, start + 1, 1)
    ax.set_xlabel("step $s$")
    reading, numbers = _past(chosen, curves)
    distance = numbers["below_1_percent_from"].get("input")
    if distance is not None:
        step = last - start + 1 + (distance if chosen.layer.reverse else -distance)
        ax.axvline(step, color="#222222", linewidth=1.2, linestyle=":", zorder=1, gid="1 %")
    alt = f"Curves on a logarithmic scale over the steps {start + 1} to {chosen.stop}. In words: {reading}."
    return Picture("gradient", ax.figure.figure, alt, f"{reading}.", numbers)


def _past(chosen: Chosen, curves: dict[str, NDArray]) -> tuple[str, dict[str, Any]]:
    """Say how far back each curve reaches from the last step, and return the numbers as well."""
    others = [_state_word(state) for state in chosen.layer.states[1:]]
    names = dict(zip(("input", "output", *others), curves.values(), strict=True))
    back = {name: values if chosen.layer.reverse else values[::-1] for name, values in names.items()}
    numbers: dict[str, Any] = {"last_step": chosen.last + 1, "norms": {n: _all_finite(v) for n, v in names.items()}}
    numbers["below_1_percent_from"] = distances = {}
    gone: list[str] = []
    left: list[str] = []
    other: list[str] = []
    for name in (*others, "output", "input"):
        values = back[name]
        if not np.isfinite(values).all():
            other.append(f"is NaN or ∞ for the {name}: it explodes")
        elif not values.any():
            other.append(f"is 0 for the {name}")
        else:
            distances[name] = distance = reach(values)
            dotted = " (dotted line)" if name == "input" else ""
            if distance is None:
                share, of = _percent(values[-1] / values.max()), "" if left else " of its largest value"
                left.append(f"{share}{of} for the {name}")
            else:
                gone.append(f"{_count(distance)} back for the {name}{dotted}")
    far = chosen.stop if chosen.layer.reverse else chosen.start + 1
    parts = [f"falls below 1 % of its largest value {_list(gone)}"] if gone else []
    parts += [f"still has, at step {far}, {_list(left)}"] if left else []
    return f"the derivative of the output at step {chosen.last + 1} {'; it '.join(parts + other)}", numbers


# Words


def _count(steps: float) -> str:
    """Turn 2.14 into "2.1 steps", and 240.3 into "240 steps"."""
    if steps >= 10_000:
        return "more than 10,000 steps"
    number = f"{steps:.0f}" if steps >= 10 else f"{steps:.1f}".removesuffix(".0")
    return f"{number} step{'s' * (number != '1')}"


def _percent(share: float) -> str:
    """Turn 0.123 into "12 %"; a small share isn't rounded to 0 %, nor a large one to 100 %."""
    percent = 100 * float(share)
    if 0 < percent < 1:
        return f"{percent:.1g} %" if percent < 0.95 else "1 %"
    if 99 < percent < 100:
        return f"{min(percent, 99.9):.1f} %"
    return f"{percent:.0f} %"


def _plural(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _shares(shares: dict[str, float]) -> str:
    return _list([_percent(share) for share in shares.values()]) if any(shares.values()) else "none"


def _flat(what: str, share: float, function: str) -> str:
    many = f"{_percent(share)} of the {what} lie" if share else f"None of the {what} lies"
    return f"{many} where {function} is flat (its slope below a tenth of its largest)"


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _after(steps: float) -> str:
    return "never" if np.isinf(steps) else f"after {_count(steps)}"


def _finite(value: float) -> float | None:
    """Return a number in a form that JSON can hold: None for NaN and infinity."""
    return float(value) if np.isfinite(value) else None


def _all_finite(values: NDArray) -> list[float | None]:
    return [_finite(value) for value in values]
