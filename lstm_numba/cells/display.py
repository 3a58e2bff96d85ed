"""A cell's equations and its derived backward equations, in the notation of the literature.

A pre-activation is shown with its expansion, aᵗ = U xᵗ + W hᵗ⁻¹ + b. The derivative of L with respect to a
pre-activation is called δ, and with respect to any other name ε. The backward equations are those from `derive`, in the
form of textbooks: a value that is used once is written where it is used, and terms from the next step have index t+1.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from lstm_numba.cells import expressions
from lstm_numba.cells.derive import Backward, delta_names, derived, gates_of
from lstm_numba.cells.expressions import ONE, ZERO, Expression, call, name, substituted
from lstm_numba.cells.functions import above, slope
from lstm_numba.cells.notation import PARAMETER, Equation, Equations, Latex, Term, Text, Writer, terms_of
from lstm_numba.cells.program import Program
from lstm_numba.cells.reading import joined

Assignment = tuple[str, Expression]


def forward_equations(program: Program) -> Equations:
    """Return a cell's equations, the pre-activations first.

    Parameters
    ----------
    program
        What `Cell.program` returned: the equations under certain options.
    """
    program = _with_functions(program)
    shown, _ = _merged(program, _backward_step(program).kept)
    return _equations(program, lambda write: [Equation(write.name(left), write.sum(right)) for left, right in shown])


def backward_equations(program: Program) -> Equations:
    """Return a cell's derived backward equations, and the gradients that follow from them.

    Parameters
    ----------
    program
        What `Cell.program` returned: the equations under certain options.
    """
    step = _backward_step(_with_functions(program))
    return _equations(step.program, lambda write: [*_recursion(step, write), *_gradients(step, write)])


def _equations(program: Program, written: Callable[[Writer], list[Equation]]) -> Equations:
    return Equations(written(Writer(program, Text())), written(Writer(program, Latex())))


def _with_functions(program: Program) -> Program:
    """Return the program with options replaced by their functions, and numbers worked out."""

    def named(x: Expression) -> Expression:
        x = _worked_out(expressions.with_functions(x.rebuilt(named), program.functions))
        return x.args[1] if x.op == "call" and x.args[0] == "identity" else x

    return replace(program, lines=[(target, named(x)) for target, x in program.lines], functions={})


def _worked_out(x: Expression) -> Expression:
    """Return an operation on numbers as a number."""
    if x.op not in ("+", "-", "*", "/") or {each.op for each in x.args} != {"number"}:
        return x
    value = expressions.evaluate(x, {})
    return expressions.number(float(f"{value:.15g}")) if math.isfinite(value) else x


# -- forward ----------------------------------------------------------------------------------------------------------


def _merged(program: Program, kept: Collection[str] = ()) -> tuple[list[Assignment], dict[str, Expression]]:
    """Return the assignments to show, and the expressions of the names that are not shown.

    A name that is assigned again and read once is written where it is read: a_i = a_i + v_i * c_prev becomes one
    equation. Names in `kept` are always shown.
    """
    finals = set(program.final.values())
    hidden = _products(program)
    lines = [*_expansions(program).items(), *(line for line in program.lines if line[0] not in program.operands)]
    reads = Counter(each for _, x in program.lines for each in x.names())

    shown: list[Assignment] = []
    for target, x in lines:
        x = substituted(x, hidden)
        if target not in finals and reads[target] == 1 and target not in kept:
            hidden[target] = x
        else:
            shown.append((target, x))
    return _gates_first(program, shown), hidden


def _gates_first(program: Program, shown: list[Assignment]) -> list[Assignment]:
    """Return assignments with pre-activations first, if they need nothing from the same step."""
    targets = {target for target, _ in shown}
    values = dict(shown)
    finals = [program.final.get(gate, gate) for gate in gates_of(program)]
    first = [gate for gate in gates_of(program) if gate in values and gate not in finals]
    first += [gate for gate in finals if gate in values and not targets.intersection(values[gate].names())]
    return [*((target, values[target]) for target in first), *(pair for pair in shown if pair[0] not in first)]


def _products(program: Program) -> dict[str, Expression]:
    """Return the expressions of the products, by name."""
    values = dict(program.lines)
    return {
        joined("p", gate): Expression("product", (joined("W", gate), values[operand]))
        for gate, operand in zip(program.arguments.W, program.operands, strict=True)
    }


def _expansions(program: Program) -> dict[str, Expression]:
    """Return the expression of each pre-activation."""
    found: dict[str, Expression] = {}
    for kind in "auw":
        for gate in getattr(program.arguments, kind):
            parts = [Expression("product", (joined("U", gate), name("x")))] if kind in "au" else []
            parts += [Expression("product", (joined("W", gate), name("h_prev")))] if kind in "aw" else []
            parts += [name(joined("bw" if kind == "w" else "b", gate) + PARAMETER)]
            found[joined(kind, gate)] = functools.reduce(expressions.plus, parts)
    return found


# -- backward ---------------------------------------------------------------------------------------------------------


class _BackwardStep:
    """The derived step as sums of products, in which a value that is used once is written where it is used.

    Attributes
    ----------
    program
        The forward step.
    sums
        δ or ε → its terms, in the order of computation; for the ε of a state, those from the same step.
    previous
        State → the terms passed to the previous step.
    diagonal
        Gate → the terms of the step's share in ∂L/∂V.
    hidden
        Expressions of the names that are not shown.
    kept
        Names that are shown because their ε is shown.
    """

    def __init__(self, program: Program, kept: Collection[str] = ()) -> None:
        self.kept = kept
        self.program = program
        self.deltas = delta_names(program)
        backward = derived(program, by_value=False)
        shown, self.hidden = _merged(program, kept)
        self._values = {x: name(target) for target, x in shown if x.op not in ("name", "number")}
        self._renamed = self._names(backward)

        self.sums: dict[str, list[Term]] = {}
        for key, x in self._in_order(backward):
            self.sums[key] = self._terms(x)
        self.previous = {state: self._terms(x) for state, x in backward.previous.items()}
        self.diagonal = {gate: self._terms(x) for gate, x in backward.diagonal.items()}
        self._put_in_place()
        for terms in (*self.sums.values(), *self.previous.values()):
            terms.sort(key=self._rank)

    def _names(self, backward: Backward) -> dict[str, Expression]:
        """Return the expressions that replace the derived step's names."""
        arguments = self.program.arguments
        renamed = {f"epsilon_{state}.1": name(f"epsilon_{state}") for state in arguments.states}
        for gate, delta in self.deltas.items():
            label = backward.delta[gate]
            if label.op == "name" and label.args[0].startswith("e.") and label.args[0] not in renamed:
                renamed[label.args[0]] = name(delta)
        for gate, operand in zip(arguments.W, self.program.operands, strict=True):
            delta = self.deltas[joined("p", gate)]
            renamed[f"e_{operand}"] = Expression("transposed", (joined("W", gate), name(delta)))
        return renamed

    def _in_order(self, backward: Backward) -> Iterator[Assignment]:
        """Iterate over δ and ε in the order of computation."""
        states = {self.program.final[state]: state for state in self.program.arguments.states}
        values = dict(backward.lines)
        yield from ((f"epsilon_{each}", ZERO) for each in states.values() if f"epsilon_{each}.1" not in values)

        named = {each.args[0] for each in self._renamed.values()}
        waiting = [gate for gate, delta in self.deltas.items() if delta not in named]
        readers = {each: target for target, x in reversed(self.program.lines) for each in x.names()}  # the first ones
        for target, _ in reversed(self.program.lines):
            label, incoming = f"e.{target}", {}
            if target in states:
                label, incoming = f"epsilon_{states[target]}.1", {f"epsilon_{states[target]}": ZERO}
            if label in values:
                yield self._renamed.get(label, name(label)).args[0], substituted(values[label], incoming)
            for gate in waiting:
                if readers[gate] == target:
                    yield self.deltas[gate], backward.delta[gate]

    def _terms(self, x: Expression) -> list[Term]:
        """Return a derivative as terms, in the names that are shown."""
        x = substituted(self._by_name(substituted(x, self.hidden)), self._renamed)
        terms = _collected(_last(each) for each in terms_of(x))
        for delta in self.deltas.values():
            whole = self.sums.get(delta, [])
            if len(whole) == 1 and whole[0].number == 1 and not whole[0].under:
                terms = [_shared(each, whole[0].over, name(delta)) for each in terms]
        return terms

    def _by_name(self, x: Expression) -> Expression:
        """Return an expression in which a part that equals the value of a name is replaced by that name."""
        if x.op == "call" and x.args[0] == slope.name:
            return x
        if x.op == "-" and x.args[0].op == "call" and x == _sign(x.args[0].args[1]):
            return call("sign", self._by_name(x.args[0].args[1]))
        return self._values[x] if x in self._values else x.rebuilt(self._by_name)

    def _put_in_place(self) -> None:
        """Write each value that is used once where it is used."""
        for label in [each for each in self.sums if each.startswith("e.")]:
            sums = [*self.sums.values(), *self.previous.values(), *self.diagonal.values()]
            if sum(term.over.count(name(label)) for terms in sums for term in terms) > 1:
                continue
            value = _as_one(self.sums.pop(label))
            place = self._place(label.removeprefix("e."))
            for terms in sums:
                terms[:] = [_replaced(each, name(label), value, place) for each in terms]

    def _place(self, version: str) -> int:
        """Return how many factors precede a name where it is read; its slope goes after these."""
        read = [term.over for _, x in self.program.lines for term in terms_of(x) if name(version) in term.over]
        return read[0].index(name(version)) if len(read) == 1 else 0

    def _rank(self, term: Term) -> int:
        """Return a term's place in a sum: ε first, then δ in the order of the gates."""
        order = [*self.deltas.values()]
        last = term.over[-1] if term.over else ZERO
        of = last.args[1].args[0] if last.op == "transposed" else last.args[0]
        return order.index(of) if of in order else -1


