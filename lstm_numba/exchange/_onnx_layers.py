"""Read LSTM, GRU and RNN nodes of ONNX as layers, and follow the output of one node to the input of the next.

    here                ONNX                                              shapes (D directions, G gates)
    U_k, W_k            W, R: an LSTM's gates i, o, f, c; a GRU's z, r, h (D, G·H, I), (D, G·H, H)
    b_k                 B: Wb_k + Rb_k                                    (D, 2G·H)
    b_n, bw_n           Wb_h, Rb_h, apart where linear_before_reset is 1
    V_i, V_o, V_f       P                                                 (D, 3H)
    σ, g, h(·)          activations f, g, h                               a name for each, D times
    h⁰, c⁰, lengths     initial_h, initial_c, sequence_lens               (D, B, H), (B,)

Source: the ONNX specification, docs/Operators.md, operators LSTM, GRU and RNN, versions 1 to 22.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba.exchange._kinds import Kind, fill, kinds_of
from lstm_numba.exchange._onnx_scopes import STANDARD, Model, Scope, attribute, walk
from lstm_numba.layers.checkpoints import ModelFileError
from lstm_numba.layers.recurrent import Recurrent

if TYPE_CHECKING:
    from onnx import AttributeProto, NodeProto

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
FUNCTIONS = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "identity": "Affine",
    "hard_sigmoid": "HardSigmoid",
    "hard_sigmoid_6": "HardSigmoid",
}
# alpha and beta in alpha x + beta, which HardSigmoid clips to between 0 and 1.
SCALES = {"identity": (1.0, 0.0), "hard_sigmoid": (0.2, 0.5), "hard_sigmoid_6": (1 / 6, 0.5)}
# What a program takes where a node gives neither; of Affine's alpha, programs differ.
_DEFAULT_SCALES = {"affine": (None, 0.0), "hardsigmoid": (0.2, 0.5)}
_OURS = {theirs.lower(): ours for ours, theirs in FUNCTIONS.items() if ours not in SCALES}
_KINDS = kinds_of("onnx")
_NAMES = {kind.name for kind in _KINDS}
_READ = {"activations", "activation_alpha", "activation_beta", "direction", "hidden_size", "layout"}
_HARMLESS = {"output_sequence"}  # an attribute of version 1: whether Y is wanted


def _filled(values: list[float], defaults: list[float | None]) -> list[float | None] | None:
    """Return a number for each function, or None if it is unclear which function a number belongs to.

    Programs count them in different ways: one for each function that reads them, or one for each function.
    """
    if len(values) > len(defaults) and len(set(values)) > 1:
        return None
    if 0 < len(values) < len(defaults) and not _close(values, defaults[: len(values)]):
        return None
    return [*values[: len(defaults)], *defaults[len(values) :]]


def _close(values: Sequence[float | None], others: Sequence[float | None]) -> bool:
    """Return whether numbers are the same, allowing that some were rounded to float32."""
    pairs = zip(values, others, strict=True)
    return all(a is not None and b is not None and abs(a - b) <= 1e-6 * abs(b) for a, b in pairs)


def inputs_of(kind: Kind) -> list[str]:
    """Return the names of an operator's inputs, in order."""
    of = kind.cell.arguments
    states = [f"initial_{state}" for state in of.states]
    return ["X", "W", "R", "B", "sequence_lens", *states, *(["P"] if of.v else [])]


