"""The demo: gradients checked, the vanishing gradient, a tagger trained and looked into; and the package's figures.

Every figure is drawn from numbers that the engine computes here, with fixed seeds: `figures_only` writes the same bytes
on every run on one machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_numba import LSTM, SimpleRNN
from lstm_numba._files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lstm_numba.commands import Data
    from lstm_numba.gradcheck import GradcheckResult
    from lstm_numba.tagger import Tagger

Say = Callable[[str], None]

# Share of the test part's words that must get their label, on each data set; and with fewer epochs.
GOALS = {"news": 0.99, "generated": 0.97}
QUICK_GOALS = {"news": 0.975, "generated": 0.94}
QUICK_EPOCHS = 10
SEED = 0

INPUT, HIDDEN, STEPS, SEEDS = 16, 32, 60, 5  # of the nets whose gradients vanish, or don't
OPEN = 3.0  # a forget bias that holds the gate open: σ(3) = 0.95
MAP_STEPS, UNFOLDED_STEPS = 30, 9
UNITS_DRAWN = 24


# -- what is computed ------------------------------------------------------------------------------------------------


def gradients() -> list[GradcheckResult]:
    """Check a layer of each kind and a small network."""
    from lstm_numba.gradcheck import gradcheck
    from lstm_numba.network import Network

    options: dict[str, Any] = {"dtype": np.float64, "seed": SEED}
    subjects = [LSTM(3, 4, **options), SimpleRNN(3, 4, **options), Network(3, 3, (4, 3), **options)]
    return [gradcheck(subject) for subject in subjects]


def _untrained(kind: str, seed: int) -> Any:
    """A layer with its initial weights; they and the input are all that its figure shows."""
    options: dict[str, Any] = {"dtype": np.float64, "seed": seed}
    if kind == "rnn":
        return SimpleRNN(INPUT, HIDDEN, **options)
    return LSTM(INPUT, HIDDEN, forget_bias=OPEN if kind == "open" else 1.0, **options)


def _input(steps: int, seed: int) -> NDArray:
    return np.random.default_rng((seed, 1)).standard_normal((steps, INPUT))


class Nets:
    """Sensitivities of untrained nets: a simple recurrent net, an LSTM, and one whose forget gates are held open."""

    @cached_property
    def curves(self) -> dict[str, NDArray]:
        """‖∂hᵗ/∂x¹‖ (seeds, T) of each kind."""
        from lstm_numba.sensitivity import sensitivity

        return {
            kind: np.array([sensitivity(_untrained(kind, n), _input(STEPS, n), s=0) for n in range(SEEDS)])
            for kind in ("rnn", "lstm", "open")
        }

    @cached_property
    def maps(self) -> dict[str, NDArray]:
        """‖∂hᵗ/∂xˢ‖ (T, T) of the first seed's nets."""
        from lstm_numba.sensitivity import sensitivity

        return {kind: sensitivity(_untrained(kind, SEED), _input(MAP_STEPS, SEED)) for kind in ("rnn", "lstm")}

    def left(self, kind: str) -> float:
        """Of the sensitivity at the first step, the share that is left at the last: the median of all seeds."""
        return float(np.median(self.curves[kind][:, -1] / self.curves[kind][:, 0]))


class Trained:
    """A tagger that has learned a data set, and what the figures show of it."""

    def __init__(self, data: Data, tagger: Tagger, test: Sequence[Any]) -> None:
        self.data, self.tagger, self.test = data, tagger, test

    @cached_property
    def accuracy(self) -> float:
        """Share of the test part's words that get their label."""
        return self.tagger.score(self.test)

    @cached_property
    def query(self) -> Any:
        """The first query of the test part of 7 to 10 words that begins with an O and has the most kinds of labels."""
        short = [each for each in self.test if 7 <= len(each.words) <= 10 and each.labels[0] == "O"]
        return max(short or self.test, key=lambda each: len(_kinds(each.labels)))

    @cached_property
    def answer(self) -> list[str]:
        """The query's labels, as the tagger has them."""
        return self.tagger.predict([self.query.words])[0]

    @cached_property
    def trace(self) -> Any:
        """Every array of the query in the first layer, forward."""
        return self.tagger.trace(self.query.words).layers[0][0]

    @cached_property
    def sensitivity(self) -> NDArray:
        """‖∂hᵗ/∂xˢ‖ (T, T) of the first layer with h = [h_F, h_B]: the root of the sum of both directions' squares."""
        from lstm_numba.sensitivity import sensitivity

        layers: list[Any] = self.tagger.network.layers[0]
        maps = [sensitivity(layer, self.trace.x[:, 0]) for layer in layers]
        return np.hypot.reduce(maps)

    def units(self) -> NDArray:
        """The units whose cells move most over the query, those that forget most first."""
        c, f = self.trace.c[:, 0], self.trace.f[:, 0]
        busy = np.argsort(np.ptp(c, axis=0), kind="stable")[-UNITS_DRAWN:]
        return busy[np.argsort(f[:, busy].mean(axis=0), kind="stable")]


