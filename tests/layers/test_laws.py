"""What holds for every cell: those of the package, and two that only these tests know.

Float64 unless a test says otherwise, with random distinct weights, T >= 3, initial states and all seeds of the backward
pass other than zero. Errors are relative to an array's largest entry: 1e-12 against the twin (`naive_cells`), 1e-8
against central differences, 1e-13 between two ways to compute the same.
"""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest

import lstm_numba as ln
from cases import norm_error, worst
from lstm_numba.cells import sigmoid, tanh
from lstm_numba.cells.compiled import step_of
from lstm_numba.engine import pool, recurrence
from naive_cells import Twin


@ln.cell
def mixture(a_f, u_z, w_z, u_n, W_n, W_q, h_prev, c_prev, v_f, v_n, *, share=0.25):
    """Arguments of every kind, two products, and a name that is assigned twice."""
    f = sigmoid(a_f + v_f * c_prev)
    z = sigmoid(u_z) * tanh(w_z)
    n = tanh(u_n + W_n @ (f * h_prev) + v_n * c_prev)
    c = f * c_prev + z * n
    c = c + share * (W_q @ (z - c_prev))
    h = tanh(c) * (1 - z)
    return h, c


# Beyond the last unit of a layer a vector has lanes in which everything is 0: here they are 0 / 0, log 0 and 1 / 0.
RATIOS = """
def ratios(a_i, a_f, a_q, u_g, W_g, h_prev, c_prev, d_prev, v_f):
    i = exp(minimum(a_i, 2))
    f = softplus(a_f + v_f * c_prev)
    d = f * d_prev + i
    q = a_q / (abs(a_q) + d_prev)
    g = tanh(u_g + W_g @ (h_prev / d_prev))
    c = (f * c_prev + i * g) / (f + 1)
    h = q * maximum(c, 0.1 * c) / sqrt(d) + 0.1 * log(d_prev)
    return h, c, d
"""

CELLS = ln.cells.CELLS | {"mixture": mixture, "ratios": ln.cell(RATIOS)}
BY_HAND = [name for name, cell in CELLS.items() if cell.written is not None]
SIZES = (1, 5, 16, 17, 33)  # below, at and beyond a vector, with an even and an odd number of vectors
I = 4

each_cell = pytest.mark.parametrize("name", CELLS)
both_directions = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


@dataclass
class Problem:
    """Input, initial states, the loss's derivatives; states by name."""

    x: np.ndarray
    initial: dict[str, np.ndarray]
    dh: np.ndarray
    last: dict[str, np.ndarray]
    lengths: np.ndarray | None = None

    def first(self):
        return {f"{state}0": value for state, value in self.initial.items()}

    def seeds(self):
        return {"dh": self.dh} | {f"d{state}_last": value for state, value in self.last.items()}

    def only(self, sequences):
        """Some of the sequences."""
        pick = lambda states: {name: value[sequences] for name, value in states.items()}  # noqa: E731
        lengths = None if self.lengths is None else self.lengths[sequences]
        return Problem(self.x[:, sequences], pick(self.initial), self.dh[:, sequences], pick(self.last), lengths)

    def until(self, length):
        """The first `length` steps, and no lengths."""
        return replace(self, x=self.x[:length], dh=self.dh[:length], lengths=None)


def make_layer(cell, H, *, dtype=np.float64, recurrent=0.7, **options):
    """A layer whose weights are random; `recurrent` is about the factor by which W lengthens a vector."""
    layer = ln.Recurrent(cell, I, H, dtype=dtype, seed=0, **options)
    rng = np.random.default_rng(H)
    scales = {"U": 1 / np.sqrt(I), "W": recurrent / np.sqrt(H)}
    for name, array in layer.parameters().items():
        array[:] = scales.get(name, 0.5) * rng.standard_normal(array.shape)
    return layer


