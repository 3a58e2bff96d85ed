"""Turn a cell's equations into the form that the engine takes: the text of functions on vectors."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lstm_numba.cells.derive import Backward, backward_of
from lstm_numba.cells.expressions import Expression, name
from lstm_numba.cells.functions import slope
from lstm_numba.cells.program import Program
from lstm_numba.cells.reading import joined
from lstm_numba.engine import compiling, nonlinearities
from lstm_numba.engine.recurrence import NOTHING, Step

# Operations that can't turn zero into NaN or infinity.
_HARMLESS = {"name", "number", "+", "-", "*", "negative"}


def step_of(program: Program, square: bool = False) -> Step:
    """Return a cell for a choice of options, in the form that the engine's loops take.

    Parameters
    ----------
    program
        The result of `Cell.program`. All functions that are not the cell's defaults share one step.
    square
        Whether the backward step is that of second derivatives.
    """
    return program.cell.remembered(("step", program, square), lambda: _step_of(program, square))


def option_codes(program: Program) -> tuple[int, ...]:
    """Return the engine's numbers of the functions that the options name."""
    return tuple(nonlinearities.code(value) for value in program.functions.values())


def names_kept(program: Program) -> tuple[list[str], list[str]]:
    """Return the versions of names that a trace keeps for the backward pass, and the other names that it shows."""
    kept = list(dict.fromkeys([*backward_of(program).needed, *backward_of(program, square=True).needed]))
    states = {program.final[state] for state in program.arguments.states}
    rest = [version for version in program.final.values() if version not in kept and version not in states]
    return kept, rest


def _step_of(program: Program, square: bool) -> Step:
    backward = backward_of(program, square)
    kept, rest = names_kept(program)
    arguments = program.arguments
    expressions = [expression for _, expression in (*program.lines, *backward.lines)]
    step = Step(
        digest="",
        u=len(arguments.u),
        a=len(arguments.a),
        w=len(arguments.w),
        p=len(arguments.W),
        states=len(arguments.states),
        kept=len(kept),
        rest=len(rest),
        diagonals=len(arguments.v),
        forward=_forward_text(program, kept, rest),
        operands=_operands_text(program),
        backward=_backward_text(backward, kept),
        backward_products=_products_text(backward, kept),
        masked=not all(_is_harmless(each) for each in (*expressions, *backward.results())),
    )
    digest = hashlib.sha256(repr(step).encode()).hexdigest()[:16]
    compiling.name_key(digest, program.cell.name)
    return step._replace(digest=digest)


def _is_harmless(x: Expression) -> bool:
    allowed = x.op in _HARMLESS or (x.op == "call" and x.args[0] not in ("exp", "log", "sqrt"))
    return allowed and all(map(_is_harmless, x.operands()))


def _spelled(version: str) -> str:
    """Return an identifier for a version of a name; unlike parameters and functions it ends in an underscore."""
    return version.replace(".", "__") + "_"


class _Writer:
    """Writes the lines of a program; a value that occurs several times is computed once."""

    def __init__(self, like: str, options: Iterable[str]) -> None:
        self.like, self.options = like, set(options)
        self.lines: list[str] = []
        self.written: dict[Expression, str] = {}
        self.counts: Counter[Expression] = Counter()

    def count(self, expressions: Iterable[Expression]) -> None:
        for x in expressions:
            self.counts[x] += 1
            if self.counts[x] == 1:
                self.count(x.operands())

    def assign(self, target: str, x: Expression) -> None:
        self.lines.append(f"{target} = {self.write(x, whole=True)}")
        self.written.setdefault(x, target)

    def write(self, x: Expression, whole: bool = False) -> str:
        if x.op == "name":
            return _spelled(x.args[0])
        if x in self.written:
            return self.written[x]
        text = self._operation(x)
        if self.counts[x] > 1 and not whole and x.op != "number":
            target = f"t{len(self.written)}"
            self.lines.append(f"{target} = {text}")
            self.written[x] = text = target
        return text

    def _operation(self, x: Expression) -> str:
        if x.op == "number":
            value = x.args[0]
            text = repr(value).replace("inf", "1e999")
            return f"nothing({self.like})" if value == 0 else f"constant({self.like}, {text})"
        if x.op == "negative":
            return f"(-{self.write(x.args[0])})"
        if x.op == "call":
            return self._call(x)
        return f"({self.write(x.args[0])} {x.op} {self.write(x.args[1])})"

    def _call(self, x: Expression) -> str:
        function, *arguments = x.args
        if function == slope.name:
            kind = arguments[0].args[0]
            kind = _spelled(kind) if kind in self.options else kind.upper()
            return f"slope({kind}, {self.write(arguments[1])})"
        inner = ", ".join(self.write(each) for each in arguments)
        if function in self.options:
            return f"squash({_spelled(function)}, {inner})"
        if function == "identity":
            return inner
        return f"{function}({inner})"


