"""Equations as text and as formulas."""

from __future__ import annotations


class Equations:
    """Equations."""

    def _repr_latex_(self) -> str:
        return ""


def forward_equations(program):
    """Return the equations."""
    return Equations()


def backward_equations(program):
    """Return the equations."""
    return Equations()
