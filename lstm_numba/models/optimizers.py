"""Update rules. Each works on flat arrays in place: θ, its gradient G and, for the 2015 rule, second derivatives D2.

Every rule has the same form, ``step(theta, gradient, second)``, and keeps its memory in flat arrays of θ's size. A
checkpoint stores these by name, so that training resumes exactly where it stopped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_numba import _checks
from lstm_numba.engine import pool, updates

_WORTH_A_THREAD = 100_000  # size of θ from which a second thread pays off


class Optimizer(ABC):
    """An update rule with its settings and memory.

    Attributes
    ----------
    needs_second
        Whether `step` needs second derivatives.
    learning_rate
        The learning rate; it may be changed between steps.
    iteration
        Number of steps taken so far.
    """

    name: str
    needs_second = False
    memory: tuple[str, ...] = ()

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = _checks.number("learning_rate", learning_rate, 0)
        self.iteration = 0
        self.state: dict[str, NDArray] = {}

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""

    def __repr__(self) -> str:
        """Return a call that makes a rule like this one."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"

    def step(
        self, theta: NDArray, gradient: NDArray, second: NDArray | None = None, keep: NDArray | None = None
    ) -> bool:
        """Change θ in place; return whether all of it is finite.

        Parameters
        ----------
        theta, gradient, second
            Flat arrays of the same size and dtype; `second` only if `needs_second`.
        keep
            An array that receives θ from before the step; None not to keep it.

        Raises
        ------
        TypeError
            If θ isn't an array of float32 or float64.
        ValueError
            If arrays differ in size or dtype, have gaps in memory or more than one axis; if θ has another size or dtype
            than in earlier steps; if θ or `keep` is read-only.
        """
        if not isinstance(theta, np.ndarray) or theta.dtype not in (np.float32, np.float64):
            got = f"dtype {theta.dtype}" if isinstance(theta, np.ndarray) else type(theta).__name__
            raise TypeError(f"theta: expected an array of float32 or float64, got {got}")
        if theta.ndim != 1:
            raise ValueError(f"theta: expected a flat array, got shape {theta.shape}")
        _check_like(theta, "theta", theta)
        _check_writable("theta", theta)
        _check_like(theta, "gradient", gradient)
        if self.needs_second:
            _check_like(theta, "second", second)
        for name in self.memory:
            if name not in self.state:
                self.state[name] = np.zeros_like(theta)
            _check_like(self.state[name], "theta", theta)
            _check_writable(f"state[{name!r}]", self.state[name])
        if keep is not None:
            _check_like(theta, "keep", keep)
            _check_writable("keep", keep)
        self.iteration += 1
        parts = pool.budget() if theta.size > _WORTH_A_THREAD else 1
        update = self._update(theta, gradient, second)

        def share(lo: int, hi: int) -> bool:
            if keep is not None:
                keep[lo:hi] = theta[lo:hi]
            finite = update(lo, hi)
            return bool(np.isfinite(theta[lo:hi]).all()) if finite is None else finite

        return all(pool.over(pool.ranges(theta.size, parts), share))

    @abstractmethod
    def _update(self, theta: NDArray, gradient: NDArray, second: NDArray | None) -> Any:
        """Return a function that does the step for a range of θ, and may return whether the result is finite."""


def _check_writable(name: str, array: NDArray) -> None:
    if not array.flags.writeable:
        raise ValueError(f"{name}: expected an array that can be changed, got a read-only one")


def _check_like(other: NDArray, name: str, array: NDArray | None) -> None:
    """Raise if the compiled loops, which see only the address of an array, can't take it."""
    if not isinstance(array, np.ndarray) or array.shape != other.shape or array.dtype != other.dtype:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else f"{array!r:.40}"
        raise ValueError(f"{name}: expected an array of {other.dtype} {other.shape}, got {got}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected an array without gaps in memory, got strides {array.strides}")


