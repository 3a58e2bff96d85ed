"""Each update rule against a twin in plain NumPy and, where PyTorch has it, against PyTorch; clipping by norm."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from cases import norm_error
from lstm_numba.engine import pool
from lstm_numba.models.optimizers import OPTIMIZERS, SGD, Adam, Rule2015, clip_norm

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-14}
LARGE = 250_003  # enough for two threads, and no multiple of anything


def twin_sgd(theta, gradients, _, rate, momentum=0.9):
    v = 0
    for G, alpha in zip(gradients, rate, strict=True):
        v = momentum * v - alpha * G
        theta = theta + v
        yield theta


def twin_adam(theta, gradients, _, rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m = v = 0
    for t, (G, alpha) in enumerate(zip(gradients, rate, strict=True), start=1):
        m = beta1 * m + (1 - beta1) * G
        v = beta2 * v + (1 - beta2) * G**2
        theta = theta - alpha * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        yield theta


def twin_2015(theta, gradients, seconds, rate, mu=1e-2, early=(0.5, 0.5), late=(0.95, 0.9), switch=30):
    v = H = 0
    for t, (G, D2, alpha) in enumerate(zip(gradients, seconds, rate, strict=True), start=1):
        m, beta = early if t <= switch else late
        H = beta * H + (1 - beta) * D2
        v = m * v + (1 - m) * alpha * G / (H + mu)
        theta = theta - v
        yield theta


# name: the rule, its twin, and other settings than the usual
RULES = {
    "sgd": (SGD, twin_sgd, {"momentum": 0.3}),
    "adam": (Adam, twin_adam, {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}),
    "2015": (Rule2015, twin_2015, {"mu": 0.2, "early": (0.1, 0.7), "late": (0.6, 0.2), "switch": 3}),
}
each_rule = pytest.mark.parametrize("name", RULES)


def problem(steps, size=1000, dtype=np.float64, seed=0):
    """θ, and for each step a gradient and second derivatives, which are not negative."""
    rng = np.random.default_rng(seed)
    theta, gradients = rng.standard_normal(size), rng.standard_normal((steps, size))
    seconds = rng.standard_normal((steps, size)) ** 2
    return theta.astype(dtype), gradients.astype(dtype), seconds.astype(dtype)


def run(rule, theta, gradients, seconds, rate=None):
    """θ after each step."""
    theta, after = theta.copy(), []
    for n, (G, D2) in enumerate(zip(gradients, seconds, strict=True)):
        if rate is not None:
            rule.learning_rate = rate[n]
        rule.step(theta, G, D2 if rule.needs_second else None)
        after.append(theta.copy())
    return after


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("other", [False, True], ids=["usual", "other settings"])
@each_rule
def test_equals_the_twin(name, other, dtype):
    make, twin, settings = RULES[name]
    settings = settings if other else {}
    theta, gradients, seconds = problem(40, dtype=dtype)
    rate = 0.05 * 0.95 ** np.arange(40)
    found = run(make(0.05, **settings), theta, gradients, seconds, rate)
    want = twin(*(array.astype(np.float64) for array in (theta, gradients, seconds)), rate, **settings)
    for got, expected in zip(found, want, strict=True):
        assert got.dtype == dtype
        assert norm_error(got, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@each_rule
def test_the_number_of_threads_does_not_change_a_bit(name, dtype):
    make, _, settings = RULES[name]
    theta, gradients, seconds = problem(4, LARGE, dtype)
    before, found = pool.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            pool.set_num_threads(n)
            found.append(run(make(0.05, **settings), theta, gradients, seconds)[-1])
    finally:
        pool.set_num_threads(before)
    assert np.any(found[0] != theta)
    assert all(np.array_equal(found[0], other) for other in found[1:])


@each_rule
def test_a_large_array_is_its_pieces(name):
    """Where one piece of the loops ends and the next begins, nothing is left out or done twice."""
    make, _, _ = RULES[name]
    theta, gradients, seconds = problem(2, LARGE)
    whole = run(make(0.05), theta, gradients, seconds)[-1]
    for lo, hi in ((0, 1), (2047, 2050), (4095, 4099), (LARGE - 5, LARGE)):
        part = run(make(0.05), theta[lo:hi], gradients[:, lo:hi], seconds[:, lo:hi])[-1]
        assert norm_error(whole[lo:hi], part) <= 1e-15


@pytest.mark.parametrize("settings", [{}, {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}])
def test_adam_equals_torch(settings):
    """The same convention: ε is added to the corrected root."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theta, gradients, seconds = problem(30)
    parameter = torch.nn.Parameter(torch.tensor(theta))
    theirs = torch.optim.Adam(
        [parameter],
        lr=0.05,
        betas=(settings.get("beta1", 0.9), settings.get("beta2", 0.999)),
        eps=settings.get("epsilon", 1e-8),
    )
    for got, G in zip(run(Adam(0.05, **settings), theta, gradients, seconds), gradients, strict=True):
        parameter.grad = torch.tensor(G)
        theirs.step()
        assert norm_error(got, parameter.detach().numpy()) <= 1e-13


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_equals_torch_at_a_constant_rate(momentum):
    """torch keeps v without the rate, v ← m v + G, θ ← θ - α v: the same as long as α stays, and no longer."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theta, gradients, seconds = problem(30)
    parameter = torch.nn.Parameter(torch.tensor(theta))
    theirs = torch.optim.SGD([parameter], lr=0.05, momentum=momentum)
    for got, G in zip(run(SGD(0.05, momentum), theta, gradients, seconds), gradients, strict=True):
        parameter.grad = torch.tensor(G)
        theirs.step()
        assert norm_error(got, parameter.detach().numpy()) <= 1e-13


def test_the_momentum_of_2015_changes_after_iteration_30():
    """With D2 = 0 and G = 1 each step's v follows from (m, β) alone, so that both can be read from θ."""
    rule, theta = Rule2015(1.0, mu=1.0), np.zeros(1)
    ones, zeros = np.ones(1), np.zeros(1)
    v, momenta = 0.0, []
    for _ in range(35):
        before = theta[0]
        rule.step(theta, ones if len(momenta) % 2 == 0 else -ones, zeros)
        step = before - theta[0]
        G = 1 if len(momenta) % 2 == 0 else -1
        momenta.append((step - G) / (v - G))  # v' = m v + (1 - m) G
        v = step
    assert momenta[1:30] == pytest.approx([0.5] * 29)
    assert momenta[30:] == pytest.approx([0.95] * 5)


