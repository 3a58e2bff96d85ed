"""The derived backward step: against central differences, and what a layer is given of it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, assume, given, settings

import lstm_numba as ln
from lstm_numba.cells import CELLS, functions
from lstm_numba.cells.compiled import names_kept, step_of
from lstm_numba.cells.derive import backward_of, delta_names, derived, orders
from random_cells import SIZE, cell_texts, central_differences, derivatives, random_arguments

many = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def all_programs():
    return [
        pytest.param(program, id=f"{name}-{number}")
        for name, cell in CELLS.items()
        for number, program in enumerate(cell.programs())
    ]


def random_epsilon(program):
    rng = np.random.default_rng(1)
    return {state: rng.uniform(0.5, 1.5, SIZE) for state in program.arguments.states}


def assert_central_differences(backward, seed=0):
    program = backward.program
    values, epsilon = random_arguments(program, seed), random_epsilon(program)
    found = derivatives(backward, values, epsilon)
    for name, value in found.items():
        coarse, fine = (central_differences(program, values, epsilon, name, step) for step in (2e-5, 1e-5))
        smooth = np.abs(coarse - fine) <= 1e-6 * (1 + np.abs(fine))  # no kink, no pole nearby
        np.testing.assert_allclose(value[smooth], fine[smooth], rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("program", all_programs())
def test_shipped_cells_pass_central_differences(program):
    assert_central_differences(derived(program))
    assert_central_differences(derived(program, by_value=False))


@pytest.mark.parametrize("program", [each for each in all_programs() if each.values[0].written is not None])
def test_written_steps_are_the_derived_ones(program):
    values, epsilon = random_arguments(program), random_epsilon(program)
    written = derivatives(backward_of(program), values, epsilon)
    by_rule = derivatives(backward_of(program, by_hand=False), values, epsilon)
    assert written.keys() == by_rule.keys()
    for name in written:
        np.testing.assert_allclose(written[name], by_rule[name], rtol=1e-13, atol=1e-15, err_msg=name)


def finite_program(cell, flag):
    """A program of a random cell whose values and derivatives are moderate numbers."""
    program = cell.program(**cell.chosen({"flag": flag}))
    values = random_arguments(program)
    with np.errstate(all="ignore"):
        computed = program.values(values).values()
    assume(
        all(np.all(np.abs(np.asarray(each, float)) < 1e3) for each in computed if isinstance(each, np.ndarray | float))
    )
    return program


@many
@given(cell_texts())
def test_random_cells_pass_central_differences(text):
    cell = ln.cell(text)
    for flag in (True, False):
        program = finite_program(cell, flag)
        backward = derived(program)
        with np.errstate(all="ignore"):
            found = derivatives(backward, random_arguments(program), random_epsilon(program))
            assume(all(np.all(np.abs(value) < 1e4) for value in found.values()))
            assert_central_differences(backward)


@many
@given(cell_texts())
def test_random_cells_on_arrays_are_their_own_twins(text):
    cell = ln.cell(text)
    program = finite_program(cell, True)
    values = random_arguments(program)
    expected = program.compute(values)
    matrices = {name: np.diag(value.diagonal) for name, value in values.items() if name in cell.arguments.matrices}
    found = cell(**(values | matrices))
    found = found if isinstance(found, tuple) else (found,)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


# -- the text that is compiled, run in NumPy --------------------------------------------------------------------------

NUMPY = {
    **{name: function for name, function in functions.FUNCTIONS.items()},
    **{name.upper(): name for name in functions.SQUASHING},
    "above": functions.above,
    "slope": functions.slope,
    "squash": lambda function, x: functions.FUNCTIONS[function](x),
    "nothing": np.zeros_like,
    "constant": np.full_like,
}


def called(text, *arguments):
    space = dict(NUMPY)
    exec(text, space)
    return space["step"](*arguments)


def assert_text_computes(program):
    """Both texts give what the program and its backward step give."""
    values, epsilon = random_arguments(program), random_epsilon(program)
    step, of = step_of(program), program.arguments
    computed = program.values(values)
    v, a, u, w = ([values[f"{kind}_{gate}" if gate else kind] for gate in getattr(of, kind)] for kind in "vauw")
    p = [computed[f"p_{gate}"] for gate in of.W]
    before = [values[f"{state}_prev"] for state in of.states]
    options = [*program.functions.values()]
    kept_names, rest_names = names_kept(program)

    states, kept, rest = called(step.forward, options, v, a, u, w, p, before)
    for names, found in ((kept_names, kept), (rest_names, rest), ([program.final[s] for s in of.states], states)):
        for name, value in zip(names, found, strict=True):
            np.testing.assert_allclose(value, np.broadcast_to(computed[name], SIZE), rtol=1e-12, err_msg=name)

    backward = backward_of(program)
    given_now = (options, v, kept, before, states, [epsilon[state] for state in of.states])
    e = []
    if of.W:
        operands = called(step.operands, options, v, a, u, w, before)
        for name, value in zip(program.operands, operands, strict=True):
            np.testing.assert_allclose(value, np.broadcast_to(computed[name], SIZE), rtol=1e-12)
        products = called(step.backward_products, *given_now, None)
        e = [values[f"W_{gate}"].diagonal * delta for gate, delta in zip(of.W, products, strict=True)]
    groups = called(step.backward, *given_now, e)
    expected = derivatives(backward, values, epsilon)
    names = [f"{kind}_{gate}" if gate else kind for kind in "auw" for gate in getattr(of, kind)]
    for name, value in zip(names, [each for group in groups[:3] for each in group], strict=True):
        np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for state, value in zip(of.states, groups[5], strict=True):
        np.testing.assert_allclose(value, expected[f"{state}_prev"], rtol=1e-9, atol=1e-12)
    for gate, value in zip(of.v, groups[6], strict=True):
        np.testing.assert_allclose(value, expected[f"v_{gate}"], rtol=1e-9, atol=1e-12)


def test_operands_text_returns_one_group():
    program = CELLS["gru_2014"].program(**CELLS["gru_2014"].options)
    assert step_of(program).operands.startswith("def step(options, v, a, u, w, before)")


@pytest.mark.parametrize("program", all_programs())
def test_compiled_text_computes_the_same(program):
    assert_text_computes(program)


@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if "gate" in cell.options])
def test_compiled_text_with_functions_left_open(name):
    cell = CELLS[name]
    program = cell.program(**cell.chosen({"gate": "tanh"}))
    assert_text_computes(program)
    assert step_of(program) == step_of(cell.program(**cell.chosen({"gate": "relu"})))  # no choice compiles anew
    assert step_of(program) != step_of(cell.program(**cell.options))


@many
@given(cell_texts())
def test_compiled_text_of_random_cells(text):
    program = finite_program(ln.cell(text), True)
    with np.errstate(all="ignore"):
        found = derivatives(derived(program), random_arguments(program), random_epsilon(program))
        assume(all(np.all(np.abs(value) < 1e4) for value in found.values()))
        assert_text_computes(program)


@pytest.mark.parametrize("name", ["e", "now", "kept", "before", "p", "options", "a_1", "t0", "like", "step"])
def test_a_cells_names_dont_meet_those_of_the_compiled_text(name):
    cell = ln.cell(
        f"""
        def names(a_x, u_y, w_y, h_prev, c_prev, v_x):
            g = tanh(a_x)
            {name} = sigmoid(u_y + g * w_y + v_x * c_prev)
            e_g = {name} * g
            {name} = {name} * 2
            c = {name} * c_prev + e_g
            h = tanh(c) * {name}
            return h, c
        """
        if name not in ("options",)
        else """
        def names(a_x, h_prev):
            h = tanh(a_x) + h_prev
            return h
        """
    )
    for program in cell.programs():
        assert_central_differences(derived(program))
        assert_text_computes(program)


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_repeated_squares_dont_grow_without_bound():
    lines = "\n".join("    g = g * g - 0.5 * g" for _ in range(60))
    cell = ln.cell(f"def square(a, h_prev):\n    g = tanh(a) * 0.1\n{lines}\n    h = g + h_prev\n    return h\n")
    program = cell.program()
    backward = derived(program)
    assert sum(expression.size() for _, expression in backward.lines) < 20_000
    assert_central_differences(backward)
    assert_text_computes(program)


def test_a_hundred_lines_that_read_one_name():
    lines = "\n".join(f"    g{n} = tanh(g{n - 1}) * c_prev" for n in range(1, 90))
    text = f"def many(a, h_prev, c_prev):\n    g0 = a\n{lines}\n    c = g89 + c_prev\n    h = c\n    return h, c\n"
    program = ln.cell(text).program()
    assert_central_differences(derived(program))
    assert_text_computes(program)


def test_lstm_squared_takes_every_factor_squared():
    program = CELLS["lstm"].program(**CELLS["lstm"].options)
    values = program.values(random_arguments(program))
    ones = {f"epsilon_{state}": np.ones(SIZE) for state in "hc"}
    found = derived(program, square=True).compute(values | ones)
    i, f, o, g, c = (values[program.final[name]] for name in "ifogc")
    delta_o = (o * (1 - o) * np.tanh(c)) ** 2
    epsilon_c = 1 + (o * (1 - np.tanh(c) ** 2)) ** 2 + values["v_o"] ** 2 * delta_o
    np.testing.assert_allclose(found["delta_a_o"], delta_o, rtol=1e-12)
    np.testing.assert_allclose(found["epsilon_c"], epsilon_c, rtol=1e-12)
    np.testing.assert_allclose(found["delta_a_c"], (i * (1 - g * g)) ** 2 * epsilon_c, rtol=1e-12)
    np.testing.assert_allclose(found["delta_a_f"], (f * (1 - f) * values["c_prev"]) ** 2 * epsilon_c, rtol=1e-12)


def test_orders_follow_the_step():
    program = CELLS["lstm"].program(**CELLS["lstm"].options)
    assert orders(program) == (
        ["a_c", "a_i", "a_f", "i", "f", "g", "c", "a_o", "o", "h"],
        ["epsilon_h", "delta_o", "epsilon_c", "delta_c", "delta_f", "delta_i"],
    )
    assert [*delta_names(program).values()] == ["delta_i", "delta_f", "delta_o", "delta_c"]
