"""Read descriptions of Keras' recurrent layers from a configuration or from a live object.

Keras' words and ours:

    LSTM, GRU, SimpleRNN; RNN(LSTMCell) and so on          one layer
    go_backwards=True                                      reverse=True
    Bidirectional, merge_mode "concat" or "sum"            two directions, merge "concat" or "sum"
    Bidirectional, merge_mode "ave", below another layer   merge "sum", and half of U in the layer above
    recurrent_activation                                   σ: gate
    activation                                             g and h(·): cell_input and cell_output; φ of the others
    "linear"                                               "identity"
    "hard_sigmoid" before Keras 3, 0.2 z + 0.5             "hard_sigmoid"
    "hard_sigmoid" since Keras 3, z / 6 + 0.5              "hard_sigmoid_6"

Some options don't affect the weights and are ignored: those for training (dropout, recurrent_dropout, initializers,
regularizers, constraints), for the input's axes (time_major), and for the part of the output that Keras returns
(return_sequences, return_state, stateful, unroll).

Source: the ``get_config`` of Keras' layers, https://keras.io/api/layers/recurrent_layers/.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from lstm_numba.exchange._keras_graphs import PACKAGES, Links, joined, layer_name, layers_below, layers_of, read_node
from lstm_numba.exchange._kinds import kinds_of

# Keras' name of a non-linearity → ours. "hard_sigmoid" is the one of before Keras 3; that of today is taken as
# "hard_sigmoid_6", a name that Keras hasn't.
ACTIVATIONS = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "linear": "identity",
    "hard_sigmoid": "hard_sigmoid",
    "hard_sigmoid_6": "hard_sigmoid_6",
}
# Classes of layers and of cells → the class of the layer.
CELLS = {f"{kind.keras_name}{end}": kind.keras_name for kind in kinds_of("keras") for end in ("", "Cell")}
CELLS |= {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}  # Keras 2's, with the weights in cuDNN's layout
# Recurrent layers of Keras with other equations.
OTHERS = re.compile(r"(ConvLSTM[123]D|ConvLSTM)(Cell)?$")


class Refused(ValueError):
    """Something can't be loaded; the message doesn't name the source yet."""


class Cell(NamedTuple):
    """One direction of a layer, in Keras' words; None for what the source doesn't say."""

    kind: str | None = None  # "LSTM", "GRU" or "SimpleRNN"
    activation: str | None = None
    recurrent_activation: str | None = None
    use_bias: bool | None = None
    go_backwards: bool | None = None
    reset_after: bool | None = None


class Described(NamedTuple):
    """One recurrent layer: a cell for each direction, or the reason why it can't be loaded."""

    cells: tuple[Cell, ...] = ()
    merge_mode: str | None = "concat"
    problem: str = ""
    gates_unknown: str = ""  # why the caller must give the gates' non-linearity, if the source doesn't


class Found(NamedTuple):
    """A recurrent layer of a source, with a way to its weights: kernel, recurrent kernel, bias of each direction."""

    name: str
    path: str
    described: Described
    read: Callable[[], list[list[NDArray]]]
    place: str = ""  # its name behind those of the models it is in
    below: str | None = None  # the place of the layer whose output it takes, "" for none, None where nothing tells
    hard_sigmoid: str | None = None  # which of `ACTIVATIONS` the word means here, None where nothing tells


def hard_sigmoid_of(version: str) -> str | None:
    """Return the name in `ACTIVATIONS` for what a version of Keras calls "hard_sigmoid"; None for no version."""
    major = re.match(r"\d+", version)
    if major is None:
        return None
    return "hard_sigmoid_6" if int(major[0]) >= 3 else "hard_sigmoid"


def activation_name(value: Any) -> str:
    """Return the name of a non-linearity that a configuration gives as a name, a function or a layer."""
    if value is None:
        return "linear"
    if isinstance(value, Mapping):
        inner = value.get("config")
        return inner if isinstance(inner, str) else str(value.get("class_name"))
    return value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)


def problem_of(kind: str) -> str:
    """Return why a layer of this class can't be loaded."""
    if OTHERS.match(kind):
        return f"a {kind}, whose equations are others; LSTM, GRU and SimpleRNN can be loaded"
    return (
        f"a {kind}, which is not a class of Keras' own; if it computes what Keras' LSTM, GRU or SimpleRNN does, pass "
        "the arrays of its get_weights()"
    )


def describe(kind: str, own: bool, config: Mapping[str, Any]) -> Described | None:
    """Return a description from a layer's class name and configuration; None if it isn't a recurrent layer.

    Parameters
    ----------
    kind
        Its class's name.
    own
        Whether the class is Keras' own.
    config
        What its ``get_config`` returns.
    """
    if own and kind in CELLS:
        return Described((_cell(CELLS[kind], config, config),))
    if own and kind == "RNN":
        return _wrapped_cell(config)
    if own and kind == "Bidirectional":
        return _both_directions(config)
    if OTHERS.match(kind):
        return Described(problem=problem_of(kind))
    return None


def _cell(kind: str, config: Mapping[str, Any], layer: Mapping[str, Any]) -> Cell:
    gate = next("gate" in each.functions for each in kinds_of("keras") if each.keras_name == kind)
    recurrent = config.get("recurrent_activation", "sigmoid")
    return Cell(
        kind,
        activation_name(config.get("activation", "tanh")),
        activation_name(recurrent) if gate else None,
        bool(config.get("use_bias", True)),
        bool(layer.get("go_backwards", False)),
        bool(config["reset_after"]) if "reset_after" in config else None,
    )


