"""Read weights from Keras, and write them for Keras.

In Keras the batch comes before time, and matrices multiply from the other side, so they are the transposes of ours. An
LSTM's four matrices are side by side in the order i, f, c, o:

    kernel (I, 4 H)             [U_iᵀ, U_fᵀ, U_cᵀ, U_oᵀ]
    recurrent_kernel (H, 4 H)   [W_iᵀ, W_fᵀ, W_cᵀ, W_oᵀ]
    bias (4 H,)                 [b_i, b_f, b_c, b_o]

A GRU's three are in the order z, r, h (our n). With ``reset_after=True`` its bias is (2, 3 H), with the bias of the
input above that of the recurrent side: b_z and b_r are the sums, b_n and bw_n stay separate. The arrays of a SimpleRNN
are (I, H), (H, H), (H,). ``layer.get_weights()`` returns them in this order, for a Bidirectional the forward direction
first. There are no peepholes, one ``recurrent_activation`` for all gates, and one ``activation`` for both the cell's
input and its output.

Keras 2's CuDNNLSTM and CuDNNGRU store the numbers of U_k (H, I), row by row, in each gate's columns of the kernel, W_k
itself in those of the recurrent kernel, and the input's biases before those of the recurrent side, (8 H,) or (6 H,).

Source: Keras' LSTMCell, GRUCell and SimpleRNNCell, https://keras.io/api/layers/recurrent_layers/lstm/, and the
conversion of cuDNN's layout in Keras 2's keras/engine/saving.py.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.exchange import _keras_files, _keras_layers
from lstm_numba.exchange._keras_layers import ACTIVATIONS, Cell, Described, Found, Refused
from lstm_numba.exchange._kinds import Kind, fill, kind_of, kinds_of, stacked, without_states
from lstm_numba.exchange._sources import existing, names_of, not_fed, several, warn_of_no_graph
from lstm_numba.layers.checkpoints import ModelFileError
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.layers.stack import MERGES, Stack, simplest

_OURS = {ours: keras for keras, ours in ACTIVATIONS.items()}
_DEFAULTS = Cell(None, "tanh", "sigmoid", None, False)
_CUDNN = Cell(None, "tanh", "sigmoid", None, None)  # cuDNN has no other functions
_ACTIVATED = ("activation", "recurrent_activation")
_KINDS = kinds_of("keras")
_BY_GATES = {len(kind.gates["keras"]): kind.keras_name for kind in _KINDS}


class _Given(NamedTuple):
    """The caller's description of a layer, for sources that don't have one."""

    activation: str | None
    recurrent_activation: str | None
    go_backwards: bool | None
    reset_after: bool | None


def from_keras(
    source: Any,
    *,
    name: str | Sequence[str] | None = None,
    dtype: DTypeLike | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    go_backwards: bool | None = None,
    reset_after: bool | None = None,
) -> Recurrent | Stack:
    """Return a Keras layer's weights as a layer, or as a stack if it runs in both directions.

    Arrays here are time-major: pass Keras' input (B, T, I) as ``x.swapaxes(0, 1)``. Every array keeps its own time
    index, even in a layer with ``go_backwards=True`` (here: ``reverse=True``). Keras returns the outputs of such a
    layer in the order of processing: they are ``trace.h[::-1]``. For a Bidirectional, `StackTrace.h` has both
    directions side by side for every merge_mode, "concat", "sum", "ave", "mul" and None. Below another layer, "mul" and
    None raise an error, and "ave" is read as "sum" with U of the layer above halved, which gives the same numbers.
    Dropout, which Keras applies only in training, and the present state of a stateful layer are ignored. If Keras masks
    the steps at the end, give the number of steps before them as ``lengths``.

    Parameters
    ----------
    source
        A path: ``.keras`` (read with h5py alone, Keras isn't needed), ``.weights.h5``, or the ``.h5`` of Keras 2. Or a
        Keras layer or model: LSTM, GRU, SimpleRNN, an RNN of one of their cells, a Bidirectional of one of these. Or
        the list of arrays of its ``get_weights()``: 2 or 3, twice as many for a Bidirectional; or a list of such lists
        for stacked layers.
    name
        If there are several recurrent layers: Keras' name of the one to read (in nested models also "outer/inner"), or
        the names of layers that feed each other directly, from the input up, to make one stack. Between them only
        layers without effect in inference, such as Dropout, and borders of nested models are allowed. If all layers of
        a model form such a chain, no name is needed. Files of weights and custom models don't tell which layer feeds
        which: then the order of the names is trusted, with a warning.
    dtype
        float32 or float64; by default the source's, where float16 and bfloat16 become float32.
    activation, recurrent_activation
        "tanh", "sigmoid", "relu", "linear" or "hard_sigmoid", for a source that doesn't say (arrays, a file of
        weights, or a layer inside a custom class in a .keras file). The defaults are those of Keras, "tanh" and
        "sigmoid". "hard_sigmoid" is the function of the Keras version that wrote the file: clip(0.2 z + 0.5, 0, 1)
        before version 3, clip(z / 6 + 0.5, 0, 1) since. If the version is unknown, it is the former, with a warning;
        "hard_sigmoid_6" is always the latter.
    go_backwards
        For a source that doesn't say; False by default.
    reset_after
        Whether a GRU's reset gate acts after the product with W_n. It is needed if the source has neither a
        configuration nor a bias, whose shape shows it.

    Returns
    -------
    LSTM, GRU or SimpleRNN
        For one layer in one direction, without peepholes: ``trace = layer.forward(x)``, then ``trace.f``.
    Stack
        Otherwise: ``trace.layers[0][1].f`` is the forget gate of the backward direction.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file doesn't come from Keras, is incomplete, or holds no layer that can be loaded; a ValueError.
    ValueError
        If a name doesn't exist, or is missing although there are several (the message lists them); if the named layers
        don't feed each other; for features that the engine lacks (other activations, a merge_mode "mul" or None below
        another layer), missing arrays or wrong shapes; for weights of a Keras before 2.3 without
        `recurrent_activation`, because its default was different.
    TypeError
        If `source` is no source, or weights are whole numbers.
    ImportError
        If h5py is missing and `source` is a file.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> layer = from_keras([rng.standard_normal(shape) for shape in ((3, 8), (2, 8), (8,))])
    >>> layer.forward(np.ones((5, 1, 3))).f.shape
    (5, 1, 2)
    """
    wanted = None if dtype is None else _checks.float_dtype(dtype)
    given = _given(activation, recurrent_activation, go_backwards=go_backwards, reset_after=reset_after)
    if not isinstance(source, str | os.PathLike):
        try:
            if isinstance(source, list | tuple):
                if name is not None:
                    raise ValueError(f"name: expected None, as arrays have no names, got {name!r}")
                return _built(_of_arrays(source), given, wanted)
            return _built(_chosen(_of_object(source), name), given, wanted)
        except Refused as error:
            raise ValueError(f"source: {error}") from None
    path = existing(source, "expected a file, such as model.save('model.keras') makes")
    try:
        with _keras_files.opened(path) as found:
            return _built(_chosen(found, name), given, wanted)
    except Refused as error:
        raise ModelFileError(f"{path}: {error}") from None


def _given(activation: str | None, recurrent_activation: str | None, **flags: bool | None) -> _Given:
    for argument, value in (("activation", activation), ("recurrent_activation", recurrent_activation)):
        if value is not None:
            _checks.choice(argument, value, ACTIVATIONS)
    for argument, flag in flags.items():
        if flag is not None:
            _checks.flag(argument, flag)
    return _Given(activation, recurrent_activation, **flags)


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
    for one in ([2, 2], [2, 2, 1], [2, 2, 2]):
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


def _built(chosen: list[Found], given: _Given, dtype: np.dtype | None) -> Recurrent | Stack:
    if any(each.hard_sigmoid is None for each in chosen):
        _warn_of_two_hard_sigmoids(given)
    weights = [_named_in_errors(each, _checked) for each in chosen]
    arrays = [array for directions in weights for direction in directions for array in direction]
    dtype = dtype or np.result_type(*arrays)
    layers = [_named_in_errors(each, _directions, own, given, dtype) for each, own in zip(chosen, weights, strict=True)]
    if len(layers) == 1 and len(layers[0]) == 1:
        return layers[0][0]
    for each, directions in zip(chosen[:-1], layers[:-1], strict=True):
        if len(directions) == 1 and directions[0].reverse:
            raise Refused(
                f"{each.name!r}: a layer with go_backwards=True hands its outputs on in the order of processing, so it "
                "can't lie below another one here; load each by its name"
            )
    return simplest(Stack.of(layers, merge=_merge(chosen, layers)))


def _warn_of_two_hard_sigmoids(given: _Given) -> None:
    for option in _ACTIVATED:
        if getattr(given, option) == "hard_sigmoid":
            warnings.warn(
                f"{option}: 'hard_sigmoid' is taken for clip(0.2 z + 0.5, 0, 1), that of Keras before version 3, as "
                "the source doesn't tell the version; 'hard_sigmoid_6' is that of Keras 3",
                stacklevel=4,
            )


def _named_in_errors(found: Found, make: Any, *arguments: Any) -> Any:
    """Return ``make(found, *arguments)``, and name the layer in errors."""
    try:
        return make(found, *arguments)
    except Refused as error:
        raise Refused(f"layer {found.name!r}: {error}" if found.name else str(error)) from None


def _chosen(found: list[Found], name: str | Sequence[str] | None) -> list[Found]:
    if not found:
        raise Refused("there is no LSTM, GRU or SimpleRNN of Keras' in it")
    usable = [each for each in found if not each.described.problem]
    if name is None:
        if not usable:
            raise Refused(f"it has no layer that can be loaded; {found[0].name!r} is {found[0].described.problem}")
        if len(usable) == 1 or _is_one_stack(found):
            return usable
        raise several(_listed(found))
    chosen = [_named(found, each) for each in names_of(name, _listed(found))]
    _check_chain(chosen)
    return chosen


def _check_chain(chosen: list[Found]) -> None:
    """Raise if a layer doesn't take the output of the one before; warn if the source doesn't tell."""
    for lower, upper in pairwise(chosen):
        if upper.below is not None and not _feeds(lower, upper):
            raise not_fed(upper.name, lower.name)
    warn_of_no_graph([upper.name for upper in chosen[1:] if upper.below is None], stacklevel=4)


def _is_one_stack(found: list[Found]) -> bool:
    """Return whether these layers are of the same kind and each takes the output of the one before."""
    kinds = {cell.kind for each in found for cell in each.described.cells}
    known = not any(each.described.problem for each in found)
    return known and len(kinds) == 1 and all(_feeds(lower, upper) for lower, upper in pairwise(found))


def _feeds(lower: Found, upper: Found) -> bool:
    """Return whether the source says that one layer takes the other's output."""
    return bool(lower.place) and upper.below == lower.place


