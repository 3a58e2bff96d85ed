"""Arguments of a wrong type: every public function names the argument, what it expected, and what came."""

from __future__ import annotations

import inspect
import re
import tempfile
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba import plots, studies

ONE, TWO, THREE = np.ones(3), np.eye(3), np.ones((3, 1, 2))
CURVES = {"a": ONE, "b": 2 * ONE}
TRACE: dict[str, Any] = {name: np.full((3, 2), 0.5) for name in "ifogch"}
LAYER = ln.LSTM(2, 2, seed=0)
FULL = LAYER.forward(THREE)
FIGURE = plt.figure()

SENTENCES = [ln.data.TaggedSentence(["a", "b"], ["X", "Y"])]
TAGGER = ln.Tagger(hidden_sizes=(2,), embedding_size=2, seed=0).fit(SENTENCES, epochs=1, show=False)

STUDY = tempfile.mkdtemp()
studies.run(studies.task("parity", length=2), "rnn", seeds=[0], sequences=4, folder=STUDY)

# A call that works, of each function.
# ruff: noqa: E501
GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    "backward_step": (plots.backward_step, {"epsilons": CURVES, "step": 1, "reference": 1.0}),
    "block_history": (plots.block_history, {"trace": FULL, "unit": 0, "sequence": 0}),
    "block_over_time": (plots.block_over_time, {"c": ONE, "h": ONE, "ax": None, "t": 1, "limit": 2.0}),
    "block_step": (plots.block_step, {"trace": FULL, "t": 0, "ax": None, "unit": 0, "sequence": 0}),
    "coloured_letters": (plots.coloured_letters, {"text": "abc", "values": ONE, "ax": None, "vmax": 1.0, "columns": 80}),
    "coloured_letters_html": (plots.coloured_letters_html, {"text": "abc", "values": ONE, "alt": "abc", "vmax": 1.0}),
    "confusion_matrix": (plots.confusion_matrix, {"counts": np.eye(3, dtype=int), "labels": ["a", "b", "c"], "ax": None}),
    "decay": (plots.decay, {"curves": CURVES, "ax": None, "references": {"r": ONE}, "labels": None}),
    "error_dots": (plots.error_dots, {"errors": CURVES, "ax": None, "references": {"r": 1.0}, "emphasis": "a"}),
    "forecasts": (plots.forecasts, {"times": ONE.cumsum(), "measured": ONE, "curves": CURVES, "ax": None, "split": 2.0}),
    "functions": (plots.functions, {"x": ONE.cumsum(), "curves": CURVES, "ax": None, "ylim": (0, 1)}),
    "gates": (plots.gates, {"trace": TRACE, "words": ["a", "b", "c"], "units": [0, 1], "sequence": 0}),
    "gradient_errors": (
        plots.gradient_errors,
        {"errors": TWO, "mistakes": ["a", "b", "c"], "tests": ["d", "e", "f"], "ax": None, "tolerance": 1e-6},
    ),
    "growth_rates": (plots.growth_rates, {"settings": ONE.cumsum(), "measured": TWO + 1, "ax": None, "predictions": CURVES}),
    "ladder": (plots.ladder, {"times": {"a": 1.0, "b": 2.0}, "ax": None, "limit": 0.5}),
    "learning_curves": (plots.learning_curves, {"history": {"epoch": [1, 2], "loss": [2, 1]}, "ax": None, "best": 1}),
    "memory_block": (plots.memory_block, {"ax": None}),
    "packed_weights": (plots.packed_weights, {"hidden_size": 8, "depth": 3, "lanes": 4, "vectors": 4, "rows": 6}),
    "scores_and_chance": (
        plots.scores_and_chance,
        {"scores": {"a": {"x": 1.0}}, "chance": {"a": ONE}, "ax": None, "nothing": 0.0},
    ),
    "sensitivity_map": (
        plots.sensitivity_map,
        {"S": TWO, "ax": None, "direction": "forward", "words": ["a", "b", "c"], "vmin": 0.1, "vmax": 1.0},
    ),
    "shares": (plots.shares, {"values": TWO, "rows": ["a", "b", "c"], "series": ["d", "e", "f"], "ax": None}),
    "solved_shares": (plots.solved_shares, {"lags": [1, 2], "shares": {"a": np.full((2, 3), 0.5)}, "ax": None}),
    "spread_of_curves": (plots.spread_of_curves, {"curves": {"a": [(ONE, ONE)]}, "ax": None, "limit": 1.0}),
    "variant_boxes": (plots.variant_boxes, {"values": CURVES, "ax": None, "base": "a", "solved": {"a": "1/2"}}),
    "step_curves": (plots.step_curves, {"curves": CURVES, "ax": None, "scale": "log", "top": 2.0, "level": 1.0}),
    "unfolded_gates": (
        plots.unfolded_gates,
        {"i": ONE, "f": ONE, "o": ONE, "cell": ONE, "outputs": ONE, "ax": None, "words": ["a", "b", "c"]},
    ),
    "unfolded_network": (
        plots.unfolded_network,
        {"sensitivity": ONE, "ax": None, "outputs": ONE, "words": ["a", "b", "c"], "vmin": 0.1, "vmax": 1.0},
    ),
    "unit_maps": (plots.unit_maps, {"arrays": TRACE, "x": TWO[:, :2], "units": [0, 1], "first": 1, "x_names": ["a", "b"]}),
    "vanishing_gradient": (plots.vanishing_gradient, {"rnn_curve": ONE, "lstm_curve": ONE, "ax": None}),
    "word_sensitivity": (
        plots.word_sensitivity,
        {"values": ONE, "words": ["a", "b", "c"], "ax": None, "targets": 1, "labels": ["x"], "vmax": 1.0},
    ),
    "save": (plots.save, {"figure": FIGURE, "path_stem": "nowhere/x", "alt": "a", "formats": ("svg",)}),
    "adam": (ln.Adam, {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.9, "epsilon": 1e-8}),
    "rule 2015": (ln.Rule2015, {"learning_rate": 0.1, "mu": 0.1, "early": (0.5, 0.5), "late": (0.5, 0.5), "switch": 3}),
    "sgd": (ln.SGD, {"learning_rate": 0.1, "momentum": 0.9}),
    "lstm": (ln.LSTM, {"input_size": 2, "hidden_size": 2, "gate": "sigmoid", "forget_bias": 1.0, "dtype": "float32"}),
    "rnn": (ln.SimpleRNN, {"input_size": 2, "hidden_size": 2, "nonlinearity": "tanh", "init": "glorot", "seed": 0}),
    "gru": (ln.GRU, {"input_size": 2, "hidden_size": 2, "reset_after": True, "candidate": "tanh", "seed": 0}),
    "recurrent": (ln.Recurrent, {"cell": ln.cells.lstm, "input_size": 2, "hidden_size": 2, "bias": True, "seed": 0}),
    "stack": (ln.Stack, {"input_size": 2, "hidden_sizes": (2,), "bidirectional": True, "merge": "sum", "seed": 0}),
    "network": (
        ln.Network,
        {"input_size": 2, "n_classes": 2, "hidden_sizes": (2,), "dropout": 0.5, "weight_decay": 0.1, "loss": "all"},
    ),
    "tagger": (
        ln.Tagger,
        {"hidden_sizes": (2,), "window": 3, "embedding_size": 2, "min_count": 1, "word_vectors": None, "seed": 0},
    ),
    "character model": (ln.CharacterModel, {"hidden_sizes": (2,), "cell": "lstm", "dtype": "float32", "seed": 0}),
    "cell": (ln.cell, {"function": "def plain(a, h_prev):\n    h = tanh(a)\n    return h\n"}),
    "gradcheck": (
        ln.gradcheck,
        {"layer_or_network": ln.SimpleRNN(1, 1, dtype="float64"), "x": THREE[:, :, :1], "step": 1e-3, "tolerance": 1e-3,
         "max_entries": 1, "lengths": [3], "seed": 0},
    ),
    "jacobian": (ln.jacobian, {"layer": LAYER, "x": THREE, "t": 1, "s": 0, "of": "h", "wrt": "x", "lengths": [3]}),
    "sensitivity": (
        ln.sensitivity,
        {"layer": LAYER, "x": THREE, "of": "h", "wrt": "x", "t": 1, "s": 0, "lengths": [3], "norm": "frobenius"},
    ),
    "step_jacobians": (ln.step_jacobians, {"trace": FULL}),
    "replacement_effects": (ln.replacement_effects, {"tagger": TAGGER, "words": ["a"], "labels": ["X"], "by": "b"}),
    "tag_sensitivity": (ln.tag_sensitivity, {"tagger": TAGGER, "words": ["a"], "labels": ["X"], "of": "log_odds"}),
    "forward": (LAYER.forward, {"x": THREE, "h0": np.ones((1, 2)), "lengths": [3]}),
    "backward": (LAYER.backward, {"trace": FULL, "dh": THREE, "dh_last": np.ones((1, 2))}),
    "set_num_threads": (ln.set_num_threads, {"n": 1}),
    "torch_state_dict": (ln.torch_state_dict, {"model": ln.LSTM(1, 1, peepholes=False), "prefix": "a."}),
    "study": (
        partial(studies.run, sequences=4),
        {"tasks": studies.task("parity", length=2), "cells": "rnn", "hidden_size": 2, "learning_rate": 0.1,
         "forget_bias": 1.0, "seeds": [0], "batch_size": 2, "clip": 1.0, "executor": None, "folder": None},
    ),
    "study, resumed": (studies.resume, {"folder": STUDY, "executor": None}),
    "study, read": (studies.read, {"folder": STUDY}),
    "a task": (studies.task, {"name": "parity", "length": 3}),
    "wilson": (studies.wilson, {"successes": 1, "n": 2}),
    "holm": (studies.holm, {"p_values": [0.1, 0.2]}),
    "rank_test": (studies.rank_test, {"sequences": ONE, "others": 2 * ONE}),
    "from_keras": (ln.from_keras, {"source": ([np.ones((1, 4)), np.ones((1, 4)), np.ones(4)]), "activation": "tanh"}),
}  # fmt: skip

