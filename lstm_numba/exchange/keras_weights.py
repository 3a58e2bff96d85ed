"""Weights in from Keras, and out to it.

Keras has time behind the batch and multiplies from the other side, so that its matrices are the transposes of ours; an
LSTM's four are side by side in the order i, f, c, o:

    kernel (I, 4 H)             [U_iᵀ, U_fᵀ, U_cᵀ, U_oᵀ]
    recurrent_kernel (H, 4 H)   [W_iᵀ, W_fᵀ, W_cᵀ, W_oᵀ]
    bias (4 H,)                 [b_i, b_f, b_c, b_o]

and a SimpleRNN's are (I, H), (H, H), (H,). ``layer.get_weights()`` gives them in this order, a Bidirectional's forward
direction first. There are no peepholes, one ``recurrent_activation`` for all gates, and one ``activation`` for both the
cell's input and its output.

Source: Keras' LSTMCell and SimpleRNNCell, https://keras.io/api/layers/recurrent_layers/lstm/.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.exchange import _keras_files, _keras_layers
from lstm_numba.exchange._keras_layers import ACTIVATIONS, Cell, Described, Found, Refused
from lstm_numba.layers.checkpoints import ModelFileError
from lstm_numba.layers.lstm import LSTM
from lstm_numba.layers.simple_rnn import SimpleRNN
from lstm_numba.layers.stack import Stack, as_stack, simplest

if TYPE_CHECKING:
    from lstm_numba.layers.recurrent import Recurrent as RecurrentLayer

_GATES = [0, 1, 3, 2]  # where i, f, c, o lie in i, f, o, c, and the other way round
_OURS = {ours: keras for keras, ours in ACTIVATIONS.items()}
_DEFAULTS = Cell(None, "tanh", "sigmoid", None, False)


class _Given(NamedTuple):
    """What the caller says of a layer, for sources that don't."""

    activation: str | None
    recurrent_activation: str | None
    go_backwards: bool | None


def from_keras(
    source: Any,
    *,
    name: str | Sequence[str] | None = None,
    dtype: DTypeLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    go_backwards: bool | None = None,
) -> LSTM | SimpleRNN | Stack:
    """Return a Keras layer's weights as a layer, or as a stack where it runs in both directions.

    Arrays here are time-major: Keras' input (B, T, I) goes in as ``x.swapaxes(0, 1)``. Every array keeps its own time
    index, also in a layer with ``go_backwards=True`` (here: ``reverse=True``), while Keras hands such a layer's outputs
    on in the order of processing: they are ``trace.h[::-1]``. A Bidirectional's `StackTrace.h` has both directions side
    by side for every merge_mode. Dropout, which Keras applies in training only, and a stateful layer's present state
    are not taken over. Where Keras masks the steps at the end, give the number of steps before them as ``lengths``.

    Parameters
    ----------
    source
        A path: ``.keras`` (read with h5py alone, Keras isn't needed), ``.weights.h5``, or the ``.h5`` of Keras 2. Or a
        Keras layer or model: LSTM, SimpleRNN, an RNN of LSTMCell or SimpleRNNCell, a Bidirectional of one of these. Or
        the list of arrays of its ``get_weights()``: 2 or 3, twice as many for a Bidirectional; or a list of such lists,
        for layers that lie one above the other.
    name
        Of several recurrent layers the one to take, by Keras' name of it (in nested models also "outer/inner"); or the
        names of some that feed each other directly, from the input up, to make one stack. What lies between them in the
        model is left out.
    dtype
        float32 or float64; by default the source's, where float16 and bfloat16 become float32.
    activation, recurrent_activation
        "tanh", "sigmoid", "relu" or "linear", for a source that doesn't tell (arrays, a file of weights, in a .keras
        file a layer within a class of one's own): by default Keras' own defaults, "tanh" and "sigmoid".
    go_backwards
        The same, by default False.

    Returns
    -------
    LSTM or SimpleRNN
        For one layer in one direction, without peepholes: ``trace = layer.forward(x)``, then ``trace.f``.
    Stack
        Otherwise: ``trace.layers[0][1].f`` is the forget gate of the backward direction.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file is not Keras' or not whole, or holds no layer that can be loaded; a ValueError.
    ValueError
        For a name that isn't there, or none where there are several: the text lists them. For what the engine hasn't
        (GRU, other activations, other merge_modes), missing arrays and wrong shapes.
    TypeError
        For something else than a source, whole numbers as weights.
    ImportError
        For a file without h5py.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> layer = from_keras([rng.standard_normal(shape) for shape in ((3, 8), (2, 8), (8,))])
    >>> layer.forward(np.ones((5, 1, 3))).f.shape
    (5, 1, 2)
    """
    wanted = None if dtype is None else _checks.float_dtype(dtype)
    given = _given(activation, recurrent_activation, go_backwards)
    if not isinstance(source, str | os.PathLike):
        try:
            if isinstance(source, list | tuple):
                if name is not None:
                    raise ValueError(f"name: expected None, as arrays have no names, got {name!r}")
                return _built(_of_arrays(source), given, wanted)
            return _built(_chosen(_of_object(source), name), given, wanted)
        except Refused as error:
            raise ValueError(f"source: {error}") from None
    path = Path(source)
    if path.is_dir():
        raise ModelFileError(f"{path}: expected a file, got a folder; save the model with model.save('model.keras')")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with _keras_files.opened(path) as found:
            return _built(_chosen(found, name), given, wanted)
    except Refused as error:
        raise ModelFileError(f"{path}: {error}") from None


