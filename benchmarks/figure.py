"""The figure of docs/how-fast.md: how many times faster than torch.nn.LSTM, by shape, from the numbers of `bench`.

python benchmarks/figure.py build/benchmark.json figures/benchmark
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import timing


def measured(result: dict[str, Any]) -> dict[int, dict[tuple[int, ...], float]]:
    """Ratios of the float32 layers by number of threads and shape (T, B, I, H), the least arithmetic first.

    Raises
    ------
    ValueError
        Where nothing was compared.
    """
    found: dict[int, dict[tuple[int, ...], float]] = {}
    for threads, data in result["threads"].items():
        rows = [row for row in data.get("layers", []) if row["ratio"]]
        rows.sort(key=lambda row: _work(*row["shape"]))
        if rows:
            found[int(threads)] = {tuple(row["shape"]): row["ratio"] for row in rows}
    if not found:
        raise ValueError("result: expected times of layers beside torch, got none; is torch installed?")
    return found


def _work(T: int, B: int, I: int, H: int) -> int:
    return T * B * H * (I + H)


def _counted(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def alt_text(result: dict[str, Any]) -> str:
    """Return what the figure shows, in words."""
    found = measured(result)
    sentences = []
    for threads, ratios in found.items():
        values = list(ratios.values())
        ahead = sum(value > 1 for value in values)
        sentences.append(
            f"With {_counted(threads)} the ratio runs from {min(values):.2g} to {max(values):.2g}, geometric mean "
            f"{timing.geometric_mean(values):.2g}; it is above 1 on {ahead} of {len(values)} shapes."
        )
    return (
        "Dots on a logarithmic axis, a row for each shape, the least arithmetic at the top: the time of "
        "torch.nn.LSTM divided by that of lstm_numba, forward and backward in float32. " + " ".join(sentences)
    )


def draw(result: dict[str, Any], stem: Path) -> list[Path]:
    """Draw the figure as SVG and PNG.

    Parameters
    ----------
    result
        What `bench` writes as JSON.
    stem
        File name without its ending.

    Returns
    -------
    list of Path
        The files.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator

    from lstm_numba import plots

    found = measured(result)
    shapes = list(next(iter(found.values())))
    with plots.style():
        figure, ax = plt.subplots(figsize=(plots.WIDTH, 2.2 + 0.31 * max(6, len(shapes))), layout="constrained")
        for n, ((threads, ratios), (colour, marker, _)) in enumerate(zip(found.items(), plots.CURVES, strict=False)):
            label = f"{_counted(threads)}, mean {timing.geometric_mean(ratios.values()):.1f}×"
            x = [ratios[shape] for shape in shapes]
            # A little above and below the row's middle, so that no dot hides another.
            y = [row + 0.3 * (n - (len(found) - 1) / 2) for row in range(len(shapes))]
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
        ax.set_xticks(ticks, [f"{tick:g}×" if tick != 1 else "1×\nas fast" for tick in ticks])
        ax.set_yticks(range(len(shapes)), [", ".join(map(str, shape)) for shape in shapes])
        ax.set_ylim(len(shapes) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.set_ylabel("steps, sequences, inputs, units")
        ax.grid(axis="x", color="#e4e4e4", linewidth=0.8)
        ax.set_axisbelow(True)
        figure.suptitle("How many times faster than torch.nn.LSTM\n(forward + backward, float32)")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        paths = plots.save(figure, stem, alt=alt_text(result), title="How many times faster than torch.nn.LSTM")
        plt.close(figure)
    return paths


def main(arguments: list[str]) -> None:
    """Draw from a JSON file."""
    source, stem = arguments
    for path in draw(json.loads(Path(source).read_text(encoding="utf-8")), Path(stem)):
        print(path)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python benchmarks/figure.py FILE.json FIGURE")
    main(sys.argv[1:])
