"""The files of a table: named by content, linked rather than copied, with one writer of the log at a time."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from tillage.core.lock import hold
from tillage.core.spec import fingerprint
from tillage.core.whole import SUMS, checksum

OWN = "_tillage"
"""Delta and its readers leave folders alone whose names begin with an underscore."""
_NAME = re.compile(r"[0-9a-f]{16}-([0-9a-f]{8})\.zstd\.parquet")


def alone(table: Path) -> AbstractContextManager[int | None]:
    """Only one process (and one thread) at a time gets here for a table; a process that dies lets go."""
    return hold(table / OWN / "lock")


def content_name(path: Path) -> str:
    """A file's name in the table: which shard of which stage it is, and the checksum of what it holds."""
    return (
        f"{fingerprint(path.parent.parent.name, path.parent.name, path.name)}-{_sum(path):08x}.zstd.parquet"
    )


def _sum(path: Path) -> int:
    """The checksum that was written down when the file was made, where its folder has one."""
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((path.parent / SUMS).read_text(encoding="utf-8"))[path.name][1])
    return checksum(path)


def file_damage(path: Path) -> str | None:
    """What is wrong with a file of a table, as a sentence; None if it is what its name says."""
    if not path.exists():
        return f"{path} is gone"
    named = _NAME.fullmatch(path.name)
    if named is not None and checksum(path) != int(named[1], 16):
        return f"{path} is not what was written"
    return None


def link(path: Path, target: Path) -> None:
    """Hard link or copy, so that `target` appears whole or not at all."""
    if target.exists() and target.samefile(path):
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copy2(path, temporary)
    temporary.replace(target)
