"""Plain English in docstrings, comments and documents: the patterns that a machine can find.

The right words are in CONTRIBUTING.md, under "Style".
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "lstm_numba").rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("benchmarks/*.md")]

# A docstring says what a thing does or is. A clause in the place of a verb or a noun makes the reader guess which.
QUESTIONS = re.compile(r"(What|Where|How|Which|Who|Whose|That|Why|When)\b")

_WRT = "with respect to"
# A pattern → what to write.
STUMBLES = {
    r"\b(derivatives?|gradients?|Jacobians?) of [\w\s]{1,40} by (?!hand\b|the chain rule\b|reverse\b)": _WRT,
    r"\b(derivatives?|Jacobians?) by (the )?(x|h|c|input|output|loss|weight|state|parameter|single)\b": _WRT,
    r"\b(is|are|be) to be seen\b": "what to look for, what it shows",
    r"\bhas it to\b": "does it have to",
    r"\b(go|goes|going|went) on with\b": "continue with",
    r"\bshall\b": "must, will, is meant to",
    r"\brefused by name\b": "raises an error that names it",
    r"\bmistakes? in thought\b": "reasoning mistake",
    r"\bafter each other\b": "one after the other",
    r"\b(one|two|three) behind the other\b": "one after the other",
    r"\bbeneath each other\b": "one below the other",
}


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of a module's docstrings and comments."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield getattr(node, "lineno", 1), docstring
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def stumbles_in(text: str) -> list[str]:
    """Return the stumbles in a text, each with what to write."""
    flat = re.sub(r"\s+", " ", text)
    found = ((re.search(pattern, flat, re.IGNORECASE), better) for pattern, better in STUMBLES.items())
    return [f"{match[0]!r}; write: {better}" for match, better in found if match]


def questions_in(path: Path) -> list[str]:
    """Return the docstrings of a module that begin like a question."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            if QUESTIONS.match(docstring):
                found.append(f"{path.name}:{getattr(node, 'lineno', 1)}: {docstring.splitlines()[0]}")
    return found


def test_no_docstring_begins_like_a_question():
    found = [each for path in SOURCES for each in questions_in(path)]
    assert not found, "\n".join(found)


def test_no_docstring_or_comment_has_a_known_stumble():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {stumble}"
        for path in SOURCES
        for line, text in texts_of(path)
        for stumble in stumbles_in(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_has_a_known_stumble(path):
    assert not stumbles_in(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "the derivative of h by x",
        "Derivatives of a class by the input",
        "derivatives by single entries",
        "what is to be seen in it",
        "How many numbers has it to learn?",
        "training goes on with the next batch",
        "sequences that shall count",
        "an option is refused by name",
        "arrays that lie one behind the other",
    ],
)
def test_the_patterns_find_a_stumble(text):
    assert stumbles_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "the derivative of h with respect to x",
        "the derivative of the loss, divided by the batch size",
        "derivatives of the states by the chain rule",
        "a shallow network",
    ],
)
def test_the_patterns_leave_plain_english_alone(text):
    assert not stumbles_in(text)


def test_a_question_is_found(tmp_path):
    module = tmp_path / "module.py"
    module.write_text('"""Read a file."""\n\ndef f():\n    """What it returns."""\n', encoding="utf-8")
    assert questions_in(module) == ["module.py:3: What it returns."]
