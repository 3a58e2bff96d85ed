"""A stack of recurrent layers, each in one direction or both, with a softmax at every time step.

    zᵗ of the first layer is the input; above it, both directions' outputs below:
        merge="concat"   zᵗ = [h_Fᵗ, h_Bᵗ]           today's convention
        merge="sum"      zᵗ = h_Fᵗ + h_Bᵗ            the 2015 network: one U serves the sum
    pᵗ = softmax(S_F h_Fᵗ + S_B h_Bᵗ + b)            with S = [S_F, S_B], at every t
    L  = -(1/B) Σₙ Σₜ log pᵗ[yᵗ] + ½ Σ_l λ_l |θ_l|²

All steps enter the loss, as in the 2015 post, or only the last or the middle step. The softmax can be replaced by a
sigmoid for each output, or by nothing, each with its own loss (`lstm_numba.models.outputs`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from lstm_numba import _checks, _tables
from lstm_numba.engine import buffers, weights
from lstm_numba.layers.parameters import Parameters
from lstm_numba.layers.recurrent import KEEP, Steps, decay_of
from lstm_numba.layers.stack import (
    LAYERS_HEAD,
    MERGES,
    NamedGradients,
    Stack,
    arrays_by_layer,
    checked_directions,
    checked_sizes,
    layer_rows,
)
from lstm_numba.layers.streaming import Stream
from lstm_numba.models import losses
from lstm_numba.models.embedding import PAD, Embedding
from lstm_numba.models.outputs import OUTPUTS

# States of each layer and direction in the cell's order, each (B, H): ((h, c), (h, c)) for two LSTM layers.
NetworkState = tuple[tuple[NDArray, ...], ...]


class Dropped(NamedTuple):
    """The effect of dropout in one pass: a factor for each layer's input (None: no dropout), and the unknown words."""

    factors: list[NDArray | None]
    words: NDArray | None


class NetworkTrace:
    """Every array of one forward pass through a network.

    Attributes
    ----------
    x : (T, B, I)
        The input of the first layer.
    ids : (T, B) or None
        Word numbers, if the network has an embedding.
    layers
        ``layers[l][d]``: the `Trace` of layer l in direction d (0 forward, 1 backward).
    top : (T, B, D)
        The input of the softmax layer: [h_F, h_B] of the last layer.
    logits, log_probabilities, probabilities : (T, B, C)
        Sums before the softmax, log p and p.
    outputs : (T, B, C)
        The network's output: p of the softmax or the sigmoids, or the sums themselves with output="linear".
    lengths : (B,) or None
        Steps of each sequence.
    state
        Each layer's states after the last step, (h, c) of an LSTM: another pass can continue from there.
    """

    def __init__(self, network: Network, x: NDArray, ids: NDArray | None, steps: Steps, dropped: Dropped) -> None:
        self.network = network
        self.x = x
        self.ids = ids
        self.passes: list[list[Any]] = []  # traces of each layer in each direction
        self.top: NDArray
        self.logits: NDArray
        self._steps = steps
        self._dropped = dropped
        self._carried = False  # whether an initial state was given

    @property
    def layers(self) -> list[Any]:
        """Traces of each layer, one for each direction."""
        return self.passes

    @property
    def state(self) -> NetworkState:
        """Each layer's states after the last step."""
        names = [f"{state}_last" for state in self.network.stack.states]
        return tuple(tuple(getattr(own, name) for name in names) for pair in self.passes for own in pair)

    @property
    def lengths(self) -> NDArray | None:
        """Steps of each sequence (B,), or None where all have T."""
        return self._steps.given

    @cached_property
    def _scores(self) -> NDArray:
        """The values from which the loss is computed: log p of a softmax, else the sums."""
        return OUTPUTS[self.network.output].scores_of(self.logits)

    @property
    def log_probabilities(self) -> NDArray:
        """Log of the softmax at every step (T, B, C)."""
        if self.network.output != "softmax":
            raise AttributeError(f"log_probabilities: with output={self.network.output!r} there are outputs instead")
        return self._scores

    @property
    def probabilities(self) -> NDArray:
        """Softmax at every step (T, B, C)."""
        return np.exp(self.log_probabilities)

    @property
    def outputs(self) -> NDArray:
        """The network's output at every step (T, B, C)."""
        return OUTPUTS[self.network.output].outputs(self._scores)

    def __repr__(self) -> str:
        """Return sizes and names."""
        T, B = self.x.shape[:2]
        ids = ", ids" if self.ids is not None else ""
        softmax = ", log_probabilities, probabilities" if self.network.output == "softmax" else ""
        names = f"layers, x{ids}, top, logits{softmax}, outputs, state"
        return f"<NetworkTrace: {len(self.passes)} layers, T={T}, B={B}; {names}>"

    def _repr_html_(self) -> str:
        """Return a table for notebooks of all arrays, with shapes and ranges."""
        T, B = self.x.shape[:2]
        ids = {} if self.ids is None else {"ids": self.ids}
        outer = {name: getattr(self, name) for name in ("x", "top", "logits", "outputs")}
        return _tables.of_arrays(f"NetworkTrace: T={T}, B={B}", ids | outer | arrays_by_layer(self.passes))


