"""The `cell` decorator, which reads the lines of a function, checks them and makes a `Cell`.

    @cell
    def lstm(a_i, a_f, a_o, a_c, h_prev, c_prev, v_i, v_f, v_o):
        a_i = a_i + v_i * c_prev
        ...
        return h, c

The name of an argument says what it is: see the table in `cell`. `reading` parses the text, and `program` orders its
lines for a choice of options; a layer is made from these. Called on arrays, a cell runs the same lines as Python.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lstm_numba.cells.display import Equations, backward_equations, forward_equations
from lstm_numba.cells.functions import FUNCTIONS, SQUASHING, Function
from lstm_numba.cells.program import Program, program_of
from lstm_numba.cells.reading import Arguments, Option, Reader, joined
from lstm_numba.cells.written import Written

# Number of results that a cell caches over all its options: programs, backward steps, texts for the engine.
_REMEMBERED = 64

T = TypeVar("T")


class Source(NamedTuple):
    """The source text of a function, and its origin.

    Attributes
    ----------
    text
        The function's lines, not indented.
    names
        The names that were visible where it was defined, and their values.
    file, line
        The place where the text begins.
    """

    text: str
    names: Mapping[str, Any]
    file: str
    line: int


class Cell:
    """A recurrent cell: its equations, and everything derived from them. `cell` makes one.

    Attributes
    ----------
    name
        The function's name.
    text
        The source, from which the cell can be made again.
    arguments : Arguments
        Its arguments by kind.
    options
        Keyword arguments and their defaults; functions by name.
    lines
        Its equations.
    citation
        The function's docstring.
    written : Written or None
        The backward step, where one was written by hand.
    """

    def __init__(self, source: Source) -> None:
        reader = Reader(source.text, source.names, source.line)
        self.name = reader.name
        self.text = reader.text
        self.arguments = reader.arguments
        self.options = reader.options
        self.lines = reader.lines
        self.citation = reader.citation
        self.written: Written | None = None
        self._remembered: dict[Any, Any] = {}
        self.__name__ = reader.name
        self._place = source.file, source.line
        for _ in self.programs():  # raises if the lines don't fit together
            pass

    @functools.cached_property
    def __wrapped__(self) -> Callable[..., Any]:
        """The cell as a Python function, which runs when the cell is called, and which `help` and `inspect` show."""
        return _runnable(self.text, *self._place)

    def __repr__(self) -> str:
        """Return its name and arguments, and whether its backward step was written by hand."""
        by_hand = ", backward by hand" if self.written else ""
        return f"<cell {self.name}{inspect.signature(self.__wrapped__)}{by_hand}>"

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Compute one step on arrays, by running the equations as Python.

        Parameters
        ----------
        *arguments, **keywords
            The cell's arguments: arrays (B, H), matrices W_k (H, H), options. Those that the equations don't read
            under these options may be left out.

        Returns
        -------
        array or tuple of arrays
            The states after the step.
        """
        given = inspect.signature(self.__wrapped__).bind_partial(*arguments, **keywords).arguments
        options = self.chosen({key: value for key, value in given.items() if key in self.options})
        for each in self.program(**options).arguments.names():
            if each not in given:
                raise TypeError(f"{each}: expected all arguments of {self.name} that its equations read, got no {each}")

        values: dict[str, Any] = dict.fromkeys(self.arguments.names()) | given
        values |= {each: _Matrix(values[each]) for each in self.arguments.matrices if values[each] is not None}
        values |= {key: FUNCTIONS[value] if isinstance(value, str) else value for key, value in options.items()}
        return self.__wrapped__(**values)

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle the text, which is then read again."""
        return {"text": self.text, "written": None if self.written is None else self.written.text}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read the text again."""
        self.__init__(_source(state["text"], "cell"))  # type: ignore[misc]
        if state["written"]:
            self.backward(state["written"])

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same equations, including backward equations written by hand."""
        return isinstance(other, Cell) and self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        """Return a hash of the text."""
        return hash(self.text)

    def chosen(self, options: Mapping[str, Any]) -> dict[str, Option]:
        """Return all options, with the given ones replacing the defaults.

        Parameters
        ----------
        options
            Some options; functions by name or as functions.

        Raises
        ------
        TypeError, ValueError
            If the cell doesn't have an option, or the option can't have this value.
        """
        for key in options:
            if key not in self.options:
                known = ", ".join(self.options) or "none"
                raise TypeError(f"{key}: {self.name} has no such option; it has {known}")
        return {key: _as_option(key, options.get(key, default), default) for key, default in self.options.items()}

    def program(self, **options: Option) -> Program:
        """Return the equations for these options (as `chosen` returns them), one after the other."""
        return self.remembered(("program", *sorted(options.items())), lambda: program_of(self, options))

    def programs(self) -> Iterator[Program]:
        """Iterate over the programs for all settings of the True-or-False options, other options at defaults."""
        choices = [key for key, value in self.options.items() if isinstance(value, bool)]
        for values in itertools.product([True, False], repeat=len(choices)):
            yield program_of(self, self.options | dict(zip(choices, values, strict=True)))

    def remembered(self, key: Any, make: Callable[[], T]) -> T:
        """Return the cached result of `make` for this key; call it if there is none.

        Only the latest results are kept, and a new backward step clears them all.
        """
        if (found := self._remembered.get(key)) is not None:
            return found
        self._remembered[key] = made = make()
        if len(self._remembered) > _REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)), None)
        return made

    def backward(self, function: Any) -> Any:
        """Replace the derived backward step by one written by hand.

        Use it as a decorator. The function's arguments are the cell's names, ``epsilon_s`` for each state s (without
        the terms that this step adds), ``epsilon_m_k`` (∂L/∂ of the value that W_k multiplies) and the options. It
        assigns ``delta_k`` for every pre-activation (``delta_w_k`` for w_k and W_k), ``epsilon_s`` if the step adds to
        it, ``epsilon_s_prev`` (0 if left out) and ``dV_k``. Write the slope of a function with its value:
        ``slope(gate, i)``.

        Model files hold the forward step only. A model that is loaded from one has the derived backward step.

        Parameters
        ----------
        function
            A function, or its source as text.

        Returns
        -------
        function
            The argument, unchanged.

        Raises
        ------
        TypeError, ValueError
            As in `cell`; also if the cell doesn't have a name, or a δ or dV is never assigned.

        Examples
        --------
        >>> leaky = cell('''
        ... def leaky(a, h_prev):
        ...     g = tanh(a)
        ...     h = 0.9 * h_prev + 0.1 * g
        ...     return h
        ... ''')
        >>> by_hand = leaky.backward('''
        ... def leaky_backward(g, epsilon_h):
        ...     delta = 0.1 * (1 - g * g) * epsilon_h
        ...     epsilon_h_prev = 0.9 * epsilon_h
        ...     return delta, epsilon_h_prev
        ... ''')
        >>> leaky
        <cell leaky(a, h_prev), backward by hand>
        """
        source = _source(function, f"{self.name}.backward")
        written = Written(self, source.text, source.names, source.line)
        for program in self.programs():
            written.backward(program)
        self.written = written
        self._remembered.clear()
        return function

    @property
    def equations(self) -> Equations:
        """The equations under the default options: text when printed, formulas in a notebook."""
        return self.equations_under()

    @property
    def backward_equations(self) -> Equations:
        """The derived backward equations under the default options: text when printed, formulas in a notebook."""
        return self.backward_equations_under()

    def equations_under(self, **options: Any) -> Equations:
        """Return the equations for options other than the defaults."""
        return forward_equations(self.program(**self.chosen(options)))

    def backward_equations_under(self, **options: Any) -> Equations:
        """Return the derived backward equations for options other than the defaults."""
        return backward_equations(self.program(**self.chosen(options)))

    def _repr_latex_(self) -> str:
        return self.equations._repr_latex_()


class _Documentation:
    """The docstring of the class, and of each cell: the function's own docstring followed by its equations."""

    def __init__(self, of_class: str | None) -> None:
        self.of_class = of_class

    def __get__(self, of: Cell | None, owner: type) -> str | None:
        return self.of_class if of is None else f"{of.citation}\n\n{of.equations}".strip()


