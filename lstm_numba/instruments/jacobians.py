"""Exact derivatives of states with respect to inputs and earlier states: how much one time step depends on another.

A layer is a chain of steps. Let z be all states of its cell side by side, z = (h, c) in an LSTM and z = h in a GRU. At
the values of one forward pass

    Dᵗ = ∂zᵗ/∂zᵗ⁻¹      Xᵗ = ∂zᵗ/∂xᵗ      ∂zᵗ/∂xˢ = Dᵗ Dᵗ⁻¹ … Dˢ⁺¹ Xˢ

The derivative with respect to an early input is a product of many matrices, so it shrinks or grows with the distance:
this is the vanishing and exploding gradient. Sources: J. Hochreiter, *Untersuchungen zu dynamischen neuronalen Netzen*
(1991); Y. Bengio, P. Simard & P. Frasconi, *Learning Long-Term Dependencies with Gradient Descent is Difficult* (IEEE
Trans. Neural Networks 5, 1994). D and X follow from the cell's equations (`lstm_numba.instruments.step_slopes`). In a
simple recurrent net they are diag(φ′(aᵗ)) W and diag(φ′(aᵗ)) U. In an LSTM, with the derivatives inside one step

    ∂cᵗ/∂a_iᵗ = σ′(a_iᵗ) gᵗ         ∂cᵗ/∂a_fᵗ = σ′(a_fᵗ) cᵗ⁻¹    ∂cᵗ/∂a_cᵗ = iᵗ tanh′(a_cᵗ)
    ∂hᵗ/∂a_oᵗ = σ′(a_oᵗ) tanh(cᵗ)   ∂hᵗ/∂cᵗ = oᵗ tanh′(cᵗ) + V_o ∂hᵗ/∂a_oᵗ

each a vector of H numbers, the blocks of D are

    ∂cᵗ/∂hᵗ⁻¹ = Σₖ diag(∂cᵗ/∂a_kᵗ) Wₖ                        k over i, f, c
    ∂hᵗ/∂hᵗ⁻¹ = diag(∂hᵗ/∂cᵗ) ∂cᵗ/∂hᵗ⁻¹ + diag(∂hᵗ/∂a_oᵗ) W_o
    ∂cᵗ/∂cᵗ⁻¹ = diag(fᵗ + V_i ∂cᵗ/∂a_iᵗ + V_f ∂cᵗ/∂a_fᵗ)
    ∂hᵗ/∂cᵗ⁻¹ = diag(∂hᵗ/∂cᵗ) ∂cᵗ/∂cᵗ⁻¹

and X has U instead of W. `lstm_numba.instruments.stack_jacobians` multiplies these matrices over many steps; in a
stack it goes through the layers one after the other.

Everything is computed in float64, for float32 layers in a float64 copy, because vanishing derivatives soon underflow in
float32. Nothing is clipped; NaN and infinity come through.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstm_numba import _checks
from lstm_numba.instruments.stack_jacobians import INITIAL, chains
from lstm_numba.instruments.step_slopes import StepSlopes
from lstm_numba.layers.recurrent import Recurrent, Trace
from lstm_numba.layers.stack import Stack


class StepJacobians(NamedTuple):
    """Derivatives of every single step of a forward pass; `step_jacobians` makes them.

    Attributes
    ----------
    state : (T, B, Z, Z)
        Dᵗ = ∂zᵗ/∂zᵗ⁻¹ with z all states side by side, in the order of the cell's equations: in an LSTM z = (h, c)
        and Z = 2H, so that ``state[t, b, :H, H:]`` is ∂hᵗ/∂cᵗ⁻¹. With ``reverse=True`` the step before t is t + 1.
    input : (T, B, Z, I)
        Xᵗ = ∂zᵗ/∂xᵗ.
    """

    state: NDArray
    input: NDArray


def step_jacobians(trace: Trace) -> StepJacobians:
    """Return Dᵗ = ∂zᵗ/∂zᵗ⁻¹ and Xᵗ = ∂zᵗ/∂xᵗ of every step; the formulas are at the top of this module.

    Their singular values say how much one step can shrink or stretch a derivative on its way back:
    ``np.linalg.svd(step_jacobians(trace).state, compute_uv=False)`` is (T, B, Z).

    Parameters
    ----------
    trace
        The trace that ``forward`` of a layer returned; the weights must not have changed since.

    Returns
    -------
    StepJacobians
        In float64. After a sequence's end the state stays the same: D is the identity there, and X is zero.

    Raises
    ------
    TypeError
        If `trace` is not the trace of a layer.
    """
    if not isinstance(trace, Trace):
        raise TypeError(
            "trace: expected the trace of a recurrent layer (for a stack, the trace of one of its layers,"
            f" such as trace.layers[0][0]), got {type(trace).__name__}"
        )
    slopes = StepSlopes(trace)
    T, B, Z = trace.T, trace.B, slopes.S * slopes.H
    D = np.empty((T, B, Z, Z))
    X = np.empty((T, B, Z, trace.layer.input_size))
    lengths = np.full(B, T) if trace.lengths is None else trace.lengths
    with np.errstate(all="ignore"):
        for b in range(B):
            for t in range(T):
                D[t, b], X[t, b] = slopes.state(t, b), slopes.input(t, b)
            D[lengths[b] :, b], X[lengths[b] :, b] = np.eye(Z), 0
    return StepJacobians(D, X)


def sensitivity(
    layer: Recurrent | Stack,
    x: ArrayLike,
    *,
    of: str = "h",
    wrt: str = "x",
    t: int | Sequence[int] | None = None,
    s: int | Sequence[int] | None = None,
    lengths: ArrayLike | None = None,
    norm: str = "frobenius",
    loss: ArrayLike | None = None,
    **initial: ArrayLike | None,
) -> NDArray:
    """Return the exact S[s, t] = ‖∂hᵗ/∂xˢ‖ for all s and t, or for chosen ones.

    `of` differentiates another state of the cell, such as c of an LSTM: ‖∂cᵗ/∂xˢ‖. `wrt` differentiates with respect to
    a state (hˢ or cˢ) or an initial state (h⁰ or c⁰) instead of xˢ. Every derivative includes all paths, like δ and ε
    of the backward pass: cˢ of an LSTM also acts through hˢ = oˢ ⊙ tanh(cˢ), so ∂hᵗ/∂cᵗ is not zero, whereas hˢ acts
    only through later steps. ∂hᵗ/∂hᵗ and ∂cᵗ/∂cᵗ are the identity. S is zero if no path leads from s to t: for s > t
    (for s < t with ``reverse=True``), and after a sequence's end.

    With `loss` the result is ‖∂L/∂xˢ‖ (or ‖∂L/∂hˢ‖, …) of one loss L, from one backward pass.

    The Jacobians of all pairs are carried through the steps together, in the direction that takes fewer
    rows: from each xˢ onwards (I rows each), or from unit vectors at each hᵗ back (H rows each).

    For a `Stack`, hᵗ is the top layer's output (D·H) with both directions side by side, like the top layer's other
    states. Initial states are those of all layers side by side. A backward layer makes hᵗ depend on later steps: with
    both directions S has no zeros.

    Parameters
    ----------
    layer
        A layer of any cell, or a `Stack`, of any dtype.
    x : (T, I) or (T, B, I)
        Input.
    of
        The numerator: one of the layer's ``states``, such as "h" or "c".
    wrt
        The denominator: "x", a state, or an initial state such as "h0" or "c0". For a Stack it can't be a state, since
        every layer has its own.
    t, s
        Times of the numerator and of the denominator, 0 … T-1: a number, several, or None for all. Other times are
        not computed. Initial states have no s, a loss has no t.
    lengths : (B,) whole numbers, optional
        Steps of each sequence.
    norm
        "frobenius": the root of the sum of all squares. "spectral": the largest singular value, which is the factor
        by which the most effective small change of xˢ is stretched; it is never larger than the other.
    loss : (T, B, H), optional
        ∂L/∂hᵗ of a loss, as for ``layer.backward``; (T, H) is allowed if x is (T, I). For a Stack, D·H instead of H.
    **initial : (B, H), optional
        Initial states by name, h0, c0, …, zero by default; (H,) is allowed if x is (T, I). For a Stack, as for its
        ``forward``; (L·D, H) is allowed if x is (T, I).

    Returns
    -------
    ndarray, float64
        (T, T), indexed [s, t]; (T,), indexed [t], for an initial state; (T,), indexed [s], for a loss. A single t or
        s drops its axis; a list of times gives an axis of its length. More than one sequence adds a first axis of B.

    Raises
    ------
    TypeError
        If `layer` is no layer, the cell doesn't have an initial state, an array holds whole or complex numbers, or
        times aren't whole numbers.
    ValueError
        For an unknown `of`, `wrt` or `norm`, a state as `wrt` of a Stack, times outside 0 … T-1, an `s` with an
        initial state, a `t` or an `of` other than "h" with a loss, wrong shapes, NaN or infinity in the input; the
        message names the argument.

    Examples
    --------
    >>> from lstm_numba import LSTM
    >>> S = sensitivity(LSTM(input_size=2, hidden_size=3, seed=0), np.ones((5, 2)))
    >>> S.shape, bool(S[3, 1] == 0)
    ((5, 5), True)
    """
    _checks.choice("norm", norm, ("frobenius", "spectral"))
    _check_names(layer, of, wrt)
    layer = _in_float64(layer)
    x, squeeze = _as_batch("x", x)
    if loss is not None:
        return _sensitivity_of_loss(layer, x, squeeze, of, wrt, t, s, initial, lengths, loss)
    trace = _forward(layer, x, squeeze, initial, lengths)
    ts, one_t = _times("t", t, trace.T)
    ss, one_s = _sources(wrt, s, trace.T)
    measure = _frobenius if norm == "frobenius" else _spectral
    S = np.zeros((trace.B, max(1, len(ss)), len(ts)))
    with np.errstate(all="ignore"):
        for b, chain in enumerate(chains(trace, of, wrt)):
            table = chain.measured(ss, ts, measure)
            for m, source in enumerate(ss):
                S[b, m] = [table.get((source, time), 0.0) for time in ts]
    S = S[:, 0] if one_s else S
    S = S[..., 0] if one_t else S
    return S[0] if trace.B == 1 else S


def jacobian(
    layer: Recurrent | Stack,
    x: ArrayLike,
    t: int,
    s: int | None = None,
    *,
    of: str = "h",
    wrt: str = "x",
    lengths: ArrayLike | None = None,
    **initial: ArrayLike | None,
) -> NDArray:
    """Return the matrix ∂hᵗ/∂xˢ itself, of which `sensitivity` takes the norm.

    Parameters
    ----------
    layer, x, of, wrt, lengths, **initial
        As in `sensitivity`.
    t, s
        Times of numerator and denominator; s is None for initial states.

    Returns
    -------
    ndarray, float64
        (H, I) for wrt="x", (H, H) otherwise; (B, H, …) for more than one sequence. For a Stack (D·H, I), or (D·H, ΣH)
        for initial states, with those of all layers and directions side by side.

    Raises
    ------
    TypeError, ValueError
        As in `sensitivity`.
    """
    _check_names(layer, of, wrt)
    layer = _in_float64(layer)
    x, squeeze = _as_batch("x", x)
    trace = _forward(layer, x, squeeze, initial, lengths)
    t = _time("t", t, trace.T)
    if wrt.endswith("0"):
        (source,), _ = _sources(wrt, s, trace.T)
    else:
        source = _time("s", s, trace.T)
    own = (layer.output_size, sum(layer.state_sizes)) if isinstance(layer, Stack) else (layer.hidden_size,) * 2
    J = np.zeros((trace.B, own[0], layer.input_size if wrt == "x" else own[1]))
    with np.errstate(all="ignore"):
        for b, chain in enumerate(chains(trace, of, wrt)):
            for block in chain.measured([source], [t], list).values():
                J[b] = block
    return J[0] if trace.B == 1 else J


# Arguments


def _check_names(layer: Any, of: str, wrt: str) -> None:
    if not isinstance(layer, Recurrent | Stack):
        raise TypeError(f"layer: expected a recurrent layer or a Stack, got {type(layer).__name__}")
    states = layer.states
    if isinstance(of, str) and of not in states and len(states) == 1:
        raise ValueError(f"of: expected {states[0]!r} (this cell's only state is {states[0]}), got {of!r}")
    _checks.choice("of", of, states)
    own = () if isinstance(layer, Stack) else states
    if isinstance(layer, Stack) and wrt in states:
        raise ValueError(
            f"wrt: expected 'x' or an initial state such as 'h0', for every layer of a Stack has its own {wrt},"
            f" got {wrt!r}"
        )
    _checks.choice("wrt", wrt, ("x", *own, *(f"{state}0" for state in states)))


def _in_float64(layer: Any) -> Any:
    return layer if layer.dtype == np.float64 else layer.astype(np.float64)


def _as_batch(name: str, value: ArrayLike) -> tuple[NDArray, bool]:
    """Return an array with a batch axis, and whether this axis was added."""
    array = _checks.array_of(name, value)
    if array.ndim not in (2, 3):
        raise ValueError(f"{name}: expected shape (T, n) or (T, B, n), got {array.shape}")
    return (array[:, None], True) if array.ndim == 2 else (array, False)


def _forward(
    layer: Any,
    x: NDArray,
    squeeze: bool,
    initial: Mapping[str, ArrayLike | None],
    lengths: ArrayLike | None,
) -> Any:
    names = [f"{state}0" for state in layer.states]
    for name in initial:
        if name not in names:
            raise TypeError(f"{name}: expected one of {', '.join(names)}, the layer's initial states")
    given: dict[str, Any] = {name: value for name, value in initial.items() if value is not None}
    if squeeze and isinstance(layer, Stack):
        given = {name: [np.atleast_2d(state) for state in value] for name, value in given.items()}
    elif squeeze:
        given = {
            name: array[None] if (array := _checks.array_of(name, value)).ndim == 1 else array
            for name, value in given.items()
        }
    return layer.forward(x, **given, lengths=lengths)


def _time(name: str, value: Any, T: int) -> int:
    try:
        time = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a time from 0 to {T - 1}, got {value!r}") from None
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected a time from 0 to {T - 1}, got {value!r}")
    if not 0 <= time < T:
        raise ValueError(f"{name}: expected a time from 0 to {T - 1}, got {time}")
    return time


def _times(name: str, value: Any, T: int) -> tuple[list[int], bool]:
    """Return the chosen times, and whether a single one was given."""
    if value is None:
        return list(range(T)), False
    if not (_checks.several(value) or isinstance(value, range)):
        return [_time(name, value, T)], True
    times = [_time(name, each, T) for each in value]
    if not times:
        raise ValueError(f"{name}: expected at least one time, got none")
    return times, False


def _sources(wrt: str, s: Any, T: int) -> tuple[list[int], bool]:
    if not wrt.endswith("0"):
        return _times("s", s, T)
    if s is not None:
        raise ValueError(f"s: expected None, since {wrt} belongs to no step, got {s!r}")
    return [INITIAL], True


# The norm of one loss's derivatives


def _sensitivity_of_loss(
    layer: Any,
    x: NDArray,
    squeeze: bool,
    of: str,
    wrt: str,
    t: Any,
    s: Any,
    initial: Mapping[str, ArrayLike | None],
    lengths: ArrayLike | None,
    loss: ArrayLike,
) -> NDArray:
    if t is not None:
        raise ValueError(f"t: expected None with a loss, which has its own times, got {t!r}")
    if of != "h":
        raise ValueError(f"of: expected 'h' with a loss, which is given as ∂L/∂h, got {of!r}")
    dh = _checks.array_of("loss", loss)
    if squeeze and dh.ndim == 2:
        dh = dh[:, None]
    size = layer.output_size if isinstance(layer, Stack) else layer.hidden_size
    _checks.floats("loss", dh, (*x.shape[:2], size), np.dtype(np.float64))
    trace = _forward(layer, x, squeeze, initial, lengths)
    ss, one_s = _sources(wrt, s, trace.T)
    gradients = layer.backward(trace, dh)
    name = f"epsilon_{wrt}" if wrt in layer.states else wrt
    vectors = getattr(gradients, name)  # (T, B, n), or (B, n) for an initial state
    if isinstance(layer, Stack) and wrt != "x":
        vectors = np.concatenate(list(vectors), axis=1)
    vectors = vectors[None] if wrt.endswith("0") else vectors[ss]
    with np.errstate(all="ignore"):
        S = _frobenius(vectors.reshape(-1, 1, vectors.shape[-1])).reshape(vectors.shape[:2]).T
    S = S[:, 0] if one_s else S
    return S[0] if trace.B == 1 else S


# Norms


def _frobenius(blocks: NDArray) -> NDArray:
    """√Σ J² of each block (n, p, q); blocks whose squares over- or underflow are scaled first."""
    squares = np.einsum("npq,npq->n", blocks, blocks)
    result = np.sqrt(squares)
    unsafe = np.flatnonzero(~((squares > 1e-280) & (squares < np.inf)))
    if unsafe.size:
        scaled, scale = _scaled(blocks[unsafe])
        result[unsafe] = scale * np.sqrt(np.einsum("npq,npq->n", scaled, scaled))
    return result


def _spectral(blocks: NDArray) -> NDArray:
    """Largest singular value of each block (n, p, q); the SVD needs finite numbers."""
    scaled, scale = _scaled(blocks)
    finite = np.isfinite(scale)
    result = scale.copy()
    result[finite] *= np.linalg.svd(scaled[finite], compute_uv=False)[:, 0]
    return result


def _scaled(blocks: NDArray) -> tuple[NDArray, NDArray]:
    """Return blocks divided by their largest entry, and that entry, which becomes 1 if it is zero, infinite or NaN."""
    scale = np.abs(blocks).max(axis=(1, 2))
    ordinary = (scale > 0) & (scale < np.inf)
    scaled = np.ones_like(blocks)
    scaled[ordinary] = blocks[ordinary] / scale[ordinary, None, None]
    return scaled, scale
