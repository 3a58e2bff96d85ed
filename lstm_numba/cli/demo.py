"""``lstm-numba demo``: check gradients, show the vanishing gradient, train a tagger, look into it, draw figures."""

from __future__ import annotations

import os
import tempfile
import textwrap
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstm_numba import LSTM, SimpleRNN
from lstm_numba.cli.corpus import load_data
from lstm_numba.cli.output import Talk, print_json
from lstm_numba.cli.parser import FAILED, FINE
from lstm_numba.tutorials import gallery
from lstm_numba.tutorials.gallery.subjects import (
    HIDDEN,
    OPEN,
    SEED,
    SEEDS,
    STEPS,
    Data,
    Nets,
    Subjects,
    Trained,
    train,
)

if TYPE_CHECKING:
    from lstm_numba.instruments.gradient_check import GradcheckResult

Say = Callable[[str], None]

# Share of the test part's words that must be labelled correctly, for each data set; and the same for fewer epochs.
GOALS = {"news": 0.99, "generated": 0.97}
QUICK_GOALS = {"news": 0.975, "generated": 0.94}
QUICK_EPOCHS = 10

# Names in the gallery, in this order.
FIGURES = (
    "memory_block",
    "unfolded_network",
    "vanishing_gradient",
    "sensitivity_map",
    "learning_curves",
    "confusion_matrix",
    "sensitivity_query",
    "gates",
)


# -- what is computed ------------------------------------------------------------------------------------------------


def gradients() -> list[GradcheckResult]:
    """Check a layer of each kind and a small network."""
    from lstm_numba.instruments.gradient_check import gradcheck
    from lstm_numba.models.network import Network

    options: dict[str, Any] = {"dtype": np.float64, "seed": SEED}
    subjects = [LSTM(3, 4, **options), SimpleRNN(3, 4, **options), Network(3, 3, (4, 3), **options)]
    return [gradcheck(subject) for subject in subjects]


# -- the figures -----------------------------------------------------------------------------------------------------


def figure_folder(out: str | os.PathLike[str] | None, sub: str = "") -> Path:
    """Return a folder that can be written to.

    Parameters
    ----------
    out
        The folder. None: ``figures`` in the source checkout, else in the working folder, else a temporary folder.
    sub
        A folder inside ``figures``; it is not added to `out`.

    Raises
    ------
    OSError
        If `out` can't be made or written to.
    """
    if out is not None:
        return _writable(Path(out))
    root = Path(__file__).resolve().parents[2]
    places = [root / "figures"] if (root / "pyproject.toml").is_file() else []
    for place in (*places, Path("figures")):
        try:
            return _writable(place / sub)
        except OSError:  # a read-only install, or somebody else's working folder
            continue
    return Path(tempfile.mkdtemp(prefix="lstm_numba_figures_"))


def _writable(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


# -- the demo --------------------------------------------------------------------------------------------------------


def run(data: Data, out: str | os.PathLike[str] | None, *, quick: bool, say: Say, show: bool | None) -> dict[str, Any]:
    """Run the demo, explain what it shows, and return its results.

    Parameters
    ----------
    data
        The data that the tagger learns.
    out
        Folder for the figures; None for the usual one.
    quick
        Fewer epochs, and a lower goal.
    say
        A function that takes lines of text.
    show
        Whether to show a progress bar, as in `Tagger.fit`.

    Raises
    ------
    KeyboardInterrupt
        If training was stopped by Ctrl-C.
    """
    begin = time.perf_counter()
    folder = figure_folder(out, "-".join(["demo"] + [data.name] * (data.name != "generated") + ["quick"] * quick))
    checks = _say_gradients(say)
    nets = Nets()
    _say_vanishing(nets, folder, say)
    goal = (QUICK_GOALS if quick else GOALS)[data.name]
    trained = _say_training(data, goal, quick, say, show)
    _say_query(trained, say)
    say("\n5. Where to go next\n\n   drawing the figures ...")
    files = write_figures(folder, nets, trained, _command(data, out, quick))
    reached = trained.accuracy >= goal
    passed = reached and all(check.passed for check in checks)
    seconds = time.perf_counter() - begin
    _say_end(folder, files, data, passed, seconds, say)
    return {
        "passed": passed,
        "gradients": [check.to_dict() for check in checks],
        "sensitivity_left": {kind: nets.left(kind) for kind in nets.curves},
        "data": data.name,
        "goal": goal,
        "accuracy": trained.accuracy,
        "query": {"words": trained.query.words, "labels": trained.query.labels, "answer": trained.answer},
        "figures": files,
        "seconds": seconds,
    }


def write_figures(folder: Path, nets: Nets, trained: Trained, command: str) -> list[str]:
    """Draw the first figures of the gallery, and the page that shows them; return the files."""
    files = gallery.draw(folder, FIGURES, data=Subjects(nets, trained), command=command, index=True)
    return [str(path) for path in files]


def _command(data: Data, out: str | os.PathLike[str] | None, quick: bool) -> str:
    parts = ["lstm-numba", "demo", *data.options, *(["--quick"] if quick else [])]
    return " ".join(parts + ([] if out is None else ["--out", os.fspath(out)]))


def _indented(text: str) -> str:
    return "\n".join(f"   {line}".rstrip() for line in text.splitlines())


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 96, initial_indent="   ", subsequent_indent="   ", break_long_words=False)


def _say_gradients(say: Say) -> list[GradcheckResult]:
    say("1. Are the gradients right?\n")
    say(
        _paragraph(
            "A network learns from its gradients. With wrong ones it still learns a little, so nobody notices."
            " Here every weight is moved up and down, and the change of the loss is compared with the result of the"
            " backward pass."
        )
    )
    checks = gradients()
    say("\n" + _indented(str(checks[0])))
    for check in checks[1:]:
        say("\n" + _indented(f"{check.subject}\n{str(check).splitlines()[-1]}"))
    return checks