def test_the_running_mean_of_2015_changes_after_iteration_30():
    rule, theta = Rule2015(), np.zeros(1)
    h = [0.0]
    for _ in range(35):
        rule.step(theta, np.ones(1), np.ones(1))
        h.append(float(rule.state["h"][0]))
    beta = [(1 - now) / (1 - before) for before, now in itertools.pairwise(h)]
    assert beta[:30] == pytest.approx([0.5] * 30, rel=1e-3)
    assert rule.iteration == 35
    second = Rule2015(switch=0)
    second.step(theta, np.ones(1), np.ones(1))
    assert second.state["h"][0] == pytest.approx(0.1)


def test_each_parameter_has_its_own_memory():
    """In the program of 2015 one buffer served several: here a number's steps depend on its own derivatives alone."""
    theta, gradients, seconds = problem(10, 6)
    whole = run(Rule2015(), theta, gradients, seconds)[-1]
    gradients[:, 3:], seconds[:, 3:] = 100, 100
    assert np.array_equal(run(Rule2015(), theta, gradients, seconds)[-1][:3], whole[:3])


@each_rule
def test_memory_is_by_name_and_training_goes_on_from_it(name):
    make, _, settings = RULES[name]
    theta, gradients, seconds = problem(8)
    straight = run(make(0.05, **settings), theta, gradients, seconds)[-1]
    first = make(0.05, **settings)
    middle = run(first, theta, gradients[:4], seconds[:4])[-1]
    assert set(first.state) == set(first.memory)
    second = OPTIMIZERS[first.name](**json.loads(json.dumps(first.config())))
    second.iteration, second.state = first.iteration, {key: array.copy() for key, array in first.state.items()}
    assert second.config() == first.config()
    assert np.array_equal(run(second, middle, gradients[4:], seconds[4:])[-1], straight)


