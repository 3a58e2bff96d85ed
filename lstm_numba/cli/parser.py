"""The command line, ``lstm-numba …`` and ``python -m lstm_numba …``: its commands and options.

Each command has its own module, which is imported only when the command runs.

Results go to standard output; notes, progress and errors to standard error. With ``--json`` standard output is JSON and
nothing else.

Exit codes: 0 fine; 1 a check failed (a wrong gradient, an accuracy that was not reached, training that diverged); 2 bad
input, explained in one line; 130 stopped by Ctrl-C, 143 by SIGTERM (`interrupts`); 141 the reader of the output
went away.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

FINE, FAILED, BAD_INPUT, INTERRUPTED, NO_READER = 0, 1, 2, 130, 141

# Written out, so that --help doesn't have to import the modules that define them; a test compares.
NONLINEARITIES = ("sigmoid", "tanh", "relu", "identity", "hard_sigmoid", "hard_sigmoid_6")
INITS = ("glorot", "orthogonal", "uniform")
CELLS = (
    *("lstm", "rnn", "gru", "gru_2014"),
    *("nig", "nfg", "nog", "niaf", "noaf", "cifg", "no_peepholes", "fgr"),
    *("mgu", "janet", "ugrnn", "ran", "mingru", "minlstm"),
    *("leaky", "indrnn", "lstm_1997", "slstm"),
)
TASKS = (
    *("adding", "brackets", "continual_reber", "copying", "lag_2a", "lag_2b", "lag_2c", "multiplication"),
    *("news_queries", "noise_3a", "noise_3b", "noise_3c", "parity", "periodic_function", "pixels", "reber"),
    *("spike_delays", "temporal_order_6a", "temporal_order_6b", "timed_spikes"),
)
OPTIMIZERS = ("sgd", "adam", "2015")
SCHEDULES = ("constant", "linear", "cosine")
RECIPES = ("queries", "windows", "2015")

# The module of each command.
HOMES = {
    "train": "train",
    "evaluate": "evaluate",
    "tag": "tag",
    "gradcheck": "check_gradients",
    "sensitivity": "map_sensitivity",
    "look": "look_inside",
    "figures": "draw_figures",
    "study": "study",
    "demo": "demo",
    "warm": "warm",
}

DEFAULT_MODEL = "model.safetensors"
GENERATED_QUERIES = 1000
TRAIN_SHARE = 0.8

# Arguments of layers, networks, taggers and `Tagger.fit`; each is the `dest` of an option.
# Options of some cells; --option sets any other option.
OF_CELLS = ("peepholes", "gate", "cell_input", "cell_output", "forget_bias", "nonlinearity")
LAYER = (*OF_CELLS, "bias", "init", "dtype")
NETWORK = (*LAYER, "hidden_sizes", "bidirectional", "merge", "cell", "output_bias", "weight_decay", "loss")
WORDS = ("window", "one_hot", "embedding_size", "numbers", "lowercase", "min_count")
TAGGER = (*NETWORK, *WORDS, "dropout", "input_dropout", "word_dropout")
STUDY = ("hidden_size", "learning_rate", "forget_bias", "batch_size", "sequences", "clip")
FIT = ("batch_size", "batches_per_epoch", "schedule", "clip", "patience")
# A setting of one update rule → that rule's name.
RULES = dict.fromkeys(("beta1", "beta2"), "adam") | dict.fromkeys(("early", "late", "switch", "mu"), "2015")
RULES["momentum"] = "sgd"
_OTHERS = (
    *("epochs", "learning_rate", "train_share", "seed", "resume", "encoding", "separator", "columns", "comment"),
    *("tolerance", "max_entries", "lengths", "input_size", "norm", "of", "wrt", "steps", "batch"),
)


class UsageError(Exception):
    """The command line is wrong; the message is one line for people."""


class CheckFailedError(Exception):
    """A check failed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv
        The words after the program's name; those of the process by default.
    """
    _prepare_streams()
    try:
        parser = _parser()
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help(sys.stderr)
            return BAD_INPUT
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse's way to end, after --help and after an error
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    except BrokenPipeError:
        forget_stdout()
        return NO_READER


def _prepare_streams() -> None:
    """Open closed streams, and print "?" for characters that the terminal doesn't have."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        with suppress(AttributeError, ValueError):  # not a file of text, or closed
            getattr(sys, name).reconfigure(errors="replace")


