"""The engine and what it is compared with, with the same weights: PyTorch, torchrecurrent, JAX and ONNX Runtime.

Each class takes a layer of ours, its input x and ∂L/∂h. It is a call to time; `results` says what the call computed,
under our names, so that agreement comes before speed. ``needs`` names the libraries of a peer (`missing`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

import lstm_numba as ln

Results = dict[str, NDArray]
# The class of torch.nn, and those of torchrecurrent with the order of their gates.
TORCH_NAMES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
TORCHRECURRENT_NAMES = {
    "mgu": ("MGU", "fn"),
    "janet": ("JANET", "fc"),
    "ugrnn": ("UGRNN", "nz"),
    "indrnn": ("IndRNN", "h"),
}


def library(name: str) -> Any:
    """Return a library, or None where it isn't installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def torch() -> Any:
    """PyTorch, or None."""
    return library("torch")


class Call:
    """A call to time, whose results can be asked for."""

    needs: ClassVar[tuple[str, ...]] = ()
    peepholes: ClassVar[bool] = True  # whether it can have them

    def __init__(self, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> None:
        raise NotImplementedError

    def __call__(self) -> Any:
        """Compute everything."""
        raise NotImplementedError

    def results(self) -> Results:
        """Compute everything and return it under our names."""
        raise NotImplementedError


def missing(peers: Iterable[type[Call]]) -> list[str]:
    """Return the libraries that these peers need and that are not installed."""
    return [name for name in dict.fromkeys(name for peer in peers for name in peer.needs) if library(name) is None]


def set_threads(threads: int) -> None:
    """Let the engine and torch use so many threads; JAX reads the environment, ONNX Runtime is told each time."""
    ln.set_num_threads(threads)
    if torch():
        torch().set_num_threads(threads)
    if jax := library("jax"):
        jax.config.update("jax_cpu_enable_async_dispatch", False)  # faster for small shapes, no slower for large ones


def disagreement(ours: Results, theirs: Results) -> float:
    """Largest difference of any array that both have, relative to that array's largest number."""
    common = ours.keys() & theirs.keys()
    return max(float(np.abs(ours[k] - theirs[k]).max() / np.abs(ours[k]).max()) for k in common)


# Ours


class Engine(Call):
    """Forward and backward of one of our layers, with every gate, state and gradient."""

    def __init__(self, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> None:
        self.layer, self.x, self.dh = layer, x, dh

    def __call__(self) -> Any:
        return self.layer.backward(self.layer.forward(self.x), self.dh)

    def results(self) -> Results:
        gradients = self()
        return EngineForward.results(self) | {"x": gradients.x} | {n: gradients[n] for n in self.layer.parameters()}


class EngineForward(Engine):
    """Forward alone, with every gate and state."""

    def __call__(self) -> Any:
        return self.layer.forward(self.x)

    def results(self) -> Results:
        trace = self.layer.forward(self.x)
        return {name: getattr(trace, name) for name in ("h", "c", "i", "f", "o", "g") if hasattr(trace, name)}


class EngineOutputs(Engine):
    """Forward with the outputs alone; as in ONNX Runtime, the weights don't change any more."""

    def __init__(self, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> None:
        super().__init__(layer.frozen(), x, dh)

    def __call__(self) -> Any:
        return self.layer.forward(self.x, keep="outputs")

    def results(self) -> Results:
        return {"h": self().h}


# PyTorch


class TorchModule(Call):
    """``torch.nn.LSTM``, ``GRU`` or ``RNN``: forward, and backward to every parameter and the input."""

    needs = ("torch",)
    peepholes = False

    def __init__(self, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> None:
        self.module = self.kind(layer)
        self.x, self.dh = torch().tensor(x, requires_grad=True), torch().tensor(dh)

    def kind(self, layer: ln.Recurrent) -> Any:
        """Return the module with the layer's weights, without its peepholes."""
        return self.filled(torch().nn, layer)

    def filled(self, library: Any, layer: ln.Recurrent, **options: bool) -> Any:
        """Return the module of this library, with the layer's weights as far as it has them."""
        dtype = getattr(torch(), layer.dtype.name)
        make = getattr(library, TORCH_NAMES[layer.cell.name])
        module = make(layer.input_size, layer.hidden_size, dtype=dtype, **options)
        weights = {name: torch().tensor(array) for name, array in ln.torch_state_dict(layer).items()}
        module.load_state_dict({name: weights[name] for name in module.state_dict()})
        return module

    def __call__(self) -> Any:
        self.module.zero_grad()
        self.x.grad = None
        h = self.module(self.x)[0]
        h.backward(self.dh)
        return h

    def results(self) -> Results:
        h = self().detach().numpy()
        gradients = ln.from_torch(
            {name: parameter.grad for name, parameter in self.module.named_parameters()},
            nonlinearity=getattr(self.module, "nonlinearity", None),
        )
        found = {name: array for name, array in gradients.parameters().items() if name in "UWV"}
        return {"h": h, "x": self.x.grad.numpy()} | found


class OurModule(TorchModule):
    """``lstm_numba.torch.LSTM``, a module of torch that computes with the engine; here with peepholes."""

    peepholes = True

    def kind(self, layer: ln.Recurrent) -> Any:
        return self.filled(ln.torch, layer, peepholes=True)


class TorchForward(TorchModule):
    """Forward alone, without gradients."""

    def __call__(self) -> Any:
        with torch().no_grad():
            return self.module(self.x)[0]

    def results(self) -> Results:
        return {"h": self().numpy()}


class TorchTraining(TorchModule):
    """A step of a training loop as one writes it in torch: forward, mean square of the output, backward, update."""

    def __init__(self, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> None:
        super().__init__(layer, x, dh)
        self.x = torch().tensor(x)
        self.optimizer = torch().optim.SGD(self.module.parameters(), 0.01, 0.9)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        loss = self.module(self.x)[0].square().mean()
        loss.backward()
        self.optimizer.step()

    def results(self) -> Results:
        for _ in range(3):
            self()
        return {name: p.detach().numpy().copy() for name, p in self.module.named_parameters()}


class OurTraining(TorchTraining):
    """The same step with ``lstm_numba.torch.LSTM`` in the place of ``torch.nn.LSTM``."""

    def kind(self, layer: ln.Recurrent) -> Any:
        return self.filled(ln.torch, layer)


class TorchLoop(Call):
    """A peephole LSTM as one writes it in torch: one time step after the other, differentiated by autograd.

    Written with some care: U xᵗ + b is one product for all t, W hᵗ⁻¹ one product a step for all gates, and the input
    and forget gates, which see the same cell, are one operation.
    """

    needs = ("torch",)

    def __init__(self, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> None:
        self.H = layer.hidden_size
        self.leaves = {
            name: torch().tensor(np.asarray(layer[name]), requires_grad=True) for name in ("U", "W", "V", "b")
        }
        self.leaves["x"] = torch().tensor(x, requires_grad=True)
        self.dh = torch().tensor(dh)

    def __call__(self) -> Any:
        library, H = torch(), self.H
        for leaf in self.leaves.values():
            leaf.grad = None
        x, V = self.leaves["x"], self.leaves["V"]
        U, W, b = (self.leaves[name].flatten(0, 1) for name in ("U", "W", "b"))
        V_if, V_o = V[:2], V[2]
        rows = library.nn.functional.linear(x, U, b).unbind(0)  # (B, 4H) each
        W_T = W.t()
        h = c = x.new_zeros(x.shape[1], H)
        outputs = []
        for row in rows:
            a_i_f, a_o, a_c = library.addmm(row, h, W_T).split((2 * H, H, H), 1)
            i, f = library.sigmoid(library.addcmul(a_i_f.unflatten(1, (2, H)), V_if, c.unsqueeze(1))).unbind(1)
            c = library.addcmul(f * c, i, library.tanh(a_c))
            h = library.sigmoid(library.addcmul(a_o, V_o, c)) * library.tanh(c)
            outputs.append(h)
        output = library.stack(outputs)
        output.backward(self.dh)
        return output

    def results(self) -> Results:
        return {"h": self().detach().numpy()} | {name: leaf.grad.numpy() for name, leaf in self.leaves.items()}


class TorchRecurrent(TorchModule):
    """A layer of torchrecurrent, which runs its cell step by step under autograd."""

    needs = ("torch", "torchrecurrent")

    def kind(self, layer: ln.Recurrent) -> Any:
        name, gates = TORCHRECURRENT_NAMES[layer.cell.name]
        options = {"nonlinearity": torch().relu} if name == "IndRNN" else {}
        dtype = getattr(torch(), layer.dtype.name)
        module = getattr(library("torchrecurrent"), name)(layer.input_size, layer.hidden_size, dtype=dtype, **options)
        ours = {"weight_ih": "U", "weight_hh": "W", "vector_u": "V", "bias_ih": "b"}
        with torch().no_grad():
            for parameter, array in module.cells[0].named_parameters():
                if parameter in ours:
                    rows = np.concatenate([layer[f"{ours[parameter]}_{gate}"] for gate in gates])
                    getattr(module.cells[0], parameter).copy_(torch().tensor(rows))
                elif parameter == "bias_hh":
                    array.zero_()
        return module

    def results(self) -> Results:
        return {"h": self().detach().numpy(), "x": self.x.grad.numpy()}


class TorchCell(Call):
    """The layer of torch.nn with our layer's cell, or that of torchrecurrent."""

    needs = ("torch", "torchrecurrent")

    def __new__(cls, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> Any:
        """Return the one that has the cell."""
        return (TorchModule if layer.cell.name in TORCH_NAMES else TorchRecurrent)(layer, x, dh)


class TorchStep:
    """A training step of the 2015 network's size: bidirectional LSTM, softmax, loss, backward, SGD with momentum."""

    def __init__(self, T: int, B: int, I: int, H: int, C: int) -> None:
        library = torch()
        library.manual_seed(0)
        self.lstm = library.nn.LSTM(I, H, bidirectional=True, bias=False)
        self.softmax = library.nn.Linear(2 * H, C, bias=False)
        parameters = [*self.lstm.parameters(), *self.softmax.parameters()]
        self.optimizer = library.optim.SGD(parameters, 0.01, 0.9, weight_decay=1e-8)
        self.x, self.y = library.randn(T, B, I) / I**0.5, library.randint(0, C, (T * B,))

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        logits = self.softmax(self.lstm(self.x)[0]).flatten(0, 1)
        loss = torch().nn.functional.cross_entropy(logits, self.y, reduction="sum") / self.x.shape[1]
        loss.backward()
        self.optimizer.step()


class TorchSensitivity:
    """‖∂hᵗ/∂xˢ‖ for all s by torch's autograd, for one t after the other, through ``torch.nn.LSTM``.

    Parameters
    ----------
    layer
        Ours, without peepholes.
    x : (T, I)
        Input.
    copies
        False: H backward passes for each t, one from each unit. True: one backward pass for each t through a batch
        of H copies of the input, unit j of copy j being the one that is differentiated.
    """

    def __init__(self, layer: ln.Recurrent, x: NDArray, copies: bool) -> None:
        self.copies, self.H = copies, layer.hidden_size
        batch = np.repeat(x[:, None].astype(layer.dtype), self.H if copies else 1, axis=1)
        module = TorchModule(layer, batch, np.zeros((*batch.shape[:2], self.H), layer.dtype))
        self.x = module.x
        self.h = module.module(self.x)[0]
        self.eye = torch().eye(self.H, dtype=self.x.dtype)

    def seed(self, t: int, j: int = 0) -> Any:
        """∂h_jᵗ/∂xˢ for all s: (T, I). With copies, for all j at once: (T, H, I)."""
        seed = self.eye if self.copies else self.eye[j : j + 1]
        return torch().autograd.grad(self.h[t], self.x, seed, retain_graph=True)[0]

    def column(self, t: int) -> NDArray:
        """‖∂hᵗ/∂xˢ‖ for all s: (T,)."""
        if self.copies:
            return np.sqrt((self.seed(t) ** 2).sum((1, 2)).numpy())
        return np.sqrt(sum((self.seed(t, j) ** 2).sum((1, 2)) for j in range(self.H)).numpy())


# JAX


class JaxScan(Call):
    """A peephole LSTM as one writes it in JAX: ``jax.lax.scan`` under ``jit``, with every gate and all gradients.

    As in `TorchLoop`, U xᵗ + b is one product for all t, and W hᵗ⁻¹ one product a step for all gates.
    """

    needs = ("jax",)

    def __init__(self, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> None:
        jax = library("jax")
        weights = {name: jax.numpy.asarray(layer[name]) for name in "UWVb"}
        self.arguments = weights, jax.numpy.asarray(x), jax.numpy.asarray(dh)
        self.compiled = jax.jit(self.compute)

    def compute(self, weights: Any, x: Any, dh: Any) -> Any:
        """Return every gate and state, and the gradients of the weights and of x."""

        def outputs(weights: Any, x: Any) -> Any:
            trace = jax_trace(weights, x)
            return trace["h"], trace

        _, backward, trace = library("jax").vjp(outputs, weights, x, has_aux=True)
        return trace, backward(dh)

    def __call__(self) -> Any:
        return library("jax").block_until_ready(self.compiled(*self.arguments))

    def results(self) -> Results:
        trace, (weights, x) = self()
        return {name: np.asarray(array) for name, array in (trace | weights | {"x": x}).items()}


class JaxForward(JaxScan):
    """Forward alone, with every gate and state."""

    def compute(self, weights: Any, x: Any, dh: Any) -> Any:
        return jax_trace(weights, x)

    def results(self) -> Results:
        return {name: np.asarray(array) for name, array in self().items()}


def jax_trace(weights: Any, x: Any) -> dict[str, Any]:
    """Return every gate and state of a peephole LSTM, in JAX."""
    jax = library("jax")
    sigmoid, tanh = jax.nn.sigmoid, jax.numpy.tanh
    H = weights["b"].shape[1]
    V_i, V_f, V_o = weights["V"]
    W_T = weights["W"].reshape(4 * H, H).T
    rows = x @ weights["U"].reshape(4 * H, -1).T + weights["b"].ravel()

    def step(states: Any, row: Any) -> Any:
        h, c = states
        a_i, a_f, a_o, a_c = jax.numpy.split(row + h @ W_T, 4, axis=1)
        i = sigmoid(a_i + V_i * c)
        f = sigmoid(a_f + V_f * c)
        g = tanh(a_c)
        c = f * c + i * g
        o = sigmoid(a_o + V_o * c)
        h = o * tanh(c)
        return (h, c), {"i": i, "f": f, "o": o, "g": g, "c": c, "h": h}

    zeros = jax.numpy.zeros((x.shape[1], H), x.dtype)
    return jax.lax.scan(step, (zeros, zeros), rows)[1]


# ONNX Runtime


class OnnxForward(Call):
    """Forward pass of ONNX Runtime's LSTM, which has peepholes, in float32; it keeps the outputs alone."""

    needs = ("onnxruntime", "onnx")

    def __init__(self, layer: ln.Recurrent, x: NDArray, dh: NDArray) -> None:
        runtime, model = library("onnxruntime"), ln.to_onnx(layer)
        node = model.graph.node[0]
        del model.graph.node[1:], model.graph.output[1:]  # what brings the output into our shape
        model.graph.output[0].CopyFrom(library("onnx").ValueInfoProto(name=node.output[0]))
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # no warning of what was deleted
        options.intra_op_num_threads, options.inter_op_num_threads = ln.get_num_threads(), 1
        self.session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.feeds = {"X": x}

    def __call__(self) -> Any:
        return self.session.run(None, self.feeds)[0]  # (T, 1, B, H)

    def results(self) -> Results:
        return {"h": self()[:, 0]}


Maker = Callable[[ln.Recurrent, NDArray, NDArray], Call]
