"""What the reader of cells takes, and what it refuses, with the line and what would be right."""

from __future__ import annotations

import copy
import doctest
import gc
import inspect
import linecache
import pickle
import pydoc
import re
import weakref

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lstm_numba as ln
from lstm_numba import cells
from lstm_numba.cells import CELLS, definition, reading, sigmoid, tanh
from lstm_numba.cells import sigmoid as squash
from lstm_numba.cells.compiled import step_of
from lstm_numba.cells.derive import backward_of
from lstm_numba.cells.functions import slope
from random_cells import cell_texts

many = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def with_body(*lines, arguments="a_i, h_prev, *, gate=sigmoid, flag=True, rate=0.5"):
    """A cell whose options are used, with some lines."""
    used = ["if flag:", "    used = gate(a_i) * rate", "else:", "    used = a_i"] if "flag" in arguments else []
    body = "".join(f"    {line}\n" for line in [*used, *lines])
    return f"def own({arguments}):\n{body}"


def refused(text, *expected):
    """The text is refused, and the reason names all that is expected."""
    with pytest.raises(ValueError) as caught:
        ln.cell(text)
    assert type(caught.value) is ValueError
    for each in expected:
        assert each in str(caught.value)
    return str(caught.value)


# -- lines ------------------------------------------------------------------------------------------------------------

LINES = {
    "augmented": ("h += a_i", "write it out: h = h + a_i"),
    "tuple": ("h, g = a_i, a_i", "expected one name on the left side"),
    "chained": ("h = g = a_i", "expected one name on the left side"),
    "attribute": ("g.x = a_i", "expected one name on the left side"),
    "item": ("g[0] = a_i", "expected one name on the left side"),
    "starred": ("*g, = a_i", "expected one name on the left side"),
    "annotated": ("g: float = a_i", "this is not an equation"),
    "for": ("for n in a_i: h = n", "there are no loops"),
    "while": ("while a_i: h = a_i", "there are no loops"),
    "with": ("with a_i: h = a_i", "this is not an equation"),
    "try": ("try: h = a_i\n    finally: h = a_i", "this is not an equation"),
    "function": ("def inner(): pass", "this is not an equation"),
    "class": ("class inner: pass", "this is not an equation"),
    "import": ("import numpy", "this is not an equation"),
    "global": ("global h", "this is not an equation"),
    "call": ("print(a_i)", "this is not an equation"),
    "text": ("'some text'", "this is not an equation"),
    "pass": ("pass", "this is not an equation"),
    "del": ("del a_i", "this is not an equation"),
    "assert": ("assert a_i", "this is not an equation"),
    "early return": ("return h_prev", "expected `return` once, as the last line"),
    "walrus": ("h = (g := a_i)", "isn't allowed in an equation"),
    "string": ("h = 'a'", "expected a number, got 'a'"),
    "bytes": ("h = b'a'", "expected a number"),
    "none": ("h = None", "expected a number, got None"),
    "true": ("h = True", "expected a number, got True"),
    "complex": ("h = 1j", "expected a number, got 1j"),
    "ellipsis": ("h = ...", "expected a number"),
    "f-string": ("h = f'{a_i}'", "isn't allowed in an equation"),
    "lambda": ("h = (lambda x: x)(a_i)", "is not one of the functions"),
    "list": ("h = [a_i]", "isn't allowed in an equation"),
    "comprehension": ("h = [n for n in a_i]", "isn't allowed in an equation"),
    "comparison": ("h = a_i > 0", "comparisons aren't allowed"),
    "conditional": ("h = a_i if flag else h_prev", "comparisons aren't allowed"),
    "and": ("h = a_i and h_prev", "comparisons aren't allowed"),
    "square": ("h = a_i ** 2", "write x * x"),
    "cube": ("h = a_i ** 3", "write x * x * x"),
    "root": ("h = a_i ** 0.5", "write sqrt(x)"),
    "power": ("h = a_i ** rate", "write exp(y * log(x))"),
    "augmented product": ("h *= a_i + h_prev", "write it out: h = h * (a_i + h_prev)"),
    "input": ("h = tanh(x)", "x is not defined here; the input comes in through u_k, which is U_k x + b_k"),
    "state": ("h = a_i + c_prev", "c_prev is not defined here; a state: add c_prev to the arguments"),
    "gate": ("h = a_i + a_f", "a_f is not defined here; add a_f to the arguments"),
    "matrix": ("h = a_i + W_n @ h_prev", "expected one of the arguments W_k on the left of @; add W_n to the arg"),
    "matrix of a_k": ("h = W_i @ h_prev", "a_i holds W_i already: take u_i in its place and add W_i to the arguments"),
    "if state": ("if h_prev > 0: h = a_i", "use maximum, minimum, relu or abs"),
    "parameter": ("b_i = a_i * 2", "b_i is a parameter of the layer already; choose another name"),
    "parameters": ("b = a_i * 2", "b is a parameter of the layer already; choose another name"),
    "modulo": ("h = a_i % 2", "isn't allowed in an equation"),
    "floor": ("h = a_i // 2", "isn't allowed in an equation"),
    "not": ("h = not a_i", "isn't allowed in an equation"),
    "plus": ("h = +a_i", "isn't allowed in an equation"),
    "index": ("h = a_i[0]", "isn't allowed in an equation"),
    "attribute read": ("h = a_i.T", "isn't allowed in an equation"),
    "numpy": ("h = np.tanh(a_i)", "np.tanh is not one of the functions"),
    "unknown function": ("h = sin(a_i)", "sin is not one of the functions abs, exp,"),
    "method": ("h = a_i.sum()", "is not one of the functions"),
    "two arguments": ("h = tanh(a_i, a_i)", "expected tanh of 1 argument, without keywords"),
    "one argument": ("h = maximum(a_i)", "expected maximum of 2 arguments, without keywords"),
    "keyword": ("h = tanh(x=a_i)", "expected tanh of 1 argument, without keywords"),
    "star": ("h = tanh(*a_i)", "isn't allowed in an equation"),
    "undefined": ("h = nothing_like_it", "nothing_like_it is not defined here; defined are a_i,"),
    "nan": ("h = nan", "nan is not defined here"),
    "inf": ("h = inf * a_i", "inf is not defined here"),
    "flag read": ("h = flag", "flag is an option that is no number"),
    "gate read": ("h = gate", "gate is an option that is no number"),
    "gate assigned": ("gate = a_i", "gate is an option already; choose another name"),
    "huge": ("h = 1e999", "expected a number below 1.8e308"),
    "huge whole": (f"h = {'9' * 400}", "expected a number below 1.8e308"),
    "huge digits": (f"h = {'9' * 5000}", "expected Python"),
    "no matrix": ("h = a_i @ h_prev", "expected one of the arguments W_k on the left of @"),
    "if comparison": ("if rate > 1: h = a_i", "comparisons aren't allowed"),
    "if number": ("if rate: h = a_i", "expected `if option:`"),
    "if unknown": ("if other: h = a_i", "expected `if option:`"),
    "syntax": ("h = = a_i", "expected Python, got"),
    "bracket": ("h = (a_i", "expected Python, got"),
    "indent": ("  h = a_i", "expected Python, got"),
    "null": ("h = a_i\0", "expected Python, got"),
    "match": ("match a_i:\n        case 1: h = a_i", "this is not an equation"),
}


