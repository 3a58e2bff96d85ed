"""Check with central differences, parameter by parameter, that the backward pass is the derivative of the forward pass.

For a loss L and one number θ in a weight, an input or an initial state,

    D(s) = (L(θ + s) - L(θ - s)) / 2s                      = ∂L/∂θ + O(s²)
    R    = (4 D(s/2) - D(s)) / 3                           = ∂L/∂θ + O(s⁴)

R is Richardson's extrapolation (L. Richardson, *The Approximate Arithmetical Solution by Finite Differences*,
Phil. Trans. A 210, 1911). In float64, with s about 10⁻³, it agrees with a right gradient to about nine
digits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks, _tables
from lstm_numba.layers.recurrent import Recurrent, Trace

Loss = Callable[[], float]

# Assumed rounding error of a loss, in units of its last place.
_ROUNDING = 16 * 2.0**-52
# If R of the first step leaves more than this share of the tolerance, try smaller steps as well.
_CLEARLY = 1e-2
_HALVINGS = 14


_HEAD = ("gradient", "entries", "largest relative error", "at", "analytic", "numeric", "")


class GradcheckRow(NamedTuple):
    """One line of the table: a parameter (one gate's part of it), an input or an initial state.

    Attributes
    ----------
    name
        Its name, such as "W_f", "x", "c0", "layers.0.forward.V_o".
    entries, checked
        How many numbers it has, and how many were compared.
    error
        The largest relative error; infinite if a gradient is NaN or infinite.
    place
        The index of the largest error in the array.
    analytic, numeric
        Both derivatives there.
    passed
        Whether the error is within the tolerance.
    kink
        Whether the loss has no derivative there: its one-sided derivatives differ however small the step.
    """

    name: str
    entries: int
    checked: int
    error: float
    place: tuple[int, ...]
    analytic: float
    numeric: float
    passed: bool
    kink: bool


@dataclass(frozen=True)
class GradcheckResult:
    """The result of `gradcheck`: ``print(result)`` shows a table, ``bool(result)`` is `passed`.

    Attributes
    ----------
    subject
        A description of the layer, stack or network.
    rows
        One `GradcheckRow` for each parameter, input and initial state.
    tolerance, step
        As given to `gradcheck`.
    wrong_in_one_step
        If a row failed: names of the rows that also fail for a sequence of a single step. There an error in one gate
        can't spread to the others, as it does on its way to earlier steps. With several layers, only rows of the
        highest layer with failures; x and initial states only if no parameter fails. None if all passed.
    note
        The place of the first NaN or infinity, if a layer or stack computes one from states of zeros. The check starts
        from random states, so it can pass all the same.
    """

    subject: str
    rows: list[GradcheckRow]
    tolerance: float
    step: float
    wrong_in_one_step: list[str] | None = None
    note: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    @property
    def failed(self) -> list[str]:
        """Names of the rows that failed."""
        return [row.name for row in self.rows if not row.passed]

    @property
    def worst(self) -> GradcheckRow:
        """The row with the largest relative error."""
        return max(self.rows, key=lambda row: row.error)

    def __bool__(self) -> bool:
        """Return whether every row passed, so that ``assert gradcheck(layer)`` works."""
        return self.passed

    def to_dict(self) -> dict[str, Any]:
        """Return everything in a form that JSON can hold; NaN and infinity become None."""
        return {
            "subject": self.subject,
            "passed": self.passed,
            "tolerance": self.tolerance,
            "step": self.step,
            "wrong_in_one_step": self.wrong_in_one_step,
            "note": self.note,
            "rows": [{name: _jsonable(value) for name, value in row._asdict().items()} for row in self.rows],
        }

    def __repr__(self) -> str:
        """Return the table, for the end of a notebook's cell."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the table for notebooks, with the worst row in bold."""
        worst = self.rows.index(self.worst) if self.rows else -1
        return _tables.table(f"{self.subject}\n{self._verdict()}", _HEAD, map(_cells, self.rows), {worst})

    def __str__(self) -> str:
        """Return the table and a summary in one line."""
        cells = [_HEAD, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = (0, 3, 6)
        lines = [
            "  ".join(c.ljust(w) if n in left else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        lines = [line.rstrip() for line in lines]
        return "\n".join([self.subject, "", *lines[:1], "-" * max(map(len, lines)), *lines[1:], "", self._verdict()])

    def _verdict(self) -> str:
        return self._found() if self.note is None else f"{self._found()}\nnote: {self.note}"

    def _found(self) -> str:
        if not self.passed:
            count = f"{len(self.failed)} of {len(self.rows)}"
            found = f"FAILED: {count} gradients differ by more than {self.tolerance:g}: {', '.join(self.failed)}"
            return f"{self._where_to_look()}\n{found}".lstrip()
        worst = f"the largest error is {self.worst.error:.1e}, in {self.worst.name}"
        return f"passed: all {len(self.rows)} gradients agree to {self.tolerance:g}; {worst}"

    def _where_to_look(self) -> str:
        names = self.wrong_in_one_step
        if names is None:
            return ""
        if not names:
            return "a single step is right: look at what passes from one step to the next"
        verb = "is" if len(names) == 1 else "are"
        return f"in a single step only {', '.join(names)} {verb} wrong: look there first"


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return list(value) if isinstance(value, tuple) else value


def _cells(row: GradcheckRow) -> tuple[str, ...]:
    entries = str(row.entries) if row.checked == row.entries else f"{row.checked} of {row.entries}"
    result = "pass" if row.passed else "FAIL, at a kink" if row.kink else "FAIL"
    place = ", ".join(map(str, row.place))
    return (
        row.name,
        entries,
        f"{row.error:.1e}",
        f"[{place}]",
        f"{row.analytic:.8e}",
        f"{row.numeric:.8e}",
        result,
    )


def gradcheck(
    layer_or_network: Any,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    *,
    lengths: ArrayLike | None = None,
    step: float = 2e-3,
    tolerance: float = 1e-6,
    max_entries: int | None = None,
    seed: int = 0,
) -> GradcheckResult:
    """Compare the gradients of a layer, a stack or a network with differences of its forward pass.

    The loss of a layer uses everything that it returns, with random weights r and p_s, where s runs over the states of
    its cell (h and c in an LSTM):

        L = Σₜ rᵗ · hᵗ + Σₛ p_s · s_T

    The check starts from a random initial state and covers every parameter, gate by gate, as well as x, h⁰ and the
    other initial states. A stack is checked in the same way, with the states of all its layers; if their sizes differ,
    each state has its own row: "h0[0]", "h0[1]", … A network is checked with its own loss, for every parameter and for
    x. Each numeric derivative is Richardson's (see the top of this module), and the relative error is

        |analytic - numeric| / max(|analytic|, |numeric|, floor)
        floor = 16 ε max(1, |L|) / (step · tolerance)

    with ε = 2⁻⁵², the spacing of float64 at 1. L is rounded, so a numeric derivative is uncertain by about
    16 ε max(1, |L|) / step. At the floor this uncertainty reaches the tolerance. Smaller entries (below 2·10⁻⁶ with the
    defaults) are compared to within the uncertainty, since differences can't tell more about them.

    Kinks. If relu has its corner between θ - step and θ + step, the difference is wrong, not the gradient. So if the
    error is not far below the tolerance, steps down to 10⁻⁴ of the first are tried, and the R that changes least from
    one step to the next is used. This choice doesn't depend on the analytic gradient. Exactly at a kink the one-sided
    derivatives differ at every step, and there is no right answer: the row fails and says "at a kink". Then use another
    `seed` or another x.

    Parameters
    ----------
    layer_or_network
        A layer of any cell, a `Stack`, a `Network`, or an object with the same methods and, for a layer, ``states``.
        float32 is checked in a float64 copy (its ``astype``). In float64, each number is changed in turn and then
        restored exactly.
    x : (T, B, I), optional
        Input; by default random numbers in ±1 with T = 4, B = 3. For a network with an embedding: word
        numbers (T, B).
    y : (T, B) whole numbers, optional
        A network's classes, -1 where a step doesn't count; random by default.
    lengths : (B,) whole numbers, optional
        Steps of each sequence; by default a stack's own. Without `x`, the longest gives T.
    step
        s, the same for every entry.
    tolerance
        Largest relative error that passes.
    max_entries
        Compare at most this many entries of each array, drawn at random; None for all. Each entry takes four
        forward passes.
    seed
        Seed of all random numbers.

    Returns
    -------
    GradcheckResult

    Raises
    ------
    TypeError
        If the first argument is neither a layer nor a network.
    ValueError
        If step, tolerance or max_entries isn't positive, y is given with a layer, a gradient is missing or
        differs in shape from its array, or the loss is not finite; and errors of ``forward`` about x and lengths.

    Examples
    --------
    >>> from lstm_numba import LSTM
    >>> gradcheck(LSTM(input_size=2, hidden_size=3, seed=0)).passed
    True
    """
    step, tolerance = _positive("step", step), _positive("tolerance", tolerance)
    if max_entries is not None:
        max_entries = _checks.size("max_entries", max_entries)
    rng = _checks.generator(seed)
    subject = _in_float64(layer_or_network)
    problem: _Problem
    if hasattr(subject, "loss"):
        problem = _NetworkProblem(subject, x, lengths, rng, y)
    elif y is not None:
        raise ValueError("y: expected None, a layer has no classes of its own; give a network to check a loss with y")
    else:
        problem = _LayerProblem(subject, x, lengths, rng)
    rows = problem.compare(step, tolerance, max_entries)
    wrong = None
    if not all(row.passed for row in rows):
        one_step = problem.one_step()
        wrong = one_step.blamed(one_step.compare(step, tolerance, max_entries))
    return GradcheckResult(problem.describe(), rows, tolerance, step, wrong, problem.from_zero_states())


def _positive(name: str, value: Any) -> float:
    value = _checks.number(name, value)
    if value <= 0:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")
    return value


def _in_float64(subject: Any) -> Any:
    missing = [name for name in ("forward", "backward", "parameters", "dtype") if not hasattr(subject, name)]
    if missing:
        got = f"{type(subject).__name__} without {', '.join(missing)}"
        raise TypeError(f"layer_or_network: expected a layer or a network, got {got}")
    return subject if np.dtype(subject.dtype) == np.float64 else subject.astype(np.float64)


# Arrays by name, a loss of their present values, and its analytic gradients


class _Problem(ABC):
    """Arrays by name, the loss of their present values, and the analytic gradient of each."""

    def __init__(self, subject: Any, x: ArrayLike | None, lengths: ArrayLike | None, rng: np.random.Generator) -> None:
        self.subject = subject
        self.lengths = getattr(subject, "lengths", None) if lengths is None else lengths
        self.rng = rng
        self.arrays: dict[str, NDArray] = dict(subject.parameters())
        self.gates: Mapping[str, Sequence[str]] = getattr(subject.parameters(), "gates", {})
        self.gradients: dict[str, NDArray] = {}
        self.x = self._random_x() if x is None else self._given_x(x)

    def _given_x(self, x: ArrayLike) -> NDArray:
        x = _checks.floats("x", x, ("T", "B", self.subject.input_size), np.dtype(np.float64))
        return x.copy()  # its entries will be changed

    def _random_x(self) -> NDArray:
        return self.rng.uniform(-1, 1, (*self._random_size(), self.subject.input_size))

    def _random_size(self) -> tuple[int, int]:
        """Return T and B of a random input."""
        if self.lengths is None:
            return 4, 3
        lengths = _checks.array_of("lengths", self.lengths)
        if lengths.ndim != 1 or not lengths.size or lengths.dtype.kind not in "iu":
            raise ValueError(f"lengths: expected whole numbers of shape (B,), got {self.lengths!r}")
        return max(1, int(lengths.max())), lengths.size

    def _collect(self, gradients: Mapping[str, NDArray], others: Mapping[str, NDArray]) -> None:
        """Copy the gradients of parameters and other arrays, to compare them later."""
        for name in self.subject.parameters():
            try:
                self.gradients[name] = np.array(gradients[name])
            except KeyError:
                raise ValueError(f"layer_or_network: expected a gradient of {name} from backward, got none") from None
        self.gradients |= {name: np.array(gradient) for name, gradient in others.items()}

    @abstractmethod
    def loss(self) -> float:
        """Return L for the arrays' present values."""

    @abstractmethod
    def one_step(self) -> _Problem:
        """Return the same problem with sequences of one step."""

    def _lengths_of_one_step(self) -> NDArray | None:
        return None if self.lengths is None else np.minimum(self.lengths, 1)

    def compare(self, step: float, tolerance: float, max_entries: int | None) -> list[GradcheckRow]:
        """Compare every gradient with differences."""
        differences = _Differences(self.loss, step, tolerance)
        return [
            _row(name, array, gradient, differences, max_entries, self.rng)
            for name, array, gradient in _by_gates(self.arrays, self.gradients, self.gates)
        ]

    def blamed(self, rows: Sequence[GradcheckRow]) -> list[str]:
        """Return the names of rows that failed in the highest layer; x and initial states only if nothing else did."""
        failed = [row.name for row in rows if not row.passed]
        others = set(self.arrays) - set(self.subject.parameters())
        own = [name for name in failed if name not in others]
        layers = [name.rpartition(".")[0] for name in own]
        return [name for name, layer in zip(own, layers, strict=True) if layer == layers[-1]] or failed

    def describe(self) -> str:
        count = sum(array.size for array in self.subject.parameters().values())
        T, B = self.x.shape[:2]
        return f"{_called(self.subject)} with {count:,} parameters, T = {T}, B = {B}"

    def from_zero_states(self) -> str | None:
        """Return a sentence on the first NaN or infinity in a forward pass from states of zeros, if there is one."""
        return None


class _LayerProblem(_Problem):
    """A layer or a stack with L = Σₜ rᵗ·hᵗ + Σₛ p_s·s_T, from random states."""

    def __init__(self, layer: Any, x: ArrayLike | None, lengths: ArrayLike | None, rng: np.random.Generator) -> None:
        super().__init__(layer, x, lengths, rng)
        trace = layer.forward(self.x, lengths=self.lengths)
        last = {state: f"{state}_last" for state in layer.states}
        self.state: dict[str, Any] = {
            f"{state}0": _like(getattr(trace, name), rng.uniform, -1, 1) for state, name in last.items()
        }
        scale = 1 / math.sqrt(trace.h.size)  # keeps L of order one, whatever the sizes
        names = {"h": "dh"} | {name: f"d{name}" for name in last.values()}
        self.seeds: dict[str, Any] = {name: _like(getattr(trace, name), rng.normal, 0, scale) for name in names}
        gradients = layer.backward(self._forward(), **{names[name]: seed for name, seed in self.seeds.items()})
        self.arrays["x"] = self.x
        found = {"x": gradients.x}
        for name, state in self.state.items():
            self.arrays |= _named(name, state)
            found |= _named(name, getattr(gradients, name))
        self._collect(gradients, found)

    def one_step(self) -> _Problem:
        return _LayerProblem(self.subject, self.x[:1], self._lengths_of_one_step(), self.rng)

    def from_zero_states(self) -> str | None:
        trace = self.subject.forward(self.x, lengths=self.lengths)
        found = []
        for number, (layer, own) in enumerate(_traces(trace)):
            for name in own.layer.names.forward_order:
                values = np.asarray(getattr(own, name))
                bad = np.argwhere(~np.isfinite(values).all(axis=-1)) if values.ndim == 3 else np.empty((0, 2))
                if len(bad):
                    t = int(bad[:, 0].max() if own.layer.reverse else bad[:, 0].min())
                    at = own.T - 1 - t if own.layer.reverse else t
                    found.append((number, at, f"{name} of {layer}" if layer else name, t))
        if not found:
            return None
        _, _, name, t = min(found, key=lambda each: each[:2])
        return (
            f"from states of zeros, {name} is NaN or infinite at t = {t} (counted from 0);"
            " the check's states are random"
        )

    def _forward(self) -> Any:
        return self.subject.forward(self.x, **self.state, lengths=self.lengths)

    def loss(self) -> float:
        trace = self._forward()
        return float(sum(_product(seed, getattr(trace, name)) for name, seed in self.seeds.items()))


# Arrays, and lists of arrays: states of a stack whose layers have different sizes


def _called(subject: Any) -> str:
    """Return a name for a layer, stack or network, with its cell unless the class stands for one cell."""
    kind = type(subject).__name__
    if isinstance(subject, Recurrent):
        return f"Recurrent layer of {subject.cell.name}" if type(subject) is Recurrent else kind
    layers = [each if isinstance(each, list | tuple) else [each] for each in getattr(subject, "layers", ())]
    cells = [layer.cell.name for directions in layers for layer in directions if isinstance(layer, Recurrent)]
    return f"{kind} of {' and '.join(dict.fromkeys(cells))}" if cells else kind


def _traces(trace: Any) -> Iterator[tuple[str, Trace]]:
    """Iterate over (name, trace) of each layer of a stack, or the trace of a single layer without a name."""
    if isinstance(trace, Trace):
        yield "", trace
        return
    for number, directions in enumerate(getattr(trace, "layers", ())):
        for each in directions:
            yield f"layer {number}{', backward' * bool(each.layer.reverse)}", each


def _like(array: Any, draw: Callable[..., NDArray], *arguments: float) -> Any:
    """Return random numbers in the shape of an array."""
    if isinstance(array, list):
        return [_like(each, draw, *arguments) for each in array]
    return draw(*arguments, array.shape)


def _named(name: str, array: Any) -> dict[str, NDArray]:
    if isinstance(array, list):
        return {f"{name}[{n}]": each for n, each in enumerate(array)}
    return {name: array}


def _product(seed: Any, array: Any) -> float:
    if isinstance(array, list):
        return sum(_product(*each) for each in zip(seed, array, strict=True))
    return float(np.sum(seed * array))


class _NetworkProblem(_Problem):
    """A network with its own loss."""

    def __init__(
        self,
        network: Any,
        x: ArrayLike | None,
        lengths: ArrayLike | None,
        rng: np.random.Generator,
        y: ArrayLike | None,
    ) -> None:
        self.embedding = getattr(network, "embedding", None)
        super().__init__(network, x, lengths, rng)
        self.y = self._random_y() if y is None else _checks.array_of("y", y)
        gradients = network.backward(self._forward(), self.y)
        others = {}
        if self.embedding is None:
            self.arrays["x"] = self.x
            others["x"] = gradients.x
        self._collect(gradients, others)

    def one_step(self) -> _Problem:
        counts = self.y >= 0 if self.y.ndim == 2 else ~np.isnan(self.y).all(axis=2)
        t = int(counts.any(axis=1).argmax())  # the first step that has a target
        return _NetworkProblem(
            self.subject, self.x[t : t + 1], self._lengths_of_one_step(), self.rng, self.y[t : t + 1]
        )

    def _given_x(self, x: ArrayLike) -> NDArray:
        return _checks.array_of("x", x) if self.embedding is not None else super()._given_x(x)

    def _random_x(self) -> NDArray:
        if self.embedding is None:
            return super()._random_x()
        return self.rng.integers(0, self.embedding.n_words, self._random_size())

    def _random_y(self) -> NDArray:
        """Return random classes, or numbers from 0 to 1 without a softmax; one is ignored if there are enough."""
        T, B, C = self._forward().logits.shape
        classes = self.subject.output == "softmax"
        y = self.rng.integers(0, C, (T, B)) if classes else self.rng.random((T, B, C))
        if T > 2:
            y[0, 0] = -1 if classes else np.nan
        return y

    def _forward(self) -> Any:
        return self.subject.forward(self.x, lengths=self.lengths)

    def loss(self) -> float:
        return float(self.subject.loss(self._forward(), self.y))


def _by_gates(
    arrays: Mapping[str, NDArray], gradients: Mapping[str, NDArray], gates: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, NDArray, NDArray]]:
    """Iterate over (name, array, gradient), with one item for each gate of a stacked array; the arrays are views."""
    for name, array in arrays.items():
        gradient = gradients[name]
        if gradient.shape != array.shape:
            raise ValueError(
                f"layer_or_network: expected a gradient of {name} with shape {array.shape}, got {gradient.shape}"
            )
        if name not in gates:
            yield name, array, gradient
            continue
        for k, gate in enumerate(gates[name]):
            yield f"{name}_{gate}", array[k], gradient[k]


# Differences


class _Differences:
    """Numeric derivatives of a loss with respect to single entries of arrays."""

    def __init__(self, loss: Loss, step: float, tolerance: float) -> None:
        self.loss = loss
        self.here = loss()
        if not math.isfinite(self.here):
            raise ValueError(f"layer_or_network: expected a finite loss, got {self.here}; are its weights finite?")
        self.step = step
        self.tolerance = tolerance
        self.rounding = _ROUNDING * max(1.0, abs(self.here))
        self.floor = self.rounding / (step * tolerance)

    def error(self, analytic: float, numeric: float) -> float:
        """|analytic - numeric| / max(|analytic|, |numeric|, floor); infinite where one is not finite."""
        if not (math.isfinite(analytic) and math.isfinite(numeric)):
            return math.inf
        return abs(analytic - numeric) / max(abs(analytic), abs(numeric), self.floor)

    def compare(self, array: NDArray, index: tuple[int, ...], analytic: float) -> tuple[float, float, bool]:
        """Return (error, numeric derivative, kink) for one entry."""
        D = [self._central(array, index, self.step / 2**k)[0] for k in range(2)]
        numeric = _richardson(*D)
        error = self.error(analytic, numeric)
        if error <= _CLEARLY * self.tolerance or not math.isfinite(analytic):
            return error, numeric, False
        gaps = []
        for k in range(2, _HALVINGS):
            difference, gap = self._central(array, index, self.step / 2**k)
            D.append(difference)
            gaps.append(gap)
        numeric = self._most_certain(D)
        return self.error(analytic, numeric), numeric, self._is_kink(gaps)

    def _central(self, array: NDArray, index: tuple[int, ...], step: float) -> tuple[float, float]:
        """Return D(step), and the gap between the one-sided differences, with the step as rounded by float64."""
        theta = float(array[index])
        above, below = theta + step, theta - step
        try:
            array[index] = above
            up = self.loss()
            array[index] = below
            down = self.loss()
        finally:
            array[index] = theta
        gap = (up - self.here) / (above - theta) - (self.here - down) / (theta - below)
        return (up - down) / (above - below), abs(gap)

    def _most_certain(self, D: list[float]) -> float:
        """Return the R from neighbouring D that differs least from the next, allowing for rounding."""
        R = [_richardson(*pair) for pair in pairwise(D)]
        doubts = [abs(b - a) + self.rounding * 2**k / self.step for k, (a, b) in enumerate(pairwise(R))]
        return R[int(np.argmin(np.nan_to_num(doubts, nan=np.inf)))]

    def _is_kink(self, gaps: list[float]) -> bool:
        """Return whether the gap between one-sided differences fails to shrink when the step is halved."""
        certain = 100 * self.rounding * 2**_HALVINGS / self.step
        return gaps[-1] > max(0.75 * gaps[-2], certain)


def _richardson(wide: float, narrow: float) -> float:
    """Return R from D(s) and D(s/2)."""
    return (4 * narrow - wide) / 3


def _row(
    name: str,
    array: NDArray,
    gradient: NDArray,
    differences: _Differences,
    max_entries: int | None,
    rng: np.random.Generator,
) -> GradcheckRow:
    """Compare one array's entries, or a random choice of them, and keep the worst."""
    entries = np.arange(array.size)
    if max_entries is not None and max_entries < array.size:
        entries = np.sort(rng.choice(array.size, max_entries, replace=False))
    worst = GradcheckRow(name, array.size, len(entries), -1.0, (), 0.0, 0.0, True, False)
    for entry in entries:
        index = tuple(int(n) for n in np.unravel_index(int(entry), array.shape))
        analytic = float(gradient[index])
        error, numeric, at_kink = differences.compare(array, index, analytic)
        if error > worst.error:
            worst = worst._replace(error=error, place=index, analytic=analytic, numeric=numeric, kink=at_kink)
    return worst._replace(passed=worst.error <= differences.tolerance)