@dataclass(frozen=True, eq=False)
class RecurrentNode:
    """An LSTM, GRU or RNN node and its place in the model.

    Attributes
    ----------
    node, scope
        The node, and the tensors it can name.
    label
        Its unique label.
    notes
        Warnings for a reader of its layers.
    """

    node: NodeProto
    scope: Scope
    label: str
    notes: list[str] = field(default_factory=list)

    def refuse(self, text: str) -> ModelFileError:
        """Return an error that names the model and the node."""
        return self.scope.model.refuse(f"{self.node.op_type} {self.label!r}: {text}")

    @property
    def kind(self) -> Kind:
        """The cell that it computes."""
        return next(
            kind
            for kind in _KINDS
            if kind.name == self.node.op_type
            and all(bool(self.integer(name, 0)) == bool(value) for name, value in kind.onnx.items())
        )

    @property
    def state_names(self) -> tuple[str, ...]:
        """Return "h", and an LSTM's "c"."""
        return self.kind.cell.arguments.states

    def input(self, what: str) -> str:
        """Return the name of the tensor that the node takes as W, R, …, or ""."""
        position = inputs_of(self.kind).index(what)
        return self.node.input[position] if position < len(self.node.input) else ""

    # -- attributes ---------------------------------------------------------------------------------------------------

    def _attribute(self, name: str, type_name: str) -> AttributeProto | None:
        from onnx import AttributeProto

        found: AttributeProto | None = attribute(self.node, name)
        if found is not None and found.type != AttributeProto.AttributeType.Value(type_name):
            raise self.refuse(f"attribute {name}: expected the type {type_name}, got type number {found.type}")
        return found

    def integer(self, name: str, default: int) -> int:
        """Return a whole number among the attributes."""
        found = self._attribute(name, "INT")
        return default if found is None else int(found.i)

    @property
    def directions(self) -> tuple[bool, ...]:
        """For each direction, whether it is the reverse one."""
        found = self._attribute("direction", "STRING")
        name = "forward" if found is None else found.s.decode("utf-8", "replace")
        if name not in DIRECTIONS:
            raise self.refuse(f"direction: expected one of {', '.join(DIRECTIONS)}, got {name!r}")
        return DIRECTIONS[name]

    @property
    def layout(self) -> int:
        """0 where time is the first axis, 1 where the batch is."""
        layout = self.integer("layout", 0)
        if layout not in (0, 1):
            raise self.refuse(f"layout: expected 0 or 1, got {layout}")
        return layout

    def functions(self) -> list[list[str]]:
        """Our names for the non-linearities, a list for each direction."""
        found = self._attribute("activations", "STRINGS")
        D, default = len(self.directions), [FUNCTIONS[name] for name in self.kind.functions.values()]
        names = default * D if found is None else [each.decode("utf-8", "replace") for each in found.strings]
        if len(default) == 1 and D == 1 and len(names) == 2:
            names = names[:1]  # the operator's own default also has one for a second direction
        if len(names) != D * len(default):
            raise self.refuse(f"activations: expected {D * len(default)} names, got {len(names)}: {', '.join(names)}")
        scaled = self._scaled([name for name in names if name.lower() in _DEFAULT_SCALES])
        ours = []
        for name in names:
            known = scaled.pop(0) if name.lower() in _DEFAULT_SCALES else _OURS.get(name.lower())
            if known is None:
                choices = ", ".join(dict.fromkeys(FUNCTIONS.values()))
                raise self.refuse(f"activation {name!r}: the engine hasn't it; expected one of {choices}")
            ours.append(known)
        return [ours[d * len(default) : (d + 1) * len(default)] for d in range(D)]

    def _scaled(self, names: list[str]) -> list[str]:
        """Return our names for the functions that use activation_alpha and activation_beta, in their order."""
        found = [self._attribute(f"activation_{name}", "FLOATS") for name in ("alpha", "beta")]
        given = [[] if each is None else list(each.floats) for each in found]
        filled = [_filled(values, [_DEFAULT_SCALES[name.lower()][n] for name in names])
                  for n, values in enumerate(given)]  # fmt: skip
        ours = []
        for place, name in enumerate(names):
            scale = None if None in filled else tuple(values[place] for values in filled if values is not None)
            alike = [own for own, theirs in FUNCTIONS.items() if own in SCALES and theirs.lower() == name.lower()]
            own = next((own for own in alike if scale is not None and _close(scale, SCALES[own])), None)
            if own is None:
                wanted = " or ".join(f"{SCALES[own][0]:.6g} and activation_beta {SCALES[own][1]:g}" for own in alike)
                raise self.refuse(
                    f"activation {name!r}: expected activation_alpha {wanted} for each (the engine has no other "
                    f"{name}), got {given[0]} and {given[1]}"
                )
            ours.append(own)
        return ours

    def leave_out_clip(self) -> None:
        """Warn if the node clips the arguments of its non-linearities."""
        found = self._attribute("clip", "FLOAT")
        if found is not None:
            self.notes.append(
                f"{self.scope.model.source}: {self.node.op_type} {self.label!r}: its clip of {found.f:g} is left out; "
                "the layer computes what the node does as long as nothing that enters a non-linearity is larger in "
                "size: in a trace all a_k, an LSTM's c, and what φ makes a GRU's n of"
            )

    def check_attributes(self, clips: bool) -> None:
        """Raise an error that names features that the engine or the operator lacks; ignore clip if asked to."""
        _ = self.layout
        names = inputs_of(self.kind)
        for each in self.node.attribute:
            if each.name == "clip" and clips:
                raise self.refuse(
                    "attribute clip: the engine doesn't clip what enters a non-linearity to ±clip, as ONNX defines it; "
                    'from_onnx(..., clip="ignore") leaves it out, and says where that changes nothing'
                )
            if each.name not in {*_READ, *_HARMLESS, "clip", *self.kind.onnx}:
                raise self.refuse(f"attribute {each.name}: expected an attribute of the operator, got an unknown one")
        if len(self.node.input) > len(names):
            extra = self.node.input[len(names)]
            raise self.refuse(f"expected at most {len(names)} inputs, got another one, {extra!r}")

    # -- tensors ------------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, NDArray]:
        """Return W, R and, if present, B and P, in float32 or float64, with checked shapes."""
        gates, D = len(self.kind.gates["onnx"]), len(self.directions)
        names = [name for name in inputs_of(self.kind) if name in ("W", "R", "B", "P")]
        found = {name: self._weight(name, name in "WR") for name in names}
        weights = {name: array for name, array in found.items() if array is not None}
        H = weights["R"].shape[-1] if weights["R"].ndim else 0
        I = weights["W"].shape[-1] if weights["W"].ndim else 0
        if not H or not I:
            name = "W" if H else "R"
            raise self.refuse(f"{name}: expected 3 dimensions, none of them empty, got shape {weights[name].shape}")
        shapes = {"W": (D, gates * H, I), "R": (D, gates * H, H), "B": (D, 2 * gates * H), "P": (D, 3 * H)}
        for name, array in weights.items():
            if array.shape != shapes[name]:
                raise self.refuse(f"{name}: expected shape {shapes[name]}, got {array.shape}")
            if array.dtype != weights["W"].dtype:
                raise self.refuse(f"{name}: expected {weights['W'].dtype} as in W, got {array.dtype}")
        if self.integer("hidden_size", H) != H:
            raise self.refuse(f"R: expected hidden_size {self.integer('hidden_size', H)}, got shape {shapes['R']}")
        return weights

    def _weight(self, what: str, needed: bool) -> NDArray | None:
        name = self.input(what)
        if not name:
            if needed:
                raise self.refuse(f"{what}: expected a tensor, got none")
            return None
        array = self.scope.constant(name)
        if array is None:
            origin = {
                "nowhere": "which is missing in the graph",
                "input": "an input of the graph: its values are not in the model",
            }.get(self.scope.origin(name), "which the graph computes as it runs: its values are not in the model")
            raise self.refuse(f"{what}: expected a constant, got {name!r}, {origin}")
        return self._as_floats(what, array)

    def _as_floats(self, what: str, array: NDArray) -> NDArray:
        if array.dtype.name in ("float16", "bfloat16"):
            return array.astype(np.float32)
        if array.dtype not in (np.float32, np.float64):
            raise self.refuse(f"{what}: expected floating-point numbers, got {array.dtype}")
        return array

    def state(self, what: str, H: int) -> NDArray | None:
        """Return initial_h or initial_c (D, B or 1, H) if it is constant and not zero, else None."""
        if not self.input(what):
            return None
        name = self.input(what)
        if (width := self.scope.last_size(name)) not in (None, 1, H):
            raise self.refuse(f"{what}: expected a last axis of {H} numbers, as R has it, got {width}")
        array = self.scope.constant(name)
        open_batch = array is None
        if open_batch:
            array = self.scope.before_widening(name)
        if array is None:
            self._say_who_gives(what, "zeros")
            return None
        array = self._as_floats(what, array)
        if self.layout == 1 and array.ndim == 3:
            array = array.swapaxes(0, 1)
        D = len(self.directions)
        if array.ndim != 3 or array.shape[0] != D or array.shape[2] != H or not array.shape[1]:
            if open_batch and not array.any():  # a zero state that fits any batch
                return None
            wanted = f"({D}, B, {H})" if self.layout == 0 else f"(B, {D}, {H})"
            got = array.swapaxes(0, 1).shape if self.layout == 1 and array.ndim == 3 else array.shape
            raise self.refuse(f"{what}: expected shape {wanted}, got {got}")
        if not np.isfinite(array).all():
            raise self.refuse(f"{what}: expected finite numbers, got NaN or infinity")
        return array if array.any() else None

    def lengths(self) -> NDArray | None:
        """Return sequence_lens (B,) if they are constant, else None."""
        name = self.input("sequence_lens")
        if not name:
            return None
        array = self.scope.constant(name)
        if array is None:
            self._say_who_gives("sequence_lens", "all steps of all sequences")
            return None
        if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size or array.min() < 0:
            raise self.refuse(f"sequence_lens: expected whole numbers of at least 0 in one dimension, got {array}")
        return array

    def _say_who_gives(self, what: str, without: str) -> None:
        name = self.input(what)
        origin = self.scope.origin(name)
        if origin == "nowhere":
            raise self.refuse(f"{what}: expected a tensor, got {name!r}, which is missing in the graph")
        if origin in ("computed", "constant"):
            self.notes.append(
                f"{self.scope.model.source}: {self.node.op_type} {self.label!r}: the graph computes its {what} as it "
                f"runs; give it to forward, which takes {without} otherwise"
            )

    # -- layers -------------------------------------------------------------------------------------------------------

    def layers(self, dtype: np.dtype | None, clips: bool = True) -> list[Recurrent]:
        """Return a layer for each direction, with the node's weights; without `clips`, clip is ignored."""
        self.check_attributes(clips)
        self.leave_out_clip()
        kind, functions, weights = self.kind, self.functions(), self.weights()
        (_, _, I), H = weights["W"].shape, weights["R"].shape[-1]
        parts = {"U": weights["W"], "W": weights["R"]}
        if "P" in weights:
            parts["V"] = weights["P"]
        if "B" in weights:
            parts["b"], parts["bw"] = np.split(weights["B"], 2, axis=1)
        options: dict[str, Any] = {"bias": "B" in weights, "dtype": dtype or weights["W"].dtype, "seed": 0}
        if "peepholes" in kind.cell.options:
            options["peepholes"] = "P" in weights

        result = []
        for d, reverse in enumerate(self.directions):
            chosen = self._chosen(functions[d])
            layer = kind.make(I, H, reverse=reverse, **chosen, **options)
            if "V" in layer.parameters() and "P" not in weights:
                layer["V"] = np.zeros_like(layer["V"])
            fill(layer, kind.gates["onnx"], {name: array[d] for name, array in parts.items()})
            result.append(layer)
        return result

    def _chosen(self, functions: list[str]) -> dict[str, str]:
        """Return the cell's options that are non-linearities; raise for others if the cell offers no choice."""
        kind = self.kind
        chosen = dict(zip(kind.functions, functions, strict=True))
        fixed = {option: default for option, default in kind.functions.items() if option not in kind.cell.options}
        if any(chosen.pop(option) != default for option, default in fixed.items()):
            expected = ", ".join(FUNCTIONS[default] for default in fixed.values())
            raise self.refuse(f"activations: expected {expected}, those of the cell {kind.cell.name}")
        return chosen


