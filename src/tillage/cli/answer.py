"""What a verb returns, the options that every verb has, and how the answer is shown."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console, RenderableType

from tillage.core.errors import UserError, nearest
from tillage.core.workspace import Workspace

DONE, FAILED, WRONG_INPUT, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
"""Exit codes."""

EVENTS = "events.jsonl"
PIPE_WIDTH = 120
"""Columns of tables where there is no terminal to ask."""


@dataclass(frozen=True)
class Answer:
    """The end of a command: `data` for `--json`, `view` for people, `code` for the shell."""

    data: Mapping[str, Any]
    view: Sequence[RenderableType] = field(default_factory=tuple)
    code: int = 0


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every verb."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print one JSON object as the last line of standard output; progress goes to standard error."""
    workspace: Path | None = None
    """Folder for all that is written; TILLAGE_HOME or .tillage if not given."""

    @property
    def space(self) -> Workspace:
        return Workspace.default(self.workspace)


@Parameter(name="*")
@dataclass(frozen=True)
class Writing(Common):
    """Options of verbs that write."""

    dry_run: Annotated[bool, Parameter(negative="")] = False
    """Say what would be done and written, and write nothing."""


def show(answer: Answer, as_json: bool) -> None:
    """Print the answer to standard output."""
    if as_json:
        print(json.dumps(strict(answer.data), ensure_ascii=False, default=str))
        return
    console = terminal(sys.stdout)
    for part in answer.view:
        # Wrapping would cut what people copy: paths, ids, commands.
        console.print(part, soft_wrap=isinstance(part, str), markup=False, highlight=False)


def strict(value: Any) -> Any:
    """`value` without the infinities and NaNs that JSON cannot hold: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): strict(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    return value


def terminal(stream: Any) -> Console:
    """A console on `stream`; a fixed width where there is no terminal."""
    return Console(file=stream) if stream.isatty() else Console(file=stream, width=PIPE_WIDTH)


def dry(does: str, writes: Sequence[Path | str]) -> Answer:
    """The answer to `--dry-run`."""
    lines = [f"would {does}", *(f"would write {path}" for path in writes), "nothing was written (--dry-run)"]
    return Answer({"dry_run": True, "does": does, "writes": [str(path) for path in writes]}, lines)


def need_file(path: Path, what: str) -> Path:
    """`path` if it is a readable file; `UserError` otherwise."""
    if path.is_dir():
        raise UserError(f"{what} is a folder", where=path, expected="a file")
    if not path.exists():
        raise UserError(f"{what} does not exist", where=path, hint="check the path")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{what} cannot be read", where=path, got=error.strerror) from error
    return path


def run_folder(run: str, workspace: Workspace) -> Path:
    """Where a run's log lies: `run` is a name in the workspace or its beginning, a folder, or the log."""
    path = Path(run)
    if path.is_file() or (path / EVENTS).is_file():
        return path
    known = sorted(p.parent.name for p in workspace.runs.glob(f"*/{EVENTS}"))
    if run in known:
        return workspace.run(run)
    begin = [name for name in known if name.startswith(run)]
    if len(begin) == 1:
        return workspace.run(begin[0])
    if begin:
        newest = max(begin, key=lambda name: (workspace.run(name) / EVENTS).stat().st_mtime)
        raise UserError(
            f"several runs begin with {run!r}", got=", ".join(begin), hint=f"the newest is {newest}"
        )
    if path.exists():
        raise UserError("no event log here", where=path, expected=EVENTS)
    raise UserError(
        f"no run {run!r}", where=workspace.runs, hint=nearest(run, known) if known else "see tillage runs"
    )
