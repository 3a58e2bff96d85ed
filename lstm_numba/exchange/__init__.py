"""Weights from and to PyTorch, ONNX and Keras.

There is one module for each of the three, and `opening` for a file of unknown kind. The other library is imported only
when it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_numba.exchange.keras_weights import from_keras, to_keras
    from lstm_numba.exchange.onnx_graphs import from_onnx, to_onnx
    from lstm_numba.exchange.opening import open_weights
    from lstm_numba.exchange.torch_weights import from_torch, to_torch, torch_state_dict

_HOMES = {
    "from_keras": "keras_weights",
    "from_onnx": "onnx_graphs",
    "from_torch": "torch_weights",
    "open_weights": "opening",
    "to_keras": "keras_weights",
    "to_onnx": "onnx_graphs",
    "to_torch": "torch_weights",
    "torch_state_dict": "torch_weights",
}

__all__ = [
    "from_keras",
    "from_onnx",
    "from_torch",
    "open_weights",
    "to_keras",
    "to_onnx",
    "to_torch",
    "torch_state_dict",
]


def __getattr__(name: str) -> Any:
    """Import the module of a format when one of its functions is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"lstm_numba.exchange.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lstm_numba.exchange' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List all public names, used or not."""
    return sorted({*globals(), *__all__})