def recurrent_nodes(model: Model) -> list[RecurrentNode]:
    """Return the LSTM, GRU and RNN nodes of all graphs in the model, each with a unique label."""
    found = [(node, scope, path) for node, scope, path in walk(model) if node.op_type in _NAMES and _is_standard(node)]
    names = [path + node.name for node, _, path in found]
    result: list[RecurrentNode] = []
    taken: set[str] = set()
    for (node, scope, path), name in zip(found, names, strict=True):
        outputs = [path + output for output in node.output if output]
        choices = [name] if node.name and names.count(name) == 1 else outputs
        label = next(iter(choices), f"{path}{node.op_type}")
        number = 1
        while label in taken:
            number += 1
            label = f"{next(iter(choices), path + node.op_type)}#{number}"
        taken.add(label)
        result.append(RecurrentNode(node, scope, label))
    return result


def _is_standard(node: NodeProto) -> bool:
    return node.domain in STANDARD


# -- one node above the other


@dataclass(frozen=True)
class Link:
    """A node whose output is another one's input, and how directions are joined (None: there is only one)."""

    lower: RecurrentNode
    merge: str | None


def link_below(upper: RecurrentNode, nodes: list[RecurrentNode]) -> Link | None:
    """Return the node directly below `upper`, as in a stack of layers; None if there is none.

    Nodes in between may only move axes: Y (T, D, B, H), or (B, T, D, H) with layout 1, becomes X (T, B, D H) with
    both directions side by side, or their sum (T, B, H).
    """
    name = upper.input("X")
    between: list[tuple[NodeProto, Scope]] = []
    while True:
        home = upper.scope.home(name)
        node = home.maker(name) if home else None
        if home is None or node is None or len(between) > 100:
            return None
        lower = next((each for each in nodes if each.scope is home and name in each.node.output), None)
        if lower:
            break
        between.append((node, home))
        name = next(iter(node.input), "")
    if name != lower.node.output[0] or not _alike(lower, upper):
        return None
    axes: list[str] | None = ["T", "D", "B", "H"] if lower.layout == 0 else ["B", "T", "D", "H"]
    merge: str | None = "concat" if len(lower.directions) == 2 else None
    for node, home in reversed(between):
        if node.op_type == "ReduceSum" and node.domain in STANDARD and axes and merge:
            axes, merge = _summed(axes, node, home), "sum"
        else:
            axes = _moved(axes, node, home, lower) if axes and node.domain in STANDARD else None
        if axes is None:
            return None
    both = merge == "concat"
    return Link(lower, merge) if axes == [*("TB" if upper.layout == 0 else "BT"), "DH" if both else "H"] else None


