"""Store what notebook 11 trains with PyTorch in the package, for readers who don't have it.

    python notebooks/store_sunspot_nets.py

Runs the notebook's own cells and writes ``lstm_numba/data/sunspot_nets.safetensors``. To be run when those cells have
changed; needs PyTorch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
import numpy as np
from safetensors.numpy import save

from lstm_numba import data
from lstm_numba._files import write_whole

NOTEBOOK = Path(__file__).resolve().parent / "11_look_inside_your_own_lstm.ipynb"
CELLS = ("setup", "task", "train", "load", "first-error", "changes")


def trained() -> dict[str, list[dict[str, np.ndarray]]]:
    """Run the notebook's cells and return its networks: change → seeds → state dict."""
    cells = {cell.id: cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    names: dict[str, Any] = {}
    with patch.object(data, "load_sunspot_nets", dict):  # which the file to be written isn't there for
        for cell in CELLS:
            exec(compile(cells[cell], f"{NOTEBOOK.name}: {cell}", "exec"), names)
    return {**names["nets"], "as it comes, untrained": [names["train"](seed=0, updates=0)]}


def main() -> int:
    """Run the program and return its exit code."""
    arrays = {
        f"{change}/{seed}/{name}": np.ascontiguousarray(array)
        for change, states in trained().items()
        for seed, state in enumerate(states)
        for name, array in state.items()
    }
    write_whole(data.SUNSPOT_NETS, save(arrays))
    print(f"wrote {len(arrays)} arrays")
    return 0


if __name__ == "__main__":
    sys.exit(main())