def make_problem(layer, T=4, B=3, seed=0, lengths=None):
    """States other than h are positive: some cells divide by one."""
    rng, H = np.random.default_rng([seed, T, B]), layer.hidden_size
    initial = {state: rng.uniform(0.5, 1.5, (B, H)) for state in layer.states}
    initial["h"] *= rng.choice([-1, 1], (B, H))
    last = {state: rng.standard_normal((B, H)) for state in layer.states}
    lengths = None if lengths is None else np.array(lengths)
    return Problem(rng.standard_normal((T, B, I)), initial, rng.standard_normal((T, B, H)), last, lengths)


def make(name, H=9, **options):
    """A layer of a cell, and a problem of which some sequences are short if there are `lengths`."""
    sizes = {key: options.pop(key) for key in ("T", "B", "seed", "lengths") if key in options}
    layer = make_layer(CELLS[name], H, **options)
    return layer, make_problem(layer, **sizes)


def run(layer, problem, **options):
    trace = layer.forward(problem.x, **problem.first(), lengths=problem.lengths, **options)
    return trace, layer.backward(trace, **problem.seeds())


def of_trace(trace):
    """Every array of a trace by its name."""
    return {name: getattr(trace, name) for name in trace.names()}


def of_gradients(grads):
    """Every derivative by its name, those of parameters as those of the parameters are called."""
    return {f"d{name}": getattr(grads, name) for name in grads.names()} | of_parameters(grads)


def of_parameters(grads):
    return {f"d{name}": value for name, value in grads.parameters().items()}


def everything(trace, grads):
    return of_trace(trace) | of_gradients(grads)


def stepwise(arrays):
    """Those with a row for every time and sequence."""
    return {name: array for name, array in arrays.items() if array.ndim == 3 and name not in ("dU", "dW")}


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    different = [name for name in left if not np.array_equal(left[name], right[name], equal_nan=True)]
    assert not different


def compare(got, want, tolerance):
    """Every array of `want`."""
    worst({name: norm_error(got[name], value) for name, value in want.items()}, tolerance)


# The twin


def check_twin(layer, problem, tolerance, **options):
    trace, grads = run(layer, problem)
    twin = Twin(layer)
    compare(of_trace(trace), twin.forward(problem.x, problem.initial), tolerance)
    want = twin.backward(problem.dh, problem.last, **options)
    compare(of_gradients(grads), {f"d{name}": value for name, value in want.items()}, tolerance)


@pytest.mark.parametrize("H", SIZES)
@each_cell
def test_equals_the_cell_called_on_arrays_step_by_step(name, H):
    """Forward the cell itself; backward its own backward equations, evaluated by NumPy."""
    check_twin(*make(name, H, B=1 + H % 3), 1e-12)


@each_cell
def test_equals_the_twin_in_reverse_and_without_biases(name):
    check_twin(*make(name, 17, reverse=True, bias=False), 1e-12)


@pytest.mark.parametrize("H", [5, 17])
@each_cell
def test_float32_is_close_to_the_twin(name, H):
    layer, problem = make(name, H, dtype=np.float32)
    single = lambda states: {state: value.astype(np.float32) for state, value in states.items()}  # noqa: E731
    problem = Problem(*(problem.x, problem.initial, problem.dh, problem.last))
    problem.x, problem.dh = problem.x.astype(np.float32), problem.dh.astype(np.float32)
    problem.initial, problem.last = single(problem.initial), single(problem.last)
    assert all(array.dtype == np.float32 for array in everything(*run(layer, problem)).values())
    check_twin(layer, problem, 1e-5)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_derived_backward_step_is_the_one_written_by_hand(name):
    written, problem = make(name, 17)
    derived = make_layer(CELLS[name].text, 17)
    assert derived.cell.written is None
    trace, grads = run(written, problem)
    other_trace, other_grads = run(derived, problem)
    compare(of_trace(other_trace), of_trace(trace), 1e-15)
    compare(of_gradients(other_grads), of_gradients(grads), 1e-13)
    check_twin(written, problem, 1e-12, by_hand=False)


