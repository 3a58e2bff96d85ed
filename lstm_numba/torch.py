"""PyTorch modules that compute with this engine: `LSTM`, `GRU`, `RNN`, and `Recurrent` for any cell.

The first three have the arguments, shapes and names of those in ``torch.nn``; an `LSTM` can also have peepholes. All
give access to their gates:

    import lstm_numba.torch

    lstm = lstm_numba.torch.LSTM(8, 16, peepholes=True)   # instead of torch.nn.LSTM(8, 16)
    output, (h_n, c_n) = lstm(x)                          # autograd works
    trace = lstm.trace()                                  # for that input: trace.layers[0][0].f, .c, …

    net = lstm_numba.torch.Recurrent(leaky, 8, 16)        # leaky is your own cell (`lstm_numba.cell`)
    output, h_n = net(x)

Each layer is one ``torch.autograd.Function``, which computes on as many threads as both ``torch.set_num_threads`` and
`lstm_numba.set_num_threads` allow. It reads the input and writes the output in PyTorch's memory. Weights and their
gradients are copied once per pass, because PyTorch stacks gates in a different order.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks, cells
from lstm_numba.engine import buffers, pool
from lstm_numba.layers import gru, lstm, recurrent, simple_rnn
from lstm_numba.layers.parameters import Parameters
from lstm_numba.layers.recurrent import Steps, Trace

try:
    import torch
    from torch import Tensor, nn
    from torch.fx.experimental.proxy_tensor import get_proxy_mode
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
except ImportError as error:
    raise ImportError(
        'lstm_numba.torch: PyTorch is not installed; pip install "lstm-numba[torch]" installs it'
    ) from error

if TYPE_CHECKING:
    from lstm_numba.layers.stack import Stack, StackTrace

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "RecurrentModule"]

_FLOATS = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}
# Without gradients, a layer keeps this many bytes of its trace at a time, ...
_BYTES_AT_A_TIME = 1 << 24
# ... but processes at least this many steps of sequences at a time, because it packs the weights each time.
_STEPS_AT_A_TIME = 1024
_PROCESS = os.getpid()


# ------------------------------------------------------------------------------------------------- weights, both ways


class _Group(NamedTuple):
    """Neighbouring rows of a PyTorch parameter that lie in one array of the engine."""

    rows: slice
    shape: tuple[int, ...]  # with an axis for gates, if the array has one
    name: str
    place: slice  # place of these gates in the array
    order: NDArray  # order of PyTorch's gates there
    back: NDArray  # order of the array's gates here
    adds: bool  # whether it is added to another parameter's values: b is bias_ih + bias_hh


class _Direction:
    """A layer in one direction, without weights, and the parts of PyTorch's parameters.

    Parameters
    ----------
    layer
        A layer from `lstm_numba.layers.recurrent.Recurrent.of_size`.
    parts
        PyTorch's name of a parameter → the engine's names of its stacked parts: parameters, or one gate's part of them.
    """

    def __init__(self, layer: recurrent.Recurrent, parts: Mapping[str, Sequence[str]]) -> None:
        own = layer.parameters()
        self.layer = layer
        self.groups: dict[str, list[_Group]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        seen: set[str] = set()
        for key, each in parts.items():
            if each[0] in own:
                self.groups[key] = _groups(each, own, seen)
                self.shapes[key] = (self.groups[key][-1].rows.stop, *own[each[0]].shape[1:])
                seen.update(each)

    def from_torch(self, weights: Sequence[Tensor]) -> recurrent.Recurrent:
        """Return the engine's layer with copies of PyTorch's weights."""
        layer = self.layer.around(buffers.empty(self.layer.parameters().flat.shape, self.layer.dtype))
        own = layer.parameters()
        for groups, weight in zip(self.groups.values(), weights, strict=True):
            array = _array(weight)
            for rows, shape, name, place, _, back, adds in groups:
                stacked, to = array[rows].reshape(shape), own[name][place]
                if adds:
                    to += stacked.take(back, 0)
                else:
                    stacked.take(back, 0, to, "clip")
        return layer

    def to_torch(self, gradients: Parameters, needed: Sequence[bool]) -> list[Tensor | None]:
        """Return gradients in PyTorch's layout, each in its own memory; None for those that aren't needed."""
        found: list[Tensor | None] = []
        for (key, groups), need in zip(self.groups.items(), needed, strict=True):
            array = buffers.empty(self.shapes[key], self.layer.dtype) if need else None
            if array is not None:
                for rows, shape, name, place, order, _, _ in groups:
                    gradients[name][place].take(order, 0, array[rows].reshape(shape), "clip")
            found.append(None if array is None else torch.from_numpy(array))
        return found


def _groups(parts: Sequence[str], own: Parameters, seen: set[str]) -> list[_Group]:
    """Group a parameter's parts by the engine's arrays; `seen` are the parts of earlier parameters."""
    found, start = [], 0
    for name, each in groupby(parts, lambda part: part.partition("_")[0]):
        group = list(each)
        shape = own[group[0]].shape
        if group == [name]:  # all of the array, as it is
            gates, stop = np.arange(shape[0]), start + shape[0]
        else:
            gates = np.array([own.gates[name].index(part.removeprefix(f"{name}_")) for part in group])
            stop = start + len(gates) * shape[0]
            shape = (len(gates), *shape)
        first = gates.min()
        place, order = slice(first, first + len(gates)), gates - first
        found.append(_Group(slice(start, stop), shape, name, place, order, order.argsort(), group[0] in seen))
        start = stop
    return found


def _array(tensor: Tensor) -> NDArray:
    """Return the tensor's memory as an array."""
    return tensor.detach().numpy()


