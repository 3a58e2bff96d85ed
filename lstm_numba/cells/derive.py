"""Derive the backward step from the forward step: reverse mode, line by line.

For a line y = e(x₁, x₂, …) whose derivative ∂L/∂y is known, each name it reads receives a term:

    ∂L/∂xⱼ  +=  (∂e/∂xⱼ) · ∂L/∂y

The lines are processed from the last to the first. The sum of the terms is δ for a pre-activation and ε for a state.
For a state before the step it is passed on to the previous step, and for a diagonal weight it is the step's share of
∂L/∂V. A factor that equals the value of a named line, as in σ′(a) = i (1 - i), is written with that name, so the LSTM's
derived step reads like the book's.

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

# Largest size of an expression that is computed again if a trace doesn't hold its value; larger ones are kept.
_SHORT = 50


@dataclass
class Backward:
    """One backward step as a list of equations.

    Attributes
    ----------
    program : Program
        The forward step.
    lines
        (name, expression), in order. They read ``epsilon_s`` (∂L/∂sᵗ from all later steps and the loss), ``e_m`` (∂L/∂m
        of the value m that W_k multiplies), the cell's names, states before and after, diagonal weights.
    delta
        Pre-activation (``a_k``, ``u_k``, ``w_k``, or ``p_k`` of a product) → derivative of L with respect to it.
    epsilon
        State → derivative of L with respect to it, along all paths.
    previous
        State → the derivative that the previous step receives.
    diagonal
        Gate → the step's share of ∂L/∂V_k.
    needed
        Versions of names, other than states and weights, that the lines read, so a trace must keep them.
    """

    program: Program
    lines: list[tuple[str, Expression]] = field(default_factory=list)
    delta: dict[str, Expression] = field(default_factory=dict)
    epsilon: dict[str, Expression] = field(default_factory=dict)
    previous: dict[str, Expression] = field(default_factory=dict)
    diagonal: dict[str, Expression] = field(default_factory=dict)
    needed: list[str] = field(default_factory=list)

    def results(self) -> list[Expression]:
        """Return all results in a fixed order."""
        return [each for part in (self.delta, self.epsilon, self.previous, self.diagonal) for each in part.values()]

    def compute(self, given: Mapping[str, Any]) -> dict[str, NDArray]:
        """Compute all results in NumPy, under the names ``delta_a_k``, ``epsilon_s``, ``epsilon_s_prev``."""
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
    """Return the pre-activations in the order of the arrays: a_k, u_k, w_k, p_k."""
    kinds = (("a", "a"), ("u", "u"), ("w", "w"), ("W", "p"))
    return [joined(kind, gate) for of, kind in kinds for gate in getattr(program.arguments, of)]


def delta_names(program: Program) -> dict[str, str]:
    """Return the names of the derivatives with respect to the pre-activations, in the order of `gates_of`."""
    kinds = {"a": "delta", "u": "delta", "w": "delta_w", "p": "delta_w"}
    parts = [gate.partition("_") for gate in gates_of(program)]
    return {joined(kind, key): joined(kinds[kind], key) for kind, _, key in parts}


def orders(program: Program) -> tuple[list[str], list[str]]:
    """Return the names of a trace and of gradients in the order of computation."""
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
        The result of `Cell.program`.
    square
        Square every factor, as explained at the top of this module.
    by_value
        Write the slope of a named value with that value, σ′(a) as i (1 - i), which a lean trace holds. Otherwise write
        it with a, so that `evaluate` stays accurate to the last digit when i is close to 1.
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
    """Return an expression in which a part that equals a line's value is replaced by that line's name."""
    return known[x] if x in known else x.rebuilt(lambda operand: _with_names(operand, known))


def settled(result: Backward) -> Backward:
    """Express values that a trace doesn't hold in terms of those it does; note the names that it must keep."""
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
        The result of `Cell.program`.
    square
        As in `derived`; a step written by hand can't be squared.
    by_hand
        Whether to look for a step written by hand.
    """
    written = program.written if by_hand and not square else None
    return derived(program, square) if written is None else written.backward(program)


__all__ = ["Backward", "backward_of", "delta_names", "derived", "gates_of", "orders", "settled"]
