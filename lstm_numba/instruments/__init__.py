"""Instruments that look into a net: check its gradients, measure its sensitivities, and find out what its units follow.

Read `jacobians` first: the vanishing gradient in formulas, and exactly how much each step depends on each other step;
`stack_jacobians` carries rows of derivatives through the steps and layers. Both use `step_slopes`, the derivatives of
one step of any cell. `gradient_check` compares gradients with differences. `word_effects` shows which words a tagger's
answer depends on, `unit_probes` which property of a text a unit tracks, and `report` what a stored model does with a
series; for this, `roles` finds out what each name in a cell's equations is for.
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