@pytest.mark.parametrize("size", [5, LARGE])
@pytest.mark.parametrize("dtype", DTYPES)
@each_rule
def test_a_step_says_whether_theta_is_finite_and_keeps_what_it_was(name, dtype, size):
    make, _, _ = RULES[name]
    theta, gradients, seconds = problem(1, size, dtype)
    for place, value in ((None, 0), (0, np.nan), (size // 2, np.inf), (size - 1, -np.inf)):
        spoilt, after, kept = gradients[0].copy(), theta.copy(), np.zeros_like(theta)
        if place is not None:
            spoilt[place] = value
        assert make(0.05).step(after, spoilt, seconds[0], keep=kept) == (place is None)
        assert np.array_equal(kept, theta)
    largest = np.full(size, 0.9 * np.finfo(dtype).max, dtype)  # the sum of these is infinite, none of them is
    assert make(0.0).step(largest, gradients[0], seconds[0])
    with pytest.raises(ValueError, match=r"^keep: expected"):
        make().step(theta, gradients[0], seconds[0], keep=np.zeros(1, dtype))


@each_rule
def test_a_step_changes_theta_alone(name):
    make, _, _ = RULES[name]
    theta, gradients, seconds = problem(1)
    before = gradients.copy(), seconds.copy()
    make(0.05).step(theta, gradients[0], seconds[0])
    assert np.array_equal(gradients, before[0]) and np.array_equal(seconds, before[1])


@pytest.mark.parametrize("array", ["gradient", "second"])
@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros(5, np.float32), np.zeros((5, 1)), None])
def test_arrays_that_do_not_fit_are_refused(array, wrong):
    """Compiled loops don't look at bounds: what doesn't fit must not reach them."""
    if wrong is None and array == "gradient":
        wrong = np.zeros(0)
    arrays = {"gradient": np.zeros(5), "second": np.zeros(5)} | {array: wrong}
    rule = Rule2015()
    with pytest.raises(ValueError, match=f"^{array}: expected"):
        rule.step(np.zeros(5), **arrays)
    assert rule.iteration == 0


@each_rule
@pytest.mark.parametrize("other", [np.zeros(6), np.zeros(4), np.zeros(5, np.float32)])
def test_a_rule_that_remembers_another_theta_is_refused(name, other):
    rule = RULES[name][0]()
    rule.step(np.zeros(5), np.ones(5), np.ones(5))
    with pytest.raises(ValueError, match=r"^theta: expected"):
        rule.step(other, np.ones_like(other), np.ones_like(other))
    assert rule.iteration == 1


def read_only(array):
    array.flags.writeable = False
    return array


@each_rule
@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (np.zeros(5, np.int64), TypeError, "theta: expected an array of float32 or float64, got dtype int64"),
        (np.zeros(5, np.float16), TypeError, "theta: expected an array of float32 or float64, got dtype float16"),
        (np.zeros(5, complex), TypeError, "theta: expected an array of float32 or float64"),
        ([0.0] * 5, TypeError, "theta: expected an array of float32 or float64, got list"),
        (read_only(np.zeros(5)), ValueError, "theta: expected an array that can be changed, got a read-only one"),
        (np.zeros((5, 1)), ValueError, r"theta: expected a flat array, got shape \(5, 1\)"),
        (np.zeros(10)[::2], ValueError, "theta: expected an array without gaps"),
    ],
)
def test_a_theta_that_cannot_be_changed_is_refused(name, wrong, error, text):
    """The loops write where θ begins, whatever it is: a constant array would change, or its neighbours."""
    rule, like = RULES[name][0](), np.ones_like(wrong)
    with pytest.raises(error, match=f"^{text}"):
        rule.step(wrong, like, like)
    assert rule.iteration == 0 and not rule.state and not np.any(wrong)


