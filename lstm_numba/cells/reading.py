"""Read a cell's text: its arguments by their names, its options, and its lines as expressions.

A line that isn't an equation raises a ValueError that shows the line and says what is allowed. The text is never run.
"""

from __future__ import annotations

import ast
import functools
import keyword
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from lstm_numba.cells.expressions import Expression, call, name, negative, number
from lstm_numba.cells.functions import FUNCTIONS, SQUASHING, Function

Option = bool | float | str  # a function is given by its name

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_LANGUAGE = (
    "a line may be an assignment of one name (+ - * / and numbers, "
    f"{', '.join(sorted(FUNCTIONS))}), W_k @ (...), `if option:`, and at the end `return h, ...`"
)
_NO_COMPARISONS = "comparisons aren't allowed; use maximum, minimum, relu or abs"
_KINDS = (
    "a_k (U_k x + W_k h + b_k), u_k (U_k x + b_k), w_k (W_k h + bw_k), W_k (a matrix), s_prev (a state), v_k (a "
    "diagonal weight) or an option with a default"
)

# Names that mean something else in a trace, in gradients or in the parameters.
TAKEN_BY_TRACES = frozenset(
    "x T B layer lengths names steps operands check_finite for_backward made_by to_pandas to_xarray parameters delta "
    "epsilon a U W V b bw slope above".split()
)
# Names that mean something else in a layer, or in a network that passes its options on to layers.
TAKEN_BY_LAYERS = frozenset(
    "cell cells input_size hidden_size hidden_sizes bias forget_bias reverse init dtype seed options names states "
    "around astype backward by_state check_state config forward frozen lengths memory move_to of_size padded "
    "parameters run run_back second_derivatives stream take_input trace_of bidirectional merge embedding "
    "embedding_size output_bias dropout input_dropout word_dropout weight_decay loss window word_vectors one_hot "
    "numbers lowercase min_count n_classes num_layers batch_first proj_size device".split()
)

# Far beyond any published cell, and small enough for recursion.
_MAX_LINES, _MAX_DEPTH, _MAX_CHOICES = 100, 60, 6


class Line(NamedTuple):
    """One equation of a cell, with the choices that lead to it: (option, whether it is on) for each."""

    target: str
    expression: Expression
    choices: tuple[tuple[str, bool], ...]
    number: int


@dataclass(frozen=True)
class Arguments:
    """A cell's arguments by kind, in the order in which they were given, without prefixes and suffixes.

    Attributes
    ----------
    a, u, w
        Gates with a pre-activation a_k, u_k, w_k. A single ``a`` is the gate "".
    W
        Gates with a product of a value that the step has computed.
    states
        The states, h first.
    v
        Gates with a diagonal weight.
    """

    a: tuple[str, ...] = ()
    u: tuple[str, ...] = ()
    w: tuple[str, ...] = ()
    W: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    v: tuple[str, ...] = ()

    @property
    def U_gates(self) -> tuple[str, ...]:
        """Gates in the order in which U and b stack them."""
        return self.a + self.u

    @property
    def W_gates(self) -> tuple[str, ...]:
        """Gates in the order in which W stacks them."""
        return self.a + self.w + self.W

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the arguments W_k."""
        return tuple(joined("W", gate) for gate in self.W)

    @property
    def diagonals(self) -> tuple[str, ...]:
        """Names of the arguments v_k."""
        return tuple(joined("v", gate) for gate in self.v)

    def names(self) -> Iterator[str]:
        """Iterate over the arguments' names."""
        for kind in "auwWv":
            yield from (joined(kind, gate) for gate in getattr(self, kind))
        yield from (f"{state}_prev" for state in self.states)


def joined(kind: str, gate: str) -> str:
    """Return a name for a kind and a gate: "a_f" or, if the gate has no name, "a"."""
    return f"{kind}_{gate}" if gate else kind