def _given(activation: str | None, recurrent_activation: str | None, go_backwards: bool | None) -> _Given:
    for argument, value in (("activation", activation), ("recurrent_activation", recurrent_activation)):
        if value is not None:
            _checks.choice(argument, value, ACTIVATIONS)
    return _Given(
        activation, recurrent_activation, None if go_backwards is None else _checks.flag("go_backwards", go_backwards)
    )


# -- sources in memory ------------------------------------------------------------------------------------------------


def _of_object(source: Any) -> list[Found]:
    if hasattr(source, "get_weights") and hasattr(source, "get_config"):
        found = list(_keras_layers.of_object(source))
        if not found:
            raise Refused(f"expected a recurrent layer or a model with one, got {type(source).__name__} without any")
        return found
    raise TypeError(
        "source: expected a path, a Keras layer or model, or the list of arrays of its get_weights(), got "
        f"{type(source).__name__}"
    )


def _of_arrays(source: Sequence[Any]) -> list[Found]:
    if source and all(isinstance(each, list | tuple) for each in source):
        return [_of_list(each, f"[{number}]") for number, each in enumerate(source)]
    return [_of_list(source, "")]


def _of_list(arrays: Sequence[Any], name: str) -> Found:
    for number, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"source{name}[{number}]: expected a NumPy array, got {type(array).__name__}")
    return Found(name, name, Described(), lambda: _by_direction(arrays))


def _by_direction(arrays: Sequence[NDArray]) -> list[list[NDArray]]:
    """Divide one layer's arrays by direction."""
    dimensions = [array.ndim for array in arrays]
    for one in ([2, 2], [2, 2, 1]):
        if dimensions == one:
            return [list(arrays)]
        if dimensions == 2 * one:
            return [list(arrays[: len(one)]), list(arrays[len(one) :])]
    shapes = ", ".join(str(array.shape) for array in arrays) or "none"
    raise Refused(
        f"expected kernel, recurrent kernel and bias of one layer, or of a Bidirectional's two, got {shapes}; for "
        "layers one above the other give a list for each"
    )


# -- choosing ---------------------------------------------------------------------------------------------------------


def _built(chosen: list[Found], given: _Given, dtype: np.dtype | None) -> LSTM | SimpleRNN | Stack:
    weights = [_named_in_errors(each, _checked) for each in chosen]
    arrays = [array for directions in weights for direction in directions for array in direction]
    dtype = dtype or np.result_type(*arrays)
    layers = [
        _named_in_errors(each, _directions, own, given, dtype) for each, own in zip(chosen, weights, strict=True)
    ]
    if len(layers) == 1 and len(layers[0]) == 1:
        return layers[0][0]
    for each, directions in zip(chosen[:-1], layers[:-1], strict=True):
        if len(directions) == 1 and directions[0].reverse:
            raise Refused(
                f"{each.name!r}: a layer with go_backwards=True hands its outputs on in the order of processing, so it "
                "can't lie below another one here; load each by its name"
            )
    return simplest(Stack.of(layers, merge=_merge(chosen, layers)))


