"""Figures of notebook 06: a block that counts to fifty through its peepholes, and gates that have learned to peep."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.recurrent import Recurrent, Trace
from lstm_numba.models import Adam, Network
from lstm_numba.studies import task
from lstm_numba.studies.training import targets
from lstm_numba.tutorials.gallery import Drawn, figure, without_window

NOTEBOOK = "06_peepholes_and_precise_timing.ipynb"
PERIOD, INTERVAL, UNITS = 50, 10, 8


def counter(period: int = PERIOD, sharpness: float = 2000.0) -> LSTM:
    """One block that adds 1 at each step, and fires and begins again when its peepholes see `period`."""
    block = LSTM(1, 1, cell_input="identity", cell_output="identity", dtype=np.float64, seed=0)
    for name in "UWV":
        block[name][:] = 0
    block["b_i"][:], block["b_c"][:] = 1000, 1
    threshold = sharpness * (period - 0.5)
    block["V_o"][:], block["b_o"][:] = sharpness, -threshold
    block["V_f"][:], block["b_f"][:] = -sharpness, threshold
    return block


def learned_clock(updates: int = 400, seed: int = 4) -> Network:
    """Train eight units with peepholes to generate timed spikes."""
    network = Network(1, 1, (UNITS,), bidirectional=False, output="sigmoid", seed=seed)
    spikes, rng, rule = task("timed_spikes", interval=INTERVAL), np.random.default_rng((seed, 1)), Adam(0.03)
    for _ in range(updates):
        minibatch = spikes.minibatch(rng, 32)
        trace = network.forward(minibatch.x, minibatch.lengths)
        gradient = network.backward(trace, targets(spikes, minibatch)).parameters().flat
        gradient *= min(1.0, 1 / float(np.linalg.norm(gradient)))
        rule.step(network.parameters().flat, gradient)
    return network


def most_peeping(layer: Recurrent, trace: Trace) -> int:
    """Return the unit whose output gate would change most if its peephole saw the cell's mean instead of the cell."""
    c = trace.c[:, 0]
    moved = layer["V_o"] * (c - c.mean(axis=0))
    blind = 1 / (1 + np.exp(moved - trace.a_o[:, 0]))
    return int(np.abs(trace.o[:, 0] - blind).mean(axis=0).argmax())


def peeping_gates(layer: Recurrent, trace: Trace, unit: int, spikes: ArrayLike, steps: int = 60) -> Any:
    """Return a figure of one unit in the first sequence: its cell, what peepholes make of it, and the gates."""
    import matplotlib.pyplot as plt

    plots = without_window()
    at = np.arange(1, steps + 1)
    c, i, f, o = (getattr(trace, name)[:steps, 0, unit] for name in "cifo")
    c_prev = np.concatenate([[0], c[:-1]])
    V_i, V_f, V_o = (layer[f"V_{gate}"][unit] for gate in "ifo")
    panels = {
        "cell $c$": {"$c$": c},
        "peepholes": {"$V_o c^t$": V_o * c, "$V_f c^{t-1}$": V_f * c_prev, "$V_i c^{t-1}$": V_i * c_prev},
        "gates": {"$o$": o, "$f$": f, "$i$": i},
    }
    with plots.style():
        drawn, axes = plt.subplots(3, sharex=True, figsize=(plots.WIDTH, 6.0), layout="constrained")
        for ax, (name, curves) in zip(axes, panels.items(), strict=True):
            for (label, values), (colour, _, dash) in zip(curves.items(), plots.CURVES, strict=False):
                ax.plot(at, values, color=colour, linestyle=dash, label=label)
            for spike in np.flatnonzero(np.asarray(spikes)[:steps]) + 1:
                ax.axvline(spike, color=plots.INK, linewidth=0.8, linestyle=":", zorder=1)
            ax.set_ylabel(name)
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes[0].set_title("Gates that watch their cell")
        axes[-1].set_xlabel("time step $t$ (dotted: a spike is due)")
    return drawn


@figure("counting_to_fifty", notebook=NOTEBOOK, title="A block that counts to fifty and fires")
def counting_to_fifty() -> Drawn:
    """Cell and output of the block set by hand."""
    trace = counter().forward(np.zeros((120, 1, 1)))
    c, h = trace.c[:, 0, 0], trace.h[:, 0, 0]
    fired = ", ".join(str(step + 1) for step in np.flatnonzero(h > 0.5))
    return (
        without_window().block_over_time(c, h, title="Counting in silence").figure,
        f"Cell and output of one block over {len(c)} steps without input. The cell climbs by 1 a step up to"
        f" {c.max():.0f} and begins again; the output is 0 except at steps {fired}.",
        "Circles are the cell, squares the output. Until the cell reaches 50 nobody outside sees it; the gates do,"
        " through their peepholes.",
    )


@figure("peeping_gates", notebook=NOTEBOOK, title="Gates that have learned to watch their cell")
def learned_gates() -> Drawn:
    """One unit of a trained network that generates spikes 10 or 11 steps apart."""
    network = learned_clock()
    layer = network.layers[0][0]
    minibatch = task("timed_spikes", interval=INTERVAL).minibatch(np.random.default_rng(5), 32)
    trace = network.forward(minibatch.x, minibatch.lengths).layers[0][0]
    unit = most_peeping(layer, trace)
    seen = layer["V_o"][unit] * trace.c[:60, 0, unit]
    return (
        peeping_gates(layer, trace, unit, minibatch.targets[:, 0, 0]),
        f"Three panels over 60 steps for unit {unit} of {UNITS}: its cell, the terms that its peepholes add to the"
        f" gates, and the gates. The term of the output gate moves between {seen.min():.1f} and {seen.max():.1f}."
        " Dotted lines stand where a spike is due, every 10 or 11 steps.",
        "Between two spikes the cell moves on like the hand of a clock. The peepholes pass that on to the gates, which"
        " switch when it is time.",
    )
