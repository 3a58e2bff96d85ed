"""Exact derivatives through one layer or several, in one direction or both.

In a stack the output of a step can depend on earlier steps, on later ones, or on all of them, so there is no single
chain of steps. But each layer in each direction is a chain, and a derivative goes through these one after the other.
With Dᵗ = ∂zᵗ/∂zᵗ⁻¹ and Xᵗ = ∂zᵗ/∂xᵗ of a layer, z all its states and ⁻ for "the step processed before", there are two
ways:

    from the input up     żᵗ = Xᵗ ẋᵗ + Dᵗ ż⁻
    from the output down  ∂/∂xᵗ = λᵗ Xᵗ            λ⁻ = e⁻ + λᵗ Dᵗ    with e from the layer above

On the way up, ẋ is a unit vector at one time s, and the result is a column of every ∂hᵗ/∂xˢ. On the way down, e is a
unit vector at one time t, and the result is a row of every ∂hᵗ/∂xˢ. The way with fewer rows is used. With several
layers, the result of one goes into the next, and the results of two directions with the same input are added.

Rows are zero where no path leads: in a forward layer before s, in a backward layer after s. These are left out.

If only the times from t₁ to t₂ are asked for, many rows go through these steps only. What lies outside acts like a
mirror: a derivative leaves at t₁ in the states of the backward layers, and comes back in the states of the forward
layers above them. It is the same linear map for every row, *the reflection*, which follows once from unit vectors at
the states. The steps after t₂ are a mirror in the same way.

Sources: A. Griewank & A. Walther, *Evaluating Derivatives* (2nd ed., 2008), chapter 3, for the two ways; A. Graves,
*Supervised Sequence Labelling with Recurrent Neural Networks* (2012), section 4.8, for the sensitivity of a
bidirectional LSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba.engine import buffers, pool
from lstm_numba.engine.row_products import add_product
from lstm_numba.instruments.step_slopes import StepSlopes
from lstm_numba.layers.recurrent import Trace
from lstm_numba.layers.stack import StackTrace

INITIAL = -1  # stands for "before the first step", where initial states enter

# Largest size of the rows that a thread carries through the steps at one time, in numbers (128 MB).
_ROOM = 2**24

# The times at which a row can be nonzero, relative to the time where it begins.
_AT, _LATER, _EARLIER, _ANY, _NEVER = "at", "later", "earlier", "any", "never"

_NOTHING = slice(0, 0)

# Below this many multiply-adds a step the interpreter takes most of the time, which threads can't share.
_WORTH_A_THREAD = 4_000_000

Pair = tuple[int, int]
Sink = Callable[[int, NDArray, slice], None]
Measure = Callable[[NDArray], Any]  # a result for each of the Jacobians (n, ·, ·)


class _Rows:
    """Rows that are carried together through the steps first … stop - 1.

    Attributes
    ----------
    size
        Number of rows, R.
    first, stop
        The steps.
    """

    def __init__(self, places: Sequence[int], each: int, first: int, stop: int) -> None:
        """Make `each` rows for every place, ascending: the time where they begin, or `INITIAL`."""
        begins = np.repeat(np.asarray(places), each)
        times = np.arange(first, stop)
        self.size, self.first, self.stop = len(begins), first, stop
        self._before = np.searchsorted(begins, times, "left")
        self._until = np.searchsorted(begins, times, "right")

    def active(self, t: int, reach: str) -> slice:
        """Return the rows that can be nonzero at a step."""
        lo, hi = 0, self.size
        if reach in (_AT, _EARLIER):
            lo = int(self._before[t - self.first])
        if reach in (_AT, _LATER):
            hi = int(self._until[t - self.first])
        if reach == _NEVER:
            hi = 0
        return slice(lo, hi)


class _Signal(NamedTuple):
    """Rows at every step between two layers (steps, R, ·), and the steps at which they can be nonzero."""

    values: NDArray
    reach: str


class _Way:
    """One layer in one direction for one sequence, through whose steps rows are carried up or down."""

    def __init__(self, trace: Trace, slopes: StepSlopes, b: int, inputs: list[tuple[int, int]]) -> None:
        self.reverse = trace.layer.reverse
        self.slopes, self.b = slopes, b
        self.H, self.Z = slopes.H, slopes.S * slopes.H
        self.inputs = inputs  # the columns of x that come from each direction of the layer below

    def part(self, number: int) -> slice:
        """Return the place of a state among all states side by side."""
        return slice(number * self.H, (number + 1) * self.H)

    def _order(self, rows: _Rows, against: bool) -> range:
        """Return the steps in the order of processing, or against it."""
        if self.reverse != against:
            return range(rows.stop - 1, rows.first - 1, -1)
        return range(rows.first, rows.stop)

    def up(
        self,
        rows: _Rows,
        below: Sequence[_Signal],
        entering: NDArray | None,
        source: Callable[[int], NDArray] | None,
        sink: Sink,
    ) -> tuple[str, NDArray]:
        """Carry rows through the steps, in the order of processing.

        Parameters
        ----------
        rows
            The rows.
        below
            ẋ of every step, from each direction of the layer below; empty for the lowest layer.
        entering : (R, Z) or None
            ż before the first step processed here; it may be overwritten.
        source
            ∂zᵗ/∂(source) (Z, width) at a time t where rows begin.
        sink
            ``sink(t, żᵗ, rows)`` takes żᵗ (R, Z), and the rows that can be nonzero.

        Returns
        -------
        str
            The reach of ż.
        NDArray (R, Z)
            ż after the last step processed here.
        """
        reach = self._reach(below, entering, source)
        if reach == _NEVER:
            return reach, np.zeros((rows.size, self.Z))
        before, now = (np.empty((rows.size, self.Z)) if entering is None else entering), np.empty((rows.size, self.Z))
        carried = _NOTHING if entering is None else slice(0, rows.size)
        for t in self._order(rows, against=False):
            active = rows.active(t, reach)
            if carried.stop > carried.start:
                self.slopes.on(t, self.b, before, now, carried)
            _clear(now, carried, active)
            if below:
                X = self.slopes.input(t, self.b)
                for (column, _), signal in zip(self.inputs, below, strict=True):
                    also = rows.active(t, signal.reach)
                    if also.stop > also.start:
                        add_product(signal.values[t - rows.first], X, column, True, now, also.start, also.stop)
            if source is not None and (new := rows.active(t, _AT)).stop > new.start:
                now[new] += source(t).T
            sink(t, now, active)
            carried = active
            before, now = now, before
        return reach, before

    def _reach(self, below: Sequence[_Signal], entering: NDArray | None, source: object) -> str:
        """Return at which steps rows on the way up can be nonzero."""
        reaches = {each.reach for each in below} - {_NEVER} | ({_AT} if source is not None else set())
        if entering is None and not reaches:
            return _NEVER
        own = _EARLIER if self.reverse else _LATER
        return own if entering is None and reaches <= {_AT, own} else _ANY

    def down(
        self,
        rows: _Rows,
        above: _Signal | None,
        columns: slice,
        leaving: NDArray | None,
        sink: Sink,
    ) -> tuple[str, NDArray]:
        """Carry rows back through the steps, against the order of processing.

        Parameters
        ----------
        rows
            The rows.
        above
            ∂/∂h of every step, from the layer above; None for the top layer, where unit vectors begin.
        columns
            The columns of `above` that belong to this way; in the top layer the state where the unit vectors begin.
        leaving : (R, Z) or None
            ∂/∂z after the last step processed here; it may be overwritten.
        sink
            ``sink(t, λᵗ, rows)`` takes ∂/∂zᵗ (R, Z), and the rows that can be nonzero.

        Returns
        -------
        str
            The reach of λ.
        NDArray (R, Z)
            ∂/∂z before the first step processed here.
        """
        own = _LATER if self.reverse else _EARLIER
        reach = own if leaving is None and (above is None or above.reach in (_AT, own)) else _ANY
        total = np.empty((rows.size, self.Z)) if leaving is None else leaving
        before = np.empty_like(total)
        carried = _NOTHING if leaving is None else slice(0, rows.size)
        for t in self._order(rows, against=True):
            active = rows.active(t, reach)
            _clear(total, carried, active)
            new = rows.active(t, _AT if above is None else above.reach)
            if above is not None:
                total[new, : self.H] += above.values[t - rows.first, new, columns]
            elif new.stop > new.start:
                total[new, columns] += np.eye(self.H)
            if active.stop > active.start:
                sink(t, total, active)
                self.slopes.back(t, self.b, total, before, active)
            carried = active
            total, before = before, total
        return reach, total


def _clear(rows: NDArray, carried: slice, active: slice) -> None:
    """Set active rows to zero that come after those carried so far, or before them."""
    rows[active.start : carried.start] = 0
    rows[carried.stop : active.stop] = 0


class _Mirror:
    """The steps on one side of those asked for: what leaves in the states of one direction returns in the other's.

    Attributes
    ----------
    maps
        For each layer the map (Σ Z, Z) from the leaving states of all layers below, side by side, to its own states.
    offsets
        Where each layer's leaving states begin.
    """

    def __init__(self, maps: dict[int, NDArray], offsets: list[int]) -> None:
        self.maps, self.offsets = maps, offsets

    def up(self, number: int, left: list[NDArray]) -> NDArray | None:
        """Return what enters layer `number`, from what has left the layers below it."""
        if number not in self.maps or not self.offsets[number]:
            return None
        return np.concatenate(left, axis=1)[:, : self.offsets[number]] @ self.maps[number][: self.offsets[number]]

    def down(self, number: int, left: Mapping[int, NDArray]) -> NDArray | None:
        """Return what enters layer `number` from above, from what has left the layers above it."""
        own = slice(self.offsets[number], self.offsets[number + 1])
        if own.start == own.stop:
            return None
        parts = [rows @ self.maps[above][own].T for above, rows in left.items() if above > number]
        return sum(parts[1:], start=parts[0]) if parts else None


class _Results:
    """Takes the states of the top layer's ways one after the other, and measures the Jacobians.

    The last way's states are measured as they come; those of a way before it are kept.

    Attributes
    ----------
    found
        [((s, t), measure of ∂hᵗ/∂xˢ), …]
    """

    def __init__(self, chain: Chain, places: list[int], targets: list[int], measure: Measure) -> None:
        self.chain, self.places, self.measure = chain, places, measure
        self.numbers = {t: n for n, t in enumerate(targets)}
        self.found: list[tuple[Pair, Any]] = []
        self._kept: list[NDArray] = []

    def sink(self, number: int) -> Sink:
        """Return a sink for one way of the top layer."""
        ways = self.chain.layers[-1]
        if number == len(ways) - 1:
            return self._take_last
        shape = (len(self.numbers), len(self.places) * self.chain.width, ways[number].H)
        self._kept.append(np.zeros(shape))
        return partial(self._keep, self._kept[-1])

    def _own(self, rows: NDArray, active: slice) -> NDArray:
        return rows[active, self.chain.layers[-1][0].part(self.chain.part)]

    def _keep(self, kept: NDArray, t: int, rows: NDArray, active: slice) -> None:
        if t in self.numbers:
            kept[self.numbers[t], active] = self._own(rows, active)

    def _take_last(self, t: int, rows: NDArray, active: slice) -> None:
        if t not in self.numbers:
            return
        blocks = np.zeros((len(rows), self.chain.height))
        own = self._own(rows, active)
        blocks[active, self.chain.height - own.shape[1] :] = own
        for kept in self._kept:  # at most one other way
            blocks[:, : kept.shape[2]] = kept[self.numbers[t]]
        linked = [n for n, s in enumerate(self.places) if self.chain.linked(s, t)]
        chosen = blocks.reshape(len(self.places), self.chain.width, self.chain.height)
        chosen = chosen if len(linked) == len(self.places) else chosen[linked]
        pairs = [(self.places[n], t) for n in linked]
        self.found += zip(pairs, self.measure(chosen.transpose(0, 2, 1)), strict=True)


class Chain:
    """One sequence in a layer or a stack, with the exact derivatives between its steps."""

    def __init__(self, trace: Any, slopes: list[list[StepSlopes]], b: int, of: str, wrt: str) -> None:
        layers, merge = _layers_of(trace)
        self.wrt = wrt
        self.length = trace.T if trace.lengths is None else int(trace.lengths[b])
        self.layers: list[list[_Way]] = []
        for traces, own in zip(layers, slopes, strict=True):
            below = [way.H for way in self.layers[-1]] if self.layers else []
            ends = list(accumulate(below, initial=0)) if merge == "concat" else [0] * (len(below) + 1)
            inputs = [(begin, begin + size) for begin, size in zip(ends, below, strict=False)]
            self.layers.append([_Way(trace, slope, b, inputs) for trace, slope in zip(traces, own, strict=True)])
        states = layers[0][0].layer.states
        self.part = states.index(of)  # among the states of the top layer
        self.number = None if wrt == "x" else states.index(wrt.removesuffix("0"))  # among the states before
        self.ways = [(number, way) for number, ways in enumerate(self.layers) for way in ways]
        self.height = sum(way.H for way in self.layers[-1])
        self.width = layers[0][0].layer.input_size if wrt == "x" else sum(way.H for _, way in self.ways)
        self.directions = {way.reverse for _, way in self.ways}

    # -- which rows go which way --------------------------------------------------------------------------------------

    def measured(self, ss: Sequence[int], ts: Sequence[int], measure: Measure) -> dict[Pair, Any]:
        """Return {(s, t): measure of ∂hᵗ/∂xˢ} for all pairs between which there is a path.

        `measure` takes Jacobians (n, height, width), and returns n results.
        """
        sources = sorted({s for s in ss if s < self.length})  # initial states are at -1
        targets = sorted({t for t in ts if t < self.length})
        sources = [s for s in sources if any(self.linked(s, t) for t in (targets[:1] + targets[-1:]))]
        targets = [t for t in targets if any(self.linked(s, t) for s in (sources[:1] + sources[-1:]))]
        if not sources or not targets:
            return {}
        up = self._rather_up(len(sources), len(targets))
        places, each = (sources, self.width) if up else (targets, self.height)
        first, stop = self._steps(sources, targets, len(places) * each)
        mirrors = self._mirrors(first, stop)
        others = targets if up else sources
        kept = len(targets) * (self.height - self.layers[-1][-1].H) if up else len(sources) * self.width
        at_once = max(1, self._limit((stop - first) * self._between() + kept) // each)
        if len(places) * each * sum(way.Z * way.H for _, way in self.ways) > _WORTH_A_THREAD:
            at_once = min(at_once, -(-len(places) // pool.budget()))
        groups = [places[n : n + at_once] for n in range(0, len(places), at_once)]
        carry = self._up if up else self._down
        jobs = [partial(carry, group, others, first, stop, mirrors, measure) for group in groups]
        return {pair: value for found in pool.run(jobs) for pair, value in found}

    def _rather_up(self, n_sources: int, n_targets: int) -> bool:
        """Return whether the way up has fewer rows."""
        return n_sources * self.width <= n_targets * self.height

    def linked(self, s: int, t: int) -> bool:
        """Return whether a path leads from s to t: there is none if all layers run the other way."""
        return len(self.directions) == 2 or s == INITIAL or (t <= s if True in self.directions else s <= t)

    def _steps(self, sources: list[int], targets: list[int], n_rows: int) -> Pair:
        """Return the first step that rows are carried through, and the step after the last."""
        first, stop = min(sources[0], targets[0]), max(sources[-1], targets[-1]) + 1
        if first == INITIAL:
            if True in self.directions:
                return 0, self.length
            return 0, stop
        outside = max(self._reflected(True), self._reflected(False))
        return (first, stop) if n_rows > outside or not self._reflects() else (0, self.length)

    def _reflected(self, reverse: bool) -> int:
        """Return the size of the states of one direction, in all layers below the top."""
        return sum(way.Z for number, way in self.ways if way.reverse == reverse and number < len(self.layers) - 1)

    def _reflects(self) -> bool:
        return any(low < high and a.reverse != b.reverse for low, a in self.ways for high, b in self.ways)

    def _between(self) -> int:
        """Return how many numbers of a row and step are held between two layers, at most."""
        sizes = [sum(way.H for way in ways) for ways in self.layers[:-1]]
        return max(map(sum, pairwise([*sizes, 0])), default=0)

    def _limit(self, kept: int) -> int:
        """Return how many rows fit into memory, of each of which so many numbers are kept beside its states."""
        return max(1, _ROOM // (kept + 4 * max(way.Z for _, way in self.ways)))

    def _mirrors(self, first: int, stop: int) -> dict[bool, _Mirror]:
        """Return what lies where the ways of each direction end: before `first` for backward ways, or after."""
        sides = {True: (0, first), False: (stop, self.length)}
        sides = {side: (lo, hi) for side, (lo, hi) in sides.items() if lo < hi and self._reflects()}
        found = pool.run([partial(self._mirror, side, lo, hi) for side, (lo, hi) in sides.items()]) if sides else []
        return {side: mirror for side, mirror in zip(sides, found, strict=True) if mirror is not None}

    def _mirror(self, side: bool, first: int, stop: int) -> _Mirror | None:
        """Return the mirror for rows that leave in the ways whose `reverse` is `side`."""
        sizes = [sum(way.Z for way in ways if way.reverse == side) for ways in self.layers]
        offsets = list(accumulate(sizes[:-1], initial=0))
        offsets.append(offsets[-1])  # nothing that leaves the top layer comes back
        total = offsets[-1]
        returning = [way for _, way in self.ways if way.reverse != side]
        last: dict[_Way, Sink] = {way: lambda *_: None for way in self.layers[-1] if way.reverse != side}
        maps: list[list[NDArray]] = []
        at_once = self._limit((stop - first) * self._between())
        for n in range(0, total, at_once):
            unit = np.eye(total)[n : n + at_once]
            entering = {
                way: unit[:, offsets[number] : offsets[number] + way.Z]
                for number, way in self.ways
                if way.reverse == side and number < len(self.layers) - 1
            }
            rows = _Rows([INITIAL], len(unit), first, stop)
            left = self._through(rows, entering, {}, None, last)
            maps.append([left[way] for way in returning])
        if not maps:
            return None
        numbers = [number for number, way in self.ways if way.reverse != side]
        joined = [np.concatenate(each) for each in zip(*maps, strict=True)]
        return _Mirror(dict(zip(numbers, joined, strict=True)), offsets)

    # -- from the input up --------------------------------------------------------------------------------------------

    def _up(
        self,
        places: list[int],
        targets: list[int],
        first: int,
        stop: int,
        mirrors: Mapping[bool, _Mirror],
        measure: Measure,
    ) -> list[tuple[Pair, Any]]:
        """Measure the Jacobians with respect to some sources."""
        rows = _Rows(places, self.width, first, stop)
        initial = places == [INITIAL]
        entering, source = (self._units(), None) if initial else ({}, self._source)
        results = _Results(self, places, targets, measure)
        self._through(rows, entering, mirrors, source, {way: results.sink(k) for k, way in enumerate(self.layers[-1])})
        return results.found

    def _through(
        self,
        rows: _Rows,
        entering: Mapping[_Way, NDArray],
        mirrors: Mapping[bool, _Mirror],
        source: Callable[[_Way, int], NDArray] | None,
        last: Mapping[_Way, Sink],
    ) -> dict[_Way, NDArray]:
        """Carry rows up through all layers, and through the ways of the top layer that have a sink in `last`.

        Returns
        -------
        dict
            What leaves every way, (R, Z).
        """
        below: list[_Signal] = []
        left: dict[_Way, NDArray] = {}
        for number, ways in enumerate(self.layers):
            signals = []
            for way in ways if number < len(self.layers) - 1 else last:
                mirror = mirrors.get(not way.reverse)
                begin = entering[way].copy() if way in entering else None
                if mirror is not None:
                    begin = mirror.up(number, [z for other, z in left.items() if other.reverse != way.reverse])
                own = None if number or source is None else partial(source, way)
                values = buffers.empty((0 if way in last else rows.stop - rows.first, rows.size, way.H), np.float64)
                sink = last.get(way) or partial(self._to_above, values, rows.first)
                reach, left[way] = way.up(rows, below, begin, own, sink)
                signals.append(_Signal(values, reach))
            below = signals
        return left

    def _to_above(self, values: NDArray, first: int, t: int, rows: NDArray, active: slice) -> None:
        """Keep ḣᵗ for the layer above."""
        values[t - first, active] = rows[active, : values.shape[2]]

    def _units(self) -> dict[_Way, NDArray]:
        """Return for each way the rows (R, Z) that belong to its own initial state."""
        assert self.number is not None
        units, at = {}, 0
        for _, way in self.ways:
            units[way] = np.zeros((self.width, way.Z))
            np.fill_diagonal(units[way][at : at + way.H, way.part(self.number)], 1)
            at += way.H
        return units

    def _source(self, way: _Way, t: int) -> NDArray:
        """∂zᵗ/∂(source at time t) in the lowest layer, (Z, width)."""
        if self.number is None:
            return way.slopes.input(t, way.b)
        return way.slopes.own_state(self.number, t, way.b)  # cˢ also acts through hˢ

    # -- from the output down -----------------------------------------------------------------------------------------

    def _down(
        self,
        places: list[int],
        sources: list[int],
        first: int,
        stop: int,
        mirrors: Mapping[bool, _Mirror],
        measure: Measure,
    ) -> list[tuple[Pair, Any]]:
        """Measure the Jacobians of some outputs."""
        halves = [self._down_from(way, places, sources, first, stop, mirrors) for way in self.layers[-1]]
        found: list[tuple[Pair, Any]] = []
        for number, s in enumerate(sources):
            linked = [n for n, t in enumerate(places) if self.linked(s, t)]
            blocks = [half[number].reshape(len(places), -1, self.width)[linked] for half in halves]
            found += zip([(s, places[n]) for n in linked], measure(np.concatenate(blocks, axis=1)), strict=True)
        return found

    def _down_from(
        self,
        top: _Way,
        places: list[int],
        sources: list[int],
        first: int,
        stop: int,
        mirrors: Mapping[bool, _Mirror],
    ) -> NDArray:
        """Rows of the Jacobians of one direction's outputs at some places (sources, R, width)."""
        rows = _Rows(places, top.H, first, stop)
        found = np.zeros((len(sources), rows.size, self.width))
        numbers = {s: n for n, s in enumerate(sources)}
        left: dict[_Way, NDArray] = {}
        above = None
        for number in reversed(range(len(self.layers))):
            size = max((end for _, end in self.layers[number][0].inputs), default=0)
            dx = np.zeros((stop - first, rows.size, size))
            reaches = set()
            for k, way in enumerate(self.layers[number] if above is not None else [top]):
                columns = way.part(self.part) if above is None else slice(*self.layers[number + 1][0].inputs[k])
                mirror = mirrors.get(way.reverse)
                others = {n: left[w] for n, w in self.ways if w in left and w.reverse != way.reverse}
                begin = None if mirror is None else mirror.down(number, others)
                if number:
                    sink = partial(self._to_below, way, dx, first)
                else:
                    sink = partial(self._to_source, way, found, numbers)
                reach, left[way] = way.down(rows, above, columns, begin, sink)
                reaches.add(reach)
            above = _Signal(dx, reaches.pop() if len(reaches) == 1 else _ANY)
        if sources == [INITIAL]:
            assert self.number is not None
            parts = [
                left[way][:, way.part(self.number)] if way in left else np.zeros((rows.size, way.H))
                for _, way in self.ways
            ]
            found[0] = np.concatenate(parts, axis=1)
        return found

    def _to_below(self, way: _Way, dx: NDArray, first: int, t: int, rows: NDArray, active: slice) -> None:
        """Add λᵗ Xᵗ to the derivatives of the layer below."""
        add_product(rows, way.slopes.input(t, way.b), 0, False, dx[t - first], active.start, active.stop)

    def _to_source(
        self, way: _Way, found: NDArray, numbers: Mapping[int, int], t: int, rows: NDArray, active: slice
    ) -> None:
        """Add λᵗ ∂zᵗ/∂(source) to the result."""
        if t in numbers:
            add_product(rows, self._source(way, t), 0, False, found[numbers[t]], active.start, active.stop)


def _layers_of(trace: Any) -> tuple[list[list[Trace]], str]:
    """Return the traces of all layers and directions, and how directions are merged."""
    return (trace.layers, trace.stack.merge) if isinstance(trace, StackTrace) else ([[trace]], "concat")


def chains(trace: Any, of: str, wrt: str) -> Iterator[Chain]:
    """Iterate over the sequences of a layer's or a stack's trace, with one chain for each."""
    layers, _ = _layers_of(trace)
    slopes = [[StepSlopes(own) for own in directions] for directions in layers]
    for b in range(trace.B):
        yield Chain(trace, slopes, b, of, wrt)
