"""`LSTM` for PyTorch: a module with ``torch.nn.LSTM``'s arguments, shapes and names, computed by this engine.

Beside what ``torch.nn.LSTM`` does it has peepholes, and it shows its gates:

    import lstm_numba.torch

    lstm = lstm_numba.torch.LSTM(8, 16, peepholes=True)   # instead of torch.nn.LSTM(8, 16)
    output, (h_n, c_n) = lstm(x)                          # autograd goes through it
    trace = lstm.trace()                                  # of that input: trace.layers[0][0].f, .c, …

The equations are those of `lstm_numba.layers.lstm`. PyTorch's names for the same: weight_ih is U and weight_hh is W,
their gates stacked i, f, g, o, where g is the cell's input (c here: i, f, o, c); b is the sum of bias_ih and bias_hh;
V, which ``torch.nn.LSTM`` hasn't, is called peephole, (3, H), in the order i, f, o.

The engine's passes run as one ``torch.autograd.Function`` for each layer, on as many threads as both
``torch.set_num_threads`` and `lstm_numba.set_num_threads` allow. They read the input and write the output
where PyTorch has them; weights and their gradients are copied once a pass, because their gates lie in another order.
"""

from __future__ import annotations

import ctypes
import math
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.engine import buffers, pool
from lstm_numba.layers.base import TRUE, Steps
from lstm_numba.layers.lstm import LSTM as Engine
from lstm_numba.layers.lstm import Gradients, Trace
from lstm_numba.layers.parameters import Parameters

try:
    import torch
    from torch import Tensor, nn
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
except ImportError as error:
    raise ImportError(
        'lstm_numba.torch: PyTorch is not installed; pip install "lstm-numba[torch]" installs it'
    ) from error

if TYPE_CHECKING:
    from lstm_numba.layers.stack import StackTrace

__all__ = ["LSTM"]

_FLOATS = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}
_ORDER = np.array([0, 1, 3, 2])  # i, f, o, c out of i, f, g, o, and the other way round
# Without gradients a layer goes through so many bytes of gates at a time, which then make room for the next ones, ...
_GATES_AT_A_TIME = 1 << 24
# ... but through no fewer steps of sequences: each time its weights are packed.
_STEPS_AT_A_TIME = 1024
_PROCESS = os.getpid()


# ------------------------------------------------------------------------------------------------- weights, both ways


class _Arrays(Parameters):
    """Parameters that somebody has cut out of an array already."""

    def __init__(self, views: dict[str, NDArray]) -> None:
        self._views = views


