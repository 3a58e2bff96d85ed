"""``python -m lstm_numba``: the command line."""

from __future__ import annotations

import sys

from lstm_numba.cli import main

if __name__ == "__main__":
    sys.exit(main())