def _named(found: list[Found], name: str) -> Found:
    for attribute in ("path", "name"):
        matches = [each for each in found if getattr(each, attribute) == name]
        if len(matches) == 1:
            if matches[0].described.problem:
                raise Refused(f"{name!r} is {matches[0].described.problem}")
            return matches[0]
    raise ValueError(f"name: expected one of {_listed(found)}, got {name!r}")


def _listed(found: list[Found]) -> str:
    """Return the name of each layer, or its path if several have the same name."""
    names = [each.name for each in found]
    return ", ".join(repr(each.path if names.count(each.name) > 1 else each.name) for each in found)


def _merge(chosen: list[Found], layers: list[list[Any]]) -> str:
    """Return how directions are joined between layers; above an "ave", read as "sum", halve U.

    The outputs of the top layer stay separate here, so its own mode counts only if no other layer has one.
    """
    modes = []
    for found, own, above in zip(chosen, layers, layers[1:], strict=False):
        if len(own) == 2:
            mode = _mode_between(found, own[0], above[0])
            if mode == "ave":  # halving is exact
                for layer in above:
                    layer["U"] = layer["U"] / 2
                mode = "sum"
            modes.append(mode)
    if len(set(modes)) > 1:
        raise Refused(f"merge_mode: expected the same in all layers, got {', '.join(map(repr, modes))}")
    top = chosen[-1].described
    own_modes = [str(top.merge_mode)] if top.cells and top.merge_mode in MERGES else ["concat"]
    return (modes or own_modes)[0]