def _backward_step(program: Program) -> _BackwardStep:
    """Return the step, in which every name whose ε is shown is shown as well."""
    kept: set[str] = set()
    while True:
        step = _BackwardStep(program, kept)
        missing = {label.removeprefix("e.") for label in step.sums}.intersection(step.hidden) - kept
        if not missing:
            return step
        kept |= missing


def _recursion(step: _BackwardStep, write: Writer) -> list[Equation]:
    """Return δ and ε of a step."""
    found = []
    for key, terms in step.sums.items():
        left, right, note = write.name(key), [(each, "t") for each in terms], ""
        before: list[str] = []
        state = key.removeprefix("epsilon_")
        if key != state:
            later = [(each, "t+1") for each in step.previous[state]]
            right = later + right if state == "h" else right + later
        if key == "epsilon_h":
            carried, note = _carried(step, write, "t+1")
            own = "L" if "e" in step.program.final else ""  # name of the loss's part if the cell has its own e
            before = [write.style.symbol("e", own, "t"), *carried]
        found.append(Equation(left, write.sum_of(right, before), note))
    return found


def _carried(step: _BackwardStep, write: Writer, time: str) -> tuple[list[str], str]:
    """Return the terms that products with W pass to h of the previous step, and a note on k."""
    arguments, style = step.program.arguments, write.style
    parts, note = write.over_gates("W", arguments.a, lambda W, delta: f"{style.transposed(W)} {delta}", time)
    parts = [style.sum_over_gates + each if note else each for each in parts]
    for gate in arguments.w:
        delta = write.name(joined("delta_w", gate), time)
        parts.append(f"{style.transposed(write.weight(joined('W', gate)))} {delta}")
    return parts, note


