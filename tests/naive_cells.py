"""Any cell's layer in plain NumPy, one time step after the other: the twin of the engine's loops.

Forward, a step is the cell itself, called on arrays. Backward, it is the cell's backward equations, evaluated line by
line; what a loop adds to them is written out here. In a `Twin` all sequences have T steps; `forward` and `backward`
take lengths, and run each sequence alone.
"""

from __future__ import annotations

import numpy as np

from lstm_numba.cells import joined
from lstm_numba.cells.derive import backward_of, gates_of
from lstm_numba.cells.expressions import evaluate


class Twin:
    """A layer's weights in float64, and its two passes.

    Parameters
    ----------
    layer
        A `lstm_numba.Recurrent`.
    """

    def __init__(self, layer):
        self.cell, self.reverse = layer.cell, layer.reverse
        self.program = layer.cell.program(**layer.options)
        self.parameters = {name: value.astype(np.float64) for name, value in layer.parameters().items()}
        self.gates = layer.parameters().gates

    def weight(self, kind, gate):
        """U, W, b, bw or V of a gate; 0 where the layer has none."""
        if kind not in self.parameters:
            return np.float64(0)
        stacked = self.parameters[kind]
        return stacked[self.gates[kind].index(gate)] if kind in self.gates else stacked

    def order(self, T):
        return range(T)[::-1] if self.reverse else range(T)

    # -- forward

    def arguments(self, x, states):
        """What the cell is called with: x (B, I), states by name (B, H)."""
        of, h = self.program.arguments, states["h"]
        given = {f"{state}_prev": value for state, value in states.items()}
        for gate in of.a:
            from_x, from_h = x @ self.weight("U", gate).T, h @ self.weight("W", gate).T
            given[joined("a", gate)] = from_x + from_h + self.weight("b", gate)
        for gate in of.u:
            given[joined("u", gate)] = x @ self.weight("U", gate).T + self.weight("b", gate)
        for gate in of.w:
            given[joined("w", gate)] = h @ self.weight("W", gate).T + self.weight("bw", gate)
        given |= {joined("W", gate): self.weight("W", gate) for gate in of.W}
        return given | {joined("v", gate): self.weight("V", gate) for gate in of.v}

    def values(self, given):
        """Every line's value in one step, by the version of its name."""
        values = {**self.program.functions, **given}
        for target, expression in self.program.lines:
            values[target] = evaluate(expression, values)
            for gate, operand in zip(self.program.arguments.W, self.program.operands, strict=True):
                if operand == target:
                    values[joined("p", gate)] = values[target] @ given[joined("W", gate)].T
        return values

    def forward(self, x, initial):
        """Return every named array (T, B, H); states by calling the cell on arrays, the rest line by line."""
        states, final = dict(initial), self.program.final
        self.x, self.steps = x, [None] * len(x)
        found = {name: [None] * len(x) for name in final}
        for t in self.order(len(x)):
            given = self.arguments(x[t], states)
            result = self.cell(**given)
            result = result if isinstance(result, tuple) else (result,)
            self.steps[t] = values = self.values(given)
            for name, version in final.items():
                found[name][t] = values[version]
            states = dict(zip(states, result, strict=True))
            for state, value in states.items():
                found[state][t] = value
        last = {f"{state}_last": value for state, value in states.items()}
        return {name: np.stack(rows) for name, rows in found.items()} | last

    # -- backward

    def backward(self, dh, last, *, square=False, by_hand=True):
        """Return every derivative, of what `forward` ran last; with `square` each factor is squared."""
        step = backward_of(self.program, square, by_hand)
        power = np.square if square else np.asarray
        of, names = self.program.arguments, gates_of(self.program)
        T, (B, H) = len(self.x), last["h"].shape
        arriving = dict(last)
        self.sums = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        rows = {"x": [None] * T} | {f"epsilon_{state}": [None] * T for state in last} | {n: [None] * T for n in names}
        for t in reversed(self.order(T)):
            values = self.steps[t]
            h_prev, x = power(values["h_prev"]), power(self.x[t])
            given = dict(values) | {f"epsilon_{state}": value for state, value in arriving.items()}
            given["epsilon_h"] = given["epsilon_h"] + dh[t]
            given |= {f"e_{operand}": np.zeros((B, H)) for operand in self.program.operands}
            found = step.compute(given)  # δ of products, which need no e
            for gate, operand in zip(of.W, self.program.operands, strict=True):
                given[f"e_{operand}"] = found[f"delta_{joined('p', gate)}"] @ power(self.weight("W", gate))
            found = step.compute(given)
            delta = {name: np.broadcast_to(found[f"delta_{name}"], (B, H)) for name in names}
            for name in names:
                rows[name][t] = delta[name]
            for state in last:
                rows[f"epsilon_{state}"][t] = np.broadcast_to(found[f"epsilon_{state}"], (B, H))
                arriving[state] = np.broadcast_to(found[f"epsilon_{state}_prev"], (B, H))
            from_x, from_h = [("a", g) for g in of.a], [("a", g) for g in of.a]
            from_x, from_h = from_x + [("u", g) for g in of.u], from_h + [("w", g) for g in of.w]
            rows["x"][t] = sum(
                (delta[joined(kind, gate)] @ power(self.weight("U", gate)) for kind, gate in from_x), np.zeros_like(x)
            )
            for kind, gate in from_x:
                self._add("U", gate, delta[joined(kind, gate)].T @ x)
                self._add("b", gate, delta[joined(kind, gate)].sum(axis=0))
            for kind, gate in from_h:
                arriving["h"] = arriving["h"] + delta[joined(kind, gate)] @ power(self.weight("W", gate))
                self._add("W", gate, delta[joined(kind, gate)].T @ h_prev)
            for gate in of.w:
                self._add("bw", gate, delta[joined("w", gate)].sum(axis=0))
            for gate, operand in zip(of.W, self.program.operands, strict=True):
                self._add("W", gate, delta[joined("p", gate)].T @ power(values[operand]))
            for gate in of.v:
                self._add("V", gate, np.broadcast_to(found[f"dV_{gate}"], (B, H)).sum(axis=0))
        return self._named({name: np.stack(each) for name, each in rows.items()}, arriving)

    def _named(self, rows, arriving):
        """Return the derivatives as `Gradients` names them."""
        prefixes = {"a": "delta", "u": "delta", "w": "delta_w", "p": "delta_w"}
        parts = {name: name.partition("_") for name in gates_of(self.program)}
        named = {joined(prefixes[kind], gate): rows.pop(name) for name, (kind, _, gate) in parts.items()}
        return named | rows | {f"{state}0": value for state, value in arriving.items()} | self.sums

    def _add(self, kind, gate, value):
        if kind in self.sums:
            stacked = self.sums[kind]
            (stacked[self.gates[kind].index(gate)] if kind in self.gates else stacked)[...] += value


