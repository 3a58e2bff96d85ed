"""Word accuracy on the news queries: each recipe over seeded splits, mean and standard deviation.

    python benchmarks/accuracy.py [--recipes queries windows 2015] [--splits 5] [--threads 2] [--json FILE]

The test part of a split (the last fifth of the shuffled queries) is looked at once, after training; nothing is chosen
by it.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

import lstm_numba as ln
from lstm_numba.data import load_news, load_news_vectors, split
from lstm_numba.models import presets


def run(name: str, seed: int, **changes: object) -> dict[str, float]:
    """Train one recipe on one split; return accuracies in per cent and seconds."""
    train, test = split(load_news(), 0.8, seed=seed)
    tagger, options = presets.make(name, load_news_vectors(), seed=seed)
    begin = time.perf_counter()
    tagger.fit(train, **options, **changes)
    seconds = time.perf_counter() - begin
    return {"train": 100 * tagger.score(train), "test": 100 * tagger.score(test), "seconds": seconds}


def main() -> None:
    """Print a table; write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=list(presets.RECIPES), choices=list(presets.RECIPES))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--threads", type=int, default=ln.get_num_threads())
    parser.add_argument("--json")
    arguments = parser.parse_args()
    ln.set_num_threads(arguments.threads)
    table = {}
    for name in arguments.recipes:
        rows = []
        for seed in range(arguments.splits):
            rows.append(run(name, seed))
            print(f"{name:8} split {seed}: train {rows[-1]['train']:6.2f}  test {rows[-1]['test']:6.2f}  "
                  f"{rows[-1]['seconds']:6.1f} s", flush=True)  # fmt: skip
        tests = [row["test"] for row in rows]
        deviation = np.std(tests, ddof=1) if len(tests) > 1 else float("nan")
        slowest = max(row["seconds"] for row in rows)
        print(f"{name:8} test {np.mean(tests):.2f} ± {deviation:.2f} %, {len(rows)} splits, up to {slowest:.0f} s each")
        table[name] = {"mean": float(np.mean(tests)), "deviation": float(deviation), "splits": rows}
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
