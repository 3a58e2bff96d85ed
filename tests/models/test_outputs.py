"""What a network answers: a softmax, sigmoids or the sums themselves, each with its own loss."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.models import Network, Tagger

T, B, I, C = 5, 3, 2, 2
NUMBERS = ("sigmoid", "linear")


def make(output, dtype=np.float64, **options):
    return Network(I, C, (3,), output=output, dtype=dtype, seed=0, **options)


def problem(seed=0):
    """x, and numbers of which two don't count."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((T, B, I)), rng.random((T, B, C))
    y[1, 0] = y[3, 2, 1] = np.nan
    return x, y


def by_definition(output, z, y):
    """The loss of one sum z with a target y."""
    if math.isnan(y):
        return 0.0
    if output == "linear":
        return 0.5 * (z - y) ** 2
    p = 1 / (1 + math.exp(-z))
    return -y * math.log(p) - (1 - y) * math.log(1 - p)


@pytest.mark.parametrize("output", ("softmax", *NUMBERS))
@pytest.mark.parametrize("loss", ("all", "last", "middle"))
@pytest.mark.parametrize("lengths", (None, (5, 2, 4)))
def test_gradients_equal_central_differences(output, loss, lengths):
    result = ln.gradcheck(make(output, loss=loss, weight_decay=0.1), lengths=lengths)
    assert result, result


@pytest.mark.parametrize("output", NUMBERS)
def test_the_loss_is_the_one_of_the_table(output):
    net, (x, y) = make(output), problem()
    trace = net.forward(x)
    want = sum(by_definition(output, float(z), float(t)) for z, t in zip(trace.logits.flat, y.flat, strict=True)) / B
    assert net.loss(trace, y) == pytest.approx(want, rel=1e-12)


def test_outputs_are_those_of_the_table():
    x, _ = problem()
    z = make("linear").forward(x).logits
    assert np.array_equal(make("linear").forward(x).outputs, z)
    assert np.allclose(make("sigmoid").forward(x).outputs, 1 / (1 + np.exp(-z)), rtol=1e-14)
    assert np.array_equal(make("softmax").forward(x).outputs, make("softmax").forward(x).probabilities)


@pytest.mark.parametrize("output", NUMBERS)
def test_what_is_nan_or_beyond_a_sequence_does_not_count(output):
    net, (x, y) = make(output), problem()
    lengths = np.array([5, 2, 4])
    beyond = np.arange(T)[:, None] >= lengths
    masked = np.where(beyond[:, :, None], np.nan, y)
    nonsense = np.where(beyond[:, :, None], 7.0, y)
    assert net.loss(net.forward(x), np.full((T, B, C), np.nan)) == 0
    trace = net.forward(x, lengths)
    assert net.loss(trace, masked) == net.loss(trace, nonsense)
    assert np.array_equal(net.backward(trace, masked)["output.b"], net.backward(trace, nonsense)["output.b"])


@pytest.mark.parametrize("output", NUMBERS)
def test_a_sum_that_is_not_finite_is_not_hidden(output):
    net, (x, y) = make(output), problem()
    trace = net.forward(x)
    trace.logits[0, 1, 0] = np.nan
    assert math.isnan(net.loss(trace, y))


def test_a_sigmoid_does_not_overflow():
    net, (x, y) = make("sigmoid", np.float32), problem()
    net["output.S"][:] = 1e4
    trace = net.forward(x.astype(np.float32))
    assert math.isfinite(net.loss(trace, y)) and np.isfinite(net.backward(trace, y)["output.S"]).all()


@pytest.mark.parametrize(("output", "slope"), [("linear", lambda p: 1.0), ("sigmoid", lambda p: p * (1 - p))])
def test_second_derivatives_of_the_bias_are_the_slopes(output, slope):
    net, (x, y) = make(output), problem()
    trace = net.forward(x)
    want = np.where(np.isnan(y), 0, slope(trace.outputs)).sum((0, 1)) / B
    assert np.allclose(net.second_derivatives(trace, y, "diagonal")["output.b"], want, rtol=1e-12)


@pytest.mark.parametrize("output", ("softmax", *NUMBERS))
def test_a_config_or_a_pickle_makes_the_same_network(output):
    net, (x, _) = make(output), problem()
    again = Network(**net.config(), seed=0)
    assert again.output == net.output and ("output" in net.config()) == (output != "softmax")
    for other in (again, pickle.loads(pickle.dumps(net)), net.astype(np.float64)):
        assert np.array_equal(other.forward(x).outputs, net.forward(x).outputs)


REFUSED = {
    "whole numbers": (np.zeros((T, B, C), int), TypeError, r"^y: expected floating-point numbers.* got dtype int64"),
    "a shape": (np.zeros((T, B)), ValueError, r"^y: expected shape \(5, 3, 2\).* got \(5, 3\)"),
    "infinity": (np.full((T, B, C), np.inf), ValueError, r"^y: expected (finite )?numbers.* got inf"),
}


@pytest.mark.parametrize("output", NUMBERS)
@pytest.mark.parametrize("what", REFUSED)
def test_targets_that_are_refused(output, what):
    y, error, text = REFUSED[what]
    net = make(output)
    with pytest.raises(error, match=text):
        net.loss(net.forward(problem()[0]), y)


def test_a_sigmoid_refuses_what_is_no_probability():
    net = make("sigmoid")
    with pytest.raises(ValueError, match=r"^y: expected numbers from 0 to 1, or NaN if one doesn't count, got 1\.5"):
        net.loss(net.forward(problem()[0]), np.full((T, B, C), 1.5))


def test_an_unknown_output_and_models_that_have_a_softmax_refuse():
    with pytest.raises(ValueError, match=r"^output: expected one of 'softmax', 'sigmoid', 'linear', got 'tanh'"):
        make("tanh")
    with pytest.raises(TypeError, match=r"^output: expected to be left out"):
        Tagger(output="linear")
    with pytest.raises(AttributeError, match=r"^log_probabilities: with output='linear' there are outputs"):
        _ = make("linear").forward(problem()[0]).log_probabilities