@both_directions
@each_cell
def test_second_derivatives_are_the_recursion_with_every_factor_squared(name, reverse):
    layer, problem = make(name, 17, reverse=reverse)
    twin = Twin(layer)
    twin.forward(problem.x, problem.initial)
    want = twin.backward(problem.dh, problem.last, square=True)
    trace = layer.forward(problem.x, **problem.first())
    got = layer.second_derivatives(trace, *(seed for seed in problem.seeds().values()))
    compare(of_gradients(got), {f"d{name}": value for name, value in want.items()}, 1e-12)


# Central differences


def loss(layer, problem):
    trace = layer.forward(problem.x, **problem.first(), lengths=problem.lengths)
    last = sum((seed * getattr(trace, f"{state}_last")).sum() for state, seed in problem.last.items())
    return (problem.dh * trace.h).sum() + last


def places(layer, problem):
    """Everything that a loss depends on, by the name of its derivative."""
    parameters = {f"d{name}": array for name, array in layer.parameters().items()}
    return parameters | {"dx": problem.x} | {f"d{name}": array for name, array in problem.first().items()}


def slope(layer, problem, array, direction, step=1e-5):
    """The derivative of the loss along a direction."""
    before = array.copy()
    array += step * direction
    above = loss(layer, problem)
    array[...] = before - step * direction
    below = loss(layer, problem)
    array[...] = before
    return (above - below) / (2 * step)


@pytest.mark.parametrize("lengths", [None, [4, 2, 0]], ids=["full", "lengths"])
@each_cell
def test_gradients_equal_central_differences(name, lengths):
    """For each number of each parameter, of x and of the initial states."""
    layer, problem = make(name, 3, lengths=lengths)
    got, errors = of_gradients(run(layer, problem)[1]), {}
    for place, array in places(layer, problem).items():
        slopes, direction = np.empty_like(array), np.zeros_like(array)
        for index in np.ndindex(array.shape):
            direction[index] = 1
            slopes[index] = slope(layer, problem, array, direction)
            direction[index] = 0
        errors[place] = norm_error(got[place], slopes)
    worst(errors, 1e-8)


@pytest.mark.parametrize("H", SIZES)
@each_cell
def test_gradients_equal_central_differences_along_random_directions(name, H):
    layer, problem = make(name, H, reverse=H == 5)
    got, rng, errors = of_gradients(run(layer, problem)[1]), np.random.default_rng(3), {}
    for place, array in places(layer, problem).items():
        direction = rng.standard_normal(array.shape) / np.sqrt(array.size)
        want = slope(layer, problem, array, direction)
        size = np.linalg.norm(got[place]) / np.sqrt(array.size)  # what the sum is if nothing cancels
        errors[place] = abs((got[place] * direction).sum() - want) / max(size, abs(want))
    worst(errors, 1e-7)


# Algebra


@pytest.mark.parametrize("size", [1, 3])
@both_directions
@each_cell
def test_a_sequence_is_its_pieces_chained_by_their_states(name, reverse, size):
    layer, problem = make(name, T=7, reverse=reverse)
    trace, grads = run(layer, problem)
    cuts = [slice(start, min(start + size, 7)) for start in range(0, 7, size)]
    cuts = cuts[::-1] if reverse else cuts
    states, parts = list(problem.initial.values()), []
    for cut in cuts:
        parts.append(layer.forward(problem.x[cut], *states))
        states = [getattr(parts[-1], f"{state}_last") for state in layer.states]
    last, pieces = list(problem.last.values()), []
    for cut, part in zip(cuts[::-1], parts[::-1], strict=True):
        pieces.insert(0, layer.backward(part, problem.dh[cut], *last))
        last = [getattr(pieces[0], f"{state}0") for state in layer.states]
    whole = everything(trace, grads)
    for cut, part, piece in zip(cuts, parts, pieces, strict=True):
        for key, array in stepwise(everything(part, piece)).items():
            assert norm_error(whole[key][cut], array) <= 1e-13, key
    for state, value, derivative in zip(layer.states, states, last, strict=True):
        assert norm_error(value, whole[f"{state}_last"]) <= 1e-14
        assert norm_error(derivative, whole[f"d{state}0"]) <= 1e-13
    sums = {key: sum(of_parameters(piece)[key] for piece in pieces) for key in of_parameters(grads)}
    compare(sums, of_parameters(grads), 1e-13)