def _gradients(step: _BackwardStep, write: Writer) -> list[Equation]:
    """Return the gradients of parameters, inputs and initial states."""
    style, arguments = write.style, step.program.arguments
    x, h = style.transposed(write.name("x")), style.transposed(write.name("h_prev"))
    values = dict(step.program.lines)
    found: list[Equation] = []

    def add(parameter: str, right: str, note: str = "") -> None:
        found.append(Equation(style.partial + parameter, right, note))

    def add_gates(letter: str, gates: Sequence[str], times: str) -> None:
        parameters, note = write.over_gates(letter, gates, lambda parameter, _: parameter)
        deltas, _ = write.over_gates(letter, gates, lambda _, delta: delta)
        for parameter, delta in zip(parameters, deltas, strict=True):
            add(parameter, style.sum_over_time + delta + times, note)

    def add_apart(letter: str, gate: str, times: str) -> None:
        delta = write.name(joined("delta_w", gate))
        add(write.weight(joined(letter, gate)), style.sum_over_time + delta + times)

    add_gates("U", arguments.U_gates, f" {x}")
    add_gates("W", arguments.a, f" {h}")
    for gate in arguments.w:
        add_apart("W", gate, f" {h}")
    for gate, operand in zip(arguments.W, step.program.operands, strict=True):
        multiplied = substituted(values[operand], step.hidden)
        add_apart("W", gate, f" {style.transposed(write.factor(multiplied, 't'))}")
    add_gates("b", arguments.U_gates, "")
    for gate in arguments.w:
        add_apart("bw", gate, "")
    for gate, terms in step.diagonal.items():
        total = write.sum([each._replace(over=(*each.over[-1:], *each.over[:-1])) for each in terms])
        add(write.weight(joined("V", gate)), style.sum_over_time + (f"({total})" if len(terms) > 1 else total))

    parts, note = write.over_gates("U", arguments.U_gates, lambda U, delta: f"{style.transposed(U)} {delta}")
    add(write.name("x"), style.sum_over_gates * bool(note) + parts[0], note)
    for state, terms in step.previous.items():
        parts, note = _carried(step, write, "1") if state == "h" else ([], "")
        add(write.name(f"{state}_prev", "1"), write.sum_of([(each, "1") for each in terms], parts), note)
    return found