@pytest.mark.parametrize("what", LINES)
def test_a_line_is_refused(what):
    line, reason = LINES[what]
    message = refused(with_body(line, "h = a_i", "return h"), reason)
    assert re.match(r"(own|cell), line \d+: ", message)


def test_a_refusal_shows_the_line():
    message = refused(with_body("g = tanh(a_i)", "h = g ** 2", "return h"))
    assert message == "own, line 7: 'h = g ** 2': there are no powers; write x * x"


NESTED = {
    "brackets": "(" * 250 + "a_i" + ")" * 250,
    "many brackets": "(" * 5000 + "a_i" + ")" * 5000,
    "minus": "-" * 300 + "a_i",
    "many minuses": "-" * 100_000 + "a_i",
    "sum": " + ".join(["a_i"] * 500),
    "long sum": " + ".join(["a_i"] * 50_000),
    "calls": "tanh(" * 90 + "a_i" + ")" * 90,
    "many calls": "tanh(" * 20_000 + "a_i" + ")" * 20_000,
    "powers": " ** ".join(["a_i"] * 3000),
    "attributes": "a_i" + ".a" * 3000,
}


@pytest.mark.parametrize("what", NESTED)
def test_what_is_nested_too_deeply_is_a_value_error(what):
    refused(with_body(f"h = {NESTED[what]}", "return h"))


def test_too_many_lines():
    refused(with_body(*["h = a_i"] * 200, "return h"), "expected at most 100 lines")
    refused(
        "def own(a, h_prev, *, " + ", ".join(f"f{n}=True" for n in range(9)) + "):\n    h = a\n    return h\n",
        "expected at most 6 options that are True or False",
    )


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *sorted(reading.TAKEN_BY_TRACES - {"a"}),
        "a",
        "h0",
        "h_last",
        "h_prev",
        "delta_i",
        "epsilon_h",
        "tanh",
        "W_i",
        "gate",
    ],
)
def test_names_that_mean_something_else_are_not_assigned(name):
    refused(with_body(f"{name} = a_i * 1", "h = a_i", "return h"), f"{name} is a", "already; choose another name")


