"""The derivatives inside one step of a layer, as far as they are diagonal, and what they make of matrices.

A step takes pre-activations aₖᵗ and the states before it to the states after it, unit by unit; so its derivatives are
diagonal, and a vector of H numbers each. They come from the cell's own derived backward step, run with unit vectors.
With W and U between the steps they give the step's Jacobians,

    ∂sᵗ/∂zᵗ⁻¹ = diag(∂sᵗ/∂zᵗ⁻¹ at fixed aᵗ) + Σₖ diag(∂sᵗ/∂aₖᵗ) Wₖ  (where z is h)        ∂sᵗ/∂xᵗ = Σₖ diag(∂sᵗ/∂aₖᵗ) Uₖ

and where a cell multiplies what it computed, p = W m, every path through p besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba.cells import joined
from lstm_numba.cells.derive import derived, gates_of
from lstm_numba.layers.recurrent import Trace


class StepSlopes:
    """A trace's derivatives inside each step, float64.

    Attributes
    ----------
    by_gate : (S, G, T, B, H)
        ∂s/∂ of every pre-activation: a_k, u_k, w_k, then products p_k; S states.
    by_prev : (S, S, T, B, H)
        ∂sᵗ/∂ of each state before the step, at fixed pre-activations.
    within : (S, S, T, B, H)
        ∂sᵗ/∂ of each state of the same step; 1 of a state with respect to itself.
    operand_by_gate, operand_by_prev, operand_within
        The same of what each W_k multiplies: (P, ·, T, B, H).
    U, W : (gates, H, ·)
        Weights of the first n_U and n_W pre-activations in their own order.
    P : (P, H, H)
        W_k of the products.
    """

    def __init__(self, trace: Trace) -> None:
        layer = trace.layer
        program = layer.cell.program(**layer.options)
        arguments = program.arguments
        gates, states = gates_of(program), arguments.states
        backward = derived(program, by_value=False)
        values = self._values(trace, program)
        shape = (trace.T, trace.B, layer.hidden_size)
        operands = [f"e_{operand}" for operand in program.operands]
        seeds = [f"epsilon_{state}" for state in states] + operands
        zero, one = np.zeros(shape), np.ones(shape)
        tables: list[list[list[NDArray]]] = []
        with np.errstate(all="ignore"):
            for seed in seeds:
                found = backward.compute(values | dict.fromkeys(seeds, zero) | {seed: one})
                tables.append(
                    [
                        [np.broadcast_to(found[f"delta_{gate}"], shape) for gate in gates],
                        [np.broadcast_to(found[f"epsilon_{state}_prev"], shape) for state in states],
                        [np.broadcast_to(found[f"epsilon_{state}"], shape) for state in states],
                    ]
                )
        S = len(states)
        self.by_gate, self.by_prev, self.within = (np.array([each[n] for each in tables[:S]]) for n in range(3))
        none = [np.empty((0, len(part), *shape)) for part in (gates, states, states)]
        self.operand_by_gate, self.operand_by_prev, self.operand_within = (
            np.array([each[n] for each in tables[S:]]) if operands else none[n] for n in range(3)
        )
        self._take_weights(layer, arguments)

    def _values(self, trace: Trace, program: Any) -> dict[str, NDArray]:
        """Everything that the backward step may read, by its versions."""
        values: dict[str, NDArray] = {}
        for shown, version in program.final.items():
            values[version] = np.asarray(getattr(trace, shown), np.float64)
        for state in program.arguments.states:
            values[f"{state}_prev"] = np.asarray(getattr(trace, f"{state}_prev"), np.float64)
        for gate in program.arguments.v:
            values[joined("v", gate)] = np.asarray(trace.layer[joined("V", gate)], np.float64)
        for number, gate in enumerate(program.arguments.W):
            W = np.asarray(trace.layer[joined("W", gate)], np.float64)
            values[joined("p", gate)] = np.asarray(trace.operands[number], np.float64) @ W.T
        hidden = trace.layer.names.hidden
        return values | {version: np.asarray(trace.kept_array(version), np.float64) for version in hidden}

    def _take_weights(self, layer: Any, arguments: Any) -> None:
        H = layer.hidden_size

        def stacked(name: str, width: int) -> NDArray:
            found = np.asarray(layer[name], np.float64) if name in layer.parameters() else np.empty((0, H, width))
            return found[None] if found.ndim == 2 else found

        n_a, n_u, n_w = len(arguments.a), len(arguments.u), len(arguments.w)
        self.U, W = stacked("U", layer.input_size), stacked("W", H)
        self.W, self.P = W[: n_a + n_w], W[n_a + n_w :]
        self.of_U = list(range(n_a + n_u))
        self.of_W = [*range(n_a), *range(n_a + n_u, n_a + n_u + n_w)]
        self.of_P = list(range(n_a + n_u + n_w, n_a + n_u + n_w + len(self.P)))

    @property
    def n_states(self) -> int:
        """Of how many vectors of H numbers the state consists."""
        return len(self.by_gate)

    def state(self, t: int, b: int) -> NDArray:
        """Dᵗ = ∂zᵗ/∂zᵗ⁻¹ (Z, Z) with z all states side by side."""
        S, H = self.n_states, self.by_gate.shape[-1]
        D = self._diagonals(self.by_prev[:, :, t, b])
        D[:, :, 0] += np.einsum("skj,kjm->sjm", self.by_gate[:, self.of_W, t, b], self.W)
        for k, through in self._through(t, b):
            m = self._diagonals(self.operand_by_prev[k : k + 1, :, t, b])[0]
            m[:, 0] += np.einsum("kj,kjm->jm", self.operand_by_gate[k, self.of_W, t, b], self.W)
            D += np.einsum("sjm,mzn->sjzn", through, m)
        return D.reshape(S * H, S * H)

    def input(self, t: int, b: int) -> NDArray:
        """Xᵗ = ∂zᵗ/∂xᵗ (Z, I)."""
        X = np.einsum("skj,kjm->sjm", self.by_gate[:, self.of_U, t, b], self.U)
        for k, through in self._through(t, b):
            m = np.einsum("kj,kjm->jm", self.operand_by_gate[k, self.of_U, t, b], self.U)
            X += through @ m
        return X.reshape(-1, self.U.shape[2])

    def of_own_state(self, number: int, t: int, b: int) -> NDArray:
        """∂zᵗ/∂sᵗ (Z, H) of state `number`, by all paths inside the step."""
        E = self._diagonals(self.within[:, number : number + 1, t, b])[:, :, 0]
        for k, through in self._through(t, b):
            E += through * self.operand_within[k, number, t, b]
        return E.reshape(-1, E.shape[-1])

    def _diagonals(self, vectors: NDArray) -> NDArray:
        """Matrices (S, H, R, H) that are diagonal for each pair, from vectors (S, R, H)."""
        S, R, H = vectors.shape
        found = np.zeros((S, H, R, H))
        n = np.arange(H)
        found[:, n, :, n] = vectors.transpose(2, 0, 1)
        return found

    def _through(self, t: int, b: int) -> Iterator[tuple[int, NDArray]]:
        """For each product: ∂z/∂(what it multiplies), (S, H, H)."""
        for k, gate in enumerate(self.of_P):
            yield k, self.by_gate[:, gate, t, b, :, None] * self.P[k]

    # -- rows through one step, for all of one sequence ---------------------------------------------------------------

    def up(self, t: int, b: int, dx: NDArray, before: NDArray) -> NDArray:
        """Return ż (S, R, H) of a step from ẋ (R, I) and ż of the step before (S, R, H)."""
        da = np.zeros((self.by_gate.shape[1], len(dx), self.by_gate.shape[-1]))
        da[self.of_U] += np.einsum("ri,khi->krh", dx, self.U, optimize=True)
        da[self.of_W] += np.einsum("rm,khm->krh", before[0], self.W, optimize=True)
        for k, gate in enumerate(self.of_P):
            dm = np.einsum("kh,krh->rh", self.operand_by_gate[k, :, t, b], da)
            dm += np.einsum("sh,srh->rh", self.operand_by_prev[k, :, t, b], before)
            da[gate] += dm @ self.P[k].T
        dz = np.einsum("skh,krh->srh", self.by_gate[:, :, t, b], da)
        return dz + np.einsum("szh,zrh->srh", self.by_prev[:, :, t, b], before)

    def down(self, t: int, b: int, total: NDArray) -> tuple[NDArray, NDArray]:
        """Return ∂/∂xᵗ (R, I) and ∂/∂z of the step before (S, R, H), from ∂/∂zᵗ (S, R, H)."""
        delta = np.einsum("skh,srh->krh", self.by_gate[:, :, t, b], total)
        carried = np.einsum("szh,srh->zrh", self.by_prev[:, :, t, b], total)
        for k, gate in enumerate(self.of_P):
            dm = delta[gate] @ self.P[k]
            delta += self.operand_by_gate[k, :, None, :, :][:, 0, t, b][:, None] * dm
            carried += self.operand_by_prev[k, :, t, b][:, None] * dm
        dx = np.einsum("krh,khi->ri", delta[self.of_U], self.U, optimize=True)
        carried[0] += np.einsum("krh,khm->rm", delta[self.of_W], self.W, optimize=True)
        return dx, carried
