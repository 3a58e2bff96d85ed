"""What the engine is compared with, fed with its weights: PyTorch and ONNX Runtime, where they are installed.

Each class takes one of our layers and its input, holds the same layer of another library, and is a call to be timed;
`results` says what it computed, under our names, so that agreement comes before speed. `torch()` and `onnxruntime()`
give the library or None.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import lstm_numba as ln

Results = dict[str, NDArray]
TORCH_ORDER = [0, 1, 3, 2]  # torch stacks its gates i, f, g (our c), o: its own inverse
ONNX_ORDER = [0, 2, 1, 3]  # ONNX: i, o, f, c; of the peepholes the first three


class Peer(Protocol):
    """A call to time, whose results can be asked for."""

    def __call__(self) -> object:
        """Compute everything."""

    def results(self) -> Results:
        """Compute everything and return it under our names."""


def _library(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def torch() -> Any:
    """PyTorch, or None."""
    return _library("torch")


def onnxruntime() -> Any:
    """ONNX Runtime, or None; its models are made with the onnx package, so both must be there."""
    return _library("onnxruntime") if _library("onnx") else None


def missing() -> list[str]:
    """Return names of the libraries whose columns will stay empty."""
    return [name for name, found in (("torch", torch()), ("onnxruntime and onnx", onnxruntime())) if found is None]


def set_threads(threads: int) -> None:
    """Let the engine and torch use so many threads; ONNX Runtime is told session by session."""
    ln.set_num_threads(threads)
    if torch():
        torch().set_num_threads(threads)


def disagreement(ours: Results, theirs: Results) -> float:
    """Largest difference of any array that both have, relative to that array's largest number."""
    common = ours.keys() & theirs.keys()
    return max(float(np.abs(ours[k] - theirs[k]).max() / np.abs(ours[k]).max()) for k in common)


# Ours


class Engine:
    """Forward and backward of one of our layers, with every gradient."""

    def __init__(self, layer: ln.LSTM | ln.SimpleRNN, x: NDArray, dh: NDArray) -> None:
        self.layer, self.x, self.dh = layer, x, dh

    def __call__(self) -> object:
        return self.layer.backward(self.layer.forward(self.x), self.dh)

    def results(self) -> Results:
        trace = self.layer.forward(self.x)
        gradients = self.layer.backward(trace, self.dh)
        return {"h": trace.h, "x": gradients.x} | {name: gradients[name] for name in self.layer.parameters()}


# PyTorch


class TorchModule:
    """``torch.nn.LSTM`` or ``torch.nn.RNN``: forward, and backward to every parameter and the input.

    They have two biases that are added up; the second one is zero here. An LSTM of torch has no peepholes.
    """

    # Their names, and ours for the same.
    names = (("weight_ih_l0", "U"), ("weight_hh_l0", "W"), ("bias_ih_l0", "b"))

    def __init__(self, layer: ln.LSTM | ln.SimpleRNN, x: NDArray, dh: NDArray) -> None:
        library = torch()
        self.gates = TORCH_ORDER if isinstance(layer, ln.LSTM) else None
        self.module = self.kind()(layer.input_size, layer.hidden_size, dtype=getattr(library, x.dtype.name))
        with library.no_grad():
            for name, ours in self.names:
                weights = self.reordered(layer[ours])
                parameter = getattr(self.module, name)
                parameter.copy_(library.from_numpy(weights.reshape(parameter.shape).copy()))
            self.module.bias_hh_l0.zero_()
        self.shapes = {ours: layer[ours].shape for _, ours in self.names}
        self.x, self.dh = library.tensor(x, requires_grad=True), library.tensor(dh)

    def kind(self) -> Callable[..., Any]:
        """What makes the module."""
        return torch().nn.LSTM if self.gates else torch().nn.RNN

    def reordered(self, weights: NDArray) -> NDArray:
        """Gates in the other one's order; peepholes, of which there are three, are in ours."""
        return weights[self.gates] if self.gates and len(weights) == 4 else weights

    def __call__(self) -> Any:
        self.module.zero_grad()
        self.x.grad = None
        h = self.module(self.x)[0]
        h.backward(self.dh)
        return h

    def results(self) -> Results:
        found = {"h": self().detach().numpy(), "x": self.x.grad.numpy()}
        for name, ours in self.names:
            gradient = getattr(self.module, name).grad.numpy().reshape(self.shapes[ours])
            found[ours] = self.reordered(gradient)
        return found