def test_a_name_is_free_where_no_parameter_has_it():
    assert ln.cell(with_body("W_f = a_i * 1", "h = W_f", "return h")).name == "own"


@pytest.mark.parametrize("name", ["_g", "g_", "g__1", "größe", "π", "__class__"])
def test_names_are_letters_digits_and_single_underscores(name):
    text = with_body(f"{name} = a_i", "h = a_i", "return h")
    refused(text, "expected a name of letters a-z, digits and single underscores")


def test_weights_are_not_assigned():
    refused("def own(a_i, v_i, h_prev):\n    v_i = a_i * v_i\n    h = v_i\n    return h\n", "v_i is a weight")
    text = "def own(u_n, W_n, h_prev):\n    {}\n    h = tanh(u_n + W_n @ h_prev)\n    return h\n"
    for name in ("W_n", "p_n", "m_n"):
        refused(text.format(f"{name} = u_n * 1"), "already; choose another name")
    refused(text.replace("{}", "g = W_n").format(), "W_n is a matrix; it multiplies: W_n @ (...)")


ALPHA = 0.5


def test_a_number_of_the_module_is_to_be_an_option():
    def own(a, h_prev):
        h = ALPHA * h_prev + tanh(a)
        return h

    row = own.__code__.co_firstlineno + 1
    with pytest.raises(ValueError) as caught:
        ln.cell(own)
    assert str(caught.value) == (
        f"own, line {row}: 'h = ALPHA * h_prev + tanh(a)': ALPHA is not defined here; make it an option, an argument "
        "with a default: ALPHA=0.5"
    )


def test_lines_are_counted_from_the_first_of_the_text():
    text = "\n\n    def own(a, h_prev):\n        h = a * b\n        return h\n"
    refused(text, "own, line 4: 'h = a * b'")
    cell = ln.cell(text.replace("a * b", "a + h_prev"))
    assert cell.lines[0].number == 4
    with pytest.raises(ValueError, match=r"^step, line 3: 'delta = b': b is not defined here; defined are"):
        cell.backward("\ndef step(epsilon_h):\n    delta = b\n")
    with pytest.raises(ValueError, match=r"a is not defined here; add a to the arguments"):
        cell.backward("def step(epsilon_h):\n    delta = a * epsilon_h\n")
    with pytest.raises(ValueError, match=r"^step: delta is never assigned$"):
        cell.backward("def step(epsilon_h):\n    e = epsilon_h\n")


