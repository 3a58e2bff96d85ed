"""Modules that were renamed: importing one by its old name raises an error that gives the new name."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # `typing` has the same name, but takes longer to import than this whole module
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

# The old name → the new one, both without "lstm_numba.".
MOVED = {
    "memory": "engine.buffers",
    "_compile": "engine.compiling",
    "kernels": "engine.recurrence",
    "matmul": "engine.matmul",
    "nonlinearities": "engine.nonlinearities",
    "threads": "engine.pool",
    "team": "engine.tasks",
    "updates": "engine.updates",
    "simd": "engine.vectors",
    "layer": "layers.recurrent",
    "checkpoints": "layers.checkpoints",
    "initializers": "layers.initial_weights",
    "lstm": "layers.lstm",
    "parameters": "layers.parameters",
    "rnn": "layers.simple_rnn",
    "stack": "layers.stack",
    "letters": "models.character_model",
    "embedding": "models.embedding",
    "losses": "models.losses",
    "network": "models.network",
    "ngrams": "models.ngrams",
    "optimizers": "models.optimizers",
    "recipes": "models.presets",
    "tagger": "models.tagger",
    "training": "models.training",
    "gradcheck": "instruments.gradient_check",
    "sensitivity": "instruments.jacobians",
    "look": "instruments.report",
    "stack_sensitivity": "instruments.stack_jacobians",
    "tracking": "instruments.unit_probes",
    "word_effects": "instruments.word_effects",
    "widgets_block": "tutorials.block_widget",
    "faults": "tutorials.bugs_of_2015",
    "gallery": "tutorials.gallery",
    "packing": "plots.packing",
    "widgets": "tutorials.widgets",
    "commands": "cli",
    "demo": "cli.demo",
    "plots.ladder": "plots.rungs",
    "plots.unit_maps": "plots.maps_of_units",
}


def new_name(old: str) -> str | None:
    """Return a sentence with a module's new name, or None if it hasn't moved."""
    package, _, name = old.partition(".")
    if package != "lstm_numba" or name not in MOVED:
        return None
    return f"{old} has moved: import lstm_numba.{MOVED[name]}"


class _Finder:
    """An import finder that raises for modules that have moved, and finds nothing."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if (text := new_name(fullname)) is not None:
            raise ModuleNotFoundError(text)
        return None


def install() -> None:
    """Make imports ask this finder before they look for a file."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
