"""Figures of notebook 10: a net that reads Python's documentation by the letter, and its cell for quotation marks.

The text comes with Python (`lstm_numba.data.load_pydoc`), so another version of Python gives other figures.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba.data import load_pydoc
from lstm_numba.data.letters import column, distinct_paragraphs, indentation, inside_parentheses, inside_quotes
from lstm_numba.instruments.unit_probes import Tracking, auc, correlation, letter_guess, track
from lstm_numba.models.character_model import CharacterModel, CharacterNetwork
from lstm_numba.tutorials.gallery import Drawn, figure

NOTEBOOK = "10_reading_a_page_letter_by_letter.ipynb"
EPOCHS, UNITS, SEED = 3, 128, 0
BEFORE = 500  # letters that the model reads before the paragraph that is drawn


class Read(NamedTuple):
    """A trained model, the parts of the text it has not learned from, and what was found in it."""

    model: CharacterModel
    choose: str
    test: str
    mark: str
    found: dict[str, Tracking]
    scores: dict[str, dict[str, float]]


@cache
def _read() -> Read:
    """Train for a few epochs and look for cells that follow a property of the text."""
    text = distinct_paragraphs(load_pydoc())
    n = len(text) * 9 // 10
    choose, test = text[n : (n + len(text)) // 2], text[(n + len(text)) // 2 :]
    mark = max('"`', key=text.count)
    model = CharacterModel((UNITS,), seed=SEED).fit(text[:n], epochs=EPOCHS, show=False)
    untrained = CharacterModel((UNITS,), seed=SEED)
    untrained.alphabet = model.alphabet
    untrained.network = CharacterNetwork(len(model.alphabet), (UNITS,), seed=SEED)
    cells, others = ([each.cells(part) for part in (choose, test)] for each in (model, untrained))
    rules = {
        "inside quotes": lambda part: inside_quotes(part, mark),
        "inside parentheses": inside_parentheses,
        "column": column,
        "indentation": indentation,
    }
    found, scores = {}, {}
    for name, rule in rules.items():
        here, there = rule(choose), rule(test)
        found[name] = track(cells[0], here, cells[1], there)
        alone = (auc if there.dtype == bool else correlation)(letter_guess(choose, here, test), there)
        scores[name] = {
            "best cell": found[name].score,
            "untrained": track(others[0], here, others[1], there).score,
            "letter alone": float(alone[0]),
        }
    return Read(model, choose, test, mark, found, scores)


@figure("cells_and_chance", notebook=NOTEBOOK, title="A cell for quotation marks, and what luck gives")
def cells_and_chance() -> Drawn:
    """Scores of the best cell for each of four properties, beside three comparisons."""
    import matplotlib.pyplot as plt

    from lstm_numba import plots

    read = _read()
    with plots.style():
        drawn, axes = plt.subplots(2, 1, figsize=(plots.WIDTH, 6.0), layout="constrained")
        for ax, kind, nothing, label in ((axes[0], "AUC", 0.5, "AUC"), (axes[1], "r", 0.0, "correlation r")):
            own = {name: row for name, row in read.scores.items() if read.found[name].measure == kind}
            luck = {name: read.found[name].chance for name in own}
            plots.scores_and_chance(own, luck, ax, xlabel=label, nothing=nothing)
        axes[0].get_legend().remove()
    said = " ".join(
        f"{name.capitalize()}: best cell {row['best cell']:.2f}, best untrained cell {row['untrained']:.2f},"
        f" letter alone {row['letter alone']:.2f},"
        f" luck {read.found[name].chance.min():.2f} to {read.found[name].chance.max():.2f}."
        for name, row in read.scores.items()
    )
    return (
        drawn,
        f"Scores of the best of {UNITS} cells of a character model for four properties of the text. {said}",
        "A marker is a score on text that neither training nor the choice of the cell has seen; the grey bar is what"
        " the best of all cells reaches for the same property slid along the text. A marker inside its bar is no find.",
    )


def _excerpt(read: Read) -> tuple[str, NDArray, NDArray]:
    """A paragraph with many quotations, and the state and forget gate of the cell for quotes over it."""
    paragraphs = [p for p in read.test.split("\n\n")[1:-1] if 250 <= len(p) <= 420]
    excerpt = max(paragraphs, key=lambda p: p.count(read.mark) / len(p))
    start = read.test.index(excerpt)
    state = read.model.read(read.test[max(0, start - BEFORE) : start]).state if start else None
    reading = read.model.read(excerpt, state)
    cell = read.found["inside quotes"].cell
    return excerpt, reading.cells("c")[:, cell], reading.cells("f")[:, cell]


@figure("quote_cell", notebook=NOTEBOOK, title="A cell that knows whether it is inside quotation marks")
def quote_cell() -> Drawn:
    """The state of one cell over a paragraph."""
    from lstm_numba import plots

    read = _read()
    excerpt, c, _ = _excerpt(read)
    inside = inside_quotes(excerpt, read.mark)
    cell = read.found["inside quotes"].cell
    ax = plots.coloured_letters(excerpt, c, signed=True, label=f"cell state $c^t$ of cell {cell}")
    return (
        ax.figure.figure,
        f"A paragraph of {len(excerpt)} letters, each on the colour of one cell's state after it. On average the state"
        f" is {c[inside].mean():+.1f} inside quotation marks and {c[~inside].mean():+.1f} outside.",
        f"The net was never told about quotation marks. Of its {UNITS} cells, this one separates letters inside from"
        f" letters outside with an AUC of {read.found['inside quotes'].score:.2f} on held-out text. A. Karpathy, J."
        " Johnson and L. Fei-Fei found such cells in 2015.",
    )


@figure("quote_cell_forget_gate", notebook=NOTEBOOK, title="When the cell for quotation marks forgets")
def quote_cell_forget_gate() -> Drawn:
    """The forget gate of the same cell over the same paragraph."""
    from lstm_numba import plots

    read = _read()
    excerpt, _, f = _excerpt(read)
    ax = plots.coloured_letters(excerpt, f, vmax=1.0, label="forget gate $f^t$ of the same cell")
    marks = np.array([letter == read.mark for letter in excerpt])
    return (
        ax.figure.figure,
        f"The same paragraph on the colours of the cell's forget gate: {f[marks].mean():.2f} on average at the"
        f" quotation marks, {f[~marks].mean():.2f} at all other letters.",
        "Dark is open: the cell keeps what it has. Where the gate is lighter it lets go.",
    )