def _wrapped_cell(config: Mapping[str, Any]) -> Described:
    cell = config.get("cell")
    kind, own, inner = read_node(cell) if isinstance(cell, Mapping) else ("cell", False, {})
    if own and kind in CELLS:
        return Described((_cell(CELLS[kind], inner, config),))
    if own and kind == "StackedRNNCells":
        return Described(
            problem="an RNN of StackedRNNCells; pass the arrays of its cells, a list of cell.get_weights() for each"
        )
    return Described(problem=f"an RNN of {problem_of(kind)}")


def _both_directions(config: Mapping[str, Any]) -> Described:
    forward = _one_direction(config.get("layer"))
    backward = forward._replace(cells=tuple(cell._replace(go_backwards=True) for cell in forward.cells))
    if config.get("backward_layer") is not None:
        backward = _one_direction(config["backward_layer"])
    for each in (forward, backward):
        if each.problem:
            return Described(problem=f"a Bidirectional of {each.problem}")
    return Described(forward.cells + backward.cells, config.get("merge_mode", "concat"))


def _one_direction(node: Any) -> Described:
    if not isinstance(node, Mapping):
        return Described(problem=f"a layer that its configuration tells nothing of ({node!r:.50})")
    kind, own, config = read_node(node)
    described = describe(kind, own, config) or Described(problem=problem_of(kind))
    return Described(problem="a Bidirectional") if len(described.cells) > 1 else described


def snake_case(name: str) -> str:
    """Return Keras' name for a class in its files: "SimpleRNN" → "simple_rnn"."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Node(NamedTuple):
    """A layer in a model's configuration."""

    path: str
    name: str
    kind: str  # its class's name
    described: Described | None  # None where it isn't recurrent
    place: str  # this and the next as in `Found`
    below: str | None


def walk(model: Mapping[str, Any]) -> Iterator[Node]:
    """Iterate over every layer in a model's configuration.

    The path is where Keras 3 files keep its weights: below "layers", each under its class's name and, from the second
    of a class, a number.
    """
    yield from _walk(model, "", "", layers_below(model)[0])


def _walk(node: Mapping[str, Any], path: str, place: str, links: Links) -> Iterator[Node]:
    kind, own, config = read_node(node)
    described = describe(kind, own, config)
    name = str(config.get("name", path.rpartition("/")[2]))
    yield Node(path, name, kind, described, place, links.get(place, ""))
    if described is not None:
        return
    used: dict[str, int] = {}
    for child in layers_of(config):
        if "class_name" in child:
            short = snake_case(str(child["class_name"]).rpartition(">")[2])
            number = used[short] = used.get(short, -1) + 1
            inner = joined(path, f"layers/{short}{f'_{number}' if number else ''}")
            yield from _walk(child, inner, joined(place, layer_name(child)), links)
    if isinstance(config.get("layer"), Mapping):  # TimeDistributed and its like
        yield from _walk(config["layer"], joined(path, "layer"), joined(place, "layer"), links)


def of_object(source: Any) -> Iterator[Found]:
    """Iterate over the recurrent layers of a Keras layer or model, without importing Keras."""
    yield from _objects(source, "", set(), {})


def _objects(layer: Any, outer: str, seen: set[int], links: Links) -> Iterator[Found]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    kind = type(layer).__name__
    own = type(layer).__module__.partition(".")[0] in PACKAGES
    name = str(getattr(layer, "name", kind))
    path = joined(outer, name)
    below = links.get(path)
    if (own and kind in (*CELLS, "RNN", "Bidirectional")) or OTHERS.match(kind):
        described = describe(kind, own, layer.get_config())
        assert described is not None
        if function := _function_of_ones_own(layer):
            described = Described(problem=f"a layer with a function of one's own, {function}; Keras' can be loaded")
        version = hard_sigmoid_of(_version_of(layer))
        yield Found(name, path, described, lambda: _weights_of(layer), path, below, version)
    elif any(base.__name__ in (*CELLS, "RNN", "Bidirectional") for base in type(layer).__mro__):
        yield Found(name, path, Described(problem=problem_of(kind)), list)
    else:
        if own and hasattr(layer, "layers") and path not in links:
            links = links | layers_below({"class_name": kind, "config": layer.get_config()}, path)[0]
        for child in getattr(layer, "layers", None) or getattr(layer, "_layers", None) or ():
            inner = path if outer or hasattr(layer, "layers") else outer
            yield from _objects(child, inner, seen, links)


def _function_of_ones_own(layer: Any) -> str:
    """Return the name of a non-linearity that isn't Keras' own, although it may have the name of one."""
    inner = [getattr(layer, name, None) for name in ("cell", "forward_layer", "backward_layer")]
    for name in ("activation", "recurrent_activation"):
        module = getattr(getattr(layer, name, None), "__module__", None) or "keras"
        if module.partition(".")[0] not in PACKAGES:
            return f"{name}={module}.{activation_name(getattr(layer, name))}"
    return next(filter(None, (_function_of_ones_own(each) for each in inner if each is not None)), "")


def _version_of(layer: Any) -> str:
    """Return the version of Keras that a layer comes from."""
    package = type(layer).__module__.partition(".")[0]
    versions = {"tensorflow": "2", "keras_core": "3"}  # whose own numbers are others
    return versions.get(package) or str(getattr(sys.modules.get(package), "__version__", ""))


def _weights_of(layer: Any) -> list[list[NDArray]]:
    directions = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
    weights = [list(direction.get_weights()) for direction in directions]
    if not all(weights):
        raise Refused("it has no weights yet; call it once on an input, or build it")
    return weights
