"""Where things lie on disk: runs, stages, datasets and token stores below one folder."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tillage.core.errors import UserError, WorkFailed

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Workspace:
    """The folder that holds all that Tillage writes; `TILLAGE_HOME` or `.tillage` of the current folder."""

    root: Path

    @classmethod
    def default(cls, root: str | Path | None = None) -> Workspace:
        return cls(Path(root or os.environ.get("TILLAGE_HOME") or ".tillage").absolute())

    @property
    def inputs(self) -> Path:
        """What is known of input files: size, time of change, digest, where they may be cut."""
        return self.root / "inputs.json"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def stores(self) -> Path:
        return self.root / "stores"

    def run(self, run: str) -> Path:
        return self.runs / run

    def check_writable(self) -> None:
        """`UserError` unless files can be made here."""
        check_writable(self.root)


def check_writable(folder: Path) -> None:
    """Make `folder` and prove that a file can be made in it; `UserError` otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            "cannot write here", where=folder, got=error.strerror, hint="name another folder or free it"
        ) from error


def disk_full(error: BaseException, where: object) -> WorkFailed | None:
    """`error` as ours if it, or what caused it, says that a disk, a quota or a limit of file size is full."""
    step: BaseException | None = error
    while step is not None:
        number = step.errno if isinstance(step, OSError) else None
        # Engines pass only the system's text on.
        if number in _FULL or any(os.strerror(n) in str(step) for n in _FULL):
            return WorkFailed(
                "no space left to write",
                where=where,
                got=str(step)[:300],
                hint="free some (`tillage clean`) and run again: finished work is kept, nothing is half done",
            )
        step = step.__cause__ or step.__context__
    return None


def write_atomic(path: Path, text: str) -> None:
    """Write `text` so that `path` holds either the old or the whole new content, even after a kill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by more than the process: two of its threads may write one file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def atomic_file(path: Path) -> Generator[IO[bytes]]:
    """A file that appears at `path` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as out:
            yield out
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
