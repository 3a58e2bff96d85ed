"""``lstm-numba look``: draw the gates, states and sensitivities of a stored recurrent layer."""

from __future__ import annotations

import re
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

from lstm_numba.cli.output import Talk, made_folder, print_json
from lstm_numba.cli.parser import FINE, UsageError, complain

PICTURES = (".svg", ".png", ".pdf")


def run_look(arguments: Namespace) -> int:
    """Draw what a stored layer does with a series, and describe each figure."""
    import matplotlib.pyplot as plt

    from lstm_numba.instruments import report
    from lstm_numba.tutorials.gallery import without_window

    plots = without_window()
    model = _opened(arguments)
    series = _series(arguments)
    _check_width(arguments, model.input_size, series)
    options = {name: getattr(arguments, name) for name in ("layer", "direction", "sequence", "steps", "units")}
    chosen = report.choose(model, series.x, **options)
    folder = _folder(arguments.out)
    formats = ("svg", "png") if arguments.format == "both" else (arguments.format,)
    say = Talk(arguments)
    for line in report.introduction(model, chosen, arguments.weights, arguments.input):
        say.line(line)
    result: dict[str, Any] = {"weights": arguments.weights, "input": arguments.input, **report.description(chosen)}
    result["figures"] = []
    for picture in report.pictures(chosen, series.columns):
        try:
            files = plots.save(picture.figure, folder / picture.name, alt=picture.alt, formats=formats)
        finally:
            plt.close(picture.figure)
        say.line(f"{files[-1]}: {picture.reading}")
        names = [str(path) for path in files]
        result["figures"].append(
            {"name": picture.name, "files": names, "reading": picture.reading, "numbers": picture.numbers}
        )
    if arguments.json:
        print_json(result)
    return FINE


def _folder(name: str) -> Path:
    """The folder for the figures, made if need be; several figures don't go into one file."""
    ending = Path(name).suffix.lower()
    if ending in PICTURES and not Path(name).is_dir():
        raise UsageError(
            f"--out: expected a folder for several figures, got the name of one picture, {name};"
            f" --out {Path(name).stem} --format {ending[1:]} writes each figure there as {ending[1:].upper()}"
        )
    return made_folder(name, "--out")


def _opened(arguments: Namespace) -> Any:
    """Return the model in the file; warnings about it become notes."""
    from lstm_numba.exchange import open_weights

    names = arguments.name or [None]
    options = {"name": names[0] if len(names) == 1 else names, "nonlinearity": arguments.nonlinearity}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model = open_weights(arguments.weights, **options)
    except ImportError as error:  # an optional library is missing; the message says what to install
        raise UsageError(str(error)) from None
    except ValueError as error:
        raise UsageError(re.sub(r"(^|: )(name|nonlinearity): ", r"\1--\2: ", str(error))) from error
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            complain(f"note: {' '.join(str(warning.message).split())}")
    return model


def _series(arguments: Namespace) -> Any:
    """Return the series in the file; if other columns would fit, the error names the option that chooses them."""
    from lstm_numba.data import DataError, read_series

    try:
        return read_series(arguments.input, arguments.columns)
    except DataError as error:
        raise UsageError(re.sub("columns=$", "--columns", str(error))) from error


def _check_width(arguments: Namespace, input_size: int, series: Any) -> None:
    found = series.x.shape[2]
    if found == input_size:
        return
    names = "" if series.columns is None else f" ({', '.join(series.columns)})"
    if _is_tagger(arguments.weights):
        raise UsageError(
            f"WEIGHTS: {arguments.weights} is a tagger, whose steps are words: lstm-numba sensitivity"
            f" {arguments.weights} --words show me the news -o map.svg draws which output feels which word"
        )
    raise UsageError(
        f"--input: expected {input_size} number{'s' * (input_size > 1)} per step, as in the model, got {found}{names};"
        " --columns chooses"
    )


def _is_tagger(path: str) -> bool:
    from lstm_numba.models.tagger import Tagger

    try:
        Tagger.load(path)
    except ValueError:
        return False
    return True