def _run(arguments: argparse.Namespace) -> int:
    """Run the command; turn errors into one line and an exit code."""
    try:
        from lstm_numba.engine import pool

        if arguments.threads is not None:
            if arguments.threads < 1:
                raise UsageError(f"--threads: expected at least 1, got {arguments.threads}")
            pool.set_num_threads(arguments.threads)
        module = importlib.import_module(f"lstm_numba.cli.{HOMES[arguments.command]}")
        return getattr(module, f"run_{arguments.command}")(arguments)
    except BrokenPipeError:
        raise
    except (
        *(CheckFailedError, UsageError, ValueError, TypeError, OSError),
        *(MemoryError, OverflowError, RuntimeError),
    ) as error:
        if arguments.debug or _is_of_an_interrupt(error):
            raise
        for text in (f"error: {_in_one_line(error, arguments.names)}", *getattr(error, "__notes__", ())):
            complain(text)
        return FAILED if isinstance(error, CheckFailedError) else BAD_INPUT


def _is_of_an_interrupt(error: BaseException | None) -> bool:
    """Return whether a library turned a KeyboardInterrupt into its own error."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def complain(text: str) -> None:
    """Print a line about an error, or a possible problem, on standard error."""
    print(f"lstm-numba: {text}", file=sys.stderr)


def _in_one_line(error: BaseException, names: Mapping[str, str]) -> str:
    """Describe an error in one line, with the name of the option instead of that of the argument."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{os.fspath(error.filename)}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({error or 'the sizes are too large'})"
    else:
        text = str(error) or type(error).__name__
    text = " ".join(text.split())
    found = re.match(r"(\w+)(?=: )", text)
    if found and (found[1] in names or found[1] in (*TAGGER, *FIT, *RULES, *_OTHERS)):
        return names.get(found[1], option(found[1])) + text[found.end() :]
    return text


def option(name: str) -> str:
    """Return the option that sets an argument: hidden_sizes → --hidden-sizes."""
    return {"bidirectional": "--directions"}.get(name, "--" + name.replace("_", "-"))


def given(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return the options on the command line, by the names of the arguments that they set."""
    return {name: value for name in names if (value := getattr(arguments, name, None)) is not None}


def forget_stdout() -> None:
    """Discard the rest of standard output, and Python's flush at exit: nobody reads it any more."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that keeps the line breaks of descriptions and examples, with room for long options."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=30, **options)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which can accept options between words."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **options)
        self.mixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self.mixed:
            return super().parse_known_args(args, namespace)
        self.mixed = False  # argparse's method for this calls this one again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.mixed = True

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, extra = self.parse_known_args(args, namespace)
        if extra:  # words that a command leaves come back to the program's parser, which would name its own help
            if getattr(found, "command", None) is not None:
                self.prog = f"{self.prog} {found.command}"
            self.error(f"unrecognized arguments: {' '.join(extra)}")
        return found

    def error(self, message: str) -> NoReturn:
        complain(f"error: {' '.join(message.split())}{_meant(message)} (see {self.prog} --help)")
        raise SystemExit(BAD_INPUT)


def _meant(message: str) -> str:
    """Suggest a command, if argparse's message is about an unknown one."""
    found = re.match(r"argument COMMAND: invalid choice: '([^']*)'", message)
    near = difflib.get_close_matches(found[1], HOMES, n=1) if found else []
    return f"; did you mean {near[0]}?" if near else ""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lstm-numba",
        description="A peephole LSTM that you can see into: train a tagger, check its gradients, look at its gates.",
        epilog=_examples(
            ("see everything in a few minutes, with figures", "demo"),
            ("learn to tag news queries", "train -o news.safetensors"),
            ("how good is it, label by label", "evaluate news.safetensors"),
            ("tag a query", "tag news.safetensors show me sports news from the daily record"),
            ("is every gradient right", "gradcheck"),
            ("which output depends on which input", "sensitivity -o map.svg"),
            ("what an LSTM or GRU of PyTorch, Keras or ONNX remembers", "look weights.safetensors --input series.csv"),
            ("every figure of the tutorials", "figures"),
            ("what a forget gate is good for, over ten seeds", "study parity --cells lstm,nfg --seeds 10"),
        )
        + "\n\nexit codes: 0 fine, 1 a check failed, 2 bad input, 130 stopped by Ctrl-C, 143 by SIGTERM,\n"
        "141 the reader of the output went away",
    )
    parser.add_argument("--version", action="version", version=f"lstm-numba {_version()}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add_command in (
        *(_add_train, _add_evaluate, _add_tag, _add_gradcheck),
        *(_add_sensitivity, _add_look, _add_figures, _add_study, _add_demo, _add_warm),
    ):
        add = add_command(commands).add_argument_group("of every command").add_argument
        add("--json", action="store_true", help="print the result as JSON, and nothing else")
        add("--threads", type=int, metavar="N", help="use at most N threads (default: one per core)")
        add("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _version() -> str:
    from lstm_numba import __version__

    return __version__


def _examples(*pairs: tuple[str, str]) -> str:
    return "examples:\n" + "\n".join(f"  # {what}\n  lstm-numba {command}" for what, command in pairs)


def _wrapped(names: Sequence[str]) -> str:
    return textwrap.fill(", ".join(names), width=110, initial_indent="  ", subsequent_indent="  ")


def _command(commands: Any, name: str, text: tuple[str, str, str], usage: str = "", /, **names: str) -> _Parser:
    """Add a command: its help, description and epilog, and the arguments whose options have different names."""
    usage = f"lstm-numba {name} {usage}[options]"
    parser = commands.add_parser(name, help=text[0], description=text[1], epilog=text[2], usage=usage)
    parser.mixed = True
    parser.set_defaults(command=name, names={"n": "--queries"} | names)
    return parser


# -- options that commands share -------------------------------------------------------------------------------------


def _list_of(convert: Callable[[str], Any], example: str) -> Callable[[str], tuple]:
    """Return a reader of values separated by commas."""

    def read(text: str) -> tuple:
        try:
            return tuple(convert(part) for part in text.split(","))
        except (KeyError, ValueError):
            raise argparse.ArgumentTypeError(f"expected {example}, got {text!r}") from None

    return read


def _one_or_each(read: Callable[[str], tuple]) -> Callable[[str], Any]:
    """Return a reader of a single value for all, or of a tuple."""

    def one(text: str) -> Any:
        values = read(text)
        return values[0] if len(values) == 1 else values

    return one


def _pair(text: str) -> tuple[float, float]:
    values = _list_of(float, "two numbers such as 0.95,0.9")(text)
    if len(values) != 2:
        raise argparse.ArgumentTypeError(f"expected two numbers such as 0.95,0.9, got {text!r}")
    return values[0], values[1]


def _span(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)-(\d+)", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected the first and the last step such as 401-500, got {text!r}")
    return int(found[1]), int(found[2])


