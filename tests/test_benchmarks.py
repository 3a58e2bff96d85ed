"""The benchmarks run, at tiny sizes, and say all they should; the ladder's rungs compute what the engine computes.

Nothing here looks at how long anything takes.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numba
import numpy as np
import pytest

import lstm_numba as ln
from lstm_numba.engine.matmul import VECTOR_BYTES

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # as for a script that is run from there

import bench  # noqa: E402
import fma  # noqa: E402
import ladder  # noqa: E402
import ladder_rungs as rungs  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
import startup  # noqa: E402
import timing  # noqa: E402

TINY = bench.Options(threads=1, seconds=0.0, tiny=True)


@pytest.fixture(autouse=True)
def _same_threads_afterwards():
    before = ln.get_num_threads()
    torch = sys.modules.get("torch")
    theirs = torch and torch.get_num_threads()
    yield
    ln.set_num_threads(before)
    if torch:
        torch.set_num_threads(theirs)


def numbers(data):
    """Every number in nested lists and dicts."""
    if isinstance(data, dict):
        return [n for value in data.values() for n in numbers(value)]
    if isinstance(data, list | tuple):
        return [n for value in data for n in numbers(value)]
    return [data] if isinstance(data, int | float) else []


# How times are taken


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_calls_take_turns_and_each_has_its_median(seconds):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    medians = timing.alternate(calls, seconds)
    assert list(medians) == ["a", "b"] and all(ms >= 0 for ms in medians.values())
    turns = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert turns == ["a", "b"] * (timing.ROUNDS + 1)  # once before the first round
    assert timing.ROUNDS >= 5
    if not seconds:
        assert len(order) == 2 * (timing.ROUNDS + 1)  # a call that fills its block is not repeated


def test_the_geometric_mean_of_factors():
    assert timing.geometric_mean([2, 0.5]) == pytest.approx(1)
    assert timing.geometric_mean(iter([1, 10, 100])) == pytest.approx(10)


@pytest.mark.parametrize(
    ("value", "text"), [(0.0012345, "0.00123"), (1.0, "1.00"), (45.67, "45.7"), (789.4, "789"), (12345.6, "12346"),
                        (0.0, "0.0"), (math.inf, "inf")]
)  # fmt: skip
def test_numbers_with_digits_that_mean_something(value, text):
    assert timing.significant(value) == text


def test_columns_line_up():
    text = timing.table(["what", "ms", "ratio"], [("a", 1.0, None), ("long name", 123.4, "2.5")])
    assert text.splitlines() == ["  what         ms  ratio", "  a          1.00       ", "  long name   123    2.5"]
    assert timing.table(None, [("a", 2.0)]) == "  a  2.00"


def test_the_same_columns_in_markdown():
    text = timing.markdown(["what", "ms"], [("a", 1.0), ("b", None)])
    assert text.splitlines() == ["| what | ms |", "|---|---:|", "| a | 1.00 |", "| b |  |"]


def test_text_goes_between_the_marks_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n" + "\nold\n".join(timing.MARKS) + "\nafter\n")
    for text in ("new", "new"):  # again, over itself
        timing.put_into(page, text)
    assert page.read_text() == f"before\n{timing.MARKS[0]}\nnew\n{timing.MARKS[1]}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="once"):
        timing.put_into(page, "new")


def test_the_machine_is_described():
    machine = timing.machine()
    assert machine["cpu"] and machine["cores"] >= 1 and machine["versions"]["numpy"] == np.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", machine["date"])
    assert machine["cpu"] in timing.described(machine) and f"numpy {np.__version__}" in timing.described(machine)
    assert timing.compiler()["vector bytes"] == VECTOR_BYTES
    json.dumps([machine, timing.compiler()])


@pytest.mark.parametrize(("load", "says"), [(None, False), (0.1, False), (3.0, True)])
def test_a_busy_machine_is_told_of(load, says):
    assert bool(timing.busy({"load": load})) == says


def test_every_library_gets_the_same_number_of_threads():
    environment = timing.pinned(3)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    assert {environment[name] for name in names} == {"3"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_chains_multiply_and_add(dtype, steps):
    x = np.dtype(dtype).type(0.5)
    y = np.arange(fma.CHAINS, dtype=dtype)
    for _ in range(steps):
        y = x * y + x
    assert fma.run(steps, x) == pytest.approx(y.sum(), rel=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_burst_counts_two_operations_for_each_multiply_add(threads):
    call, operations = fma.burst("float32", threads, steps=10)
    call()
    assert operations == 2 * threads * 10 * fma.CHAINS * (VECTOR_BYTES // 4)


# The tables

LIBRARIES = ["torch", "jax", "onnxruntime", "onnx", "torchrecurrent"]


def everything(names):
    """All that a process of its own would report, and what is printed of it."""
    found = json.loads(json.dumps(dict(bench.measure(TINY, names))))
    with contextlib.redirect_stdout(io.StringIO()) as text:
        for name, data in found.items():
            bench.show(name, data, "1 thread, a processor")
    return found, text.getvalue()


@pytest.fixture(scope="module")
def tables():
    return everything(bench.SECTIONS)


def compared(names=bench.SECTIONS):
    return [name for name in names if isinstance(bench.SECTIONS[name], bench.Comparison)]


def test_every_section_measures_and_prints(tables):
    found, text = tables
    assert {"agreement", *bench.SECTIONS} <= found.keys()
    for name in bench.SECTIONS:
        if name != "training" or peers.torch():
            assert numbers(found[name]) and all(math.isfinite(n) and n >= 0 for n in numbers(found[name])), name
            assert f"{bench.SECTIONS[name].table(found[name]).caption}; 1 thread, a processor\n" in text
    for name in compared(["layers", "forward", "outputs", "float64"]):
        assert [tuple(row["shape"]) for row in found[name]] == bench.TINY
        assert all(row["ms"][bench.OURS] > 0 for row in found[name])
    assert [row["cell"] for row in found["cells"][:: len(bench.TINY)]] == list(bench.SECTIONS["cells"].cells)
    assert all(0 < row["share"] < 1 and row["gflops"] > 0 for row in found["layers"]) and "GFLOP/s" in text


def test_with_peers_there_are_ratios(tables):
    for name in LIBRARIES:
        pytest.importorskip(name)
    found, text = tables
    assert found["missing"] == [] and "Not installed" not in text
    assert len(found["agreement"]) == len(report.COMPARED) and max(found["agreement"].values()) < 2e-5
    for name in compared():
        assert all(row["ms"].keys() == {bench.OURS, *bench.SECTIONS[name].peers} for row in found[name])
        for peer in bench.SECTIONS[name].peers:
            assert len(bench.ratios(found[name], peer)) == len(found[name])
    assert found["step"]["ms"]["torch"] > 0
    assert found["sensitivity"]["ms"].keys() == {bench.OURS, "units", "copies"}


def test_without_peers_there_are_our_times_and_a_line_says_so(monkeypatch):
    monkeypatch.setattr(peers, "library", lambda name: None)
    found, text = everything(["layers", "outputs", "training", "step", "sensitivity"])
    assert found["agreement"] == {} and sorted(found["missing"]) == sorted(LIBRARIES)
    assert f"Not installed, so what needs them is left out: {', '.join(found['missing'])}" in text
    for name in ("layers", "outputs"):
        assert all(row["ms"].keys() == {bench.OURS} for row in found[name])
    assert found["training"] == []
    assert found["step"]["ms"].keys() == {bench.RULE_2015, bench.SGD}
    assert found["sensitivity"]["ms"].keys() == {bench.OURS}
    with pytest.raises(ValueError, match="is torch installed"):
        report.beside_torch([{"machine": {"cpu": "a"}, "threads": {"1": found}}])


@pytest.mark.parametrize("section", compared())
def test_nothing_is_timed_where_a_peer_computes_something_else(section, monkeypatch):
    for name in LIBRARIES:
        pytest.importorskip(name)
    monkeypatch.setattr(peers, "disagreement", lambda ours, theirs: math.nan)
    with pytest.raises(RuntimeError, match="differ by nan"):
        bench.SECTIONS[section].agreement()


def test_a_training_step_moves_the_weights():
    pytest.importorskip("torch")
    layer = ln.LSTM(5, 6, seed=0)
    before = ln.torch_state_dict(layer)
    after = peers.OurTraining(layer, *bench.arrays((4, 3, 5, 6))).results()
    assert after.keys() == before.keys() - {"peephole_l0"}
    assert all(np.abs(after[name] - before[name]).max() > 1e-7 for name in after)


def test_the_difference_is_the_largest_of_what_both_have():
    ours, theirs = {"h": np.array([4.0, 2.0]), "V": np.ones(1)}, {"h": np.array([4.0, 1.0]), "x": np.ones(1)}
    assert peers.disagreement(ours, theirs) == 0.25


def test_several_threads_are_set_beside_one():
    def rows(*times):
        return [{"shape": (9, n, 1, 1), "ms": {bench.OURS: ms, "JAX": 3.0}} for n, ms in enumerate(times)]

    table = bench.speedup(rows(8.0, 8.0), rows(4.0, 1.0))
    assert table.header == ["T, B, I, H", bench.OURS, "JAX"]
    assert table.rows == [
        ["9, 0, 1, 1", "2.00", "1.00"],
        ["9, 1, 1, 1", "8.00", "1.00"],
        ["geometric mean", "4.00", "1.00"],
    ]


def test_the_shapes_have_odd_ones_among_them():
    assert len(set(bench.SHAPES)) == 12 and all(H % 16 == 0 for *_, H in bench.SHAPES)
    assert {H for *_, H in bench.ODD_SHAPES} >= {37, 100, 200} and {B for _, B, _, _ in bench.ODD_SHAPES} >= {3, 7}
    assert {I for _, _, I, _ in bench.ODD_SHAPES} >= {1, 13}


def test_a_new_process_is_timed_and_loads_no_plotting_library():
    found = startup.measure(repetitions=1, compile_anew=False)
    assert next(iter(found["seconds"])) == "import lstm_numba" and len(found["seconds"]) == 5
    assert all(anew is None and cached > 0 for anew, cached in found["seconds"].values())
    assert found["plotting"] == []
    table = bench.startup_table(found)
    assert table.caption.endswith("plotting libraries imported: none") and len(table.rows) == 5


def png_text(path):
    """The iTXt and tEXt chunks of a PNG, as one text."""
    data, at, words = path.read_bytes(), 8, ""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind in (b"iTXt", b"tEXt"):
            words += body.decode("utf-8", "replace")
        elif kind == b"zTXt":
            words += zlib.decompress(body.split(b"\0", 1)[1][1:]).decode("latin-1")
        at += 12 + length
    return words


@pytest.mark.slow
def test_the_command_writes_tables_and_json(tmp_path):
    pytest.importorskip("torch")
    command = [sys.executable, str(BENCHMARKS / "bench.py"), "--tiny", "--seconds", "0", "--threads", "1,2"]
    command += ["--only", "layers,step", "--json", str(tmp_path / "b.json")]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}  # don't spin: here other tests may want the cores
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads((tmp_path / "b.json").read_text())
    assert list(result["threads"]) == ["1", "2"]
    assert {"cpu", "cores", "versions", "date", "compiler", "missing"} <= result["machine"].keys()
    for data in result["threads"].values():
        assert {"layers", "step", "agreement"} <= data.keys()
    cpu = result["machine"]["cpu"]
    for words in (f"1 thread, {cpu}", f"2 threads, {cpu}", "One thread's time"):
        assert words in done.stdout


# The documents


def result(cpu, *ratios_by_threads):
    """What the benchmark would write for three shapes."""
    shapes = [[100, 32, 256, 256], [50, 1, 8, 16], [100, 3, 13, 37]]

    def rows(ratios):
        return [
            {
                "cell": "lstm",
                "shape": shape,
                "gflops": 9.0,
                "share": 0.1,
                "ms": {bench.OURS: 2.0, "torch.nn.LSTM": 2 * ratio},
            }
            for shape, ratio in zip(shapes, ratios, strict=True)
        ]

    threads = {str(n): {"layers": rows(ratios)} for n, ratios in enumerate(ratios_by_threads, 1)}
    return {"machine": timing.machine() | {"cpu": cpu, "load": 0.0}, "threads": threads}


TWO = [result("One", (0.5, 8.0, 2.0), (1.5, 6.0, 3.0)), result("Other", (1.0, 1.0, 1.0))]


def test_the_figure_says_in_words_what_it_shows(tmp_path):
    alt = report.alt_text(TWO)
    assert alt == (
        "Dots on a logarithmic axis, a row for each shape, the least arithmetic at the top: the time of torch.nn.LSTM "
        "divided by that of lstm_numba, forward and backward in float32. "
        "On One, 1 thread, the ratio runs from 0.50 to 8.0, geometric mean 2.0; it is above 1 on 2 of 3 shapes. "
        "On One, 2 threads, the ratio runs from 1.5 to 6.0, geometric mean 3.0; it is above 1 on 3 of 3 shapes. "
        "On Other, 1 thread, the ratio runs from 1.0 to 1.0, geometric mean 1.0; it is above 1 on 0 of 3 shapes."
    )
    assert list(report.beside_torch(TWO)["One, 2 threads"]) == [(50, 1, 8, 16), (100, 3, 13, 37), (100, 32, 256, 256)]
    svg, png = sorted(report.draw(TWO, tmp_path / "b"), key=lambda path: path.suffix, reverse=True)
    assert f"<desc>{alt}</desc>" in svg.read_text(encoding="utf-8")
    assert alt in png_text(png)


def test_processors_stand_side_by_side():
    table = report.summary(TWO, report.COMPARED)
    assert table.header == ["", "One, 1 thread", "One, 2 threads", "Other, 1 thread"]
    assert table.rows == [
        ["Forward + backward: torch.nn.LSTM", "2.0 (0.50 to 8.0)", "3.0 (1.5 to 6.0)", "1.0 (1.0 to 1.0)"]
    ]
    text = report.texts(TWO)["benchmarks/RESULTS.md"]
    assert text.count("\n| 50, 1, 8, 16 | 2.00 | ") == 3 and text.count("One thread's time") == 1
    assert text.index("## One\n") < text.index("### One, 2 threads") < text.index("## Other\n")


def test_the_documents_quote_the_stored_results():
    results = report.load()
    for document, text in report.texts(results).items():
        assert f"{timing.MARKS[0]}\n{text}\n{timing.MARKS[1]}\n" in (ROOT / document).read_text(encoding="utf-8")
    for name, peer in (*report.README_ROWS, *report.COMPARED):
        assert peer in bench.SECTIONS[name].peers


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "layers,nothing"], "got nothing"),
        (["--threads", "0"], "at least 1"),
        (["--threads", "one"], "numbers such as 1,2"),
    ],
)
def test_options_that_make_no_sense(arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.parse(arguments)
    assert ended.value.code == 2 and says in capsys.readouterr().err


# The ladder


def given(shape):
    arrays = ladder.inputs(shape)
    arrays["V"] += np.float32(0.5)  # peepholes that matter
    return arrays, arrays.pop("dh")


LADDER_SHAPES = [(6, 7, 5, 32), (4, 1, 33, 64), (1, 8, 1, 32)]  # tiles of four rows, and what is left over


@pytest.mark.parametrize("shape", LADDER_SHAPES)
@pytest.mark.parametrize("rung", rungs.FORWARD[:-1], ids=lambda rung: rung.__name__)
def test_a_rung_computes_what_the_engine_computes(rung, shape):
    arrays, _ = given(shape)
    before = {name: array.copy() for name, array in arrays.items()}
    expected = rungs.engine(**arrays)
    np.testing.assert_allclose(rung(**arrays), expected, rtol=0, atol=3e-6)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("shape", LADDER_SHAPES)
@pytest.mark.parametrize("way_back", [*rungs.GRADIENTS.values()][:-1], ids=lambda rung: rung.__name__)
def test_a_rung_goes_back_as_the_engine_does(way_back, shape):
    arrays, dh = given(shape)
    expected, found = rungs.engine_gradients(**arrays, dh=dh), way_back(**arrays, dh=dh)
    assert found.keys() == expected.keys() == {"x", "U", "W", "V", "b"}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5 * max(1, np.abs(value).max()), err_msg=name)


def test_the_fraction_is_tanh():
    x = np.concatenate([np.linspace(-12, 12, 4001), [np.inf, -np.inf, 0]]).astype(np.float32)
    found = np.array([rungs.rational_tanh(each) for each in x])
    assert {signature.return_type for signature in rungs.rational_tanh.nopython_signatures} == {numba.float32}
    np.testing.assert_allclose(found, np.tanh(x.astype(float)), rtol=0, atol=1e-6)


def test_tiles_want_whole_panels():
    with pytest.raises(ValueError, match="expected a multiple of"):
        rungs.numba_tiles(**given((2, 1, 3, 37))[0])


def test_the_ladder_is_measured_and_written():
    threads = ln.get_num_threads()
    result = ladder.measure(ladder.TINY, seconds=0.0, threads=2)
    assert ln.get_num_threads() == threads
    assert [rung["name"] for rung in result["rungs"]] == list(ladder.RUNGS)
    assert all(rung["forward"] > 0 and rung["share"] > 0 for rung in result["rungs"])
    assert {rung["name"] for rung in result["rungs"] if rung["gradients"]} == {
        "plain_python", "numpy_stacked", "numba_loops", "engine", "threads"
    }  # fmt: skip
    text = ladder.markdown(result, timing.machine())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(ladder.RUNGS) and {row.count("|") for row in rows} == {7}
    assert len(ladder.measure(ladder.TINY, seconds=0.0, threads=1)["rungs"]) == len(ladder.RUNGS) - 1


def test_the_page_shows_code_that_is_there_and_a_table():
    page = (BENCHMARKS / "LADDER.md").read_text(encoding="utf-8")
    source = (BENCHMARKS / "ladder_rungs.py").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= len(rungs.FORWARD)
    for block in blocks:
        assert block in source, block
    for name, _ in ladder.RUNGS.values():
        assert f"| {name.format(2)} |" in page
    for target in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (BENCHMARKS / target).exists(), target