class OurModule(TorchModule):
    """``lstm_numba.torch.LSTM``, a module of torch that computes with the engine; here with peepholes."""

    names = (*TorchModule.names, ("peephole_l0", "V"))

    def kind(self) -> Callable[..., Any]:
        return partial(ln.torch.LSTM, peepholes=True)


class TorchTraining:
    """A step of a training loop as one writes it in torch, with a module of ``torch.nn.LSTM``'s interface.

    Forward, mean square of the output, backward to every parameter, SGD with momentum.
    """

    def __init__(self, kind: Callable[..., Any], x: NDArray, H: int) -> None:
        library = torch()
        library.manual_seed(0)
        self.module = kind(x.shape[2], H)
        self.optimizer = library.optim.SGD(self.module.parameters(), 0.01, 0.9)
        self.x = library.tensor(x)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        loss = self.module(self.x)[0].square().mean()
        loss.backward()
        self.optimizer.step()


class TorchLoop:
    """A peephole LSTM as one writes it in torch: one time step after the other, differentiated by autograd.

    Written with some care: U xᵗ + b is one product for all t, W hᵗ⁻¹ one product a step for all gates, and the input
    and forget gates, which see the same cell, are one operation.
    """

    def __init__(self, layer: ln.LSTM, x: NDArray, dh: NDArray) -> None:
        library = torch()
        self.H = layer.hidden_size
        self.leaves = {
            name: library.tensor(np.asarray(layer[name]), requires_grad=True) for name in ("U", "W", "V", "b")
        }
        self.leaves["x"] = library.tensor(x, requires_grad=True)
        self.dh = library.tensor(dh)

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

    def __init__(self, layer: ln.LSTM, x: NDArray, copies: bool) -> None:
        library = torch()
        self.copies, self.H = copies, layer.hidden_size
        batch = np.repeat(x[:, None].astype(layer.dtype), self.H if copies else 1, axis=1)
        module = TorchModule(layer, batch, np.zeros((*batch.shape[:2], self.H), layer.dtype))
        self.x = module.x
        self.h = module.module(self.x)[0]
        self.eye = library.eye(self.H, dtype=self.x.dtype)

    def seed(self, t: int, j: int = 0) -> Any:
        """∂h_jᵗ/∂xˢ for all s: (T, I). With copies, for all j at once: (T, H, I)."""
        seed = self.eye if self.copies else self.eye[j : j + 1]
        return torch().autograd.grad(self.h[t], self.x, seed, retain_graph=True)[0]

    def column(self, t: int) -> NDArray:
        """‖∂hᵗ/∂xˢ‖ for all s: (T,)."""
        if self.copies:
            return np.sqrt((self.seed(t) ** 2).sum((1, 2)).numpy())
        return np.sqrt(sum((self.seed(t, j) ** 2).sum((1, 2)) for j in range(self.H)).numpy())


# ONNX Runtime


class OnnxLSTM:
    """Forward pass of ONNX Runtime's LSTM, which has peepholes, in float32."""

    def __init__(self, layer: ln.LSTM, x: NDArray, threads: int) -> None:
        library = onnxruntime()
        options = library.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        model = onnx_model(layer).SerializeToString()
        self.session = library.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.feeds = {"X": x}

    def __call__(self) -> Any:
        return self.session.run(["Y"], self.feeds)[0]

    def results(self) -> Results:
        return {"h": self()[:, 0]}


def onnx_model(layer: ln.LSTM) -> Any:
    """Return a model of one LSTM node with the layer's weights: X (T, B, I) → Y (T, 1, B, H)."""
    from onnx import TensorProto, helper, numpy_helper

    H = layer.hidden_size
    weights = {
        "W": layer["U"][ONNX_ORDER].reshape(1, 4 * H, -1),
        "R": layer["W"][ONNX_ORDER].reshape(1, 4 * H, H),
        "B": np.concatenate([layer["b"][ONNX_ORDER].ravel(), np.zeros(4 * H)])[None],  # of two biases one is zero
        "P": layer["V"][ONNX_ORDER[:3]].reshape(1, 3 * H),
    }
    node = helper.make_node("LSTM", ["X", "W", "R", "B", "", "", "", "P"], ["Y"], hidden_size=H)
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None] * 3)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