_names = _list_of(str.strip, "names")
_sizes = _list_of(int, "whole numbers such as 128 or 128,64")
_numbers = _list_of(float, "numbers such as 0.01 or 0.003,0.01")
_decay = _one_or_each(_list_of(float, "numbers such as 1e-6 or 1e-8,1e-6"))
_directions = _one_or_each(
    _list_of({"both": True, "forward": False}.__getitem__, "both or forward, for all layers or each")
)


def _cell(text: str) -> str:
    if text in CELLS or text.endswith(".py"):
        return text
    raise argparse.ArgumentTypeError(f"expected {', '.join(CELLS)}, or a file such as my_cell.py; got {text!r}")


def _setting(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE: yes, no, a number or a function's name."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE such as candidate=relu, got {text!r}")
    words = {"yes": True, "true": True, "no": False, "false": False}
    with suppress(ValueError):
        return name, words[value.lower()] if value.lower() in words else float(value)
    return name, value


def _separator(text: str) -> str:
    return {"tab": "\t", "\\t": "\t"}.get(text, text)


def _switch(group: Any, name: str, help: str) -> None:
    group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=help)


def _add_source_options(parser: Any) -> Any:
    group = parser.add_argument_group(
        "data", "by default the original's news queries if they are on this machine, else generated ones"
    )
    source = group.add_mutually_exclusive_group()
    add = source.add_argument
    add("--news", action="store_true", help="the original's news queries (from LSTM_NUMBA_DATA, or the cache)")
    add("--generated", action="store_true", help="queries made by a grammar, which needs no network")
    group.add_argument("--download", action="store_true", help="fetch the news queries if they are not here")
    parser.set_defaults(data=None, words=None, labels=None, queries=None)
    return group, source


