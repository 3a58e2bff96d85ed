"""A cell's equations as the engine takes them: text of functions on vectors."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from lstm_numba.cells.derive import Backward, backward_of
from lstm_numba.cells.expressions import Expression
from lstm_numba.cells.functions import slope
from lstm_numba.cells.program import Program
from lstm_numba.cells.reading import joined
from lstm_numba.engine import nonlinearities
from lstm_numba.engine.recurrence import NOTHING, Step

# What a value of zero can't be turned into something that isn't finite by.
_HARMLESS = {"name", "number", "+", "-", "*", "negative"}


def step_of(program: Program, square: bool = False) -> Step:
    """Return a cell under certain options, as the engine's loops take it.

    Parameters
    ----------
    program
        What `Cell.program` returned. All functions that are not the cell's defaults have one step.
    square
        Whether the backward step is that of second derivatives.
    """
    return program.cell.remembered(("step", program, square), lambda: _step_of(program, square))


def option_codes(program: Program) -> tuple[int, ...]:
    """Return the functions that the options name, by the engine's numbers."""
    return tuple(nonlinearities.code(value) for value in program.functions.values())


def names_kept(program: Program) -> tuple[list[str], list[str]]:
    """Return the versions of names that a trace keeps for the backward pass, and the others that it shows."""
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
    return step._replace(digest=hashlib.sha256(repr(step).encode()).hexdigest()[:16])


def _is_harmless(x: Expression) -> bool:
    allowed = x.op in _HARMLESS or (x.op == "call" and x.args[0] not in ("exp", "log", "sqrt"))
    return allowed and all(map(_is_harmless, x.operands()))


def _head(program: Program, more: Sequence[tuple[str, Iterable[str]]], with_products: bool) -> list[str]:
    """Return the lines that unpack a step's arguments."""
    arguments = program.arguments
    parts: list[tuple[str, Iterable[str]]] = [
        ("options", program.functions),
        ("v", (joined("v", gate) for gate in arguments.v)),
    ]
    for kind in "auw":
        parts.append((kind, [joined(kind, gate) for gate in getattr(arguments, kind)]))
    if with_products:
        parts.append(("p", (joined("p", gate) for gate in arguments.W)))
    return _unpacked([*parts, *more])


def _unpacked(parts: Sequence[tuple[str, Iterable[str]]]) -> list[str]:
    lines = []
    for source, names in parts:
        spelled = [_spelled(each) for each in names]
        if spelled:
            lines.append(f"({', '.join(spelled)},) = {source}")
    return lines


def _spelled(version: str) -> str:
    """Return an identifier for a version of a name; those of parameters and functions don't end in an underscore."""
    return version.replace(".", "__") + "_"


def _before(program: Program) -> tuple[str, list[str]]:
    return "before", [f"{state}_prev" for state in program.arguments.states]


class _Writer:
    """Writes lines of a straight program; what occurs several times is computed once."""

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
            return f"nothing({self.like})" if value == 0 else f"constant({self.like}, {value!r})"
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


def _function(parameters: str, head: Sequence[str], lines: Sequence[str], results: Sequence[Sequence[str]]) -> str:
    tuples = [f"({', '.join(each)}{',' if len(each) == 1 else ''})" for each in results]
    body = [*head, *lines, f"return {', '.join(tuples)}"]
    return f"def step({parameters}):\n" + "".join(f"    {line}\n" for line in body)


def _like(program: Program) -> str:
    """Return the name of some vector that every step has."""
    return _spelled(f"{program.arguments.states[0]}_prev")


def _forward_text(program: Program, kept: Sequence[str], rest: Sequence[str]) -> str:
    writer = _Writer(_like(program), program.functions)
    writer.count(expression for _, expression in program.lines)
    for target, expression in program.lines:
        writer.assign(_spelled(target), expression)
    states = [program.final[state] for state in program.arguments.states]
    results = [[_spelled(each) for each in group] for group in (states, kept, rest)]
    head = _head(program, [_before(program)], with_products=True)
    return _function("options, v, a, u, w, p, before", head, writer.lines, results)


def _operands_text(program: Program) -> str:
    if not program.operands:
        return NOTHING
    wanted = set(program.operands)
    lines = []
    for target, expression in reversed(program.lines):
        if target in wanted:
            lines.append((target, expression))
            wanted |= set(expression.names())
    writer = _Writer(_like(program), program.functions)
    writer.count(expression for _, expression in lines)
    for target, expression in reversed(lines):
        writer.assign(_spelled(target), expression)
    head = _head(program, [_before(program)], with_products=False)
    results = [[_spelled(each) for each in program.operands]]
    return _function("options, v, a, u, w, before", head, writer.lines, results)


_BACKWARD = "options, v, kept, before, now, epsilon, e"


def _backward_head(program: Program, kept: Sequence[str], with_e: bool) -> list[str]:
    arguments = program.arguments
    parts: list[tuple[str, Iterable[str]]] = [
        ("options", program.functions),
        ("v", [joined("v", gate) for gate in arguments.v]),
        ("kept", kept),
        _before(program),
        ("now", [program.final[state] for state in arguments.states]),
        ("epsilon", [f"epsilon_{state}" for state in arguments.states]),
    ]
    if with_e:
        parts.append(("e", [f"e_{operand}" for operand in program.operands]))
    return _unpacked(parts)


def _backward_text(backward: Backward, kept: Sequence[str]) -> str:
    program = backward.program
    arguments = program.arguments
    writer = _Writer(_like(program), program.functions)
    writer.count([*(expression for _, expression in backward.lines), *backward.results()])
    for target, expression in backward.lines:
        writer.assign(_spelled(target), expression)
    groups: list[list[Expression]] = [
        [backward.delta[joined(kind, gate)] for gate in gates]
        for kind, gates in (("a", arguments.a), ("u", arguments.u), ("w", arguments.w), ("p", arguments.W))
    ]
    groups += [list(each.values()) for each in (backward.epsilon, backward.previous, backward.diagonal)]
    results = [[writer.write(each) for each in group] for group in groups]
    return _function(_BACKWARD, _backward_head(program, kept, with_e=True), writer.lines, results)


def _products_text(backward: Backward, kept: Sequence[str]) -> str:
    program = backward.program
    if not program.operands:
        return NOTHING
    products = [backward.delta[joined("p", gate)] for gate in program.arguments.W]
    wanted = {each for expression in products for each in expression.names()}
    lines = []
    for target, expression in reversed(backward.lines):
        if target in wanted:
            lines.insert(0, (target, expression))
            wanted |= set(expression.names())
    writer = _Writer(_like(program), program.functions)
    writer.count([*(expression for _, expression in lines), *products])
    for target, expression in lines:
        writer.assign(_spelled(target), expression)
    results = [[writer.write(each) for each in products]]
    return _function(_BACKWARD, _backward_head(program, kept, with_e=False), writer.lines, results)


__all__ = ["names_kept", "option_codes", "step_of"]