def _mode_between(found: Found, layer: Recurrent, above: Recurrent) -> str:
    """Return how a layer's directions are joined for the one above, from the source or from the sizes."""
    mode = found.described.merge_mode
    if not found.described.cells:
        if above.input_size != layer.hidden_size:
            return "concat"
        warnings.warn(
            f"merge_mode: 'sum' is taken for the directions of layer {found.name!r}, as the layer above has as many "
            "inputs as it has units; the source doesn't tell, and 'ave' and 'mul' have the same sizes",
            stacklevel=5,
        )
        return "sum"
    if mode not in (*MERGES, "ave"):
        raise Refused(
            f"merge_mode: expected 'concat', 'sum' or 'ave' below another layer, got {mode!r}; load each layer by its "
            "name: trace.h has both directions side by side, h_F and h_B, to be joined before they go into the next"
        )
    return str(mode)


# -- Keras' arrays as layers ------------------------------------------------------------------------------------------


def _checked(found: Found) -> list[list[NDArray]]:
    """Read a layer's arrays as float32 or float64, and check that their shapes fit together."""
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
    H = len(recurrent) if recurrent.ndim else 0
    if recurrent.ndim != 2 or H == 0 or recurrent.shape[1] not in (number * H for number in _BY_GATES):
        raise Refused(
            f"expected a recurrent kernel (H, 4 H) of an LSTM, (H, 3 H) of a GRU or (H, H), got {recurrent.shape}"
        )
    columns = recurrent.shape[1]
    beside = f"beside a recurrent kernel {recurrent.shape}"
    if kernel.ndim != 2 or kernel.shape[1] != columns or not kernel.size:
        raise Refused(f"expected a kernel (I, {columns}) {beside}, got {kernel.shape}")
    kinds = [kind for kind in _KINDS if len(kind.gates["keras"]) * H == columns]
    biases = [(2, columns) if kind.two_biases else (columns,) for kind in kinds]
    if len(arrays) == 3 and arrays[2].shape not in biases and not _is_cudnn(arrays):
        raise Refused(f"expected a bias {' or '.join(map(str, biases))} {beside}, got {arrays[2].shape}")


