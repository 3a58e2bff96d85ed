"""Read LSTM, GRU and RNN nodes of ONNX models as layers, and write layers as ONNX models.

    aᵗ of gate k    X Wₖᵀ + Hᵗ⁻¹ Rₖᵀ + Pₖ ⊙ C + Wbₖ + Rbₖ        ONNX
                    Uₖ xᵗ + Wₖ hᵗ⁻¹ + Vₖ ⊙ c + bₖ                 here

The operators have the same features as our layers: peepholes (Pₒ looks at Cᵗ, the others at Cᵗ⁻¹), biases, both
directions, initial states, lengths. ONNX stacks an LSTM's gates in the order i, o, f, c, its peepholes in the order
i, o, f, and a GRU's gates in the order z, r, h. A GRU whose linear_before_reset is 0 is ours with reset_after=False:

    hᵗ gate, linear_before_reset 1    Wₕ xᵗ + Wbₕ + r ⊙ (Rₕ hᵗ⁻¹ + Rbₕ)
    hᵗ gate, linear_before_reset 0    Wₕ xᵗ + Wbₕ + Rₕ (r ⊙ hᵗ⁻¹) + Rbₕ

Source: the ONNX specification, docs/Operators.md, operators LSTM, GRU and RNN.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba._files import write_whole
from lstm_numba.exchange._kinds import kind_of, stacked
from lstm_numba.exchange._onnx_layers import (
    DIRECTIONS,
    FUNCTIONS,
    SCALES,
    Link,
    RecurrentNode,
    inputs_of,
    link_below,
    recurrent_nodes,
)
from lstm_numba.exchange._onnx_scopes import Model, read_model, require_onnx, walk
from lstm_numba.exchange._sources import names_of, not_fed, several
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.layers.stack import Stack, as_stack, simplest

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, IR_VERSION = 14, 8  # the first version with `layout`, which older programs can also read
_OTHERS = ("DynamicQuantizeLSTM", "AttnLSTM", "QLSTM", "QGRU")
# The nodes of a layer that an exporter has written out.
_PRODUCTS, _GATES, _LOOPS = ("Gemm", "MatMul"), ("Sigmoid", "HardSigmoid", "Tanh", "Relu"), ("Loop", "Scan")
_WRITTEN_OUT = """\
a recurrent layer may be written out in them, as exporters do with nn.LSTMCell, nn.RNN and Keras' layers, and
nothing tells its weights from others. They can be read from the model that was exported; from PyTorch's:
    import safetensors.torch, lstm_numba
    safetensors.torch.save_file(module.state_dict(), "weights.safetensors")
    layer = lstm_numba.from_torch("weights.safetensors")
