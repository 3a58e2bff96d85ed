"""What holds for every task: shapes, seeds, what counts as right, and settings that make no sense."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_numba import studies
from lstm_numba.studies.tasks import TASKS as REGISTERED
from lstm_numba.studies.tasks import Criterion, Suggested

# Without those that other tests register.
TASKS = {name: kind for name, kind in REGISTERED.items() if kind.__module__.startswith("lstm_numba.")}
NEEDS = {"pixels": "sklearn"}
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(NEEDS.get(name, "numpy")) is None, reason=f"{NEEDS.get(name)} is not installed"
        ),
    )
    for name in sorted(TASKS)
]
every_task = pytest.mark.parametrize("name", NAMES)


def drawn(name, B=5, seed=0, **settings):
    task = studies.task(name, **settings)
    return task, task.minibatch(np.random.default_rng(seed), B)


def right_answers(task, minibatch):
    """Outputs without any error."""
    if minibatch.truth is not None:
        return minibatch.truth.astype(np.float32)
    if task.loss == "cross_entropy":
        return np.eye(task.output_size, dtype=np.float32)[minibatch.targets]
    return minibatch.targets.copy()


def test_all_tasks_of_the_literature_are_there():
    assert sorted(TASKS) == [
        *("adding", "brackets", "continual_reber", "copying", "lag_2a", "lag_2b", "lag_2c", "multiplication"),
        *("news_queries", "noise_3a", "noise_3b", "noise_3c", "parity", "periodic_function", "pixels", "reber"),
        *("spike_delays", "temporal_order_6a", "temporal_order_6b", "timed_spikes"),
    ]


@every_task
def test_a_minibatch_has_the_promised_shapes(name):
    task, (x, targets, mask, lengths, truth) = drawn(name)
    T = x.shape[0]
    assert x.shape == (T, 5, task.input_size) and x.dtype == np.float32 and x.flags.c_contiguous
    assert mask.shape == (T, 5) and mask.dtype == np.float32
    assert set(np.unique(mask)) <= {0, 1} and (mask.sum(axis=0) >= 1).all()
    if task.loss == "cross_entropy":
        assert targets.shape == (T, 5) and targets.dtype == np.int64
        assert targets.min() >= 0 and targets.max() < task.output_size
    else:
        assert targets.shape == (T, 5, task.output_size) and targets.dtype == np.float32
    assert truth is None or truth.shape == (T, 5, task.output_size)
    assert np.isfinite(x).all() and np.isfinite(targets).all()
    if lengths is not None:
        assert lengths.shape == (5,) and lengths.dtype == np.int64 and lengths.max() == T


@every_task
def test_nothing_is_there_after_a_sequence_s_end(name):
    for seed in range(3):
        _, (x, targets, mask, lengths, _) = drawn(name, seed=seed)
        assert not targets[mask == 0].any()
        if lengths is not None:
            after = np.arange(len(x))[:, None] >= lengths
            assert not mask[after].any() and not x[after].any()


@every_task
def test_only_the_generator_decides(name):
    task, first = drawn(name, seed=7)
    again = task.minibatch(np.random.default_rng(7), 5)
    for one, other in zip(first, again, strict=True):
        assert one is other is None or np.array_equal(one, other)
    rng = np.random.default_rng(7)
    task.minibatch(rng, 5)
    after = task.minibatch(rng, 5)
    endless = name != "periodic_function"
    assert endless != (after.x.shape == first.x.shape and np.array_equal(after.x, first.x))


@every_task
def test_right_answers_are_right_and_one_wrong_step_is_wrong(name):
    task, minibatch = drawn(name, seed=1)
    outputs = right_answers(task, minibatch)
    assert task.judged(outputs, minibatch)[0].tolist() == [True] * 5
    assert np.allclose(task.judged(outputs, minibatch)[1][minibatch.mask.sum(axis=0) == 1], 0)

    for b in range(5):
        step = np.flatnonzero(minibatch.mask[:, b])[-1]
        wrong = outputs.copy()
        wrong[step, b] = 1 - wrong[step, b]
        if task.loss == "squared_error":
            wrong[step, b] = outputs[step, b] + 1.01 * task.tolerance
        assert task.judged(wrong, minibatch)[0].tolist() == [n != b for n in range(5)]
        assert np.argmax(task.judged(wrong, minibatch)[1] - task.judged(outputs, minibatch)[1]) == b


@every_task
def test_what_is_no_number_is_never_right(name):
    task, minibatch = drawn(name)
    outputs = np.full((*minibatch.mask.shape, task.output_size), np.nan, np.float32)
    assert not task.judged(outputs, minibatch)[0].any()


@every_task
def test_what_does_not_count_does_not_matter(name):
    task, minibatch = drawn(name)
    outputs = right_answers(task, minibatch)
    outputs[minibatch.mask == 0] = np.nan
    assert task.judged(outputs, minibatch)[0].all()


@every_task
def test_a_test_has_as_many_sequences_as_the_criterion_says(name):
    task = studies.task(name)
    if task.criterion.sequences < 1000:
        assert task.test(np.random.default_rng(0)).x.shape[1] == task.criterion.sequences


@every_task
def test_what_a_run_asks_for(name):
    task = studies.task(name)
    assert isinstance(task.criterion, Criterion) and task.criterion.of in ("training", "test")
    assert 0 <= task.criterion.wrong_at_most < task.criterion.sequences
    assert isinstance(task.suggested, Suggested) and task.suggested.sequences > task.criterion.sequences
    assert json.loads(json.dumps(task.settings)) == task.settings
    assert studies.task(name, **task.settings) == task and hash(task) == hash(studies.task(name))
    for setting, value in task.settings.items():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(task, setting, value)
    for what in ("right", "solved"):
        assert what in type(task).__doc__ + type(task).__mro__[1].__doc__


@given(st.data())
def test_any_settings_that_make_sense(data):
    name = data.draw(st.sampled_from(sorted(set(TASKS) - {"pixels", "news_queries"})))
    least = {"length": 11, "interval": 2, "delays": 2, "alphabet": 2, "period": 2, "lag": 2}
    fields = [each.name for each in dataclasses.fields(TASKS[name]) if each.name != "shape"]
    chosen = {each: data.draw(st.integers(least.get(each, 1), least.get(each, 1) + 9)) for each in fields}
    B = data.draw(st.integers(1, 4))
    task, minibatch = drawn(name, B=B, seed=data.draw(st.integers(0, 9)), **chosen)
    assert minibatch.x.shape[1:] == (B, task.input_size)
    assert task.judged(right_answers(task, minibatch), minibatch)[0].all()


def test_an_unknown_task_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"task: expected one of 'adding', 'brackets', .*, got 'addition'"):
        studies.task("addition")


def test_an_unknown_setting_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"setting of timed_spikes: expected one of 'interval', .*, got 'length'"):
        studies.task("timed_spikes", length=10)


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("adding", {"length": 10}, "length: expected at least 11, got 10"),
        ("temporal_order_6b", {"length": 9}, "length: expected at least 10, got 9"),
        ("lag_2a", {"lag": 1}, "lag: expected at least 2, got 1"),
        ("noise_3a", {"length": 3}, "informative: expected less than the length 3, got 3"),
        ("spike_delays", {"delays": 1}, "delays: expected at least 2, got 1"),
        (
            "periodic_function",
            {"shape": "sine"},
            "shape: expected one of 'cosine', 'triangle', 'rectangle', got 'sine'",
        ),
        ("copying", {"alphabet": 1}, "alphabet: expected at least 2, got 1"),
        ("brackets", {"depth": 0}, "depth: expected at least 1, got 0"),
        ("news_queries", {"delay": -1}, "delay: expected at least 0, got -1"),
        ("pixels", {"order": "columns"}, "order: expected one of 'rows', 'shuffled', got 'columns'"),
    ],
)
def test_settings_out_of_range(name, settings, text):
    with pytest.raises(ValueError, match=text):
        studies.task(name, **settings)


def test_settings_of_another_type():
    with pytest.raises(TypeError, match=r"length: expected a whole number, got 1\.5"):
        studies.task("adding", length=1.5)
    assert studies.task("adding", length=np.int64(50)).settings == {"length": 50}
