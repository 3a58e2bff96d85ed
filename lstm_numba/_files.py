"""Write files whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where the files of killed writers stay
    fcntl = None  # type: ignore[assignment]


def write_whole(path: str | os.PathLike[str], raw: bytes) -> None:
    """Write bytes to `path`, replacing what is there.

    They go to a temporary file in the same folder, which is then renamed. So another program, or this one after a power
    cut, sees the old file or the new one, never half of one. The new file has the old one's mode. Temporary files of
    the same target whose writers were killed are removed.

    Raises
    ------
    OSError
        If the folder doesn't exist or can't be written, or the disk is full; the old file, if any, is unchanged.
        Also if the target is a device, a pipe or a socket, which a file would replace.
    """
    path = Path(path)
    mode = _mode_of(path)
    descriptor, temporary = _temporary_beside(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _remove_leftovers(path)
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, mode)
            if fcntl:  # while the lock is held
                os.replace(temporary, path)
        if not fcntl:
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _mode_of(path: Path) -> int:
    """Return the mode of a file, or the mode for a new one; raise if the path isn't a file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return 0o666 & ~_umask()
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # for a folder, the system raises the error
        raise OSError(f"{path}: expected a file or a new name, got a device, a pipe or a socket; it stays as it is")
    return stat.S_IMODE(mode)


def _temporary_beside(path: Path) -> tuple[int, str]:
    """Make a temporary file for a target, and lock it to show that its writer is alive; return descriptor and name."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with contextlib.suppress(OSError):  # the file system has no locks
            if fcntl:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink or not fcntl:
            return descriptor, name
        os.close(descriptor)  # another writer removed it before it was locked


def _remove_leftovers(path: Path) -> None:
    """Remove a target's temporary files that aren't locked: their writers were killed."""
    if not fcntl:
        return
    ours = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.tmp")
    with contextlib.suppress(OSError):
        for name in filter(ours.fullmatch, os.listdir(path.parent)):
            _remove_unlocked(path.parent / name)


def _remove_unlocked(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)


def _umask() -> int:
    """Return the process's mask for new files: `mkstemp` makes a file that others can't read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
