"""Find the words that a tag depends on, by derivatives and by replacing words.

For a trained tagger, word s and the tag k of word t, with the log-odds ℓᵗ = log pᵗ[k] − log(1 − pᵗ[k]):

    derivative      S[s, t] = ‖∂ℓᵗ/∂xˢ‖
    replacement     R[s, t] = ℓᵗ of the sentence − ℓᵗ with another word instead of word s
    to first order  R[s, t] ≈ ∂ℓᵗ/∂xˢ · (xˢ − the other word's vector)

These use the log-odds, not the probability: if a tagger is sure of its tag, p is so close to 1 that it hardly changes,
since ∂p/∂x = p (1 − p) ∂ℓ/∂x. The factor is the same for all words, so it doesn't affect which word counts most.

The derivative predicts the effect of a small change of a word's vector; the replacement measures the effect of a large
one. If they agree, a picture of S may be read as "this tag depends on that word". Sources: K. Simonyan, A. Vedaldi & A.
Zisserman, *Deep Inside Convolutional Networks* (2014), for derivatives of a class with respect to the input; J. Li, W.
Monroe & D. Jurafsky, *Understanding Neural Networks through Representation Erasure* (2016), for removing words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.data.vocabulary import UNKNOWN
from lstm_numba.models.tagger import Tagger

__all__ = ["replacement_effects", "tag_sensitivity"]

_OF = ("log_odds", "log_probability", "probability")


def tag_sensitivity(
    tagger: Tagger, words: Sequence[str], labels: Sequence[str] | None = None, *, of: str = "log_odds"
) -> NDArray:
    """Return S[s, t] = ‖∂ℓᵗ/∂xˢ‖: how much the tag of word t depends on the vector of word s.

    One backward pass is enough: the batch holds T copies of the sentence, and in copy t only the tag of word t counts.

    Parameters
    ----------
    tagger : Tagger
        A fitted tagger.
    words : sequence of T words
        The sentence.
    labels : sequence of T labels, optional
        The tags to explain; by default those that the tagger predicts.
    of : {"log_odds", "log_probability", "probability"}
        The numerator of the derivative: log p − log(1 − p), log p or p.

    Returns
    -------
    ndarray (T, T), float64
        Indexed [s, t]. Computed in float64 whatever the tagger's dtype. With windows, zero for words outside.

    Raises
    ------
    TypeError, ValueError
        If `tagger` is no tagger, a string is given as the sentence, labels and words differ in number, or a label is
        unknown.
    RuntimeError
        If the tagger has learned nothing yet.
    """
    _check_tagger(tagger)
    _checks.choice("of", of, _OF)
    classes = _classes(tagger, words, labels)
    derivatives, _, source = _derivatives(tagger, words, classes, of)
    return _by_word(np.linalg.norm(derivatives, axis=2), source)


def replacement_effects(
    tagger: Tagger,
    words: Sequence[str],
    labels: Sequence[str] | None = None,
    *,
    by: str = UNKNOWN,
    first_order: bool = False,
) -> NDArray:
    """Return R[s, t]: how much the log-odds of word t's tag fall when word s is replaced.

    Parameters
    ----------
    tagger, words, labels
        As in `tag_sensitivity`.
    by : str
        The new word; by default one that the tagger does not know.
    first_order : bool
        Don't replace anything, but return the prediction of the derivative, ∂ℓᵗ/∂xˢ · (xˢ − the other word's vector).
        Unlike the norm of the derivative, it takes the direction of this change into account.

    Returns
    -------
    ndarray (T, T), float64
        Indexed [s, t]; negative where the tag becomes more probable.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As in `tag_sensitivity`.
    """
    _check_tagger(tagger)
    _check_words("by", [by])
    classes = _classes(tagger, words, labels)
    if first_order:
        derivatives, x, source = _derivatives(tagger, words, classes, "log_odds")
        return _by_word((derivatives * (x - _vector(tagger, by))).sum(axis=2), source)
    T = len(classes)
    variants = [list(words)] + [[*words[:s], by, *words[s + 1 :]] for s in range(T)]
    log_p = [np.asarray(each, np.float64) for each in tagger.log_probabilities(variants)]
    odds = np.array([_log_odds(each, classes) for each in log_p])
    return odds[0] - odds[1:]


def _check_tagger(tagger: Any) -> None:
    if not isinstance(tagger, Tagger):
        raise TypeError(f"tagger: expected a Tagger, got {type(tagger).__name__}")


def _check_words(name: str, words: Any) -> None:
    if not _checks.several(words) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{name}: expected a sequence of str, got {words!r:.60}")
    if not len(words):
        raise ValueError(f"{name}: expected at least one, got none")


def _classes(tagger: Tagger, words: Sequence[str], labels: Sequence[str] | None) -> NDArray:
    """Return the class of each word's tag: the given one, or the tagger's prediction."""
    _check_words("words", words)
    if labels is not None:
        _check_words("labels", labels)
    answer = tagger.predict([words])[0]
    chosen = answer if labels is None else list(labels)
    if len(chosen) != len(answer):
        raise ValueError(f"labels: expected {len(answer)}, one for each word, got {len(chosen)}")
    known = {label: n for n, label in enumerate(tagger.labels)}
    for label in chosen:
        if label not in known:
            raise ValueError(f"labels: expected labels out of {', '.join(tagger.labels)}; got {label!r}")
    return np.array([known[label] for label in chosen])


def _derivatives(tagger: Tagger, words: Sequence[str], classes: NDArray, of: str) -> tuple[NDArray, NDArray, NDArray]:
    """Return the derivatives with respect to the inputs of all copies, these inputs (steps, T, I), and their words."""
    network = tagger.network.astype(np.float64)
    ids, middle, source = _copies(tagger, words)
    trace = network.forward(ids)

    copies = np.arange(len(classes))
    log_p = trace.log_probabilities[middle, copies]  # (T, C): of word t in copy t
    seed = np.zeros_like(trace.logits)
    seed[middle, copies] = _slopes(log_p, classes, of)
    return _back_to_input(network, trace, seed), trace.layers[0][0].x, source


def _by_word(values: NDArray, source: NDArray) -> NDArray:
    """Turn values of every position in every copy (steps, T) into a map [s, t]; zero for words outside a window."""
    T = values.shape[1]
    S = np.zeros((T, T))
    inside = source >= 0
    S[source[inside], np.broadcast_to(np.arange(T), source.shape)[inside]] = values[inside]
    return S


def _vector(tagger: Tagger, word: str) -> NDArray:
    """Return the vector with which a word enters the network, (I,)."""
    ids, middle, _ = _copies(tagger, [word])
    x = tagger.network.astype(np.float64).forward(ids).layers[0][0].x
    return x[middle[0], 0]


def _copies(tagger: Tagger, words: Sequence[str]) -> tuple[NDArray, NDArray, NDArray]:
    """Return word numbers (steps, T) of the copies, the place of word t in copy t (T,), the word at each or −1."""
    ids = tagger.trace(words).ids
    assert ids is not None  # a tagger's network begins with an embedding
    T = len(words)
    if tagger.window is None:
        return np.repeat(ids, T, axis=1), np.arange(T), np.repeat(np.arange(T)[:, None], T, axis=1)
    half = tagger.window // 2
    source = np.arange(T) + np.arange(-half, half + 1)[:, None]  # in window t: the words around word t
    return ids, np.full(T, half), np.where((source >= 0) & (source < T), source, -1)


def _slopes(log_p: NDArray, classes: NDArray, of: str) -> NDArray:
    """∂(log-odds, log p or p of the class)/∂(sums before the softmax), (T, C)."""
    rows = np.arange(len(classes))
    p = np.exp(log_p)
    others = p.copy()
    others[rows, classes] = 0
    rest = others.sum(axis=1, keepdims=True)  # 1 − p, without the digits that 1 − p would lose
    slopes = -others / rest
    slopes[rows, classes] = 1.0  # ∂ℓ/∂z: 1 for the class itself, minus the shares of the others
    if of == "log_odds":
        return slopes
    factor = rest if of == "log_probability" else rest * p[rows, classes][:, None]
    return slopes * factor


def _log_odds(log_p: NDArray, classes: NDArray) -> NDArray:
    rows = np.arange(len(classes))
    others = log_p.copy()
    others[rows, classes] = -np.inf
    return log_p[rows, classes] - np.logaddexp.reduce(others, axis=1)


def _back_to_input(network: Any, trace: Any, seed: NDArray) -> NDArray:
    """Carry derivatives of the sums before the softmax (T, B, C) back to the input (T, B, I)."""
    stack = network.stack
    return stack.run_back(trace.layers, seed @ network["output.S"], stack.parameters().empty_like())[1]
