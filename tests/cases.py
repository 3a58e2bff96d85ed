"""Random problems for the layers, and the ways in which two results are compared."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

NONLINEARITIES = ("sigmoid", "tanh", "relu", "identity", "hard_sigmoid", "hard_sigmoid_6")
# Every combination of peepholes, biases, direction and padding; all of them run in each comparison.
SWITCHES = list(itertools.product((True, False), (True, False), (False, True), (False, True)))
SWITCH_NAMES = [
    "-".join(name for name, on in zip(("peepholes", "bias", "reverse", "lengths"), row, strict=True) if on) or "plain"
    for row in SWITCHES
]


@dataclass
class Case:
    """Inputs, states and seeds of the backward pass, all of order one and none of them zero."""

    x: np.ndarray
    h0: np.ndarray
    c0: np.ndarray
    dh: np.ndarray
    dh_last: np.ndarray
    dc_last: np.ndarray
    lengths: np.ndarray | None

    @property
    def lstm_state(self):
        return {"h0": self.h0, "c0": self.c0}

    @property
    def lstm_seeds(self):
        return {"dh": self.dh, "dh_last": self.dh_last, "dc_last": self.dc_last}

    @property
    def rnn_seeds(self):
        return {"dh": self.dh, "dh_last": self.dh_last}


def make_case(T, B, I, H, seed=0, lengths=False):
    """A case; ``lengths=True`` draws a length from 1 to T for each sequence, the first with T."""
    rng = np.random.default_rng([seed, T, B, I, H])
    drawn = rng.integers(1, T + 1, B)
    drawn[0] = T
    shapes = ((T, B, I), (B, H), (B, H), (T, B, H), (B, H), (B, H))
    return Case(*(rng.standard_normal(shape) for shape in shapes), lengths=drawn if lengths else None)


def random_parameters(I, H, seed=0, gates=4, peepholes=True, bias=True, recurrent=0.8):
    """Distinct weights, scaled so that every pre-activation is a sum of terms of order one.

    ``recurrent`` is about the factor by which W lengthens a vector.
    """
    rng = np.random.default_rng([seed, I, H, gates])
    lead = () if gates == 1 else (gates,)
    parameters = {
        "U": rng.standard_normal((*lead, H, I)) / np.sqrt(I),
        "W": recurrent * rng.standard_normal((*lead, H, H)) / np.sqrt(H),
    }
    if gates == 4 and peepholes:
        parameters["V"] = 0.5 * rng.standard_normal((3, H))
    if bias:
        parameters["b"] = 0.5 * rng.standard_normal((*lead, H))
    return parameters


def put(layer, parameters):
    """Copy ``parameters`` into the layer and return those it now holds, as float64 (exact also for float32)."""
    held = layer.parameters()
    assert set(held) == set(parameters)
    for name, value in parameters.items():
        held[name][:] = value
    return {name: value.astype(np.float64) for name, value in layer.parameters().items()}


def entry_error(got, want, floor):
    """The largest |got - want| / max(|want|, floor); 0 where both are equal, infinite where got is not finite."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    difference = np.abs(got.astype(np.float64) - want)
    scale = np.maximum(np.abs(want), floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(difference == 0, 0.0, difference / scale)
    return float(np.nan_to_num(error, nan=np.inf).max(initial=0.0))


def norm_error(got, want):
    """The largest |got - want| over the largest |want|: an array that should be zero has to be exactly that."""
    return entry_error(got, want, np.abs(want).max(initial=0.0))


def worst(errors, tolerance):
    """Fail with a table when any of the named errors is above the tolerance."""
    bad = {name: error for name, error in errors.items() if not error <= tolerance}
    assert not bad, f"above {tolerance:g}: " + ", ".join(f"{name} {error:.2e}" for name, error in bad.items())


def read(source, name):
    """The array ``name`` of a twin's or oracle's dict, or of a Trace or Gradients."""
    if isinstance(source, dict):
        return source[name]
    return source[name] if name in ("U", "W", "V", "b") else getattr(source, name)


def memory_of(arrays):
    """Bytes of the memory under the arrays, shared memory counted once."""
    roots = {}
    for array in arrays:
        while isinstance(array.base, np.ndarray):
            array = array.base
        roots[id(array)] = array
    return sum(array.nbytes for array in roots.values())


def held_by_trace(trace):
    """Every array that a trace without lengths holds."""
    return [trace.operands, *(getattr(trace, name) for name in trace.names())]


def held_by_gradients(grads):
    """Every array that a layer's gradients hold; parameters may lie in a stack's one array."""
    return [grads.parameters().flat, *(getattr(grads, name) for name in grads.names())]


def compare(got, want, names, tolerance, error=norm_error):
    worst({name: error(read(got, name), want[name]) for name in names}, tolerance)