# ----------------------------------------------------------------------------------------------------------- threads


@lru_cache(maxsize=1)
def _openmp() -> Any:
    """Return GOMP_parallel(function, data, threads, flags), the entry point that compilers call, if OpenMP is GNU's."""
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
    """Let the engine compute on PyTorch's threads, which spin on the cores that our threads would need.

    This isn't done after a fork: OpenMP's threads don't exist in the child, and a call to them would wait forever.
    """
    number = torch.get_num_threads()
    several = number > 1 and os.getpid() == _PROCESS and _openmp() is not None
    return pool.borrowed(_on_torchs_threads if several else None, number)


# ------------------------------------------------------------------------------- what records calls instead of running


_RECORDERS = (torch._C._TorchDispatchModeKey.FAKE, torch._C._TorchDispatchModeKey.FUNCTIONAL)


def _cannot(name: str, how: str) -> NotImplementedError:
    """Return the error for uses of a module other than calling it."""
    instead = "call it by itself, outside of that"
    if hasattr(nn, name):
        instead = (
            f"torch.nn.{name} takes its state dict (peepholes apart), and "
            "lstm_numba.to_onnx(lstm_numba.from_torch(module), path) writes it as ONNX"
        )
    return NotImplementedError(f"lstm_numba.torch.{name} can't be {how}, as it computes outside PyTorch; {instead}")


def _refuse_recording(name: str) -> None:
    """Raise if PyTorch records calls: the record would contain this call's result as a constant."""
    if torch.jit.is_tracing():
        raise _cannot(name, "traced by torch.jit")
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise _cannot(name, "transformed by torch.func or vmap")
    if get_proxy_mode() is not None or any(map(torch._C._get_dispatch_mode, _RECORDERS)):
        raise _cannot(name, "recorded by make_fx or torch.export")


@lru_cache(maxsize=64)
def _not_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compiler.disable(function)