def _named_in_errors(found: Found, make: Any, *arguments: Any) -> Any:
    """Return ``make(found, *arguments)``, and name the layer in what is refused."""
    try:
        return make(found, *arguments)
    except Refused as error:
        raise Refused(f"layer {found.name!r}: {error}" if found.name else str(error)) from None


def _chosen(found: list[Found], name: str | Sequence[str] | None) -> list[Found]:
    if not found:
        raise Refused("there is no LSTM or SimpleRNN of Keras' in it")
    usable = [each for each in found if not each.described.problem]
    if name is None:
        if not usable:
            raise Refused(f"it has no layer that can be loaded; {found[0].name!r} is {found[0].described.problem}")
        if len(usable) == 1:
            return usable
        raise ValueError(f"name: expected one of {_listed(found)}, as there are several, got None")
    names = [name] if isinstance(name, str) else list(name)
    if not names or not all(isinstance(each, str) for each in names):
        raise ValueError(f"name: expected one or more of {_listed(found)}, got {name!r}")
    return [_named(found, each) for each in names]


def _named(found: list[Found], name: str) -> Found:
    for attribute in ("path", "name"):
        matches = [each for each in found if getattr(each, attribute) == name]
        if len(matches) == 1:
            if matches[0].described.problem:
                raise Refused(f"{name!r} is {matches[0].described.problem}")
            return matches[0]
    raise ValueError(f"name: expected one of {_listed(found)}, got {name!r}")


def _listed(found: list[Found]) -> str:
    """Return what each layer is called, by its path where several have one name."""
    names = [each.name for each in found]
    return ", ".join(repr(each.path if names.count(each.name) > 1 else each.name) for each in found)


def _merge(chosen: list[Found], layers: list[list[Any]]) -> str:
    """How directions are joined, as Keras says, or where it doesn't, as the next layer's input size does."""
    modes = []
    for found, own, above in zip(chosen, layers, [*layers[1:], None], strict=True):
        if len(own) == 2 and found.described.cells:
            modes.append(found.described.merge_mode)
        elif len(own) == 2 and above is not None:
            modes.append("sum" if above[0].input_size == own[0].hidden_size else "concat")
    for mode in modes:
        if mode not in ("concat", "sum"):
            raise Refused(
                f"merge_mode: expected 'concat' or 'sum', got {mode!r}; the weights alone can be loaded, from the list "
                "that get_weights() returns"
            )
    if len(set(modes)) > 1:
        raise Refused(f"merge_mode: expected the same in all layers, got {', '.join(map(repr, modes))}")
    return modes[0] if modes else "concat"  # type: ignore[return-value]


# -- Keras' arrays as layers ------------------------------------------------------------------------------------------


def _checked(found: Found) -> list[list[NDArray]]:
    """Read a layer's arrays: float32 or float64, and of shapes that fit together."""
    directions = [[_floats(array) for array in direction] for direction in found.read()]
    for direction in directions:
        _check_shapes(direction)
    shapes = [[array.shape for array in direction] for direction in directions]
    if shapes[0] != shapes[-1]:
        raise Refused(
            f"expected the same shapes in both directions, got {shapes[0]} and {shapes[-1]}; for layers one above the "
            "other give a list for each"
        )
    return directions


def _floats(array: NDArray) -> NDArray:
    if array.dtype.name in ("float16", "bfloat16"):
        return array.astype(np.float32)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise Refused(f"expected weights of float16, bfloat16, float32 or float64, got {array.dtype}")
    return array


def _check_shapes(arrays: list[NDArray]) -> None:
    if len(arrays) not in (2, 3):
        raise Refused(f"expected kernel, recurrent kernel and bias, got {len(arrays)} arrays")
    kernel, recurrent = arrays[:2]
    if recurrent.ndim == 2 and recurrent.shape[1] == 3 * recurrent.shape[0] > 0:
        raise Refused(f"a recurrent kernel of shape {recurrent.shape} is a GRU's; LSTM and SimpleRNN can be loaded")
    H = len(recurrent) if recurrent.ndim else 0
    if recurrent.ndim != 2 or H == 0 or recurrent.shape[1] not in (H, 4 * H):
        raise Refused(f"expected a recurrent kernel (H, 4 H) of an LSTM or (H, H), got {recurrent.shape}")
    columns = recurrent.shape[1]
    beside = f"beside a recurrent kernel {recurrent.shape}"
    if kernel.ndim != 2 or kernel.shape[1] != columns or not kernel.size:
        raise Refused(f"expected a kernel (I, {columns}) {beside}, got {kernel.shape}")
    if len(arrays) == 3 and arrays[2].shape != (columns,):
        raise Refused(f"expected a bias ({columns},) {beside}, got {arrays[2].shape}")


