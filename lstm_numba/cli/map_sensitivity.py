"""``lstm-numba sensitivity``: draw a map of which output depends on which input."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.cli.chosen_cell import cell_options, check_options, chosen_cell, make_layer
from lstm_numba.cli.output import check_folder, print_json
from lstm_numba.cli.parser import FINE, LAYER, UsageError, option
from lstm_numba.instruments.jacobians import sensitivity
from lstm_numba.instruments.report import kind_of
from lstm_numba.models.tagger import Tagger


class Map(NamedTuple):
    """A map to draw: S (T, T), its direction, the words of its steps, and a description."""

    S: NDArray
    direction: str
    words: list[str] | None
    subject: str


def run_sensitivity(arguments: Namespace) -> int:
    """Draw a map of sensitivities."""
    stem, formats = _picture_file(arguments.output)
    drawn = (_map_of_model if arguments.model else _map_of_untrained)(arguments)
    files = _draw_map(arguments, drawn, stem, formats)
    if arguments.json:
        wanted = {"of": arguments.of, "wrt": arguments.wrt, "norm": arguments.norm, "direction": drawn.direction}
        print_json({"files": files, "subject": drawn.subject, **wanted, "words": drawn.words, "S": drawn.S.tolist()})
    else:
        print(f"{drawn.subject}\nwrote {' and '.join(files)}")
    return FINE


def _picture_file(name: str) -> tuple[Path, tuple[str, ...]]:
    """Return the file's name without its suffix, and the formats; raise at once if it can't be written."""
    path = Path(name)
    ending = path.suffix.lower()
    if path.is_dir():
        raise UsageError(f"--output: expected a file, got the folder {path}")
    if ending not in (".svg", ".png", ".pdf", ""):
        raise UsageError(f"--output: expected a name that ends with .svg, .png or .pdf, got {path.name!r}")
    if not path.parent.is_dir():
        raise UsageError(f"--output: there is no folder {path.parent}")
    check_folder(path.parent, "--output")
    return path.with_suffix(""), (ending[1:],) if ending else ("svg", "png")


def _map_of_untrained(arguments: Namespace) -> Map:
    for name in ("words", "layer", "word"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name}: expected only with a MODEL")
    if arguments.direction == "both":
        raise UsageError("--direction: expected forward or backward for a single layer, got both")
    options = cell_options(arguments, LAYER)
    cell = chosen_cell(arguments.cell or "lstm")
    check_options(options, cell, arguments)
    I = 16 if arguments.input_size is None else arguments.input_size
    H = 64 if arguments.hidden is None else arguments.hidden
    seed = _checks.size("seed", arguments.seed, 0)
    direction = arguments.direction or "forward"
    layer = make_layer(cell, I, H, options, direction == "backward", seed)
    x = _random_steps(arguments, I)
    subject = f"an untrained {kind_of(layer)} of {H} units, {len(x)} random steps, seed {seed}"
    return Map(_measure(arguments, [layer], x), direction, None, subject)


def _random_steps(arguments: Namespace, input_size: int) -> NDArray:
    T = _checks.size("T", 30 if arguments.steps is None else arguments.steps)
    return np.random.default_rng((_checks.size("seed", arguments.seed, 0), 1)).standard_normal((T, input_size))


def _map_of_model(arguments: Namespace) -> Map:
    for name in (*LAYER, "cell", "option", "hidden", "input_size"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"{option(name)}: expected only without a MODEL, which has its own")
    if bool(arguments.words) == arguments.random:
        raise UsageError("MODEL: expected with either --words or --random")
    if arguments.words and arguments.steps is not None:
        raise UsageError("--steps: expected only with --random")
    tagger = Tagger.load(arguments.model)
    number, layers, direction = _chosen_layers(arguments, tagger)
    words = None
    if arguments.random:
        x = _random_steps(arguments, layers[0].input_size)
    else:
        words, x = _words_and_input(arguments, tagger, number)
    subject = f"layer {number} of {arguments.model}, {'both directions' if direction == 'both' else direction}"
    return Map(_measure(arguments, layers, x), direction, words, subject)


def _chosen_layers(arguments: Namespace, tagger: Tagger) -> tuple[int, list[Any], str]:
    """Return the layer's number, its layers in the wanted direction, and that direction."""
    number = arguments.layer or 0
    if not 0 <= number < len(tagger.network.layers):
        raise UsageError(f"--layer: expected 0 to {len(tagger.network.layers) - 1}, got {number}")
    layers = tagger.network.layers[number]
    direction = arguments.direction or ("both" if len(layers) == 2 else "forward")
    if direction != "forward" and len(layers) == 1:
        raise UsageError(f"--direction: expected forward, the only one that layer {number} has, got {direction}")
    return number, {"forward": layers[:1], "backward": layers[1:], "both": layers}[direction], direction


def _words_and_input(arguments: Namespace, tagger: Tagger, number: int) -> tuple[list[str], NDArray]:
    """Return a query's words, one for each step, and the layer's input for them (T, I)."""
    words = " ".join(arguments.words).split()
    if not words:
        raise UsageError("--words: expected at least one word, got only spaces")
    x = tagger.trace(words).layers[number][0].x
    if tagger.window is None:
        if arguments.word is not None:
            raise UsageError("--word: expected only with a model that sees windows, got one that sees whole sentences")
        return words, x[:, 0]
    middle = len(words) // 2 if arguments.word is None else arguments.word - 1
    if not 0 <= middle < len(words):
        raise UsageError(f"--word: expected 1 to {len(words)}, got {arguments.word}")
    padding = ["(padding)"] * (tagger.window // 2)
    return (padding + words + padding)[middle : middle + tagger.window], x[:, middle]


def _measure(arguments: Namespace, layers: Sequence[Any], x: NDArray) -> NDArray:
    """Return S (T, T); for both directions that of h = [h_F, h_B], the root of the sum of squares."""
    if len(layers) == 2 and arguments.norm == "spectral":
        raise UsageError("--norm spectral: expected with --direction forward or backward, got both")
    maps = [sensitivity(each, x, of=arguments.of, wrt=arguments.wrt, norm=arguments.norm) for each in layers]
    return np.hypot.reduce(maps)


def _draw_map(arguments: Namespace, drawn: Map, stem: Path, formats: Sequence[str]) -> list[str]:
    from lstm_numba.tutorials.gallery import without_window

    plots = without_window()
    import matplotlib.pyplot as plt

    of, wrt = arguments.of, arguments.wrt
    ax = plots.sensitivity_map(
        drawn.S,
        log=not arguments.linear,
        direction=drawn.direction,
        words=drawn.words,
        title=arguments.title,
        label=rf"$\|\partial {of}^t / \partial {wrt}^s\|$",
    )
    ax.set(xlabel=_axis_name(of, "t"), ylabel=_axis_name(wrt, "s"))
    alt = f"Map of the norms of the derivatives of {of} at step t with respect to {wrt} at step s: {drawn.subject}."
    figure = ax.figure.figure
    try:
        return [str(path) for path in plots.save(figure, stem, alt=alt, formats=formats)]
    finally:
        plt.close(figure)


def _axis_name(symbol: str, time: str) -> str:
    kind = {"x": "input", "h": "output", "c": "cell state"}.get(symbol, "state")
    return f"{kind} ${symbol}^{time}$ at step ${time}$"