def _add_data_options(parser: Any) -> None:
    group, source = _add_source_options(parser)
    add = group.add_argument
    source.add_argument("--data", metavar="FILE", help="a word and its label per line, blank lines between sentences")
    source.add_argument("--words", metavar="FILE", help="the two-file form: a word per line, with --labels")
    add("--labels", metavar="FILE", help="a label per line, for the words of --words")
    add("--queries", type=int, metavar="N", help=f"how many to generate ({GENERATED_QUERIES})")
    add("--encoding", default="utf-8", metavar="NAME", help="of the files (utf-8)")
    add("--separator", type=_separator, metavar="SEP", help="separator of word and label, such as tab (any space)")
    add("--columns", type=_sizes, metavar="W,L", help="places of word and label in a line; -1 is the last (1,2)")
    add("--comment", metavar="TEXT", help="skip lines that begin with it, such as # (none)")
    add("--iob2", action="store_true", default=None, help="begin every entity with B-, as IOB1 labels don't")
    add("--train-share", type=float, default=TRAIN_SHARE, metavar="S", help="share of all sentences to train on (0.8)")
    add("--validation-share", type=float, metavar="S", help="share of these for choosing the best epoch (none)")


def _add_layer_options(parser: Any) -> Any:
    group = parser.add_argument_group("layers")
    add = group.add_argument
    add("--cell", type=_cell, metavar="CELL", help="lstm, rnn, gru, … or a .py file with a cell's equations (lstm)")
    add("--gate", choices=NONLINEARITIES, help="non-linearity of the gates (sigmoid)")
    add("--cell-input", choices=NONLINEARITIES, help="squashes an LSTM cell's input (tanh)")
    add("--cell-output", choices=NONLINEARITIES, help="squashes an LSTM cell's output (tanh)")
    add("--nonlinearity", choices=NONLINEARITIES, help="non-linearity of a simple recurrent net (tanh)")
    _switch(group, "peepholes", "weights from an LSTM's cell to its gates (yes)")
    add("--forget-bias", type=float, metavar="B", help="initial bias of the forget gate (1)")
    add("--option", type=_setting, action="append", metavar="NAME=VALUE", help="another option of the cell; repeatable")
    _switch(group, "bias", "biases of all pre-activations (yes)")
    add("--init", choices=INITS, help="initial weights; uniform: ±0.12, as in 2015 (glorot)")
    add("--dtype", choices=("float32", "float64"), help="type of all numbers (float32)")
    return group


def _add_network_options(parser: Any) -> None:
    group = _add_layer_options(parser)
    add = group.add_argument
    add("--hidden-sizes", type=_sizes, metavar="H,…", help="units of each layer, each way")
    add("--directions", dest="bidirectional", type=_directions, metavar="D,…", help="both or forward, for all or each")
    add("--merge", choices=("concat", "sum"), help="how directions are joined between layers (concat)")
    _switch(group, "output-bias", "bias of the softmax layer (yes)")
    add("--weight-decay", type=_decay, metavar="L,…", help="decay of all layers, or of each and then the softmax's")
    add("--loss", choices=("all", "last", "middle"), help="which steps enter the loss (all)")


# -- each command's own -----------------------------------------------------------------------------------------------


def _add_train(commands: Any) -> _Parser:
    text = (
        "learn to label words",
        "Train a tagger, and write it to a file after every epoch. Ctrl-C stops and keeps what was learned.\n\n"
        "recipes, whose settings the options below change:\n"
        "  queries   whole queries, 128 units each way, learned embedding beside word vectors, dropout, Adam\n"
        "  windows   the windows of five words and the 512 units of 2015, with biases, dropout and Adam\n"
        "  2015      the network of 2015 with its faults mended, its own update rule, 25 of its epochs",
        _examples(
            ("learn the news queries, or generated ones if those are not here", "train -o news.safetensors"),
            ("continue after Ctrl-C", "train --resume news.safetensors --epochs 25"),
            ("a GRU, or a cell of your own", "train --cell gru"),
            ("your own data and word vectors", "train --data tagged.txt --vectors vectors.txt"),
            ("a file of CoNLL-2003, whose labels come last", "train --data eng.train --columns 1,-1 --iob2"),
            ("the network of 2015, with a longer window", "train --recipe 2015 --window 7"),
            (
                "two layers; a tenth of the training part decides when to stop",
                "train --hidden-sizes 128,64 --validation-share 0.1 --patience 5",
            ),
        ),
    )
    parser = _command(commands, "train", text, per_epoch="--batches-per-epoch")
    add = parser.add_argument
    add("--recipe", choices=RECIPES, help="settings to start from (queries)")
    add("-o", "--output", "--checkpoint", metavar="FILE", help=f"where to write the tagger ({DEFAULT_MODEL})")
    add("--overwrite", action="store_true", help="replace an existing file and everything it has learned")
    add("--resume", metavar="FILE", help="continue the training of FILE, on the same data")
    add("--log-weights", metavar="FOLDER", help="also write the tagger of every epoch, into this folder")
    add("--quiet", action="store_true", help="no progress bar, and no line for each epoch")
    _add_data_options(parser)
    _add_word_options(parser)
    _add_network_options(parser)
    _add_training_options(parser)
    return parser