def _say_vanishing(nets: Nets, folder: Path, say: Say) -> None:
    names = {"rnn": "simple recurrent net", "lstm": "LSTM, forget bias 1", "open": f"LSTM, forget bias {OPEN:g}"}
    say("\n2. Why an LSTM? The vanishing gradient\n")
    say(
        _paragraph(
            f"How much of the first input's influence is left after {STEPS} steps? Computed exactly: ‖∂hᵗ/∂x¹‖ at the"
            f" last step divided by that at the first, the median of {SEEDS} untrained nets of {HIDDEN} units. The bars"
            " are logarithmic: a full bar means that all of it is left."
        )
    )
    say("")
    left = {kind: nets.left(kind) for kind in nets.curves}
    for kind, name in names.items():
        say(f"   {name:22} {left[kind]:8.1e}   {_bar(left[kind])}")
    say("")
    say(
        _paragraph(
            "In the simple net the influence passes through all weights at every step and shrinks each time. In the"
            " LSTM it can stay in the cell, and the forget gate decides for how long: the wider it is open, the longer"
            f"{' (more than 1: it has even grown)' if max(left.values()) > 1 else ''}."
            f" See {folder / 'vanishing_gradient.svg'}"
        )
    )


def _bar(share: float, decades: int = 12, width: int = 36) -> str:
    """Return a bar on a log scale, from 10^-decades to 1."""
    length = 1 + np.log10(max(share, 10.0**-decades)) / decades
    return "█" * max(1, min(width, round(width * length)))


def _say_training(data: Data, goal: float, quick: bool, say: Say, show: bool | None) -> Trained:
    from lstm_numba.data import baseline_accuracy, split

    part, test = split(data.sentences, seed=SEED)
    words = sum(len(each.words) for each in test)
    alone = baseline_accuracy(part, test)
    say("\n3. Learning to tag queries\n")
    say(
        _paragraph(
            f"Data: {data.text}; {len(part)} for training, {len(test)} ({words} words) for testing. One layer of LSTM"
            f" units each way, a label for every word. The goal: {goal:.1%} of the test words right. Without any"
            f" context it would be {alone:.1%}."
        )
    )
    say("")

    def on_epoch(row: Mapping[str, float]) -> None:
        n = round(row["epoch"])
        if n in (1, 2) or n % 5 == 0:
            under = f"{row['accuracy']:7.2%} of the training words right, under dropout"
            say(f"   epoch {n:2}   loss {row['loss']:7.3f}   {under}")

    begin = time.perf_counter()
    trained = train(data, epochs=QUICK_EPOCHS if quick else None, show=show, on_epoch=on_epoch)
    verdict = "reached" if trained.accuracy >= goal else "NOT reached"
    say(
        f"\n   Test: {trained.accuracy:.2%} of {words} words right, after {time.perf_counter() - begin:.0f} s."
        f" The goal of {goal:.1%} is {verdict}."
    )
    return trained


def _say_query(trained: Trained, say: Say) -> None:
    words, true, answer = trained.query.words, trained.query.labels, trained.answer
    gates = trained.trace.f[:, 0]
    means, lowest = gates.mean(axis=1), gates.min(axis=1)
    width = max(map(len, words))
    say("\n4. One query, and what its gates did\n")
    say(_paragraph("Each word, its label, and how far the forget gates were open there: their mean, and the lowest."))
    say("")
    for n, (word, mine, label) in enumerate(zip(words, answer, true, strict=True)):
        wrong = "" if mine == label else f"   (should be {label})"
        say(f"   {word:{width}}  {mine:12}  {means[n]:5.2f}  {lowest[n]:5.2f}{wrong}")
    most, least = words[int(means.argmin())], words[int(means.argmax())]
    say("")
    say(
        _paragraph(
            f"The {gates.shape[1]} cells of the forward layer forgot most at “{most}” and least at “{least}”. The"
            " figures “gates” and “sensitivity_query” show the details, unit by unit and word by word."
        )
    )


def _say_end(folder: Path, files: Sequence[str], data: Data, passed: bool, seconds: float, say: Say) -> None:
    say(f"   {len(FIGURES)} figures, with how to read them: {folder / 'README.md'}")
    say("\n".join(f"   {line}" for line in _next_steps(data)))
    say(f"\n   {'All checks passed' if passed else 'A check FAILED, see above'}; {seconds:.0f} s in total.")


def _next_steps(data: Data) -> Iterator[str]:
    root = Path(__file__).resolve().parents[2]
    if (root / "README.md").is_file() and (root / "pyproject.toml").is_file():
        yield f"An overview, and how to use it from Python: {root / 'README.md'}"
        if (root / "notebooks").is_dir():
            yield f"The tutorials (make lab): {root / 'notebooks'}"
    yield "Commands to try:"
    source = " ".join(data.options)
    yield f"  lstm-numba train {source} -o news.safetensors"
    yield "  lstm-numba tag news.safetensors show me sports news from the daily record"
    yield f"  lstm-numba evaluate news.safetensors {source} --confusion"
    yield "  lstm-numba sensitivity --cell rnn -o rnn.svg"
    yield "  lstm-numba gradcheck network --hidden-sizes 4,3 --merge sum"


def run_demo(arguments: Namespace) -> int:
    """Run the demo."""
    say = Talk(arguments)
    data = load_data(arguments, vectors=True)
    report = run(data, arguments.out, quick=arguments.quick, say=say.line, show=None if say.on else False)
    if arguments.json:
        print_json(report)
    return FINE if report["passed"] else FAILED