class NetworkGradients(NamedGradients):
    """Derivatives of one backward pass through a network: by parameter name, and those inside the layers.

    Attributes
    ----------
    layers
        ``layers[l][d]``: the `Gradients` of layer l in direction d, with every δ and ε.
    x : (T, B, I)
        ∂L/∂xᵗ of the first layer's input.
    """


class NetworkStream:
    """A network that takes one step at a time: ``stream(x)`` returns log p (B, C) and keeps the state.

    It has the weights of the moment at which it begins.

    x is xᵗ (B, I), or whole numbers (B,) with an embedding. With another output than a softmax it returns the sums
    S hᵗ + b. See `lstm_numba.layers.streaming.Stream`.
    """

    def __init__(self, network: Network, stream: Stream) -> None:
        self._network, self._stream = copy.deepcopy(network), stream

    def __call__(self, x: ArrayLike) -> NDArray:
        """Take a step; raise as `Network.forward` does, and leave the state as it was."""
        network = self._network
        if network.embedding is not None:
            x = network._embedded(network._check_ids(np.asarray(x)[None], network.embedding))[0]
        logits = network._logits(self._stream(x)[None])
        return OUTPUTS[network.output].scores_of(logits)[0]

    @property
    def state(self) -> NetworkState:
        """Each layer's states now, as `Network.forward` takes them."""
        return self._stream.state


