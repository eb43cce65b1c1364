"""Folders that appear whole or not at all, and whose content is checked against what was written."""

from __future__ import annotations

import io
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tillage.core.workspace import write_atomic

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SUMS = "sums.json"
"""In each folder: file name -> [bytes, CRC-32]."""
_CHUNK = 4 << 20
Sums = Mapping[str, list[int]]
"""The same for files whose checksums were taken as they were written."""


def make_whole(
    folder: Path, fill: Callable[[Path], Sums | None], damaged: Callable[[str], None] = lambda what: None
) -> bool:
    """Make `folder` by filling a temporary one and renaming it; False if it was there already.

    A process that dies half way leaves only a temporary folder, which `sweep` removes. The sizes and
    checksums of the files are written beside them; a folder that is there but differs from them is told to
    `damaged`, removed and made again. `fill` may return the sums that it knows.
    """
    if folder.exists():
        what = damage(folder)
        if what is None:
            return False
        damaged(what)
        discard(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        known = fill(temporary)
        write_atomic(temporary / SUMS, json.dumps(sums(temporary, known or {})))
        try:
            temporary.rename(folder)
        except OSError:
            # Another process finished the same work first: its result is as good as ours.
            if not folder.exists():
                raise
            return False
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def discard(folder: Path) -> None:
    """Remove `folder` so that it is never seen half removed."""
    if folder.exists():
        gone = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def checksum(path: Path) -> int:
    """CRC-32 of a file's content: finds every single flipped bit; no protection against intent."""
    crc = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


class SummedFile(io.RawIOBase):
    """A file to write from its beginning to its end, whose checksum is taken on the way."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("wb", buffering=0)
        self._size = self._crc = 0

    @property
    def sum(self) -> list[int]:
        """Bytes and CRC-32 of what was written."""
        return [self._size, self._crc]

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: ReadableBuffer, /) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        self._crc = zlib.crc32(left, self._crc)
        self._size += size
        while left:
            left = left[self._file.write(left) :]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def sums(folder: Path, known: Sums | None = None) -> dict[str, list[int]]:
    """Bytes and checksum of each file below `folder`, by its path in it; those of `known` are not read."""
    found: dict[str, list[int]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS):
        name = path.relative_to(folder).as_posix()
        found[name] = (known or {}).get(name) or [path.stat().st_size, checksum(path)]
    return found


def damage(folder: Path) -> str | None:
    """What is wrong with a finished folder, as a sentence; None if it is as it was written."""
    try:
        written: dict[str, list[int]] = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"{folder / SUMS} cannot be read: {error}"
    found = sums(folder)
    for name, expected in written.items():
        if name not in found:
            return f"{folder / name} is gone"
        if found[name] != expected:
            return f"{folder / name} is not what was written"
    return None


def sweep(folder: Path) -> None:
    """Remove what dead processes left unfinished in `folder`."""
    for temporary in folder.glob(".*.tmp"):
        owner = temporary.name.split(".")[-3]
        if owner.isdigit() and not process_lives(int(owner)):
            shutil.rmtree(temporary, ignore_errors=True)


def process_lives(pid: int) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