def _eagerly(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; within torch.compile, without compiling it or the functions it calls."""
    if torch.compiler.is_compiling():  # torch.compile then runs this unchanged; torch.export passes the error on
        raise _cannot(name, "compiled or exported")
    if "torch._dynamo" in sys.modules:
        function = _not_compiled(function)
    return function(*arguments)


# -------------------------------------------------------------------------------------------- one layer, both its ways


class _Pass(NamedTuple):
    """The data of a pass through one layer, apart from its tensors.

    Attributes
    ----------
    name
        The module's class, for errors.
    directions
        The layer in each of its directions.
    steps
        The lengths of the sequences.
    """

    name: str
    directions: list[_Direction]
    steps: Steps

    def each(self, things: Sequence[Any]) -> list[tuple[_Direction, Any]]:
        """Iterate over the directions, each with its part of a row that holds one direction after the other."""
        n = len(things) // len(self.directions)
        return [(each, things[d * n : (d + 1) * n]) for d, each in enumerate(self.directions)]

    def layers(self, weights: Sequence[Tensor]) -> list[recurrent.Recurrent]:
        """Return the engine's layers with copies of PyTorch's weights."""
        return [direction.from_torch(part) for direction, part in self.each(weights)]

    def split(self, tensors: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Separate the states of the cell from the weights that follow them."""
        n = len(self.directions[0].layer.states)
        return tensors[:n], tensors[n:]


def _of_direction(tensors: Sequence[Tensor | None], direction: int) -> list[NDArray | None]:
    """Return one direction's part (B, H) of states (D, B, H)."""
    return [None if each is None else _array(each)[direction] for each in tensors]


def _through(
    task: _Pass, layers: list[recurrent.Recurrent], x: NDArray, states: Sequence[Tensor | None], keep: str = "backward"
) -> list[Trace]:
    """Return each direction's trace, with what is to be kept of it."""
    options: dict[str, Any] = {"from_zero": states[0] is None, "keep": keep}
    tasks = [partial(layer.run, x, _of_direction(states, d), task.steps, **options) for d, layer in enumerate(layers)]
    with _borrowed():
        return pool.run(tasks)


def _output(traces: list[Trace]) -> Tensor:
    """Return h, with both directions side by side; a single direction keeps its own memory."""
    if len(traces) == 1:
        return torch.from_numpy(traces[0].h)
    T, B, H = traces[0].h.shape
    output = buffers.empty((T, B, len(traces) * H), traces[0].h.dtype)
    return torch.from_numpy(np.concatenate([trace.h for trace in traces], 2, output))


def _stacked(arrays: list[NDArray]) -> Tensor:
    """Return each direction's state (B, H) in one new tensor (D, B, H)."""
    return torch.from_numpy(arrays[0][None].copy() if len(arrays) == 1 else np.stack(arrays))


def _last_states(traces: list[Trace]) -> list[Tensor]:
    """Return each state after the last step (D, B, H)."""
    return [_stacked([getattr(trace, f"{state}_last") for trace in traces]) for state in traces[0].layer.states]


class _Layer(torch.autograd.Function):
    """One layer in one direction or both, for PyTorch's autograd; it takes (task, x, *states, *weights)."""

    @staticmethod
    def forward(ctx: Any, task: _Pass, x: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        states, weights = task.split(tensors)
        x = x.contiguous()
        layers = task.layers(weights)
        traces = _through(task, layers, _array(x), states)
        output = _output(traces)
        kept = [array for trace in traces for array in (trace.layer.parameters().flat, *trace.for_backward())]
        # PyTorch frees these tensors after the backward pass, and raises an error if someone has written into x or the
        # output, which is h itself where there is one direction.
        ctx.save_for_backward(
            x if _needs_products(task, ctx.needs_input_grad) else None,
            output if len(traces) == 1 else None,
            *[torch.from_numpy(array) for array in kept if array.size],
        )
        ctx.empty = [None if array.size else array for array in kept]
        ctx.task, ctx.from_zero, ctx.shape = task, states[0] is None, x.shape
        ctx.set_materialize_grads(False)
        return output, *_last_states(traces)

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
        return _eagerly(ctx.task.name, _backward, ctx, *incoming)


def _needs_products(task: _Pass, needed: Sequence[bool]) -> bool:
    """Return whether the gradient of any U or W is needed: these are sums over x and h."""
    _, of_weights = task.split(needed[2:])
    return any(
        need and groups[0].name in ("U", "W")
        for direction, part in task.each(of_weights)
        for groups, need in zip(direction.groups.values(), part, strict=True)
    )


def _backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the inputs of `_Layer.forward`, as far as they are needed."""
    task: _Pass = ctx.task
    _refuse_recording(task.name)
    if any(each is not None and torch._C._functorch.is_legacy_batchedtensor(each) for each in incoming):
        raise _cannot(task.name, "differentiated for several gradients at once (is_grads_batched, vectorize)")
    x, _, *saved = ctx.saved_tensors
    left = iter(saved)
    kept = [next(left).numpy() if array is None else array for array in ctx.empty]
    results = _run_back(ctx, x, kept, incoming)

    _, need_x, *needed = ctx.needs_input_grad
    need_states, need_weights = task.split(needed)
    found: list[Tensor | None] = [None]
    if need_x:
        for gradients in results[1:]:
            results[0].x += gradients.x
        found[0] = torch.from_numpy(results[0].x)
    for state, need in zip(task.directions[0].layer.states, need_states, strict=True):
        found.append(_stacked([getattr(gradients, f"{state}0") for gradients in results]) if need else None)
    for (direction, need), gradients in zip(task.each(need_weights), results, strict=True):
        found += direction.to_torch(gradients.parameters(), need)

    if torch.is_grad_enabled():  # create_graph=True
        sources = [each for each in (x, *saved, *incoming) if each is not None]
        found = _refuse_second_derivatives(task.name, found, sources)
    return None, *found


def _run_back(
    ctx: Any, x: Tensor | None, kept: Sequence[NDArray], incoming: Sequence[Tensor | None]
) -> list[recurrent.Gradients]:
    """Return each direction's gradients."""
    task: _Pass = ctx.task
    dh, *last = incoming
    seen = np.empty((*ctx.shape[:2], 0), task.directions[0].layer.dtype) if x is None else _array(x)

    def one(d: int, direction: _Direction, own: Sequence[NDArray]) -> recurrent.Gradients:
        flat, *arrays = own
        layer = direction.layer.around(flat)
        H = layer.hidden_size
        return layer.run_back(
            layer.trace_of(seen, task.steps, arrays),
            None if dh is None else _array(dh)[:, :, d * H : (d + 1) * H],
            _of_direction(last, d),
            layer.parameters().empty_like(),
            need_dx=ctx.needs_input_grad[1],
            need_products=x is not None,
            from_zero=ctx.from_zero,
        )

    with _borrowed():
        return pool.run([partial(one, d, *each) for d, each in enumerate(task.each(kept))])


class _Once(torch.autograd.Function):
    """Return gradients unchanged; they can't be differentiated again."""

    @staticmethod
    def forward(ctx: Any, name: str, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(each.view_as(each) for each in tensors[:n])

    @staticmethod
    def backward(ctx: Any, *incoming: Tensor) -> None:
        raise NotImplementedError(
            f"lstm_numba.torch.{ctx.name} has first derivatives only: a gradient that went through it "
            "(create_graph=True) can't be differentiated again; the modules of torch.nn can do that"
        )


def _refuse_second_derivatives(name: str, found: list[Tensor | None], sources: list[Tensor]) -> list[Tensor | None]:
    """Return the gradients, tied to their inputs by a node that raises an error when it is differentiated."""
    there = [each for each in found if each is not None]
    anchor = torch.zeros((), requires_grad=True)
    tied = iter(_Once.apply(name, len(there), *there, *sources, anchor))
    return [None if each is None else next(tied) for each in found]


def _without_gradients(task: _Pass, x: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """Do the same as `_Layer`, a few steps at a time, without keeping intermediate values."""
    first, weights = task.split(tensors)
    values, layers = _array(x.contiguous()), task.layers(weights)
    T, B, _ = values.shape
    H, dtype = layers[0].hidden_size, layers[0].dtype
    chunk = max(-(-_STEPS_AT_A_TIME // B), _BYTES_AT_A_TIME // layers[0].memory(1, B, keep="outputs").trace)
    if chunk >= T:
        traces = _through(task, layers, values, first, "outputs")
        return _output(traces), *_last_states(traces)
    output = buffers.empty((T, B, len(layers) * H), dtype)

    def one(d: int, layer: recurrent.Recurrent) -> list[NDArray | None]:
        states = _of_direction(first, d)
        starts = range(0, T, chunk)
        for lo in reversed(starts) if layer.reverse else starts:
            hi = min(T, lo + chunk)
            steps = _part(task.steps, lo, hi)
            trace = layer.run(values[lo:hi], states, steps, from_zero=states[0] is None, keep="outputs")
            output[lo:hi, :, d * H : (d + 1) * H] = trace.h
            states = [getattr(trace, f"{state}_last").copy() for state in layer.states]
            del trace  # free its memory for the next one
        return states

    with _borrowed():
        last = pool.run([partial(one, d, layer) for d, layer in enumerate(layers)])
    return torch.from_numpy(output), *(torch.from_numpy(np.stack(each)) for each in zip(*last, strict=True))


def _part(steps: Steps, lo: int, hi: int) -> Steps:
    """Return the steps lo … hi; sequences that end earlier have none of them."""
    given = None if steps.given is None else np.clip(steps.given - lo, 0, hi - lo)
    return Steps(hi - lo, steps.B, given)


# -------------------------------------------------------------------------------------------------------- the modules


class RecurrentModule(nn.Module):
    """Base class of `LSTM`, `GRU`, `RNN` and `Recurrent`: arguments and shapes of ``torch.nn.GRU``, for any cell.

    Parameters
    ----------
    input_size, hidden_size
        I and H.
    num_layers
        Number of stacked layers.
    bias
        Whether there are biases.
    batch_first
        Whether input and output are (B, T, ·) instead of (T, B, ·); states are not affected.
    dropout
        In training, the share of the output of each layer except the last that is set to 0; the rest is multiplied by
        1 / (1 - dropout).
    bidirectional
        Whether each layer also runs from the last step to the first; outputs lie side by side.
    device
        The CPU, or "meta" for weights that are set later.
    dtype
        ``torch.float32`` or ``torch.float64``; PyTorch's default if None.

    Raises
    ------
    ValueError, TypeError
        For a size below 1, a dropout outside 0 … 1, another dtype; the message names the argument.
    """

    # Name of a parameter, without layer and direction → the stacked parts; empty: as in the engine.
    _parts: ClassVar[dict[str, Sequence[str]]] = {}
    _lowest = "_l0"  # suffix of the lowest layer's parameters
    _usual: ClassVar[dict[str, Any]] = {
        "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False
    }  # fmt: skip

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
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
                stacklevel=2 + (type(self).__init__ is not RecurrentModule.__init__),
            )
        self.bidirectional = _checks.flag("bidirectional", bidirectional)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        if dtype not in _FLOATS:
            raise ValueError(f"dtype: expected torch.float32 or torch.float64, got {dtype}")
        self._known: dict[torch.dtype, list[list[_Direction]]] = {}
        self._seen: tuple[Tensor | PackedSequence, Any] | None = None
        self._states = self._directions(dtype)[0][0].layer.states
        self._names: list[list[str]] = []  # each layer's parameters, one direction after the other
        for number, directions in enumerate(self._directions(dtype)):
            own: list[str] = []
            for direction, way in zip(directions, ("", "_reverse"), strict=False):
                for name, shape in direction.shapes.items():
                    own.append(f"{name}{f'_l{number}' if number else self._lowest}{way}")
                    self.register_parameter(own[-1], nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
            self._names.append(own)
        self.reset_parameters()

    def _make(self, input_size: int, hidden_size: int, **options: Any) -> recurrent.Recurrent:
        """Make a layer of the engine, with these options in addition to the module's own."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in ±1/√H, peepholes last: the others as torch.nn draws them."""
        limit = 1 / math.sqrt(self.hidden_size)
        parameters = dict(self.named_parameters(recurse=False))
        for name in sorted(parameters, key=lambda name: name.startswith("peephole")):
            nn.init.uniform_(parameters[name], -limit, limit)

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer in each direction, a list for each, as in ``torch.nn.LSTM``."""
        D = 1 + self.bidirectional
        cut = [(names, len(names) // D) for names in self._names]
        return [[getattr(self, name) for name in names[d * n : (d + 1) * n]] for names, n in cut for d in range(D)]

    def flatten_parameters(self) -> None:
        """Do nothing: ``torch.nn.LSTM`` arranges weights for GPUs here, and programs call it."""

    def extra_repr(self) -> str:
        """Return the arguments that differ from the defaults."""
        values = [(name, getattr(self, name), usual) for name, usual in self._usual.items()]
        changed = [f"{name}={value}" for name, value, usual in values if value != usual]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle everything except the last input."""
        return self.__dict__ | {"_seen": None, "_known": {}}

    def __prepare_scriptable__(self) -> None:
        """Raise for torch.jit.script, which asks for this attribute before it reads the source."""
        raise _cannot(type(self).__name__, "scripted by torch.jit")

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Tensor | PackedSequence, Any]:
        """Run all layers over a batch of sequences.

        Parameters
        ----------
        input : (T, B, I), (B, T, I) with batch_first, (T, I) for a single sequence, or a PackedSequence
            NaN and infinity are allowed, as in PyTorch.
        hx : h_0, or (h_0, c_0) for a cell with several states, each (L·D, B, H), or (L·D, H) for a single sequence
            Initial states: layer 0 forward, layer 0 backward, layer 1 forward, … Zero by default.

        Returns
        -------
        output : (T, B, D·H), arranged as the input is, or a PackedSequence
            h of the last layer at every step.
        h_n, or (h_n, c_n) : each as in hx
            The last states. Those of a backward direction belong to step 0.

        Raises
        ------
        ValueError, TypeError
            For a wrong shape, dtype or device; the message names the argument.
        NotImplementedError
            If PyTorch would record the call (torch.jit, torch.fx, torch.export) or transform it (torch.func, vmap).
        """
        return _eagerly(type(self).__name__, type(self)._forward, self, input, hx)

    def _forward(self, input: Tensor | PackedSequence, hx: Any) -> tuple[Tensor | PackedSequence, Any]:
        weights, x, lengths, states = self._checked(input, hx)
        self._seen = _copied(input), _copied(hx)
        if x.shape[1]:
            output, *last = self._layers(x, lengths, states, weights)
        else:  # run one sequence of zeros, and return none of it
            x, *states = (each if each is None else nn.functional.pad(each, (0, 0, 0, 1)) for each in (x, *states))
            output, *last = (each[:, :0] for each in self._layers(x, lengths, states, weights))

        if isinstance(input, PackedSequence):
            data, back = pack_padded_sequence(output, lengths).data, input.unsorted_indices
            output = PackedSequence(data, input.batch_sizes, input.sorted_indices, back)
            last = last if back is None else [each.index_select(1, back) for each in last]
        elif input.dim() == 2:
            output, last = output.squeeze(1), [each.squeeze(1) for each in last]
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, last[0] if len(last) == 1 else tuple(last)

    def _checked(self, input: Any, hx: Any) -> tuple[list[list[Tensor]], Tensor, Tensor | None, list[Tensor | None]]:
        """Return (weights of each layer, x (T, B, I), lengths, states) if the engine can use them, or raise."""
        if isinstance(input, torch.fx.Proxy):
            raise _cannot(type(self).__name__, "traced by torch.fx")
        _refuse_recording(type(self).__name__)
        # By attribute, each time: torch.func.functional_call and parametrizations put other tensors there.
        weights = [[getattr(self, name) for name in names] for names in self._names]
        dtype = weights[0][0].dtype
        for names, own in zip(self._names, weights, strict=True):
            for name, weight in zip(names, own, strict=True):
                if weight.dtype not in _FLOATS:
                    raise TypeError(f"{name}: expected float32 or float64, got {weight.dtype}; .float() converts it")
                if weight.dtype is not dtype or not weight.is_cpu:
                    _check_kind(name, weight, dtype)
        return weights, *self._time_major(input, hx, dtype)

    def _time_major(self, input: Any, hx: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor | None, list[Tensor | None]]:
        """Return checked (x (T, B, I), lengths, states); a packed batch keeps its order, the longest sequence first."""
        lengths, I = None, self.input_size
        packed = isinstance(input, PackedSequence)
        x = _check_kind("input", input.data if packed else input, dtype)
        single = not packed and x.dim() == 2
        if packed:
            _check_shape("input", x, ("N", I))
            # Drop the indices, so that nothing is put back into the caller's order.
            x, lengths = pad_packed_sequence(PackedSequence(x, input.batch_sizes))
        elif single:
            x = _check_shape("input", x, ("T", I)).unsqueeze(1)
        elif self.batch_first:
            x = _check_shape("input", x, ("B", "T", I)).transpose(0, 1)
        else:
            _check_shape("input", x, ("T", "B", I))
        if not x.shape[0]:
            raise _NoStepsError(f"input: expected a sequence of at least one step, got shape {tuple(input.shape)}")

        rows, H = self.num_layers * (1 + self.bidirectional), self.hidden_size
        states = self._initial(hx, (rows, H) if single else (rows, x.shape[1], H), dtype)
        if single:
            states = [None if each is None else each.unsqueeze(1) for each in states]
        elif packed and input.sorted_indices is not None:
            states = [None if each is None else each.index_select(1, input.sorted_indices) for each in states]
        return x, lengths, states

    def _initial(self, hx: Any, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor | None]:
        """Return each of the cell's states, checked; None if they are zero."""
        names = [f"{state}_0" for state in self._states]
        if hx is None:
            return [None] * len(names)
        if len(names) == 1:
            hx = (hx,)
        elif not isinstance(hx, tuple | list) or len(hx) != len(names):
            number = {2: "two", 3: "three", 4: "four"}.get(len(names), len(names))
            got = f"{len(hx)} of them" if isinstance(hx, tuple | list) else type(hx).__name__
            raise TypeError(f"hx: expected {number} tensors ({', '.join(names)}), got {got}")
        return [_check_shape(name, _check_kind(name, each, dtype), shape) for name, each in zip(names, hx, strict=True)]

    def _layers(
        self, x: Tensor, lengths: Tensor | None, states: list[Tensor | None], weights: list[list[Tensor]]
    ) -> tuple[Tensor, ...]:
        """Return (output (T, B, D·H), *last states) for time-major sequences."""
        D, name, steps = 1 + self.bidirectional, type(self).__name__, _steps(x, lengths)
        forward_mode = getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0  # autograd raises an error then
        run: Callable[..., tuple[Tensor, ...]]
        run = _Layer.apply if torch.is_grad_enabled() or forward_mode else _without_gradients
        ends = []
        for number, (directions, own) in enumerate(zip(self._directions(weights[0][0].dtype), weights, strict=True)):
            if number and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            first = states
            if self.num_layers > 1:
                first = [None if each is None else each[number * D : (number + 1) * D] for each in states]
            x, *last = run(_Pass(name, directions, steps), x, *first, *own)
            ends.append(last)
        if self.num_layers == 1:
            return x, *ends[0]
        return x, *(torch.cat(each) for each in zip(*ends, strict=True))

    def _directions(self, dtype: torch.dtype) -> list[list[_Direction]]:
        """Return each layer in each of its directions."""
        found = self._known.get(dtype)
        if found is None:
            H, D = self.hidden_size, 1 + self.bidirectional
            ways = [self._make(1, 1, reverse=bool(d), dtype=_FLOATS[dtype], seed=0) for d in range(D)]
            sizes = [self.input_size] + [D * H] * (self.num_layers - 1)
            parts = self._parts or {name: (name,) for name in ways[0].parameters()}
            known = {I: [_Direction(way.of_size(I, H), parts) for way in ways] for I in set(sizes)}
            found = self._known[dtype] = [known[I] for I in sizes]
        return found

    # -- a look inside ------------------------------------------------------------------------------------------------

    def stack(self) -> Stack:
        """Return the layers as layers of this package, with copies of the present weights.

        Returns
        -------
        lstm_numba.Stack
            ``stack.layers[l][d]`` is layer l in direction d (0 forward, 1 backward).
        """
        from lstm_numba.layers.stack import Stack

        dtype, layers = getattr(self, self._names[0][0]).dtype, []
        for directions, names in zip(self._directions(dtype), self._names, strict=True):
            task = _Pass(type(self).__name__, directions, Steps(1, 1, None))
            layers.append(task.layers([getattr(self, name) for name in names]))
        return Stack.of(layers)

    def trace(self, input: Tensor | PackedSequence | None = None, hx: Any = None) -> StackTrace:
        """Return every gate and state as NumPy arrays, from one forward pass with the present weights.

        Dropout is off in this pass, and gradients don't flow through it.

        Parameters
        ----------
        input, hx
            As in `forward`. Without an input, those of the last call of `forward` are used: the module keeps copies of
            them, which go neither into the state dict nor into copies and pickles.

        Returns
        -------
        lstm_numba.layers.stack.StackTrace
            ``trace.layers[l][d]`` is the `lstm_numba.Trace` of layer l in direction d (0 forward, 1 backward): ``.f``,
            ``.c`` and the rest, time-major (T, B, H) whatever `batch_first` is. For a single sequence B is 1; for a
            PackedSequence the sequences are in the caller's order, and zero after their ends.

        Raises
        ------
        ValueError
            Without an input if `forward` wasn't called before; and as in `forward`.
        TypeError
            As in `forward`.
        """
        from lstm_numba.layers.stack import StackTrace

        if input is None:
            if hx is not None:
                raise ValueError("input: expected one together with hx, got none")
            if self._seen is None:
                raise ValueError("input: expected one, as forward has seen none since the module was made or copied")
            input, hx = self._seen
        with torch.no_grad():
            _, x, lengths, states = self._checked(input, hx)
        back = input.unsorted_indices if isinstance(input, PackedSequence) else None
        if back is not None and lengths is not None:
            x, lengths = x.index_select(1, back), lengths[back]
            states = [None if each is None else each.index_select(1, back) for each in states]
        stack, values, steps = self.stack(), _array(x).copy(), _steps(x, lengths)
        first = [] if hx is None else [list(_array(each)) for each in states if each is not None]
        traces, h = stack.run(values, steps, first)  # forward would raise an error for NaN and infinity
        return StackTrace(stack, values, traces, h, steps)


class _NoStepsError(ValueError, RuntimeError):
    """A sequence has no steps: a ValueError like other wrong shapes here, and a RuntimeError as in PyTorch."""


def _check_kind(name: str, tensor: Any, dtype: torch.dtype) -> Tensor:
    """Return a tensor that the engine can compute with, or raise; within autocast, convert it."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise TypeError(f"{name}: expected a plain torch.Tensor that holds numbers, got {type(tensor).__name__}")
    if not tensor.is_cpu:
        raise ValueError(f"{name}: expected a tensor on the CPU, where lstm_numba computes; got device {tensor.device}")
    if tensor.dtype is dtype:
        return tensor
    if tensor.is_floating_point() and torch.is_autocast_enabled("cpu"):
        return tensor.to(dtype)
    raise TypeError(f"{name}: expected {dtype}, as the weights are, got {tensor.dtype}")


def _check_shape(name: str, tensor: Tensor, shape: tuple[int | str, ...]) -> Tensor:
    """Return the tensor if its shape is right: each axis a number, or a letter for any size."""
    have = tensor.shape
    sizes = zip(have, shape, strict=False)
    if len(have) != len(shape) or not all(isinstance(want, str) or n == want for n, want in sizes):
        raise ValueError(f"{name}: expected shape ({', '.join(map(str, shape))}), got {tuple(have)}")
    return tensor


def _steps(x: Tensor, lengths: Tensor | None) -> Steps:
    return Steps(x.shape[0], x.shape[1], None if lengths is None else lengths.numpy())


def _copied(given: Any) -> Any:
    """Return a copy of a call's argument: a tensor, a packed batch, states, or None."""
    if isinstance(given, PackedSequence):
        return PackedSequence(_copied(given.data), *given[1:])
    if isinstance(given, tuple | list):
        return tuple(map(_copied, given))
    return None if given is None else given.detach().clone()


def _gates(kind: str, gates: str) -> list[str]:
    """Return the names of a parameter's parts: ("U", "if") → ["U_i", "U_f"]."""
    return [f"{kind}_{gate}" for gate in gates]


class LSTM(RecurrentModule):
    """``torch.nn.LSTM``, computed by this engine on the CPU, with optional peepholes and with access to all gates.

    Parameters, shapes, names and initial values are those of ``torch.nn.LSTM``, and state dicts go both ways.
    weight_ih is U and weight_hh is W, their gates stacked i, f, g, o, where g is the cell's input (c here: i, f, o, c).
    b is the sum of bias_ih and bias_hh. V, which ``torch.nn.LSTM`` doesn't have, is called peephole, in the order
    i, f, o. The equations are those of `lstm_numba.layers.lstm`. Source of the interface: PyTorch's documentation
    (https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        As in `RecurrentModule`.
    proj_size
        Must be 0: the engine has no projections.
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
        As in `RecurrentModule`, and for a proj_size; the message names the argument.

    Examples
    --------
    >>> lstm = LSTM(2, 3, num_layers=2, bidirectional=True, peepholes=True)
    >>> output, (h_n, c_n) = lstm(torch.ones(5, 1, 2))
    >>> tuple(output.shape), tuple(h_n.shape)
    ((5, 1, 6), (4, 1, 3))
    >>> lstm.trace().layers[1][0].f.shape
    (5, 1, 3)
    """

    _parts = {  # noqa: RUF012
        "weight_ih": _gates("U", "ifco"), "weight_hh": _gates("W", "ifco"),
        "bias_ih": _gates("b", "ifco"), "bias_hh": _gates("b", "ifco"), "peephole": ["V"],
    }  # fmt: skip
    _usual = RecurrentModule._usual | {"peepholes": False}

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None, *, peepholes: bool = False,
    ) -> None:  # fmt: skip
        if proj_size != 0:
            raise ValueError(f"proj_size: expected 0, as the engine has no projections, got {proj_size!r}")
        self.proj_size = 0
        self.peepholes = _checks.flag("peepholes", peepholes)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def _make(self, input_size: int, hidden_size: int, **options: Any) -> recurrent.Recurrent:
        return lstm.LSTM(input_size, hidden_size, peepholes=self.peepholes, bias=self.bias, **options)


class GRU(RecurrentModule):
    """``torch.nn.GRU``, computed by this engine on the CPU, with access to its gates; arguments as `RecurrentModule`.

    Parameters, shapes, names and initial values are those of ``torch.nn.GRU``, and state dicts go both ways.
    weight_ih is U and weight_hh is W, their gates stacked r, z, n. For r and z, b is the sum of bias_ih and bias_hh;
    for n, bias_ih is b_n and bias_hh is bw_n. The equations are those of `lstm_numba.layers.gru`.

    Examples
    --------
    >>> gru = GRU(2, 3)
    >>> output, h_n = gru(torch.ones(5, 1, 2))
    >>> gru.trace().layers[0][0].z.shape
    (5, 1, 3)
    """

    _parts = {  # noqa: RUF012
        "weight_ih": _gates("U", "rzn"), "weight_hh": _gates("W", "rzn"),
        "bias_ih": _gates("b", "rzn"), "bias_hh": ["b_r", "b_z", "bw_n"],
    }  # fmt: skip

    def _make(self, input_size: int, hidden_size: int, **options: Any) -> recurrent.Recurrent:
        return gru.GRU(input_size, hidden_size, bias=self.bias, **options)


class RNN(RecurrentModule):
    """``torch.nn.RNN``, computed by this engine on the CPU, with access to all states.

    Parameters, shapes, names and initial values are those of ``torch.nn.RNN``, and state dicts go both ways.
    weight_ih is U, weight_hh is W, and b is the sum of bias_ih and bias_hh. The equation is that of
    `lstm_numba.layers.simple_rnn`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        As in `RecurrentModule`.
    nonlinearity
        "tanh" or "relu".

    Examples
    --------
    >>> rnn = RNN(2, 3, nonlinearity="relu")
    >>> output, h_n = rnn(torch.ones(5, 1, 2))
    >>> tuple(output.shape), tuple(h_n.shape)
    ((5, 1, 3), (1, 1, 3))
    """

    _parts = {"weight_ih": ["U"], "weight_hh": ["W"], "bias_ih": ["b"], "bias_hh": ["b"]}  # noqa: RUF012
    _usual = RecurrentModule._usual | {"nonlinearity": "tanh"}

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        self.nonlinearity = _checks.choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def _make(self, input_size: int, hidden_size: int, **options: Any) -> recurrent.Recurrent:
        return simple_rnn.SimpleRNN(input_size, hidden_size, nonlinearity=self.nonlinearity, bias=self.bias, **options)


class Recurrent(RecurrentModule):
    """Layers of any cell: your own equations in a PyTorch training loop, at this engine's speed.

    Parameters
    ----------
    cell
        A cell from `lstm_numba.cell`, or a function or text for it.
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        As in `RecurrentModule`.
    forget_bias, init
        As in `lstm_numba.Recurrent`, which draws the initial weights.
    **options
        The cell's own options.

    Attributes
    ----------
    U, W, b, bw, V, U_reverse, …, U_l1, U_l1_reverse, …
        Parameters, named and shaped as in `lstm_numba.Recurrent`: those that the cell has.

    Raises
    ------
    ValueError, TypeError
        As in `RecurrentModule` and `lstm_numba.Recurrent`; the message names the argument.

    Examples
    --------
    >>> net = Recurrent('''
    ... def leaky(a, h_prev, *, rate=0.1):
    ...     h = h_prev + rate * (tanh(a) - h_prev)
    ...     return h
    ... ''', 2, 3, rate=0.5)
    >>> output, h_n = net(torch.ones(5, 1, 2))
    >>> output.sum().backward()
    >>> tuple(net.U.grad.shape)
    (3, 2)
    """

    _lowest = ""

    def __init__(
        self, cell: Any, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None, *,
        forget_bias: float = 1.0, init: str = "glorot", **options: Any,
    ) -> None:  # fmt: skip
        self.cell: cells.Cell = cell if isinstance(cell, cells.Cell) else cells.cell(cell)
        self.options = self.cell.chosen(options)
        self.forget_bias, self.init = forget_bias, init
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def _make(self, input_size: int, hidden_size: int, **options: Any) -> recurrent.Recurrent:
        own: dict[str, Any] = {"bias": self.bias, "forget_bias": self.forget_bias, "init": self.init, **self.options}
        return recurrent.Recurrent(self.cell, input_size, hidden_size, **own, **options)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as `lstm_numba.Recurrent` does, from a seed that PyTorch draws."""
        parameters = iter(self.parameters())
        for directions in self._directions(next(self.parameters()).dtype):
            for way in (direction.layer for direction in directions):
                options = {"reverse": way.reverse, "dtype": way.dtype, "seed": int(torch.randint(1 << 31, ()))}
                for array in self._make(way.input_size, way.hidden_size, **options).parameters().values():
                    next(parameters).data.copy_(torch.from_numpy(array))

    def extra_repr(self) -> str:
        """Return the cell and the arguments that differ from the defaults."""
        chosen = [f"{name}={value}" for name, value in self.options.items() if value != self.cell.options[name]]
        return ", ".join([self.cell.name, super().extra_repr(), *chosen])