@pytest.mark.parametrize("lengths", [None, [6, 1, 4, 6, 3]], ids=["full", "lengths"])
@both_directions
@each_cell
def test_a_batch_is_its_sequences_one_by_one(name, reverse, lengths):
    """With lengths, each sequence alone is cut to its own length."""
    layer, problem = make(name, 17, T=6, B=5, lengths=lengths, reverse=reverse)
    trace, grads = run(layer, problem)
    whole, sums = everything(trace, grads), {}
    for n in range(5):
        length, one = 6 if lengths is None else lengths[n], slice(n, n + 1)
        alone = run(layer, problem.only(one).until(length))
        for key, want in everything(*alone).items():
            if key in of_parameters(grads):
                sums[key] = sums.get(key, 0) + want
            elif want.ndim < 4:  # delta as a whole is looked at by its parts
                got = whole[key][:length, one] if want.ndim == 3 else whole[key][one]
                assert norm_error(got, want) <= 1e-13, key
    compare(sums, of_parameters(grads), 1e-13)


@each_cell
def test_a_reversed_layer_is_a_layer_on_the_flipped_sequence(name):
    layer, problem = make(name, T=6)
    other, _ = make(name, reverse=True)
    flipped = everything(*run(other, replace(problem, x=problem.x[::-1], dh=problem.dh[::-1])))
    plain = everything(*run(layer, problem))
    for key, want in plain.items():
        got = flipped[key][::-1] if key in stepwise(plain) else flipped[key]
        got = flipped[key][:, ::-1] if want.ndim == 4 else got
        assert norm_error(got, want) <= 1e-13, key


@both_directions
@each_cell
def test_padding_is_zero_and_what_stands_in_it_does_not_matter(name, reverse):
    layer, problem = make(name, T=6, B=4, lengths=[3, 6, 0, 5], reverse=reverse)
    trace, grads = run(layer, problem)
    plain = everything(trace, grads)
    padded = np.arange(6)[:, None] >= problem.lengths
    filled = [key for key, array in stepwise(plain).items() if array[padded].any()]
    assert not filled
    assert not grads.delta[..., padded, :].any()
    for value in (1e6, np.nan, np.inf):
        problem.x[padded], problem.dh[padded] = value, value
        assert_same_bits(everything(*run(layer, problem)), plain)


@pytest.mark.parametrize("lengths", [[0, 3, 0, 4], [0, 0, 0, 0]], ids=["some", "all"])
@both_directions
@each_cell
def test_a_sequence_without_steps_keeps_its_state(name, reverse, lengths):
    """Its outputs are zero, its derivatives go by, and the others don't notice it."""
    layer, problem = make(name, B=4, lengths=lengths, reverse=reverse)
    trace, grads = run(layer, problem)
    for n in np.flatnonzero(problem.lengths == 0):
        for state in layer.states:
            assert np.array_equal(getattr(trace, f"{state}_last")[n], problem.initial[state][n])
            assert np.array_equal(getattr(grads, f"{state}0")[n], problem.last[state][n])
            assert not getattr(trace, state)[:, n].any() and not getattr(grads, f"epsilon_{state}")[:, n].any()
        assert not grads.x[:, n].any() and not grads.delta[..., n, :].any()
    if not any(lengths):
        assert not any(array.any() for array in grads.parameters().values())
        return
    others = np.flatnonzero(problem.lengths)
    compare(of_parameters(grads), of_parameters(run(layer, problem.only(others))[1]), 1e-13)


@each_cell
def test_full_lengths_are_no_lengths(name):
    layer, problem = make(name)
    full = run(layer, replace(problem, lengths=np.full(3, 4)))
    plain = run(layer, problem)
    assert_same_bits(everything(*full), everything(*plain))
    assert plain[0].lengths is None


