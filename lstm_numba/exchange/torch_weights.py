"""Weights from and to PyTorch: `nn.LSTM`, `nn.GRU`, `nn.RNN`, their cells, state dicts and safetensors files.

torch names the tensors of layer 0 ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``, those of its
backward direction with ``_reverse`` behind, those of a cell without ``_l0``. With the gates' rows one below the other:

    weight_ih         = [U_i; U_f; U_c; U_o]
    weight_hh         = [W_i; W_f; W_c; W_o]
    bias_ih + bias_hh = [b_i; b_f; b_c; b_o]

(torch writes g for our c), where an ``nn.RNN`` has U, W and b alone, and an ``nn.GRU`` the gates r, z, n, of which n
keeps its two biases apart, b_n and bw_n. `lstm_numba.torch.LSTM` adds ``peephole_l0`` = V, (3, H) in the order i, f, o.

Source: the formulas and tensor shapes in the documentation of ``torch.nn.LSTM``, ``torch.nn.GRU`` and ``torch.nn.RNN``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lstm_numba import _checks
from lstm_numba.exchange._kinds import Kind, differing, fill, kind_of, kinds_of, stacked, without_states
from lstm_numba.exchange._sources import names_of, several, warn_of_no_graph
from lstm_numba.exchange._torch_sources import Source, listed, opened, stored
from lstm_numba.layers.checkpoints import ModelFileError
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.layers.stack import Stack, simplest

if TYPE_CHECKING:
    import torch

    from lstm_numba.models.network import Network

# torch's kinds of tensors → the names of `fill`.
_PARTS = {"weight_ih": "U", "weight_hh": "W", "bias_ih": "b", "bias_hh": "bw", "weight_hr": "", "peephole": "V"}
_TENSOR = re.compile(rf"({'|'.join(_PARTS)})(?:_l(0|[1-9][0-9]*)(_reverse)?)?")
# A cell is recognised by the number of its gates.
_BY_GATES = {len(kind.gates["torch"]): kind for kind in kinds_of("torch")}
_NONLINEARITIES = ("tanh", "relu")


def from_torch(
    source: Any,
    *,
    name: str | Sequence[str] | None = None,
    nonlinearity: str | None = None,
    dtype: DTypeLike | None = None,
) -> Recurrent | Stack:
    """Read the weights of a recurrent layer of PyTorch.

    U, W are the gates' rows of weight_ih and weight_hh, b = bias_ih + bias_hh (exactly the other one if one is zero).
    Arrays are time-major here, (T, B, I), whatever the module's ``batch_first`` is, since it concerns the input's axes
    and not the weights. Dropout between layers is only for training and is left out, as after ``module.eval()``.

    Parameters
    ----------
    source
        ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, their cells such as ``nn.LSTMCell``, a module of `lstm_numba.torch`, or any
        module that holds one; a state dict of torch tensors or NumPy arrays; or the path of a .safetensors file, which
        needs no torch.
    name
        If there are several: the module's dotted name, with which its tensors' names begin. A list of names makes one
        stack, in that order from the input up. Weights don't tell whether each layer takes the output of the one
        before, so the order of the names is trusted, with a warning.
    nonlinearity
        φ of an ``nn.RNN``, "tanh" or "relu": needed for a state dict or a file, whose weights don't say. A module knows
        its own.
    dtype
        float32 or float64; by default that of the weights (float16 and bfloat16 become float32, exactly).

    Returns
    -------
    LSTM, GRU, SimpleRNN or Stack
        A layer if there is one layer in one direction: ``trace = from_torch(module).forward(x); trace.f``. Otherwise a
        stack: ``trace.layers[0][1].f`` is the forget gate of the first layer's backward direction. The weights are
        copies.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file isn't a safetensors file (a pickle is never opened), is incomplete, or has no weights of a layer.
    ValueError
        For features that the engine lacks (proj_size, a tensor that no recurrent layer of torch has), missing tensors,
        wrong shapes, layers that don't fit together, or several candidates without a name; the message names the
        tensor.
    TypeError
        If the source is none of these, or weights are not floating-point numbers.

    Examples
    --------
    >>> from lstm_numba import LSTM
    >>> weights = torch_state_dict(LSTM(2, 3, peepholes=False, seed=0))
    >>> from_torch(weights).forward(np.ones((5, 1, 2))).f.shape
    (5, 1, 3)
    """
    wanted = None if dtype is None else _checks.float_dtype(dtype)
    if nonlinearity is not None:
        _checks.choice("nonlinearity", nonlinearity, _NONLINEARITIES)
    if not isinstance(source, str | os.PathLike):
        return _assemble(opened(source), name, nonlinearity, wanted)
    file = stored(Path(source))
    try:
        return _assemble(file, name, nonlinearity, wanted)
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{source}: {error}") from None


def to_torch(model: Recurrent | Stack | Network, *, batch_first: bool = False) -> torch.nn.Module:
    """Make a PyTorch module with the same weights.

    b goes to bias_ih, bw to bias_hh, which is zero elsewhere; `from_torch` of the module gives the same bytes back.

    Parameters
    ----------
    model
        A layer or a stack of layers (from a `Network`, its recurrent layers are taken).
    batch_first
        Whether the module takes and returns (B, T, ·) instead of (T, B, ·).

    Returns
    -------
    torch.nn.Module
        ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` on the CPU; with peepholes, which ``nn.LSTM`` doesn't have,
        `lstm_numba.torch.LSTM`.

    Raises
    ------
    ImportError
        If PyTorch isn't installed.
    ValueError
        For features that torch's modules lack: other cells (a GRU with reset_after=False) or non-linearities, layers of
        different sizes or options, a single reverse direction, directions that are summed, an initial state or lengths
        of the stack.
    TypeError
        If `model` is not a layer, a stack or a network.
    """
    stack, flag = _expressible(model), _checks.flag("batch_first", batch_first)
    try:
        import torch
    except ImportError:
        raise ImportError('to_torch needs PyTorch: pip install "lstm-numba[torch]"') from None
    first = stack.layers[0][0]
    options: dict[str, Any] = {
        "num_layers": len(stack.layers),
        "bias": first.bias,
        "batch_first": flag,
        "bidirectional": len(stack.layers[0]) == 2,
        "device": "cpu",  # where the weights are, whatever torch's default device is
        "dtype": getattr(torch, first.dtype.name),
    }
    make: Any = getattr(torch.nn, kind_of(stack, "torch").name)
    if "nonlinearity" in first.options:
        options["nonlinearity"] = first.nonlinearity
    if "V" in first.parameters():
        from lstm_numba.torch import LSTM as PeepholeLSTM

        make, options["peepholes"] = PeepholeLSTM, True
    with torch.random.fork_rng(devices=[]):  # a new module draws initial weights, which aren't needed
        module = make(first.input_size, first.hidden_size, **options)
    module.load_state_dict({key: torch.from_numpy(array) for key, array in torch_state_dict(stack).items()})
    return module


def torch_state_dict(model: Recurrent | Stack | Network, prefix: str = "") -> dict[str, NDArray]:
    """Return the weights under torch's names and in its order, as NumPy arrays; torch isn't needed.

    ``safetensors.numpy.save_file(torch_state_dict(layer), path)`` writes them to a file. With peepholes the names are
    those of `lstm_numba.torch.LSTM`.

    Parameters
    ----------
    model
        A layer or a stack of layers (from a `Network`, its recurrent layers are taken).
    prefix
        Beginning of every name: "" or a module's dotted name followed by a dot, such as "encoder.lstm.".

    Returns
    -------
    dict
        Name → array, copies in the model's dtype.

    Raises
    ------
    ValueError, TypeError
        As in `to_torch`, and for a prefix without its dot.
    """
    stack = _expressible(model)
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a text, got {prefix!r}")
    if prefix and not prefix.endswith("."):
        raise ValueError(f"prefix: expected '' or a name with a dot behind, got {prefix!r}")
    gates = kind_of(stack, "torch").gates["torch"]
    arrays: dict[str, NDArray] = {}
    for number, directions in enumerate(stack.layers):
        for layer, back in zip(directions, ("", "_reverse"), strict=False):
            parts = stacked(layer, gates)
            own = {kind: parts[part] for kind, part in _PARTS.items() if part in parts}
            if "peephole" in own:
                own["peephole"] = own["peephole"].reshape(-1, layer.hidden_size)
            arrays |= {f"{prefix}{kind}_l{number}{back}": array for kind, array in own.items()}
    return arrays


# What torch supports


def _expressible(model: Recurrent | Stack | Network) -> Stack:
    """Return the model as a stack, or raise if torch has no such module."""
    stack = without_states(model, "torch's modules")
    kind = kind_of(stack, "torch")
    first, both = stack.layers[0][0], len(stack.layers[0])
    for number, directions in enumerate(stack.layers):
        if [layer.reverse for layer in directions] not in ([False], [False, True]):
            raise ValueError(
                f"layers[{number}]: torch has a backward direction only beside a forward one; flip x in time and use "
                "a layer with reverse=False"
            )
        if len(directions) != both:
            raise ValueError(
                f"layers[{number}]: torch wants the same directions in every layer, got {len(directions)} where "
                f"layers[0] has {both}; make one module of each layer"
            )
        for layer in directions:
            _check_options(number, kind, first, layer)
    if stack.merge == "sum" and both == 2 and len(stack.layers) > 1:
        raise ValueError('merge: torch joins directions side by side, as merge="concat" does, got "sum"')
    return stack


def _check_options(number: int, kind: Kind, first: Recurrent, layer: Recurrent) -> None:
    """Raise if torch has no such layer, or if it differs from the first one in a way that torch doesn't allow."""
    where = f"layers[{number}]"
    for option, default in kind.functions.items():
        allowed = _NONLINEARITIES if option == "nonlinearity" else (default,)
        if (have := getattr(layer, option)) not in allowed:
            raise ValueError(f"{where}: torch has {option}={' or '.join(map(repr, allowed))} alone, got {have!r}")
    if (different := differing(layer, first)) is not None:
        have, want = getattr(layer, different), getattr(first, different)
        raise ValueError(
            f"{where}: torch wants the same {different} in every layer, got {have!r} where layers[0] has {want!r}; "
            "make one module of each layer"
        )


# From torch's tensors to layers


def _assemble(
    source: Source, name: str | Sequence[str] | None, nonlinearity: str | None, dtype: np.dtype | None
) -> Recurrent | Stack:
    """Choose from the modules in a source, and build the model."""
    layers: list[list[Recurrent]] = []
    chosen = _chosen(source, name)
    warn_of_no_graph(chosen[1:], stacklevel=3)
    for each in chosen:
        own = source.nonlinearities.get(each)
        if own is not None and nonlinearity not in (None, own):
            raise ValueError(f"nonlinearity: expected {own!r}, which the module has, or None, got {nonlinearity!r}")
        layers += _Group(source, each).layers(own or nonlinearity, dtype)
    return simplest(Stack.of(layers))


def _chosen(source: Source, name: str | Sequence[str] | None) -> list[str]:
    """Return the names of the modules to take, from the input up."""
    there = _modules(source.names)
    if not there:
        raise ValueError(source.nothing)
    if name is None:
        if len(there) > 1:
            raise several(listed(there))
        return there
    names = [each.removesuffix(".") for each in names_of(name, listed(there))]
    for each in names:
        if each not in there:
            raise ValueError(f"name: expected one of {listed(there)}, got {each!r}")
    return names


def _modules(names: Iterable[str]) -> list[str]:
    """Return the dotted names of all modules that have a recurrent layer's tensors, in the order of the tensors."""
    found = (name.rpartition(".") for name in names)
    return list(dict.fromkeys(module for module, _, tensor in found if _TENSOR.fullmatch(tensor)))


class _Group:
    """The tensors of one torch module, and the layers made from them."""

    def __init__(self, source: Source, module: str) -> None:
        self.prefix = f"{module}." if module else ""
        self.source = source
        own = [name.removeprefix(self.prefix) for name in source.names if name.startswith(self.prefix)]
        self.tensors = {name for name in own if "." not in name}
        self._refuse_others([name for name in own if "." in name])

    def _refuse_others(self, below: list[str]) -> None:
        """Raise for tensors that belong to another kind of layer."""
        for name in sorted(self.tensors):
            if not (match := _TENSOR.fullmatch(name)):
                raise ValueError(
                    f"{self.prefix}{name}: nn.LSTM, nn.GRU and nn.RNN have no such tensor, so this isn't one of them, "
                    "or its weights are made of others (then torch.nn.utils.remove_weight_norm makes them plain)"
                )
            if match[1] == "weight_hr":
                raise ValueError(f"{self.prefix}{name}: a projection (proj_size) is not supported")
        for name in sorted(below):
            if name.startswith("parametrizations."):
                raise ValueError(
                    f"{self.prefix}{name}: the weights are parametrized; pass the module itself, or call "
                    "torch.nn.utils.parametrize.remove_parametrizations on it first"
                )

    def layers(self, nonlinearity: str | None, dtype: np.dtype | None) -> list[list[Recurrent]]:
        """Build the module's layers, each in one direction or two."""
        suffixes = self._suffixes()
        arrays = [[self._arrays(suffix) for suffix in directions] for directions in suffixes]
        everything = [array for directions in arrays for kinds in directions for array in kinds.values()]
        wide = np.result_type(*everything)
        hidden, size = self._sizes(suffixes[0][0], arrays[0][0])
        made = []
        for names, directions in zip(suffixes, arrays, strict=True):
            for suffix, kinds in zip(names, directions, strict=True):
                self._check_shapes(suffix, kinds, hidden, size)
            made.append(
                [_layer(kinds, hidden, back, nonlinearity, dtype or wide) for back, kinds in enumerate(directions)]
            )
            size = hidden * len(directions)
        return made

    def _suffixes(self) -> list[list[str]]:
        """Return the suffixes of "weight_ih" for each layer and direction; raise if they aren't consistent."""
        matches = [match for name in self.tensors if (match := _TENSOR.fullmatch(name))]
        cells = [match[0] for match in matches if match[2] is None]
        if len(cells) not in (0, len(matches)):
            other = next(match[0] for match in matches if match[2] is not None)
            raise ValueError(f"{self.prefix}{min(cells)}: a cell's tensor beside a layer's, {other}")
        if cells:
            return [[""]]
        numbers = sorted({int(match[2]) for match in matches})
        backs = ("", "_reverse") if any(match[3] for match in matches) else ("",)
        for number, there in enumerate(numbers):
            if there != number:
                lower = f"{self.prefix}weight_ih_l{number}"
                raise ValueError(f"{lower}: expected this tensor below layer {there}, got none")
        return [[f"_l{number}{back}" for back in backs] for number in numbers]

    def _arrays(self, suffix: str) -> dict[str, NDArray]:
        """Read one direction's tensors; every layer must have the same ones."""
        present = {match[1] for name in self.tensors if (match := _TENSOR.fullmatch(name))}
        needed = {"weight_ih", "weight_hh"} | ({"bias_ih", "bias_hh"} if present & {"bias_ih", "bias_hh"} else set())
        kinds = sorted(needed | present, key=list(_PARTS).index)
        for kind in kinds:
            if kind + suffix not in self.tensors:
                raise ValueError(f"{self.prefix}{kind}{suffix}: expected this tensor beside the others, got none")
        return {kind: self.source.read(f"{self.prefix}{kind}{suffix}") for kind in kinds}

    def _sizes(self, suffix: str, arrays: dict[str, NDArray]) -> tuple[int, int]:
        """Return H and I of the first layer, or raise if the weights fit no cell."""
        name, shape = f"{self.prefix}weight_hh{suffix}", arrays["weight_hh"].shape
        if len(shape) != 2 or shape[1] == 0 or shape[0] not in (number * shape[1] for number in _BY_GATES):
            known = "(4 H, H) of an LSTM, (3 H, H) of a GRU or (H, H) of a simple net"
            raise ValueError(f"{name}: expected shape {known}, got {shape}")
        self.rows, hidden = shape
        kind = _BY_GATES[self.rows // hidden]
        if "peephole" in arrays and not kind.cell.arguments.v:
            raise ValueError(f"{self.prefix}peephole{suffix}: an nn.{kind.name} has no peepholes")
        shape = arrays["weight_ih"].shape
        if len(shape) != 2 or shape[0] != self.rows or shape[1] == 0:
            raise ValueError(f"{self.prefix}weight_ih{suffix}: expected shape ({self.rows}, I), got {shape}")
        return hidden, shape[1]

    def _check_shapes(self, suffix: str, arrays: dict[str, NDArray], hidden: int, size: int) -> None:
        rows = (self.rows,)
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (*rows, size), "weight_hh": (*rows, hidden)}
        shapes |= {"bias_ih": rows, "bias_hh": rows, "peephole": (3, hidden)}
        for kind, array in arrays.items():
            if array.shape != shapes[kind]:
                raise ValueError(f"{self.prefix}{kind}{suffix}: expected shape {shapes[kind]}, got {array.shape}")


def _layer(arrays: dict[str, NDArray], hidden: int, back: int, nonlinearity: str | None, dtype: np.dtype) -> Recurrent:
    """Build one direction of one layer."""
    rows, size = arrays["weight_ih"].shape
    kind = _BY_GATES[rows // hidden]
    options: dict[str, Any] = {"bias": "bias_ih" in arrays, "reverse": bool(back), "dtype": dtype, "seed": 0}
    if kind.cell.arguments.v:
        options["peepholes"] = "peephole" in arrays
    if "nonlinearity" in kind.functions:
        if nonlinearity is None:
            raise ValueError(
                "nonlinearity: a simple net's weights don't tell it; expected 'tanh' (what nn.RNN has by default) or "
                "'relu', got None"
            )
        options["nonlinearity"] = nonlinearity
    elif nonlinearity is not None:
        fixed = " and ".join(dict.fromkeys(kind.functions.values()))
        raise ValueError(f"nonlinearity: an nn.{kind.name} has {fixed}, so expected None, got {nonlinearity!r}")
    layer = kind.make(size, hidden, **options)
    fill(layer, kind.gates["torch"], {_PARTS[name]: array for name, array in arrays.items()})
    return layer
