"""Other processors than this one: which tile is chosen for them, and what LLVM makes of the code."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from llvmlite import binding, ir
from numba import types
from numba.core import config
from numba.core.typing import signature

from lstm_numba.engine import matmul, tasks, vectors
from lstm_numba.engine.vectors import choose_tile

LINUX, WINDOWS, APPLE_X86 = "x86_64-unknown-linux-gnu", "x86_64-pc-windows-msvc", "x86_64-apple-darwin23.0.0"
ARM, APPLE = "aarch64-unknown-linux-gnu", "arm64-apple-darwin23.0.0"

# The triple, CPU and features that LLVM is given; the tile; whether a product and a sum are one instruction.
TARGETS = {
    "SSE": ((LINUX, "generic", ""), (16, 2), False),
    "SSE, features alone": ((WINDOWS, "", "+sse4.2"), (16, 2), False),
    "AVX": ((LINUX, "sandybridge", ""), (16, 2), False),
    "AVX and AVX2, not fused": ((LINUX, "haswell", "-fma"), (16, 2), False),
    "AVX2": ((LINUX, "haswell", ""), (32, 2), True),
    "AVX2, AMD, on Windows": ((WINDOWS, "znver3", ""), (32, 2), True),
    "AVX2, features alone": ((LINUX, "generic", "+avx2,+fma"), (32, 2), True),
    "AVX-512 held back": ((LINUX, "skylake-avx512", "-avx512f"), (32, 2), True),
    "AVX-512": ((LINUX, "skylake-avx512", ""), (64, 4), True),
    "AVX-512, a CPU's own features come on top": ((LINUX, "znver5", "+avx2"), (64, 4), True),
    "AVX-512, features of the host on top": ((APPLE_X86, "haswell", "+avx512f"), (64, 4), True),
    "NEON": ((ARM, "neoverse-n1", ""), (16, 4), True),
    "NEON, nothing known": ((ARM, "generic", ""), (16, 4), True),
    "NEON, Apple": ((APPLE, "apple-m1", ""), (16, 4), True),
    "NEON, Apple, nothing known": ((APPLE, "", ""), (16, 4), True),
}
each_target = pytest.mark.parametrize(("target", "tile", "fused"), TARGETS.values(), ids=TARGETS)


@pytest.fixture(scope="module", autouse=True)
def all_targets():
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()


def target_of(triple: str) -> binding.Target:
    try:
        return binding.Target.from_triple(triple)
    except RuntimeError as error:
        pytest.skip(f"this LLVM has no such target: {error}")


def assembly(module: ir.Module, target: tuple[str, str, str]) -> str:
    """Optimise a module for a target as Numba does, and return its assembly."""
    triple, cpu, features = target
    machine = target_of(triple).create_target_machine(cpu=cpu, features=features, opt=3)
    module.triple, module.data_layout = triple, str(machine.target_data)
    parsed = binding.parse_assembly(str(module))
    options = binding.create_pipeline_tuning_options(speed_level=3)
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


def function(name: str, result: ir.Type, *arguments: ir.Type) -> tuple[ir.Function, ir.IRBuilder]:
    made = ir.Function(ir.Module(), ir.FunctionType(result, arguments), name)
    return made, ir.IRBuilder(made.append_basic_block())


# --------------------------------------------------------------------------------------------------------- the tile


@each_target
def test_the_tile_is_that_of_the_code_that_llvm_makes(target, tile, fused):
    target_of(target[0])
    assert choose_tile(*target) == tile


def test_a_processor_that_nobody_knows_has_the_smallest_tile():
    assert choose_tile("riscv64-unknown-linux-gnu", "", "") == (16, 2)


SKYLAKE = {name: True for name in ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vl")}
NEHALEM = {"sse4.2": True, "avx": False, "avx2": False, "fma": False, "avx512f": False}
UNFUSED = {"sse4.2": True, "avx": True, "avx2": True, "fma": False, "avx512f": True}


@pytest.mark.parametrize(
    ("settings", "cpu", "host", "tile"),
    [
        ({}, "skylake-avx512", SKYLAKE, (64, 4)),
        ({}, "nehalem", NEHALEM, (16, 2)),
        # Numba switches off only what begins with "avx"; LLVM switches AVX on again for FMA.
        ({"ENABLE_AVX": 0}, "skylake-avx512", SKYLAKE, (32, 2)),
        ({"ENABLE_AVX": 0}, "x86-64", UNFUSED, (16, 2)),
        # A CPU's name leaves the features of the host in force, other than "generic".
        ({"CPU_NAME": "haswell"}, "skylake-avx512", SKYLAKE, (64, 4)),
        ({"CPU_NAME": "haswell", "CPU_FEATURES": ""}, "skylake-avx512", SKYLAKE, (32, 2)),
        ({"CPU_NAME": "skylake-avx512", "CPU_FEATURES": ""}, "nehalem", NEHALEM, (64, 4)),
        ({"CPU_NAME": "generic", "CPU_FEATURES": ""}, "skylake-avx512", SKYLAKE, (16, 2)),
        ({"CPU_FEATURES": "-avx512f"}, "skylake-avx512", SKYLAKE, (32, 2)),
    ],
)
def test_the_tile_follows_numba_s_settings(monkeypatch, settings, cpu, host, tile):
    target_of(LINUX)
    monkeypatch.setattr(binding, "get_process_triple", lambda: LINUX)
    monkeypatch.setattr(binding, "get_host_cpu_name", lambda: cpu)
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: binding.FeatureMap(host))
    for name, value in {"ENABLE_AVX": 1, "CPU_NAME": None, "CPU_FEATURES": None, **settings}.items():
        monkeypatch.setattr(config, name, value)
    assert choose_tile(*vectors._target()) == tile


def test_apple_s_processors_have_neon_though_llvm_reports_no_features(monkeypatch):
    def fail():
        raise RuntimeError("failed to get host cpu features")

    monkeypatch.setattr(binding, "get_process_triple", lambda: APPLE)
    monkeypatch.setattr(binding, "get_host_cpu_features", fail)
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    assert choose_tile(*vectors._target()) == (16, 4)


def inner_loop(code: str) -> list[str]:
    """Return the instructions of the longest loop that holds no other: from a label to the jump back to it."""
    lines = [line.strip() for line in code.splitlines()]
    labels = {line.split(":")[0]: number for number, line in enumerate(lines) if re.match(r"[.\w$]+:", line)}
    loops = []
    for number, line in enumerate(lines):
        start = labels.get(line.split()[-1].lstrip("#")) if line else None
        if start is not None and start < number:
            loops.append(lines[start:number])
    return max(loops, key=len)


def tile_s_loop(monkeypatch, target, tile) -> list[str]:
    """Return the instructions of a full tile's loop over the depth."""
    monkeypatch.setattr(vectors, "VECTOR_BYTES", tile[0])
    monkeypatch.setattr(matmul, "VECTORS", tile[1])
    kinds = [types.CPointer(types.float32)] * 4 + [types.intp] * 10
    _, emit = matmul._make_tile(matmul.ROWS, tile[1])._defn(None, *kinds)
    made, builder = function("tile", ir.VoidType(), *[ir.FloatType().as_pointer()] * 4, *[ir.IntType(64)] * 10)
    emit(SimpleNamespace(get_dummy_value=lambda: None), builder, signature(types.void, *kinds), made.args)
    builder.ret_void()
    return inner_loop(assembly(made.module, target))