from Keras':
    model.save("model.keras")
    layer = lstm_numba.from_keras("model.keras")"""


# -- in


def from_onnx(
    source: str | os.PathLike[str] | ModelProto,
    *,
    name: str | Sequence[str] | None = None,
    dtype: DTypeLike | None = None,
    clip: str = "refuse",
) -> Recurrent | Stack:
    """Return the LSTM, GRU or RNN of an ONNX model, with its weights, as a layer or a stack of this package.

    >>> layer = from_onnx("model.onnx")             # doctest: +SKIP
    >>> trace = layer.forward(x)                    # doctest: +SKIP
    >>> trace.f                                     # doctest: +SKIP

    Weights may be initializers or constants, in the model's file or beside it, and may pass through nodes that only
    move numbers. Constant initial states and sequence lengths become the stack's own. If they are inputs of the graph,
    give them to `forward`; if the graph computes them, do the same, and a warning says so. Arrays here are time-major,
    whatever the node's layout.

    Parameters
    ----------
    source
        Path of an ONNX file, or a loaded model.
    name
        If there are several nodes: the name of one, or of one of its outputs. A list of names (or one text with commas)
        makes one stack, the lowest layer first; the nodes must follow each other directly, as in PyTorch's exports. If
        all nodes do, no name is needed.
    dtype
        float32 or float64; by default that of the weights, and float32 for those in half precision, exactly.
    clip
        What to do with a node that clips the arguments of its non-linearities, which the engine doesn't: "refuse"
        raises an error, "ignore" ignores it, with a warning that says how to see whether an input reaches the limit.

    Returns
    -------
    LSTM, GRU, SimpleRNN or Stack
        A layer if there is one node in one direction without its own states or lengths, else a stack:
        ``trace.layers[0][1].f`` is layer 0, backward. For an LSTM node with input_forget 1, a `Recurrent` of the cell
        `lstm_numba.cells.cifg`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is not a complete ONNX model, lacks a tensor or has one of a wrong shape; if it holds no LSTM, GRU or RNN
        node (the message says how to get the weights of a layer that is written out in products and gates); or if the
        node has features that the engine lacks (clip, activations other than Sigmoid, Tanh, Relu, the identity, and
        HardSigmoid with alpha 0.2 or 1/6 and beta 0.5).
    ValueError
        If `name` doesn't exist, or is missing; the message lists the existing names.
    TypeError
        If `source` is neither a path nor a model.
    ImportError
        If the package onnx isn't installed.

    Notes
    -----
    b = Wb + Rb, except for a GRU whose linear_before_reset is 1. According to the specification, clip bounds the input
    of the activations, which are those of the gates and of the cell's input and output. ONNX Runtime 1.32 does not
    apply it to c, the input of the last, and onnx' reference evaluator 1.23 doesn't apply it at all. Source: the ONNX
    specification, docs/Operators.md (LSTM, GRU, RNN).
    """
    kept = None if dtype is None else _checks.float_dtype(dtype)
    clips = _checks.choice("clip", clip, ("refuse", "ignore")) == "refuse"
    model = read_model(source)
    nodes = recurrent_nodes(model)
    if not nodes:
        raise _nothing_found(model)
    links = _links(nodes)
    chosen = _chosen(nodes, links, name)
    with np.errstate(invalid="ignore"):  # weights may be NaN
        stack = _stack(chosen, [links[node] for node in chosen[1:]], kept, clips)
    for note in (note for node in chosen for note in node.notes):
        warnings.warn(note, stacklevel=2)
    return simplest(stack)


def _nothing_found(model: Model) -> ValueError:
    kinds = Counter(node.op_type for node, _, _ in walk(model))
    expected = "expected a graph with an LSTM, GRU or RNN node, got"
    others = [kind for kind in sorted(kinds) if kind in _OTHERS]
    if others:
        return model.refuse(f"{expected} only {', '.join(others)}, which the engine hasn't")
    if not any(kinds[kind] for kind in _GATES) or not any(kinds[kind] for kind in (*_PRODUCTS, *_LOOPS)):
        return model.refuse(f"{expected} none")
    counted = ", ".join(f"{kinds[kind]} {kind}" for kind in (*_PRODUCTS, *_GATES, *_LOOPS) if kinds[kind])
    return model.refuse(f"{expected} none, but {counted}: {_WRITTEN_OUT}")


def _links(nodes: list[RecurrentNode]) -> dict[RecurrentNode, Link]:
    """Return, for each node that is directly above another, the one below."""
    found = {node: link_below(node, nodes) for node in nodes}
    return {node: link for node, link in found.items() if link}


def _chains(nodes: list[RecurrentNode], links: dict[RecurrentNode, Link]) -> list[list[RecurrentNode]]:
    """Return lists of nodes that follow each other, the lowest first; each node is in at least one list."""
    lower = {link.lower for link in links.values()}
    chains = []
    for top in (node for node in nodes if node not in lower):
        chain = [top]
        while chain[0] in links and links[chain[0]].lower not in chain:
            chain.insert(0, links[chain[0]].lower)
        chains.append(chain)
    return chains


def _chosen(
    nodes: list[RecurrentNode], links: dict[RecurrentNode, Link], name: str | Sequence[str] | None
) -> list[RecurrentNode]:
    """Return the nodes that `name` refers to, the lowest first."""
    chains = _chains(nodes, links)
    if name is None:
        if len(chains) == 1 and len(chains[0]) == len(nodes):
            return chains[0]
        raise several(_listed(nodes, chains))
    if isinstance(name, str):
        known = {node.label for node in nodes} | {output for node in nodes for output in node.node.output}
        name = [name] if name in known else [part.strip() for part in name.split(",")]
    chosen = [_named(nodes, chains, each) for each in names_of(name, _listed(nodes, chains))]
    for lower, upper in pairwise(chosen):
        if upper not in links or links[upper].lower is not lower:
            raise not_fed(upper.label, lower.label)
    return chosen


def _named(nodes: list[RecurrentNode], chains: list[list[RecurrentNode]], name: str) -> RecurrentNode:
    matches = [node for node in nodes if node.label == name]
    matches = matches or [node for node in nodes if name and (node.node.name == name or name in node.node.output)]
    if len(matches) != 1:
        several = "several nodes are called so; " * (len(matches) > 1)
        raise ValueError(f"name: {several}expected one of {_listed(nodes, chains)}, got {name!r}")
    return matches[0]


def _listed(nodes: list[RecurrentNode], chains: list[list[RecurrentNode]]) -> str:
    """List the names, and those that together form a stack."""
    text = ", ".join(repr(node.label) for node in nodes)
    stacks = [[node.label for node in chain] for chain in chains if len(chain) > 1]
    return text + "".join(f" (or {labels}, layers of one stack)" for labels in stacks)


def _stack(chosen: list[RecurrentNode], links: list[Link], dtype: np.dtype | None, clips: bool) -> Stack:
    """Return a chain of nodes as a stack, with the constant states and lengths of the nodes."""
    layers = [node.layers(dtype, clips) for node in chosen]
    merges = {link.merge for link in links} - {None}
    if len(merges) > 1:
        raise chosen[0].refuse("some layers above it take both directions side by side, others their sum; expected one")
    if len({each.dtype for level in layers for each in level}) > 1:
        found = ", ".join(f"{node.label!r} {level[0].dtype}" for node, level in zip(chosen, layers, strict=True))
        raise chosen[0].refuse(f"expected weights of one type in all layers (or give dtype=), got {found}")
    for node, below, level in zip(chosen[1:], layers, layers[1:], strict=False):
        width = below[0].hidden_size * (len(below) if "sum" not in merges else 1)
        if level[0].input_size != width:
            raise node.refuse(f"W: expected input size {width}, as the layer below has it, got {level[0].input_size}")
    own = np.dtype(layers[0][0].dtype)
    states = {
        f"{state}0": _joined([node.state(f"initial_{state}", level[0].hidden_size)
                              for node, level in zip(chosen, layers, strict=True)], layers, own)
        for state in chosen[0].state_names
    }  # fmt: skip
    merge = merges.pop() or "concat" if merges else "concat"
    return Stack.of(layers, merge=merge, lengths=chosen[0].lengths(), **states)


def _joined(
    states: list[NDArray | None], layers: list[list[Recurrent]], dtype: np.dtype
) -> NDArray | list[NDArray] | None:
    """Return the states of all nodes as an array (L D, B, H), as a list if sizes differ, or None if there are none."""
    if all(state is None for state in states):
        return None
    B = max(state.shape[1] for state in states if state is not None)
    rows: list[NDArray] = []
    for state, level in zip(states, layers, strict=True):
        whole = np.zeros((len(level), B, level[0].hidden_size), dtype)
        if state is not None:
            whole[:] = state
        rows.extend(whole)
    return np.stack(rows) if len({row.shape for row in rows}) == 1 else rows


# -- out


def to_onnx(
    model: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    layout: int = 0,
    lengths: bool = False,
    initial_state: bool = False,
) -> ModelProto:
    """Return an ONNX model that computes the same as `model.forward`, and write it to `path` if given.

    The graph takes X (T, B, I). It returns Y, which is ``trace.h`` (T, B, D H) with both directions side by side, and
    Y_h and, for an LSTM, Y_c: ``trace.h_last`` and ``trace.c_last`` (L D, B, H). There is one LSTM, GRU or RNN node per
    layer, "layers.0" and so on; the cell `lstm_numba.cells.cifg` is an LSTM with input_forget 1. `from_onnx` returns
    the same weights, bit for bit.

    Parameters
    ----------
    model
        An LSTM, a GRU, a SimpleRNN or a Stack; for a Network, its recurrent layers are written.
    path
        The file; an existing one is replaced, whole or not at all.
    layout
        0: as above. 1: the batch comes first in all of them, X (B, T, I), Y (B, T, D H), Y_h (B, L D, H). ONNX
        Runtime's CPU kernels take only 0.
    lengths
        Whether the graph takes sequence_lens (B,) int32 as an input. Otherwise a stack's own lengths, if it has any,
        become a constant. For a sequence of length 0 the last states are the initial ones here, and zero in ONNX
        Runtime.
    initial_state
        Whether the graph takes initial_h and, for an LSTM, initial_c as inputs, in the shape of Y_h. Otherwise a
        stack's own states become constants; without any they are zero.

    Returns
    -------
    onnx.ModelProto
        In opset 14. If layers differ in size, states have one tensor per layer: Y_h_0, Y_h_1, initial_h_0, …

    Raises
    ------
    TypeError
        If `model` is something else.
    ValueError
        If `layout` is neither 0 nor 1, directions of a layer have different options, or ONNX doesn't have the cell.
    ImportError
        If the package onnx isn't installed.
    OSError
        If the file can't be written.

    Notes
    -----
    Source: the ONNX specification, docs/Operators.md (LSTM, GRU, RNN).
    """
    onnx = require_onnx("to_onnx")
    stack = as_stack(model)
    if isinstance(layout, bool) or layout not in (0, 1):
        raise ValueError(f"layout: expected 0 (time first) or 1 (batch first), got {layout!r}")
    writer = _Writer(stack, int(layout))
    proto = writer.model(_checks.flag("lengths", lengths), _checks.flag("initial_state", initial_state))
    onnx.checker.check_model(proto)
    if path is not None:
        write_whole(path, proto.SerializeToString())
    return proto


class _Writer:
    """Builds the graph of one stack, node by node."""

    def __init__(self, stack: Stack, layout: int) -> None:
        from onnx import helper

        self.stack = stack
        self.layout = layout
        self.kind = kind_of(stack, "ONNX")
        self.states = stack.states
        self.float = helper.np_dtype_to_tensor_dtype(stack.dtype)
        self.sizes = [level[0].hidden_size for level in stack.layers]
        self.directions = [len(level) for level in stack.layers]
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def model(self, lengths: bool, initial_state: bool) -> ModelProto:
        from onnx import helper

        self.inputs.append(self._described("X", ["T", "B", self.stack.input_size]))
        lens = self._lengths(lengths)
        given = {state: self._initial(state, initial_state) for state in self.states}
        x = "X"
        for number, level in enumerate(self.stack.layers):
            top = number == len(self.stack.layers) - 1
            self._recurrent(number, level, x, lens, {state: names[number] for state, names in given.items()})
            x = self._merged(number, "Y" if top else f"layers.{number}.merged", "concat" if top else self.stack.merge)
        self.outputs.append(self._described("Y", ["T", "B", self.directions[-1] * self.sizes[-1]]))
        for state in self.states:
            self._last(state)
        graph = helper.make_graph(self.nodes, "lstm_numba", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="lstm_numba")

    # -- pieces

    def _node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, attributes.pop("name", outputs[0]), **attributes))

    def _constant(self, name: str, array: NDArray) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _described(self, name: str, shape: list[Any], kind: int | None = None) -> Any:
        """Return an input or output of the graph; `shape` has time first."""
        from onnx import helper

        if self.layout == 1 and len(shape) == 3:
            shape = [shape[1], shape[0], shape[2]]
        return helper.make_tensor_value_info(name, self.float if kind is None else kind, shape)

    def _batch_first(self, array: NDArray) -> NDArray:
        return array.swapaxes(0, 1) if self.layout == 1 else array

    # -- what comes in

    def _lengths(self, asked: bool) -> str:
        from onnx import TensorProto

        if asked:
            self.inputs.append(self._described("sequence_lens", ["B"], TensorProto.INT32))
        elif self.stack.lengths is not None:
            self._constant("sequence_lens", np.asarray(self.stack.lengths, np.int32))
        else:
            return ""
        return "sequence_lens"

    def _initial(self, state: str, asked: bool) -> list[str]:
        """Return the names of the nodes' initial states, one per layer; "" for zeros."""
        name, n_layers = f"initial_{state}", len(self.sizes)
        if not asked:
            own = self.stack.initial()[f"{state}0"]
            return [""] * n_layers if own is None else self._own_states(name, own)
        if self._same_size():
            self.inputs.append(self._described(name, [sum(self.directions), "B", self.sizes[0]]))
            if n_layers == 1:
                return [name]
            parts = [f"layers.{number}.{name}" for number in range(n_layers)]
            split = self._constant(f"{name}.split", np.array(self.directions, np.int64))
            self._node("Split", [name, split], parts, axis=self.layout, name=f"{name}.split")
            return parts
        names = [f"{name}_{number}" for number in range(n_layers)]
        for each, D, H in zip(names, self.directions, self.sizes, strict=True):
            self.inputs.append(self._described(each, [D, "B", H]))
        return names

    def _own_states(self, name: str, rows: Any) -> list[str]:
        """Return the stack's own states as constants; states for any batch are repeated for its sequences."""
        names, start = [], 0
        for number, D in enumerate(self.directions):
            state, start = np.stack([np.asarray(row) for row in rows[start : start + D]]), start + D
            own = f"layers.{number}.{name}"
            if state.shape[1] > 1:
                names.append(self._constant(own, self._batch_first(state)))
                continue
            self._constant(f"{own}.one", self._batch_first(state))
            self._node("Expand", [f"{own}.one", self._wide(number, D, state.shape[2])], [own])
            names.append(own)
        return names

    def _wide(self, number: int, D: int, H: int) -> str:
        """Return the name of the shape (D, B, H), with B from the input."""
        name = f"layers.{number}.state_shape"
        if any(name in node.output for node in self.nodes):
            return name
        if not any("batch" in node.output for node in self.nodes):
            self._node("Shape", ["X"], ["X.shape"])
            self._node("Gather", ["X.shape", self._constant("batch.axis", np.array([1 - self.layout]))], ["batch"])
        sizes = [self._constant(f"{name}.{what}", np.array([n])) for what, n in (("D", D), ("H", H))]
        order = ["batch", sizes[0], sizes[1]] if self.layout == 1 else [sizes[0], "batch", sizes[1]]
        self._node("Concat", order, [name], axis=0)
        return name

    def _same_size(self) -> bool:
        return len(set(self.sizes)) == 1

    # -- layers

    def _recurrent(self, number: int, level: list[Recurrent], x: str, lens: str, states: dict[str, str]) -> None:
        own = f"layers.{number}"
        weights = _weights(number, level, self.kind.gates["onnx"])
        names = {what: self._constant(f"{own}.{what}", array) for what, array in weights.items()}
        names |= {"X": x, "sequence_lens": lens, **{f"initial_{state}": name for state, name in states.items()}}
        inputs = [names.get(what, "") for what in inputs_of(self.kind)]
        attributes: dict[str, Any] = {"hidden_size": level[0].hidden_size, "direction": _direction(level)}
        attributes |= {name: value for name, value in self.kind.onnx.items() if value}
        functions = [
            str(layer.options.get(option, default))
            for layer in level
            for option, default in self.kind.functions.items()
        ]
        if functions != [*self.kind.functions.values()] * len(level):
            attributes["activations"] = [FUNCTIONS[name] for name in functions]
        scales = [SCALES[name] for name in functions if name in SCALES]
        if scales:
            attributes["activation_alpha"] = [alpha for alpha, _ in scales]
            attributes["activation_beta"] = [beta for _, beta in scales]
        if self.layout:
            attributes["layout"] = self.layout
        outputs = [f"{own}.Y", *(f"{own}.Y_{state}" for state in self.states)]
        self._node(self.kind.name, inputs, outputs, name=own, **attributes)

    def _merged(self, number: int, name: str, merge: str) -> str:
        """Return the name of the output, with its directions side by side or added up."""
        Y, axis = f"layers.{number}.Y", 1 + self.layout
        if self.directions[number] == 1:
            self._node("Squeeze", [Y, self._constant(f"{name}.axis", np.array([axis]))], [name])
        elif merge == "sum":
            self._node("ReduceSum", [Y, self._constant(f"{name}.axis", np.array([axis]))], [name], keepdims=0)
        else:
            if self.layout == 0:
                self._node("Transpose", [Y], [f"{name}.transposed"], perm=[0, 2, 1, 3])
                Y = f"{name}.transposed"
            self._node("Reshape", [Y, self._constant(f"{name}.shape", np.array([0, 0, -1]))], [name])
        return name

    def _last(self, state: str) -> None:
        """Add the last states of all layers as one output of the graph, or as one per layer if sizes differ."""
        parts = [f"layers.{number}.Y_{state}" for number in range(len(self.sizes))]
        if self._same_size():
            self._node("Concat", parts, [f"Y_{state}"], axis=self.layout)
            self.outputs.append(self._described(f"Y_{state}", [sum(self.directions), "B", self.sizes[0]]))
            return
        for number, (part, D, H) in enumerate(zip(parts, self.directions, self.sizes, strict=True)):
            self._node("Identity", [part], [f"Y_{state}_{number}"])
            self.outputs.append(self._described(f"Y_{state}_{number}", [D, "B", H]))


def _direction(level: list[Recurrent]) -> str:
    return next(name for name, reverse in DIRECTIONS.items() if reverse == tuple(layer.reverse for layer in level))


def _weights(number: int, level: list[Recurrent], gates: Sequence[str | None]) -> dict[str, NDArray]:
    """Return W, R, B and P of a node, as far as present."""
    names = {tuple(layer.parameters()) for layer in level}
    if len(names) > 1:
        raise ValueError(
            f"layers.{number}: expected biases and peepholes in both directions or in neither, as an ONNX node has "
            f"them, got {' and '.join(', '.join(sorted(each)) for each in sorted(names))}"
        )
    each = [stacked(layer, gates) for layer in level]
    parts = {part: np.stack([arrays[part] for arrays in each]) for part in each[0]}
    weights = {"W": parts["U"], "R": parts["W"]}
    if "b" in parts:
        weights["B"] = np.concatenate([parts["b"], parts["bw"]], axis=1)
    if "V" in parts:
        weights["P"] = parts["V"]
    return weights
