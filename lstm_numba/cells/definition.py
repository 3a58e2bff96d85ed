"""Equations in: the `cell` decorator, which reads a function's lines, checks them and makes a `Cell` of them.

    @cell
    def lstm(a_i, a_f, a_o, a_c, h_prev, c_prev, v_i, v_f, v_o):
        a_i = a_i + v_i * c_prev
        ...
        return h, c

What an argument is, its name says, with k a gate's name and s a state's:

    a_k      U_k xᵗ + W_k hᵗ⁻¹ + b_k; a cell with a single one may call it a, with parameters U, W and b
    u_k      U_k xᵗ + b_k, and w_k = W_k hᵗ⁻¹ + bw_k, where a cell needs them apart
    W_k      a recurrent weight matrix, for a product with what the step has computed: W_k @ (r * h_prev)
    s_prev   a state before the step; h, the output, comes first
    v_k      a diagonal weight V_k
    key=...  an option of the layer: a function (gate=sigmoid), a choice (peepholes=True) or a number

The function is read, never run, to make a layer of it. Called on NumPy arrays it runs, as any function.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import keyword
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from lstm_numba.cells.expressions import Expression, call, evaluate, name, negative, number
from lstm_numba.cells.functions import FUNCTIONS, SQUASHING, Function

Option = bool | float | str  # a function by its name

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_LANGUAGE = (
    "a line may be an assignment of one name (+ - * / and numbers, "
    f"{', '.join(sorted(FUNCTIONS))}), W_k @ (...), `if option:`, and at the end `return h, ...`"
)
# What a trace or its layer calls something else.
_TAKEN = {"x", "T", "B", "layer", "lengths", "delta", "epsilon"}


class Line(NamedTuple):
    """One equation of a cell, under the choices that lead to it: (option, whether it is on) for each."""

    target: str
    expression: Expression
    choices: tuple[tuple[str, bool], ...]
    number: int


@dataclass(frozen=True)
class Arguments:
    """A cell's arguments by what they are, in the order in which they were given; without prefixes and suffixes.

    Attributes
    ----------
    a, u, w
        Gates with a pre-activation a_k, u_k, w_k. A lone ``a`` is the gate "".
    W
        Gates with a product of what the step has computed.
    states
        h first.
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

    def names(self) -> Iterator[str]:
        """Iterate over the arguments' names."""
        for kind in "auwWv":
            yield from (joined(kind, gate) for gate in getattr(self, kind))
        yield from (f"{state}_prev" for state in self.states)


def joined(kind: str, gate: str) -> str:
    """Return the name of something of a gate: "a_f" or, where the gate has no name, "a"."""
    return f"{kind}_{gate}" if gate else kind


