"""Draw figures of the gallery as `lstm_numba.tutorials.gallery.draw` does, of less data and after less training.

    python tests/small_figures.py FOLDER [NAME ...]

What costs minutes is made small: the taggers learn a few queries, the model of letters a part of the documentation,
the programs of 2015 a few updates, the animation has a few
frames. All else, above all the drawing, is the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from lstm_numba.data import generate_news, load_pydoc
from lstm_numba.tutorials import gallery
from lstm_numba.tutorials.gallery import n01_vanishing, n07_sensitivity, n09_faults, n10_letters, subjects

QUERIES, EPOCHS, UPDATES, LETTERS, FRAMES = 100, 3, 6, 80_000, 6


def few_queries() -> subjects.Data:
    text = f"{QUERIES} generated news queries"
    return subjects.Data("generated", text, generate_news(QUERIES), None, ["--generated"])


def some_of_pydoc() -> str:
    return load_pydoc()[:LETTERS]


@contextmanager
def small() -> Iterator[subjects.Subjects]:
    """Have the figures' modules work on little; yields the `Subjects` to draw."""
    with ExitStack() as stack:
        for module, name, value in (
            (subjects, "generated_queries", few_queries),
            (n01_vanishing, "PASS_STEPS", FRAMES),
            (n09_faults, "STEPS", UPDATES),
            (n10_letters, "load_pydoc", some_of_pydoc),
            (n10_letters, "EPOCHS", 1),
        ):
            stack.enter_context(patch.object(module, name, value))
        for kept in (n07_sensitivity._pair, n10_letters._read):
            kept.cache_clear()
            stack.callback(kept.cache_clear)
        yield subjects.Subjects(trained=subjects.train(few_queries(), epochs=EPOCHS, show=False))


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    with small() as data:
        gallery.draw(Path(folder), names or None, data=data)
