"""Put the benchmark's numbers into the documents: one processor's beside the other's, for each file in results/.

    python benchmarks/bench.py --json benchmarks/results/amd-epyc.json
    python benchmarks/report.py

writes the tables between the marks of README.md, docs/how-fast.md and RESULTS.md, and draws figures/benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bench
import timing
from startup import ROOT
from timing import Table, geometric_mean, significant

RESULTS = ROOT / "benchmarks" / "results"
FIGURE = ROOT / "figures" / "benchmark"
README_ROWS = [("layers", "torch.nn.LSTM"), ("layers", "JAX"), ("outputs", "ONNX Runtime")]
COMPARED = [
    (name, peer)
    for name, section in bench.SECTIONS.items()
    if isinstance(section, bench.Comparison)
    for peer in section.peers
]
NOTHING = "Not measured yet."
Result = dict[str, Any]  # what `bench` writes as JSON


def load(folder: Path = RESULTS) -> list[Result]:
    """Return every result, in the order of the files' names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def columns(results: Iterable[Result]) -> dict[str, dict[str, Any]]:
    """Return the sections' numbers by processor and number of threads, such as "AMD EPYC, 2 threads"."""
    return {
        f"{result['machine']['cpu']}, {bench.counted(threads)}": data
        for result in results
        for threads, data in result["threads"].items()
    }


def summary(results: Iterable[Result], compared: Iterable[tuple[str, str]]) -> Table:
    """Return each peer's time / ours over the shapes, a column for each processor and number of threads."""
    measured = columns(results)
    rows: list[list[object]] = []
    for name, peer in compared:
        section = bench.SECTIONS[name]
        assert isinstance(section, bench.Comparison)
        title = section.title if section.dtype == "float32" else f"{section.title}, {section.dtype}"
        found = [bench.ratios(data.get(name, []), peer) for data in measured.values()]
        if any(found):
            rows.append([f"{title}: {peer}", *(spread(ratios) if ratios else None for ratios in found)])
    return Table("Their time / ours: geometric mean (least to most)", ["", *measured], rows)


def spread(ratios: list[float]) -> str:
    """Return "mean (least to most)"."""
    mean, least, most = (significant(value(ratios), 2) for value in (geometric_mean, min, max))
    return f"{mean} ({least} to {most})"


def in_markdown(table: Table) -> str:
    """Return a caption and a table."""
    return f"{table.caption}:\n\n{timing.markdown(table.header, table.rows)}"


def every_table(result: Result) -> str:
    """Return all tables of one processor, below a heading."""
    machine = result["machine"]
    parts = [f"## {machine['cpu']}", f"{timing.described(machine)}. {timing.busy(machine)}".strip()]
    for threads, data in result["threads"].items():
        parts.append(f"### {machine['cpu']}, {bench.counted(threads)}")
        parts += [in_markdown(bench.SECTIONS[name].table(data[name])) for name in bench.SECTIONS if data.get(name)]
        if threads != "1" and "layers" in data and "1" in result["threads"]:
            parts.append(in_markdown(bench.speedup(result["threads"]["1"]["layers"], data["layers"])))
    if "startup" in result:
        parts += [f"### {machine['cpu']}, a new process", in_markdown(bench.startup_table(result["startup"]))]
    return "\n\n".join(parts)


def texts(results: list[Result]) -> dict[str, str]:
    """Return what stands between the marks of each document."""
    if not results:
        return dict.fromkeys(("README.md", "docs/how-fast.md", "benchmarks/RESULTS.md"), NOTHING)
    picture = f"![{alt_text(results)}](../figures/{FIGURE.name}.png)"
    return {
        "README.md": in_markdown(summary(results, README_ROWS)),
        "docs/how-fast.md": f"{picture}\n\n{in_markdown(summary(results, COMPARED))}",
        "benchmarks/RESULTS.md": "\n\n".join(every_table(result) for result in results),
    }


# --------------------------------------------------------------------------- The figure