@each_rule
@pytest.mark.parametrize("array", ["gradient", "second", "keep"])
def test_arrays_with_gaps_are_refused(name, array):
    rule = RULES[name][0]()
    arrays = {"gradient": np.ones(5), "second": np.ones(5), "keep": np.ones(5)} | {array: np.ones(10)[::2]}
    theta = np.zeros(5)
    if array == "second" and not rule.needs_second:
        assert rule.step(theta, **arrays)
        return
    with pytest.raises(ValueError, match=f"^{array}: expected an array without gaps"):
        rule.step(theta, **arrays)
    assert rule.iteration == 0 and not theta.any()


def test_a_read_only_gradient_will_do_and_a_read_only_keep_will_not():
    theta = np.zeros(5)
    with pytest.raises(ValueError, match=r"^keep: expected an array that can be changed"):
        SGD().step(theta, np.ones(5), keep=read_only(np.zeros(5)))
    assert not theta.any()
    assert SGD().step(theta, read_only(np.ones(5))) and theta.all()


BAD_SETTINGS = {
    "learning_rate": (ValueError, "learning_rate", lambda: Adam(-1e-3)),
    "infinite": (ValueError, "learning_rate", lambda: SGD(np.inf)),
    "text": (TypeError, "learning_rate", lambda: Rule2015("fast")),
    "momentum": (ValueError, "momentum", lambda: SGD(momentum=1.0)),
    "beta1": (ValueError, "beta1", lambda: Adam(beta1=1.5)),
    "beta2": (ValueError, "beta2", lambda: Adam(beta2=-0.1)),
    "epsilon": (ValueError, "epsilon", lambda: Adam(epsilon=-1)),
    "mu": (ValueError, "mu", lambda: Rule2015(mu=-1)),
    "early": (ValueError, "early", lambda: Rule2015(early=(0.5, 1.0))),
    "late": (ValueError, "late", lambda: Rule2015(late=(2, 0.5))),
    "switch": (ValueError, "switch", lambda: Rule2015(switch=-1)),
}


@pytest.mark.parametrize("what", BAD_SETTINGS)
def test_settings_that_are_refused(what):
    error, argument, make = BAD_SETTINGS[what]
    with pytest.raises(error, match=f"^{argument}: expected"):
        make()


# Clipping


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_scales_to_the_largest_norm(dtype):
    gradient = np.array([3, 0, -4], dtype)
    assert clip_norm(gradient, 2.5) == 5
    assert gradient.dtype == dtype
    assert gradient == pytest.approx([1.5, 0, -2])


@pytest.mark.parametrize("largest", [5, 6, 1e9])
def test_clipping_leaves_a_small_gradient_alone(largest):
    gradient = np.array([3.0, 0, -4])
    assert clip_norm(gradient, largest) == 5
    assert np.array_equal(gradient, [3, 0, -4])


def test_clipping_a_gradient_whose_squares_float32_cannot_hold():
    gradient = np.full(4, 1e25, np.float32)
    assert clip_norm(gradient, 1.0) == pytest.approx(2e25)
    assert gradient == pytest.approx(np.full(4, 0.5))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_does_not_hide_what_is_not_finite(bad):
    gradient = np.array([1.0, bad, 2.0])
    assert not np.isfinite(clip_norm(gradient, 1.0))
    assert not np.isfinite(gradient).all()