class _Direction:
    """A layer in one direction, without its weights: every pass brings those that it was given.

    Attributes
    ----------
    reverse, dtype
        As in `lstm_numba.LSTM`.
    H
        Units.
    places
        Name → (start, end, shape): where a weight lies in the flat array of all of them. Their order is that of
        PyTorch's weight_ih, weight_hh, bias_ih and bias_hh (one here), peephole.
    """

    def __init__(
        self, input_size: int, hidden_size: int, peepholes: bool, bias: bool, reverse: bool, dtype: np.dtype
    ) -> None:
        layer = Engine(1, 1, peepholes=peepholes, bias=bias, reverse=reverse, dtype=dtype, seed=0)
        self.fields = vars(layer) | {"input_size": input_size, "hidden_size": hidden_size}
        self.reverse, self.dtype, self.H, self.bias, self.peepholes = reverse, dtype, hidden_size, bias, peepholes
        H = hidden_size
        self.places = _places({"U": (4, H, input_size), "W": (4, H, H), "b": (4 * bias, H), "V": (3 * peepholes, H)})
        # The same without U and W, for gradients of which nobody needs these: no columns, and so no products.
        self.places_of_rest = _places({"U": (4, H, 0), "W": (4, H, 0), "b": (4 * bias, H), "V": (3 * peepholes, H)})

    def layer(self, flat: NDArray) -> Engine:
        """The engine's layer, with the weights that lie in an array."""
        layer = object.__new__(Engine)
        layer.__dict__.update(self.fields, _parameters=_cut(flat, self.places))
        return layer

    def from_torch(self, weights: Sequence[Tensor]) -> tuple[Engine, NDArray]:
        """The engine's layer with PyTorch's weights, and the array in which it has them."""
        flat = buffers.empty((self.places["V"][1],), self.dtype)
        layer = self.layer(flat)
        views = layer._parameters._views
        arrays = [_array(weight) for weight in weights]
        for name, array in zip("UW", arrays, strict=False):
            array.reshape(views[name].shape).take(_ORDER, 0, views[name], "clip")
        if self.bias:
            (arrays[2] + arrays[3]).reshape(4, self.H).take(_ORDER, 0, views["b"], "clip")
        if self.peepholes:
            views["V"][...] = arrays[-1]
        return layer, flat

    def layer_of_its_own(self, weights: Sequence[Tensor]) -> Engine:
        """A layer as users have it, with copies of PyTorch's weights."""
        source, _ = self.from_torch(weights)
        layer = Engine(**source.config(), seed=0)
        for name in layer.parameters():
            layer[name] = source[name]
        return layer

    def to_torch(self, gradients: dict[str, NDArray], needed: Sequence[bool]) -> list[Tensor | None]:
        """Gradients as PyTorch has them, None where they aren't needed. The arrays become the tensors' memory."""
        names = ["U", "W", *(["b", "b"] if self.bias else []), *(["V"] if self.peepholes else [])]
        found: list[Tensor | None] = []
        for at, name in enumerate(names):
            array = gradients[name]
            if not needed[at]:
                found.append(None)
                continue
            if at == 3 and name == "b" and needed[2]:  # a gradient of its own, to be scaled or added to by itself
                array = array.copy()
            elif name != "V":
                cell_input = array[3].copy()
                array[3] = array[2]
                array[2] = cell_input
            found.append(torch.from_numpy(array if name == "V" else array.reshape(-1, *array.shape[2:])))
        return found


_direction = lru_cache(maxsize=256)(_Direction)
_Places = dict[str, tuple[int, int, tuple[int, ...]]]


def _places(shapes: dict[str, tuple[int, ...]]) -> _Places:
    places, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape)
        places[name] = start, end, shape
    return places


def _cut(flat: NDArray, places: _Places) -> _Arrays:
    return _Arrays({name: flat[start:end].reshape(shape) for name, (start, end, shape) in places.items()})


def _array(tensor: Tensor) -> NDArray:
    """The tensor's memory as an array."""
    return tensor.detach().numpy()


# -------------------------------------------------------------------------------------------- one layer, both its ways


class _Pass(NamedTuple):
    """What a pass through one layer is about, beside its tensors.

    Attributes
    ----------
    directions
        The layer in each of its directions.
    steps
        Which steps belong to which sequence.
    """

    directions: list[_Direction]
    steps: Steps


def _each(directions: list[_Direction], things: Sequence[Any]) -> list[tuple[_Direction, Any]]:
    """Each direction with its part of what lies in a row, one direction's after the other's."""
    n = len(things) // len(directions)
    return [(each, things[d * n : (d + 1) * n]) for d, each in enumerate(directions)]


@lru_cache(maxsize=1)
def _openmp() -> Any:
    """PyTorch's OpenMP, where it is GNU's: its GOMP_parallel(function, data, threads, flags) is what compilers call."""
    if "parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            return ctypes.CDLL(str(path)).GOMP_parallel
        except (OSError, AttributeError):
            continue
    return None


_Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _on_torchs_threads(work: Callable[[], None], parts: int) -> None:
    """Call ``work()`` on up to `parts` of the threads that PyTorch computes with."""
    places = iter(range(parts))

    def one(_: int) -> None:
        if next(places, None) is not None:
            work()

    # All of them: with fewer, OpenMP would end the others and start new ones at PyTorch's next operation.
    _openmp()(_Task(one), None, torch.get_num_threads(), 0)