def beside_torch(results: Iterable[Result]) -> dict[str, dict[tuple[int, ...], float]]:
    """Return ratios of ``torch.nn.LSTM`` by column and shape (T, B, I, H), the least arithmetic first.

    Raises
    ------
    ValueError
        Where nothing was compared.
    """
    found = {}
    for column, data in columns(results).items():
        rows = [row for row in data.get("layers", []) if "torch.nn.LSTM" in row["ms"]]
        rows.sort(key=lambda row: bench.flops(row["shape"]))
        if rows:
            found[column] = {tuple(row["shape"]): bench.ratio(row, "torch.nn.LSTM") for row in rows}
    if not found:
        raise ValueError("results: expected times of layers beside torch, got none; is torch installed?")
    return found


def alt_text(results: list[Result]) -> str:
    """Return what the figure shows, in words."""
    sentences = []
    for column, ratios in beside_torch(results).items():
        values = list(ratios.values())
        least, mean, most = (significant(value(values), 2) for value in (min, geometric_mean, max))
        sentences.append(
            f"On {column}, the ratio runs from {least} to {most}, geometric mean {mean}; it is above 1 on "
            f"{sum(value > 1 for value in values)} of {len(values)} shapes."
        )
    return (
        "Dots on a logarithmic axis, a row for each shape, the least arithmetic at the top: the time of "
        "torch.nn.LSTM divided by that of lstm_numba, forward and backward in float32. " + " ".join(sentences)
    )


def draw(results: list[Result], stem: Path) -> list[Path]:
    """Draw the figure as SVG and PNG, `stem` with their endings; return the files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator

    from lstm_numba import plots

    found = beside_torch(results)
    shapes = list(next(iter(found.values())))
    with plots.style():
        figure, ax = plt.subplots(
            figsize=(plots.WIDTH, 1.8 + 0.25 * len(found) + 0.31 * len(shapes)), layout="constrained"
        )
        for n, ((column, ratios), (colour, marker, _)) in enumerate(zip(found.items(), plots.CURVES, strict=False)):
            label = f"{column}, mean {geometric_mean(ratios.values()):.1f}×"
            x = [ratios[shape] for shape in shapes]
            # A little above and below the row's middle, so that no dot hides another.
            y = [row + 0.6 / len(found) * (n - (len(found) - 1) / 2) for row in range(len(shapes))]
            ax.hlines(y, 1, x, color="#c8c8c8", linewidth=1.4, zorder=1)
            ax.plot(x, y, linestyle="", marker=marker, markersize=6.5, color=colour, label=label, zorder=2)
        ax.axvline(1, color=plots.INK, linewidth=1.8, zorder=1)
        values = [value for ratios in found.values() for value in ratios.values()]
        ax.set_xscale("log")
        low, high = min(0.9, *values), max(1.1, *values)
        ax.set_xlim(low / 1.08, high * 1.08)
        steps = (1, 2, 5) if high / low < 150 else (1,)
        ticks = [step * 10.0**n for n in range(-3, 6) for step in steps]
        ticks = [tick for tick in ticks if low / 1.08 <= tick <= high * 1.08]
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(ticks, [f"{tick:g}×" if tick != 1 else "1×\nequal" for tick in ticks])
        ax.set_yticks(range(len(shapes)), [", ".join(map(str, shape)) for shape in shapes])
        ax.set_ylim(len(shapes) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.set_ylabel("steps, sequences, inputs, units")
        ax.grid(axis="x", color="#e4e4e4", linewidth=0.8)
        ax.set_axisbelow(True)
        title = "The time of torch.nn.LSTM divided by that of lstm_numba"
        figure.suptitle(f"{title}\n(forward + backward, float32)")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center")
        paths = plots.save(figure, stem, alt=alt_text(results), title=title)
        plt.close(figure)
    return paths


def main() -> None:
    """Write the documents and draw the figure."""
    results = load()
    for document, text in texts(results).items():
        timing.put_into(ROOT / document, text)
    print(*(draw(results, FIGURE) if results else [NOTHING]), sep="\n")


if __name__ == "__main__":
    main()