def _directions(found: Found, weights: list[list[NDArray]], given: _Given, dtype: np.dtype) -> list[Recurrent]:
    cells = found.described.cells or (Cell(),) * len(weights)
    if len(weights) == 2:
        if given.go_backwards is not None:
            raise ValueError("go_backwards: a Bidirectional has both directions, so expected None")
        if not found.described.cells:
            cells = (cells[0]._replace(go_backwards=False), cells[1]._replace(go_backwards=True))
        if [cell.go_backwards for cell in cells] != [False, True]:
            raise Refused("a Bidirectional's forward layer has go_backwards=True; swap the two layers")
    doubt = found.described.gates_unknown
    cells = tuple(_of_version(cell, found.hard_sigmoid) for cell in cells)
    given = _given_for_version(given, found.hard_sigmoid)
    if all(map(_is_cudnn, weights)):
        weights = [_from_cudnn(arrays) for arrays in weights]
        cells = tuple(_filled(cell, _CUDNN) for cell in cells)
    return [
        _layer(*_settled(cell, given, arrays, doubt), arrays, dtype)
        for cell, arrays in zip(cells, weights, strict=True)
    ]


def _of_version(cell: Cell, hard_sigmoid: str | None) -> Cell:
    """Return a cell with the hard sigmoid of the Keras that it comes from."""
    changed = [option for option in _ACTIVATED if getattr(cell, option) == "hard_sigmoid"]
    if changed and hard_sigmoid is None:
        raise Refused(
            f"{changed[0]}: expected to be told the version of Keras, as 'hard_sigmoid' is 0.2 z + 0.5 before version "
            "3 and z / 6 + 0.5 since, got none"
        )
    return cell._replace(**dict.fromkeys(changed, hard_sigmoid))


