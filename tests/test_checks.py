"""What can't be read as an array is refused by the argument's name, wherever arrays are taken."""

from __future__ import annotations

import numpy as np
import pytest

import lstm_numba as ln

T, B, I, H = 4, 2, 2, 3
LAYER = ln.LSTM(I, H, seed=0)
STACK = ln.Stack(I, (H,), seed=0)
NETWORK = ln.Network(input_size=I, hidden_sizes=(H,), n_classes=2, seed=0)
X = np.ones((T, B, I), np.float32)

# The argument's name, its shape, and a call with it.
TAKERS = {
    "layer's x": ("x", (T, B, I), LAYER.forward),
    "layer's state": ("h0", (B, H), lambda h0: LAYER.forward(X, h0)),
    "layer's lengths": ("lengths", (B,), lambda lengths: LAYER.forward(X, lengths=lengths)),
    "layer's dh": ("dh", (T, B, H), lambda dh: LAYER.backward(LAYER.forward(X), dh)),
    "parameter": ("W", (4, H, H), lambda value: LAYER.__setitem__("W", value)),
    "stack's x": ("x", (T, B, I), STACK.forward),
    "stack's state": ("h0", (1, B, H), lambda h0: STACK.forward(X, h0)),
    "stack's own lengths": ("lengths", (B,), lambda lengths: ln.Stack.of(STACK.layers, lengths=lengths)),
    "network's x": ("x", (T, B, I), NETWORK.forward),
    "network's y": ("y", (T, B), lambda y: NETWORK.loss(NETWORK.forward(X), y)),
    "sensitivity's x": ("x", (T, B, I), lambda x: ln.sensitivity(LAYER, x)),
    "sensitivity's loss": ("loss", (T, B, H), lambda loss: ln.sensitivity(LAYER, X, loss=loss)),
    "gradcheck's x": ("x", (T, B, I), lambda x: ln.gradcheck(LAYER, x)),
}


@pytest.mark.parametrize("what", TAKERS)
def test_a_tensor_that_needs_a_gradient(what):
    torch = pytest.importorskip("torch", reason="torch is not installed: there are no tensors")
    name, shape, take = TAKERS[what]
    with pytest.raises(TypeError, match=rf"^{name}(\[0\])?: expected an array, got Tensor: .*detach\(\)"):
        take(torch.ones(shape, requires_grad=True))
    with pytest.raises(TypeError, match=rf"^{name}(\[0\])?: expected an array, got Tensor: .*BFloat16"):
        take(torch.ones(shape, dtype=torch.bfloat16))


@pytest.mark.parametrize("what", TAKERS)
def test_a_mask_and_rows_of_different_lengths(what):
    name, shape, take = TAKERS[what]
    with pytest.raises(TypeError, match=rf"^{name}(\[0\])?: expected an array without a mask, got a masked array"):
        take(np.ma.masked_array(np.ones(shape, np.float32), mask=True))
    if "state" not in what or what == "layer's state":
        with pytest.raises(ValueError, match=rf"^{name}: expected an array, got list: .*inhomogeneous"):
            take([[1.0], [1.0, 2.0]])


def test_names_of_parameters_are_texts():
    gradients = LAYER.backward(LAYER.forward(X), np.ones((T, B, H)))
    for holder in (LAYER, STACK, NETWORK, gradients):
        with pytest.raises(TypeError, match=r"^name: expected a parameter's name such as .*U', got 3"):
            holder[3]