@each_cell
def test_the_order_of_sequences_does_not_matter(name):
    layer, problem = make(name, T=6, B=5, lengths=[2, 6, 1, 4, 6])
    order = np.array([3, 0, 4, 2, 1])
    plain, other = everything(*run(layer, problem)), everything(*run(layer, problem.only(order)))
    sums = {f"d{key}" for key in layer.parameters()}
    for key, want in plain.items():
        axis = want.ndim - 2
        want = want if key in sums else np.take(want, order, axis)
        assert norm_error(other[key], want) <= 1e-13, key


@each_cell
def test_states_are_zero_by_default(name):
    layer, problem = make(name)
    problem.initial = {state: np.zeros_like(value) for state, value in problem.initial.items()}
    trace = layer.forward(problem.x)
    assert_same_bits(everything(trace, layer.backward(trace, **problem.seeds())), everything(*run(layer, problem)))


@each_cell
def test_gradients_are_linear_in_the_seeds(name):
    layer, problem = make(name)
    trace, once = run(layer, problem)
    once = of_gradients(once)
    twice = of_gradients(layer.backward(trace, **{key: 2 * seed for key, seed in problem.seeds().items()}))
    assert_same_bits(twice, {key: 2 * value for key, value in once.items()})
    parts = [of_gradients(layer.backward(trace, **{key: seed})) for key, seed in problem.seeds().items()]
    compare({key: sum(part[key] for part in parts) for key in once}, once, 1e-12)
    none = of_gradients(layer.backward(trace, np.zeros_like(problem.dh)))
    assert not any(value.any() for value in none.values())


# Saturation: a gate that is exactly 0 or 1

