"""Write equations as sums of products in Unicode or in LaTeX, with time as a superscript."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lstm_numba.cells.derive import delta_names, gates_of
from lstm_numba.cells.expressions import Expression
from lstm_numba.cells.functions import above, slope
from lstm_numba.cells.program import Program
from lstm_numba.cells.reading import joined

_GREEK = {
    word: letter
    for letter, word in zip(
        "αβγδεζηθικλμνξπρστφχψω",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi "
        "omega".split(),
        strict=True,
    )
}
_IN_TEXT = {"sigmoid": "σ", "sqrt": "√", "maximum": "max", "minimum": "min"}
_IN_LATEX = {
    "sigmoid": r"\sigma",
    "tanh": r"\tanh",
    "exp": r"\exp",
    "log": r"\log",
    "maximum": r"\max",
    "minimum": r"\min",
    "hard_sigmoid": r"\mathrm{hard\_sigmoid}",
    "hard_sigmoid_6": r"\mathrm{hard\_sigmoid\_6}",
}
_TIMES = {"": "", "t": "ᵗ", "t-1": "ᵗ⁻¹", "t+1": "ᵗ⁺¹", "0": "⁰", "1": "¹"}
_BEFORE = {"t": "t-1", "t+1": "t", "1": "0"}
ANY = "ₖ"  # the gate over which a sum runs
PARAMETER = ".parameter"  # suffix of the name of a bias; no version of a name has it


class Equation(NamedTuple):
    """One equation: its two sides, and a note on the gates k it holds for."""

    left: str
    right: str
    note: str = ""


@dataclass(frozen=True)
class Equations:
    """Equations: text when printed, formulas in a notebook.

    Attributes
    ----------
    text, latex : list of Equation
        The same equations in Unicode and in LaTeX.
    """

    text: list[Equation]
    latex: list[Equation]

    def __str__(self) -> str:
        """Return one equation per line."""
        width = max(len(each.left) for each in self.text)
        lines = [f"{each.left:<{width}} = {each.right}" for each in self.text]
        right = max((len(line) for line, each in zip(lines, self.text, strict=True) if each.note), default=0)
        return "\n".join(
            f"{line:<{right}}    {each.note}" if each.note else line
            for line, each in zip(lines, self.text, strict=True)
        )

    __repr__ = __str__

    def _repr_latex_(self) -> str:
        notes = [rf" \qquad {each.note}" if each.note else "" for each in self.latex]
        lines = [f"{each.left} &= {each.right}{note}" for each, note in zip(self.latex, notes, strict=True)]
        return "$$\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}$$"


# -- two ways to write ------------------------------------------------------------------------------------------------


class Text:
    """Writes Unicode."""

    times, minus, slash = " ⊙ ", "−", " / "
    sum_over_time, sum_over_gates, partial = "Σₜ ", "Σₖ ", "∂L/∂"

    def symbol(self, base: str, of: str = "", time: str = "", version: str = "", mark: str = "") -> str:
        """Write a letter with its subscript, superscript and marks."""
        below = of if of in ("", ANY) else f"_{of}"
        number = f"₍{''.join('₀₁₂₃₄₅₆₇₈₉'[int(digit)] for digit in version)}₎" if version else ""
        return f"{_GREEK.get(base, base)}{mark}{below}{number}{_TIMES[time]}"

    def bracketed(self, inner: str, pair: str = "()") -> str:
        """Write brackets around something."""
        return f"{pair[0]}{inner}{pair[1]}"

    def function(self, text: str, mark: str, inner: str) -> str:
        """Write a function, or with a mark its slope, of something."""
        called = "" if text == "abs" else _IN_TEXT.get(text, text) + mark
        return called + self.bracketed(inner, "()" if called else "||")

    def fraction(self, over: str, under: Sequence[str]) -> str:
        """Write a fraction."""
        below = self.times.join(under)
        return f"{over} / {below}" if len(under) == 1 else f"{over} / ({below})"

    def number(self, value: float) -> str:
        """Write a number."""
        return (f"{value:g}" if float(f"{value:g}") == value else repr(value)).replace("e+", "e")

    def note(self, gates: Sequence[str]) -> str:
        """Write which gates k runs over."""
        return f"k over {', '.join(gates)}"

    def transposed(self, symbol: str) -> str:
        """Write a matrix or column transposed."""
        return f"{symbol}ᵀ"


class Latex(Text):
    """Writes LaTeX, as far as MathJax, KaTeX and Matplotlib agree on it."""

    times, minus = r" \odot ", "-"
    sum_over_time, sum_over_gates, partial = r"\sum_t ", r"\sum_k ", r"\partial L / \partial "

    def _word(self, text: str) -> str:
        if text in _GREEK:
            return rf"\{'varepsilon' if text == 'epsilon' else text} ".rstrip()
        return "k" if text == ANY else text if len(text) == 1 else rf"\mathrm{{{text}}}"

    def _subscript(self, text: str) -> str:
        return ",".join(map(self._word, text.split("_")))

    def symbol(self, base: str, of: str = "", time: str = "", version: str = "", mark: str = "") -> str:
        """Write a letter with its subscript, superscript and marks."""
        below = (self._subscript(of) if of else "") + (f"({version})" if version else "")
        parts = [self._word(base), "'" * len(mark), f"_{{{below}}}" if below else "", f"^{{{time}}}" if time else ""]
        return "".join(parts)

    def bracketed(self, inner: str, pair: str = "()") -> str:
        """Write brackets around something; they grow with a fraction."""
        return rf"\left{pair[0]} {inner} \right{pair[1]}" if r"\frac" in inner else super().bracketed(inner, pair)

    def function(self, text: str, mark: str, inner: str) -> str:
        """Write a function, or with a mark its slope, of something."""
        if text == "sqrt":
            return rf"\sqrt{{{inner}}}"
        called = "" if text == "abs" else _IN_LATEX.get(text, rf"\mathrm{{{text}}}") + "'" * len(mark)
        return called + self.bracketed(inner, "()" if called else "||")

    def fraction(self, over: str, under: Sequence[str]) -> str:
        """Write a fraction."""
        return rf"\frac{{{over}}}{{{self.times.join(under)}}}"

    def number(self, value: float) -> str:
        """Write a number."""
        digits, _, power = super().number(value).partition("e")
        if not power:
            return digits
        return ("" if digits == "1" else rf"{digits} \cdot ") + f"10^{{{int(power)}}}"

    def note(self, gates: Sequence[str]) -> str:
        """Write which gates k runs over."""
        return rf"k \in \{{{', '.join(map(self._subscript, gates))}\}}"

    def transposed(self, symbol: str) -> str:
        """Write a matrix or column transposed."""
        return rf"{symbol[:-1]}\,\top}}" if "^{" in symbol and symbol[-1] == "}" else rf"{symbol}^{{\top}}"


# -- sums of products -------------------------------------------------------------------------------------------------


class Term(NamedTuple):
    """A product: a number, factors, and divisors."""

    number: float
    over: tuple[Expression, ...] = ()
    under: tuple[Expression, ...] = ()

    def negative(self) -> Term:
        """Return the product with the other sign."""
        return self._replace(number=-self.number)


def terms_of(x: Expression) -> list[Term]:
    """Return an expression as a sum of products; sums inside products are not expanded."""
    if x.op == "+":
        return terms_of(x.args[0]) + terms_of(x.args[1])
    if x.op == "-":
        return terms_of(x.args[0]) + [each.negative() for each in terms_of(x.args[1])]
    if x.op == "negative":
        return [each.negative() for each in terms_of(x.args[0])]
    return [_product(x)]


def _product(x: Expression) -> Term:
    if x.op == "number":
        return Term(x.args[0])
    if x.op == "negative":
        return _product(x.args[0]).negative()
    if x.op == "*":
        left, right = map(_product, x.args)
        return Term(left.number * right.number, left.over + right.over, left.under + right.under)
    if x.op == "/":
        above_line = _product(x.args[0])
        return above_line._replace(under=(*above_line.under, x.args[1]))
    return Term(1.0, (x,))


class Writer:
    """Writes a program's expressions in one of the two ways.

    Beside a program's own, expressions may hold ``product`` and ``transposed`` (W, x) for W x and Wᵀ x, and names of
    derivatives: ``delta_k``, ``epsilon_s``, and ``e.version`` for ∂L/∂ of any other name.
    """

    def __init__(self, program: Program, style: Text) -> None:
        self.program, self.style = program, style
        self.symbols: dict[str, tuple[str, str, str]] = {}  # name → letter, subscript, version unless it is the last
        finals = set(program.final.values())
        for version in [*gates_of(program), *(target for target, _ in program.lines)]:
            text, _, count = version.partition(".")
            number = "" if version in finals else count or "0"
            self.symbols[version] = (*_parts(text), number)
            self.symbols[f"e.{version}"] = ("epsilon", text, number)
        for text in (*delta_names(program).values(), *(f"epsilon_{state}" for state in program.arguments.states)):
            self.symbols[text] = (*_parts(text), "")

    def sum(self, x: Expression | Iterable[Term], time: str = "t") -> str:
        """Write an expression, or a sum, at a time."""
        return self.sum_of([(each, time) for each in (terms_of(x) if isinstance(x, Expression) else x)])

    def sum_of(self, terms: Iterable[tuple[Term, str]], before: Sequence[str] = ()) -> str:
        """Write a sum of terms, each with its time, after the parts already written."""
        text = " + ".join(before)
        for each, time in terms:
            sign = self.style.minus if each.number < 0 else "+"
            product = self.term(each._replace(number=abs(each.number)), time)
            text += f" {sign} {product}" if text else product if sign == "+" else sign + product
        return text or "0"

    def term(self, term: Term, time: str) -> str:
        """Write a product at a time."""
        in_fraction = bool(term.under) and isinstance(self.style, Latex)
        alone = len(term.over) == 1 and (not term.under or in_fraction) and term.number == 1
        over = self.style.times.join(self.factor(each, time, alone) for each in term.over)
        if term.number != 1 or not over:
            over = f"{self.style.number(term.number)} {over}".rstrip()
        if not term.under:
            return over
        alone = in_fraction and len(term.under) == 1
        return self.style.fraction(over, [self.factor(each, time, alone) for each in term.under])

    def factor(self, x: Expression, time: str, alone: bool = False) -> str:
        """Write a factor; sums in brackets unless they stand alone."""
        if x.op == "name":
            return self.name(x.args[0], time)
        if x.op == "call":
            return self._call(*x.args, time=time)
        if x.op in ("product", "transposed"):
            W = self.weight(x.args[0])
            return f"{self.style.transposed(W) if x.op == 'transposed' else W} {self.factor(x.args[1], time)}"
        alone = alone or (x.op == "number" and x.args[0] >= 0)
        return self.sum(x, time) if alone else self.style.bracketed(self.sum(x, time))

    def _call(self, function: str, *arguments: Expression, time: str) -> str:
        if function == slope.name:
            of, value = arguments  # φ, φ(a)
            return self.style.function(of.args[0], "′", self.sum(value.args[1], time))
        inner = [self.sum(each, time) for each in arguments]
        if function == above.name:
            return self.style.bracketed(" > ".join(inner), "[]")
        return self.style.function(function, "", ", ".join(inner))

    def name(self, version: str, time: str = "t") -> str:
        """Write a name at a time."""
        if version in self.program.arguments.diagonals:
            return self.weight(version.replace("v", "V", 1))
        if version.endswith(PARAMETER):
            return self.weight(version.removesuffix(PARAMETER))
        if version in self.symbols:
            letter, of, number = self.symbols[version]
            return self.style.symbol(letter, of, time, number)
        if version == "x":
            return self.style.symbol("x", time=time)
        return self.style.symbol(*_parts(version.removesuffix("_prev")), time=_BEFORE[time])

    def weight(self, text: str) -> str:
        """Write a parameter: "W_f", "bw_n"."""
        letters, gate = _parts(text)
        return self.style.symbol(letters[0], gate, mark="′" * (letters == "bw"))

    def over_gates(
        self, letter: str, gates: Sequence[str], form: Callable[[str, str], str], time: str = "t"
    ) -> tuple[list[str], str]:
        """Write a term with a parameter and δ: once for all gates with a note on k, or for a single gate."""
        if len(gates) > 1:
            symbols = self.style.symbol(letter, ANY), self.style.symbol("delta", ANY, time)
            return [form(*symbols)], self.style.note(gates)
        return [form(self.weight(joined(letter, each)), self.name(joined("delta", each), time)) for each in gates], ""


def _parts(text: str) -> tuple[str, str]:
    letter, _, of = text.partition("_")
    return letter, of


__all__ = ["ANY", "PARAMETER", "Equation", "Equations", "Latex", "Term", "Text", "Writer", "terms_of"]