WRONG: dict[str, Any] = {
    "an object": object(),
    "text": "text",
    "a number": 3,
    "a fraction below 0": -1.5,
    "NaN": float("nan"),
    "a ragged list": [[1.0], [1.0, 2.0]],
    "four axes": np.zeros((2, 2, 2, 2)),
    "no axes": np.array(1.0),
    "objects": np.array([object()]),
    "a list of objects": [object(), object(), object()],
    "a mapping of objects": {"a": object()},
    "complex numbers": np.ones(3) * 1j,
    "nothing": None,
    "an empty list": [],
    "a function": len,
}
# Names that errors have for an argument beside its own.
ALSO = {"cell": "cell", "study": "cell", "a task": "task"}
PLACES = [(name, argument) for name, (_, good) in GOOD.items() for argument in good]


@pytest.mark.parametrize("name", GOOD)
def test_the_call_works_as_it_is(name, tmp_path, monkeypatch):
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path)
    function, good = GOOD[name]
    function(**good)
    plt.close("all")


@pytest.mark.parametrize(("name", "argument"), PLACES)
def test_a_wrong_argument_is_named_with_what_was_expected_and_what_came(name, argument, tmp_path, monkeypatch):
    (tmp_path / "nowhere").mkdir()
    monkeypatch.chdir(tmp_path)
    threads = ln.get_num_threads()
    function, good = GOOD[name]
    names = "|".join((*good, ALSO.get(name, argument)))
    problems = []
    for what, wrong in WRONG.items():
        try:
            function(**good | {argument: wrong})
        except FileNotFoundError as error:
            assert what == "text", error  # taken for a path
        except (ValueError, TypeError) as error:
            if not re.search(rf"\b({names})\b.*(expected|got|must)", str(error), re.DOTALL):
                problems.append(f"{what}: {type(error).__name__}: {error}")
        except Exception as error:
            problems.append(f"{what}: {type(error).__name__}: {error}")
        finally:
            plt.close("all")
            ln.set_num_threads(threads)
    assert not problems, "\n".join(problems)


def test_every_plot_is_in_the_table():
    functions = {name for name in plots.__all__ if inspect.isfunction(getattr(plots, name))}
    assert functions - set(GOOD) == {"style", "show", "number_steps", "backward_animation"}


def test_a_plot_takes_axes_if_and_only_if_it_returns_them():
    """Those with several panels return their figure."""
    for name, (function, _) in GOOD.items():
        if function.__module__.startswith("lstm_numba.plots"):
            signature = inspect.signature(function)
            assert ("ax" in signature.parameters) == (signature.return_annotation == "Axes"), name