def on_the_stack(loop: list[str]) -> list[str]:
    return [line for line in loop if re.search(r"\((%rsp|%rbp)\)|\[(sp|x29)|Spill|Reload", line)]


@each_target
def test_the_sums_of_a_tile_stay_in_registers(monkeypatch, target, tile, fused):
    loop = tile_s_loop(monkeypatch, target, tile)
    both = sum(bool(re.match(r"vfmadd\w+ps\b|fmla\b", line)) for line in loop)
    adds = sum(bool(re.match(r"v?addps\b|fadd\b", line)) for line in loop)
    steps, rest = divmod(both if fused else adds, matmul.ROWS * tile[1])  # LLVM may take two steps at a time
    assert (steps in (1, 2), rest, adds if fused else both) == (True, 0, 0)
    assert on_the_stack(loop) == []


@pytest.mark.parametrize("name", ["SSE", "AVX2", "AVX-512", "NEON", "NEON, Apple"])
def test_those_of_a_tile_one_register_wider_would_not(monkeypatch, name):
    target, (size, number), _ = TARGETS[name]
    assert on_the_stack(tile_s_loop(monkeypatch, target, (size, number + 1)))


# ---------------------------------------------------------------------------------------------------------- waiting


@pytest.mark.parametrize(("triple", "instruction"), [(LINUX, "pause"), (ARM, "isb"), (APPLE, "isb")])
def test_a_pause_is_an_instruction(triple, instruction):
    made, builder = function("wait", ir.VoidType())
    tasks.emit_pause(builder, triple)
    builder.ret_void()
    assert re.search(rf"^\s*{instruction}$", assembly(made.module, (triple, "", "")), re.MULTILINE)


@pytest.mark.parametrize(
    ("triple", "instructions"), [(LINUX, ["rdtsc"]), (ARM, ["CNTVCT_EL0", "CNTFRQ_EL0"]), (APPLE, ["CNTVCT_EL0"])]
)
def test_patience_is_measured_by_the_processor_s_clock(triple, instructions):
    number = ir.IntType(64)
    made, builder = function("clock", number)
    now, millisecond = tasks.emit_clock(builder, triple)
    builder.ret(builder.add(now, millisecond))
    code = assembly(made.module, (triple, "", ""))
    assert [name for name in instructions if name not in code] == []


def test_a_helper_s_patience_is_about_a_millisecond():
    mailbox = np.zeros(2, np.int64)
    took = []
    for _ in range(20):
        start = time.perf_counter()
        tasks.await_call(mailbox.ctypes.data, 0, tasks.PATIENCE)
        took.append(time.perf_counter() - start)
    assert 0.4e-3 < min(took) < 2.6e-3  # x86's clock may run at 1 to 6 GHz