class Network:
    """A stack of recurrent layers with a softmax at every step; the equations are at the top of this module.

    Parameters
    ----------
    input_size
        I of the first layer; None with an `embedding`, which has its own size.
    n_classes
        C, the number of classes, or of outputs if `output` isn't "softmax".
    hidden_sizes
        Units of each layer, for each direction.
    bidirectional
        Whether each layer runs in both directions: one answer for all, or one for each layer.
    merge
        "concat" or "sum": how directions are joined between layers.
    cell
        A name of `lstm_numba.cells.CELLS`, such as "lstm", "rnn" or "gru", a cell from `lstm_numba.cell`, or the text
        of a cell.
    embedding
        Turns word numbers into the input; its learned rows are the parameter "embedding.E".
    output
        The kind of output, and with it the loss: "softmax" for one of C classes; "sigmoid" for C separate
        probabilities; "linear" for C numbers, with half the squared error (`lstm_numba.models.outputs`).
    output_bias
        Whether the softmax layer has a bias.
    dropout
        Share of the input of every layer but the first (and of the softmax layer) that is set to 0 in training; the
        rest is multiplied by 1 / (1 - dropout). Source: N. Srivastava et al., *Dropout* (JMLR 15, 2014).
    input_dropout
        The same for the first layer's input.
    word_dropout
        Share of words that get the learned embedding of the unknown word in training.
    weight_decay
        λ for every layer's U, W, V and for S; or one λ for each layer, followed by that of the softmax layer.
    loss
        Which steps count: "all", "last" or "middle".
    init
        Scheme of the layers' initial weights; "uniform" also draws S uniformly in ±0.12.
    dtype, seed
        As in `lstm_numba.LSTM`.
    **layer_options
        Further options of every layer: the cell's own, bias, forget_bias.

    Attributes
    ----------
    cell
        The cell's name, or its text if it doesn't belong to the package.
    stack : Stack
        The recurrent layers alone, as views of the same weights.
    layers
        ``layers[l][d]``: layer l in direction d (0 forward, 1 backward).

    Raises
    ------
    ValueError, TypeError
        For sizes below 1, unknown options, shares outside [0, 1); the message names the argument.
    """

    reads = "words"  # the meaning of the numbers that an embedding takes
    _trace: type[NetworkTrace] = NetworkTrace

    def __init__(
        self,
        input_size: int | None,
        n_classes: int,
        hidden_sizes: Sequence[int] = (128,),
        *,
        bidirectional: bool | Sequence[bool] = True,
        merge: str = "concat",
        cell: Any = "lstm",
        embedding: Embedding | None = None,
        output: str = "softmax",
        output_bias: bool = True,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        word_dropout: float = 0.0,
        weight_decay: float | Sequence[float] = 0.0,
        loss: str = "all",
        init: str = "glorot",
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
        **layer_options: Any,
    ) -> None:
        if "hidden_size" in layer_options:
            size = layer_options["hidden_size"]
            raise TypeError(f"hidden_size: expected hidden_sizes=({size},), one size for each layer")
        self.embedding = embedding
        self.input_size = embedding.output_size if embedding else _checks.size("input_size", input_size)
        self.n_classes = _checks.size("n_classes", n_classes)
        self.hidden_sizes = checked_sizes(hidden_sizes)
        n_layers = len(self.hidden_sizes)
        self.bidirectional = checked_directions(bidirectional, n_layers)
        self.merge = _checks.choice("merge", merge, MERGES)
        self.output = _checks.choice("output", output, OUTPUTS)
        self.output_bias = _checks.flag("output_bias", output_bias)
        self.dropout = _checks.number("dropout", dropout, 0, 1)
        self.input_dropout = _checks.number("input_dropout", input_dropout, 0, 1)
        self.word_dropout = _checks.number("word_dropout", word_dropout, 0, 1)
        several = _checks.several(weight_decay)
        decay = list(weight_decay) if several else [weight_decay] * (n_layers + 1)  # type: ignore[arg-type]
        self.weight_decay = tuple(_checks.number("weight_decay", each, 0) for each in decay)
        if len(self.weight_decay) != n_layers + 1:
            raise ValueError(
                f"weight_decay: expected a number, or {n_layers + 1} (layers' and softmax's), got {weight_decay!r}"
            )
        self.loss_steps = _checks.choice("loss", loss, ("all", "last", "middle"))
        self.init = init
        self.dtype = _checks.float_dtype(dtype)
        self.layer_options = layer_options
        self._build(cell, _checks.generator(seed))

    def _build(self, cell: Any, rng: np.random.Generator) -> None:
        names = ("bidirectional", "merge", "init", "dtype")
        options = {name: getattr(self, name) for name in names} | self.layer_options
        self.stack = Stack(self.input_size, self.hidden_sizes, cell=cell, **options, seed=rng)
        self.cell = self.stack.cell
        shapes: dict[str, tuple[int, ...]] = {}
        if self.embedding and self.embedding.size:
            shapes["embedding.E"] = (self.embedding.n_learned, self.embedding.size)
        own = self.stack.parameters()
        start = sum(math.prod(shape) for shape in shapes.values())
        self._of_layers = slice(start, start + own.flat.size)  # in the flat array of all parameters
        shapes |= {self.name_of(name): shape for name, shape in own.shapes.items()}
        top = self.stack.output_size
        shapes["output.S"] = (self.n_classes, top)
        if self.output_bias:
            shapes["output.b"] = (self.n_classes,)
        gates = {self.name_of(name): each for name, each in own.gates.items()}
        self._parameters = Parameters(shapes, self.dtype, gates=gates)
        self.stack.move_to(self._parameters.flat[self._of_layers])
        limit = 0.12 if self.init == "uniform" else np.sqrt(6 / (self.n_classes + top))
        self._parameters["output.S"] = rng.uniform(-limit, limit, (self.n_classes, top))
        if "embedding.E" in shapes:
            self._parameters["embedding.E"] = rng.normal(0, 0.1, shapes["embedding.E"])
            self._parameters["embedding.E"][0] = 0  # padding

    @property
    def layers(self) -> list[Any]:
        """The layers: for each a list with one layer per direction."""
        return self.stack.layers

    @property
    def drops(self) -> bool:
        """Whether training draws random numbers for dropout."""
        return bool(self.dropout or self.input_dropout or self.word_dropout)

    def each_layer(self) -> Iterator[tuple[int, str, Any]]:
        """Iterate over (number, direction, layer)."""
        return self.stack.each_layer()

    def name_of(self, name: str) -> str:
        """Return the network's name for a layer or a parameter of its stack."""
        return name

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a copy or a pickle, where the layers' parameters have become separate arrays."""
        self.__dict__.update(state)
        self.stack.move_to(self._parameters.flat[self._of_layers])

    # -- parameters ---------------------------------------------------------------------------------------------------

    def parameters(self) -> Parameters:
        """Return all parameters by dotted name ("layers.0.forward.W", "output.S", "embedding.E"), as views."""
        return self._parameters

    def __getitem__(self, name: str) -> NDArray:
        """Return a parameter, or one gate's part of it, as a view."""
        return self._parameters[name]

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        """Write values into a parameter; the shape must be the same."""
        self._parameters[name] = value

    def __repr__(self) -> str:
        """Return sizes, directions, cell and dtype."""
        names = ("input_size", "hidden_sizes", "n_classes", "bidirectional", "merge")
        sizes = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        cell = self.stack.layers[0][0].cell.name
        return f"<{type(self).__name__}: {sizes}, cell {cell}; {self._parameters.flat.size:,} numbers, {self.dtype}>"

    def _repr_html_(self) -> str:
        """Return cell, sizes and parameters of each layer as a table for notebooks."""
        others = [
            (name, "", "", "", " × ".join(map(str, array.shape)), f"{array.size:,}")
            for name, array in self._parameters.items()
            if not name.startswith("layers.")
        ]
        return _tables.table(repr(self)[1:-1], LAYERS_HEAD, [*layer_rows(self.stack), *others])

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, without seed and embedding, in a form that JSON can hold."""
        names = ["n_classes", "merge", "cell", "output_bias", "dropout", "input_dropout", "word_dropout", "init"]
        return {
            "input_size": self.input_size,
            "hidden_sizes": list(self.hidden_sizes),
            "bidirectional": list(self.bidirectional),
            "weight_decay": list(self.weight_decay),
            "loss": self.loss_steps,
            "dtype": self.dtype.name,
            **({"output": self.output} if self.output != "softmax" else {}),  # older files don't name the softmax
            **{name: getattr(self, name) for name in names},
            **{name: value for name, value in self.stack.layers[0][0].config().items() if name in self.layer_options},
        }

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a network with the same weights, held as `dtype`."""
        first = self.stack.layers[0][0]
        # The text alone would lose a backward step written by hand.
        cell = first.cell if self.stack.cell == first.cell.text else self.stack.cell
        other = self._remade(cell=cell, dtype=dtype)
        other._parameters.flat[:] = self._parameters.flat
        return other

    def _remade(self, **changes: Any) -> Self:
        """Return a network of the same form with some arguments changed, and with other weights."""
        return type(self)(**(self.config() | changes), embedding=self.embedding, seed=0)

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        rng: np.random.Generator | None = None,
        *,
        state: NetworkState | None = None,
        keep: str = "all",
    ) -> NetworkTrace:
        """Run the network over a batch of sequences and keep every array, or those that are asked for.

        Parameters
        ----------
        x : (T, B, I), or (T, B) whole numbers with an embedding
            Input, time first.
        lengths : (B,), optional
            Steps of each sequence.
        rng
            Generator for dropout in training. Without it nothing is dropped.
        state
            Each layer's initial states, such as the `state` of an earlier trace; zero by default.
        keep
            As in `lstm_numba.Recurrent.forward`, for every layer. In training it is "backward" at most.

        Returns
        -------
        NetworkTrace

        Raises
        ------
        TypeError, ValueError
            As in `lstm_numba.Recurrent.forward`; also for word numbers outside the embedding, or states of a wrong
            shape.
        """
        keep = _checks.choice("keep", keep, KEEP)
        if self.embedding is None:
            values, steps, borrowed = self.stack.layers[0][0].take_input(x, lengths)
            values = values.copy() if borrowed else values
            trace = self._forward(values, None, steps, rng, self._entering(state, steps.B), keep)
            trace.passes[0][0].check_finite()
            return trace
        ids = self._check_ids(x, self.embedding)
        T, B = ids.shape
        steps = Steps(T, B, None if lengths is None else _checks.lengths(lengths, T, B))
        return self._forward(None, ids, steps, rng, self._entering(state, B), keep)

    def stream(self, state: NetworkState | None = None, *, B: int = 1) -> NetworkStream:
        """Begin to take one step at a time.

        Parameters
        ----------
        state
            Each layer's initial states, such as the `state` of a trace; zero by default.
        B
            Number of sequences.

        Raises
        ------
        ValueError
            For states of a wrong shape, or if a layer reads backward in time.
        """
        B = _checks.size("B", B)
        initial = self._entering(state, B) or [[None] * len(self.stack.state_sizes)] * len(self.stack.states)
        layers = [layer for _, _, layer in self.each_layer()]
        return NetworkStream(self, Stream(layers, B, list(zip(*initial, strict=True))))

    def _check_ids(self, x: ArrayLike, embedding: Embedding) -> NDArray:
        ids = _checks.array_of("x", x)
        if ids.dtype.kind not in "iu":
            raise TypeError(f"x: expected whole numbers of {self.reads}, got dtype {ids.dtype}")
        if ids.ndim != 2 or 0 in ids.shape:
            raise ValueError(f"x: expected {self.reads} of shape (T, B) with no empty axis, got {ids.shape}")
        if ids.min() < 0 or ids.max() >= embedding.n_words:
            raise ValueError(f"x: expected numbers 0 to {embedding.n_words - 1}, got {ids.min()} to {ids.max()}")
        return ids

    def _entering(self, state: NetworkState | None, B: int) -> list[Any]:
        """Return initial states in the stack's form, by state and layer; empty for zeros."""
        if state is None:
            return []
        names, layers = self.stack.states, [layer for _, _, layer in self.each_layer()]
        if len(state) != len(layers) or any(len(own) != len(names) for own in state):
            got = len(state) if len(state) != len(layers) else [len(own) for own in state]
            raise ValueError(f"state: expected ({', '.join(names)}) of {len(layers)} layers, got {got}")
        return [
            [layer.check_state(f"{name}0", own[k], B) for layer, own in zip(layers, state, strict=True)]
            for k, name in enumerate(names)
        ]

    def _forward(
        self,
        x: NDArray | None,
        ids: NDArray | None,
        steps: Steps,
        rng: np.random.Generator | None,
        initial: list[Any],
        keep: str,
    ) -> NetworkTrace:
        words = None
        if ids is not None:
            assert self.embedding is not None
            if rng is not None and self.word_dropout:
                words = (rng.random(ids.shape) < self.word_dropout) & (ids != PAD)
            x = steps.without_padding(self._embedded(ids, words))
        assert x is not None
        trace = self._trace(self, x, ids, steps, Dropped([], words))
        trace._carried = bool(initial)
        training = rng is not None

        def entering(number: int, z: NDArray) -> NDArray:
            return self._drop(z, self.dropout if number else self.input_dropout, rng, trace._dropped)

        # In training, skip the product of W and a state of zeros, and arrays that the backward pass doesn't need.
        from_zero = training and not initial
        keep = "backward" if training and keep == "all" else keep
        trace.passes, z = self.stack.run(x, steps, initial, entering=entering, from_zero=from_zero, keep=keep)
        trace.top = np.ascontiguousarray(self._drop(z, self.dropout, rng, trace._dropped))
        trace.logits = self._logits(trace.top)
        return trace

    def _embedded(self, ids: NDArray, words: NDArray | None = None) -> NDArray:
        """Return the words' vectors, without those that are dropped."""
        assert self.embedding is not None
        E = self._parameters["embedding.E"] if self.embedding.size else None
        return self.embedding.forward(ids, E, words).astype(self.dtype, copy=False)

    def _drop(self, z: NDArray, share: float, rng: np.random.Generator | None, dropped: Dropped) -> NDArray:
        """Set a share of z to 0, scale the rest up, and note the factors; without rng return z."""
        if rng is None or share == 0:
            dropped.factors.append(None)
            return z
        kept = rng.random(z.shape, np.float32) >= share
        factor = np.where(kept, z.dtype.type(1 / (1 - share)), z.dtype.type(0))
        dropped.factors.append(factor)
        return z * factor

    def _logits(self, top: NDArray) -> NDArray:
        """S h + b for all steps (T, B, C)."""
        T, B, D = top.shape
        logits = buffers.empty((T * B, self.n_classes), self.dtype)
        weights.linear(top.reshape(T * B, D), self._parameters["output.S"], self._bias(self._parameters), logits)
        return logits.reshape(T, B, self.n_classes)

    def _bias(self, parameters: Parameters) -> NDArray:
        """Return the softmax layer's bias, or its gradient; empty if there is none."""
        return parameters["output.b"] if self.output_bias else np.empty(0, self.dtype)

    # -- loss and backward --------------------------------------------------------------------------------------------

    def _check_labels(self, trace: NetworkTrace, y: ArrayLike) -> NDArray:
        """Return labels as int64, with -1 where they don't enter the loss, or numbers with NaN there; or raise."""
        if not isinstance(trace, NetworkTrace):
            raise TypeError(f"trace: expected the result of Network.forward, got {type(trace).__name__}")
        if trace.network is not self:
            raise ValueError("trace: expected a trace of this network, got one from a different network")
        padding = None if trace.lengths is None else trace._steps.padding()
        y = OUTPUTS[self.output].checked(y, trace.logits, padding)
        return losses.choose_steps(y, trace.lengths, self.loss_steps)

    def loss(self, trace: NetworkTrace, y: ArrayLike) -> float:
        """L = -(1/B) Σₙ Σₜ log pᵗ[yᵗ] + ½ Σ_l λ_l |θ_l|².

        Parameters
        ----------
        trace
            The trace that `forward` returned.
        y : (T, B) whole numbers, or (T, B, C)
            Classes; -1, and labels after a sequence's end, don't count. Without a softmax: numbers; NaN doesn't count.
        """
        return self._data_loss(trace, self._check_labels(trace, y)) + self.penalty()

    def _data_loss(self, trace: NetworkTrace, y: NDArray) -> float:
        """Return L without weight decay, for labels that `_check_labels` returned."""
        return OUTPUTS[self.output].loss(trace._scores, y) / self._divisor(y)

    def _divisor(self, y: NDArray) -> int:
        """Return the divisor of the sum over all labels: B."""
        return y.shape[1]

    def penalty(self) -> float:
        """½ Σ_l λ_l |θ_l|² over U, W, V of each layer and S."""
        decayed = [(self._decay_of(name), array.reshape(-1)) for name, array in self._parameters.items()]
        return 0.5 * sum(decay * float(np.dot(part, part)) for decay, part in decayed if decay)

    def _decay_of(self, name: str) -> float:
        """Return λ of a parameter, from its layer or the softmax layer; 0 for a bias and the embedding."""
        kind, _, last = name.rpartition(".")
        if last not in ("U", "W", "V", "S"):
            return 0.0
        return self.weight_decay[int(kind.split(".")[1]) if kind.startswith("layers") else -1]

    def backward(self, trace: NetworkTrace, y: ArrayLike) -> NetworkGradients:
        """Return the derivatives of `loss` with respect to parameters, input, and everything inside the layers.

        Parameters
        ----------
        trace, y
            As in `loss`; the weights must not have changed since.

        Raises
        ------
        TypeError, ValueError
            If `trace` is no trace or comes from another network, or if labels aren't classes or have a wrong shape.
        """
        return self._backward(trace, self._check_labels(trace, y), self._parameters.zeros_like())

    def _backward(
        self, trace: NetworkTrace, y: NDArray, parameters: Parameters, training: bool = False
    ) -> NetworkGradients:
        seed = OUTPUTS[self.output].residual(trace._scores, y) / self.dtype.type(self._divisor(y))
        return self._through(trace, seed, parameters, squared=False, training=training)

    def second_derivatives(self, trace: NetworkTrace, y: ArrayLike, start: str = "residual") -> NetworkGradients:
        """Return the diagonal approximation of ∂²L/∂θ², by which the 2015 rule divides its learning rate.

        This is the backward pass with every factor squared (`lstm_numba.Recurrent.second_derivatives`), averaged over
        the batch, plus λ.

        Parameters
        ----------
        trace, y
            As in `loss`.
        start
            The value at the output: "residual" for (p - y)², as in the 2015 program; "diagonal" for p (1 - p), the
            diagonal of the softmax's own second derivative (1 with output="linear"). With "diagonal" the result is
            the diagonal of the Gauss-Newton matrix wherever only one path leads from a weight to one output.
        """
        start = _checks.choice("start", start, ("residual", "diagonal"))
        return self._second_derivatives(trace, self._check_labels(trace, y), self._parameters.zeros_like(), start)

    def _second_derivatives(
        self,
        trace: NetworkTrace,
        y: NDArray,
        parameters: Parameters,
        start: str = "residual",
        training: bool = False,
    ) -> NetworkGradients:
        output = OUTPUTS[self.output]
        if start == "residual":
            seed = np.square(output.residual(trace._scores, y))
        else:
            seed = output.slope(trace._scores, y)
        seed /= self.dtype.type(self._divisor(y))
        return self._through(trace, seed, parameters, squared=True, training=training)

    def _through(
        self, trace: NetworkTrace, seed: NDArray, parameters: Parameters, squared: bool, training: bool
    ) -> NetworkGradients:
        """Carry the derivatives of the logits back to every parameter; with `squared`, second derivatives.

        In training, derivatives of the input (unless an embedding needs them) and of zero initial states are skipped.
        """
        learned = self.embedding is not None and self.embedding.size > 0
        gradients = NetworkGradients(parameters)
        factors = [None if each is None or not squared else np.square(each) for each in trace._dropped.factors]
        factors = factors if squared else trace._dropped.factors

        def leaving(number: int, dz: NDArray) -> NDArray:
            factor = factors[number]
            return dz if factor is None or not dz.size else dz * factor

        gradients.layers, gradients.x = self.stack.run_back(
            trace.passes,
            leaving(-1, self._output_backward(trace.top, seed, parameters, squared)),
            self.stack.parameters().moved_to(parameters.flat[self._of_layers]),
            leaving=leaving,
            squared=squared,
            x_squared=(lambda number: self._input_squared(trace, number, factors[number])) if squared else None,
            need_dx=learned or not training,
            from_zero=training and not trace._carried,
            weight_decay=self.weight_decay,
        )
        if learned and self.embedding is not None and trace.ids is not None:
            parameters["embedding.E"][...] = 0
            self.embedding.backward(gradients.x, trace.ids, trace._dropped.words, parameters["embedding.E"])
        return gradients

    def _input_squared(self, trace: NetworkTrace, number: int, factor: NDArray | None) -> NDArray | None:
        """Return the replacement of z² for a layer: with summed directions h_F² + h_B², as in the 2015 program."""
        if number == 0 or self.merge != "sum" or len(self.stack.layers[number - 1]) == 1:
            return None
        total = sum(np.square(each.h) for each in trace.passes[number - 1])
        return total if factor is None else total * factor

    def _output_backward(self, top: NDArray, seed: NDArray, parameters: Parameters, squared: bool) -> NDArray:
        """Write the gradients of S and b; return the gradient of the softmax layer's input."""
        T, B, D = top.shape
        C, N = self.n_classes, T * B
        decayed = S = self._parameters["output.S"]
        if squared:
            S, top = np.square(S), np.square(top)
        dz = buffers.empty((N, D), self.dtype)
        weights.linear_backward(
            seed.reshape(N, C), top.reshape(N, D), S, decayed, *decay_of(self.dtype, self.weight_decay[-1], squared),
            dz, parameters["output.S"], self._bias(parameters),
        )  # fmt: skip
        return dz.reshape(T, B, D)
