"""Figures of notebook 05: a value held for a hundred steps, and how fast the derivative of the cell decays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba.layers.lstm import LSTM
from lstm_numba.tutorials.gallery import Drawn, figure, without_window

NOTEBOOK = "05_gates_and_memory.ipynb"

# The entries of the input of a memory by hand.
VALUE, WRITE, KEEP, READ = range(4)

# Sizes of ∂cᵗ/∂c⁰ over 20 steps, as printed in github.com/keras-team/keras/issues/16151 (2022) for a Keras LSTM of 200
# units: the mean of |∂(Σₙ cₙᵗ)/∂c⁰| over units and sequences. The table that is averaged there begins with as many rows
# of zeros as it has measurements, so the mean is twice as large.
POSTED: tuple[float, ...] = (
    *(0.3665247, 0.26928115, 0.1976515, 0.14535545, 0.10950759, 0.08470534, 0.06685485, 0.05372887, 0.04372946),
    *(0.03605935, 0.03003456, 0.02522282, 0.0212584, 0.0179563, 0.01519926, 0.01289501, 0.01096781, 0.00932435),
    *(0.00791104, 0.00670664),
)


def memory_by_hand() -> LSTM:
    """Return a block whose gates are inputs: xᵗ = (value, write, keep, read), the last three 0 or 1.

    Each gate has a weight of 2000 to its input and a bias of -1000, so that it is exactly 0 or 1. The value comes in as
    tanh(value) and goes out as tanh(c).
    """
    layer = LSTM(4, 1, peepholes=False, dtype=np.float64, seed=0)
    layer["U"][:] = 0
    layer["W"][:] = 0
    layer["b"][:] = 0
    layer["U_c"][0, VALUE] = 1
    for gate, command in (("i", WRITE), ("f", KEEP), ("o", READ)):
        layer[f"U_{gate}"][0, command] = 2000
        layer[f"b_{gate}"][:] = -1000
    return layer


class Orders(NamedTuple):
    """A schedule of events: steps from 1, as in the equations."""

    steps: int
    write: int
    read: tuple[int, ...]
    reset: int


LONG = Orders(steps=110, write=1, read=(100,), reset=105)
SHORT = Orders(steps=9, write=1, read=(4, 6), reset=8)


def orders_as_input(orders: Orders, value: float = 0.8, seed: int = 0) -> NDArray:
    """Return the input (T, 1, 4) of `memory_by_hand`: `value` at the step of writing, random values at all others."""
    x = np.zeros((orders.steps, 1, 4))
    x[:, 0, VALUE] = np.random.default_rng(seed).standard_normal(orders.steps)
    x[orders.write - 1, 0, VALUE] = value
    x[orders.write - 1, 0, WRITE] = 1
    x[:, 0, KEEP] = 1
    x[orders.reset - 1, 0, KEEP] = 0
    x[[step - 1 for step in orders.read], 0, READ] = 1
    return x


class CellGradient(NamedTuple):
    """The derivative of cᵗ with respect to c⁰ for t = 1 ... T: along all paths, and along the cell alone."""

    measured: NDArray
    along_cell: NDArray


def cell_gradient(
    forget_bias: float, *, steps: int = 20, units: int = 200, inputs: int = 100, sequences: int = 10, seed: int = 1
) -> CellGradient:
    """Average |∂(Σₙ cₙᵗ)/∂c⁰| in an untrained layer over units and sequences, and the product of its forget gates.

    The layer starts with Keras' default weights: U uniform in ±√(6/(I + 4H)), the four W together one orthogonal
    matrix (4H, H). The input is zero, like that of a padded sequence before its first word, and h⁰ and c⁰ are uniform
    in 0 ... 1.

    Returns
    -------
    CellGradient
        Two arrays (T,).
    """
    layer = LSTM(inputs, units, peepholes=False, forget_bias=forget_bias, dtype=np.float64, seed=seed)
    rng = np.random.default_rng(seed)
    limit = np.sqrt(6 / (inputs + 4 * units))
    layer["W"][:] = np.linalg.qr(rng.standard_normal((4 * units, units)))[0].reshape(4, units, units)
    layer["U"][:] = rng.uniform(-limit, limit, layer["U"].shape)
    h0, c0 = rng.uniform(size=(2, sequences, units))
    x = np.zeros((steps, sequences, inputs))
    measured = []
    for t in range(1, steps + 1):
        trace = layer.forward(x[:t], h0=h0, c0=c0)
        gradients = layer.backward(trace, dc_last=np.ones((sequences, units)))  # L = Σₙ cₙᵗ
        measured.append(np.abs(gradients.c0).mean())
    return CellGradient(np.array(measured), np.cumprod(trace.f, axis=0).mean(axis=(1, 2)))


def sigmoid(a: float) -> float:
    """σ(a)."""
    return float(1 / (1 + np.exp(-a)))


@figure("preservation", notebook=NOTEBOOK, title="How closed gates preserve what a cell holds")
def preservation() -> Drawn:
    """A value written at step 1, read at steps 4 and 6, forgotten at step 8."""
    from lstm_numba.instruments.jacobians import sensitivity

    plots = without_window()
    layer, x = memory_by_hand(), orders_as_input(SHORT)
    trace = layer.forward(x)
    cell, outputs = (sensitivity(layer, x, of=of, s=0) for of in "ch")
    ax = plots.unfolded_gates(*(gate[:, 0, 0] for gate in (trace.i, trace.f, trace.o)), cell, outputs)
    return (
        ax.figure,
        f"An LSTM unfolded over {SHORT.steps} steps with its gates. The input gate is open at step 1 only, the forget"
        f" gate is closed at step {SHORT.reset} only, the output gate is open at steps {SHORT.read[0]} and"
        f" {SHORT.read[1]}. The cells have a sensitivity to the first input of {cell[0]:.2g} from step 1 to"
        f" {SHORT.reset - 1} and 0 after that; the outputs {outputs[SHORT.read[0] - 1]:.2g} where the output gate is"
        " open, else 0.",
        "The darker a node, the more it depends on the first input. The input gate below each cell, the forget gate"
        " to its left and the output gate above it are open (○) or closed (—): a closed input gate and an open forget"
        " gate keep the shade as it is. After Graves (2012), figure 4.4, there drawn by hand.",
    )


@figure("holding_a_value", notebook=NOTEBOOK, title="Holding a value for a hundred steps")
def holding_a_value() -> Drawn:
    """Written at step 1, read at step 100, forgotten at step 105."""
    plots = without_window()
    trace = memory_by_hand().forward(orders_as_input(LONG))
    c, h = trace.c[:, 0, 0], trace.h[:, 0, 0]
    return (
        plots.block_history(trace),
        f"Cell input, gates, and cell and output of one block over {LONG.steps} steps. The cell input jumps at random."
        f" The input gate is open at step 1 only. The cell is {c[0]:.3f} from step 1 to {LONG.reset - 1} and 0 from"
        f" step {LONG.reset}, where the forget gate closes. The output is 0 except at step {LONG.read[0]}, where it is"
        f" {h[LONG.read[0] - 1]:.3f}.",
        "Above, what arrives at the input gate; in the middle the three gates, dark is open; below, what the cell"
        " holds and what can be seen of it. The noise above doesn't reach the cell because the input gate is closed.",
    )


@figure("block_settings", notebook=NOTEBOOK, title="Six things that a memory block can do")
def block_settings() -> Drawn:
    """The settings of the explorer, each over twelve steps."""
    import matplotlib.pyplot as plt

    from lstm_numba.tutorials.block_widget import SETTINGS, block_trace

    plots = without_window()
    ends = []
    with plots.style():
        drawn, panels = plt.subplots(3, 2, figsize=(plots.WIDTH, 6.6), layout="constrained", sharex=True, sharey=True)
        for ax, (name, setting) in zip(panels.flat, SETTINGS.items(), strict=True):
            trace = block_trace(setting)
            c, h = trace.c[:, 0, 0], trace.h[:, 0, 0]
            gates = f"$i$ = {setting.i:g}, $f$ = {setting.f:g}, $o$ = {setting.o:g}"
            plots.block_over_time(c, h, ax, limit=1.0, key=False, title=f"{name}\n{gates}")
            ax.label_outer()
            ends.append(f"{name}: the cell goes from {setting.c0:g} to {c[-1]:.2g}, the output ends at {h[-1]:.2g}")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=2)
    return (
        drawn,
        f"Six small plots of cell and output over {len(c)} steps, one for each setting of the gates."
        f" {'; '.join(ends)}.",
        "Circles are the cell, squares the output. The input is the same at every step and in every panel; only the"
        " gates differ, and in “add up” the first state.",
    )


@figure("forget_bias", notebook=NOTEBOOK, title="Why the forget gate's bias matters")
def forget_bias() -> Drawn:
    """Draw ∂cᵗ/∂c⁰ along the cell for several forget biases, and σ(b)ᵗ."""
    plots = without_window()
    steps, biases = 40, (0, 1, 3, 5)
    curves = {b: cell_gradient(b, steps=steps, units=64, inputs=32, seed=0).along_cell for b in biases}
    names = {b: f"$b_f$ = {b}" for b in biases}
    predicted = {b: sigmoid(b) ** np.arange(1, steps + 1) for b in biases}
    ax = plots.decay(
        {names[b]: curves[b] for b in biases},
        references={rf"$\sigma({b})^t$": predicted[b] for b in biases},
        ylabel="product of the forget gates,\nmean of all units",
    )
    left = ", ".join(f"{curves[b][-1]:.1g} with a bias of {b}" for b in biases)
    return (
        ax.figure,
        f"Mean product of the forget gates of an untrained layer over {steps} steps on a logarithmic scale, for four"
        f" forget biases, each beside a dotted line, the power of sigma of the bias. What is left after {steps} steps:"
        f" {left}.",
        "A straight line is decay by the same factor at every step. The dotted lines are predicted from the bias"
        " alone; the layer's own gates stay close to them.",
    )


@figure("keras_cell_gradient", notebook=NOTEBOOK, title="A question of 2022: why does the gradient of c decay?")
def keras_cell_gradient() -> Drawn:
    """Draw the posted curve, ours, and the product of the forget gates."""
    plots = without_window()
    posted = 2 * np.array(POSTED)
    ours = cell_gradient(1.0)
    opened = cell_gradient(5.0)
    ax = plots.decay(
        {
            "posted in 2022": posted,
            "this engine,\n" + "$b_f$ = 1": ours.measured,
            "its forget\ngates alone": ours.along_cell,
            "this engine,\n" + "$b_f$ = 5": opened.measured,
        },
        references={r"$\sigma(1)^t$": sigmoid(1) ** np.arange(1, len(posted) + 1)},
        ylabel="size of " + r"$\partial c^t / \partial c^0$",
    )
    return (
        ax.figure,
        f"Size of the derivative of the cell state at steps 1 to {len(posted)} with respect to the first state,"
        f" on a logarithmic scale. The posted curve falls from {posted[0]:.2g} to {posted[-1]:.2g}, this engine's from"
        f" {ours.measured[0]:.2g} to {ours.measured[-1]:.2g}. The product of the forget gates falls from"
        f" {ours.along_cell[0]:.2g} to {ours.along_cell[-1]:.2g}, on the line of sigma of 1 to the power of t. With a"
        f" forget bias of 5 the derivative ends at {opened.measured[-1]:.2g}.",
        "For the first five steps both measured curves follow the forget gates' σ(1) = 0.73 a step. After that the"
        " paths through the outputs carry more and more, so the curves fall more slowly; with a bias of 5 they make it"
        " grow.",
    )