def _add_word_options(parser: Any) -> None:
    group = parser.add_argument_group("words")
    add = group.add_argument
    add("--vectors", metavar="FILE", help="word vectors: a word and its numbers per line")
    add("--vectors-encoding", metavar="NAME", help="encoding of that file (that of --encoding)")
    add("--keep-first", action="store_true", default=None, help="keep the first vector of a repeated word (an error)")
    add("--no-vectors", action="store_true", default=None, help="don't use the news data's own word vectors")
    add("--one-hot", action="store_true", default=None, help="one-hot input instead of vectors and embedding")
    add("--embedding-size", type=int, metavar="N", help="columns of the learned embedding, 0 for none")
    add("--window", type=int, metavar="N", help="windows of N words (odd), 0 for whole sentences")
    _switch(group, "numbers", "words of digits become one token (yes)")
    _switch(group, "lowercase", "words in lower case (no)")
    add("--min-count", type=int, metavar="N", help="how often a word must occur to be known (1)")


def _add_training_options(parser: Any) -> None:
    group = parser.add_argument_group("training")
    add = group.add_argument
    add("--epochs", type=int, metavar="N", help="epochs in total, including those before --resume (the recipe's)")
    add("--batch-size", type=int, metavar="N", help="sentences, or windows, in a batch (the recipe's)")
    add("--batches-per-epoch", type=int, metavar="N", help="an epoch is N batches drawn anew (the recipe's)")
    add("--seed", type=int, metavar="N", help="seed of the split, initial weights, order and dropout (0)")
    add("--dropout", type=float, metavar="S", help="dropout of the input of all layers above the first (the recipe's)")
    add("--input-dropout", type=float, metavar="S", help="dropout of the first layer's input (the recipe's)")
    add("--word-dropout", type=float, metavar="S", help="share of words that become unknown in training (the recipe's)")
    add("--clip", type=float, metavar="NORM", help="largest norm of the gradient (no clipping)")
    add("--patience", type=int, metavar="N", help="stop after N epochs without better validation (never)")
    group = parser.add_argument_group("update rule")
    add = group.add_argument
    add("--optimizer", choices=OPTIMIZERS, help="update rule (the recipe's)")
    add("--learning-rate", type=float, metavar="A", help="step size (the recipe's, or the usual one of another rule)")
    add("--schedule", choices=SCHEDULES, help="how the learning rate decreases (the recipe's)")
    add("--momentum", type=float, metavar="M", help="sgd (0.9)")
    add("--beta1", type=float, metavar="B", help="adam (0.9)")
    add("--beta2", type=float, metavar="B", help="adam (0.999)")
    add("--early", type=_pair, metavar="M,B", help="2015: both momenta at first, m and β (0.5,0.5)")
    add("--late", type=_pair, metavar="M,B", help="2015: both momenta from then on (0.95,0.9)")
    add("--switch", type=int, metavar="N", help="2015: iterations with the first ones (30)")
    add("--mu", type=float, metavar="MU", help="2015: added to the second derivatives (0.01)")


def _add_evaluate(commands: Any) -> _Parser:
    text = (
        "measure how good a trained tagger is, label by label",
        "Print the accuracy of a tagger, and precision, recall and F1 of each label, by default on the test part.\n"
        "Give the same data options as in training, so that this is the part that training left out.",
        _examples(
            ("on the test part of the default data", "evaluate news.safetensors"),
            ("with the counts of confused labels", "evaluate news.safetensors --confusion"),
            ("on a whole other file", "evaluate news.safetensors --data other.txt --part all"),
        ),
    )
    parser = _command(commands, "evaluate", text, "MODEL ")
    add = parser.add_argument
    add("model", metavar="MODEL", help="a file that train wrote")
    add("--part", choices=("test", "validation", "train", "all"), default="test", help="of the data (test)")
    add("--seed", type=int, metavar="N", help="seed of the split (that of the training)")
    add("--confusion", action="store_true", help="also print the counts of true labels and answers")
    _add_data_options(parser)
    return parser


