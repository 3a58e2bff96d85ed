"""A cell's equations for a choice of options, as a list of assignments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lstm_numba.cells.expressions import Expression, evaluate, name, number, with_functions
from lstm_numba.cells.reading import Arguments, Line, Option, joined

if TYPE_CHECKING:
    from lstm_numba.cells.definition import Cell
    from lstm_numba.cells.written import Written


@dataclass(frozen=True, eq=False)
class Program:
    """A cell's equations for a choice of options: a list of assignments, each name assigned once.

    A name that the cell assigns twice has two versions: ``a_i``, ``a_i.1``. An argument that no line reads is left out,
    so a layer without peepholes has no V.

    Attributes
    ----------
    cell, options
        The cell, and the chosen options.
    written : Written or None
        The backward step that was written by hand for the cell when the program was made.
    arguments : Arguments
        The arguments in use.
    lines
        (version of a name, expression), without products: those with W_k are read as ``p_k``.
    final
        Name → its last version, for every name that a trace shows.
    operands
        For each W_k, the version of the name that it multiplies.
    functions, compiled_in
        Option → its function: those chosen at run time, and those compiled in.
    """

    cell: Cell
    options: dict[str, Option]
    written: Written | None
    arguments: Arguments
    lines: list[tuple[str, Expression]]
    final: dict[str, str]
    operands: list[str]
    functions: dict[str, str] = field(default_factory=dict)
    compiled_in: dict[str, str] = field(default_factory=dict)

    def __reduce__(self) -> Any:
        """Copy and pickle by asking the cell for it again."""
        return _program_again, (self.cell, self.options)

    def compute(self, given: Mapping[str, Any]) -> tuple[NDArray, ...]:
        """Return the states after the step, computed in NumPy from the arguments by name.

        Parameters
        ----------
        given
            The arguments: arrays, and for each W_k something with ``W_k @ array``.

        Returns
        -------
        tuple of arrays
            h first.
        """
        values = self.values(given)
        return tuple(values[self.final[state]] for state in self.arguments.states)

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all values that the step computes, by versions of names; parameters as in `compute`."""
        values: dict[str, Any] = {**self.functions, **given}
        matrix_of = dict(zip(self.operands, self.arguments.W, strict=True))
        for target, expression in self.lines:
            values[target] = evaluate(expression, values)
            if target in matrix_of:
                gate = matrix_of[target]
                values[joined("p", gate)] = given[joined("W", gate)] @ values[target]
        return values


def _program_again(of: Cell, options: dict[str, Option]) -> Program:
    return of.program(**options)


class _Builder:
    """Follows a cell's lines and keeps the versions of its names."""

    def __init__(self, of: Cell, options: Mapping[str, Option]) -> None:
        self.cell, self.options = of, dict(options)
        self.current = {text: text for text in of.arguments.names()}
        self.counts = dict.fromkeys(self.current, 1)
        self.lines: list[tuple[str, Expression]] = []
        self.operands: dict[str, str] = {}
        self.numbers = {key: number(value) for key, value in options.items() if type(value) is float}
        # The default functions are compiled in; others are chosen at run time, so that a choice doesn't recompile.
        self.functions = {key: value for key, value in options.items() if isinstance(value, str)}
        defaults = {key: value for key, value in of.options.items() if isinstance(value, str)}
        self.compiled_in = self.functions if self.functions == defaults else {}

    def add(self, line: Line) -> None:
        """Add a line."""
        try:
            expression = self._resolved(line.expression)
        except KeyError as error:
            why = f"line {line.number}: {error.args[0]} is not defined{where(self.options)}"
            raise ValueError(f"{self.cell.name}, {why}") from None
        count = self.counts.get(line.target, 0)
        self.counts[line.target] = count + 1
        self.current[line.target] = f"{line.target}.{count}" if count else line.target
        self.lines.append((self.current[line.target], expression))

    def _resolved(self, x: Expression) -> Expression:
        """Return an expression with names replaced by versions, and products by names."""
        if x.op == "name":
            return self.numbers.get(x.args[0]) or name(self.current[x.args[0]])
        if x.op == "product":
            gate, operand = x.args[0].removeprefix("W_"), self._resolved(x.args[1])
            self.operands[gate] = f"m_{gate}.0"
            self.lines.append((self.operands[gate], operand))
            return name(joined("p", gate))
        return with_functions(x.rebuilt(self._resolved), self.compiled_in)

    def program(self) -> Program:
        """Return the program."""
        of = self.cell.arguments
        read = {each for _, expression in self.lines for each in expression.names()}
        a, u, w, v = (
            tuple(gate for gate in getattr(of, kind) if joined(kind, gate) in read) for kind in ("a", "u", "w", "v")
        )
        arguments = Arguments(a, u, w, tuple(gate for gate in of.W if gate in self.operands), of.states, v)
        for state in of.states:
            if state not in self.current:
                raise ValueError(f"{self.cell.name}: {state} is returned and not assigned{where(self.options)}")
        if not a and not u:
            raise ValueError(f"{self.cell.name}: nothing depends on x{where(self.options)}")
        self._check_products(arguments)

        hidden = {*of.diagonals, *of.matrices, *(f"{state}_prev" for state in of.states)}
        used = {*arguments.names(), *(target for target, _ in self.lines)}
        final = {key: version for key, version in self.current.items() if key not in hidden and version in used}
        operands = [self.operands[gate] for gate in arguments.W]
        free = {} if self.compiled_in else self.functions
        return Program(
            self.cell, self.options, self.cell.written, arguments, self.lines, final, operands, free, self.compiled_in
        )

    def _check_products(self, arguments: Arguments) -> None:
        """Raise if the value that a W_k multiplies depends on another such product."""
        depends: dict[str, set[str]] = {joined("p", gate): {gate} for gate in arguments.W}
        for target, expression in self.lines:
            depends[target] = set().union(*(depends.get(each, set()) for each in expression.names()))
        for gate, operand in self.operands.items():
            for inner in sorted(depends[operand]):
                raise ValueError(
                    f"{self.cell.name}: what {joined('W', gate)} multiplies depends on {joined('W', inner)} @ (...); "
                    "a step has one round of products, each of what came before them"
                )


def where(options: Mapping[str, Option]) -> str:
    """Return choices as the end of a sentence."""
    chosen = [f"{key}={value}" for key, value in options.items() if isinstance(value, bool)]
    return f" where {', '.join(chosen)}" if chosen else ""


def program_of(of: Cell, options: Mapping[str, Option]) -> Program:
    """Return a cell's equations under options as `Cell.chosen` returns them.

    Raises
    ------
    ValueError
        If the equations don't fit together for these options.
    """
    builder = _Builder(of, options)
    for line in of.lines:
        if all(options[option] is on for option, on in line.choices):
            builder.add(line)
    return builder.program()


__all__ = ["Program", "program_of", "where"]