def forward(layer, x, initial, lengths=None):
    """Every named array, zero beyond a sequence's end, and the last states."""
    runs = [Twin(layer).forward(x[:length, one], only(initial, one)) for one, length in each_sequence(x, lengths)]
    return together(runs, len(x), set())


def backward(layer, x, initial, dh, last, lengths=None):
    """Every derivative, as `Gradients` names them."""
    runs = []
    for one, length in each_sequence(x, lengths):
        twin = Twin(layer)
        twin.forward(x[:length, one], only(initial, one))
        runs.append(twin.backward(dh[:length, one], only(last, one)))
    return together(runs, len(x), set(layer.parameters()))


def each_sequence(x, lengths):
    """Iterate over a slice that takes one sequence, and its length."""
    T, B = x.shape[:2]
    for n in range(B):
        yield slice(n, n + 1), T if lengths is None else lengths[n]


def only(states, one):
    return {state: value[one] for state, value in states.items()}


def together(runs, T, summed):
    """The runs' arrays side by side; those of parameters are added."""
    found = {}
    for name, first in runs[0].items():
        arrays = [run[name] for run in runs]
        if name in summed:
            found[name] = sum(arrays)
        elif first.ndim == 2:
            found[name] = np.concatenate(arrays)
        else:
            rows = [np.concatenate([each, np.zeros((T - len(each), *each.shape[1:]))]) for each in arrays]
            found[name] = np.concatenate(rows, axis=1)
    return found