ARGUMENTS = {
    "unknown kind": ("a_i, q_i, h_prev", "q_i is an argument of unknown kind; expected a_k"),
    "lone u": ("u, h_prev", "u is an argument of unknown kind"),
    "lone x": ("x, h_prev", "x is an argument of unknown kind"),
    "no state": ("a_i", "expected h_prev as the first of the states"),
    "other state first": ("a_i, c_prev, h_prev", "expected h_prev as the first of the states"),
    "a and u": ("a_i, u_i, h_prev", "a_i and u_i are two gates of one name"),
    "a and w": ("a_i, w_i, h_prev", "a_i and w_i are two gates of one name"),
    "a and W": ("a_i, W_i, h_prev", "a_i and W_i are two gates of one name"),
    "w and W": ("u_i, w_i, W_i, h_prev", "w_i and W_i are two gates of one name"),
    "w_w": ("a_w_n, u_n, w_n, h_prev", "delta_w_n would mean two things"),
    "twice": ("a_i, a_i, h_prev", "there are two arguments a_i"),
    "twice an option": ("a_i, h_prev, *, a_i=1", "there are two arguments a_i"),
    "a among others": ("a, a_i, h_prev", "a stands for the only pre-activation"),
    "nothing of x": ("w_i, h_prev", "nothing would depend on x"),
    "star": ("a_i, h_prev, *rest", "expected arguments with names, got * or **"),
    "two stars": ("a_i, h_prev, **rest", "expected arguments with names, got * or **"),
    "no default": ("a_i, h_prev, *, gate", "expected a default, gate=..., since it is an option"),
    "text": ("a_i, h_prev, *, gate='tanh'", "expected a number, got 'tanh'"),
    "none": ("a_i, h_prev, *, gate=None", "expected a number, got None"),
    "exp": (
        "a_i, h_prev, *, gate=exp",
        "gate: expected a default of sigmoid, tanh, relu, identity, hard_sigmoid, hard_",
    ),
    "infinite": ("a_i, h_prev, *, rate=-1e999", "expected a number below"),
    "function's name": ("a_i, h_prev, *, tanh=1.0", "tanh is a function already"),
    "underscore": ("a_i, h_prev, *, _rate=1.0", "expected a name of letters"),
    "unused gate": ("a_i, a_f, h_prev", "a_f is never used; take it out of the arguments"),
    "unused weight": ("a_i, v_f, h_prev", "v_f is never used; take it out of the arguments"),
    "unused option": ("a_i, h_prev, *, rate=1.0", "rate is never used; take it out of the arguments"),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_arguments_are_refused(what):
    arguments, reason = ARGUMENTS[what]
    refused(with_body("h = tanh(a_i)", "return h", arguments=arguments), reason)


@pytest.mark.parametrize("option", sorted(reading.TAKEN_BY_LAYERS))
def test_options_that_a_layer_calls_something_else(option):
    text = f"def own(a, h_prev, *, {option}=1.0):\n    h = a * {option}\n    return h\n"
    refused(text, f"{option} is an argument or attribute of layers or networks already")


def test_the_lists_of_taken_names_are_complete():
    layer = ln.Recurrent(CELLS["rnn"], 2, 3, seed=0)
    trace = layer.forward(np.ones((2, 1, 2)))
    gradients = layer.backward(trace, np.ones((2, 1, 3)))
    public = {name for thing in (trace, gradients) for name in [*dir(type(thing)), *vars(thing)] if name[0] != "_"}
    assert (
        public - {"h", "made_by", "for_backward"} - set(trace.names()) - set(gradients.names())
        <= reading.TAKEN_BY_TRACES
    )
    of_layers = {name for name in [*dir(ln.Recurrent), *vars(layer)] if name[0] != "_"}
    for maker in (ln.Recurrent, ln.Stack, ln.Tagger, ln.CharacterModel):
        parameters = inspect.signature(maker).parameters.values()
        of_layers |= {each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD}
    assert of_layers <= reading.TAKEN_BY_LAYERS


def test_an_argument_that_is_overwritten_unread_is_never_used():
    refused("def own(a_i, a_f, h_prev):\n    a_i = tanh(a_f)\n    h = a_i\n    return h\n", "a_i is never used")


# -- returns ----------------------------------------------------------------------------------------------------------

RETURNS = {
    "nothing": "h = a_i",
    "empty": "return",
    "an expression": "return tanh(a_i)",
    "another name": "return used",
    "wrong order": "return c, h",
    "a list": "return [h, c]",
    "too many": "return h, c, used",
}


@pytest.mark.parametrize("what", RETURNS)
def test_states_are_returned(what):
    arguments = "a_i, h_prev, c_prev, *, gate=sigmoid, flag=True, rate=0.5"
    refused(with_body("c = used", "h = used", RETURNS[what], arguments=arguments), "`return h, c`")


def test_states_are_assigned():
    refused("def own(a, h_prev):\n    g = a\n    return h\n", "h is returned and never assigned")
    text = "def own(a, h_prev, *, flag=True):\n    g = a\n    if flag:\n        h = g\n    return h\n"
    refused(text, "h is returned and not assigned where flag=False")
    text = "def own(a, h_prev, *, flag=True):\n    if flag:\n        g = a\n    h = g + a\n    return h\n"
    refused(text, "own, line 4: g is not defined where flag=False")


def test_products_depend_on_no_product():
    text = "def own(u_n, W_n, W_m, h_prev):\n    g = W_n @ h_prev\n    h = u_n + W_m @ {}\n    return h\n"
    refused(text.format("tanh(g)"), "what W_m multiplies depends on W_n @ (...)")
    refused(text.format("(W_n @ h_prev)"), "W_n multiplies more than once")
    assert ln.cell(text.format("h_prev + g * 0").replace("g * 0", "u_n")).arguments.W == ("n", "m")


# -- sources ----------------------------------------------------------------------------------------------------------

SOURCES = {
    "empty": "",
    "no function": "h = 1",
    "two functions": "def one(a, h_prev):\n    h = a\n    return h\ndef two(): pass\n",
    "class": "class Own: pass",
    "async": "async def own(a, h_prev):\n    h = a\n    return h\n",
    "decorators": "@jit\n@cell\ndef own(a, h_prev):\n    h = a\n    return h\n",
    "arguments": "@cell(fast=True)\ndef own(a, h_prev):\n    h = a\n    return h\n",
    "docstring alone": "def own(a, h_prev):\n    'text'\n",
    "surrogate": "def own(a, h_prev):\n    h = a\n    return h\n# \ud800",
}


@pytest.mark.parametrize("what", SOURCES)
def test_sources_are_refused(what):
    refused(SOURCES[what])


@pytest.mark.parametrize(
    "given",
    [None, 3, len, np.tanh, dict, ln.LSTM, sigmoid, [1], b"def own(): pass", object()],
    ids=lambda each: type(each).__name__,
)
def test_what_is_no_function_is_a_type_error(given):
    with pytest.raises(TypeError, match=r"^cell: expected a function or its source as text, got "):
        ln.cell(given)


def test_a_lambda_is_refused():
    with pytest.raises(ValueError, match=r"^cell: expected a function with a line for each equation, got a lambda"):
        ln.cell(lambda a, h_prev: a)


def test_a_source_that_cannot_be_read_asks_for_the_text():
    space = {}
    exec("def typed(a, h_prev):\n    h = a\n    return h\n", space)
    with pytest.raises(ValueError, match=r"typed: the source of the function can't be read .* give the source itself"):
        ln.cell(space["typed"])


@many
@given(st.text())
def test_random_text_is_a_value_error(text):
    with pytest.raises(ValueError):
        ln.cell(text)


TOKENS = (
    "def own ( ) : \n h = a_i h_prev , + - * / @ tanh ( ( ) ) if flag else return 1 1e400 == lambda for in not and "
    "W_n := [ ] { } . ' \" # \\ None True * ** \t class import @cell"
).split(" ")


@many
@given(st.lists(st.sampled_from(TOKENS), max_size=25), st.integers(0, 1))
def test_random_code_is_a_value_error_or_a_cell(tokens, inside):
    code = " ".join(tokens)
    text = with_body(f"h = {code}", "h = a_i", "return h") if inside else code
    try:
        ln.cell(text)
    except ValueError as error:
        assert type(error) is ValueError


@many
@given(cell_texts())
def test_random_cells_are_read_and_read_again(text):
    cell = ln.cell(text)
    again = pickle.loads(pickle.dumps(cell))
    assert again == cell == copy.deepcopy(cell) == ln.cell(cell.text)
    assert again.lines == cell.lines
    assert step_of(again.program(**again.options)) == step_of(cell.program(**cell.options))


# -- functions that were typed ----------------------------------------------------------------------------------------


def leaky(a, h_prev, *, rate=0.9, choice=squash):
    """A leaky unit."""
    h = rate * h_prev + cells.tanh(a) * choice(a) + squash(ln.cells.sigmoid(a))  # straße = √
    return h


def test_functions_are_called_by_their_own_names_in_the_text():
    """So that the text can be read in another process."""
    cell = ln.cell(leaky)
    assert "h = rate * h_prev + tanh(a) * choice(a) + sigmoid(sigmoid(a))  # straße = √" in cell.text
    assert "choice=sigmoid" in cell.text
    assert cell == pickle.loads(pickle.dumps(cell)) == ln.cell(cell.text)
    a = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(cell(a, h_prev=a), leaky(a, a))
    assert cell.citation == "A leaky unit."


def test_help_shows_the_equations():
    cell = ln.cell(leaky)
    assert cell.__doc__ == inspect.getdoc(cell) == f"A leaky unit.\n\n{cell.equations}"
    assert "hᵗ = 0.9 hᵗ⁻¹" in pydoc.render_doc(cell, renderer=pydoc.plaintext)
    assert ln.Cell.__doc__.startswith("A recurrent cell: its equations")
    assert "A recurrent cell: its equations" in pydoc.render_doc(ln.Cell, renderer=pydoc.plaintext)
    for kind in ("a_k ", "u_k ", "w_k ", "W_k ", "s_prev ", "v_k ", "key=..."):
        assert kind in inspect.getdoc(ln.cell)


def test_the_examples_of_the_module_run():
    assert doctest.testmod(definition).attempted > 4
    assert doctest.testmod(definition).failed == 0


def test_a_backward_step_by_hand_shows():
    cell = ln.cell("def own(a, h_prev):\n    h = a + h_prev\n    return h\n")
    assert repr(cell) == "<cell own(a, h_prev)>"
    cell.backward("def step(epsilon_h):\n    delta = epsilon_h\n    epsilon_h_prev = epsilon_h\n")
    assert repr(cell) == "<cell own(a, h_prev), backward by hand>"


def test_a_name_that_means_another_function_is_refused():
    tanh = np.tanh

    def own(a, h_prev):
        h = tanh(a)
        return h

    with pytest.raises(ValueError, match="tanh is not the package's function here; import tanh from lstm_numba"):
        ln.cell(own)


def test_a_decorated_function_reads_as_its_text():
    @ln.cell
    def own(a, h_prev):
        h = tanh(a) + 0 * h_prev
        return h

    assert own.name == "own"
    assert own == ln.cell(own.text)
    assert ln.cell(own) is own


def test_errors_of_a_called_cell_point_into_the_file():
    assert ln.cell(leaky).__wrapped__.__code__.co_filename == __file__
    assert ln.cell(leaky).__wrapped__.__code__.co_firstlineno == leaky.__code__.co_firstlineno
    assert "rate * h_prev" in inspect.getsource(ln.cell(leaky))


def define_in_notebook(number, body):
    """What IPython does: a file name for every run cell, and its lines where `inspect` finds them."""
    text = f"@ln.cell\ndef typed(a, h_prev):\n    h = {body}\n    return h\n"
    name = f"<ipython-input-{number}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    space = {"ln": ln, "tanh": tanh, "sigmoid": sigmoid}
    exec(compile(text, name, "exec"), space)
    return space["typed"]


def test_a_cell_that_is_edited_and_run_again_gives_the_new_equations():
    first, second = define_in_notebook(1, "tanh(a)"), define_in_notebook(2, "sigmoid(a)")
    assert str(first.equations).endswith("tanh(aᵗ)")
    assert str(second.equations).endswith("σ(aᵗ)")
    assert first != second
    assert step_of(first.program()) != step_of(second.program())
    assert define_in_notebook(3, "tanh(a)") == first


def test_a_cell_typed_into_ipython():
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    try:
        text = "import lstm_numba as ln\nfrom lstm_numba.cells import tanh, sigmoid\n@ln.cell\ndef typed(a, h_prev):\n"
        assert shell.run_cell(f"{text}    h = tanh(a)\n    return h\n").success
        assert str(shell.user_ns["typed"].equations).endswith("tanh(aᵗ)")
        assert shell.run_cell(f"{text}    h = sigmoid(a)\n    return h\n").success
        assert str(shell.user_ns["typed"].equations).endswith("σ(aᵗ)")
        formats, _ = shell.display_formatter.format(shell.user_ns["typed"])
        assert formats["text/latex"].startswith("$$\\begin{aligned}")
    finally:
        type(shell).clear_instance()


# -- a cell on arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CELLS)
def test_cells_on_arrays_keep_the_dtype(name, dtype):
    cell = CELLS[name]
    rng = np.random.default_rng(0)
    given = {each: rng.normal(size=(3, 4)).astype(dtype) for each in cell.arguments.names()}
    given |= {each: rng.normal(size=(4, 4)).astype(dtype) for each in cell.arguments.matrices}
    found = cell(**given)
    for each in found if isinstance(found, tuple) else (found,):
        assert each.dtype == dtype
        assert each.shape == (3, 4)


def test_gru_of_2014_on_arrays_is_the_equations():
    rng = np.random.default_rng(0)
    a_r, a_z, u_n, h_prev, W = (rng.normal(size=(3, 4)) for _ in range(4)), *[None] * 3, rng.normal(size=(4, 4))
    a_r, a_z, u_n, h_prev = a_r
    r, z = 1 / (1 + np.exp(-a_r)), 1 / (1 + np.exp(-a_z))
    n = np.tanh(u_n + (r * h_prev) @ W.T)
    for cell in (CELLS["gru_2014"], ln.cell(CELLS["gru_2014"].text)):
        np.testing.assert_allclose(cell(a_r, a_z, u_n, W, h_prev), (1 - z) * n + z * h_prev, rtol=1e-14)


def test_options_of_a_call():
    ones = np.ones((1, 2))
    lstm = CELLS["lstm"]
    plain = lstm(ones, ones, ones, ones, ones, ones, peepholes=False)
    np.testing.assert_allclose(plain[1], (1 + np.tanh(1)) * sigmoid(1.0), rtol=1e-15)
    by_name = lstm(ones, ones, ones, ones, ones, ones, peepholes=False, gate="relu")
    as_function = lstm(ones, ones, ones, ones, ones, ones, peepholes=False, gate=cells.relu)
    np.testing.assert_array_equal(by_name, as_function)
    with pytest.raises(TypeError, match=r"^v_i: expected all arguments of lstm that its equations read, got no v_i"):
        lstm(ones, ones, ones, ones, ones, ones)
    with pytest.raises(TypeError, match=r"got an unexpected keyword argument .peephole."):
        lstm(peephole=False)
    with pytest.raises(TypeError, match=r"too many positional arguments"):
        lstm(*[ones] * 10)


BAD_OPTIONS = {
    "peepholes": (1, TypeError, "expected True or False, got 1"),
    "gate": (
        "exp",
        ValueError,
        "expected one of sigmoid, tanh, relu, identity, hard_sigmoid, hard_sigmoid_6, got 'exp'",
    ),
    "cell_input": (["tanh"], ValueError, "expected one of sigmoid, tanh, relu, identity"),
    "forget": (True, TypeError, "lstm has no such option; it has peepholes, gate, cell_input, cell_output"),
}


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_options_are_checked(option):
    value, error, reason = BAD_OPTIONS[option]
    with pytest.raises(error, match=re.escape(f"{option}: {reason}")):
        CELLS["lstm"].chosen({option: value})


@pytest.mark.parametrize("value", [True, "0.5", None, np.bool_(True), 1j])
def test_numbers_are_numbers(value):
    cell = ln.cell(leaky)
    assert cell.chosen({"rate": np.float32(0.5)})["rate"] == 0.5
    with pytest.raises(TypeError, match=r"^rate: expected a number"):
        cell.chosen({"rate": value})
    with pytest.raises(ValueError, match=r"^rate: expected a finite number"):
        cell.chosen({"rate": float("nan")})


def test_division_by_zero_comes_out():
    cell = ln.cell("def own(a, h_prev):\n    h = 1 / h_prev + a / 0 + 1 / 0 * 0\n    return h\n")
    with np.errstate(all="ignore"):
        program = cell.program()
        assert np.isnan(program.compute({"a": np.ones(1), "h_prev": np.zeros(1)})[0][0])


# -- names and copies -------------------------------------------------------------------------------------------------


def test_repr_is_the_signature():
    assert repr(CELLS["lstm"]) == (
        "<cell lstm(a_i, a_f, a_o, a_c, h_prev, c_prev, v_i, v_f, v_o, *, peepholes=True, gate=sigmoid, "
        "cell_input=tanh, cell_output=tanh), backward by hand>"
    )
    assert repr(ln.cell("def own(a, h_prev, *, rate=-0.5):\n    h = a * rate\n    return h\n")) == (
        "<cell own(a, h_prev, *, rate=-0.5)>"
    )


TEXT = "def own(a, h_prev):\n    h = tanh(a) * h_prev\n    return h\n"
BACKWARD = """
def own_backward(a, h_prev, epsilon_h):
    delta = slope(tanh, tanh(a)) * h_prev * epsilon_h
    epsilon_h_prev = tanh(a) * epsilon_h
    return delta, epsilon_h_prev
"""


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])
def test_copies_have_the_backward_step_that_was_written(again):
    cell = ln.cell(TEXT)
    plain = again(cell)
    cell.backward(BACKWARD)
    other = again(cell)
    assert other == cell != plain
    assert hash(other) == hash(cell)
    assert other.written is not None
    assert other.written.text == cell.written.text
    assert step_of(other.program()) == step_of(cell.program()) != step_of(plain.program())
    for name in CELLS:
        assert again(CELLS[name]) == CELLS[name]


