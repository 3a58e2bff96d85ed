"""Find out from a cell's equations what each name is for.

- A gate is the value of a sigmoid, or of an option that is a sigmoid by default; 1 minus a gate is a gate as well.
- A step keeps a factor of a state: f in cᵗ = f ⊙ cᵗ⁻¹ + i ⊙ g, z in hᵗ = (1 - z) ⊙ n + z ⊙ hᵗ⁻¹.
- The other names in the state's line are its parts: g, n.
- A state is squashed by the function that another line applies to it: tanh in h = o ⊙ tanh(c).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lstm_numba.cells import Program, joined
from lstm_numba.cells.expressions import ONE, ZERO, Expression, derivative, evaluate, name, plus, times
from lstm_numba.cells.functions import SQUASHING, slope_at
from lstm_numba.layers.recurrent import Recurrent, Trace


class Roles:
    """The roles of the names in a layer's equations.

    Attributes
    ----------
    states
        Names of the states, h first.
    gates
        Names of the gates in the order of the equations.
    """

    def __init__(self, layer: Recurrent) -> None:
        self.layer = layer
        self._program: Program = layer.cell.program(**layer.options)
        self._lines = dict(self._program.lines)
        self._shown = {version: text for text, version in self._program.final.items()}
        self.states = layer.states
        by_version = [version for version in self._lines if self._is_gate(version)]
        self.gates = tuple(self._shown[version] for version in by_version if version in self._shown)

    def _is_gate(self, version: str) -> bool:
        x = self._lines.get(version)
        if x is None:
            return False
        if x.op == "call":
            return "sigmoid" in (x.args[0], self.layer.cell.options.get(x.args[0]))
        return x.op == "-" and x.args[0] == ONE and x.args[1].op == "name" and self._is_gate(x.args[1].args[0])

    def is_sigmoid(self, gate: str) -> bool:
        """Return whether a gate's values lie between 0 and 1, as its function may be another one than the default."""
        x = self._lines[self._program.final[gate]]
        if x.op == "-":
            return self.is_sigmoid(self._shown[x.args[1].args[0]])
        return self._program.functions.get(x.args[0], x.args[0]) == "sigmoid"

    @cached_property
    def kept(self) -> dict[str, Expression]:
        """State → the factor of its value before the step, for states whose equation is a sum of products with one."""
        found = {state: self._factor(self._program.final[state], f"{state}_prev") for state in self.states}
        return {
            state: x for state, x in found.items() if x != ZERO and not any(each.op == "call" for each in _parts(x))
        }

    def _factor(self, version: str, wrt: str) -> Expression:
        """Return the derivative of a line with respect to a state before the step, without the paths through gates."""
        x = self._lines[version]
        total = derivative(x, wrt)
        for each in dict.fromkeys(x.names()):
            if each in self._lines and not self._is_gate(each) and each not in self._final_states:
                total = plus(total, times(derivative(x, each), self._factor(each, wrt)))
        return total

    @cached_property
    def _final_states(self) -> set[str]:
        return {self._program.final[state] for state in self.states}

    def read_by(self, x: Expression) -> list[str]:
        """Return the names, other than states, that an expression reads."""
        found = [self._shown[version] for version in dict.fromkeys(x.names()) if version in self._shown]
        return [each for each in found if each not in self.states]

    def parts(self, state: str) -> list[str]:
        """Return the names that a state's line reads, other than gates, states and pre-activations."""
        read = dict.fromkeys(self._lines[self._program.final[state]].names())
        own = [self._shown[each] for each in read if each in self._lines and each in self._shown]
        linear = {joined(kind, gate) for kind in "auw" for gate in getattr(self._program.arguments, kind)}
        return [each for each in own if each not in (*self.gates, *self.states) and each not in linear]

    def squashed(self, state: str) -> str | None:
        """Return the function that another line applies to a state; None if there is none."""
        for x in self._lines.values():
            for each in _parts(x):
                if each.op == "call" and each.args[1] == name(self._program.final[state]):
                    function = self._program.functions.get(each.args[0], each.args[0])
                    return function if function in SQUASHING else None
        return None

    def outermost(self, state: str) -> tuple[str, Expression] | None:
        """Return the function whose value a state is, and its argument; None if it is something else."""
        x = self._lines[self._program.final[state]]
        if x.op != "call":
            return None
        function = self._program.functions.get(x.args[0], x.args[0])
        return (function, x.args[1]) if function in SQUASHING else None

    def values(self, x: Expression, trace: Trace) -> NDArray:
        """Return the values of an expression in a trace, float64 (T, B, H)."""
        found = {}
        for version in x.names():
            if version in self._shown:
                value = getattr(trace, self._shown[version])
            elif version.startswith("v_"):
                value = self.layer["V" + version[1:]]
            else:
                value = getattr(trace, version)  # a state before the step
            found[version] = np.asarray(value, np.float64)
        shape = (trace.T, trace.B, self.layer.hidden_size)
        return np.broadcast_to(evaluate(x, {**self._program.functions, **found}), shape)


def _parts(x: Expression) -> Iterator[Expression]:
    """Iterate over an expression and all its parts."""
    yield x
    for each in x.operands():
        yield from _parts(each)


def flat_share(function: str, a: NDArray, tenth: float) -> float | None:
    """Return the share of values where a function's slope is below `tenth` of its largest; None for the identity."""
    if function == "identity":
        return None
    largest = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0, "hard_sigmoid": 0.2, "hard_sigmoid_6": 1 / 6}[function]
    return float((slope_at(function, a) < tenth * largest).mean())
