"""The files behind a source: which, how large, what is in them, and the parts in which they are read."""

from __future__ import annotations

import glob
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from tillage.core.errors import UserError
from tillage.core.workspace import write_atomic
from tillage.data import scan
from tillage.data.remote import find, is_url, open_input, size_and_stamp


@dataclass(frozen=True)
class Part:
    """A range of one file that is read in one go. `start` and `stop` are bytes, or row groups of Parquet.

    `stamp` is the file's time of change (ns), or of a URL a number that another version would not have (0:
    none is known). `first` is the line (or record) number of the first record, from 1. `bytes` is what it
    holds on disk.
    """

    source: int
    path: str
    name: str
    size: int
    stamp: int
    start: int
    stop: int
    first: int
    bytes: int


@dataclass(frozen=True)
class InputFile:
    """One input file and its version: `digest` is BLAKE2b-128 over the content, `stamp` as of a part."""

    source: int
    path: str
    name: str
    size: int
    stamp: int
    digest: str
    cuts: tuple[tuple[int, int], ...]
    """(offset, line number) at which a line begins, where the file may be split; empty when it may not."""

    def parts(self) -> list[Part]:
        cuts = self.cuts or ((0, 1),)
        ends = [offset for offset, _ in cuts[1:]] + [self.size]
        return [
            Part(self.source, self.path, self.name, self.size, self.stamp, start, stop, first, stop - start)
            for (start, first), stop in zip(cuts, ends, strict=True)
        ]


def resolve(patterns: list[str], suffixes: tuple[str, ...], where: str) -> tuple[str, list[str]]:
    """The root and the sorted files of glob patterns, folders (searched through) and files, by path or URL.

    Raises:
        UserError: a pattern matches no file, or paths and URLs are mixed.
    """
    found: set[str] = set()
    roots: list[str] = []
    if len({is_url(pattern) for pattern in patterns}) > 1:
        raise UserError(
            "local paths and URLs in one source",
            where=where,
            got=", ".join(patterns),
            hint="make a source of each",
        )
    for pattern in patterns:
        if is_url(pattern):
            root, matches = find(pattern, suffixes)
            found.update(matches)
            roots.append(root)
            if not matches:
                raise _no_match(where, pattern, suffixes)
            continue
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
            raise _no_match(where, pattern, suffixes)
        found.update(matches)
    return os.path.commonpath(roots), sorted(found)


def _no_match(where: str, pattern: str, suffixes: tuple[str, ...]) -> UserError:
    return UserError(
        "no input file matches",
        where=where,
        got=pattern,
        expected="a file, a folder or a glob with files " + ", ".join(f"*{s}" for s in suffixes),
    )


def _fixed(pattern: str) -> str:
    """The part of a glob before its first magic segment."""
    parts = Path(pattern).parts
    magic = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return str(Path(*parts[:magic]))


class Inventory:
    """Reads each file once to learn its digest and where it may be cut; remembers both between runs.

    `cache` is a JSON file; an entry holds while path, size and time of change are the same. Files of URLs
    are read anew each time.
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
        scan.forget()
        if self.cache is not None:
            fresh = {f.path: [f.size, f.stamp, f.digest, f.cuts] for f in looked if not is_url(f.path)}
            write_atomic(self.cache, json.dumps({**self._known, **fresh}))
        return looked

    def _one(self, source: int, path: str, name: str, split: bool) -> InputFile:
        version = _version(path)
        known = self._known.get(path)
        if known is not None and known[:2] == [*version] and (not split or known[3]):
            digest, cuts = str(known[2]), known[3] if split else ()
        else:
            found = scan.begun(path, version) or _scan(path)
            digest, cuts = found.digest, found.cuts if split else ()
        pairs = tuple((int(a), int(b)) for a, b in cuts)  # type: ignore[attr-defined]
        return InputFile(source, path, name, *version, digest, pairs)


def _scan(path: str) -> scan.Scan:
    try:
        with open_input(path) as file:
            return scan.scan(cast("scan.Fills", file))
    except OSError as error:
        raise UserError("cannot read an input file", where=path, got=error.strerror or error) from error


def _version(path: str) -> tuple[int, int]:
    """Bytes and stamp of an input file, as of a `Part`.

    Raises:
        UserError: it cannot be found.
    """
    try:
        if is_url(path):
            return size_and_stamp(path)
        stat = os.stat(path)
    except OSError as error:
        raise UserError(
            "an input file vanished",
            where=path,
            got=error.strerror or error,
            hint="put it back and run again",
        ) from error
    return stat.st_size, stat.st_mtime_ns


def check_unchanged(part: Part) -> None:
    """`UserError` naming the file if it is not the one that the run was planned with."""
    size, stamp = _version(part.path)
    # Where a store tells no stamp, at the beginning or now, the size alone is known.
    anew = stamp != part.stamp and not (is_url(part.path) and 0 in (stamp, part.stamp))
    if size != part.size or anew:
        raise UserError(
            "an input file changed while the run was using it",
            where=part.path,
            got=f"{size} bytes" if size != part.size else f"{size} bytes that were written since",
            expected=f"{part.size} bytes as when the run was planned",
            hint="run again: the new content makes a new run",
        )


def versions(files: list[InputFile]) -> list[dict[str, object]]:
    """What lineage says of the inputs: name, bytes and digest of each file."""
    keep = ("source", "name", "path", "size", "digest")
    return [{key: value for key, value in asdict(file).items() if key in keep} for file in files]