def _add_tag(commands: Any) -> _Parser:
    text = (
        "label the words of queries",
        "Label every word of a query, given on the command line, or of queries on standard input, one per line.\n"
        "Prints a word and its label per line, which train can read again; with --json an object per line.",
        _examples(
            ("one query", "tag news.safetensors show me sports news from the daily record"),
            ("many, with their probabilities", "tag news.safetensors --probabilities < queries.txt"),
            ("for a program", "tag news.safetensors --json show me sports news"),
        ),
    )
    parser = _command(commands, "tag", text, "MODEL [WORD ...] ")
    add = parser.add_argument
    add("model", metavar="MODEL", help="a file that train wrote")
    add("query", nargs="*", default=[], metavar="WORD", help="the words of one query (default: standard input)")
    add("--probabilities", action="store_true", help="also print the probability of each label")
    return parser


def _add_gradcheck(commands: Any) -> _Parser:
    text = (
        "compare gradients with central differences",
        "Compare every gradient of the backward pass with differences of the forward pass, in float64, for a layer,\n"
        "a whole network, or the network in a model file. Exits with 1 if one is wrong.\n\n"
        f"cells:\n{_wrapped(CELLS)}",
        _examples(
            ("an LSTM, a simple recurrent net, a GRU and a small network", "gradcheck"),
            ("a layer with other non-linearities", "gradcheck lstm --gate tanh --cell-output identity"),
            ("your own cell, with its backward step if the file has one", "gradcheck my_cell.py"),
            ("a layer and a network of one cell", "gradcheck --cell gru"),
            ("two layers joined as in 2015", "gradcheck network --hidden-sizes 4,3 --merge sum --no-bias"),
            ("a trained tagger, 20 numbers of each array", "gradcheck news.safetensors --max-entries 20"),
        ),
    )
    names = {"step": "--difference", "hidden_size": "--hidden-sizes", "n_classes": "--classes", "x": "--steps, --batch"}
    parser = _command(commands, "gradcheck", text, "[WHAT] ", **names)
    add = parser.add_argument
    what = "a cell, a .py file with one, network, a model file, or all: several cells or that of --cell (all)"
    add("what", nargs="?", default="all", metavar="WHAT", help=what)
    group = parser.add_argument_group("sizes")
    add = group.add_argument
    add("--input-size", type=int, default=3, metavar="I", help="numbers in xᵗ (3)")
    add("--classes", type=int, default=3, metavar="C", help="of a network (3)")
    add("--steps", type=int, metavar="T", help="time steps (4)")
    add("--batch", type=int, metavar="B", help="sequences (3)")
    add("--lengths", type=_sizes, metavar="T,…", help="steps of each sequence, instead of --steps and --batch")
    group = parser.add_argument_group("comparison")
    add = group.add_argument
    add("--difference", type=float, default=2e-3, metavar="S", help="how far to move each number (0.002)")
    add("--tolerance", type=float, default=1e-6, metavar="E", help="largest relative error that passes (1e-6)")
    add("--max-entries", type=int, metavar="N", help="numbers of each array to compare (all; for a file 10)")
    add("--seed", type=int, default=0, metavar="N", help="seed of weights and input (0)")
    _add_network_options(parser)
    add("--reverse", action="store_true", help="let a layer run from the last step to the first")
    return parser


def _add_sensitivity(commands: Any) -> _Parser:
    text = (
        "draw which output depends on which input",
        "Draw the map of ‖∂hᵗ/∂xˢ‖ for all s and t: for a trained tagger's layer and the words of a query, or for an\n"
        "untrained layer and random input. The suffix of FILE chooses svg, png or pdf; without one, svg and\n"
        "png are written.",
        _examples(
            ("an untrained LSTM", "sensitivity -o lstm.svg"),
            ("a simple recurrent net, where the gradient vanishes", "sensitivity --cell rnn --steps 60 -o rnn.png"),
            ("what a trained tagger looks at", "sensitivity news.safetensors --words show me sports news -o query.svg"),
        ),
    )
    parser = _command(commands, "sensitivity", text, "[MODEL] -o FILE ", hidden_size="--hidden", T="--steps")
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help="a file that train wrote (an untrained layer)")
    add("-o", "--output", required=True, metavar="FILE", help="the figure; an existing one is replaced")
    add("--words", nargs="+", metavar="WORD", help="the words of the query, with a MODEL")
    add("--random", action="store_true", help="random input, also with a MODEL")
    add("--layer", type=int, metavar="N", help="layer of the MODEL; 0 is the first (0)")
    add("--direction", choices=("forward", "backward", "both"), help="direction of that layer (all that it has)")
    add("--word", type=int, metavar="N", help="in window mode: the word in the middle, from 1 (the middle one)")
    add("--of", default="h", metavar="STATE", help="numerator: h, the output, or another state such as c (h)")
    add("--wrt", default="x", metavar="STATE", help="denominator: x, the input, or a state (x)")
    add("--norm", choices=("frobenius", "spectral"), default="frobenius", help="of the matrices")
    add("--linear", action="store_true", help="linear colours from 0 (logarithmic)")
    add("--title", help="of the figure")
    group = parser.add_argument_group("random input and an untrained layer")
    add = group.add_argument
    add("--steps", type=int, metavar="T", help="time steps (30)")
    add("--seed", type=int, default=0, metavar="N", help="seed of weights and input (0)")
    add("--hidden", type=int, metavar="H", help="units (64)")
    add("--input-size", type=int, metavar="I", help="numbers in xᵗ (16)")
    _add_layer_options(parser)
    return parser


