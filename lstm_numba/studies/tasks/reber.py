"""The embedded Reber grammar, string by string and as a stream without ends.

Sources: S. Hochreiter and J. Schmidhuber, *Long Short-Term Memory* (Neural Computation 9(8), 1997), experiment 1;
F. Gers, J. Schmidhuber and F. Cummins, *Learning to Forget: Continual Prediction with LSTM* (Neural Computation 12(10),
2000).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstm_numba.studies.tasks.task import Criterion, Minibatch, Suggested, Task, one_hot, register, steps_of, whole

SYMBOLS = "BTPSXVE"

# Reber's grammar: from each node the symbols that may follow, and where they lead; E ends it at node 7.
REBER = ({"B": 1}, {"T": 2, "P": 3}, {"S": 2, "X": 4}, {"T": 3, "V": 5}, {"X": 3, "S": 6}, {"P": 4, "V": 6}, {"E": 7})


def _embedded() -> list[dict[str, int]]:
    """The grammar with two copies of Reber's inside, B T (Reber) T E or B P (Reber) P E, and its end, node 19."""
    nodes: list[dict[str, int]] = [{"B": 1}, {"T": 2, "P": 10}]
    for symbol in "TP":
        here = len(nodes)
        nodes += [{each: here + to for each, to in node.items()} for node in REBER]
        nodes.append({symbol: 18})
    return [*nodes, {"E": 19}]


# Of each node: two symbols that come next with probability 0.5 each (twice the same where there is one), and where
# they lead; and the set of them. After the end no symbol comes; in a stream it would be the next string's B.
_NODES = _embedded()
_END = len(_NODES)
_NEXT_SYMBOL = np.array([[*map(SYMBOLS.index, node)] * (3 - len(node)) for node in _NODES] + [[-1, -1]]).ravel()
_NEXT_NODE = np.array([[*node.values()] * (3 - len(node)) for node in _NODES] + [[_END, _END]]).ravel()
_LEGAL = np.array([[each in node for each in SYMBOLS] for node in [*_NODES, {"B"}]])
_BLOCK = 16  # steps whose coins are tossed at once


def strings(rng: np.random.Generator, n: int) -> tuple[NDArray, NDArray]:
    """Draw n strings: symbols (L, n), -1 after a string's end, and the grammar's node after each of them (L, n)."""
    node = np.zeros(n, np.int64)
    edges: list[NDArray] = []
    nodes: list[NDArray] = []
    while node.min() < _END:
        for coins in rng.integers(0, 2, (_BLOCK, n)):
            edges.append(2 * node + coins)
            node = _NEXT_NODE.take(edges[-1])
            nodes.append(node)
    symbols = _NEXT_SYMBOL.take(np.array(edges))
    longest = np.count_nonzero((symbols >= 0).any(axis=1))
    return symbols[:longest], np.array(nodes)[:longest]


@dataclass(frozen=True)
class NextReberSymbol(Task):
    """Base class of both tasks: read a symbol at a time, predict the next.

        B T B P V V E T E        the symbol before the last is the second again

    Symbols are one-hot (7): B T P S X V E. The targets are the symbols that do come next. A prediction is right if the
    symbols that may come next, one or two, are the most probable ones; a sequence is right if all are.
    """

    sizes = (len(SYMBOLS), len(SYMBOLS))
    loss = "cross_entropy"
    tolerance = np.inf

    def predict_next(self, symbols: NDArray, nodes: NDArray) -> Minibatch:
        """Return x (T, B, 7), the next symbols (T, B) and, as truth, those that may come next, (T, B, 7) bool."""
        lengths = (symbols >= 0).sum(axis=0) - 1
        mask = steps_of(lengths)
        x = one_hot(symbols[:-1], len(SYMBOLS)) * mask[:, :, None]
        return Minibatch(x, np.where(mask > 0, symbols[1:], 0), mask, lengths, _LEGAL[nodes[:-1]])

    def right(self, errors: NDArray, outputs: NDArray, minibatch: Minibatch) -> NDArray:
        """Return for each sequence whether at each step the symbols that may come next are the most probable; (B,)."""
        legal = np.asarray(minibatch.truth)
        least_legal = np.where(legal, outputs, np.inf).min(axis=2)
        most_illegal = np.where(legal, -np.inf, outputs).max(axis=2)
        return ((least_legal > most_illegal) | (minibatch.mask == 0)).all(axis=0)


@register
class Reber(NextReberSymbol):
    """The embedded Reber grammar: a string a sequence, 9 symbols or more.

    Solved when the last 512 strings were right; they stand for the paper's 256 training strings and 256 test strings.
    See `NextReberSymbol`.

    The paper's figures, means of 30 runs: solved after 8,440 strings by its best LSTM (276 weights), in all runs;
    simple recurrent nets after 25,000 in some of the runs, or never (table 1).
    """

    name = "reber"
    criterion = Criterion(512)
    suggested = Suggested(16, 0.02, 16, 100_000)

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, 7), the next symbols (T, B), and which may come next."""
        return self.predict_next(*strings(rng, batch_size))


@register
@dataclass(frozen=True)
class ContinualReber(NextReberSymbol):
    """Strings of the embedded Reber grammar one after another, with nothing to say where one ends.

    The network's state is never reset within a stream, so it must learn to forget. A stream has `strings` strings. The
    task is solved when the last 10 streams were right from beginning to end. See `NextReberSymbol`.

    The paper's streams end at the first wrong prediction or after a million symbols. Of 100 networks with forget gates,
    18 % predicted a million symbols without an error, 62 % with a learning rate that decays; the LSTM of 1997, without
    forget gates, never (table 2).
    """

    name = "continual_reber"
    criterion = Criterion(10)
    suggested = Suggested(16, 0.02, 8, 20_000)

    strings: int = whole(20)

    def minibatch(self, rng: np.random.Generator, batch_size: int) -> Minibatch:
        """Return x (T, B, 7), the next symbols (T, B), and which may come next."""
        symbols, nodes = strings(rng, batch_size * self.strings)
        there = symbols >= 0
        sizes = there.sum(axis=0).reshape(batch_size, self.strings)
        begins = (sizes.cumsum(axis=1) - sizes).ravel()

        step, string = np.nonzero(there)
        place = begins[string] + step, string // self.strings
        stream = np.full((sizes.sum(axis=1).max(), batch_size), -1)
        stream[place] = symbols[there]
        visited = np.zeros(stream.shape, np.int64)
        visited[place] = nodes[there]
        return self.predict_next(stream, visited)