def _directions(found: Found, weights: list[list[NDArray]], given: _Given, dtype: np.dtype) -> list[RecurrentLayer]:
    cells = found.described.cells or (Cell(),) * len(weights)
    if len(weights) == 2:
        if given.go_backwards is not None:
            raise ValueError("go_backwards: a Bidirectional has both directions, so expected None")
        if not found.described.cells:
            cells = (cells[0]._replace(go_backwards=False), cells[1]._replace(go_backwards=True))
        if [cell.go_backwards for cell in cells] != [False, True]:
            raise Refused("a Bidirectional's forward layer has go_backwards=True; swap the two layers")
    return [_layer(_settled(cell, given, arrays), arrays, dtype) for cell, arrays in zip(cells, weights, strict=True)]


def _settled(cell: Cell, given: _Given, arrays: list[NDArray]) -> Cell:
    """Fill in what the source doesn't say, and compare what it does with the caller's and with its arrays."""
    kind = "LSTM" if arrays[1].shape[1] == 4 * arrays[1].shape[0] else "SimpleRNN"
    if cell.kind not in (None, kind):
        shapes = [array.shape for array in arrays]
        raise Refused(f"expected the arrays of Keras' {cell.kind}, got those of its {kind}: {shapes}")
    if cell.use_bias not in (None, len(arrays) == 3):
        raise Refused(f"use_bias={cell.use_bias}, and there are {len(arrays)} arrays")
    known = {} if kind == "LSTM" else {"recurrent_activation": "none, being a SimpleRNN"}
    for option, value in given._asdict().items():
        own = known.get(option, getattr(cell, option))
        if value is not None and own not in (None, value):
            raise ValueError(f"{option}: the source has {own!r}, so expected that or None, got {value!r}")
    settled = cell._replace(kind=kind, use_bias=len(arrays) == 3)
    for source in (given, _DEFAULTS):
        missing = {option: getattr(source, option) for option in _Given._fields if getattr(settled, option) is None}
        settled = settled._replace(**missing)
    return settled


