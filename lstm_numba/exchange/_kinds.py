"""The cells that other libraries have as well, with their names and orders of gates there.

A new cell needs only one entry in `KINDS`. The libraries stack the weights of the gates one below the other; `fill` and
`stacked` move them between such stacks and a layer's parameters.

Libraries have a second bias for every gate, that of Wₖ hᵗ⁻¹. The two differ only if the cell keeps U x + b and W h + bw
separate. Otherwise they are added up here, and the second one is written as zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import cells
from lstm_numba.cells import Cell, joined
from lstm_numba.layers.gru import GRU
from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.layers.simple_rnn import SimpleRNN
from lstm_numba.layers.stack import Stack, as_stack


class Kind(NamedTuple):
    """One of our cells under the names of other libraries.

    Attributes
    ----------
    cell, make
        The cell, and a function that makes a layer of it.
    name, keras_name
        Its name in ONNX and torch, and in Keras.
    gates
        Library → its order of the gates; a library without this cell is missing. None stands for a gate whose weights
        the library has but the cell doesn't.
    functions
        Names of the cell's options for non-linearities, in ONNX' order → their defaults, which are the same in every
        library. A name that isn't an option of the cell always has this function.
    keras, onnx
        Options of a Keras layer, and attributes of an ONNX node, that distinguish it from other cells of its name.
    """

    cell: Cell
    make: Callable[..., Recurrent]
    name: str
    keras_name: str
    gates: Mapping[str, Sequence[str | None]]
    functions: Mapping[str, str]
    keras: Mapping[str, bool] = {}
    onnx: Mapping[str, int] = {}

    @property
    def two_biases(self) -> bool:
        """Whether the two biases have different effects."""
        return bool(self.cell.arguments.w)


KINDS = (
    Kind(
        cells.lstm, LSTM, "LSTM", "LSTM", {"torch": "ifco", "keras": "ifco", "onnx": "iofc"},
        {"gate": "sigmoid", "cell_input": "tanh", "cell_output": "tanh"}, onnx={"input_forget": 0},
    ),
    Kind(
        cells.cifg, partial(Recurrent, cells.cifg), "LSTM", "LSTM", {"onnx": ("i", "o", None, "c")},
        {"gate": "sigmoid", "cell_input": "tanh", "cell_output": "tanh"}, onnx={"input_forget": 1},
    ),
    Kind(
        cells.rnn, SimpleRNN, "RNN", "SimpleRNN", {"torch": ("",), "keras": ("",), "onnx": ("",)},
        {"nonlinearity": "tanh"},
    ),
    Kind(
        cells.gru, GRU, "GRU", "GRU", {"torch": "rzn", "keras": "zrn", "onnx": "zrn"},
        {"gate": "sigmoid", "candidate": "tanh"}, {"reset_after": True}, {"linear_before_reset": 1},
    ),
    Kind(
        cells.gru_2014, partial(GRU, reset_after=False), "GRU", "GRU", {"keras": "zrn", "onnx": "zrn"},
        {"gate": "sigmoid", "candidate": "tanh"}, {"reset_after": False}, {"linear_before_reset": 0},
    ),
)  # fmt: skip


def kinds_of(library: str) -> list[Kind]:
    """Return the cells that a library has: "torch", "keras" or "onnx"."""
    return [kind for kind in KINDS if library in kind.gates]


def kind_of(stack: Stack, library: str) -> Kind:
    """Return a library's name for the cell of a stack, or raise ValueError if it doesn't have the cell."""
    cell = stack.layers[0][0].cell
    known = kinds_of(library.lower())
    for kind in known:
        if kind.cell == cell:
            return kind
    names = ", ".join(kind.cell.name for kind in known)
    if cell not in cells.CELLS.values():
        raise ValueError(
            f"cell: {cell.name} is a cell of your own; {library} has {names}: make the layer of one of these in "
            "lstm_numba.cells where the equations are the same"
        )
    raise ValueError(f"cell: {library} has no cell with the equations of {cell.name!r}; expected one of {names}")


def without_states(model: Any, theirs: str) -> Stack:
    """Return a model as a stack, or raise if it has its own states or lengths, which a library's layers don't."""
    stack = as_stack(model)
    for name in (*stack.initial_names, "lengths"):
        if getattr(stack, name) is not None:
            raise ValueError(
                f"{name}: {theirs} keep none of their own; set the stack's {name} to None and give it to theirs at "
                "each call"
            )
    return stack


def fill(layer: Recurrent, gates: Sequence[str | None], arrays: Mapping[str, NDArray]) -> None:
    """Write a library's stacks of weights into a layer.

    Parameters
    ----------
    layer
        A layer of the library's cell.
    gates
        The library's order of the gates.
    arrays
        "U" (G·H, I), "W" (G·H, H), "V" (3·H,) or (3, H) if there are peepholes; if the layer has a bias, "b" (G·H,),
        and "bw" (G·H,) for a library with two.
    """
    names = layer.parameters()
    H = layer.hidden_size
    blocks = {part: array.reshape(-1, H, *array.shape[1:] if part in "UW" else ()) for part, array in arrays.items()}
    for part in [part for part in ("U", "W", "V") if part in blocks]:
        own = [gate for gate in gates if gate is None or joined(part, gate) in names]
        for gate, block in zip(own, blocks[part], strict=True):
            if gate is not None:
                layer[joined(part, gate)] = block

    if not layer.bias:
        return
    for gate, b, bw in zip(gates, blocks["b"], blocks.get("bw", np.zeros_like(blocks["b"])), strict=True):
        if gate is None:
            continue
        if joined("bw", gate) in names:
            layer[joined("bw", gate)] = bw
            layer[joined("b", gate)] = b
        else:
            layer[joined("b", gate)] = _sum(b, bw, np.result_type(b, bw, layer.dtype))


def _sum(one: NDArray, other: NDArray, dtype: np.dtype) -> NDArray:
    """Return one + other; if the other is all zero, return the one exactly, including signs of zeros."""
    if not other.any():
        return one
    return np.add(one, other, dtype=dtype) if one.any() else other


def stacked(layer: Recurrent, gates: Sequence[str | None]) -> dict[str, NDArray]:
    """Return a layer's weights in a library's order, under the names that `fill` takes; "bw" is always included."""
    names = layer.parameters()
    H = layer.hidden_size
    shapes = {"U": (H, layer.input_size), "W": (H, H)}
    arrays: dict[str, NDArray] = {}
    for part in [*(part for part in ("U", "W", "V", "b") if part in names), *["bw"] * layer.bias]:
        own: dict[str | None, NDArray] = {
            gate: layer[name] for gate in gates if gate is not None and (name := joined(part, gate)) in names
        }
        there = [gate for gate in gates if gate is None or gate in own or part == "bw"]
        zeros = np.zeros(shapes.get(part, (H,)), layer.dtype)
        arrays[part] = np.concatenate([own.get(gate, zeros) for gate in there])
    return arrays


def differing(layer: Recurrent, first: Recurrent) -> Any:
    """Return the name of an option in which a layer differs from the first one, or None."""
    options = ("hidden_size", "bias", *layer.options)
    return next((option for option in options if getattr(layer, option) != getattr(first, option)), None)
