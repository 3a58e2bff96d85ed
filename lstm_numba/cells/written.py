"""Backward steps that are written by hand (`Cell.backward`)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lstm_numba.cells.derive import Backward, delta_names, settled
from lstm_numba.cells.expressions import ZERO, Expression, name, number, slope_of, substituted, with_functions
from lstm_numba.cells.functions import FUNCTIONS, slope
from lstm_numba.cells.program import Program, where
from lstm_numba.cells.reading import TextReader, joined, without_docstring

if TYPE_CHECKING:
    from lstm_numba.cells.definition import Cell


class Written:
    """A backward step written by hand.

    Attributes
    ----------
    name, text
        Name and source text of the function.
    lines
        Its equations.
    """

    def __init__(self, of: Cell, text: str, names: Mapping[str, Any], first_row: int = 1) -> None:
        reader = _BackwardReader(of, text, names, first_row)
        self.name = reader.name
        self.text = reader.text
        self.lines = reader.lines

    def backward(self, program: Program) -> Backward:
        """Return the step under a program's options.

        Raises
        ------
        ValueError
            If, under these options, a δ or dV is never assigned, or a line reads a name that doesn't exist.
        """
        result = Backward(program)
        current = _names_of(program)
        for count, line in enumerate(self.lines):
            if not all(program.options[option] is on for option, on in line.choices):
                continue
            for each in line.expression.names():
                if each not in current and each not in program.options and each not in FUNCTIONS:
                    why = f"{each} is not defined{where(program.options)}"
                    raise ValueError(f"{self.name}, line {line.number}: {why}")
            expression = _with_all_functions(substituted(line.expression, current), program.compiled_in)
            version = f"{line.target}.b{count}"  # no forward step uses this version
            result.lines.append((version, expression))
            current[line.target] = name(version)

        def assigned(text: str) -> Expression:
            if text not in current:
                raise ValueError(f"{self.name}: {text} is never assigned{where(program.options)}")
            return current[text]

        self._check_products(program, current, result)
        arguments = program.arguments
        result.delta = {gate: assigned(text) for gate, text in delta_names(program).items()}
        result.diagonal = {gate: assigned(f"dV_{gate}") for gate in arguments.v}
        result.epsilon = {state: current[f"epsilon_{state}"] for state in arguments.states}
        result.previous = {state: current.get(f"epsilon_{state}_prev", ZERO) for state in arguments.states}
        return settled(result)

    def _check_products(self, program: Program, current: Mapping[str, Expression], result: Backward) -> None:
        """Raise if the derivative of a product is computed from values that come back through the products."""
        late = {f"e_{operand}" for operand in program.operands}
        for version, expression in result.lines:
            if late.intersection(expression.names()):
                late.add(version)
        for gate in program.arguments.W:
            text = joined("delta_w", gate)
            if text in current and current[text].args[0] in late:
                raise ValueError(f"{self.name}: {text} depends on epsilon_{joined('m', gate)}, which comes after it")


def _names_of(program: Program) -> dict[str, Expression]:
    """Return the names that a backward step may read."""
    arguments = program.arguments
    known = {text: name(version) for text, version in program.final.items()}
    known |= {f"{state}_prev": name(f"{state}_prev") for state in arguments.states}
    known |= {each: name(each) for each in arguments.diagonals}
    known |= {f"epsilon_{state}": name(f"epsilon_{state}") for state in arguments.states}
    known |= {
        f"epsilon_{joined('m', gate)}": name(f"e_{operand}")
        for gate, operand in zip(arguments.W, program.operands, strict=True)
    }
    return known | {key: number(value) for key, value in program.options.items() if type(value) is float}


class _BackwardReader(TextReader):
    """Reads a backward step: like a cell's lines, but with other names, and with ``slope(function, value)``."""

    def __init__(self, of: Cell, text: str, names: Mapping[str, Any], first_row: int) -> None:
        super().__init__(text, names, first_row)
        self.options, self.arguments = of.options, of.arguments
        programs = [*of.programs()]
        known = self.known = {each for program in programs for each in _names_of(program)}
        self.results = {text for program in programs for text in delta_names(program).values()}
        self.results |= {joined("dV", gate) for gate in of.arguments.v}
        self.results |= {f"epsilon_{state}{end}" for state in of.arguments.states for end in ("", "_prev")}
        given = self.definition.args
        for each in (*given.posonlyargs, *given.args, *given.kwonlyargs):
            if each.arg not in known and each.arg not in self.options:
                self.refuse(each, f"{of.name} has nothing called {each.arg}; it has {', '.join(sorted(known))}")
            self.defined |= {each.arg} - set(self.options)
        body = without_docstring(self.definition)
        self.read(body[:-1] if isinstance(body[-1], ast.Return) else body)

    def checked_target(self, node: ast.stmt, text: str) -> str:
        """Return a name that a line may assign: a result, or one that later lines read."""
        if text in self.options or text in FUNCTIONS:
            meaning = "an option" if text in self.options else "a function"
            self.refuse(node, f"{text} is {meaning} already; choose another name")
        if text.startswith(("delta", "epsilon_", "dV_")) and text not in self.results:
            self.refuse(node, f"{text} is not one of the results {', '.join(sorted(self.results))}")
        return self.checked_name(node, text)

    def advice_on(self, text: str) -> str:
        """Return advice on a name that isn't defined."""
        return f"add {text} to the arguments" if text in self.known else ""

    def read_call(self, node: ast.Call) -> Expression:
        """Return the call of a function, or ``slope(function, value)``."""
        if isinstance(node.func, ast.Name) and node.func.id == slope.name and len(node.args) == slope.arity:
            option = ast.unparse(node.args[0])
            function = option if isinstance(self.options.get(option), str) else self.function_named(node.args[0])
            if not function:
                self.refuse(node, f"expected slope(function, value), got {option} as the function")
            return slope_of(function, self.read_expression(node.args[1]))
        return super().read_call(node)


def _with_all_functions(x: Expression, functions: Mapping[str, str]) -> Expression:
    """Return an expression with every option that is a function replaced by that function."""
    if x.op == "call" and x.args[0] == slope.name:
        of = x.args[1].args[0]
        return slope_of(functions.get(of, of), _with_all_functions(x.args[2], functions))
    return with_functions(x.rebuilt(lambda operand: _with_all_functions(operand, functions)), functions)


__all__ = ["Written"]