class TextReader:
    """Reads functions of equations; subclasses define which arguments and targets are allowed.

    Attributes
    ----------
    name
        The function's name.
    definition
        The parsed function.
    text
        Its source, with functions called by their own names, so that it can be read again by itself.
    options
        Options and their defaults.
    arguments : Arguments
        The cell's arguments.
    lines : list of Line
        The equations.
    first_row
        The number of the text's first line in its file, where the line numbers in messages start.
    defined
        Names that a line may read.
    """

    options: dict[str, Option]
    arguments: Arguments

    def __init__(self, text: str, known_objects: Mapping[str, Any], first_row: int = 1) -> None:
        self.name = "cell"
        self.first_row = first_row
        self.rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self.known_objects = known_objects
        self.lines: list[Line] = []
        self.defined: set[str] = set()
        self._renamed: list[tuple[ast.expr, str]] = []
        self.definition = self._parsed(text)
        self.name = self.definition.name
        self._check_size()

    @property
    def text(self) -> str:
        """The source, with functions called by their own names."""
        rows = [row.encode() for row in self.rows]  # columns are counted in bytes
        for node, new in sorted(self._renamed, key=lambda pair: (pair[0].lineno, pair[0].col_offset), reverse=True):
            row = rows[node.lineno - 1]
            rows[node.lineno - 1] = row[: node.col_offset] + new.encode() + row[node.end_col_offset :]
        return "\n".join(row.decode() for row in rows)

    def refuse(self, node: Any, why: str) -> NoReturn:
        """Raise a ValueError that shows a node's line."""
        row = getattr(node, "lineno", None) or 1
        line = self.rows[row - 1].strip() if 0 < row <= len(self.rows) else ""
        raise ValueError(f"{self.name}, line {self.first_row + row - 1}: {line!r}: {why}")

    def _parsed(self, text: str) -> ast.FunctionDef:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (SyntaxError, ValueError) as error:
            self.refuse(error, f"expected Python, got {getattr(error, 'msg', error)}")
        except (RecursionError, MemoryError):
            self.refuse(None, "the text is nested too deeply to be read; give parts of it names of their own")
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        others = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom)]
        if others or len(functions) != 1:
            self.refuse((others + functions[1:] + [None])[0], "expected one function, `def name(a, h_prev): ...`")
        for decorator in functions[0].decorator_list[1:]:
            self.refuse(decorator, "expected no other decorator than cell, as nothing else is run")
        for decorator in functions[0].decorator_list:
            if not isinstance(decorator, ast.Name | ast.Attribute):
                self.refuse(decorator, "expected @cell without arguments; options are arguments with defaults")
        return functions[0]

    def _check_size(self) -> None:
        """Raise if the text is too long or too deeply nested for recursion."""
        level: list[ast.AST] = [self.definition]
        for _ in range(_MAX_DEPTH):
            deepest = level[0] if level else None
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if level:
            placed = next((node for node in level if hasattr(node, "lineno")), deepest)
            self.refuse(placed, "the line is nested too deeply; give parts of it names of their own")
        statements = [node for node in ast.walk(self.definition) if isinstance(node, ast.stmt)]
        if len(statements) > _MAX_LINES:
            self.refuse(statements[-1], f"expected at most {_MAX_LINES} lines, got {len(statements)}")

    def checked_name(self, node: Any, text: str) -> str:
        """Return a valid name for an array, or raise."""
        parts = text.split("_")
        if not text.isascii() or "" in parts or keyword.iskeyword(text):
            self.refuse(node, f"expected a name of letters a-z, digits and single underscores between them, got {text}")
        return text

    def checked_target(self, node: ast.stmt, text: str) -> str:
        """Return a name that a line may assign, or raise."""
        raise NotImplementedError

    def advice_on(self, text: str) -> str:
        """Return what to do about a name that isn't defined."""
        raise NotImplementedError

    def function_named(self, node: ast.expr) -> str:
        """Return the name of the package's function that an expression refers to; "" if there is none."""
        text = ast.unparse(node)
        head, *rest = text.split(".") if isinstance(node, ast.Attribute | ast.Name) else [""]
        found = functools.reduce(lambda value, part: getattr(value, part, None), rest, self.known_objects.get(head))
        if isinstance(found, Function):
            if text != found.name:
                self._renamed.append((node, found.name))
            return found.name
        return text if text in FUNCTIONS and head not in self.known_objects else ""

    # -- statements ---------------------------------------------------------------------------------------------------

    def read(self, body: list[ast.stmt], choices: tuple[tuple[str, bool], ...] = ()) -> None:
        """Read assignments and choices."""
        for node in body:
            if isinstance(node, ast.If):
                self._read_choice(node, choices)
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                target = self.checked_target(node, node.targets[0].id)
                row = self.first_row + node.lineno - 1
                self.lines.append(Line(target, self.read_expression(node.value), choices, row))
                self.defined.add(target)
            else:
                self.refuse(node, self._advice(node))

    def _advice(self, node: ast.stmt) -> str:
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            written_out = ast.BinOp(ast.Name(node.target.id), node.op, node.value)
            return f"write it out: {node.target.id} = {ast.unparse(written_out)}"
        if isinstance(node, ast.Assign):
            return "expected one name on the left side; give each name a line of its own"
        if isinstance(node, ast.Return):
            return f"expected `return` once, as the last line; {_LANGUAGE}"
        if isinstance(node, ast.For | ast.While):
            return f"there are no loops: the layer carries the states from step to step; {_LANGUAGE}"
        return f"this is not an equation; {_LANGUAGE}"

    def _read_choice(self, node: ast.If, choices: tuple[tuple[str, bool], ...]) -> None:
        test, on = node.test, True
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, on = test.operand, False
        if isinstance(test, ast.Compare | ast.BoolOp):
            self.refuse(node, _NO_COMPARISONS)
        option = test.id if isinstance(test, ast.Name) else ""
        if not isinstance(self.options.get(option), bool):
            known = ", ".join(key for key, value in self.options.items() if isinstance(value, bool))
            known = known or "add one to the arguments: option=True"
            self.refuse(node, f"expected `if option:` with an option that is True or False ({known})")
        self.read(node.body, (*choices, (option, on)))
        self.read(node.orelse, (*choices, (option, not on)))

    # -- expressions --------------------------------------------------------------------------------------------------

    def read_expression(self, node: ast.expr) -> Expression:
        """Read the right side of an equation, or a part of it."""
        if isinstance(node, ast.Constant):
            return number(self.read_number(node))
        if isinstance(node, ast.Name):
            return self._read_name(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return negative(self.read_expression(node.operand))
        if isinstance(node, ast.Call):
            return self.read_call(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            return self._read_product(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            self.refuse(node, f"there are no powers; write {_power(node.right)}")
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            operands = self.read_expression(node.left), self.read_expression(node.right)
            return Expression(_OPERATORS[type(node.op)], operands)
        if isinstance(node, ast.Compare | ast.IfExp | ast.BoolOp):
            self.refuse(node, _NO_COMPARISONS)
        self.refuse(node, f"{ast.unparse(node)} isn't allowed in an equation; {_LANGUAGE}")

    def read_number(self, node: ast.Constant) -> float:
        """Read a finite number."""
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.refuse(node, f"expected a number, got {node.value!r:.40}")
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            self.refuse(node, "expected a number below 1.8e308")
        return value

    def _read_name(self, node: ast.Name) -> Expression:
        if type(self.options.get(node.id)) is float or node.id in self.defined:
            return name(node.id)
        if node.id in self.arguments.matrices:
            self.refuse(node, f"{node.id} is a matrix; it multiplies: {node.id} @ (...)")
        if node.id in self.options:
            self.refuse(node, f"{node.id} is an option that is no number; write `if {node.id}:` or {node.id}(...)")
        value = self.known_objects.get(node.id)
        advice = self.advice_on(node.id)
        if isinstance(value, int | float):
            advice = f"make it an option, an argument with a default: {node.id}={value}"
        advice = advice or f"defined are {', '.join(sorted(self.defined))}"
        self.refuse(node, f"{node.id} is not defined here; {advice}")

    def _read_product(self, node: ast.BinOp) -> Expression:
        matrix = node.left.id if isinstance(node.left, ast.Name) else ""
        if matrix not in self.arguments.matrices:
            known = ", ".join(self.arguments.matrices) or "W_k"
            advice = self.advice_on(matrix) if matrix.startswith("W_") else ""
            self.refuse(node, f"expected one of the arguments {known} on the left of @" + f"; {advice}" * bool(advice))
        return Expression("product", (matrix, self.read_expression(node.right)))

    def read_call(self, node: ast.Call) -> Expression:
        """Read a call of a function, or of an option that is a function."""
        option = node.func.id if isinstance(node.func, ast.Name) else ""
        function = option if isinstance(self.options.get(option), str) else self.function_named(node.func)
        if function not in FUNCTIONS and function not in self.options:
            known = [*sorted(FUNCTIONS), *(key for key, value in self.options.items() if isinstance(value, str))]
            if option in FUNCTIONS:
                self.refuse(node, f"{option} is not the package's function here; import {option} from lstm_numba.cells")
            self.refuse(node, f"{ast.unparse(node.func)} is not one of the functions {', '.join(known)}")
        arity = 1 if function in self.options else FUNCTIONS[function].arity
        if node.keywords or len(node.args) != arity:
            self.refuse(node, f"expected {function} of {arity} argument{'s' * (arity > 1)}, without keywords")
        return call(function, *map(self.read_expression, node.args))


class Reader(TextReader):
    """Reads a cell."""

    def __init__(self, text: str, known_objects: Mapping[str, Any], first_row: int = 1) -> None:
        super().__init__(text, known_objects, first_row)
        self.citation = ast.get_docstring(self.definition) or ""
        self.options = {}
        self.arguments = self._read_arguments(self.definition.args)
        self.defined = {each for each in self.arguments.names() if each not in self.arguments.matrices}
        body = without_docstring(self.definition)
        if not body or not isinstance(body[-1], ast.Return):
            self.refuse(body[-1] if body else self.definition, f"expected it to end with `return {self._states()}`")
        self.read(body[:-1])
        self._check_return(body[-1])
        self._check_used()

    def _states(self) -> str:
        return ", ".join(self.arguments.states)

    # -- arguments ----------------------------------------------------------------------------------------------------

    def _read_arguments(self, given: ast.arguments) -> Arguments:
        if given.vararg or given.kwarg:
            self.refuse(given.vararg or given.kwarg, "expected arguments with names, got * or **")
        positional = [*given.posonlyargs, *given.args]
        every = [*positional, *given.kwonlyargs]
        for number_, each in enumerate(every):
            self.checked_name(each, each.arg)
            if each.arg in {other.arg for other in every[:number_]}:
                self.refuse(each, f"there are two arguments {each.arg}")
        n_plain = len(positional) - len(given.defaults)
        for each, default in zip(positional[n_plain:], given.defaults, strict=True):
            self._read_option(each, default)
        for each, optional in zip(given.kwonlyargs, given.kw_defaults, strict=True):
            self._read_option(each, optional)
        if sum(isinstance(value, bool) for value in self.options.values()) > _MAX_CHOICES:
            self.refuse(every[-1], f"expected at most {_MAX_CHOICES} options that are True or False")
        kinds: dict[str, list[str]] = {kind: [] for kind in ("a", "u", "w", "W", "prev", "v")}
        for each in positional[:n_plain]:
            kind, gate = self._kind(each)
            kinds[kind].append(gate)
        self._check_kinds(kinds)
        return Arguments(*map(tuple, kinds.values()))

    def _read_option(self, argument: ast.arg, default: ast.expr | None) -> None:
        key = argument.arg
        if default is None:
            self.refuse(argument, f"expected a default, {key}=..., since it is an option of the layer")
        if key in TAKEN_BY_LAYERS or key in FUNCTIONS:
            meaning = "a function" if key in FUNCTIONS else "an argument or attribute of layers or networks"
            self.refuse(argument, f"{key} is {meaning} already; choose another name")
        self.options[key] = self._default(argument, default)

    def _default(self, argument: ast.arg, node: ast.expr) -> Option:
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return -self.read_number(node.operand)
        if isinstance(node, ast.Constant):
            return self.read_number(node)
        function = self.function_named(node)
        if function in SQUASHING:
            return function
        self.refuse(argument, f"{argument.arg}: expected a default of {', '.join(SQUASHING)}, True, False or a number")

    def _kind(self, argument: ast.arg) -> tuple[str, str]:
        text = argument.arg
        kind, _, gate = text.partition("_")
        if text.endswith("_prev"):
            return "prev", text.removesuffix("_prev")
        if kind in ("a", "u", "w", "W", "v") and (gate or text == "a"):
            return kind, gate
        self.refuse(argument, f"{text} is an argument of unknown kind; expected {_KINDS}")

    def _check_kinds(self, kinds: Mapping[str, list[str]]) -> None:
        head = self.definition
        if kinds["prev"][:1] != ["h"]:
            self.refuse(head, "expected h_prev as the first of the states: h is the cell's output")
        for first, second in (("a", "u"), ("a", "w"), ("a", "W"), ("w", "W")):
            for gate in set(kinds[first]) & set(kinds[second]):
                both = f"{joined(first, gate)} and {joined(second, gate)}"
                self.refuse(head, f"{both} are two gates of one name; choose another name for one")
        for gate in {joined("w", gate) for gate in kinds["w"] + kinds["W"]} & set(kinds["a"] + kinds["u"]):
            self.refuse(head, f"delta_{gate} would mean two things; choose another name for gate {gate}")
        if "" in kinds["a"] and len(kinds["a"] + kinds["u"] + kinds["w"] + kinds["W"]) > 1:
            self.refuse(head, "a stands for the only pre-activation; where there are more, name them a_k")
        if not kinds["a"] and not kinds["u"]:
            self.refuse(head, "expected a pre-activation a_k or u_k, or nothing would depend on x")

    # -- lines --------------------------------------------------------------------------------------------------------

    def checked_target(self, node: ast.stmt, text: str) -> str:
        """Return a name that a line may assign and a trace can show, or raise."""
        self.checked_name(node, text)
        meaning = self._meaning(text)
        if meaning:
            self.refuse(node, f"{text} is {meaning} already; choose another name")
        return text

    def _meaning(self, text: str) -> str:
        """Return the meaning of a name outside the equations; "" if it has none."""
        arguments = self.arguments
        letters, _, gate = text.partition("_")
        if text in (*arguments.diagonals, *arguments.matrices):
            return "a weight, which a step doesn't change,"
        if letters in ("U", "W", "b", "bw", "V") and gate in {"", *arguments.U_gates, *arguments.W_gates, *arguments.v}:
            return "a parameter of the layer"
        if letters in ("p", "m") and gate in arguments.W:
            return f"{'the product' if letters == 'p' else 'what stands on the right'} of {joined('W', gate)} @ (...)"
        if text in self.options or text in FUNCTIONS:
            return "an option" if text in self.options else "a function"
        if text in {f"{state}{end}" for state in arguments.states for end in ("0", "_last", "_prev")}:
            return "a state of the trace"
        if text.startswith(("delta_", "epsilon_")):
            return "a derivative in the gradients"
        return "an attribute of traces or gradients" if text in TAKEN_BY_TRACES - set(arguments.names()) else ""

    def advice_on(self, text: str) -> str:
        """Return what to do about a name that isn't defined."""
        kind, _, gate = text.partition("_")
        if text == "x":
            return "the input comes in through u_k, which is U_k x + b_k, and a_k, which is U_k x + W_k h + b_k"
        if text.endswith("_prev"):
            return f"a state: add {text} to the arguments"
        if kind == "W" and gate in self.arguments.a:
            return f"a_{gate} holds {text} already: take u_{gate} in its place and add {text} to the arguments"
        return f"add {text} to the arguments" if kind in ("a", "u", "w", "W", "v") and gate else ""

    def _check_return(self, node: ast.Return) -> None:
        value = node.value
        parts = value.elts if isinstance(value, ast.Tuple) else [value]
        if [part.id if isinstance(part, ast.Name) else "" for part in parts] != list(self.arguments.states):
            self.refuse(node, f"expected `return {self._states()}`: every state, in the order of the arguments")
        for state in self.arguments.states:
            if state not in self.defined:
                self.refuse(node, f"{state} is returned and never assigned")

    def _check_used(self) -> None:
        used: set[str] = set()
        assigned: set[str] = set()
        products: list[str] = []
        for line in self.lines:
            used |= {*line.expression.names()} - assigned | {option for option, _ in line.choices}
            assigned |= set() if line.choices else {line.target}
            parts = [*line.expression.parts()]
            used |= {part.args[0] for part in parts if part.op == "call"}
            products += [part.args[0] for part in parts if part.op == "product"]
        for each in (*self.arguments.names(), *self.options):
            if each not in used and each not in products and not each.endswith("_prev"):
                self.refuse(self.definition, f"{each} is never used; take it out of the arguments")
        for matrix in products:
            if products.count(matrix) > 1:
                self.refuse(self.definition, f"{matrix} multiplies more than once; give it one product")


def _power(exponent: ast.expr) -> str:
    """Return how to write x to a power."""
    known: dict[Any, str] = {2: "x * x", 3: "x * x * x", 0.5: "sqrt(x)"}
    value = exponent.value if isinstance(exponent, ast.Constant) else None
    return known.get(value, "exp(y * log(x)), for x above 0")


def without_docstring(definition: ast.FunctionDef) -> list[ast.stmt]:
    """Return a function's statements after its docstring."""
    first = definition.body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return definition.body[1:] if is_text else definition.body


__all__ = ["Arguments", "Line", "Option", "Reader", "TextReader", "joined", "without_docstring"]