def _add_look(commands: Any) -> _Parser:
    text = (
        "look inside a stored LSTM or GRU: its gates, states and sensitivities for a series",
        "Run a stored recurrent net over a series, and draw gates, states and output of a layer, which output depends\n"
        "on which input, and how far back the gradient of the last output reaches. Prints one sentence per figure.\n\n"
        "WEIGHTS is one of\n"
        "  .safetensors   a state dict of PyTorch, or a model of this package\n"
        "  .onnx          a graph with LSTM, GRU or RNN nodes (needs onnx)\n"
        "  .keras, .h5    a model of Keras, or its weights (needs h5py)\n\n"
        "Scale the series as it was scaled in training. Steps are numbered from 1, units, layers and\n"
        "sequences from 0.",
        _examples(
            ("an nn.LSTM's state dict, and a table with a header", "look lstm.safetensors --input co2.csv"),
            (
                "one of several, one column, its last 100 steps",
                "look m.onnx --name lstm_1 --input a.csv --columns co2 --steps 401-500",
            ),
            ("the other direction of the first layer", "look m.keras --input x.npy --layer 0 --direction backward"),
        ),
    )
    own = {name: f"--{name}" for name in ("name", "layer", "direction", "sequence", "steps", "units")}
    parser = _command(commands, "look", text, "WEIGHTS --input FILE ", x="--input", **own)
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="a file of weights")
    add("--input", required=True, metavar="FILE", help="the series: .npy of shape (T,), (T, I) or (T, B, I), or CSV")
    add("--columns", type=_names, metavar="C,…", help="columns of a CSV: names in its header, or numbers from 1 (all)")
    add("--name", action="append", metavar="NAME", help="one of several nets in WEIGHTS; repeat it for a stack of nets")
    add("--nonlinearity", choices=("tanh", "relu"), help="non-linearity of an nn.RNN, which its state dict doesn't say")
    add("--layer", type=int, metavar="N", help="number of the layer; 0 is the first (the last)")
    add("--direction", choices=("forward", "backward"), help="direction of that layer (the first that it has)")
    add("--sequence", type=int, default=0, metavar="B", help="of the batch (0)")
    add("--steps", type=_span, metavar="A-B", help="steps to draw (the last 200); the model runs over all")
    add("--units", type=_sizes, metavar="N,…", help="units to draw (all, the slowest to forget at the top)")
    add("-o", "--out", default="look", metavar="FOLDER", help="folder for the figures, which are replaced (./look)")
    add("--format", choices=("svg", "png", "pdf", "both"), default="both", help="of the figures (both svg and png)")
    return parser


def _add_figures(commands: Any) -> _Parser:
    text = (
        "draw the figures of the tutorials",
        "Draw all or some figures of the tutorials as SVG and PNG (animations as GIF) from generated data, with the\n"
        "same bytes on every run. When all are drawn, also write a page that shows each and says how to read it.",
        _examples(
            ("list them", "figures --list"),
            ("all of them into ./figures", "figures --out figures"),
            ("one, for a slide", "figures --only memory_block --out ."),
        ),
    )
    parser = _command(commands, "figures", text)
    add = parser.add_argument
    add("--list", action="store_true", help="list the figures, and draw none")
    add("--only", action="append", metavar="NAME", help="draw only this figure; repeatable")
    add("--out", metavar="FOLDER", help="folder for the figures (figures of the source, else ./figures)")
    return parser


