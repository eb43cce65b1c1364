"""What a file holds, found by reading it through: its digest, and where it may be cut into parts.

Loads nothing but numpy, so that a command can begin to read while its libraries are loaded.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np

CHUNK = 8 << 20
SPLIT = 16 << 20
"""Parts are read side by side: the last one alone keeps one core busy for as long as it takes."""


class Fills(Protocol):
    """An unbuffered file, as far as it is read here."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


@dataclass(frozen=True)
class Scan:
    """`digest` is BLAKE2b-128 over the content, `cuts` are (offset, line number) at which a line begins."""

    digest: str
    cuts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Ahead:
    version: tuple[int, int]
    scan: Future[Scan]


_ahead: dict[str, _Ahead] = {}


def scan(file: Fills) -> Scan:
    """Read an unbuffered file to its end. Takes little of the interpreter's lock."""
    digest = hashlib.blake2b(digest_size=16)
    cuts, offset, line = [(0, 1)], 0, 1
    chunk = bytearray(CHUNK)  # one for all: fresh memory costs as much as the reading
    view, numbers, newlines = memoryview(chunk), np.frombuffer(chunk, np.uint8), np.empty(CHUNK, np.bool_)
    while size := _fill(file, view):
        digest.update(view[:size])
        line += np.count_nonzero(np.equal(numbers[:size], 10, out=newlines[:size]))
        end = chunk.rfind(b"\n", 0, size) + 1
        if end and offset + end - cuts[-1][0] >= SPLIT:
            cuts.append((offset + end, int(line)))
        offset += size
    if len(cuts) > 1 and cuts[-1][0] >= offset:
        cuts.pop()
    return Scan(digest.hexdigest(), tuple(cuts))


def _fill(file: Fills, view: memoryview) -> int:
    """Fill `view` as far as the file goes, however little a call brings: cuts are the same everywhere."""
    size = 0
    while size < len(view) and (got := file.readinto(view[size:])):
        size += got
    return size


def begin(paths: list[tuple[str, tuple[int, int]]]) -> None:
    """Scan local files in the background, in order: each with the size and time of change that it has now."""
    pool = ThreadPoolExecutor(1)
    for path, version in paths:
        _ahead[path] = _Ahead(version, pool.submit(_open_and_scan, path))


def begun(path: str, version: tuple[int, int]) -> Scan | None:
    """What was found ahead in a file that is still of this version; waits for it if it is being read now."""
    ahead = _ahead.pop(path, None)
    if ahead is None or ahead.version != version or ahead.scan.cancel():
        return None
    with suppress(OSError):  # who reads the file anew names it and the reason
        return ahead.scan.result()
    return None


def forget() -> None:
    """Drop what was begun for nothing; what is being read is read to its end."""
    while _ahead:
        _ahead.popitem()[1].scan.cancel()


def _open_and_scan(path: str) -> Scan:
    with open(path, "rb", buffering=0) as file:
        return scan(file)