# Cell → biases that make it keep the state that is named.
BOTH_GATES = ("lstm", "nog", "niaf", "noaf", "no_peepholes", "fgr", "ran")
KEEPS = {
    **{name: ({"b_i": -1000, "b_f": 1000}, "c") for name in BOTH_GATES},
    **{name: ({"b_i": -1000}, "c") for name in ("nfg", "cifg", "lstm_1997")},
    **{name: ({"b_z": 1000}, "h") for name in ("gru", "gru_2014", "ugrnn")},
    "mgu": ({"b_f": -1000}, "h"),
    "janet": ({"b_f": 1000}, "h"),
    "mingru": ({"b_z": -1000}, "h"),
    "minlstm": ({"b_i": -1000, "b_f": 1000}, "h"),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", KEEPS)
def test_a_saturated_cell_keeps_its_state_and_the_gradient_exactly(name, dtype):
    """Over 100 steps not a digit changes, and the derivative is exactly 1."""
    biases, state = KEEPS[name]
    layer, problem = make(name, 17, T=100, dtype=dtype)
    for bias, value in biases.items():
        layer[bias] = np.full(17, value)
    trace = layer.forward(problem.x, **problem.first())
    kept = problem.initial[state].astype(dtype)
    assert np.array_equal(getattr(trace, state), np.broadcast_to(kept, (100, 3, 17)))
    grads = layer.backward(trace, **{f"d{state}_last": np.ones((3, 17))})
    assert np.all(getattr(grads, f"epsilon_{state}") == 1) and np.all(getattr(grads, f"{state}0") == 1)
    assert not any(value.any() for value in grads.parameters().values())


# What isn't finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@each_cell
def test_what_is_not_finite_in_x_is_refused_with_its_place(name, value):
    layer, problem = make(name, 17, T=7, B=5)
    for place in [(0, 0, 0), (3, 2, 1), (6, 4, 3)]:
        bad = problem.x.copy()
        bad[place] = value
        with pytest.raises(ValueError, match=r"^x: expected finite numbers, got ") as error:
            layer.forward(bad, **problem.first())
        assert str(error.value).endswith(f"{value} at x{list(place)}")
    for state in layer.states:
        bad = problem.first()
        bad[f"{state}0"] = with_value(bad[f"{state}0"], (4, 16), value)
        with pytest.raises(ValueError, match=rf"^{state}0: expected finite numbers, got {value} at {state}0\[4, 16\]"):
            layer.forward(problem.x, **bad)


def with_value(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@each_cell
def test_nan_in_a_weight_comes_out_and_stays_in_its_unit_for_a_step(name):
    """It reaches h, whichever gate it enters by; at the first step only of its unit, unless W_k multiplies it there."""
    for gate in CELLS[name].arguments.U_gates:
        layer, problem = make(name, 17)
        clean = layer.forward(problem.x, **problem.first()).h[0]
        layer[f"U_{gate}" if gate else "U"][16, 0] = np.nan
        trace = layer.forward(problem.x, **problem.first())
        assert np.isnan(trace.h[:, :, 16]).any(), gate
        if not layer.cell.arguments.W:
            assert np.array_equal(trace.h[0, :, :16], clean[:, :16]), gate
        grads = layer.backward(trace, problem.dh)
        assert any(np.isnan(value).any() for value in grads.parameters().values()), gate


# Threads, repetition


@pytest.mark.parametrize("lengths", [None, [3, 60, 1, 22, 22, 1, 7, 59]], ids=["full", "lengths"])
@each_cell
def test_threads_change_only_the_order_of_sums(name, lengths):
    """Large enough to be split; small weights, so that 60 steps don't amplify what rounding changes."""
    layer, problem = make(name, 130, T=60, B=8, lengths=lengths, recurrent=0.2)
    pool.set_num_threads(1)
    single = everything(*run(layer, problem))
    pool.set_num_threads(2)
    double = everything(*run(layer, problem))
    assert_same_bits(everything(*run(layer, problem)), double)
    compare(double, single, 1e-12)
    pool.set_num_threads(1)
    assert_same_bits(everything(*run(layer, problem)), single)


@each_cell
def test_results_are_the_same_from_several_threads_at_once(name):
    layer, _ = make(name, 33)
    problems = [make_problem(layer, 8, seed=seed) for seed in range(4)]
    alone = [everything(*run(layer, problem)) for problem in problems]
    with ThreadPoolExecutor(4) as callers:
        together = list(callers.map(lambda problem: everything(*run(layer, problem)), problems))
    for one, other in zip(together, alone, strict=True):
        assert_same_bits(one, other)


# What a call keeps and what it leaves alone


@pytest.mark.parametrize("lengths", [None, [4, 2, 1]], ids=["full", "lengths"])
@each_cell
def test_outputs_alone_are_those_of_a_whole_pass(name, lengths):
    layer, problem = make(name, 17, lengths=lengths)
    everything = of_trace(run(layer, problem)[0])
    for each in (layer, layer.frozen()):
        trace = each.forward(problem.x, **problem.first(), lengths=problem.lengths, keep="outputs")
        ends = [f"{state}{end}" for state in layer.states for end in ("0", "_last")]
        assert set(trace.names()) == {"x", "h", "h_prev", *ends}
        assert_same_bits(of_trace(trace), {key: everything[key] for key in trace.names()})
        for key in set(everything) - set(trace.names()):
            with pytest.raises(AttributeError, match=f'^{key}: not kept by forward\\(keep="outputs"\\)'):
                getattr(trace, key)
        with pytest.raises(ValueError, match=r"trace: expected one of forward.* got one that keeps only outputs"):
            each.backward(trace, **problem.seeds())


@each_cell
def test_a_frozen_layer_is_the_layer_as_it_was(name):
    layer, problem = make(name, 17)
    frozen, before = layer.frozen(), run(layer, problem)
    layer.parameters().flat[:] = 0
    trace, grads = run(frozen, problem)
    assert_same_bits(of_trace(trace), of_trace(before[0]))
    assert_same_bits(of_gradients(grads), of_gradients(before[1]))
    with pytest.raises(ValueError, match="read-only"):
        frozen.parameters().flat[0] = 1
    assert_same_bits(of_trace(run(pickle.loads(pickle.dumps(frozen)), problem)[0]), of_trace(before[0]))
    zeros = np.zeros_like(frozen.parameters().flat)
    zeros.flags.writeable = False
    assert_same_bits(of_trace(run(frozen.around(zeros), problem)[0]), of_trace(run(layer, problem)[0]))
    thawed = copy.deepcopy(frozen)
    thawed.parameters().flat[:] = 0
    assert_same_bits(of_trace(run(thawed, problem)[0]), of_trace(run(layer, problem)[0]))


@pytest.mark.parametrize("lengths", [None, [4, 2, 1]], ids=["full", "lengths"])
@each_cell
def test_a_lean_pass_has_the_same_gradients(name, lengths):
    layer, problem = make(name, 17, lengths=lengths)
    trace, grads = run(layer, problem)
    lean_trace, lean_grads = run(layer, problem, keep="backward")
    assert_same_bits(of_gradients(lean_grads), of_gradients(grads))
    kept = of_trace(lean_trace)
    assert_same_bits(kept, {key: getattr(trace, key) for key in kept})
    for key in set(trace.names()) - set(kept):
        with pytest.raises(AttributeError, match=f'^{key}: not kept by forward\\(keep="backward"\\)'):
            getattr(lean_trace, key)
    seeds = problem.seeds().values()
    second = [layer.second_derivatives(each, *seeds) for each in (trace, lean_trace)]
    assert_same_bits(*map(of_gradients, second))


@pytest.mark.parametrize("lengths", [None, [4, 2, 3]], ids=["full", "lengths"])
@each_cell
def test_nothing_given_is_changed_and_it_may_be_read_only(name, lengths):
    layer, problem = make(name, lengths=lengths)
    given = [problem.x, problem.dh, *problem.initial.values(), *problem.last.values()]
    given += [layer.parameters().flat] if lengths is None else [problem.lengths, layer.parameters().flat]
    before = [array.copy() for array in given]
    plain = everything(*run(layer, problem))
    assert all(np.array_equal(now, then) for now, then in zip(given, before, strict=True))
    step = step_of(layer.cell.program(**layer.options))
    loops = (recurrence.forward_of(step), recurrence.backward_of(step))
    compiled = [len(loop.signatures) for loop in loops]
    for array in given[:-1]:
        array.flags.writeable = False
    assert_same_bits(everything(*run(layer, problem)), plain)
    assert [len(loop.signatures) for loop in loops] == compiled  # none for read-only arrays


@each_cell
def test_a_trace_is_not_touched_by_later_calls_or_by_its_inputs_changing(name):
    layer, problem = make(name)
    trace, grads = run(layer, problem)
    before = {key: array.copy() for key, array in everything(trace, grads).items()}
    run(layer, make_problem(layer, seed=1))
    layer.second_derivatives(trace, problem.dh**2)
    problem.x[:] = 9
    for array in problem.initial.values():
        array[:] = 9
    assert_same_bits(everything(trace, grads), before)
    assert_same_bits(everything(trace, layer.backward(trace, **problem.seeds())), before)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda layer: pickle.loads(pickle.dumps(layer))}


@pytest.mark.parametrize("way", COPIES)
@each_cell
def test_a_copy_computes_with_its_own_weights(name, way):
    layer, problem = make(name)
    plain = everything(*run(layer, problem))
    other = COPIES[way](layer)
    layer.parameters().flat[:] = 0
    assert_same_bits(everything(*run(other, problem)), plain)
    assert other.cell == layer.cell and other.config() == layer.config()


@each_cell
def test_config_makes_the_same_layer_again(name):
    """It holds the cell's text, so the backward step is the derived one."""
    layer, problem = make(name, reverse=True)
    again = ln.Recurrent(**layer.config())
    assert again.config() == layer.config()
    again.parameters().flat[:] = layer.parameters().flat
    compare(everything(*run(again, problem)), everything(*run(layer, problem)), 1e-13)


@each_cell
def test_astype_is_a_copy(name):
    layer, problem = make(name, reverse=True)
    same = layer.astype(np.float64)
    assert_same_bits(everything(*run(same, problem)), everything(*run(layer, problem)))
    same.parameters().flat[:] = 0
    assert layer.parameters().flat.all()
    single = layer.astype(np.float32)
    assert single.reverse and single.dtype == np.float32
    assert np.array_equal(single.parameters().flat, layer.parameters().flat.astype(np.float32))