class SGD(Optimizer):
    """Gradient descent with momentum: v ← m v - α G, θ ← θ + v.

    Source: Rumelhart, Hinton & Williams, *Learning Representations by Back-Propagating Errors* (Nature 323, 1986).
    """

    name, memory = "sgd", ("v",)

    def __init__(self, learning_rate: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(learning_rate)
        self.momentum = _checks.number("momentum", momentum, 0, 1)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {"learning_rate": self.learning_rate, "momentum": self.momentum}

    def _update(self, theta: NDArray, gradient: NDArray, second: NDArray | None) -> Any:
        number = theta.dtype.type
        rest = number(self.learning_rate), number(self.momentum)
        return lambda lo, hi: updates.sgd(theta, gradient, self.state["v"], *rest, lo, hi)


class Adam(Optimizer):
    """Adam: m ← β₁ m + (1-β₁) G, v ← β₂ v + (1-β₂) G², θ ← θ - α m̂ / (√v̂ + ε).

    m̂ and v̂ are m and v corrected for their start at 0.
    Source: D. Kingma & J. Ba, *Adam: A Method for Stochastic Optimization* (ICLR 2015), algorithm 1.
    """

    name, memory = "adam", ("m", "v")

    def __init__(
        self, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        super().__init__(learning_rate)
        self.beta1 = _checks.number("beta1", beta1, 0, 1)
        self.beta2 = _checks.number("beta2", beta2, 0, 1)
        self.epsilon = _checks.number("epsilon", epsilon, 0)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        return {name: getattr(self, name) for name in ("learning_rate", "beta1", "beta2", "epsilon")}

    def _update(self, theta: NDArray, gradient: NDArray, second: NDArray | None) -> Any:
        number, t = theta.dtype.type, self.iteration
        corrections = 1 / (1 - self.beta1**t), 1 / (1 - self.beta2**t)
        rest = [number(x) for x in (self.learning_rate, self.beta1, self.beta2, self.epsilon, *corrections)]
        return lambda lo, hi: updates.adam(theta, gradient, self.state["m"], self.state["v"], *rest, lo, hi)


class Rule2015(Optimizer):
    """The update rule of the 2015 program: momentum, with a learning rate divided by running second derivatives.

        H ← β H + (1-β) D2        v ← m v + (1-m) α G / (H + μ)        θ ← θ - v

    H and v start at 0 without correction. (m, β) is `early` up to iteration `switch`, then `late`. The division is that
    of the stochastic diagonal Levenberg-Marquardt method (LeCun, Bottou, Orr & Müller, *Efficient BackProp*, 1998,
    section 9.1). Here each parameter has its own H and v. In the original program all gates and both directions shared
    one buffer, so a signed velocity got into the divisor.
    """

    name, memory, needs_second = "2015", ("v", "h"), True

    def __init__(
        self,
        learning_rate: float = 2e-3,
        mu: float = 1e-2,
        early: tuple[float, float] = (0.5, 0.5),
        late: tuple[float, float] = (0.95, 0.90),
        switch: int = 30,
    ) -> None:
        super().__init__(learning_rate)
        self.mu = _checks.number("mu", mu, 0)
        self.early = _momentum_and_beta("early", early)
        self.late = _momentum_and_beta("late", late)
        self.switch = _checks.size("switch", switch, 0)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, as JSON can hold them."""
        names = ("learning_rate", "mu", "early", "late", "switch")
        return {name: getattr(self, name) for name in names}

    def _update(self, theta: NDArray, gradient: NDArray, second: NDArray | None) -> Any:
        number = theta.dtype.type
        momentum, beta = self.early if self.iteration <= self.switch else self.late
        rest = [number(x) for x in (self.learning_rate, self.mu, momentum, beta)]
        v, h = self.state["v"], self.state["h"]
        return lambda lo, hi: updates.rule_2015(theta, gradient, second, v, h, *rest, lo, hi)


def _momentum_and_beta(name: str, pair: Any) -> tuple[float, float]:
    """Return two numbers of at least 0 and below 1, or raise."""
    if not _checks.several(pair) or len(pair) != 2:
        raise TypeError(f"{name}: expected a pair of numbers (m, β), got {pair!r:.60}")
    return _checks.number(name, pair[0], 0, 1), _checks.number(name, pair[1], 0, 1)


OPTIMIZERS: dict[str, type[Optimizer]] = {each.name: each for each in (SGD, Adam, Rule2015)}


def fresh(optimizer: Optimizer | str | None, default: Optimizer, names: Iterable[str] = OPTIMIZERS) -> Optimizer:
    """Return an update rule with an empty memory.

    Parameters
    ----------
    optimizer
        An update rule with the settings, or a name; None for the default.
    default
        The update rule to use for None.
    names
        Allowed names.

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    if isinstance(optimizer, str):
        return OPTIMIZERS[_checks.choice("optimizer", optimizer, names)]()  # type: ignore[call-arg]
    optimizer = default if optimizer is None else optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected an Optimizer or its name, got {optimizer!r:.60}")
    return type(optimizer)(**optimizer.config())


def clip_norm(gradient: NDArray, largest: float) -> float:
    """Scale a flat gradient down in place to a norm of at most `largest`; return its norm before.

    Source: R. Pascanu, T. Mikolov & Y. Bengio, *On the Difficulty of Training Recurrent Neural Networks* (ICML 2013),
    section 3.2.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity stay; training reports where
        squares = float(np.dot(gradient, gradient))
        if not np.isfinite(squares):  # squares above 3e38 overflow in float32, but not in float64
            squares = float(np.sum(np.square(gradient, dtype=np.float64)))
        norm = float(np.sqrt(squares))
        if norm > largest:
            gradient *= gradient.dtype.type(largest / norm)
    return norm