def _layer(cell: Cell, arrays: list[NDArray], dtype: np.dtype) -> RecurrentLayer:
    (I, columns), H = arrays[0].shape, arrays[1].shape[0]
    options: dict[str, Any] = {"bias": cell.use_bias, "reverse": cell.go_backwards, "dtype": dtype, "seed": 0}
    squash = _ours("activation", cell.activation)
    layer: RecurrentLayer
    if cell.kind == "SimpleRNN":
        layer = SimpleRNN(I, H, nonlinearity=squash, **options)
    else:
        gate = _ours("recurrent_activation", cell.recurrent_activation)
        layer = LSTM(I, H, peepholes=False, gate=gate, cell_input=squash, cell_output=squash, **options)
    for name, array in zip("UWb", arrays, strict=False):
        rows = array.T.reshape(columns // H, H, *array.shape[:-1])[_GATES[: columns // H]]
        layer[name] = rows.reshape(layer[name].shape)
    return layer


def _ours(option: str, keras_name: str | None) -> str:
    if keras_name not in ACTIVATIONS:
        raise Refused(f"{option}: expected one of {', '.join(map(repr, ACTIVATIONS))}, got {keras_name!r}")
    return ACTIVATIONS[keras_name]


# -- layers as Keras' arrays ------------------------------------------------------------------------------------------


def to_keras(model: LSTM | SimpleRNN | Stack, *, layer: bool = False) -> Any:
    """Return a model's weights as Keras has them, or a Keras layer that holds them.

    Parameters
    ----------
    model
        A layer or a stack of them (of a `Network` its recurrent layers).
    layer
        False: arrays, for which Keras isn't needed. True: Keras' own layer, built, which hands on every step's output;
        a ``keras.Sequential`` of such layers for a stack of several.

    Returns
    -------
    list
        The arrays that ``set_weights`` of Keras' LSTM, SimpleRNN or Bidirectional takes: kernel, recurrent kernel and
        bias, for each direction; copies in the model's dtype. For a stack of several layers a list with one such list
        for each. `from_keras` takes either back; arrays don't tell activations, ``go_backwards``, and the
        ``merge_mode`` of the top layer.
    keras.Layer or keras.Sequential
        With ``layer=True``.

    Raises
    ------
    ValueError
        For what Keras hasn't: peepholes, different non-linearities of the cell's input and output, initial states or
        lengths kept in a stack, a lone backward layer below another layer.
    TypeError
        For something else than a layer, a stack or a network.
    ImportError
        With ``layer=True`` where Keras isn't installed.
    """
    stack = _expressible(model)
    if _checks.flag("layer", layer):
        return _keras_model(stack)
    lists = [_weights(directions) for directions in stack.layers]
    return lists if len(lists) > 1 else lists[0]


def _weights(directions: Sequence[RecurrentLayer]) -> list[NDArray]:
    return [array for layer in directions for array in _keras_arrays(layer)]


def _keras_arrays(layer: RecurrentLayer) -> list[NDArray]:
    arrays = []
    for name in ("U", "W", "b")[: 2 + layer.bias]:
        array = layer[name]
        rows = array if layer.gates == 1 else array[_GATES].reshape(-1, *array.shape[2:])
        arrays.append(np.array(rows.T, order="C"))
    return arrays


def _expressible(model: Any) -> Stack:
    """Return the model as a stack, or raise where Keras has no such layers."""
    stack = as_stack(model)
    for option in ("h0", "c0", "lengths"):
        if getattr(stack, option) is not None:
            raise ValueError(
                f"{option}: Keras' layers keep none of their own; set the stack's {option} to None and give it to the "
                "layer at each call"
            )
    for number, directions in enumerate(stack.layers):
        where = f"layers[{number}]"
        if number < len(stack.layers) - 1 and [own.reverse for own in directions] == [True]:
            raise ValueError(
                f"{where}: a lone backward layer below another; Keras hands its outputs on in the order of processing. "
                "Export each layer by itself"
            )
        for own in directions:
            if getattr(own, "peepholes", False):
                raise ValueError(f"{where}: Keras' LSTM has no peepholes; to_onnx and to_torch have them")
            if isinstance(own, LSTM) and own.cell_input != own.cell_output:
                raise ValueError(
                    f"{where}: Keras has one activation for the cell's input and output, got "
                    f"cell_input={own.cell_input!r} and cell_output={own.cell_output!r}"
                )
    return stack


def _keras_model(stack: Stack) -> Any:
    try:
        import keras
    except ImportError as error:
        raise ImportError(
            f"to_keras(..., layer=True) needs Keras and a library that it computes with ({error}): "
            'pip install "lstm-numba[keras,torch]", and set KERAS_BACKEND=torch'
        ) from None
    layers = [_keras_layer(keras, directions, stack.merge) for directions in stack.layers]
    size = stack.input_size
    for built, directions in zip(layers, stack.layers, strict=True):
        built.build((None, None, size))
        built.set_weights(_weights(directions))
        size = directions[0].hidden_size * (1 + (len(directions) == 2 and stack.merge == "concat"))
    if len(layers) == 1:
        return layers[0]
    return keras.Sequential([keras.Input((None, stack.input_size), dtype=stack.dtype.name), *layers])


def _keras_layer(keras: Any, directions: Sequence[RecurrentLayer], merge: str) -> Any:
    made = [_one_direction(keras, own) for own in directions]
    if len(made) == 1:
        return made[0]
    return keras.layers.Bidirectional(
        made[0], merge_mode=merge, backward_layer=made[1], dtype=directions[0].dtype.name
    )


def _one_direction(keras: Any, layer: Any) -> Any:
    options: Mapping[str, Any] = {
        "use_bias": layer.bias,
        "go_backwards": layer.reverse,
        "return_sequences": True,
        "dtype": layer.dtype.name,
    }
    if isinstance(layer, SimpleRNN):
        return keras.layers.SimpleRNN(layer.hidden_size, activation=_OURS[layer.nonlinearity], **options)
    return keras.layers.LSTM(
        layer.hidden_size, activation=_OURS[layer.cell_output], recurrent_activation=_OURS[layer.gate], **options
    )