class Cell:
    """A recurrent cell: its equations, and what is derived from them. Made by `cell`.

    Attributes
    ----------
    name
        The function's.
    text
        The source that was read.
    arguments : Arguments
        What it takes, by kind.
    options
        Keyword arguments and their defaults; functions by name.
    lines
        Its equations.
    citation
        The function's docstring.
    """

    def __init__(self, function: Callable[..., Any] | None, text: str, names: Mapping[str, Any]) -> None:
        reader = Reader(text, names)
        self.name = reader.name
        self.text = text
        self.arguments = reader.arguments
        self.options = reader.options
        self.lines = reader.lines
        self.citation = reader.citation
        self.written: Callable[..., Any] | None = None
        self._function = function
        self.__doc__ = reader.citation
        self.__name__ = reader.name
        _check_programs(self)

    def __repr__(self) -> str:
        """Return its name and arguments."""
        options = [f"{key}={value}" for key, value in self.options.items()]
        return f"<cell {self.name}({', '.join([*self.arguments.names(), *options])})>"

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Compute one step on arrays, by running the equations as Python."""
        names = list(inspect.signature(self._function).parameters) if self._function else _order(self.text)
        given = dict(zip(names, arguments, strict=False)) | keywords
        matrices = {joined("W", gate) for gate in self.arguments.W}
        given = {key: _Matrix(value) if key in matrices else value for key, value in given.items()}
        if self._function is not None:
            return self._function(**given)
        chosen = self.chosen({key: value for key, value in given.items() if key in self.options})
        return self.program(**chosen).compute(given)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along: the text, which is read again."""
        return {"text": self.text, "written": None if self.written is None else self.written.text}  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the text again."""
        self.__init__(None, state["text"], {})  # type: ignore[misc]
        if state["written"]:
            self.backward(state["written"])

    def __eq__(self, other: object) -> bool:
        """Tell whether both have the same text."""
        return isinstance(other, Cell) and self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        """Return a hash of the text."""
        return hash(self.text)

    def chosen(self, options: Mapping[str, Any]) -> dict[str, Option]:
        """Return all options with the given ones in the place of the defaults.

        Raises
        ------
        TypeError, ValueError
            For an option that the cell doesn't have, or a value it can't be.
        """
        for key in options:
            if key not in self.options:
                known = ", ".join(self.options) or "none"
                raise TypeError(f"{key}: expected one of {self.name}'s options ({known}), got an unknown one")
        return {key: _as_option(key, options.get(key, default), default) for key, default in self.options.items()}

    def program(self, **options: Option) -> Program:
        """Return the straight line of equations under these options (as `chosen` returns them)."""
        return _program(self, tuple(sorted(options.items())))

    def backward(self, function: Any) -> Any:
        """Take a backward step written by hand in the place of the derived one.

        Use it as a decorator. The function's arguments are the cell's names, ``epsilon_s`` for each state s (complete
        but for what the step itself adds) and the options; it assigns ``delta_k`` for every pre-activation,
        ``epsilon_s`` where the step adds to it, ``epsilon_s_prev`` (0 where left out) and ``dV_k``. The slope of a
        function is written with its value: ``slope(gate, i)``.
        """
        from lstm_numba.cells.derive import Written

        self.written = Written(self, function)
        _program.cache_clear()
        return function

    @property
    def equations(self) -> Any:
        """The equations: text when printed, formulas in a notebook."""
        from lstm_numba.cells.display import forward_equations

        return forward_equations(self)

    @property
    def backward_equations(self) -> Any:
        """The derived backward equations: text when printed, formulas in a notebook."""
        from lstm_numba.cells.display import backward_equations

        return backward_equations(self)

    def _repr_latex_(self) -> str:
        return self.equations._repr_latex_()


class _Matrix:
    """A weight matrix in equations on arrays: it multiplies each row of a batch."""

    def __init__(self, W: NDArray) -> None:
        self.W = np.asarray(W)

    def __matmul__(self, x: NDArray) -> NDArray:
        return x @ self.W.T


def cell(function: Callable[..., Any] | str) -> Cell:
    """Make a cell of a function whose lines are equations, or of its text.

    Parameters
    ----------
    function
        A function as this module's page describes it, or its source.

    Returns
    -------
    Cell
        For `lstm_numba.Recurrent`.

    Raises
    ------
    TypeError
        For something that is neither a function nor a text.
    ValueError
        For a line that isn't an equation, a name that isn't defined, a state that isn't returned, an argument of
        unknown kind, a source that can't be read; the text names the line and what is allowed.

    Examples
    --------
    >>> leaky = cell('''
    ... def leaky(a, h_prev):
    ...     h = 0.9 * h_prev + 0.1 * tanh(a)
    ...     return h
    ... ''')
    >>> leaky.arguments.states
    ('h',)
    """
    if isinstance(function, Cell):
        return function
    if isinstance(function, str):
        return Cell(None, textwrap.dedent(function).strip() + "\n", {})
    if not inspect.isfunction(function):
        raise TypeError(f"cell: expected a function or its source as text, got {type(function).__name__}")
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise ValueError(
            f"{function.__name__}: the source of the function can't be read (it was typed at a prompt that keeps "
            "none); give the source itself: cell('''def ...''')"
        ) from None
    closure = inspect.getclosurevars(function)
    return Cell(function, text, {**closure.globals, **closure.nonlocals})


# -- reading ----------------------------------------------------------------------------------------------------------


class Reader:
    """Reads a cell's text."""

    def __init__(self, text: str, names: Mapping[str, Any]) -> None:
        self.text = text
        self.rows = text.splitlines()
        self.known_objects = names
        self.name = "cell"
        definition = self.read_definition()
        self.name = definition.name
        self.citation = ast.get_docstring(definition) or ""
        self.options: dict[str, Option] = {}
        self.arguments = self._arguments(definition)
        self.lines: list[Line] = []
        self.defined = set(self.arguments.names()) - {joined("W", gate) for gate in self.arguments.W}
        body = definition.body[1:] if self.citation else definition.body
        if not body or not isinstance(body[-1], ast.Return):
            self.refuse(body[-1] if body else definition, f"expected it to end with `return {self._states()}`")
        self.read(body[:-1], ())
        self._check_return(body[-1])
        self._check_used(definition)

    def refuse(self, node: Any, why: str) -> NoReturn:
        row = getattr(node, "lineno", 1)
        line = self.rows[row - 1].strip() if 0 < row <= len(self.rows) else ""
        raise ValueError(f"{self.name}, line {row}: {line!r}: {why}")

    def _states(self) -> str:
        return ", ".join(self.arguments.states)

    def read_definition(self) -> ast.FunctionDef:
        try:
            tree = ast.parse(self.text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            row = getattr(error, "lineno", None) or 1
            line = self.rows[row - 1].strip() if 0 < row <= len(self.rows) else ""
            raise ValueError(f"cell, line {row}: {line!r}: expected Python, got {getattr(error, 'msg', error)}") from None
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        others = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom)]
        if len(functions) != 1 or others:
            self.refuse(others[0] if others else tree, f"expected one function, got {len(functions)}")
        return functions[0]

    def _arguments(self, definition: ast.FunctionDef) -> Arguments:
        given = definition.args
        if given.vararg or given.kwarg:
            self.refuse(definition, "expected arguments with names, got * or **")
        positional = [*given.posonlyargs, *given.args]
        n_plain = len(positional) - len(given.defaults)
        pairs = [*zip(positional[n_plain:], given.defaults, strict=True)]
        pairs += [(each, default) for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default]
        for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
            if default is None:
                self.refuse(each, f"expected a default, {each.arg}=..., since it is an option of the layer")
        for each, default in pairs:
            self.options[self._checked_name(each, each.arg)] = self._default(each, default)
        kinds: dict[str, list[str]] = {kind: [] for kind in ("a", "u", "w", "W", "v", "prev")}
        for each in positional[:n_plain]:
            kind, gate = self._kind(each)
            if gate in kinds[kind]:
                self.refuse(each, f"there are two arguments {each.arg}")
            kinds[kind].append(gate)
        self._check_kinds(definition, kinds)
        return Arguments(*(tuple(kinds[kind]) for kind in ("a", "u", "w", "W", "prev", "v")))

    def _kind(self, argument: ast.arg) -> tuple[str, str]:
        text = self._checked_name(argument, argument.arg)
        kind, _, gate = text.partition("_")
        if text.endswith("_prev") and text != "_prev":
            return "prev", text.removesuffix("_prev")
        if kind in ("a", "u", "w", "W", "v") and (gate or text == "a"):
            return kind, gate
        self.refuse(
            argument,
            f"{text} is an argument of unknown kind; expected a_k (U_k x + W_k h + b_k), u_k (U_k x + b_k), w_k (W_k h "
            "+ bw_k), W_k (a matrix), s_prev (a state), v_k (a diagonal weight) or an option with a default",
        )

    def _checked_name(self, node: Any, text: str) -> str:
        if not text.isascii() or text.startswith("_") or "__" in text or keyword.iskeyword(text):
            self.refuse(node, f"expected a name of letters, digits and single underscores, got {text}")
        return text

    def _check_kinds(self, definition: ast.FunctionDef, kinds: Mapping[str, list[str]]) -> None:
        if not kinds["prev"] or kinds["prev"][0] != "h":
            self.refuse(definition, "expected h_prev as the first of the states: h is the cell's output")
        for first, second in (("a", "u"), ("a", "w"), ("a", "W"), ("w", "W")):
            for gate in set(kinds[first]) & set(kinds[second]):
                both = f"{joined(first, gate)} and {joined(second, gate)}"
                self.refuse(definition, f"{both} are two gates of one name; name one otherwise")
        if "" in kinds["a"] and len(kinds["a"] + kinds["u"] + kinds["w"] + kinds["W"]) > 1:
            self.refuse(definition, "a stands for the only pre-activation; where there are more, name them a_k")
        if not kinds["a"] and not kinds["u"]:
            self.refuse(definition, "expected a pre-activation a_k or u_k, or nothing would depend on x")

    def _default(self, argument: ast.arg, node: ast.expr) -> Option:
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            return node.value if isinstance(node.value, bool) else float(node.value)
        function = self.function_named(node)
        if function in SQUASHING:
            return function
        self.refuse(argument, f"{argument.arg}: expected a default of {', '.join(SQUASHING)}, True, False or a number")

    def function_named(self, node: ast.expr) -> str:
        """Return the name of the package's function that a piece of text means; "" for none."""
        text = ast.unparse(node)
        found = self.known_objects.get(text)
        if isinstance(node, ast.Attribute):  # cells.sigmoid, ln.cells.sigmoid
            head, *rest = text.split(".")
            found = functools.reduce(lambda value, part: getattr(value, part, None), rest, self.known_objects.get(head))
        if isinstance(found, Function):
            return found.name
        return text if text in FUNCTIONS and found is None else text if found is FUNCTIONS.get(text, self) else ""

    def read(self, body: list[ast.stmt], choices: tuple[tuple[str, bool], ...]) -> None:
        for node in body:
            if isinstance(node, ast.If):
                self._read_choice(node, choices)
            elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                target = self.checked_target(node, node.targets[0].id)
                self.lines.append(Line(target, self.read_expression(node.value), choices, node.lineno))
                self.defined.add(target)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                self.refuse(node, f"write it out: {node.target.id} = {node.target.id} ...")
            else:
                self.refuse(node, f"this is no equation; {_LANGUAGE}")

    def _read_choice(self, node: ast.If, choices: tuple[tuple[str, bool], ...]) -> None:
        test, on = node.test, True
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, on = test.operand, False
        option = test.id if isinstance(test, ast.Name) else ""
        if not isinstance(self.options.get(option), bool):
            known = [key for key, value in self.options.items() if isinstance(value, bool)]
            self.refuse(node, f"expected `if option:` with an option that is True or False ({', '.join(known) or 'none'})")
        self.read(node.body, (*choices, (option, on)))
        self.read(node.orelse, (*choices, (option, not on)))

    def checked_target(self, node: ast.stmt, text: str) -> str:
        self._checked_name(node, text)
        states = self.arguments.states
        taken = _TAKEN | {f"{state}{end}" for state in states for end in ("0", "_last", "_prev")}
        if text in taken or text.startswith(("delta_", "epsilon_")) or text in self.options or text in FUNCTIONS:
            self.refuse(node, f"{text} means something else already; name it otherwise")
        if text in {joined(kind, gate) for kind in "Wv" for gate in getattr(self.arguments, kind)}:
            self.refuse(node, f"{text} is a weight, which a step doesn't change; name it otherwise")
        if text in {"a", "U", "W", "V", "b", "bw"} and text != "a":
            self.refuse(node, f"{text} means a parameter; name it otherwise")
        return text

    def read_expression(self, node: ast.expr) -> Expression:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return number(node.value)
        if isinstance(node, ast.Name):
            return self._read_name(node)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return Expression(_OPERATORS[type(node.op)], (self.read_expression(node.left), self.read_expression(node.right)))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            return self._product(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return negative(self.read_expression(node.operand))
        if isinstance(node, ast.Call):
            return self.read_call(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            self.refuse(node, "there are no powers; write x * x")
        self.refuse(node, f"{ast.unparse(node)} can't stand in an equation; {_LANGUAGE}")

    def _read_name(self, node: ast.Name) -> Expression:
        if isinstance(self.options.get(node.id), float) and not isinstance(self.options[node.id], bool):
            return name(node.id)
        if node.id in self.defined:
            return name(node.id)
        if joined("W", node.id.removeprefix("W_")) == node.id and node.id.removeprefix("W_") in self.arguments.W:
            self.refuse(node, f"{node.id} is a matrix; it multiplies: {node.id} @ (...)")
        known = ", ".join(sorted(self.defined))
        self.refuse(node, f"{node.id} is not defined here; defined are {known}")

    def _product(self, node: ast.BinOp) -> Expression:
        matrix = node.left.id if isinstance(node.left, ast.Name) else ""
        if matrix not in {joined("W", gate) for gate in self.arguments.W}:
            known = [joined("W", gate) for gate in self.arguments.W]
            self.refuse(node, f"expected one of the arguments {', '.join(known) or 'W_k'} on the left of @")
        return Expression("product", (matrix, self.read_expression(node.right)))

    def read_call(self, node: ast.Call) -> Expression:
        option = node.func.id if isinstance(node.func, ast.Name) else ""
        function = option if isinstance(self.options.get(option), str) else self.function_named(node.func)
        if not function:
            known = [*sorted(FUNCTIONS), *(key for key, value in self.options.items() if isinstance(value, str))]
            self.refuse(node, f"{ast.unparse(node.func)} is not one of the functions {', '.join(known)}")
        arity = FUNCTIONS[function].arity if function in FUNCTIONS else 1
        if node.keywords or len(node.args) != arity:
            self.refuse(node, f"expected {function} of {arity} argument{'s' * (arity > 1)}")
        return call(function, *map(self.read_expression, node.args))

    def _check_return(self, node: ast.Return) -> None:
        value = node.value
        parts = value.elts if isinstance(value, ast.Tuple) else [value] if value is not None else []
        returned = [part.id if isinstance(part, ast.Name) else "" for part in parts]
        if returned != list(self.arguments.states):
            self.refuse(node, f"expected `return {self._states()}`: every state, in the order of the arguments")
        for state in returned:
            if state not in self.defined:
                self.refuse(node, f"{state} is returned and never assigned")

    def _check_used(self, definition: ast.FunctionDef) -> None:
        read: set[str] = set()
        products: list[str] = []
        for line in self.lines:
            read |= set(line.expression.names())
            products += _matrices(line.expression)
        for argument in self.arguments.names():
            state = argument.endswith("_prev")
            if not state and argument not in read and argument not in products:
                self.refuse(definition, f"{argument} is never used")
        for matrix in set(products):
            if products.count(matrix) > 1:
                self.refuse(definition, f"{matrix} multiplies more than once; give it one product")


def _matrices(x: Expression) -> list[str]:
    below = [each for operand in x.operands() for each in _matrices(operand)]
    return [x.args[0], *below] if x.op == "product" else below


def _order(text: str) -> list[str]:
    """Return the names of a function's arguments in order."""
    (definition,) = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    given = definition.args
    return [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def _as_option(key: str, value: Any, default: Option) -> Option:
    if isinstance(default, bool):
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{key}: expected True or False, got {value!r}")
        return bool(value)
    if isinstance(default, str):
        function = value.name if isinstance(value, Function) else value
        if function not in SQUASHING:
            raise ValueError(f"{key}: expected one of {', '.join(SQUASHING)}, got {value!r}")
        return function
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{key}: expected a number, got {value!r}")
    return float(value)


# -- a straight line of equations -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """A cell's equations under certain options: one assignment after the other, each name assigned once.

    A name that the cell assigns twice has a version for each time: ``a_i``, ``a_i.1``. An argument that no line reads
    is left out, so that a layer without peepholes has no V.

    Attributes
    ----------
    cell, options
        Where it comes from.
    arguments : Arguments
        Those in use.
    lines
        (version of a name, what it is), without products: those of W_k are read as ``p_k``.
    final
        Name → its last version, for every name that a trace shows.
    operands
        For each W_k the version of the name that holds what it multiplies.
    functions, compiled_in
        Option → its function: of those that the equations leave open, and of those that they name.
    """

    cell: Cell
    options: dict[str, Option]
    arguments: Arguments
    lines: list[tuple[str, Expression]]
    final: dict[str, str]
    operands: list[str]
    functions: dict[str, str] = field(default_factory=dict)
    compiled_in: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A name for these equations that others don't have."""
        numbers = sorted((key, value) for key, value in self.options.items() if not isinstance(value, str))
        written = self.cell.written.text if self.cell.written is not None else ""  # type: ignore[attr-defined]
        text = repr((self.lines, self.arguments, self.final, self.operands, numbers, written))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def compute(self, given: Mapping[str, Any]) -> tuple[NDArray, ...]:
        """Return the states after the step, computed in NumPy from the arguments by name."""
        values: dict[str, Any] = {**self.functions, **given}
        for target, expression in self.lines:
            values[target] = evaluate(expression, values)
            for gate, operand in zip(self.arguments.W, self.operands, strict=True):
                if operand == target:
                    values[joined("p", gate)] = given[joined("W", gate)] @ values[target]
        return tuple(values[self.final[state]] for state in self.arguments.states)


@functools.lru_cache(maxsize=256)
def _program(of: Cell, options: tuple[tuple[str, Option], ...]) -> Program:
    chosen = dict(options)
    kept = [line for line in of.lines if all(chosen[option] is on for option, on in line.choices)]
    versions: dict[str, int] = {}
    current = {text: text for text in of.arguments.names()}
    # The default functions are compiled in; others are chosen at run time, so that no choice compiles anew.
    functions = {key: value for key, value in chosen.items() if isinstance(value, str)}
    compiled_in = {key: value for key, value in functions.items() if functions == _defaults(of)}
    numbers = {key: number(value) for key, value in chosen.items() if isinstance(value, float)}
    lines: list[tuple[str, Expression]] = []
    operands: dict[str, str] = {}

    def resolved(x: Expression) -> Expression:
        if x.op == "name":
            return numbers.get(x.args[0]) or name(current[x.args[0]])
        if x.op == "product":
            gate, inner = x.args[0].removeprefix("W_"), resolved(x.args[1])
            operands[gate] = f"m_{gate}.0"
            lines.append((operands[gate], inner))
            return name(joined("p", gate))
        return with_functions(x.rebuilt(resolved), compiled_in)

    for line in kept:
        try:
            expression = resolved(line.expression)
        except KeyError as error:
            raise ValueError(
                f"{of.name}, line {line.number}: {error.args[0]} is not defined where {_as_text(chosen)}"
            ) from None
        count = versions.get(line.target, 1 if line.target in current else 0)
        versions[line.target] = count + 1
        current[line.target] = f"{line.target}.{count}" if count else line.target
        lines.append((current[line.target], expression))
    read = {each for _, expression in lines for each in expression.names()}
    arguments = Arguments(
        *(tuple(gate for gate in getattr(of.arguments, kind) if joined(kind, gate) in read) for kind in "auw"),
        tuple(gate for gate in of.arguments.W if gate in operands),
        of.arguments.states,
        tuple(gate for gate in of.arguments.v if joined("v", gate) in read),
    )
    missing = [state for state in arguments.states if state not in current]
    if missing:
        raise ValueError(f"{of.name}: {missing[0]} is returned and not assigned where {_as_text(chosen)}")
    hidden = {f"{state}_prev" for state in arguments.states}
    hidden |= {joined(kind, gate) for kind in "vW" for gate in getattr(of.arguments, kind)}
    used = set(arguments.names()) | {target for target, _ in lines}
    final = {key: version for key, version in current.items() if key not in hidden and version in used}
    free = {} if compiled_in else functions
    program = Program(of, chosen, arguments, lines, final, [operands[gate] for gate in arguments.W], free, compiled_in)
    _check_depth(program)
    return program


def with_functions(x: Expression, functions: Mapping[str, str]) -> Expression:
    """Return an expression with one call's option replaced by its function."""
    if x.op != "call" or x.args[0] not in functions:
        return x
    return call(functions[x.args[0]], *x.args[1:])


def _defaults(of: Cell) -> dict[str, Option]:
    return {key: value for key, value in of.options.items() if isinstance(value, str)}


def _as_text(options: Mapping[str, Option]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items() if isinstance(value, bool)) or "it is read"


def _check_depth(program: Program) -> None:
    """Raise where what a W_k multiplies depends on another such product."""
    depends: dict[str, set[str]] = {joined("p", gate): {gate} for gate in program.arguments.W}
    for target, expression in program.lines:
        depends[target] = set().union(*(depends.get(each, set()) for each in expression.names()))
    for gate, operand in zip(program.arguments.W, program.operands, strict=True):
        if depends[operand]:
            inner = joined("W", sorted(depends[operand])[0])
            raise ValueError(
                f"{program.cell.name}: what {joined('W', gate)} multiplies depends on {inner} @ (...); a step has one "
                "round of products, each of what came before them"
            )


def _check_programs(of: Cell) -> None:
    """Raise where the equations don't fit together under some choice of options."""
    flags = [key for key, value in of.options.items() if isinstance(value, bool)]
    for bits in range(2 ** min(len(flags), 6)):
        of.program(**{**of.options, **{key: bool(bits >> n & 1) for n, key in enumerate(flags)}})


__all__ = ["Arguments", "Cell", "Line", "Program", "Reader", "cell", "joined", "with_functions"]