def _function(
    program: Program,
    given: Mapping[str, Iterable[str]],
    lines: Sequence[tuple[str, Expression]],
    results: Sequence[Iterable[Expression]],
) -> str:
    """Return the text of a function that unpacks tuples of vectors, computes lines and returns groups of results."""
    groups = [list(group) for group in results]
    writer = _Writer(_spelled(f"{program.arguments.states[0]}_prev"), program.functions)
    writer.count([*(expression for _, expression in lines), *(each for group in groups for each in group)])

    for source, names in given.items():
        spelled = [f"{_spelled(each)}," for each in names]
        if spelled:
            writer.lines.append(f"({' '.join(spelled)}) = {source}")
    for target, expression in lines:
        writer.assign(_spelled(target), expression)
    tuples = [
        f"({', '.join(each)}{',' * (len(each) == 1)})" for each in ([*map(writer.write, group)] for group in groups)
    ]
    body = [*writer.lines, f"return {', '.join(tuples)}"]
    return f"def step({', '.join(given)}):\n" + "".join(f"    {line}\n" for line in body)


def _leading_to(wanted: Iterable[str], lines: Sequence[tuple[str, Expression]]) -> list[tuple[str, Expression]]:
    """Return the lines that the wanted names depend on."""
    found, names = [], set(wanted)
    for target, expression in reversed(lines):
        if target in names:
            found.append((target, expression))
            names |= set(expression.names())
    return found[::-1]


def _before(program: Program) -> list[str]:
    return [f"{state}_prev" for state in program.arguments.states]


def _given_forward(program: Program) -> dict[str, Iterable[str]]:
    of = program.arguments
    gates = {kind: [joined(kind, gate) for gate in getattr(of, kind)] for kind in "auw"}
    return {"options": program.functions, "v": of.diagonals, **gates}


def _forward_text(program: Program, kept: Sequence[str], rest: Sequence[str]) -> str:
    products = [joined("p", gate) for gate in program.arguments.W]
    given = {**_given_forward(program), "p": products, "before": _before(program)}
    states = [program.final[state] for state in program.arguments.states]
    return _function(program, given, program.lines, [map(name, group) for group in (states, kept, rest)])


def _operands_text(program: Program) -> str:
    if not program.operands:
        return NOTHING
    given = {**_given_forward(program), "before": _before(program)}
    return _function(program, given, _leading_to(program.operands, program.lines), [map(name, program.operands)])


def _given_backward(program: Program, kept: Sequence[str]) -> dict[str, Iterable[str]]:
    states = program.arguments.states
    return {
        "options": program.functions,
        "v": program.arguments.diagonals,
        "kept": kept,
        "before": _before(program),
        "now": [program.final[state] for state in states],
        "epsilon": [f"epsilon_{state}" for state in states],
        "e": [f"e_{operand}" for operand in program.operands],
    }


def _backward_text(backward: Backward, kept: Sequence[str]) -> str:
    program = backward.program
    deltas = [
        [backward.delta[joined(kind, gate)] for gate in getattr(program.arguments, of)]
        for of, kind in (("a", "a"), ("u", "u"), ("w", "w"), ("W", "p"))
    ]
    others = [each.values() for each in (backward.epsilon, backward.previous, backward.diagonal)]
    return _function(program, _given_backward(program, kept), backward.lines, [*deltas, *others])


def _products_text(backward: Backward, kept: Sequence[str]) -> str:
    program = backward.program
    if not program.operands:
        return NOTHING
    deltas = [backward.delta[joined("p", gate)] for gate in program.arguments.W]
    lines = _leading_to((each for expression in deltas for each in expression.names()), backward.lines)
    return _function(program, {**_given_backward(program, kept), "e": ()}, lines, [deltas])


__all__ = ["names_kept", "option_codes", "step_of"]
