"""The faults of 2015 do what the notebook says of them, and the engine has none of them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest

import lstm_numba as ln
import naive_network
from cases import norm_error
from lstm_numba import Network, Rule2015
from lstm_numba.data import TaggedSentence, Vocabulary, WordVectors, generate_news, vectors_for
from lstm_numba.layers.stack import DIRECTIONS
from lstm_numba.models import losses
from lstm_numba.models.embedding import Embedding
from lstm_numba.models.training import Batches
from lstm_numba.tutorials import bugs_of_2015

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "09_the_bugs_of_2015.ipynb"
T, B, WORDS, C = 5, 4, 7, 3


def make(hidden_sizes=(4,), scale=8.0, kind=Network, **options):
    """A network of 2015 with weights of order one, in which every non-linearity is used."""
    plain = {"merge": "sum", "bias": False, "output_bias": False, "init": "uniform", "dtype": np.float64, "seed": 0}
    decay = [1e-2] * len(hidden_sizes) + [1e-1]
    vectors = np.random.default_rng(1).standard_normal((WORDS, 3))
    vectors[0] = 0
    embedding = Embedding(vectors, WORDS, 0)
    net = kind(None, C, hidden_sizes, embedding=embedding, weight_decay=decay, **plain | options)
    net.parameters().flat[:] *= scale
    return net


def problem():
    rng = np.random.default_rng(2)
    return rng.integers(0, WORDS, (T, B)), rng.integers(0, C, (T, B))


def errors(got, want):
    """Relative error of each parameter's gradient, gate by gate."""
    result = {}
    for name in want:
        gates = {"U": "ifoc", "W": "ifoc", "V": "ifo"}.get(name.rpartition(".")[2], "")
        for each in [f"{name}_{gate}" for gate in gates] or [name]:
            result[each] = norm_error(got[each], want[each])
    return result


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("squared", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("hidden_sizes", [(4,), (4, 3), (3, 4, 2)], ids=str)
def test_without_faults_the_derivatives_are_the_engines(hidden_sizes, squared):
    net, (x, y) = make(hidden_sizes), problem()
    trace = net.forward(x)
    want = net.second_derivatives(trace, y) if squared else net.backward(trace, y)
    found = errors(bugs_of_2015.derivatives(net, trace, y, bugs_of_2015.NONE, squared=squared), want)
    assert max(found.values()) <= 1e-12


@pytest.mark.parametrize("hidden_sizes", [(4,), (3, 4)], ids=str)
def test_fault_1_spoils_every_gradient_but_the_softmaxs(hidden_sizes):
    net, (x, y) = make(hidden_sizes), problem()
    trace = net.forward(x)
    found = errors(bugs_of_2015.derivatives(net, trace, y, {bugs_of_2015.TANH_SLOPE}), net.backward(trace, y))
    assert found.pop("output.S") <= 1e-12
    assert min(found.values()) > 1e-6
    assert max(found.values()) > 1e-1


def test_fault_1_cannot_be_seen_at_tiny_weights():
    x, y = problem()
    worst = []
    for scale in (0.1, 1, 10):
        net = make(scale=scale)
        trace = net.forward(x)
        found = errors(bugs_of_2015.derivatives(net, trace, y, {bugs_of_2015.TANH_SLOPE}), net.backward(trace, y))
        worst.append(max(found.values()))
    assert worst[0] < 1e-3 < 0.1 < worst[2]
    assert worst == sorted(worst)


@pytest.mark.parametrize("hidden_sizes", [(4,), (3, 4)], ids=str)
def test_fault_2_is_found_in_the_output_peephole_alone(hidden_sizes):
    net, (x, y) = make(hidden_sizes), problem()
    trace = net.forward(x)
    found = errors(bugs_of_2015.derivatives(net, trace, y, {bugs_of_2015.OUTPUT_PEEPHOLE}), net.backward(trace, y))
    wrong = {name for name, error in found.items() if error > 1e-12}
    assert wrong == {f"layers.{n}.{d}.V_o" for n in range(len(hidden_sizes)) for d in DIRECTIONS}


@pytest.mark.parametrize("fault", [bugs_of_2015.TANH_SLOPE, bugs_of_2015.OUTPUT_PEEPHOLE])
def test_differences_find_each_fault_of_the_gradient(fault):
    class Faulty(Network):
        def backward(self, trace, y):
            return bugs_of_2015.derivatives(self, trace, y, {fault})

    x, y = problem()
    assert ln.gradcheck(make(), x, y).passed
    failed = ln.gradcheck(make(kind=Faulty), x, y).failed
    assert {"layers.0.forward.V_o", "layers.0.backward.V_o"} <= set(failed)
    assert ("layers.0.forward.U_c" in failed) == (fault == bugs_of_2015.TANH_SLOPE)


def test_overflowing_forms_are_right_until_they_overflow():
    a = np.linspace(-30, 30, 101)
    faulty, right = (bugs_of_2015.sigmoid_slope(a, each) for each in (True, False))
    assert np.allclose(faulty, right, rtol=1e-12, atol=1e-16)
    z = np.random.default_rng(0).standard_normal((4, 3))
    assert np.allclose(bugs_of_2015.softmax(z, True), bugs_of_2015.softmax(z, False), rtol=1e-14)
    far_out = np.array(720.0)
    assert np.isnan(bugs_of_2015.sigmoid_slope(far_out, True)) and bugs_of_2015.sigmoid_slope(far_out, False) == 0
    far = np.array([720.0, 0.0])
    assert np.isnan(bugs_of_2015.softmax(far, True)).any()
    assert np.allclose(bugs_of_2015.softmax(far, False), [1, 0], rtol=1e-15, atol=1e-300)


def test_gradients_stay_finite_at_huge_pre_activations():
    """Fault 8: pre-activations of thousands, forward and back."""
    net, (x, y) = make(scale=1e5), problem()
    trace = net.forward(x)
    assert max(np.abs(run.a).max() for run in trace.layers[0]) > 1e3
    assert np.isfinite(net.loss(trace, y))
    assert np.isfinite(net.backward(trace, y).flat).all()
    assert np.isfinite(net.second_derivatives(trace, y).flat).all()


# -- the update --------------------------------------------------------------------------------------------------------


def derivatives_of(net, seed):
    rng = np.random.default_rng(seed)
    gradients, seconds = net.parameters().zeros_like(), net.parameters().zeros_like()
    gradients.flat[:], seconds.flat[:] = rng.standard_normal((2, gradients.flat.size))
    seconds.flat[:] **= 2
    return gradients, seconds


def test_without_faults_the_rule_is_the_engines():
    one, two = make((4, 3)), make((4, 3))
    rule, engine = bugs_of_2015.Rule(one, bugs_of_2015.NONE), Rule2015()
    for step in range(35):
        gradients, seconds = derivatives_of(one, step)
        rule.step(gradients, seconds)
        engine.step(two.parameters().flat, gradients.flat, seconds.flat)
    assert norm_error(one.parameters().flat, two.parameters().flat) <= 1e-13
    assert rule.divisor >= 1e-2


def test_with_fault_3_all_gates_of_a_direction_take_one_step_and_peepholes_their_own():
    net = make((4, 3))
    before = {name: array.copy() for name, array in net.parameters().items()}
    bugs_of_2015.Rule(net, {bugs_of_2015.SHARED_BUFFERS}).step(*derivatives_of(net, 0))
    for name, array in net.parameters().items():
        steps = array - before[name]
        if name.endswith(("U", "W")):
            assert np.allclose(steps, steps[0], rtol=0, atol=1e-15), name
        if name.endswith("V"):
            assert not np.allclose(steps[0], steps[1]), name


def test_the_shared_buffer_by_hand():
    """One number, so that the lines of the rule can be followed."""
    net = make((1,), scale=0.0)
    rule = bugs_of_2015.Rule(net, {bugs_of_2015.SHARED_BUFFERS})
    s, theta = 0.0, np.zeros(4)
    for step in range(3):
        gradients, seconds = derivatives_of(net, step)
        for direction in DIRECTIONS:
            G, D2 = gradients[f"layers.0.{direction}.W"][:, 0, 0], seconds[f"layers.0.{direction}.W"][:, 0, 0]
            for k in (0, 1, 3, 2):
                s = 0.5 * s + 0.5 * D2[k]
            for k in (0, 1, 2, 3):
                s = 0.5 * s + 0.5 * 2e-3 * G[k] / (s + 1e-2)
            if direction == "forward":
                theta -= s
        rule.step(gradients, seconds)
    assert np.allclose(net["layers.0.forward.W"][:, 0, 0], theta, rtol=1e-12)


def test_a_velocity_in_the_divisor_can_be_negative():
    net = make((2,))
    rule = bugs_of_2015.Rule(net, {bugs_of_2015.SHARED_BUFFERS})
    gradients, seconds = net.parameters().zeros_like(), net.parameters().zeros_like()
    gradients.flat[:] = -1.0
    rule.step(gradients, seconds)
    assert rule.divisor < 0


def test_small_gradients_keep_the_shared_divisor_positive():
    """|G| ≤ μ² / 4α: then s ≥ -2α|G|/μ ≥ -μ/2 at every line of the rule."""
    net = make((2,))
    rule = bugs_of_2015.Rule(net, {bugs_of_2015.SHARED_BUFFERS})
    rng = np.random.default_rng(0)
    for _ in range(200):
        gradients, seconds = net.parameters().zeros_like(), net.parameters().zeros_like()
        gradients.flat[:] = -0.0125 * rng.choice([1, 1, 1, -1], gradients.flat.size)
        rule.step(gradients, seconds)
        assert rule.divisor >= 0.005


def test_fault_4_changes_the_output_gates_divisor_alone():
    gradients, seconds = derivatives_of(make(), 0)
    steps = {}
    for chosen in ((), (bugs_of_2015.FORGETS_H,)):
        net = make()
        before = net.parameters().flat.copy()
        rule = bugs_of_2015.Rule(net, chosen)
        for _ in range(2):
            rule.step(gradients, seconds)
        steps[chosen] = net.parameters().zeros_like()
        steps[chosen].flat[:] = net.parameters().flat - before
    found = errors(steps[(bugs_of_2015.FORGETS_H,)], steps[()])
    assert {name for name, error in found.items() if error > 1e-12} == {
        f"layers.0.{d}.{name}_o" for d in DIRECTIONS for name in "UW"
    }


def test_fault_5_keeps_the_starting_momenta_in_the_hidden_layers():
    one, two = make(), make()
    late, never = bugs_of_2015.Rule(one, bugs_of_2015.NONE), bugs_of_2015.Rule(two, {bugs_of_2015.MOMENTA})
    for step in range(32):
        same = np.array_equal(one.parameters().flat, two.parameters().flat)
        assert same == (step <= 30)
        for net, rule in ((one, late), (two, never)):
            rule.step(*derivatives_of(net, step))
    assert np.array_equal(one["output.S"], two["output.S"])


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_is_the_cost_the_derivatives_and_the_rule():
    sentences = generate_news(20, seed=1)
    for chosen in (bugs_of_2015.NONE, bugs_of_2015.ALL):
        one, batches = bugs_of_2015.news_windows(sentences, None, (3, 2), batch_size=6)
        two, _ = bugs_of_2015.news_windows(sentences, None, (3, 2), batch_size=6)
        history = bugs_of_2015.train(one, batches, 4, chosen, learning_rate=1e-2)
        rule, costs = bugs_of_2015.Rule(two, chosen, learning_rate=1e-2), []
        for step in range(4):
            x, y, _ = batches.batch(0, step)
            trace = two.forward(x)
            costs.append(two.loss(trace, y))
            pair = [bugs_of_2015.derivatives(two, trace, y, chosen, squared=squared) for squared in (False, True)]
            rule.step(*pair)
        assert np.allclose(history.cost, costs, rtol=1e-12)
        assert norm_error(one.parameters().flat, two.parameters().flat) <= 1e-11
        assert len(history.divisor) == len(history.gradient) == len(history.weight) == 4 and history.died is None


def test_training_stops_at_the_first_cost_that_is_no_number():
    net, batches = bugs_of_2015.news_windows(generate_news(20, seed=1), None, (3, 3, 3), batch_size=6)
    seen = []
    note = lambda step, cost: seen.append((step, cost))  # noqa: E731
    history = bugs_of_2015.train(net, batches, 300, learning_rate=0.5, on_step=note)
    assert history.died is not None and history.died == len(history.cost) < 300
    assert [step for step, _ in seen] == list(range(1, history.died + 1))
    assert np.isfinite(history.cost[:-1]).all() and len(history.divisor) == history.died - 1


def test_windows_of_five_with_a_class_for_padding():
    sentences = [TaggedSentence(["a", "b"], ["O", "X"]), TaggedSentence(["c"], ["X"])]
    net, batches = bugs_of_2015.news_windows(sentences, None, (2,), batch_size=3)
    batch = batches.batch(0, 0)
    assert batch.x.shape == batch.y.shape == (5, 3) and batch.lengths is None
    assert net.n_classes == 3 and ((batch.x == 0) == (batch.y == 0)).all()
    assert net.loss(net.forward(batch.x), batch.y) == pytest.approx(5 * np.log(3), rel=0.05)
    vectors = WordVectors(["a"], np.ones((1, 4), np.float32))
    assert bugs_of_2015.news_windows(sentences, vectors, (2,))[0].input_size == 4


@pytest.mark.parametrize(
    "error, argument, call",
    [
        (ValueError, "faults", lambda net, x, y: bugs_of_2015.Rule(net, {6})),
        (ValueError, "faults", lambda net, x, y: bugs_of_2015.derivatives(net, net.forward(x), y, {99})),
        (TypeError, "network", lambda net, x, y: bugs_of_2015.Rule(ln.LSTM(2, 3))),
        (ValueError, "network", lambda net, x, y: bugs_of_2015.Rule(make(merge="concat"))),
        (ValueError, "network", lambda net, x, y: bugs_of_2015.Rule(make(bias=True))),
        (ValueError, "network", lambda net, x, y: bugs_of_2015.Rule(make(bidirectional=False))),
        (ValueError, "network", lambda net, x, y: bugs_of_2015.Rule(make(gate="tanh"))),
        (ValueError, "y", lambda net, x, y: bugs_of_2015.derivatives(net, net.forward(x), y[:3])),
        (ValueError, "trace", lambda net, x, y: bugs_of_2015.derivatives(net, net.forward(x, [5, 4, 3, 2]), y)),
        (ValueError, "learning_rate", lambda net, x, y: bugs_of_2015.Rule(net, learning_rate=-1)),
        (ValueError, "steps", lambda net, x, y: bugs_of_2015.train(net, None, 0)),
    ],
)  # fmt: skip
def test_refuses(error, argument, call):
    with pytest.raises(error, match=rf"^{argument}: "):
        call(make(), *problem())


# -- faults that change no derivative: the engine doesn't have them ----------------------------------------------------


def test_prediction_has_the_recurrent_terms_of_every_layer():
    """Fault 6: of a trained net of two layers, the tagger's answers are those of the equations."""
    sentences = generate_news(30, seed=0)
    options = {"merge": "sum", "bias": False, "output_bias": False, "one_hot": True, "dtype": np.float64, "seed": 0}
    tagger = ln.Tagger((4, 3), window=5, **options).fit(sentences, epochs=1, show=False)
    words = sentences[0].words
    theta = {name: array for name, array in tagger.network.parameters().items()}
    trace = tagger.trace(words)
    p = naive_network.forward(theta, trace.x, merge="sum")["p"]
    assert norm_error(tagger.predict_proba([words])[0], p[2]) <= 1e-11
    without = {name: array * (not name.endswith("1.forward.W")) for name, array in theta.items()}
    assert norm_error(naive_network.forward(without, trace.x, merge="sum")["p"][2], p[2]) > 1e-4


def test_looking_words_up_changes_nothing():
    """Fault 9."""
    sentences = [TaggedSentence(["news", "about", "mars"], ["O", "O", "O"])]
    vocabulary = Vocabulary.from_sentences(sentences)
    vectors = WordVectors(["news"], np.ones((1, 2), np.float32))
    before = vocabulary.to_config(), list(vectors.words), vectors_for(vocabulary, vectors)[0].copy()
    vocabulary.encode(["venus", "news", "pluto"])
    assert "venus" not in vocabulary
    vectors_for(vocabulary, vectors)
    assert (vocabulary.to_config(), list(vectors.words)) == before[:2]
    assert np.array_equal(vectors_for(vocabulary, vectors)[0], before[2])


def test_every_epoch_has_the_same_number_of_updates():
    """Fault 12."""
    tagger, rates = ln.Tagger((2,), embedding_size=2, seed=0), []
    tagger.fit(generate_news(20, seed=0), epochs=3, batches_per_epoch=7, on_epoch=rates.append, show=False)
    assert tagger._optimizer.iteration == 21 and len(rates) == 3
    ids = [np.array([1, 2])] * 9
    for per_epoch in (None, 4):
        batches = Batches(ids, ids, 4, 0, per_epoch)
        assert [len(batches) for _ in range(3)] == [3 if per_epoch is None else 4] * 3


def test_a_cost_that_is_no_number_is_not_taken_for_one():
    """Fault 16."""
    log_p = np.full((1, 1, 3), np.nan)
    assert np.isnan(losses.negative_log_likelihood(log_p, np.zeros((1, 1), int)))


# -- the notebook's list -----------------------------------------------------------------------------------------------


def test_every_test_that_the_notebook_names_exists():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    rows = re.findall(r"^\| (\d+) \|.*\[`(test_\w+)`\]\(\.\./tests/([a-z]+/test_\w+\.py)\) \|$", prose, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 18))
    for _, name, file in rows:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, name)
