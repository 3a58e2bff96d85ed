"""What looks into a net: are its gradients right, what does it feel, what does each unit follow.

Read `jacobians` first: the vanishing gradient in formulas, and exactly how much each step feels each other one; in
`stack_jacobians` through several layers. `step_slopes` has what both stand on, the derivatives of one step of any cell.
`gradient_check` compares gradients with differences. `word_effects` says what a tagger's answer hangs on, `unit_probes`
what a unit keeps track of, `report` what a stored model does with a series, by the `roles` that names have in a cell's
equations.
"""

from __future__ import annotations

from lstm_numba.instruments.gradient_check import gradcheck
from lstm_numba.instruments.jacobians import jacobian, sensitivity, step_jacobians
from lstm_numba.instruments.word_effects import replacement_effects, tag_sensitivity

__all__ = [
    "gradcheck",
    "jacobian",
    "replacement_effects",
    "sensitivity",
    "step_jacobians",
    "tag_sensitivity",
]
