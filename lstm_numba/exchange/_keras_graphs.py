"""Find out from a Keras model's configuration which layer takes the output of which other layer.

The layers of a Sequential follow each other. A functional model names the inputs of each layer in ``inbound_nodes``:
(layer, call, number of its output). A nested model is replaced by its layers: its input goes to the first ones, and the
output of the last one is its output. Layers that don't change their input in inference, such as Dropout, are skipped. A
custom class computes anything, so its configuration says nothing.

Source: the ``get_config`` of Keras' Sequential and Functional, https://github.com/keras-team/keras.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Keras' own classes are recognised by the package that they come from.
PACKAGES = ("keras", "tf_keras", "tensorflow", "keras_core")
# Layers whose output, in inference, is their input.
_PASSING = frozenset(
    "InputLayer Dropout SpatialDropout1D GaussianDropout GaussianNoise AlphaDropout ActivityRegularization "
    "Identity".split()
)
_FUNCTIONAL = ("Functional", "Model")
# Arguments of a call that aren't numbers to compute with; a mask's steps are the caller's `lengths`.
_NO_INPUTS = ("mask", "training")

# A layer's place among a model's layers ("nested/lstm") → the place of the layer whose output alone it takes: "" for a
# layer that takes the model's input, several tensors, or another output than the first; None where nothing tells.
Links = dict[str, str | None]


def read_node(node: Mapping[str, Any]) -> tuple[str, bool, Mapping[str, Any]]:
    """Return (class name, whether it is Keras' own, configuration) of a layer in a configuration."""
    kind, module, registered = str(node.get("class_name")), node.get("module"), node.get("registered_name")
    own = registered in (None, kind) and (module is None or str(module).partition(".")[0] in PACKAGES)
    config = node.get("config")
    if isinstance(config, list):  # a Sequential of Keras before 2.2.3
        config = {"layers": config}
    return kind, own and ">" not in kind, config if isinstance(config, Mapping) else {}


def layer_name(node: Mapping[str, Any]) -> str:
    """Return a layer's name in a configuration."""
    config = node.get("config")
    own = config.get("name") if isinstance(config, Mapping) else None
    return str(node.get("name") or own or "")


def layers_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the layers in a model's configuration."""
    layers = config.get("layers")
    return [each for each in layers if isinstance(each, Mapping)] if isinstance(layers, list) else []


def joined(place: str, name: str) -> str:
    """Return the place of a layer of that name in the model at a place."""
    return f"{place}/{name}".lstrip("/")


def layers_below(node: Mapping[str, Any], place: str = "", source: str | None = "") -> tuple[Links, str | None]:
    """Return which layer is above which in a layer's configuration, and the place of the one whose output is its own.

    Parameters
    ----------
    node
        The configuration of a layer or a model.
    place, source
        Its place, and the place of the layer whose output it takes, as in `Links`.
    """
    kind, own, config = read_node(node)
    if own and kind in _PASSING:
        return {}, source
    links: Links = {place: source}
    if own and kind == "Sequential":
        for child in layers_of(config):
            inside, source = layers_below(child, joined(place, layer_name(child)), source)
            links |= inside
        return links, source
    if own and kind in _FUNCTIONAL:
        graph = _Graph(config, place, source)
        return links | graph.links(), graph.output()
    for child in layers_of(config):
        links |= layers_below(child, joined(place, layer_name(child)), None)[0]
    return links, place


class _Graph:
    """The layers of a functional model, each processed once the layers below it are known."""

    def __init__(self, config: Mapping[str, Any], place: str, source: str | None) -> None:
        self.place = place
        self.nodes = {layer_name(child): child for child in layers_of(config)}
        inputs = [name for name, child in self.nodes.items() if child.get("class_name") == "InputLayer"]
        self.source = source if len(inputs) == 1 else ""
        self.end = _only(config.get("output_layers"))
        self._found: dict[str, tuple[Links, str | None]] = {}

    def links(self) -> Links:
        links: Links = {}
        for name in self.nodes:
            links |= self._look(name)[0]
        return links

    def output(self) -> str | None:
        return self._look(self.end)[1] if self.end else self.place

    def _look(self, name: str) -> tuple[Links, str | None]:
        if name not in self.nodes:
            return {}, ""
        if name not in self._found:
            self._found[name] = {}, ""  # should it take its own output
            child = self.nodes[name]
            below = _source(child.get("inbound_nodes"))
            source = self.source if child.get("class_name") == "InputLayer" else self._look(below)[1]
            self._found[name] = layers_below(child, joined(self.place, name), source)
        return self._found[name]


def _source(inbound: Any) -> str:
    """Return the layer whose first output is the only input of a layer, or ""."""
    calls = inbound if isinstance(inbound, list) else []
    return _only(calls[0]) if len(calls) == 1 else ""  # else called nowhere, or on one input after the other


def _only(value: Any) -> str:
    """Return the layer whose first output is the only tensor in the arguments of a call, or ""."""
    tensors = list(_tensors(value))
    if len(tensors) != 1 or len(tensors[0]) < 3 or tensors[0][2] != 0:
        return ""
    return str(tensors[0][0])


def _tensors(value: Any) -> Iterator[Sequence[Any]]:
    """Iterate over every [layer, call, output, ...] in the arguments of a call, as Keras 2 and 3 write them."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            config = value.get("config")
            history = config.get("keras_history") if isinstance(config, Mapping) else None
            yield history if isinstance(history, list | tuple) else []
            return
        for key, each in value.items():
            if key not in _NO_INPUTS:
                yield from _tensors(each)
    elif isinstance(value, list | tuple):
        if len(value) > 2 and isinstance(value[0], str) and all(type(each) is int for each in value[1:3]):
            yield value[:3]
            value = value[3:]
        for each in value:
            yield from _tensors(each)