def _borrowed() -> AbstractContextManager[None]:
    """Let the engine compute on PyTorch's threads: they wait for work, spinning, on the cores that ours would need.

    Not after a fork: OpenMP's threads don't come along, and who asks for them waits forever.
    """
    number = torch.get_num_threads()
    several = number > 1 and os.getpid() == _PROCESS and _openmp() is not None
    return pool.borrowed(_on_torchs_threads if several else None, number)


def _state(state: Tensor | None, direction: int) -> NDArray | None:
    return None if state is None else _array(state)[direction]


def _through(layers: list[Engine], x: NDArray, h0: Tensor | None, c0: Tensor | None, steps: Steps) -> list[Trace]:
    """What the way back needs, of each direction."""
    options: dict[str, Any] = {"from_zero": h0 is None, "lean": True}
    tasks = [partial(each._forward, x, _state(h0, d), _state(c0, d), steps, **options) for d, each in enumerate(layers)]
    with _borrowed():
        return pool.run(tasks)


def _joined(arrays: list[NDArray], axis: int) -> Tensor:
    """Both directions' arrays in one tensor; a single array as it is."""
    if len(arrays) == 1:
        return torch.from_numpy(arrays[0])
    shape = list(arrays[0].shape)
    shape[axis] *= 2
    return torch.from_numpy(np.concatenate(arrays, axis, buffers.empty(tuple(shape), arrays[0].dtype)))


def _last_states(traces: list[Trace]) -> tuple[Tensor, Tensor]:
    """(h, c) of each direction's last step (D, B, H), in memory of their own."""
    h, c = [trace.h_last[None].copy() for trace in traces], [trace.c_last[None].copy() for trace in traces]
    return _joined(h, 0), _joined(c, 0)