Cell.__doc__ = _Documentation(Cell.__doc__)  # type: ignore[assignment]


class _Matrix:
    """A weight matrix in equations on arrays: it multiplies each row of a batch."""

    def __init__(self, W: NDArray) -> None:
        self.W = np.asarray(W)

    def __matmul__(self, x: Any) -> NDArray:
        return (x if np.ndim(x) else np.full(self.W.shape[1], x, self.W.dtype)) @ self.W.T


def cell(function: Callable[..., Any] | str) -> Cell:
    """Make a cell from a function whose lines are equations, or from its text.

    The name of an argument says what it is; k stands for the name of a gate and s for that of a state::

        a_k      U_k xᵗ + W_k hᵗ⁻¹ + b_k; a cell with a single one may call it a, with parameters U, W and b
        u_k      U_k xᵗ + b_k, if a cell needs the two products separately
        w_k      W_k hᵗ⁻¹ + bw_k, the other one
        W_k      a recurrent weight matrix, to multiply a value that the step has computed: W_k @ (r * h_prev)
        s_prev   a state before the step; h, the output, comes first
        v_k      a diagonal weight V_k
        key=...  an option of the layer: a function (gate=sigmoid), a choice (peepholes=True) or a number

    Parameters
    ----------
    function
        A function of such arguments, which assigns and returns every state, or its source.

    Returns
    -------
    Cell
        Use it with `lstm_numba.Recurrent`.

    Raises
    ------
    TypeError
        If `function` is neither a function nor a text.
    ValueError
        If a line isn't an equation, a name isn't defined, a state isn't returned, an argument has an unknown kind, or
        the source can't be read. The message names the line, and what is allowed.

    Examples
    --------
    >>> leaky = cell('''
    ... def leaky(a, h_prev):
    ...     h = 0.9 * h_prev + 0.1 * tanh(a)
    ...     return h
    ... ''')
    >>> leaky.arguments.states
    ('h',)
    >>> leaky.equations
    aᵗ = U xᵗ + W hᵗ⁻¹ + b
    hᵗ = 0.9 hᵗ⁻¹ + 0.1 tanh(aᵗ)
    """
    return function if isinstance(function, Cell) else Cell(_source(function, "cell"))


