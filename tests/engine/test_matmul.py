"""The packed product against NumPy's, for every kind of tail; vectors; every CPU's tile, by naming older CPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_numba.engine import matmul as mm
from lstm_numba.engine import vectors
from lstm_numba.engine.compiling import jit
from lstm_numba.engine.matmul import ONE, ROWS, ZERO
from lstm_numba.engine.vectors import aligned, load_first, pointer, store_first

TESTS = Path(__file__).parents[1]
DTYPES = [np.float32, np.float64]


@jit
def _product(c, s, a, b, by_rows, in_groups, repeat):
    """C = S + A B, with B packed by rows or by columns, A read as it lies or from groups."""
    (m, depth), n = a.shape, c.shape[1]
    np_, room = mm.padded(n, pointer(c)), np.empty((m + ROWS) * depth + 1, a.dtype)
    packed = np.empty(np_ * depth + mm.full_width(pointer(c)), a.dtype)
    panels, groups, wide = aligned(pointer(packed)), pointer(room), np.zeros((m, np_), a.dtype)
    if by_rows:
        for k in range(depth):
            mm.pack_row(pointer(b), k * n, n, depth, k, panels)
    else:
        b = b.T.copy()
        for j in range(0, np_, vectors.lanes(panels)):
            mm.pack_columns(pointer(b), j * depth, depth, n - j, np_, depth, j, panels)
    source, group, row, step = pointer(a), ROWS * depth, depth, ONE
    if in_groups:
        a = a.T.copy()
        mm.pack_groups(pointer(a), ZERO, m, m, depth, groups)
        source, group, row, step = groups, ROWS * depth, ONE, mm.ROWS + ZERO
    s_row, s_column = (ZERO, ZERO) if repeat else (s.shape[1], ONE)
    if by_rows:
        mm.matmul(
            pointer(c), ZERO, n, pointer(s), ZERO, s_row, s_column, source, ZERO, group, row, step, panels, m, n, depth
        )
    else:  # whole vectors, as a recurrence has them
        mm.matmul(
            pointer(wide), ZERO, np_, pointer(s), ZERO, s_row, s_column, source, ZERO, group, row, step, panels, m, np_,
            depth,
        )  # fmt: skip
        c[:, :] = wide[:, :n]
    vectors.keep(room)
    vectors.keep(packed)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    m=st.integers(1, 20),
    n=st.integers(1, 150),
    depth=st.integers(0, 300),
    by_rows=st.booleans(),
    in_groups=st.booleans(),
    repeat=st.booleans(),
    dtype=st.sampled_from(DTYPES),
)
def test_the_product_is_numpy_s(m, n, depth, by_rows, in_groups, repeat, dtype):
    rng = np.random.default_rng([m, n, depth])
    a, b = rng.standard_normal((m, depth)).astype(dtype), rng.standard_normal((depth, n)).astype(dtype)
    width = n + 16  # S is read in whole vectors
    s = np.zeros((1, 64), dtype) if repeat else rng.standard_normal((m, width)).astype(dtype)
    c = np.full((m, n), np.nan, dtype)
    _product(c, s, a, b, by_rows, in_groups, repeat)
    want = (0 if repeat else s[:, :n].astype(float)) + a.astype(float) @ b.astype(float)
    terms = np.abs(a).astype(float) @ np.abs(b).astype(float) + 10
    assert np.abs(c - want).max() <= 20 * np.finfo(dtype).eps * terms.max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_row(dtype, value):
    a, b = np.ones((9, 40), dtype), np.ones((40, 21), dtype)
    a[7, 3] = value
    c = np.zeros((9, 21), dtype)
    _product(c, np.zeros((1, 64), dtype), a, b, True, False, True)
    assert not np.isfinite(c[7]).any()
    assert (np.delete(c, 7, 0) == 40).all()


@jit
def _move(source, to, at, count):
    store_first(pointer(to), at, count, load_first(pointer(source), at, count))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 16, 40])
def test_a_part_of_a_vector_touches_nothing_beyond(dtype, count):
    lanes = vectors.VECTOR_BYTES // np.dtype(dtype).itemsize
    source, to = np.arange(1, 101, dtype=dtype), np.zeros(100, dtype)
    _move(source, to, 7, count)
    moved = min(count, lanes)
    assert (to[7 : 7 + moved] == source[7 : 7 + moved]).all()
    assert not to[:7].any() and not to[7 + moved :].any()


# What another CPU would do, in a process that is told it has no more features than that one. A process compiles
# everything anew, so each of them checks many sizes.
ELSEWHERE = """
import itertools, json, sys
import numpy as np
import lstm_numba as ln
import naive
from cases import make_case, put, random_parameters
from lstm_numba.engine import vectors

dtype, vectors.VECTORS = np.dtype(sys.argv[1]), int(sys.argv[2])
from lstm_numba.engine import matmul  # takes the size of its tile from there

worst = {}
SHAPES = [(5, 7, 13, 37), (4, 3, 1, 16), (3, 1, 5, 3), (6, 13, 40, 70)]
for (T, B, I, H), reverse in itertools.product(SHAPES, [False, True]):
    layer = ln.LSTM(I, H, dtype=dtype, reverse=reverse)
    weights = put(layer, random_parameters(I, H, 0, recurrent=0.5))
    rng = np.random.default_rng(H)
    x, dh = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, H))
    lengths = rng.integers(1, T + 1, B)
    x, dh = x.astype(dtype), dh.astype(dtype)
    trace = layer.forward(x, lengths=lengths)
    gradients = layer.backward(trace, dh)
    options = {"reverse": reverse, "lengths": lengths}
    forward = naive.fast_lstm_forward(weights, x.astype(float), **options)
    backward = naive.fast_lstm_backward(weights, x.astype(float), forward, dh.astype(float), **options)
    found = {"h": (trace.h, forward["h"]), "x": (gradients.x, backward["x"])}
    found |= {name: (gradients[name], backward[name]) for name in ("U", "W", "V", "b")}
    for name, (ours, theirs) in found.items():
        worst[name] = max(worst.get(name, 0), float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
print(json.dumps({"tile": [matmul.VECTOR_BYTES, matmul.VECTORS], "worst": worst}))
"""
CPUS = {
    "AVX2": ("haswell", "float32", [32, 2]),
    "SSE2": ("x86-64", "float64", [16, 2]),
    "four short vectors a row, as with NEON": ("x86-64", "float32", [16, 4]),
}


@pytest.mark.slow
@pytest.mark.parametrize("cpu", CPUS)
def test_every_cpu_s_tile_gives_the_same_numbers(cpu, tmp_path):
    if os.uname().machine != "x86_64":
        pytest.skip("holds back features of an x86-64 CPU")
    name, dtype, tile = CPUS[cpu]
    variables = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, dtype, str(tile[1])],
        env=os.environ | variables | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tile"] == tile
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert {name: error for name, error in found["worst"].items() if not error <= tolerance} == {}