def _alike(lower: RecurrentNode, upper: RecurrentNode) -> bool:
    """Return whether both nodes are of the same kind and take the same lengths."""
    given = [each.input("sequence_lens") for each in (lower, upper)]
    if lower.kind is not upper.kind or (given[0] == "") != (given[1] == ""):
        return False
    if given[0] == given[1]:
        return True
    one, other = lower.scope.constant(given[0]), upper.scope.constant(given[1])
    return one is not None and other is not None and np.array_equal(one, other)


def _numbers(node: NodeProto, scope: Scope, name: str) -> list[int] | None:
    """Return the whole numbers that a node takes as its second input or, in older versions, as an attribute."""
    found = attribute(node, name)
    if found is not None:
        return list(found.ints)
    array = scope.constant(node.input[1]) if len(node.input) > 1 else None
    return None if array is None or array.dtype.kind not in "iu" else [int(n) for n in array.ravel()]


def _moved(axes: list[str], node: NodeProto, scope: Scope, lower: RecurrentNode) -> list[str] | None:
    """Return the axes after a node that does no arithmetic; None for any other node."""
    if node.op_type == "Identity":
        return axes
    if node.op_type == "Dropout":  # in inference it changes nothing
        training = node.input[2] if len(node.input) > 2 else ""
        return axes if not training or scope.origin(training) == "zero" else None
    if node.op_type == "Transpose":
        perm = attribute(node, "perm")
        order = list(perm.ints) if perm is not None else [*range(len(axes))][::-1]
        return [axes[n] for n in order] if sorted(order) == [*range(len(axes))] else None
    if node.op_type == "Squeeze":
        gone = _numbers(node, scope, "axes")
        one = gone is not None and len(gone) == 1 and -len(axes) <= gone[0] < len(axes)
        if not one or gone is None or axes[gone[0]] != "D" or len(lower.directions) > 1:
            return None
        return [axis for axis in axes if axis != "D"]
    return _reshaped(axes, node, scope, lower) if node.op_type == "Reshape" else None