def test_a_step_that_is_written_later_is_taken():
    cell = ln.cell(TEXT)
    before = backward_of(cell.program())
    old = step_of(cell.program())
    cell.backward(BACKWARD)
    assert backward_of(cell.program()).lines != before.lines
    assert step_of(cell.program()).backward != old.backward
    cell.backward(BACKWARD.replace("* h_prev *", "* 3 * h_prev *"))
    assert "3.0" in step_of(cell.program()).backward


def test_cells_of_one_text_do_not_share_what_was_written():
    one, other = ln.cell(TEXT), ln.cell(TEXT)
    assert one == other
    one.backward(BACKWARD)
    assert one != other
    assert other.written is None
    assert step_of(one.program()).backward != step_of(other.program()).backward


def test_a_layer_follows_a_step_that_is_written_later():
    cell = ln.cell(TEXT)
    layer = ln.Recurrent(cell, 2, 3, dtype=np.float64, seed=0)
    x, h0, dh = np.ones((3, 1, 2)), np.ones((1, 3)), np.ones((3, 1, 3))
    trace = layer.forward(x, h0)
    right = layer.backward(trace, dh)["b"].copy()
    cell.backward(BACKWARD.replace("* h_prev *", "* 3 * h_prev *"))
    with pytest.raises(ValueError, match="call forward again"):
        layer.backward(trace, dh)
    np.testing.assert_array_equal(trace.h, layer.forward(x, h0).h)
    found = layer.backward(layer.forward(x, h0), dh)["b"]
    assert np.all(found != right)
    cell.backward(BACKWARD)
    np.testing.assert_allclose(layer.backward(layer.forward(x, h0), dh)["b"], right, rtol=1e-13)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.astype(np.float64)):
        trace = other.forward(x, h0)
        np.testing.assert_allclose(other.backward(copy.deepcopy(trace).layer.forward(x, h0) and trace, dh)["b"], right)