def _given_for_version(given: _Given, hard_sigmoid: str | None) -> _Given:
    """Return the caller's description, with the hard sigmoid of the source's version of Keras, if that is known."""
    meant = {"hard_sigmoid": hard_sigmoid or "hard_sigmoid"}
    return given._replace(
        activation=meant.get(str(given.activation), given.activation),
        recurrent_activation=meant.get(str(given.recurrent_activation), given.recurrent_activation),
    )


def _is_cudnn(arrays: list[NDArray]) -> bool:
    """Return whether the layout is that of Keras 2's CuDNNLSTM and CuDNNGRU, which always store two biases in a row."""
    columns = arrays[1].shape[1]
    return len(arrays) == 3 and columns > len(arrays[1]) and arrays[2].shape == (2 * columns,)


def _from_cudnn(arrays: list[NDArray]) -> list[NDArray]:
    """Return the arrays of Keras' own layer.

    Source: cuDNN's matrices are (H, I) and (H, H), and Keras' CuDNNLSTM hands it the bytes of each gate's kernel.
    """
    kernel, recurrent, bias = arrays
    (I, columns), H = kernel.shape, len(recurrent)
    own_kernel = [block.reshape(H, I).T for block in np.split(kernel, columns // H, axis=1)]
    own_recurrent = [block.T for block in np.split(recurrent, columns // H, axis=1)]
    both = bias.reshape(2, columns)
    two = any(kind.two_biases for kind in _KINDS if len(kind.gates["keras"]) * H == columns)
    return [np.hstack(own_kernel), np.hstack(own_recurrent), both if two else both.sum(axis=0)]


def _settled(cell: Cell, given: _Given, arrays: list[NDArray], doubt: str) -> tuple[Kind, Cell]:
    """Complete the source's description, and compare it with the caller's and with the arrays."""
    name = _BY_GATES[arrays[1].shape[1] // arrays[1].shape[0]]
    if cell.kind not in (None, name):
        shapes = [array.shape for array in arrays]
        raise Refused(f"expected the arrays of Keras' {cell.kind}, got those of its {name}: {shapes}")
    if cell.use_bias not in (None, len(arrays) == 3):
        raise Refused(f"use_bias={cell.use_bias}, and there are {len(arrays)} arrays")
    kinds = [kind for kind in _KINDS if kind.keras_name == name]
    hasnt = f"none, being a {name}"
    known = {} if "gate" in kinds[0].functions else {"recurrent_activation": hasnt}
    known |= {} if kinds[0].keras else {"reset_after": hasnt}
    for option, value in given._asdict().items():
        own = known.get(option, getattr(cell, option))
        if value is not None and own not in (None, value):
            raise ValueError(f"{option}: the source has {own!r}, so expected that or None, got {value!r}")
    settled = _filled(cell, given)
    if doubt and "gate" in kinds[0].functions and settled.recurrent_activation is None:
        raise Refused(doubt)
    kind = _kind(kinds, settled.reset_after, arrays)
    return kind, _filled(settled._replace(use_bias=len(arrays) == 3), _DEFAULTS)


def _filled(cell: Cell, source: _Given | Cell) -> Cell:
    """Return a cell whose missing entries are filled from another source."""
    missing = [option for option in _Given._fields if getattr(cell, option) is None]
    return cell._replace(**{option: getattr(source, option) for option in missing})


def _kind(kinds: list[Kind], reset_after: bool | None, arrays: list[NDArray]) -> Kind:
    """Return whether a GRU's reset gate acts after the product; the two kinds differ only in the shape of the bias."""
    if len(arrays) == 3:
        kinds = [kind for kind in kinds if kind.two_biases == (arrays[2].ndim == 2)]
    kinds = [kind for kind in kinds if reset_after in (None, kind.keras.get("reset_after", reset_after))]
    if not kinds:
        raise Refused(f"reset_after={reset_after} doesn't go with a bias of shape {arrays[2].shape}")
    if len(kinds) > 1:
        raise ValueError(
            "reset_after: expected True or False, as a GRU's weights without a bias don't tell it, got None"
        )
    return kinds[0]


def _layer(kind: Kind, cell: Cell, arrays: list[NDArray], dtype: np.dtype) -> Recurrent:
    options: dict[str, Any] = {"bias": cell.use_bias, "reverse": cell.go_backwards, "dtype": dtype, "seed": 0}
    if kind.cell.arguments.v:
        options["peepholes"] = False
    for function in kind.functions:
        option = "recurrent_activation" if function == "gate" else "activation"
        options[function] = _ours(option, getattr(cell, option))
    layer = kind.make(len(arrays[0]), len(arrays[1]), **options)
    parts = dict(zip("UW", (array.T for array in arrays[:2]), strict=True))
    if len(arrays) == 3:
        parts |= dict(zip(("b", "bw"), np.atleast_2d(arrays[2]), strict=False))
    fill(layer, kind.gates["keras"], parts)
    return layer


def _ours(option: str, keras_name: str | None) -> str:
    if keras_name not in ACTIVATIONS:
        raise Refused(f"{option}: expected one of {', '.join(map(repr, ACTIVATIONS))}, got {keras_name!r}")
    return ACTIVATIONS[keras_name]


# -- layers as Keras' arrays ------------------------------------------------------------------------------------------


def to_keras(model: Any, *, layer: bool = False) -> Any:
    """Return a model's weights in Keras' layout, or a Keras layer that holds them.

    Parameters
    ----------
    model
        A layer or a stack of them (of a `Network` its recurrent layers).
    layer
        False: arrays, for which Keras isn't needed. True: a built Keras layer that returns the output of every step, or
        a ``keras.Sequential`` of such layers for a stack of several.

    Returns
    -------
    list
        The arrays that ``set_weights`` of Keras' LSTM, GRU, SimpleRNN or Bidirectional takes: kernel, recurrent kernel
        and bias, for each direction; copies in the model's dtype. For a stack of several layers, a list of such lists.
        `from_keras` reads both; but arrays don't contain activations, ``go_backwards``, the ``merge_mode`` of the top
        layer, and without a bias a GRU's ``reset_after``.
    keras.Layer or keras.Sequential
        With ``layer=True``.

    Raises
    ------
    ValueError
        For features that Keras lacks: other cells, peepholes, different non-linearities of the cell's input and output,
        initial states or lengths of a stack, a single backward layer below another layer; with ``layer=True`` also the
        hard sigmoid of a version of Keras that isn't installed.
    TypeError
        If `model` is not a layer, a stack or a network.
    ImportError
        With ``layer=True`` if Keras isn't installed.
    """
    stack = _expressible(model)
    kind = kind_of(stack, "Keras")
    if _checks.flag("layer", layer):
        return _keras_model(stack, kind)
    lists = [_weights(directions, kind) for directions in stack.layers]
    return lists if len(lists) > 1 else lists[0]


def _weights(directions: Sequence[Recurrent], kind: Kind) -> list[NDArray]:
    return [array for layer in directions for array in _keras_arrays(layer, kind)]


def _keras_arrays(layer: Recurrent, kind: Kind) -> list[NDArray]:
    parts = stacked(layer, kind.gates["keras"])
    arrays = [np.array(parts[part].T, order="C") for part in "UW"]
    if layer.bias:
        arrays.append(np.stack([parts["b"], parts["bw"]]) if kind.two_biases else parts["b"])
    return arrays


def _expressible(model: Any) -> Stack:
    """Return the model as a stack, or raise if Keras has no such layers."""
    stack = without_states(model, "Keras' layers")
    for number, directions in enumerate(stack.layers):
        where = f"layers[{number}]"
        if number < len(stack.layers) - 1 and [own.reverse for own in directions] == [True]:
            raise ValueError(
                f"{where}: a lone backward layer below another; Keras hands its outputs on in the order of processing. "
                "Export each layer by itself"
            )
        for own in directions:
            if "V" in own.parameters():
                raise ValueError(f"{where}: Keras' LSTM has no peepholes; to_onnx and to_torch have them")
            if "cell_input" in own.options and own.cell_input != own.cell_output:
                raise ValueError(
                    f"{where}: Keras has one activation for the cell's input and output, got "
                    f"cell_input={own.cell_input!r} and cell_output={own.cell_output!r}"
                )
    return stack


def _keras_model(stack: Stack, kind: Kind) -> Any:
    try:
        import keras
    except ImportError as error:
        raise ImportError(
            f"to_keras(..., layer=True) needs Keras and a library that it computes with ({error}): "
            'pip install "lstm-numba[keras,torch]", and set KERAS_BACKEND=torch'
        ) from None
    layers = [_keras_layer(keras, directions, stack.merge, kind) for directions in stack.layers]
    size = stack.input_size
    for built, directions in zip(layers, stack.layers, strict=True):
        built.build((None, None, size))
        built.set_weights(_weights(directions, kind))
        size = directions[0].hidden_size * (1 + (len(directions) == 2 and stack.merge == "concat"))
    if len(layers) == 1:
        return layers[0]
    return keras.Sequential([keras.Input((None, stack.input_size), dtype=stack.dtype.name), *layers])


def _keras_layer(keras: Any, directions: Sequence[Recurrent], merge: str, kind: Kind) -> Any:
    made = [_one_direction(keras, own, kind) for own in directions]
    if len(made) == 1:
        return made[0]
    return keras.layers.Bidirectional(made[0], merge_mode=merge, backward_layer=made[1], dtype=directions[0].dtype.name)


def _one_direction(keras: Any, layer: Recurrent, kind: Kind) -> Any:
    options: dict[str, Any] = {
        "use_bias": layer.bias,
        "go_backwards": layer.reverse,
        "return_sequences": True,
        "dtype": layer.dtype.name,
        **kind.keras,
    }
    for function in kind.functions:
        option = "recurrent_activation" if function == "gate" else "activation"
        options[option] = _keras_word(keras, function, getattr(layer, function))
    return getattr(keras.layers, kind.keras_name)(layer.hidden_size, **options)


def _keras_word(keras: Any, option: str, ours: str) -> str:
    """Return the installed Keras' name for a non-linearity."""
    if ours not in ("hard_sigmoid", "hard_sigmoid_6"):
        return _OURS[ours]
    version = str(keras.__version__)
    if _keras_layers.hard_sigmoid_of(version) != ours:
        raise ValueError(
            f"{option}: expected another one than {ours!r}, as Keras {version} calls another function so; without "
            "layer=True there are the weights alone"
        )
    return "hard_sigmoid"