class _Layer(torch.autograd.Function):
    """One layer in one direction or both, as PyTorch's autograd sees it."""

    @staticmethod
    def forward(
        ctx: Any, task: _Pass, x: Tensor, h0: Tensor | None, c0: Tensor | None, *weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous()
        values = _array(x)
        own = [direction.from_torch(part) for direction, part in _each(task.directions, weights)]
        traces = _through([layer for layer, _ in own], values, h0, c0, task.steps)
        output = _joined([trace.layer._at_steps(trace._h_rows) for trace in traces], 2)
        kept = [(flat, t._gates, t._c_rows, t._h_rows) for (_, flat), t in zip(own, traces, strict=True)]
        # PyTorch frees what is saved here after the way back, and says so if someone has written into x or the
        # output, which is h itself where there is one direction.
        ctx.save_for_backward(
            x if _needs_products(task, ctx.needs_input_grad[4:]) else None,
            output if len(traces) == 1 else None,
            *[torch.from_numpy(array) for arrays in kept for array in arrays],
        )
        ctx.task, ctx.from_zero, ctx.shape = task, h0 is None, x.shape
        ctx.set_materialize_grads(False)
        return output, *_last_states(traces)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
        x, _, *kept = ctx.saved_tensors
        found = _backward(ctx, None if x is None else _array(x), [each.numpy() for each in kept], incoming)
        if torch.is_grad_enabled():  # create_graph=True
            found = _refuse_second_derivatives(found, [each for each in (x, *kept, *incoming) if each is not None])
        return None, *found


def _needs_products(task: _Pass, needed: Sequence[bool]) -> bool:
    """Whether the gradient of any weight_ih or weight_hh is needed: they are sums over x and h."""
    return any(part[0] or part[1] for _, part in _each(task.directions, needed))


def _backward(
    ctx: Any, x: NDArray | None, kept: Sequence[NDArray], incoming: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Gradients of x, h⁰, c⁰ and the weights, those that are needed."""
    task: _Pass = ctx.task
    _, need_x, need_h0, need_c0, *need_weights = ctx.needs_input_grad
    dh, dh_last, dc_last = (None if each is None else _array(each) for each in incoming)

    def one(d: int, way: _Direction, own: Sequence[NDArray]) -> tuple[Gradients, dict[str, NDArray]]:
        flat, gates, c_rows, h_rows = own
        layer, places, seen = way.layer(flat), way.places, x
        if seen is None:
            places, seen = way.places_of_rest, np.empty((*ctx.shape[:2], 0), way.dtype)
        trace = Trace(layer, seen, task.steps, TRUE, gates[:, :0], gates, c_rows, h_rows)
        to = _cut(buffers.empty((places["V"][1],), way.dtype), places)
        return layer._backward(
            trace,
            dh if dh is None or len(task.directions) == 1 else dh[:, :, d * way.H : (d + 1) * way.H],
            None if dh_last is None else dh_last[d],
            None if dc_last is None else dc_last[d],
            to,
            need_dx=need_x,
            from_zero=ctx.from_zero,
        ), to._views

    with _borrowed():
        results = pool.run([partial(one, d, *each) for d, each in enumerate(_each(task.directions, kept))])
    found: list[Tensor | None] = [None, None, None]
    if need_x:
        for gradients, _ in results[1:]:
            results[0][0].x += gradients.x
        found[0] = torch.from_numpy(results[0][0].x)
    if need_h0:
        found[1] = _joined([gradients.h0[None].copy() for gradients, _ in results], 0)
    if need_c0:
        found[2] = _joined([gradients.c0[None].copy() for gradients, _ in results], 0)
    for (way, need), (_, arrays) in zip(_each(task.directions, need_weights), results, strict=True):
        found += way.to_torch(arrays, need)
    return found


class _Once(torch.autograd.Function):
    """Gradients as they are, from which no way leads further back."""

    @staticmethod
    def forward(ctx: Any, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(each.view_as(each) for each in tensors[:n])

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> None:
        raise NotImplementedError(
            "lstm_numba.torch.LSTM has first derivatives only: a gradient that went through it (create_graph=True) "
            "can't be differentiated again; torch.nn.LSTM can do that"
        )


def _refuse_second_derivatives(found: list[Tensor | None], sources: list[Tensor]) -> list[Tensor | None]:
    """The gradients, tied to what they depend on by a node that refuses to be differentiated."""
    there = [each for each in found if each is not None]
    anchor = torch.zeros((), requires_grad=True)
    tied = iter(_Once.apply(len(there), *there, *sources, anchor))
    return [None if each is None else next(tied) for each in found]


def _without_gradients(
    task: _Pass, x: Tensor, h0: Tensor | None, c0: Tensor | None, *weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `_Layer`, some steps at a time: gates and states of the others needn't be kept."""
    values = _array(x.contiguous())
    T, B, _ = values.shape
    engines = [direction.from_torch(part)[0] for direction, part in _each(task.directions, weights)]
    H, dtype = engines[0].hidden_size, engines[0].dtype
    chunk = max(-(-_STEPS_AT_A_TIME // B), _GATES_AT_A_TIME // (4 * B * H * dtype.itemsize))
    if chunk >= T:
        traces = _through(engines, values, h0, c0, task.steps)
        return _joined([trace.layer._at_steps(trace._h_rows) for trace in traces], 2), *_last_states(traces)
    output = buffers.empty((T, B, len(engines) * H), dtype)

    def one(d: int, engine: Engine) -> tuple[NDArray, NDArray]:
        h, c = _state(h0, d), _state(c0, d)
        starts = range(0, T, chunk)
        for lo in reversed(starts) if engine.reverse else starts:
            hi = min(T, lo + chunk)
            trace = engine._forward(values[lo:hi], h, c, _part(task.steps, lo, hi), from_zero=h is None, lean=True)
            output[lo:hi, :, d * H : (d + 1) * H] = engine._at_steps(trace._h_rows)
            h, c = trace.h_last.copy(), trace.c_last.copy()
            del trace  # so that the next one has its memory
        assert h is not None and c is not None
        return h, c

    with _borrowed():
        states = pool.run([partial(one, d, engine) for d, engine in enumerate(engines)])
    h_n, c_n = (torch.from_numpy(np.stack(each)) for each in zip(*states, strict=True))
    return torch.from_numpy(output), h_n, c_n


def _part(steps: Steps, lo: int, hi: int) -> Steps:
    """The steps lo … hi; sequences that end before have none of them."""
    given = None if steps.given is None else np.clip(steps.given - lo, 0, hi - lo)
    return Steps(hi - lo, steps.B, given)


# --------------------------------------------------------------------------------------------------------- the module


class LSTM(nn.Module):
    """``torch.nn.LSTM``, computed by this engine on the CPU, with peepholes if wanted and with a look inside.

    Parameters, shapes, names and initial values are those of ``torch.nn.LSTM``, and state dicts go both ways. The
    equations are on the page of `lstm_numba.layers.lstm`. Source of the interface: PyTorch's documentation of
    ``torch.nn.LSTM`` (https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html).

    Parameters
    ----------
    input_size, hidden_size
        I and H.
    num_layers
        Layers, one above the other.
    bias
        Whether there are bias_ih and bias_hh.
    batch_first
        Whether input and output are (B, T, ·) instead of (T, B, ·); states are not concerned.
    dropout
        In training, the share of each layer's output, but the last one's, that is set to 0; the rest grows by
        1 / (1 - dropout).
    bidirectional
        Whether each layer also runs from the last step to the first; outputs lie side by side.
    proj_size
        Must be 0: the engine has no projections.
    device
        The CPU, or "meta" for weights that come later.
    dtype
        ``torch.float32`` or ``torch.float64``; PyTorch's default if None.
    peepholes
        Whether gates see the cell state through peephole_l0, peephole_l0_reverse, peephole_l1, …, (3, H) each.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, peephole_l0, weight_ih_l0_reverse, …
        Parameters: (4H, I), in layers above the first (4H, D·H), with D = 2 directions or 1; (4H, H); (4H,); (4H,);
        (3, H). All start uniform in ±1/√H.

    Raises
    ------
    ValueError, TypeError
        For a size below 1, a dropout outside 0 … 1, a proj_size, another dtype; the text names the argument.

    Examples
    --------
    >>> lstm = LSTM(2, 3, num_layers=2, bidirectional=True, peepholes=True)
    >>> output, (h_n, c_n) = lstm(torch.ones(5, 1, 2))
    >>> tuple(output.shape), tuple(h_n.shape)
    ((5, 1, 6), (4, 1, 3))
    >>> lstm.trace().layers[1][0].f.shape
    (5, 1, 3)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        peepholes: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = _checks.size("input_size", input_size)
        self.hidden_size = _checks.size("hidden_size", hidden_size)
        self.num_layers = _checks.size("num_layers", num_layers)
        self.bias = _checks.flag("bias", bias)
        self.batch_first = _checks.flag("batch_first", batch_first)
        self.dropout = _checks.number("dropout", dropout, 0)
        if self.dropout > 1:
            raise ValueError(f"dropout: expected a share from 0 to 1, got {dropout}")
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                f"dropout: with one layer there is nothing between layers to drop from, got dropout={dropout}",
                stacklevel=2,
            )
        self.bidirectional = _checks.flag("bidirectional", bidirectional)
        if proj_size != 0:
            raise ValueError(f"proj_size: expected 0, as the engine has no projections, got {proj_size!r}")
        self.proj_size = 0
        self.peepholes = _checks.flag("peepholes", peepholes)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if dtype not in _FLOATS:
            raise ValueError(f"dtype: expected torch.float32 or torch.float64, got {dtype}")
        self._names: list[list[str]] = []  # each layer's parameters, direction after direction
        self._seen: tuple[Tensor | PackedSequence, tuple[Tensor, Tensor] | None] | None = None
        self._make_parameters(device, dtype)
        self.reset_parameters()

    def _make_parameters(self, device: torch.device | str | None, dtype: torch.dtype) -> None:
        H, D = self.hidden_size, 1 + self.bidirectional
        for layer in range(self.num_layers):
            own: list[str] = []
            for way in ("", "_reverse")[:D]:
                shapes: dict[str, tuple[int, ...]] = {}
                shapes |= {"weight_ih": (4 * H, D * H if layer else self.input_size), "weight_hh": (4 * H, H)}
                shapes |= {"bias_ih": (4 * H,), "bias_hh": (4 * H,)} if self.bias else {}
                shapes |= {"peephole": (3, H)} if self.peepholes else {}
                for name, shape in shapes.items():
                    own.append(f"{name}_l{layer}{way}")
                    self.register_parameter(own[-1], nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
            self._names.append(own)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in ±1/√H, peepholes last: the others as ``torch.nn.LSTM`` draws them."""
        limit = 1 / math.sqrt(self.hidden_size)
        parameters = dict(self.named_parameters(recurse=False))
        for name in sorted(parameters, key=lambda name: name.startswith("peephole")):
            nn.init.uniform_(parameters[name], -limit, limit)

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer in each direction, a list for each, as ``torch.nn.LSTM`` has them."""
        D = 1 + self.bidirectional
        cut = [(names, len(names) // D) for names in self._names]
        return [[getattr(self, name) for name in names[d * n : (d + 1) * n]] for names, n in cut for d in range(D)]

    def flatten_parameters(self) -> None:
        """Do nothing: ``torch.nn.LSTM`` arranges weights for GPUs by it, and programs call it."""

    def extra_repr(self) -> str:
        """Return the arguments, those that are not as usual."""
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        named = [(name, getattr(self, name), value) for name, value in (usual | {"peepholes": False}).items()]
        changed = [f"{name}={value}" for name, value, default in named if value != default]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles take along: all but the last input."""
        return self.__dict__ | {"_seen": None}

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(
        self, input: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        """Run all layers over a batch of sequences.

        Parameters
        ----------
        input : (T, B, I), (B, T, I) with batch_first, (T, I) for a single sequence, or a PackedSequence
            NaN and infinity are computed with, as in PyTorch.
        hx : (h_0, c_0), each (L·D, B, H), or (L·D, H) for a single sequence
            Initial states: layer 0 forward, layer 0 backward, layer 1 forward, … Zero by default.

        Returns
        -------
        output : (T, B, D·H), arranged as the input is, or a PackedSequence
            h of the last layer at every step.
        (h_n, c_n) : each as hx
            The last states. Those of a backward direction belong to step 0.

        Raises
        ------
        ValueError, TypeError
            For a wrong shape, dtype or device; the text names the argument.
        """
        if torch.jit.is_tracing():  # the graph would hold this input's output as a constant
            raise NotImplementedError(
                "lstm_numba.torch.LSTM can't be traced; lstm_numba.to_onnx(lstm_numba.from_torch(module), path) writes "
                "it as ONNX, and torch.nn.LSTM takes its state dict where there are no peepholes"
            )
        weights = self._weights()
        x, lengths, h0, c0 = self._time_major(input, hx, weights[0][0])
        self._seen = _detached(input), None if hx is None else (hx[0].detach(), hx[1].detach())
        output, h_n, c_n = self._layers(x, lengths, h0, c0, weights)
        if isinstance(input, PackedSequence):
            assert lengths is not None
            data = pack_padded_sequence(output, lengths).data
            packed = PackedSequence(data, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
            back = input.unsorted_indices
            return packed, (h_n, c_n) if back is None else (h_n.index_select(1, back), c_n.index_select(1, back))
        if input.dim() == 2:
            return output.squeeze(1), (h_n.squeeze(1), c_n.squeeze(1))
        return output.transpose(0, 1) if self.batch_first else output, (h_n, c_n)

    def _weights(self) -> list[list[Tensor]]:
        """Each layer's weights, direction after direction, checked."""
        # By attribute, each time: torch.func.functional_call and parametrizations put other tensors there.
        weights = [[getattr(self, name) for name in names] for names in self._names]
        dtype = weights[0][0].dtype
        for names, own in zip(self._names, weights, strict=True):
            for name, weight in zip(names, own, strict=True):
                if weight.dtype not in _FLOATS:
                    raise TypeError(f"{name}: expected float32 or float64, got {weight.dtype}; .float() converts it")
                if weight.dtype is not dtype or not weight.is_cpu:
                    _check_kind(name, weight, dtype)
        return weights

    def _time_major(
        self, input: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | None, weight: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """(x (T, B, I), lengths, h⁰, c⁰), checked; a packed batch in its own order, the longest sequence first."""
        lengths, I = None, self.input_size
        packed = isinstance(input, PackedSequence)
        x = _check_kind("input", input.data if packed else input, weight.dtype)
        if packed:
            _check_shape("input", x, ("N", I))
            # Without the indices, so that nothing is put back into the caller's order.
            x, lengths = pad_packed_sequence(PackedSequence(x, input.batch_sizes))
        elif x.dim() == 2:
            x = _check_shape("input", x, ("T", I)).unsqueeze(1)
        elif self.batch_first:
            x = _check_shape("input", x, ("B", "T", I)).transpose(0, 1)
        else:
            _check_shape("input", x, ("T", "B", I))
        if hx is None:
            return x, lengths, None, None
        states: Any = hx
        if not isinstance(states, tuple | list) or len(states) != 2:
            got = f"{len(states)} of them" if isinstance(states, tuple | list) else type(states).__name__
            raise TypeError(f"hx: expected two tensors (h_0, c_0), got {got}")
        single = not packed and input.dim() == 2
        rows, H = self.num_layers * (1 + self.bidirectional), self.hidden_size
        shape = (rows, H) if single else (rows, x.shape[1], H)
        h0 = _check_shape("h_0", _check_kind("h_0", hx[0], weight.dtype), shape)
        c0 = _check_shape("c_0", _check_kind("c_0", hx[1], weight.dtype), shape)
        if single:
            return x, lengths, h0.unsqueeze(1), c0.unsqueeze(1)
        if packed and input.sorted_indices is not None:
            h0, c0 = (each.index_select(1, input.sorted_indices) for each in (h0, c0))
        return x, lengths, h0, c0

    def _layers(
        self, x: Tensor, lengths: Tensor | None, h0: Tensor | None, c0: Tensor | None, weights: list[list[Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(output (T, B, D·H), h_n, c_n) of time-major sequences."""
        T, B, _ = x.shape
        D = 1 + self.bidirectional
        steps = Steps(T, B, None if lengths is None else lengths.numpy())
        run: Callable[..., tuple[Tensor, Tensor, Tensor]]
        forward_mode = getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0  # which autograd will refuse
        run = _Layer.apply if torch.is_grad_enabled() or forward_mode else _without_gradients
        states = []
        for number, (directions, own) in enumerate(zip(self._directions(weights), weights, strict=True)):
            if number and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            first = h0, c0
            if h0 is not None and c0 is not None and self.num_layers > 1:
                first = h0[number * D : (number + 1) * D], c0[number * D : (number + 1) * D]
            x, *last = run(_Pass(directions, steps), x, *first, *own)
            states.append(last)
        if self.num_layers == 1:
            return x, *states[0]
        h_n, c_n = (torch.cat(each) for each in zip(*states, strict=True))
        return x, h_n, c_n

    def _directions(self, weights: list[list[Tensor]]) -> list[list[_Direction]]:
        H, D, dtype = self.hidden_size, 1 + self.bidirectional, _FLOATS[weights[0][0].dtype]
        sizes = [self.input_size] + [D * H] * (self.num_layers - 1)
        return [[_direction(I, H, self.peepholes, self.bias, bool(d), dtype) for d in range(D)] for I in sizes]

    # -- a look inside ------------------------------------------------------------------------------------------------

    def trace(
        self, input: Tensor | PackedSequence | None = None, hx: tuple[Tensor, Tensor] | None = None
    ) -> StackTrace:
        """Every gate and state, as NumPy arrays: one forward pass with the present weights.

        Nothing is dropped in it, whatever `dropout` is, and no gradient goes through it.

        Parameters
        ----------
        input, hx
            As `forward` takes them. With no input, those that `forward` saw last; they are kept for that, but go
            neither into the state dict nor into copies and pickles. They are not copied: what is written into them
            later is what is seen.

        Returns
        -------
        lstm_numba.layers.stack.StackTrace
            ``trace.layers[l][d]`` is the `lstm_numba.Trace` of layer l in direction d (0 forward, 1 backward): ``.f``,
            ``.c`` and the rest, time-major (T, B, H) whatever `batch_first` is. Of a single sequence B is 1; of a
            PackedSequence the sequences lie in the caller's order, zero beyond their ends.

        Raises
        ------
        ValueError
            With no input, where `forward` has seen none; and as `forward`.
        TypeError
            As `forward`.
        """
        from lstm_numba.layers.stack import Stack, StackTrace

        if input is None:
            if hx is not None:
                raise ValueError("input: expected one together with hx, got none")
            if self._seen is None:
                raise ValueError("input: expected one, as forward has seen none since the module was made or copied")
            input, hx = self._seen
        weights = self._weights()
        with torch.no_grad():
            x, lengths, h0, c0 = self._time_major(input, hx, weights[0][0])
        back = input.unsorted_indices if isinstance(input, PackedSequence) else None
        if back is not None and lengths is not None:
            x, lengths = x.index_select(1, back), lengths[back]
            h0, c0 = (None if each is None else each.index_select(1, back) for each in (h0, c0))
        layers = [
            [direction.layer_of_its_own(part) for direction, part in _each(directions, own)]
            for directions, own in zip(self._directions(weights), weights, strict=True)
        ]
        stack, values = Stack.of(layers), _array(x).copy()
        T, B, _ = values.shape
        steps = Steps(T, B, None if lengths is None else lengths.numpy())
        states = [None if each is None else list(_array(each)) for each in (h0, c0)]
        traces, h = stack._forward(values, steps, *states)  # whose checks would refuse NaN and infinity
        return StackTrace(stack, values, traces, h, steps)


def _check_kind(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor, if it is one that the engine can compute with; in a region of autocast, converted."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_cpu:
        raise ValueError(f"{name}: expected a tensor on the CPU, where lstm_numba computes; got device {tensor.device}")
    if tensor.dtype is dtype:
        return tensor
    if tensor.is_floating_point() and torch.is_autocast_enabled("cpu"):
        return tensor.to(dtype)
    raise TypeError(f"{name}: expected {dtype}, as the weights are, got {tensor.dtype}")


def _check_shape(name: str, tensor: Tensor, shape: tuple[int | str, ...]) -> Tensor:
    """The tensor, if its shape is right: a number, or a letter where any size of at least 1 will do."""
    have = tensor.shape
    sizes = zip(have, shape, strict=False)
    if len(have) != len(shape) or not all(n if isinstance(want, str) else n == want for n, want in sizes):
        wanted = f"({', '.join(map(str, shape))})"
        raise ValueError(f"{name}: expected shape {wanted}, none of it 0, got {tuple(have)}")
    return tensor


def _detached(input: Tensor | PackedSequence) -> Tensor | PackedSequence:
    if isinstance(input, PackedSequence):
        return PackedSequence(input.data.detach(), input.batch_sizes, input.sorted_indices, input.unsorted_indices)
    return input.detach()
