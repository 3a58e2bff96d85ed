"""The first figures, which the demo draws too: the block, the vanishing gradient, a trained tagger looked into."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from lstm_numba import plots
from lstm_numba.tutorials.gallery import Drawn, figure
from lstm_numba.tutorials.gallery.subjects import MAP_STEPS, OPEN, SEED, SEEDS, STEPS, Subjects

UNFOLDED_STEPS = 9


@figure("memory_block", notebook="03_the_memory_block.ipynb", title="The memory block of an LSTM")
def memory_block() -> Drawn:
    """Draw the diagram of the block."""
    return (
        plots.memory_block().figure.figure,
        "Diagram of the LSTM memory block. The input and the previous output reach the cell input and three gates by"
        " full connections, drawn as thick arrows. The last state, multiplied by the forget gate, and the squashed cell"
        " input, multiplied by the input gate, are added to the new state. Dashed peepholes lead from the"
        " cell to the gates: from the last state to the input and forget gates, from the new state to the output gate.",
        "Follow the thin arrows from the left: what comes in is squashed, multiplied by the input gate and added"
        " to what the cell held before, multiplied by the forget gate: as long as that gate is open, nothing is lost.",
    )


@figure(
    "unfolded_network",
    notebook="01_the_vanishing_gradient.ipynb",
    title="The unfolded net and what it remembers of its first input",
)
def unfolded_network(data: Subjects) -> Drawn:
    """Draw both unfolded nets, shaded by their sensitivity to the first input."""
    rnn, lstm = (data.nets.curves[kind][SEED, :UNFOLDED_STEPS] for kind in ("rnn", "open"))
    low, high = min(rnn.min(), lstm.min()), max(rnn.max(), lstm.max())
    with plots.style():
        page, (above, below) = plt.subplots(2, figsize=(plots.WIDTH, 4.4), layout="compressed")
        plots.unfolded_network(rnn, above, vmin=low, vmax=high, title="simple recurrent net", colorbar=False)
        plots.unfolded_network(lstm, below, vmin=low, vmax=high, title="LSTM with open forget gates")
    return (
        page,
        f"Two recurrent nets unfolded over {UNFOLDED_STEPS} time steps, each hidden node shaded by its sensitivity to"
        f" the first input. In the simple recurrent net the shade fades from {rnn[0]:.1g} to {rnn[-1]:.1g}; in the LSTM"
        f" whose forget gates are open it stays between {lstm.min():.1g} and {lstm.max():.1g}.",
        "A column is a time step, the hidden layer is the upper row. The darker a node, the more it still depends on"
        " the first input, which is filled black. After Graves (2012), figures 4.1 and 4.4, there drawn by hand.",
    )


@figure("vanishing_gradient", notebook="01_the_vanishing_gradient.ipynb", title="The vanishing gradient")
def vanishing_gradient(data: Subjects) -> Drawn:
    """Draw the sensitivity to the first input over time, of three untrained nets."""
    names = {"rnn": "simple\nrecurrent net", "lstm": "LSTM", "open": "LSTM, forget\ngates open"}
    ax = plots.decay({name: data.nets.curves[kind] for kind, name in names.items()}, title="The vanishing gradient")
    left = data.nets.left
    return (
        ax.figure.figure,
        f"Sensitivity of the output at each of {STEPS} time steps to the first input, on a logarithmic scale, of three"
        f" untrained nets. The simple recurrent net falls along a straight line to {left('rnn'):.0e} of its first"
        f" value, the LSTM to {left('lstm'):.0e}; that of the LSTM whose forget gates are"
        f" open ends at {left('open'):.2g} times its first value.",
        f"Each thin line is one of {SEEDS} nets with other initial weights and inputs, the thick one their median. A"
        " straight line on this scale is decay by the same factor every step. The forget gate alone would let the LSTM"
        f" keep σ(1) = 0.73 a step with the usual initial bias of 1, σ({OPEN:g}) = 0.95 with a bias of {OPEN:g}; other"
        " paths add to that.",
    )


@figure("sensitivity_map", notebook="07_sensitivity.ipynb", title="Which output feels which input")
def sensitivity_map(data: Subjects) -> Drawn:
    """Draw the maps of two untrained nets beside each other."""
    rnn, lstm = data.nets.maps["rnn"], data.nets.maps["lstm"]
    all_of_both = np.concatenate([S[np.triu_indices(MAP_STEPS)] for S in (rnn, lstm)])
    ends = {"vmin": all_of_both.min(), "vmax": all_of_both.max()}
    with plots.style():
        page, (left, right) = plt.subplots(1, 2, figsize=(11, 5.2), layout="compressed")
        plots.sensitivity_map(rnn, left, title="simple recurrent net", colorbar=False, **ends)
        plots.sensitivity_map(lstm, right, title="LSTM", **ends)
        right.set_ylabel("")
    return (
        page,
        f"Two triangular maps of the sensitivity of every output to every input over {MAP_STEPS} steps, on one"
        f" logarithmic scale. From the first input to the last output it falls from {rnn[0, 0]:.1g} to {rnn[0, -1]:.0e}"
        f" in the simple recurrent net, and from {lstm[0, 0]:.1g} to {lstm[0, -1]:.0e} in the LSTM.",
        "A row is an input: follow it to the right to see which outputs depend on it. A column is an output: follow it"
        " up from the diagonal to see what it depends on. Nothing reaches back in time, so the lower left is empty.",
    )


@figure("learning_curves", notebook="08_tagging_news_queries.ipynb", title="Learning to tag queries")
def learning_curves(data: Subjects) -> Drawn:
    """Draw loss and accuracy over the epochs."""
    history = data.trained.tagger.history
    loss, accuracy = history["loss"], history["accuracy"]
    ax = plots.learning_curves({"loss": loss, "accuracy": accuracy}, title="Learning to tag queries")
    return (
        ax.figure.figure,
        f"Loss and accuracy on the training part over {len(loss)} epochs: the loss falls from {loss[0]:.0f} to"
        f" {loss[-1]:.1g}, the accuracy rises from {accuracy[0]:.0%} to {accuracy[-1]:.0%}.",
        "Measured in training, with words dropped and units switched off. What counts is the accuracy on the test part,"
        f" which training never sees: {data.trained.accuracy:.1%} of its words are right.",
    )


@figure("confusion_matrix", notebook="08_tagging_news_queries.ipynb", title="What is taken for what")
def confusion_matrix(data: Subjects) -> Drawn:
    """Draw true labels against predicted ones."""
    tagger = data.trained.tagger
    counts = tagger.confusion(data.trained.test)
    ax = plots.confusion_matrix(counts, tagger.labels, title="Test part: labels and answers")
    return (
        ax.figure.figure,
        f"Matrix of true labels and predicted labels of the test part's {counts.sum()} words. All but"
        f" {counts.sum() - np.trace(counts)} are on the diagonal.",
        "A row is a true label, its cells are the answers given. What is off the diagonal is wrong.",
    )


@figure("sensitivity_query", notebook="07_sensitivity.ipynb", title="What each word's state depends on")
def sensitivity_query(data: Subjects) -> Drawn:
    """Draw the map of the trained first layer over the words of a query."""
    words, S = data.trained.query.words, data.trained.sensitivity
    others = ~np.eye(len(S), dtype=bool)
    own, other = S.diagonal().mean(), S[others].mean()
    s, t = np.unravel_index(np.argmax(S * others), S.shape)
    ax = plots.sensitivity_map(S, words=words, direction="both", title="What each word's state depends on")
    ax.set(xlabel="state $h^t$ of the first layer at", ylabel="input $x^s$")
    return (
        ax.figure.figure,
        f"Map of the trained first layer for the query “{' '.join(words)}”: how much the state at each word depends on"
        f" each word, on a logarithmic scale from {S.min():.1g} to {S.max():.1g}. On average it is {own:.1g} for the"
        f" word itself and {other:.1g} for another word. Of another word, the state at “{words[t]}” depends most: on"
        f" “{words[s]}”.",
        "A column is the state from which a word's label is read. Above the diagonal are the words before it, which the"
        " forward direction brings; below it the words after it, which the backward direction brings.",
    )


@figure("gates", notebook="08_tagging_news_queries.ipynb", title="A query passes through the gates")
def gates(data: Subjects) -> Drawn:
    """Draw every gate and cell of the trained first layer over a query."""
    net = data.trained
    units = net.units()
    page = plots.gates(
        {name: getattr(net.trace, name)[:, 0] for name in ("i", "f", "o", "g", "c", "h")},
        words=net.query.words,
        labels=net.answer,
        units=units,
        title="A query passes through the gates",
        units_name=f"{len(units)} units, the most forgetful above",
    )
    return (
        page,
        "Heat maps of the input, forget and output gates, the cell input, the cell state and the output of"
        f" {len(units)} units of the trained forward layer, word by word for the query “{' '.join(net.query.words)}”,"
        " with the predicted label of each word.",
        f"A row is a unit, a column a word. Drawn are the {len(units)} units whose cells move most, sorted by how far"
        " their forget gate is open on average. Where a forget gate closes (light), the cell below it lets its past"
        " go.",
    )