def _source(function: Any, call: str) -> Source:
    """Return the source of a function, or of a text."""
    if isinstance(function, str):
        text = textwrap.dedent(function)
        before = text[: len(text) - len(text.lstrip())]
        return Source(text.strip() + "\n", {}, f"<{call}>", 1 + before.count("\n"))
    if not inspect.isfunction(function):
        raise TypeError(f"{call}: expected a function or its source as text, got {type(function).__name__}")
    if function.__name__ == "<lambda>":
        raise ValueError(f"{call}: expected a function with a line for each equation, got a lambda")
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise ValueError(
            f"{function.__name__}: the source of the function can't be read (it was typed at a prompt that keeps "
            f"none); give the source itself: {call}('''def ...''')"
        ) from None
    closure = inspect.getclosurevars(function)
    code = function.__code__
    return Source(text, {**closure.globals, **closure.nonlocals}, code.co_filename, code.co_firstlineno)


def _runnable(text: str, file: str, line: int) -> Callable[..., Any]:
    """Return a cell as a Python function that calls the package's functions by their own names."""
    (definition,) = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    definition.decorator_list = []
    definition.returns = None
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    tree = ast.increment_lineno(ast.Module([definition], []), line - 1)
    space: dict[str, Any] = dict(FUNCTIONS)
    exec(compile(tree, file, "exec"), space)
    return space[definition.name]


def _as_option(key: str, value: Any, default: Option) -> Option:
    if isinstance(default, bool):
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{key}: expected True or False, got {value!r}")
        return bool(value)
    if isinstance(default, str):
        function = value.name if isinstance(value, Function) else value
        if not isinstance(function, str) or function not in SQUASHING:
            raise ValueError(f"{key}: expected one of {', '.join(SQUASHING)}, got {value!r}")
        return function
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{key}: expected a number, got {value!r}")
    if not np.isfinite(value):
        raise ValueError(f"{key}: expected a finite number, got {value!r}")
    return float(value)


__all__ = ["Arguments", "Cell", "Program", "cell", "joined"]
