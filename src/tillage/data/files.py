"""The files behind a source: which, how large, what is in them, and the parts in which they are read."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tillage.core.errors import UserError
from tillage.core.workspace import write_atomic

CHUNK = 8 << 20
SPLIT = 16 << 20
"""Parts are read side by side: the last one alone keeps one core busy for as long as it takes."""


@dataclass(frozen=True)
class Part:
    """A range of one file that is read in one go. `start` and `stop` are bytes, or row groups of Parquet.

    `first` is the line (or record) number of the first record, from 1. `bytes` is what it holds on disk.
    """

    source: int
    path: str
    name: str
    size: int
    mtime_ns: int
    start: int
    stop: int
    first: int
    bytes: int


@dataclass(frozen=True)
class InputFile:
    """One input file and its version: `digest` is BLAKE2b-128 over the content."""

    source: int
    path: str
    name: str
    size: int
    mtime_ns: int
    digest: str
    cuts: tuple[tuple[int, int], ...]
    """(offset, line number) at which a line begins, where the file may be split; empty when it may not."""

    def parts(self) -> list[Part]:
        cuts = self.cuts or ((0, 1),)
        ends = [offset for offset, _ in cuts[1:]] + [self.size]
        return [
            Part(
                self.source, self.path, self.name, self.size, self.mtime_ns, start, stop, first, stop - start
            )
            for (start, first), stop in zip(cuts, ends, strict=True)
        ]


def resolve(patterns: list[str], suffixes: tuple[str, ...], where: str) -> tuple[str, list[str]]:
    """The root and the sorted files of glob patterns, folders (searched through) and files.

    Raises:
        UserError: a pattern matches no file.
    """
    found: set[str] = set()
    roots: list[str] = []
    for pattern in patterns:
        path = os.path.abspath(os.path.expanduser(pattern))
        if os.path.isdir(path):
            matches = [p for s in suffixes for p in glob.glob(f"{glob.escape(path)}/**/*{s}", recursive=True)]
            roots.append(path)
        elif glob.has_magic(path) and not os.path.exists(path):
            matches = glob.glob(path, recursive=True)
            roots.append(_fixed(path))
        else:
            matches = [path] if os.path.exists(path) else []
            roots.append(os.path.dirname(path))
        matches = [match for match in matches if os.path.isfile(match)]
        if not matches:
            raise UserError(
                "no input file matches",
                where=where,
                got=pattern,
                expected="a file, a folder or a glob with files " + ", ".join(f"*{s}" for s in suffixes),
            )
        found.update(matches)
    return os.path.commonpath(roots), sorted(found)


def _fixed(pattern: str) -> str:
    """The part of a glob before its first magic segment."""
    parts = Path(pattern).parts
    magic = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return str(Path(*parts[:magic]))


class Inventory:
    """Reads each file once to learn its digest and where it may be cut; remembers both between runs.

    `cache` is a JSON file; an entry holds while path, size and time of change are the same.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self._known: dict[str, list[object]] = {}
        if cache is not None and cache.exists():
            self._known = json.loads(cache.read_text())

    def look(self, files: list[tuple[int, str, str, bool]]) -> list[InputFile]:
        """One `InputFile` for each (source, path, name, may be split at newlines), in the same order."""
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            looked = list(pool.map(lambda file: self._one(*file), files))
        if self.cache is not None:
            fresh = {f.path: [f.size, f.mtime_ns, f.digest, f.cuts] for f in looked}
            write_atomic(self.cache, json.dumps({**self._known, **fresh}))
        return looked

    def _one(self, source: int, path: str, name: str, split: bool) -> InputFile:
        stat = stat_or_error(path)
        known = self._known.get(path)
        if known is not None and known[:2] == [stat.st_size, stat.st_mtime_ns] and (not split or known[3]):
            digest, cuts = str(known[2]), known[3] if split else ()
        else:
            digest, cuts = _scan(path, split)
        pairs = tuple((int(a), int(b)) for a, b in cuts)  # type: ignore[attr-defined]
        return InputFile(source, path, name, stat.st_size, stat.st_mtime_ns, digest, pairs)


def _scan(path: str, split: bool) -> tuple[str, list[tuple[int, int]]]:
    digest = hashlib.blake2b(digest_size=16)
    cuts, offset, line = [(0, 1)], 0, 1
    try:
        with open(path, "rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                if split:
                    end = chunk.rfind(b"\n") + 1
                    if end and offset + end - cuts[-1][0] >= SPLIT:
                        cuts.append((offset + end, line + chunk.count(b"\n", 0, end)))
                    line += chunk.count(b"\n")
                offset += len(chunk)
    except OSError as error:
        raise UserError("cannot read an input file", where=path, got=error.strerror) from error
    if len(cuts) > 1 and cuts[-1][0] >= offset:
        cuts.pop()
    return digest.hexdigest(), cuts if split else []


def stat_or_error(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise UserError(
            "an input file vanished", where=path, got=error.strerror, hint="put it back and run again"
        ) from error


def check_unchanged(part: Part) -> None:
    """`UserError` naming the file if it is not the one that the run was planned with."""
    stat = stat_or_error(part.path)
    if (stat.st_size, stat.st_mtime_ns) != (part.size, part.mtime_ns):
        raise UserError(
            "an input file changed while the run was using it",
            where=part.path,
            got=f"{stat.st_size} bytes",
            expected=f"{part.size} bytes as when the run was planned",
            hint="run again: the new content makes a new run",
        )


def versions(files: list[InputFile]) -> list[dict[str, object]]:
    """What lineage says of the inputs: name, bytes and digest of each file."""
    keep = ("source", "name", "path", "size", "digest")
    return [{key: value for key, value in asdict(file).items() if key in keep} for file in files]
