"""The derivatives of one step of any cell, at the values of a forward pass.

Let z = (h, …) be all states side by side and aₖ the pre-activations. Everything else in a step acts unit by unit, so a
step's derivatives are diagonal except for the weights between the steps:

    ∂zᵗ/∂zᵗ⁻¹ = diag(∂zᵗ/∂zᵗ⁻¹ at fixed aᵗ) + Σₖ diag(∂zᵗ/∂aₖᵗ) Wₖ    the sum for h only
    ∂zᵗ/∂xᵗ   = Σₖ diag(∂zᵗ/∂aₖᵗ) Uₖ

Each diag holds H numbers. They come from the cell's derived backward step (`lstm_numba.cells.derive`), run once for
each state s with ∂L/∂s = 1 and everything else 0. Slopes are computed from the pre-activations, as σ′(a) = σ(a) σ(-a):
this stays accurate when a gate is so close to 0 or 1 that σ (1 - σ) has lost all its digits.

If a cell multiplies a value that it has computed, pₖ = Wₖ m, each path through pₖ is added: diag(∂zᵗ/∂pₖ) Wₖ times the
derivative of m, which has the same form as that of z.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba.cells import Cell, Program, joined
from lstm_numba.cells.derive import Backward, derived
from lstm_numba.cells.expressions import (
    ONE,
    ZERO,
    Expression,
    evaluate,
    minus,
    name,
    negative,
    over,
    plus,
    times,
)
from lstm_numba.engine.row_products import add_product, scaled_sums, set_diagonals
from lstm_numba.layers.recurrent import Recurrent, Trace


class StepSlopes:
    """A trace's derivatives inside each step, float64, and their products with the weights.

    Gates are in the order u_k, a_k, w_k, p_k, so that those with a U and those with a W lie side by side. S is the
    number of states, G that of gates, P that of products p_k = W_k m.

    Attributes
    ----------
    by_gate : (T, B, S, G, H)
        ∂s/∂ of every pre-activation and product.
    by_prev : (T, B, S, S, H)
        ∂sᵗ/∂ of each state before the step, at fixed pre-activations.
    within : (T, B, S, S, H)
        ∂sᵗ/∂ of each state of the same step; 1 of a state with respect to itself.
    m_by_gate, m_by_prev, m_within
        The same for the value that each W_k multiplies: (T, B, P, ·, H).
    U : (H, ·, I)
        Weights of the gates u and a, with a unit's rows side by side.
    W : (H, ·, H)
        Weights of the gates a and w.
    P : (P, H, H)
        Weights of the products.
    """

    def __init__(self, trace: Trace) -> None:
        layer = trace.layer
        program = layer.cell.program(**layer.options)
        self._take_weights(layer, program)
        with np.errstate(all="ignore"):
            self._differentiate(trace, program)

    def _take_weights(self, layer: Recurrent, program: Program) -> None:
        """Set U, W, P and the gates they belong to."""
        arguments, names = program.arguments, layer.parameters()
        n_u, n_a, n_w = len(arguments.u), len(arguments.a), len(arguments.w)
        self.S, self.H, self.I = len(arguments.states), layer.hidden_size, layer.input_size

        def stacked(letter: str, gates: tuple[str, ...], width: int) -> NDArray:
            own = [names[joined(letter, gate)] for gate in gates]
            return np.array(own, np.float64).reshape(len(gates), self.H, width)

        self.U = np.ascontiguousarray(stacked("U", arguments.u + arguments.a, self.I).transpose(1, 0, 2))
        self.W = np.ascontiguousarray(stacked("W", arguments.a + arguments.w, self.H).transpose(1, 0, 2))
        self.P = stacked("W", arguments.W, self.H)
        self._of_U, self._of_W = slice(0, n_u + n_a), slice(n_u, n_u + n_a + n_w)
        self._first_product = n_u + n_a + n_w

    def _differentiate(self, trace: Trace, program: Program) -> None:
        """Set the derivatives of the states, and of the values that the products multiply."""
        arguments = program.arguments
        kinds = (("u", arguments.u), ("a", arguments.a), ("w", arguments.w), ("p", arguments.W))
        gates = [joined(kind, gate) for kind, of in kinds for gate in of]
        backward = _derived(program.cell, tuple(program.options.items()))
        step = _UnitSteps(backward, _values_of(trace, backward))
        seeds = step.seeds

        def table(columns: int) -> NDArray:
            return np.zeros((trace.T, trace.B, len(seeds), columns, self.H))

        by_gate, by_prev, within = table(len(gates)), table(self.S), table(self.S)
        # (numerator, state before the step) of the diagonals that aren't zero.
        pairs = []
        for row, seed in enumerate(seeds):
            delta, epsilon, previous = step.run(seed)
            for column, gate in enumerate(gates):
                by_gate[:, :, row, column] = delta[gate]
            for column, state in enumerate(arguments.states):
                within[:, :, row, column] = epsilon[state]
                by_prev[:, :, row, column] = previous[state]
                if np.ndim(previous[state]) or previous[state]:
                    pairs.append((row, column))

        S = self.S
        self.by_gate, self.m_by_gate = by_gate[:, :, :S], by_gate[:, :, S:]
        self.by_prev, self.m_by_prev = by_prev[:, :, :S], by_prev[:, :, S:]
        self.within, self.m_within = within[:, :, :S], within[:, :, S:]
        # The first states act through whole matrices, the others through diagonals.
        full = self._full = 1 + max([column for row, column in pairs if row >= S], default=0)
        diagonals = [(s, z, by_prev[:, :, s, z]) for s, z in pairs if s < S]
        self._in_full = [each for each in diagonals if each[1] < full]
        self._apart = [each for each in diagonals if each[1] >= full]
        self._places = np.array([(s, z) for s, z, _ in self._apart], np.int64).reshape(-1, 2)
        self._places_back = np.ascontiguousarray(self._places[:, ::-1])
        apart = [diagonal for _, _, diagonal in self._apart]
        self._diagonals = np.stack(apart, 2) if apart else np.zeros((trace.T, trace.B, 0, self.H))

    # -- one step's Jacobians -----------------------------------------------------------------------------------------

    def state(self, t: int, b: int) -> NDArray:
        """Dᵗ = ∂zᵗ/∂zᵗ⁻¹ (Z, Z), Z = S·H."""
        D = self._full_columns(t, b, self.S)
        units = np.arange(self.H)
        for s, z, diagonal in self._apart:
            D[s, units, z, units] = diagonal[t, b]
        return D.reshape(self.S * self.H, -1)

    def input(self, t: int, b: int) -> NDArray:
        """Xᵗ = ∂zᵗ/∂xᵗ (Z, I)."""
        X = _scaled_sums(self.by_gate[t, b, :, self._of_U], self.U)
        for k, W in enumerate(self.P):
            m = _scaled_sums(self.m_by_gate[t, b, k : k + 1, self._of_U], self.U)
            X += self._by_product(t, b, k) * (W @ m[0])
        return X.reshape(-1, self.I)

    def own_state(self, number: int, t: int, b: int) -> NDArray:
        """∂zᵗ/∂sᵗ (Z, H) for a state given by its number, along all paths inside the step."""
        E = np.zeros((self.S, self.H, self.H))
        units = np.arange(self.H)
        E[:, units, units] = self.within[t, b, :, number]
        for k, W in enumerate(self.P):
            E += self._by_product(t, b, k) * (W * self.m_within[t, b, k, number])
        return E.reshape(-1, self.H)

    def _full_columns(self, t: int, b: int, n: int) -> NDArray:
        """Return the columns of Dᵗ (S, H, n, H) for states that act through whole matrices; others are zero."""
        units, full = np.arange(self.H), self._full
        sums = _scaled_sums(self.by_gate[t, b, :, self._of_W], self.W)
        D = sums[:, :, None]
        if n > 1:
            D = np.zeros((self.S, self.H, n, self.H))
            D[:, :, 0] = sums
        for s, z, diagonal in self._in_full:
            D[s, units, z, units] += diagonal[t, b]

        for k, W in enumerate(self.P):
            m = np.zeros((1, self.H, full, self.H))
            m[:, :, 0] = _scaled_sums(self.m_by_gate[t, b, k : k + 1, self._of_W], self.W)
            m[0, units, :, units] += self.m_by_prev[t, b, k, :full].T
            through_m = (W @ m.reshape(self.H, -1)).reshape(self.H, full, self.H)
            D[:, :, :full] += self._by_product(t, b, k)[..., None] * through_m
        return D

    def _by_product(self, t: int, b: int, k: int) -> NDArray:
        """∂zᵗ/∂pₖ (S, H, 1)."""
        return self.by_gate[t, b, :, self._first_product + k, :, None]

    # -- rows through a step ------------------------------------------------------------------------------------------

    def on(self, t: int, b: int, rows: NDArray, out: NDArray, active: slice) -> None:
        """Carry rows ∂zᵗ⁻¹/∂(anything) on to step t: out = rows Dᵀ, both (R, Z), for the active rows."""
        lo, hi = active.start, active.stop
        set_diagonals(rows, self._places, self._diagonals[t, b], out, lo, hi)
        add_product(rows, self._whole_matrices(t, b), 0, True, out, lo, hi)

    def back(self, t: int, b: int, rows: NDArray, out: NDArray, active: slice) -> None:
        """Carry rows ∂(anything)/∂zᵗ back to the step before: out = rows D, both (R, Z), for the active rows."""
        lo, hi = active.start, active.stop
        set_diagonals(rows, self._places_back, self._diagonals[t, b], out, lo, hi)
        add_product(rows, self._whole_matrices(t, b), 0, False, out, lo, hi)

    def _whole_matrices(self, t: int, b: int) -> NDArray:
        """Return the columns of Dᵗ (Z, ·) for states that act through whole matrices."""
        return self._full_columns(t, b, self._full).reshape(self.S * self.H, -1)


def _scaled_sums(vectors: NDArray, matrices: NDArray) -> NDArray:
    """Σₖ diag(vₖ) Mₖ (n, H, ·) for rows of vectors (n, K, H) and matrices (H, K, ·)."""
    out = np.empty((len(vectors), len(matrices), matrices.shape[2]))
    scaled_sums(np.ascontiguousarray(vectors), matrices, out)
    return out


# -- the values of a trace --------------------------------------------------------------------------------------------


def _values_of(trace: Trace, backward: Backward) -> dict[str, NDArray]:
    """Return the values that a backward step reads, by versions of names; compute those that the trace lacks."""
    program, layer = backward.program, trace.layer
    lines, held = dict(program.lines), set(trace.names())
    shown = {version: text for text, version in program.final.items() if text in held}
    values: dict[str, NDArray] = {}

    def take(version: str, value: NDArray) -> None:
        values[version] = np.asarray(value, np.float64)

    def find(version: str) -> None:
        if version in values:
            return
        if version in shown:
            take(version, getattr(trace, shown[version]))
        elif version in lines:
            for each in lines[version].names():
                find(each)
            take(version, evaluate(lines[version], {**program.functions, **values}))
        else:
            take(version, _linear(trace, program, version))

    for state in program.arguments.states:
        take(f"{state}_prev", getattr(trace, f"{state}_prev"))
        take(program.final[state], getattr(trace, state))
    for gate in program.arguments.v:
        take(joined("v", gate), layer[joined("V", gate)])
    for version in backward.needed:
        find(version)
    return values


def _linear(trace: Trace, program: Program, argument: str) -> NDArray:
    """Return a pre-activation or product as it enters a step."""
    kind, _, gate = argument.partition("_")
    parameters = trace.layer.parameters()
    total = np.zeros((trace.T, trace.B, trace.layer.hidden_size))

    def add(letter: str, x: NDArray) -> None:
        total[...] += np.asarray(x, np.float64) @ np.asarray(parameters[joined(letter, gate)], np.float64).T

    if kind in "au":
        add("U", trace.x)
    if kind in "aw":
        add("W", trace.h_prev)
    if kind == "p":
        add("W", trace.operands[program.arguments.W.index(gate)])
    bias = {"a": "b", "u": "b", "w": "bw"}.get(kind, "")
    if joined(bias, gate) in parameters:
        total += parameters[joined(bias, gate)]
    return total


@functools.lru_cache(maxsize=64)
def _derived(of: Cell, options: tuple[tuple[str, Any], ...]) -> Backward:
    """Return the backward step of a cell for its options, with slopes written in terms of their arguments."""
    return derived(of.program(**dict(options)), by_value=False)


# -- a backward step with unit seeds ----------------------------------------------------------------------------------


class _UnitSteps:
    """A backward step at the values of a trace, to be run with one seed 1 and all others 0.

    Terms that are zero for any values are never computed, so they are 0 even if another factor is infinite.

    Attributes
    ----------
    seeds
        ``epsilon_s`` of each state, then ``e_m`` of the value that each product multiplies.
    """

    def __init__(self, backward: Backward, values: Mapping[str, Any]) -> None:
        program = backward.program
        self.seeds = [f"epsilon_{state}" for state in program.arguments.states]
        self.seeds += [f"e_{operand}" for operand in program.operands]
        self._values = {**program.functions, **values}
        self._varying = {*self.seeds, *(target for target, _ in backward.lines)}
        self._computed: dict[Expression, Expression] = {}
        self._lines = [(target, self._with_values(x)) for target, x in backward.lines]
        self._results = [
            {key: self._with_values(x) for key, x in part.items()}
            for part in (backward.delta, backward.epsilon, backward.previous)
        ]

    def _with_values(self, x: Expression) -> Expression:
        """Compute the parts of an expression that don't depend on a seed, each once, and replace them by names."""
        if x.op in ("name", "number"):
            return x
        if not self._varying.isdisjoint(x.names()):
            return x.rebuilt(self._with_values)
        if x not in self._computed:
            label = f"value {len(self._computed)}"
            self._values[label] = evaluate(x, self._values)
            self._computed[x] = name(label)
        return self._computed[x]

    def run(self, seed: str) -> list[dict[str, Any]]:
        """Return δ of each pre-activation, ε of each state, and the derivative of each state before the step."""
        known = dict.fromkeys(self.seeds, ZERO) | {seed: ONE}
        for target, x in self._lines:
            simple = _simplified(x, known)
            if simple.op not in ("name", "number"):
                self._values[target] = evaluate(simple, self._values)
                simple = name(target)
            known[target] = simple
        return [
            {key: evaluate(_simplified(x, known), self._values) for key, x in part.items()} for part in self._results
        ]


_OPERATIONS: dict[str, Callable[..., Expression]] = {
    "+": plus,
    "-": minus,
    "*": times,
    "/": over,
    "negative": negative,
}


def _simplified(x: Expression, known: Mapping[str, Expression]) -> Expression:
    """Return an expression with names replaced, rebuilt so that 0 · x vanishes and 1 · x becomes x."""
    if x.op == "name":
        return known.get(x.args[0], x)
    operands = [_simplified(each, known) for each in x.operands()]
    if x.op in _OPERATIONS:
        return _OPERATIONS[x.op](*operands)
    return Expression(x.op, (*x.args[: len(x.args) - len(operands)], *operands))