def _summed(axes: list[str], node: NodeProto, scope: Scope) -> list[str] | None:
    """Return the axes after a sum of the directions; None if something else was added."""
    over, keep = _numbers(node, scope, "axes"), attribute(node, "keepdims")
    one = over is not None and len(over) == 1 and -len(axes) <= over[0] < len(axes)
    if not one or over is None or axes[over[0]] != "D" or keep is None or keep.i:
        return None
    return [axis for axis in axes if axis != "D"]


def _reshaped(axes: list[str], node: NodeProto, scope: Scope, lower: RecurrentNode) -> list[str] | None:
    """Return the axes after a Reshape that joins D and H or drops a D of 1; None for any other Reshape."""
    shape, zero = _numbers(node, scope, "shape"), attribute(node, "allowzero")
    D, H = len(lower.directions), lower.integer("hidden_size", 0) or _units(lower)
    if D == 1:
        after, last = [axis for axis in axes if axis != "D"], "H"
    else:
        after, last = [*axes[:-2], "DH"], "DH"
        if axes[-2:] != ["D", "H"]:
            return None
    if shape is None or len(shape) != len(after) or after[-1] != last or len(after) != 3 or shape.count(-1) > 1:
        return None
    for place, (axis, wanted) in enumerate(zip(after, shape, strict=True)):
        kept = wanted == 0 and axes[place] == axis and not (zero is not None and zero.i)
        size = D * H if axis == last else scope.size(node.input[0], axes.index(axis))
        if not (wanted == -1 or kept or (wanted > 0 and wanted == size)):
            return None
    return after


def _units(node: RecurrentNode) -> int:
    weights = node.scope.constant(node.input("R"))
    return 0 if weights is None or not weights.ndim else weights.shape[-1]
