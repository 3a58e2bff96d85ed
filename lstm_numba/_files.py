"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: str | os.PathLike[str], raw: bytes) -> None:
    """Write bytes to `path`, replacing what is there.

    They go to a temporary file in the same folder, which then takes the name: another program, or this one after a
    power cut, sees the old file or the new one, never half of one.

    Raises
    ------
    OSError
        Where the folder doesn't exist or can't be written, or the disk is full; the old file, if any, is as it was.
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the process's mask for new files: `mkstemp` makes a file that others can't read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
