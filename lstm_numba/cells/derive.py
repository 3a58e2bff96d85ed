"""The backward step, derived from the forward one: reverse mode, line by line.

For a line y = e(x₁, x₂, …) whose derivative ∂L/∂y is known, each name it reads receives a term:

    ∂L/∂xⱼ  +=  (∂e/∂xⱼ) · ∂L/∂y

Lines are gone through from the last to the first. What arrives at a pre-activation is its δ, at a state its ε, at a
state before the step what the step hands to the one before it, at a diagonal weight that step's share of ∂L/∂V. Where
a factor is the value of a named line, as σ′(a) = i (1 - i) is, the name stands for it: so the LSTM's derived step reads
like the chapter's.

With `square` each factor ∂e/∂xⱼ is squared: a diagonal approximation of second derivatives in the spirit of Becker &
LeCun, *Improving the Convergence of Back-Propagation Learning with Second Order Methods* (1988).

Source: A. Griewank & A. Walther, *Evaluating Derivatives* (2nd ed., 2008), section 3.2.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from lstm_numba.cells.expressions import (
    ZERO,
    Expression,
    derivative,
    evaluate,
    name,
    plus,
    squared,
    substituted,
    times,
)
from lstm_numba.cells.program import Program
from lstm_numba.cells.reading import joined

# The size up to which what a trace doesn't hold is computed again; anything larger is kept beside it.
_SHORT = 50


@dataclass
class Backward:
    """One backward step as a straight line of equations.

    Attributes
    ----------
    program : Program
        The forward step.
    lines
        (name, what it is), in order. They read ``epsilon_s`` (∂L/∂sᵗ by all later steps and the loss), ``e_m`` (∂L/∂m
        of what W_k multiplies), the cell's names, states before and after, diagonal weights.
    delta
        Pre-activation (``a_k``, ``u_k``, ``w_k``, or ``p_k`` of a product) → ∂L/∂ of it.
    epsilon
        State → ∂L/∂ of it by all paths.
    previous
        State → what the step before receives.
    diagonal
        Gate → the step's share of ∂L/∂V_k.
    needed
        Versions of names, other than states and weights, that the lines read: what a trace must keep.
    """

    program: Program
    lines: list[tuple[str, Expression]] = field(default_factory=list)
    delta: dict[str, Expression] = field(default_factory=dict)
    epsilon: dict[str, Expression] = field(default_factory=dict)
    previous: dict[str, Expression] = field(default_factory=dict)
    diagonal: dict[str, Expression] = field(default_factory=dict)
    needed: list[str] = field(default_factory=list)

    def results(self) -> list[Expression]:
        """Return all that it computes, in a fixed order."""
        return [each for part in (self.delta, self.epsilon, self.previous, self.diagonal) for each in part.values()]

    def compute(self, given: Mapping[str, Any]) -> dict[str, NDArray]:
        """Return everything it computes, in NumPy, under the names ``delta_a_k``, ``epsilon_s``, ``epsilon_s_prev``."""
        values = {**self.program.functions, **given}
        for target, expression in self.lines:
            values[target] = evaluate(expression, values)
        parts = {
            "delta_{}": self.delta,
            "epsilon_{}": self.epsilon,
            "epsilon_{}_prev": self.previous,
            "dV_{}": self.diagonal,
        }
        return {
            form.format(key): evaluate(expression, values)
            for form, part in parts.items()
            for key, expression in part.items()
        }


def gates_of(program: Program) -> list[str]:
    """Return the pre-activations in the order in which arrays hold them: a_k, u_k, w_k, p_k."""
    kinds = (("a", "a"), ("u", "u"), ("w", "w"), ("W", "p"))
    return [joined(kind, gate) for of, kind in kinds for gate in getattr(program.arguments, of)]


def delta_names(program: Program) -> dict[str, str]:
    """Return what ∂L/∂ of each pre-activation is called, in the order of `gates_of`."""
    kinds = {"a": "delta", "u": "delta", "w": "delta_w", "p": "delta_w"}
    parts = [gate.partition("_") for gate in gates_of(program)]
    return {joined(kind, key): joined(kinds[kind], key) for kind, _, key in parts}


def orders(program: Program) -> tuple[list[str], list[str]]:
    """Return the names of a trace and of gradients in the order in which a step computes them."""
    shown = {version: text for text, version in program.final.items()}
    targets = [target for target, _ in program.lines]
    given = [text for version, text in shown.items() if version not in targets]
    deltas = delta_names(program)
    backward = []
    for target, expression in reversed(program.lines):
        if shown.get(target) in program.arguments.states:
            backward.append(f"epsilon_{shown[target]}")
        backward += [deltas[each] for each in expression.names() if each in deltas]
    return [*given, *(shown[target] for target in targets if target in shown)], list(dict.fromkeys(backward))


def derived(program: Program, square: bool = False, by_value: bool = True) -> Backward:
    """Return the backward step of these equations.

    Parameters
    ----------
    program
        What `Cell.program` returned.
    square
        Square every factor (this module's page).
    by_value
        Write the slope of a named value with that value, σ′(a) as i (1 - i): what a lean trace has. Otherwise it is
        written with a, which `evaluate` computes to the last digit where i is nearly 1.
    """
    shown = set(program.final.values())
    known = {
        expression: name(target)
        for target, expression in program.lines
        if by_value and target in shown and expression.op not in ("name", "number")
    }
    result = Backward(program)
    states = {program.final[state]: state for state in program.arguments.states}
    received: dict[str, Expression] = {version: name(f"epsilon_{state}") for version, state in states.items()}
    received |= {operand: name(f"e_{operand}") for operand in program.operands}
    for target, expression in reversed(program.lines):
        total = received.get(target, ZERO)
        if total == ZERO:
            continue
        if total.op not in ("name", "number"):
            label = f"epsilon_{states[target]}.1" if target in states else f"e.{target}"
            result.lines.append((label, total))
            total = name(label)
            received[target] = total
        for each in dict.fromkeys(expression.names()):
            factor = _with_names(derivative(expression, each), known)
            factor = squared(factor) if square else factor
            received[each] = plus(received.get(each, ZERO), times(factor, total))
    result.delta = {gate: received.get(gate, ZERO) for gate in gates_of(program)}
    result.epsilon = {state: received[version] for version, state in states.items()}
    result.previous = {state: received.get(f"{state}_prev", ZERO) for state in states.values()}
    result.diagonal = {gate: received.get(joined("v", gate), ZERO) for gate in program.arguments.v}
    return settled(result)


def _with_names(x: Expression, known: Mapping[Expression, Expression]) -> Expression:
    """Return an expression in which parts that are some line's value are read by that line's name."""
    return known[x] if x in known else x.rebuilt(lambda operand: _with_names(operand, known))


def settled(result: Backward) -> Backward:
    """Write what a trace doesn't hold in terms of what it does; note what it must keep."""
    program = result.program
    values = dict(program.lines)
    available = {f"{state}_prev" for state in program.arguments.states}
    available |= {program.final[state] for state in program.arguments.states}
    available |= {*program.arguments.diagonals}
    shown = set(program.final.values())

    @functools.cache
    def settle(text: str) -> Expression:
        if text in available or text in shown or text not in values:
            return name(text)
        expression = in_terms(values[text])
        return expression if expression.size() <= _SHORT else name(text)

    def in_terms(x: Expression) -> Expression:
        return substituted(x, {each: settle(each) for each in x.names()})

    result.lines = [(target, in_terms(expression)) for target, expression in result.lines]
    for part in (result.delta, result.epsilon, result.previous, result.diagonal):
        part |= {key: in_terms(expression) for key, expression in part.items()}
    own = {target for target, _ in result.lines} | {f"epsilon_{state}" for state in program.arguments.states}
    own |= {f"e_{operand}" for operand in program.operands}
    read = {each for _, expression in result.lines for each in expression.names()}
    read |= {each for expression in result.results() for each in expression.names()}
    order = [*gates_of(program), *(target for target, _ in program.lines)]
    result.needed = [each for each in dict.fromkeys(order) if each in read and each not in available | own]
    return result


def backward_of(program: Program, square: bool = False, by_hand: bool = True) -> Backward:
    """Return the backward step of a program: the one written by hand if there is one, else the derived one.

    Parameters
    ----------
    program
        What `Cell.program` returned.
    square
        As in `derived`, which a step written by hand cannot be.
    by_hand
        Whether to look for a step written by hand.
    """
    written = program.written if by_hand and not square else None
    return derived(program, square) if written is None else written.backward(program)


__all__ = ["Backward", "backward_of", "delta_names", "derived", "gates_of", "orders", "settled"]
