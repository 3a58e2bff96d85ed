"""Which layer of a Keras model takes which one's output, as its configuration says.

A Sequential's layers follow each other. A functional model names for each layer the tensors it is called on, in
``inbound_nodes``: (layer, call, number of its output). Layers that pass on what they get (Dropout in inference) don't
count. A class of one's own computes what its code says, which no configuration tells.

Source: the ``get_config`` of Keras' Sequential and Functional, https://github.com/keras-team/keras.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Layers whose output, in inference, is their input.
_PASSING = frozenset(
    "InputLayer Dropout SpatialDropout1D GaussianDropout GaussianNoise AlphaDropout ActivityRegularization "
    "Identity".split()
)
_FUNCTIONAL = ("Functional", "Model")
# Arguments of a call that aren't numbers to compute with; a mask's steps are the caller's `lengths`.
_NO_INPUTS = ("mask", "training")


def layers_below(kind: str, own: bool, config: Mapping[str, Any]) -> dict[str, str] | None:
    """Return for each layer of a model the name of the one whose output alone it takes; None where nothing tells.

    Parameters
    ----------
    kind, own, config
        The model's class, whether it is Keras' own, and its configuration.

    Returns
    -------
    dict
        Name → name; "" for a layer that takes the model's input, several tensors, or another output than the first.
    """
    layers = config.get("layers")
    if not own or kind not in ("Sequential", *_FUNCTIONAL) or not isinstance(layers, list):
        return None
    nodes = [node for node in layers if isinstance(node, Mapping)]
    names = [layer_name(node) for node in nodes]
    if kind == "Sequential":
        direct = dict(zip(names, ["", *names], strict=False))
    else:
        direct = {name: _source(node.get("inbound_nodes")) for name, node in zip(names, nodes, strict=True)}
    passing = {name for name, node in zip(names, nodes, strict=True) if str(node.get("class_name")) in _PASSING}
    return {name: _followed(name, direct, passing) for name in direct}


def layer_name(node: Mapping[str, Any]) -> str:
    """Return what a configuration calls a layer."""
    config = node.get("config")
    own = config.get("name") if isinstance(config, Mapping) else None
    return str(node.get("name") or own or "")


def _followed(name: str, direct: Mapping[str, str], passing: set[str]) -> str:
    """Go down through layers that pass on what they get."""
    seen = set()
    name = direct[name]
    while name in passing and name not in seen:
        seen.add(name)
        name = direct.get(name, "")
    return "" if name in passing else name


def _source(inbound: Any) -> str:
    """Return the layer whose first output is all that a layer is called on; "" where it isn't so."""
    calls = inbound if isinstance(inbound, list) else []
    if len(calls) != 1:  # called nowhere, or on several inputs one after the other
        return ""
    tensors = list(_tensors(calls[0]))
    if len(tensors) != 1 or len(tensors[0]) < 3 or tensors[0][2] != 0:
        return ""
    return str(tensors[0][0])


def _tensors(value: Any) -> Iterator[Sequence[Any]]:
    """Every [layer, call, output, ...] in the arguments of a call, as Keras 2 and 3 write them."""
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