def _add_study(commands: Any) -> _Parser:
    text = (
        "let cells learn a task from many seeds",
        "Let each cell learn a task of the literature from each seed, until it has solved it or gives up, and write\n"
        "a table with a row for each run. Every finished run is kept in FOLDER: after Ctrl-C, a crash or a power cut\n"
        f"the study goes on with --resume.\n\ntasks:\n{_wrapped(TASKS)}\n\ncells:\n{_wrapped(CELLS)}",
        _examples(
            ("three cells, twenty seeds, two processes", "study adding --cells lstm,gru,nig --seeds 20 --workers 2"),
            ("go on after Ctrl-C", "study --resume study_adding --workers 2"),
            ("how far back can it remember", "study adding --set length=50,100,200 --forget-bias 5 -o lags"),
            ("which learning rate", "study parity --set length=10 --cells rnn --learning-rate 0.001,0.003,0.01"),
            ("on a Dask cluster that is running", "study reber --scheduler tcp://10.0.0.1:8786"),
        ),
    )
    own = {"task": "TASK", "tasks": "--set", "setting": "--set", "folder": "-o", "cells": "--cells", "seeds": "--seeds"}
    own |= {name: option(name) for name in ("hidden_size", "workers", "sequences", "clip")}
    parser = _command(commands, "study", text, "[TASK] ", **own)
    add = parser.add_argument
    add("task", nargs="?", metavar="TASK", help="one of those above")
    add("--set", type=_values, action="append", metavar="NAME=V,…", help="a setting of the task; several: each of them")
    add("--cells", type=_names, metavar="CELL,…", help="names, or .py files with equations (lstm)")
    add("--seeds", type=int, metavar="N", help="runs of each setting, with the seeds 0 to N - 1 (10)")
    add("-o", "--output", metavar="FOLDER", help="where the runs are kept (study_TASK)")
    add("--resume", metavar="FOLDER", help="continue the study in FOLDER")
    add("--quiet", action="store_true", help="no progress bar")
    group = parser.add_argument_group("settings of the runs", "by default those that the task suggests")
    add = group.add_argument
    add("--hidden-size", type=_sizes, metavar="H,…", help="units")
    add("--learning-rate", type=_numbers, metavar="A,…", help="of Adam")
    add("--forget-bias", type=_numbers, metavar="B,…", help="initial bias of a forget gate")
    add("--batch-size", type=int, metavar="N", help="sequences in a minibatch")
    add("--sequences", type=int, metavar="N", help="training sequences after which a run gives up")
    add("--clip", type=float, metavar="NORM", help="largest norm of the gradient (1)")
    group = parser.add_argument_group("where the runs are done", "each on one thread; the rows are the same everywhere")
    add = group.add_argument
    add("--workers", type=int, metavar="N", help="processes of this machine (1)")
    add("--scheduler", metavar="ADDRESS", help="a running Dask scheduler, such as tcp://10.0.0.1:8786")
    return parser


def _values(text: str) -> tuple[str, list[Any]]:
    """Read NAME=V,… with whole numbers where they are some."""
    name, equals, values = text.partition("=")
    if not (name.isidentifier() and equals and all(values.split(","))):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE such as length=100 or length=50,100, got {text!r}")
    return name, [int(each) if re.fullmatch(r"-?\d+", each) else each for each in values.split(",")]


def _add_demo(commands: Any) -> _Parser:
    text = (
        "check gradients, train a tagger, draw figures",
        "Check gradients, show why a simple recurrent net forgets, train a tagger to a stated accuracy, look at its\n"
        "gates, and write the figures. Exits with 1 if a gradient is wrong or the accuracy is not reached.",
        _examples(
            ("all of it", "demo"),
            ("in half the time, to a lower accuracy", "demo --quick"),
        ),
    )
    parser = _command(commands, "demo", text)
    add = parser.add_argument
    add("--out", metavar="FOLDER", help="folder for the figures (figures/demo, or similar for other data)")
    add("--quick", action="store_true", help="train for fewer epochs, to a lower accuracy")
    _add_source_options(parser)
    return parser


def _add_warm(commands: Any) -> _Parser:
    text = (
        "compile beforehand what the first gradient waits for",
        "Compile the loops of some cells and the update rules, and keep the result, so that nobody has to wait for it\n"
        "later: in the image of a container, say, or before a lecture. What is compiled already takes no time.",
        _examples(
            ("what the tutorials use", "warm"),
            ("every cell, for float32 alone", "warm --cells all --dtypes float32"),
        ),
    )
    parser = _command(commands, "warm", text)
    add = parser.add_argument
    add("--cells", type=_names, default=("lstm", "rnn", "gru"), metavar="NAME,…", help="names, or all (lstm,rnn,gru)")
    add("--dtypes", type=_names, default=("float32", "float64"), metavar="NAME,…", help="one or both (float32,float64)")
    return parser