def _kinds(labels: Sequence[str]) -> set[str]:
    return {label.partition("-")[2] for label in labels} - {""}


def train(data: Data, *, quick: bool = False, show: bool | None, on_epoch: Callable | None = None) -> Trained:
    """Train a tagger as ``lstm-numba train`` does by default."""
    from lstm_numba import recipes
    from lstm_numba.data import split

    part, test = split(data.sentences, seed=SEED)
    tagger, fit = recipes.make("queries", data.vectors, SEED)
    tagger.fit(part, **fit | ({"epochs": QUICK_EPOCHS} if quick else {}), on_epoch=on_epoch, show=show)
    if tagger.stopped:
        raise KeyboardInterrupt
    return Trained(data, tagger, test)


# -- the figures -----------------------------------------------------------------------------------------------------


class Picture(NamedTuple):
    """A figure with its title, its alternative text, and how to read it."""

    figure: Figure
    title: str
    alt: str
    reading: str


def without_window() -> Any:
    """Return `lstm_numba.plots` with a matplotlib that writes files and needs no display."""
    import matplotlib

    if "matplotlib.pyplot" not in sys.modules:
        matplotlib.use("Agg")
    from lstm_numba import plots

    return plots


def _memory_block(nets: Nets, trained: Callable[[], Trained]) -> Picture:
    ax = without_window().memory_block()
    return Picture(
        ax.figure.figure,
        "The memory block of an LSTM",
        "Diagram of the LSTM memory block. The input and the last output reach the cell input and three gates by full"
        " connections, drawn solid. The cell keeps its state through the forget gate. Dashed peepholes lead from the"
        " cell to the gates: from the last state to the input and forget gates, from the new state to the output gate.",
        "Follow the solid arrows from the left: what comes in is squashed by g, multiplied by the input gate and added"
        " to the cell. The loop below is the cell's own past, multiplied by the forget gate: as long as that gate is"
        " open, nothing is lost.",
    )


def _unfolded_network(nets: Nets, trained: Callable[[], Trained]) -> Picture:
    import matplotlib.pyplot as plt

    plots = without_window()
    rnn, lstm = (nets.curves[kind][SEED, :UNFOLDED_STEPS] for kind in ("rnn", "open"))
    low, high = min(rnn.min(), lstm.min()), max(rnn.max(), lstm.max())
    with plots.style():
        figure, (above, below) = plt.subplots(2, figsize=(plots.WIDTH, 5.9), layout="compressed")
        plots.unfolded_network(rnn, above, vmin=low, vmax=high, title="simple recurrent net", colorbar=False)
        plots.unfolded_network(lstm, below, vmin=low, vmax=high, title="LSTM with open forget gates")
    return Picture(
        figure,
        "The unfolded net and what it remembers of its first input",
        f"Two recurrent nets unfolded over {UNFOLDED_STEPS} time steps, each hidden node shaded by its sensitivity to"
        f" the first input. In the simple recurrent net the shade fades from {rnn[0]:.1g} to {rnn[-1]:.1g}; in the LSTM"
        f" whose forget gates are open it stays between {lstm.min():.1g} and {lstm.max():.1g}.",
        "A column is a time step, the hidden layer is the middle row. The darker a node, the more it still depends on"
        " the first input, which is filled black. After Graves (2012), figures 4.1 and 4.4, there drawn by hand.",
    )


