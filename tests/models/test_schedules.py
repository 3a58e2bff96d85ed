"""A schedule of one's own: what it does to training, and how training goes on with it."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba import SGD, Tagger
from lstm_numba.data import generate_news

TRAIN = generate_news(30, seed=1)


def make():
    return Tagger(hidden_sizes=(4,), embedding_size=4, seed=0)


def half(share):
    return 1.0 if share < 0.5 else 0.1


def test_a_function_may_be_the_schedule_and_is_given_again_to_resume(tmp_path):
    options = {"batch_size": 6, "optimizer": SGD(0.04), "show": False}
    straight = make().fit(TRAIN, epochs=4, schedule=lambda share: 1 - share, **options)
    named = make().fit(TRAIN, epochs=4, schedule="linear", **options)
    np.testing.assert_array_equal(straight.network.parameters().flat, named.network.parameters().flat)

    path = tmp_path / "half.safetensors"
    whole = make().fit(TRAIN, epochs=4, schedule=half, **options)
    with pytest.raises(Interrupted):
        make().fit(TRAIN, epochs=4, schedule=half, checkpoint=path, on_epoch=interrupt_after(2), **options)
    part = Tagger.load(path)
    with pytest.raises(ValueError, match="schedule: expected the function with which training began"):
        part.fit(TRAIN, epochs=4, resume=True, show=False)
    part.fit(TRAIN, epochs=4, resume=True, schedule=half, show=False)
    np.testing.assert_array_equal(part.network.parameters().flat, whole.network.parameters().flat)


@pytest.mark.parametrize("factor", [-1.0, np.nan, "1"])
def test_a_schedule_s_factor_is_checked(factor):
    with pytest.raises((ValueError, TypeError), match="schedule: expected"):
        make().fit(TRAIN, epochs=1, schedule=lambda share: factor, show=False)


class Interrupted(Exception):
    pass


def interrupt_after(epochs):
    rows = []

    def on_epoch(row):
        rows.append(row)
        if len(rows) == epochs:
            raise Interrupted

    return on_epoch