# -- products ---------------------------------------------------------------------------------------------------------


def _is_derivative(x: Expression) -> bool:
    """Return whether x is a δ or ε, or one multiplied by a matrix."""
    return x.op == "transposed" or (x.op == "name" and x.args[0].startswith(("epsilon_", "delta", "e.")))


def _collected(terms: Iterable[Term]) -> list[Term]:
    """Return a sum without repeated products and without zeros."""
    numbers: dict[Term, float] = {}
    for each in terms:
        alike = each._replace(number=1.0)
        numbers[alike] = numbers.get(alike, 0.0) + each.number
    return [term._replace(number=value) for term, value in numbers.items() if value]


def _last(term: Term) -> Term:
    """Return a product with δ or ε last."""
    return term._replace(over=tuple(sorted(term.over, key=_is_derivative)))


def _shared(term: Term, part: Sequence[Expression], value: Expression) -> Term:
    """Return a product with some of its factors replaced by a value, if it has them all."""
    if len(part) < 2 or Counter(part) - Counter(term.over):
        return term
    rest = list(term.over)
    for each in part:
        rest.remove(each)
    return _last(term._replace(over=(*rest, value)))


def _replaced(term: Term, factor: Expression, value: Term, place: int) -> Term:
    """Return a product with one factor replaced by a value; the others are inserted among the value's factors."""
    if factor not in term.over:
        return term
    rest = list(term.over)
    rest.remove(factor)
    factors = (*value.over[:place], *rest, *value.over[place:])
    return _last(Term(term.number * value.number, factors, term.under + value.under))


def _as_one(terms: list[Term]) -> Term:
    """Return a sum as one product: the δ or ε that all terms share, times the rest in brackets."""
    if len(terms) == 1:
        return terms[0]
    common = {each.over[-1] if each.over else ONE for each in terms}
    if len(common) > 1 or not all(map(_is_derivative, common)):
        return Term(1.0, (_expression(terms),))
    return Term(1.0, (_expression([each._replace(over=each.over[:-1]) for each in terms]), *common))


def _expression(terms: list[Term]) -> Expression:
    """Return terms as an expression again."""
    total = ZERO
    for each in terms:
        product = functools.reduce(expressions.times, each.over, expressions.number(abs(each.number)))
        product = functools.reduce(expressions.over, each.under, product)
        total = expressions.minus(total, product) if each.number < 0 else expressions.plus(total, product)
    return total


def _sign(x: Expression) -> Expression:
    """Return sign(x) in the form in which it appears in the derivative of |x|."""
    return Expression("-", (call(above.name, x, ZERO), call(above.name, ZERO, x)))


__all__ = ["Equations", "backward_equations", "forward_equations"]
