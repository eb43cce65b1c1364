"""One at a time: locks on files that the system takes back from a process that dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold(path: Path, wait: bool = True) -> Generator[int | None]:
    """Hold the lock of a file, for this process and thread alone; the file stays, with the holder's number.

    Yields:
        None once it is held; or, where somebody else holds it and `wait` is false, the number of their
        process (0 if it is not known).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            said = file.read()
            yield int(said) if said.isdigit() else 0
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield None
