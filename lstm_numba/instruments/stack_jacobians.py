"""Exact derivatives through several layers, and through layers that run in both directions.

In a stack the output of a step can depend on earlier steps, on later ones, or on all of them, so there is no single
chain of steps. But each layer in each direction is a chain, and a derivative goes through these one after the other.
With Dᵗ = ∂zᵗ/∂zᵗ⁻¹ and Xᵗ = ∂zᵗ/∂xᵗ of a layer, z all its states and ⁻ for "the step processed before", there are two
ways:

    from the input up     żᵗ = Xᵗ ẋᵗ + Dᵗ ż⁻
    from the output down  ∂/∂xᵗ = λᵗ Xᵗ            λ⁻ = e⁻ + λᵗ Dᵗ    with e from the layer above

On the way up, ẋ is a unit vector at one time s, and the result is a column of every ∂hᵗ/∂xˢ. On the way down, e is a
unit vector at one time t, and the result is a row of every ∂hᵗ/∂xˢ. The way with fewer rows is used. With several
layers, the result of one goes into the next, and the results of two directions with the same input are added.

Sources: A. Griewank & A. Walther, *Evaluating Derivatives* (2nd ed., 2008), chapter 3, for the two ways; A. Graves,
*Supervised Sequence Labelling with Recurrent Neural Networks* (2012), section 4.8, for the sensitivity of a
bidirectional LSTM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba.instruments.step_slopes import StepSlopes
from lstm_numba.layers.stack import StackTrace, merged, unmerged

# Largest size of the rows that are carried through the steps at one time, in numbers (128 MB).
_ROOM = 2**24

# The times at which a row can be nonzero, relative to the time where it begins.
_AT, _LATER, _EARLIER, _ANY = "at", "later", "earlier", "any"


class _Way:
    """One layer in one direction for one sequence, through whose steps rows are carried up or down."""

    def __init__(self, trace: Any, slopes: StepSlopes, b: int) -> None:
        self.reverse = trace.layer.reverse
        self.slopes, self.b = slopes, b
        self.S, self.H = slopes.S, slopes.H

    def up(self, dx: NDArray, dz0: NDArray, part: int, order: Sequence[int], active: Any) -> NDArray:
        """Return ṡ of every step (L, R, H), s one of the states, from ẋ (L, R, I) and ż of the initial state (R, S, H).

        order, active
            The steps in the order of processing; the rows that can be nonzero at a step, a growing number.
        """
        L, R, _ = dx.shape
        ds, own = np.zeros((L, R, self.H)), slice(part * self.H, (part + 1) * self.H)
        before, now = dz0.reshape(R, -1), np.zeros((R, self.S * self.H))
        for t in order:
            rows = active(t)
            self.slopes.on(t, self.b, before[rows], now[rows])
            now[rows] += dx[t, rows] @ self.slopes.input(t, self.b).T
            ds[t, rows] = now[rows, own]
            before, now = now, before
        return ds

    def down(self, ds: Any, part: int, order: Sequence[int], active: Any) -> tuple[NDArray, NDArray]:
        """Return ∂/∂xᵗ of every step (L, R, I) and ∂/∂z of the initial state (R, S, H), from ∂/∂sᵗ (L, R, H)."""
        L, R, _ = ds.shape
        dx, own = np.zeros((L, R, self.slopes.I)), slice(part * self.H, (part + 1) * self.H)
        total, before = np.zeros((2, R, self.S * self.H))
        for t in order:
            rows = active(t)
            total[rows, own] += ds[t, rows]
            np.matmul(total[rows], self.slopes.input(t, self.b), out=dx[t, rows])
            self.slopes.back(t, self.b, total[rows], before[rows])
            total, before = before, total
        return dx, total.reshape(R, self.S, self.H)


class StackChain:
    """One sequence in a stack, with the same interface as the chain of a single layer."""

    def __init__(self, trace: StackTrace, slopes: list[list[Any]], b: int, of: str, wrt: str) -> None:
        stack = trace.stack
        self.merge, self.wrt = stack.merge, wrt
        self.length = trace.T if trace.lengths is None else int(trace.lengths[b])
        self.ways = [
            [_Way(own, slope, b) for own, slope in zip(*pair, strict=True)]
            for pair in zip(trace.layers, slopes, strict=True)
        ]
        self.part = stack.states.index(of)  # among the states of the top layer
        self.part0 = 0 if wrt == "x" else stack.states.index(wrt.removesuffix("0"))  # among the initial states
        self.height = stack.output_size
        self.state_sizes = stack.state_sizes
        self.input_size = stack.input_size
        self.width = stack.input_size if wrt == "x" else sum(self.state_sizes)

    def jacobians(self, ss: Sequence[int], ts: Sequence[int]) -> Iterator[tuple[list[tuple[int, int]], NDArray]]:
        """Yield ([(s, t), …], (number, height, width)) for all pairs between which there is a path."""
        sources = sorted({s for s in ss if s < self.length})  # initial states are at -1
        targets = sorted({t for t in ts if t < self.length})
        if not sources or not targets:
            return
        up = self._rather_up(len(sources), len(targets))
        places, others, size = (sources, targets, self.width) if up else (targets, sources, self.height)
        widest = max(self.input_size, *(len(each) * each[0].S * each[0].H for each in self.ways))
        limit = max(1, _ROOM // (self.length * widest))  # rows at one time
        at_once = max(1, limit // size)
        for n in range(0, len(places), at_once):
            group = places[n : n + at_once]
            rows = np.array([(place, unit) for place in group for unit in range(size)])
            found = [(self._up if up else self._down)(rows[k : k + limit]) for k in range(0, len(rows), limit)]
            blocks = np.concatenate(found, axis=1)  # (L or 1, rows, ·)
            yield from self._blocks(blocks, group, others, size, up)

    def _rather_up(self, n_sources: int, n_targets: int) -> bool:
        """Return whether the way up has fewer rows."""
        return n_sources * self.width <= n_targets * self.height

    def _blocks(self, found: NDArray, group: list[int], others: list[int], size: int, up: bool) -> Iterator[Any]:
        """Cut the results at each time into Jacobians."""
        for other in others:
            blocks = found[max(other, 0)].reshape(len(group), size, -1)
            linked = [n for n, place in enumerate(group) if self._linked(*((place, other) if up else (other, place)))]
            if linked:
                pairs = [(group[n], other) if up else (other, group[n]) for n in linked]
                yield pairs, blocks[linked].transpose(0, 2, 1) if up else blocks[linked]

    def _linked(self, s: int, t: int) -> bool:
        """Return whether a path leads from s to t: there is none if all layers run the other way."""
        backward = {way.reverse for ways in self.ways for way in ways}
        return len(backward) == 2 or s < 0 or (t <= s if backward == {True} else s <= t)

    def _steps(self, place: NDArray, reach: str, later: bool) -> tuple[Sequence[int], Any, str]:
        """Return the order of a layer's steps, the nonzero rows at each step, and their reach above it.

        place
            The time where each row begins, ascending.
        later
            Whether this layer carries rows to later steps, or to earlier ones.
        """
        L, R = self.length, len(place)
        order = range(L) if later else range(L - 1, -1, -1)
        if reach not in (_AT, _LATER if later else _EARLIER):
            return order, lambda t: slice(0, R), _ANY
        if later:
            return order, lambda t: slice(0, int(np.searchsorted(place, t, "right"))), _LATER
        return order, lambda t: slice(int(np.searchsorted(place, t, "left")), R), _EARLIER

    def _up(self, rows: NDArray) -> NDArray:
        """Columns of the Jacobians with respect to x at a place, or to the initial states: (L, R, height)."""
        place, unit = rows.T
        R = len(rows)
        dx, reach = np.zeros((self.length, R, self.input_size)), _AT
        if self.wrt == "x":
            dx[place, np.arange(R), unit] = 1
        else:
            reach = _ANY
        initial = iter(self._initial_rows(unit))
        for number, ways in enumerate(self.ways):
            last = number == len(self.ways) - 1
            part = self.part if last else 0
            results, reaches = [], set()
            for way in ways:
                order, active, reached = self._steps(place, reach, later=not way.reverse)
                dz0 = np.zeros((R, way.S, way.H))
                if self.wrt != "x":
                    dz0[:, self.part0] = next(initial)
                results.append(way.up(dx, dz0, part, order, active))
                reaches.add(reached)
            reach = reaches.pop() if len(reaches) == 1 else _ANY
            dx = merged(results, "concat" if last else self.merge)
        return dx

    def _initial_rows(self, unit: NDArray) -> list[NDArray]:
        """Return for each layer and direction the rows (R, H) that belong to its own initial state."""
        if self.wrt == "x":
            return []
        edges = np.cumsum(self.state_sizes)[:-1]
        return np.split(np.eye(sum(self.state_sizes))[unit], edges, axis=1)

    def _down(self, rows: NDArray) -> NDArray:
        """Rows of the Jacobians of the output at a place: (L, R, I), or (1, R, ·) for the initial states."""
        place, unit = rows.T
        R = len(rows)
        dz, reach = np.zeros((self.length, R, self.height)), _AT
        dz[place, np.arange(R), unit] = 1
        initial: list[NDArray] = []
        for number in reversed(range(len(self.ways))):
            ways = self.ways[number]
            last = number == len(self.ways) - 1
            parts = unmerged(dz, len(ways), "concat" if last else self.merge)
            results, reaches, own = [], set(), []
            for way, half in zip(ways, parts, strict=True):
                order, active, reached = self._steps(place, reach, later=way.reverse)
                found, dz0 = way.down(half, self.part if last else 0, order, active)
                results.append(found)
                own.append(dz0)
                reaches.add(reached)
            reach = reaches.pop() if len(reaches) == 1 else _ANY
            dz = results[0] if len(results) == 1 else results[0] + results[1]
            initial = [each[:, self.part0] for each in own] + initial
        return dz if self.wrt == "x" else np.concatenate(initial, axis=1)[None]


def chains(trace: StackTrace, of: str, wrt: str) -> Iterator[StackChain]:
    """Iterate over the sequences, with one chain for each."""
    slopes = [[StepSlopes(own) for own in directions] for directions in trace.layers]
    for b in range(trace.B):
        yield StackChain(trace, slopes, b, of, wrt)