def _vanishing_gradient(nets: Nets, trained: Callable[[], Trained]) -> Picture:
    names = {"rnn": "simple\nrecurrent net", "lstm": "LSTM", "open": "LSTM, forget\ngates open"}
    curves = {name: nets.curves[kind] for kind, name in names.items()}
    ax = without_window().decay(curves, title="The vanishing gradient")
    return Picture(
        ax.figure.figure,
        "The vanishing gradient",
        f"Sensitivity of the output at each of {STEPS} time steps to the first input, on a logarithmic scale, of three"
        f" untrained nets. The simple recurrent net falls along a straight line to {nets.left('rnn'):.0e} of its first"
        f" value, the LSTM to {nets.left('lstm'):.0e}, and the LSTM whose forget gates are open doesn't fall at all.",
        f"Each thin line is one of {SEEDS} nets with other initial weights and inputs, the thick one their median. A"
        " straight line on this scale is decay by the same factor every step. The LSTM's factor has much to do with its"
        f" forget gate: σ(1) = 0.73 with the usual initial bias of 1, σ({OPEN:g}) = 0.95 with a bias of {OPEN:g}.",
    )


def _sensitivity_map(nets: Nets, trained: Callable[[], Trained]) -> Picture:
    import matplotlib.pyplot as plt

    plots = without_window()
    rnn, lstm = nets.maps["rnn"], nets.maps["lstm"]
    all_of_both = np.concatenate([S[np.triu_indices(MAP_STEPS)] for S in (rnn, lstm)])
    ends = {"vmin": all_of_both.min(), "vmax": all_of_both.max()}
    with plots.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5.2), layout="compressed")
        plots.sensitivity_map(rnn, left, title="simple recurrent net", colorbar=False, **ends)
        plots.sensitivity_map(lstm, right, title="LSTM", **ends)
        right.set_ylabel("")
    return Picture(
        figure,
        "Which output feels which input",
        f"Two triangular maps of the sensitivity of every output to every input over {MAP_STEPS} steps, on one"
        f" logarithmic scale. From the first input to the last output it falls from {rnn[0, 0]:.1g} to {rnn[0, -1]:.0e}"
        f" in the simple recurrent net, and from {lstm[0, 0]:.1g} to {lstm[0, -1]:.0e} in the LSTM.",
        "A row is an input: to the right one sees where it goes. A column is an output: from the diagonal up one sees"
        " what it depends on. Nothing reaches back in time, so the lower left is empty.",
    )


def _learning_curves(nets: Nets, trained: Callable[[], Trained]) -> Picture:
    history = trained().tagger.history
    loss, accuracy = history["loss"], history["accuracy"]
    ax = without_window().learning_curves({"loss": loss, "accuracy": accuracy}, title="Learning to tag queries")
    return Picture(
        ax.figure.figure,
        "Learning to tag queries",
        f"Loss and accuracy on the training part over {len(loss)} epochs: the loss falls from {loss[0]:.0f} to"
        f" {loss[-1]:.1g}, the accuracy rises from {accuracy[0]:.0%} to {accuracy[-1]:.0%}.",
        "Measured in training, with words dropped and units switched off. What counts is the accuracy on the test part,"
        f" which training never sees: {trained().accuracy:.1%} of its words are right.",
    )


def _confusion_matrix(nets: Nets, trained: Callable[[], Trained]) -> Picture:
    tagger = trained().tagger
    counts = tagger.confusion(trained().test)
    ax = without_window().confusion_matrix(counts, tagger.labels, title="Test part: labels and answers")
    return Picture(
        ax.figure.figure,
        "What is taken for what",
        f"Matrix of true labels and predicted labels of the test part's {counts.sum()} words. All but"
        f" {counts.sum() - np.trace(counts)} are on the diagonal.",
        "A row is a true label, its cells are the answers given. What is off the diagonal is wrong.",
    )


def _sensitivity_query(nets: Nets, trained: Callable[[], Trained]) -> Picture:
    words, S = trained().query.words, trained().sensitivity
    others = ~np.eye(len(S), dtype=bool)
    s, t = np.unravel_index(np.argmax(S * others), S.shape)
    title = "What each word's state depends on"
    ax = without_window().sensitivity_map(S, words=words, direction="both", title=title)
    ax.set(xlabel="state $h^t$ of the first layer at", ylabel="input $x^s$")
    return Picture(
        ax.figure.figure,
        title,
        f"Map of the trained first layer for the query “{' '.join(words)}”: how much the state at each word depends on"
        f" each word, on a logarithmic scale from {S.min():.1g} to {S.max():.1g}. On average it is"
        f" {S.diagonal().mean():.1g} by the word itself and {S[others].mean():.1g} by another word; the most of those"
        f" is felt at “{words[t]}”, of “{words[s]}”.",
        "A column is the state from which a word's label is read. Above the diagonal are the words before it, which the"
        " forward direction brings; below it the words after it, which the backward direction brings.",
    )


