"""Look into an ONNX model without running it: its nested graphs, and their constant tensors.

A weight is often not a plain initializer. Exporters pass it through Unsqueeze, Concat or Slice, or put it into a
Constant node or into a file beside the model. Here every tensor that such nodes compute from constants has a value.

Source: the ONNX specification, docs/IR.md (scopes, initializers, external data) and docs/Operators.md.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba.exchange._sources import existing
from lstm_numba.layers.checkpoints import ModelFileError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

STANDARD = ("", "ai.onnx")
# Nodes that only move numbers; the first input holds them (with Concat every input does).
_MOVES = frozenset(
    "Identity Cast Concat Expand Gather Reshape Slice Split Squeeze Tile Transpose Unsqueeze Flatten".split()
)
# Nodes that weights may come through: these, and nodes that create or unpack numbers.
_EVALUATED = _MOVES | {"Constant", "ConstantOfShape", "DequantizeLinear"}
# How many numbers nodes may make from constants, plus how many more for each byte of the file.
_MADE_OF_NOTHING = 2**24
_MADE_OF_A_BYTE = 16
# More nodes than any model has: a file whose functions expand to more is not trusted.
_MOST_NODES = 10**6


def require_onnx(asked: str) -> Any:
    """Return the onnx package, or say how to install it."""
    try:
        import onnx
    except ImportError:
        raise ImportError(f'{asked}: needs the package onnx; pip install "lstm-numba[onnx]"') from None
    return onnx


class Model:
    """An ONNX model and its origin.

    Attributes
    ----------
    proto
        The model, its functions inlined.
    source
        Its name in messages: the file's path, or "model".
    folder
        The folder of external data; None if the model didn't come from a file.
    """

    def __init__(self, proto: ModelProto, source: str, folder: Path | None) -> None:
        self.proto = proto
        self.source = source
        self.folder = folder
        self._may_be_made = _MADE_OF_NOTHING + _MADE_OF_A_BYTE * proto.ByteSize()

    def found(self, n_bytes: int) -> None:
        """Note weights in a file beside the model."""
        self._may_be_made += _MADE_OF_A_BYTE * n_bytes

    def make(self, name: str, numbers: int) -> None:
        """Raise if a tensor, with all earlier ones, would have far more numbers than the file can justify."""
        self._may_be_made -= numbers
        if self._may_be_made < 0:
            raise self.refuse(f"tensor {name!r}: expected sizes that the weights in the file bear out, got {numbers:,}")

    def refuse(self, text: str) -> ModelFileError:
        """Return an error that names the model."""
        return ModelFileError(f"{self.source}: {text}")


def read_model(source: str | os.PathLike[str] | ModelProto) -> Model:
    """Return the model in a file, or the one given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is no ONNX model, or not a whole one.
    TypeError
        If `source` is neither a path nor a model.
    """
    onnx = require_onnx("from_onnx")
    if isinstance(source, onnx.ModelProto):
        model = Model(source, "model", None)
    elif isinstance(source, str | os.PathLike):
        path = existing(source)
        model = Model(_parse(path), str(path), path.parent)
    else:
        raise TypeError(f"source: expected the path of an ONNX file or an onnx.ModelProto, got {type(source).__name__}")
    proto = model.proto
    if not (proto.ir_version and proto.graph.node and proto.opset_import):
        raise model.refuse("expected an ONNX model with a graph and an opset, got one without: cut short, or no ONNX?")
    if proto.functions:
        _check_functions(model)
        try:
            model.proto = importlib.import_module("onnx.inliner").inline_local_functions(proto)
        except Exception as error:  # a C++ library raises errors of any type
            raise model.refuse(f"its functions can't be put in the place of their calls ({error})") from None
    return model


def _check_functions(model: Model) -> None:
    """Raise if functions expand to too many nodes, or call themselves."""
    functions = {(each.domain, each.name): each for each in model.proto.functions}
    known: dict[tuple[str, str], int] = {}

    def size(nodes: Any) -> int:
        inner = (sub for node in nodes for each in node.attribute for sub in (each.g, *each.graphs))
        own = sum(size_of((node.domain, node.op_type)) for node in nodes)
        return own + sum(size(graph.node) for graph in inner if graph.node)

    def size_of(key: tuple[str, str]) -> int:
        if key not in functions:
            return 1
        if key not in known:
            known[key] = _MOST_NODES + 1  # in case it calls itself
            known[key] = size(functions[key].node)
        return known[key]

    try:
        total = size(model.proto.graph.node)
    except RecursionError:
        total = _MOST_NODES + 1
    if total > _MOST_NODES:
        raise model.refuse(f"its functions make more than {_MOST_NODES:,} nodes, or call themselves")


def _parse(path: Path) -> ModelProto:
    from onnx import load_model_from_string

    raw = path.read_bytes()
    try:
        return load_model_from_string(raw)
    except Exception:  # protobuf's own error, whose name depends on the implementation
        raise ModelFileError(f"{path}: expected an ONNX model, got a file of another kind or one cut short") from None


def _check_texts(model: Model, graph: GraphProto) -> None:
    """Raise for names that aren't UTF-8: protobuf returns them as bytes."""
    for node in graph.node:
        own = [node.name, node.op_type, node.domain, *node.input, *node.output]
        _check_text(model, [*own, *(each.name for each in node.attribute)])
    _check_text(model, [each.name for each in [*graph.initializer, *graph.input, *graph.value_info]])


