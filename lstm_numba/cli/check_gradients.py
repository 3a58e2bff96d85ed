"""``lstm-numba gradcheck``: compare gradients with differences."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.cli.chosen_cell import NamedCell, cell_options, check_options, chosen_cell, make_layer, options_of
from lstm_numba.cli.output import print_json
from lstm_numba.cli.parser import CELLS, FAILED, FINE, LAYER, NETWORK, OF_CELLS, UsageError, option
from lstm_numba.instruments.gradient_check import GradcheckResult, gradcheck
from lstm_numba.layers.recurrent import Recurrent
from lstm_numba.models.network import Network
from lstm_numba.models.tagger import Tagger


def run_gradcheck(arguments: Namespace) -> int:
    """Print the tables of gradient checks."""
    results = list(_gradcheck_results(arguments))
    passed = all(result.passed for result in results)
    if arguments.json:
        print_json({"passed": passed, "checks": [result.to_dict() for result in results]})
    else:
        print("\n\n".join(map(str, results)))
    return FINE if passed else FAILED


def _gradcheck_results(arguments: Namespace) -> Iterator[GradcheckResult]:
    seed = _checks.size("seed", arguments.seed, 0)
    if arguments.lengths and (arguments.steps is not None or arguments.batch is not None):
        raise UsageError("--lengths: expected without --steps and --batch")
    for subject, entries in _gradcheck_subjects(arguments, seed):
        result = gradcheck(
            subject,
            _random_input(arguments, subject, seed),
            lengths=arguments.lengths,
            step=arguments.difference,
            tolerance=arguments.tolerance,
            max_entries=arguments.max_entries or entries,
            seed=seed,
        )
        yield result
        if result.note is not None and arguments.cell is not None:
            return  # a network of this cell also begins with states of zeros, so its loss isn't finite


def _random_input(arguments: Namespace, subject: Any, seed: int) -> NDArray | None:
    """Return x of the requested size; None if --lengths decides."""
    if arguments.lengths:
        return None
    T = _checks.size("steps", 4 if arguments.steps is None else arguments.steps)
    B = _checks.size("batch", 3 if arguments.batch is None else arguments.batch)
    rng = np.random.default_rng((seed, 1))
    embedding = getattr(subject, "embedding", None)
    if embedding is not None:
        return rng.integers(0, embedding.n_words, (T, B))
    return rng.uniform(-1, 1, (T, B, subject.input_size))


def _gradcheck_subjects(arguments: Namespace, seed: int) -> Iterator[tuple[Any, int | None]]:
    """Iterate over the chosen layers and networks, each with its default number of entries to compare per array."""
    options = cell_options(arguments, NETWORK)
    if arguments.max_entries is not None and arguments.max_entries < 1:
        raise UsageError(f"--max-entries: expected at least 1, got {arguments.max_entries}")
    every = ("lstm", "rnn", "gru") if arguments.cell is None else (arguments.cell,)
    for kind in (*every, "network") if arguments.what == "all" else (arguments.what,):
        if kind == "network":
            yield _gradcheck_network(arguments, options, seed), None
        elif kind in CELLS or kind.endswith(".py"):
            yield _gradcheck_layer(arguments, kind, options, seed), None
        else:
            yield _model_network(arguments, options), 10


def _model_network(arguments: Namespace, options: Mapping[str, Any]) -> Network:
    if not Path(arguments.what).exists():
        raise UsageError(
            f"WHAT: expected {', '.join(CELLS)}, network, all, a .py file with a cell's equations, or a model file,"
            f" got {arguments.what!r}"
        )
    for name in options:
        raise UsageError(f"{option(name)}: expected only without a model file, which has its own")
    return Tagger.load(arguments.what).network


def _fitting(options: Mapping[str, Any], cell: NamedCell) -> dict[str, Any]:
    """Return those options that a cell has."""
    return {name: value for name, value in options.items() if name not in OF_CELLS or name in options_of(cell)}


def _gradcheck_layer(arguments: Namespace, kind: str, options: Mapping[str, Any], seed: int) -> Recurrent:
    sizes = options.get("hidden_sizes", (4,))
    foreign = [name for name in options if name in NETWORK and name not in (*LAYER, "hidden_sizes")]
    own = {name: value for name, value in options.items() if name not in (*foreign, "hidden_sizes")}
    cell = chosen_cell(kind)
    if arguments.what == "all":  # each option goes to the cells that have it
        own = _fitting(own, cell) if arguments.cell is None else own
    elif foreign:
        raise UsageError(f"{option(foreign[0])}: expected only with a network, got {kind}")
    elif len(sizes) > 1:
        raise UsageError(f"--hidden-sizes: expected one size for a layer, got {len(sizes)}")
    check_options(own, cell, arguments)
    return make_layer(cell, arguments.input_size, sizes[0], own | {"dtype": "float64"}, arguments.reverse, seed)


def _gradcheck_network(arguments: Namespace, options: Mapping[str, Any], seed: int) -> Network:
    cell = chosen_cell(options.get("cell", "lstm"))
    own = _fitting(options, cell) if arguments.what == "all" and arguments.cell is None else dict(options)
    check_options(own, cell, arguments)
    own = {"hidden_sizes": (4,)} | own | {"cell": cell, "dtype": "float64"}
    return Network(arguments.input_size, arguments.classes, seed=seed, **own)