def _gates(nets: Nets, trained: Callable[[], Trained]) -> Picture:
    net = trained()
    units = net.units()
    figure = without_window().gates(
        {name: getattr(net.trace, name)[:, 0] for name in ("i", "f", "o", "g", "c", "h")},
        words=net.query.words,
        labels=net.answer,
        units=units,
        title="A query passes through the gates",
        units_name=f"{len(units)} units, the most forgetful above",
    )
    return Picture(
        figure,
        "A query passes through the gates",
        "Heat maps of the input, forget and output gates, the cell input, the cell state and the output of"
        f" {len(units)} units of the trained forward layer, word by word for the query “{' '.join(net.query.words)}”,"
        " with the predicted label of each word.",
        f"A row is a unit, a column a word. Drawn are the {len(units)} units whose cells move most, sorted by how far"
        " their forget gate is open on average. Where a forget gate shuts (light), the cell below it lets its past go.",
    )


# In this order in the demo, and in the folder's README.
_DRAW: dict[str, Callable[[Nets, Callable[[], Trained]], Picture]] = {
    "memory_block": _memory_block,
    "unfolded_network": _unfolded_network,
    "vanishing_gradient": _vanishing_gradient,
    "sensitivity_map": _sensitivity_map,
    "learning_curves": _learning_curves,
    "confusion_matrix": _confusion_matrix,
    "sensitivity_query": _sensitivity_query,
    "gates": _gates,
}


def figure_folder(out: str | os.PathLike[str] | None, sub: str = "") -> Path:
    """Return a folder that can be written to.

    Parameters
    ----------
    out
        The folder. None: ``figures`` in the source checkout, else in the working folder, else a temporary one.
    sub
        A folder in ``figures``; `out` is taken as it is.

    Raises
    ------
    OSError
        If `out` can't be made or written to.
    """
    if out is not None:
        return _writable(Path(out))
    root = Path(__file__).resolve().parents[1]
    places = [root / "figures"] if (root / "pyproject.toml").is_file() else []
    for place in (*places, Path("figures")):
        try:
            return _writable(place / sub)
        except OSError:  # a read-only install, or a working folder of somebody else
            continue
    return Path(tempfile.mkdtemp(prefix="lstm_numba_figures_"))


def _writable(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def write_figures(
    folder: Path, nets: Nets, trained: Callable[[], Trained], names: Sequence[str] | None = None, command: str = ""
) -> list[str]:
    """Draw figures as SVG and PNG; of all of them write a README.md too, which shows each and says how to read it.

    Returns
    -------
    list of str
        The files, the README last.
    """
    import matplotlib.pyplot as plt

    files: list[str] = []
    entries = {}
    for name in names or _DRAW:
        picture = _DRAW[name](nets, trained)
        try:
            paths = without_window().save(picture.figure, folder / name, alt=picture.alt, title=picture.title)
        finally:
            plt.close(picture.figure)
        files += map(str, paths)
        entries[name] = picture
    if not names:
        files.append(str(_write_readme(folder, entries, command)))
    return files


def _write_readme(folder: Path, pictures: Mapping[str, Picture], command: str) -> Path:
    """Write README.md, whole or not at all."""
    lines = [
        "# Figures",
        "",
        "Drawn by the package itself, from numbers that its engine computes. Each is an SVG and a PNG; the alternative"
        " text is in the files too.",
        "",
        "All of them:",
        "",
        f"    {command}",
        "",
    ]
    for name, picture in pictures.items():
        one = f"lstm-numba demo --figures-only --only {name} --out figures" if "--figures-only" in command else command
        lines += [f"## {picture.title}", "", f"![{picture.alt}]({name}.svg)", "", picture.reading, "", f"    {one}", ""]
    path = folder / "README.md"
    write_whole(path, "\n".join(lines).encode())
    return path


def generated_queries() -> Data:
    """The data that figures are drawn of: queries that need no network."""
    from lstm_numba.cli import GENERATED_QUERIES
    from lstm_numba.commands import Data
    from lstm_numba.data import generate_news

    sentences = generate_news(GENERATED_QUERIES)
    return Data("generated", f"{len(sentences)} generated news queries", sentences, None, ["--generated"])


FIGURES_COMMAND = "lstm-numba demo --figures-only --out figures"


def figures_only(folder: Path, names: Sequence[str] | None, say: Say, show: bool | None = None) -> list[str]:
    """Draw all figures, or those of `names`; a tagger is trained only if one of them shows it."""
    from functools import cache

    @cache
    def trained() -> Trained:
        say("training a tagger, to draw what it has learned ...")
        return train(generated_queries(), show=show)

    files = write_figures(folder, Nets(), trained, names, FIGURES_COMMAND)
    say("\n".join(f"wrote {each}" for each in files))
    return files


# -- the demo --------------------------------------------------------------------------------------------------------


def run(data: Data, out: str | os.PathLike[str] | None, *, quick: bool, say: Say, show: bool | None) -> dict[str, Any]:
    """Run the demo and say what there is to see; return its results.

    Parameters
    ----------
    data
        What the tagger learns.
    out
        Folder of the figures; None for the usual one.
    quick
        Fewer epochs, and a lower goal.
    say
        Takes lines of text.
    show
        Progress bar, as `Tagger.fit` has it.

    Raises
    ------
    KeyboardInterrupt
        If training was stopped by Ctrl-C.
    """
    begin = time.perf_counter()
    folder = figure_folder(out, "-".join([data.name] * (data.name != "generated") + ["quick"] * quick))
    checks = _say_gradients(say)
    nets = Nets()
    _say_vanishing(nets, folder, say)
    goal = (QUICK_GOALS if quick else GOALS)[data.name]
    trained = _say_training(data, goal, quick, say, show)
    _say_query(trained, say)
    say("\n5. Where to go next\n\n   drawing the figures ...")
    files = write_figures(folder, nets, lambda: trained, None, _command(data, out, quick))
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


def _command(data: Data, out: str | os.PathLike[str] | None, quick: bool) -> str:
    if data.name == "generated" and not quick:
        return FIGURES_COMMAND  # the same figures
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
            "A network learns by its gradients, and with wrong ones it still learns a little, so that nobody notices."
            " Here every weight is moved up and down, and the change of the loss is compared with what the backward"
            " pass says."
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
            f"How much of the first input's influence is left after {STEPS} steps? Exactly computed: ‖∂hᵗ/∂x¹‖ at the"
            f" last step over that at the first, the median of {SEEDS} untrained nets of {HIDDEN} units. A full bar:"
            " all of it is left."
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
            " LSTM it can rest in the cell, where the forget gate decides: the further that is open, the longer it"
            " stays"
            f"{' (more than 1: it has even grown)' if max(left.values()) > 1 else ''}."
            f" See {folder / 'vanishing_gradient.svg'}"
        )
    )