def _check_text(model: Model, names: list[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise model.refuse(f"expected names in UTF-8, got {name!r}: the file is damaged")


class Scope:
    """The tensors that the nodes of a graph can name: its own, and those of the graphs around it."""

    def __init__(self, model: Model, graph: GraphProto, outer: Scope | None = None) -> None:
        self.model = model
        self.outer = outer
        _check_texts(model, graph)
        self.initializers: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.makers: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output if name}
        self.inputs = {value.name for value in graph.input} - set(self.initializers)
        self._values = {value.name: value for value in [*graph.value_info, *graph.input]}
        self._known: dict[str, NDArray | None] = {}

    def home(self, name: str) -> Scope | None:
        """Return the graph that a name belongs to, this one or one around it; None if there is none."""
        scope: Scope | None = self
        while scope and not (name in scope.initializers or name in scope.makers or name in scope.inputs):
            scope = scope.outer
        return scope

    def maker(self, name: str) -> NodeProto | None:
        """Return the node of this graph that makes a tensor."""
        return self.makers.get(name)

    def size(self, name: str, axis: int) -> int | None:
        """Return the size of an axis, if the file declares it."""
        value = self._values.get(name)
        dims = value.type.tensor_type.shape.dim if value else []
        return dims[axis].dim_value or None if -len(dims) <= axis < len(dims) else None

    def last_size(self, name: str) -> int | None:
        """Return the size of a tensor's last axis, if the graph fixes it, even with an open batch axis."""
        home = self.home(name)
        if home is None:
            return None
        node = home.maker(name)
        if node is None or node.op_type not in ("Expand", "ConstantOfShape") or not node.input:
            return home.size(name, -1)
        shape = node.input[-1]
        maker = home.maker(shape)
        if maker is not None and maker.op_type == "Concat" and maker.input:
            shape = maker.input[-1]
        value = home.constant(shape)
        return None if value is None or not value.size else int(value.ravel()[-1])

    def constant(self, name: str) -> NDArray | None:
        """Return the value of a tensor that doesn't depend on the graph's inputs, or None."""
        home = self.home(name)
        if home is not self:
            return home.constant(name) if home else None
        if name not in self._known:
            self._known[name] = None  # a tensor that depends on itself is not constant
            if name in self.initializers:
                self._known[name] = self._array(self.initializers[name])
            elif name in self.makers:
                with self._not_too_deep(name):
                    self._known[name] = self._evaluated(self.makers[name], name)
        return self._known[name]

    @contextmanager
    def _not_too_deep(self, name: str) -> Iterator[None]:
        """Raise if a tensor comes through more nodes than Python can follow."""
        try:
            yield
        except RecursionError:
            pass
        else:
            return
        raise self.model.refuse(f"tensor {name!r}: expected a few nodes between weights and layers, got a long chain")

    def origin(self, name: str, above: tuple[str, ...] = ()) -> str:
        """Return the origin of a tensor's numbers: "zero", "constant", "input" (the model's), "computed", "nowhere".

        `above` are the tensors that are made of it.
        """
        home = self.home(name)
        if home is None or name in above:
            return "nowhere"
        value = home.constant(name)
        if value is not None:
            return "constant" if np.any(value) else "zero"
        if name in home.inputs:
            return "computed" if home.outer else "input"
        node = home.makers[name]
        if node.op_type == "ConstantOfShape" and node.domain in STANDARD:
            filled = attribute(node, "value")
            return "zero" if filled is None or not np.any(home._array(filled.t)) else "constant"
        if node.op_type not in _MOVES or node.domain not in STANDARD:
            return "computed"
        sources = node.input if node.op_type == "Concat" else node.input[:1]
        with home._not_too_deep(name):
            parts = {home.origin(each, (*above, name)) for each in sources}
        return parts.pop() if len(parts) == 1 else "input" if parts == {"zero", "input"} else "computed"

    def before_widening(self, name: str) -> NDArray | None:
        """Return the constant that Expand or Tile repeats for every sequence of a batch, or None."""
        home = self.home(name)
        node = home.maker(name) if home else None
        if home is None or node is None or node.op_type not in ("Expand", "Tile") or node.domain not in STANDARD:
            return None
        return home.constant(node.input[0]) if node.input else None

    def _array(self, tensor: TensorProto) -> NDArray:
        from onnx import external_data_helper, numpy_helper

        if self.model.folder is None and external_data_helper.uses_external_data(tensor):
            raise self.model.refuse(
                f"tensor {tensor.name!r} lies in another file; give from_onnx the model's path, or use onnx.load"
            )
        try:
            array = numpy_helper.to_array(tensor, str(self.model.folder or ""))
        except Exception as error:  # the file may hold anything, and onnx raises many kinds of errors
            raise self.model.refuse(f"tensor {tensor.name!r} can't be read ({error})") from None
        if external_data_helper.uses_external_data(tensor):
            self.model.found(array.nbytes)
        return array

    def _evaluated(self, node: NodeProto, name: str) -> NDArray | None:
        """Return the value of an output of a node whose inputs are all constant."""
        if node.op_type not in _EVALUATED or node.domain not in STANDARD:
            return None
        value = attribute(node, "value")
        if node.op_type == "Constant" and value is not None and value.HasField("t"):
            return self._array(value.t)
        inputs = {}
        for given in filter(None, node.input):
            array = self.constant(given)
            if array is None:
                return None
            inputs[given] = array
        self.model.make(name, _numbers_of(node, list(inputs.values())))
        try:
            return _run(node, inputs, self.model.proto)[name]
        except RecursionError:
            raise
        except Exception as error:  # the interpreter may fail on arbitrary bytes
            raise self.model.refuse(f"tensor {name!r}: its {node.op_type} node can't be evaluated ({error})") from None


def _numbers_of(node: NodeProto, inputs: list[NDArray]) -> int:
    """Return how many numbers a node makes from constant inputs, or an upper bound."""
    sizes = [each.size for each in inputs]
    if node.op_type in ("ConstantOfShape", "Expand", "Tile") and inputs:
        shape = [max(1, abs(int(size))) for size in np.ravel(inputs[-1]).tolist()]
        if node.op_type == "Expand" and len(shape) >= inputs[0].ndim:
            there = (*[1] * (len(shape) - inputs[0].ndim), *inputs[0].shape)
            shape = [max(pair) for pair in zip(shape, there, strict=True)]
        return math.prod(shape) * (sizes[0] if node.op_type == "Tile" else 1)
    if node.op_type == "Gather" and len(inputs) == 2:
        return math.prod(sizes) // max(1, min(inputs[0].shape, default=1))
    return sum(sizes)


def _run(node: NodeProto, inputs: dict[str, NDArray], proto: ModelProto) -> dict[str, NDArray]:
    """Return the outputs of one node, computed by ONNX' reference interpreter."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    described = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    names = [name for name in node.output if name]
    graph = helper.make_graph([node], "one node", described, [helper.make_empty_tensor_value_info(n) for n in names])
    opsets = proto.opset_import
    if node.op_type == "DequantizeLinear":  # the interpreter has only later versions, which do the same with more types
        opsets = [helper.make_opsetid("", max(21, *(each.version for each in opsets if each.domain in STANDARD)))]
    model = helper.make_model(graph, opset_imports=opsets)
    results: Any = ReferenceEvaluator(model).run(None, inputs)
    return dict(zip(names, map(np.asarray, results), strict=True))


def attribute(node: NodeProto, name: str) -> Any:
    """Return the attribute of that name, or None."""
    return next((each for each in node.attribute if each.name == name), None)


def walk(model: Model) -> Iterator[tuple[NodeProto, Scope, str]]:
    """Iterate over every node of the model, with its scope and the path to its graph ("If_1.then_branch." or "")."""
    yield from _walk(model.proto.graph, Scope(model, model.proto.graph), "")


def _walk(graph: GraphProto, scope: Scope, path: str) -> Iterator[tuple[NodeProto, Scope, str]]:
    for node in graph.node:
        yield node, scope, path
        for each in node.attribute:
            if each.HasField("g"):
                inner = f"{path}{node.name or next(iter(node.output), node.op_type)}.{each.name}."
                yield from _walk(each.g, Scope(scope.model, each.g, scope), inner)