def test_what_is_remembered_is_bounded_and_let_go():
    cell = ln.cell(leaky)
    for n in range(300):
        step_of(cell.program(**cell.chosen({"rate": n / 7})))
    assert len(cell._remembered) <= 64
    assert cell.program(**cell.options) is cell.program(**cell.options)
    gone = weakref.ref(cell)
    del cell
    gc.collect()
    assert gone() is None


# -- backward steps that are written ----------------------------------------------------------------------------------

WRITTEN = {
    "no delta": (("delta =", "other ="), "own_backward: delta is never assigned"),
    "another delta": (("delta =", "delta_q ="), "delta_q is not one of the results"),
    "unknown name": (("(a, h_prev", "(a, q, h_prev"), "own has nothing called q; it has a,"),
    "undefined": (("* h_prev *", "* q *"), "q is not defined here"),
    "slope of nothing": (("slope(tanh,", "slope(sin,"), "expected slope(function, value), got sin"),
    "a loop": (("    delta =", "    for n in a: pass\n    delta ="), "there are no loops"),
    "a function's name": (("delta =", "tanh = 1\n    delta ="), "tanh is a function already"),
    "epsilon of nothing": (("epsilon_h_prev =", "epsilon_q ="), "epsilon_q is not one of the results"),
    "syntax": (("delta =", "delta = ="), "expected Python"),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_written_steps_are_refused(what):
    change, reason = WRITTEN[what]
    cell = ln.cell(TEXT)
    with pytest.raises(ValueError, match=re.escape(reason)):
        cell.backward(BACKWARD.replace(*change))
    assert cell.written is None


def test_every_result_of_a_written_step_is_needed():
    gru = CELLS["gru"]
    for result in ("delta_z", "delta_n", "delta_r", "delta_w_n"):
        text = re.sub(rf"^( +){result} = .*$", r"\1other = z", gru.written.text, flags=re.MULTILINE)
        text = text.replace(f"* {result}", "* z")
        with pytest.raises(ValueError, match=rf"{result} is never assigned|{result} is not defined"):
            ln.cell(gru.text).backward(text)
    lstm = CELLS["lstm"]
    text = re.sub(r"^( +)dV_f = .*$", r"\1other = f", lstm.written.text, flags=re.MULTILINE)
    with pytest.raises(ValueError, match=r"dV_f is never assigned where peepholes=True"):
        ln.cell(lstm.text).backward(text)


def test_a_written_step_may_use_numbers_and_choices():
    cell = ln.cell("""
        def own(a, h_prev, *, rate=0.5, flag=True):
            h = rate * tanh(a)
            if flag:
                h = h + h_prev
            return h
        """)

    @cell.backward
    def own_backward(a, epsilon_h, *, rate, flag):
        delta = rate * slope(tanh, tanh(a)) * epsilon_h
        if flag:
            epsilon_h_prev = epsilon_h
        return delta, epsilon_h_prev

    for flag in (True, False):
        program = cell.program(rate=0.25, flag=flag)
        given = {"a": np.linspace(-1, 1, 5), "h_prev": np.ones(5), "epsilon_h": np.ones(5)}
        written, by_rule = (backward_of(program, by_hand=by_hand).compute(given) for by_hand in (True, False))
        np.testing.assert_allclose(written["delta_a"], by_rule["delta_a"], rtol=1e-14)
        assert np.all(written["epsilon_h_prev"] == by_rule["epsilon_h_prev"])
        assert own_backward(np.zeros(1), np.ones(1), rate=0.25, flag=True)[0] == 0.25


def test_a_written_step_of_a_product():
    cell = ln.cell(
        "def own(u_n, W_n, h_prev):\n    r = tanh(u_n)\n    h = tanh(u_n + W_n @ (r * h_prev))\n    return h\n"
    )
    text = """
def back(u_n, r, h, h_prev, epsilon_h, epsilon_m_n):
    delta_w_n = slope(tanh, h) * epsilon_h
    delta_n = delta_w_n + slope(tanh, r) * h_prev * epsilon_m_n
    epsilon_h_prev = r * epsilon_m_n
"""
    cell.backward(text)
    layers = [ln.Recurrent(each, 2, 3, dtype=np.float64, seed=0) for each in (cell, ln.cell(cell.text))]
    x, dh = np.random.default_rng(0).normal(size=(4, 2, 2)), np.ones((4, 2, 3))
    written, by_rule = (layer.backward(layer.forward(x), dh) for layer in layers)
    for name in written.parameters():
        np.testing.assert_allclose(written[name], by_rule[name], rtol=1e-12)
    with pytest.raises(ValueError, match="delta_w_n depends on epsilon_m_n, which comes after it"):
        cell.backward(text.replace("delta_w_n = slope", "delta_w_n = epsilon_m_n * slope"))


@pytest.mark.parametrize("given", [None, 3, sigmoid])
def test_a_written_step_is_a_function_or_text(given):
    with pytest.raises(TypeError, match=r"^own\.backward: expected a function or its source as text"):
        ln.cell(TEXT).backward(given)