def _bar(share: float, decades: int = 12, width: int = 36) -> str:
    """A bar on a log scale, from 10^-decades to 1."""
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
    trained = train(data, quick=quick, show=show, on_epoch=on_epoch)
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
    say(_paragraph("A word, its label, and how far the forget gates were open there: the mean of all, and the lowest."))
    say("")
    for n, (word, mine, label) in enumerate(zip(words, answer, true, strict=True)):
        wrong = "" if mine == label else f"   (should be {label})"
        say(f"   {word:{width}}  {mine:12}  {means[n]:5.2f}  {lowest[n]:5.2f}{wrong}")
    most, least = words[int(means.argmin())], words[int(means.argmax())]
    say("")
    say(
        _paragraph(
            f"The {gates.shape[1]} cells of the forward layer forgot most at “{most}” and least at “{least}”. The"
            " figures “gates” and “sensitivity_query” show all of it, unit by unit and word by word."
        )
    )


def _say_end(folder: Path, files: Sequence[str], data: Data, passed: bool, seconds: float, say: Say) -> None:
    say(f"   {len(_DRAW)} figures, with how to read them: {folder / 'README.md'}")
    say("\n".join(f"   {line}" for line in _next_steps(data)))
    say(f"\n   {'All checks passed' if passed else 'A check FAILED, see above'}; {seconds:.0f} s in all.")


def _next_steps(data: Data) -> Iterator[str]:
    root = Path(__file__).resolve().parents[1]
    if (root / "README.md").is_file() and (root / "pyproject.toml").is_file():
        yield f"What all this is, and how to use it from Python: {root / 'README.md'}"
        if (root / "notebooks").is_dir():
            yield f"The tutorials (make lab): {root / 'notebooks'}"
    yield "Commands to try:"
    source = " ".join(data.options)
    yield f"  lstm-numba train {source} -o news.safetensors"
    yield "  lstm-numba tag news.safetensors show me sports news from the daily record"
    yield f"  lstm-numba evaluate news.safetensors {source} --confusion"
    yield "  lstm-numba sensitivity --cell rnn -o rnn.svg"
    yield "  lstm-numba gradcheck network --hidden-sizes 4,3 --merge sum"
