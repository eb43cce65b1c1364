"""What a run is expected to take, kept until it has run, and how far that was off."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tillage.core.workspace import Workspace, write_atomic


@dataclass(frozen=True)
class Range:
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    `bytes`: of input on disk, of which these steps have not processed `new_bytes` before. `rows` are read,
    `kept` stay; `disk`: bytes written below the workspace. `memory`: peak bytes of the process, between what
    the probe took and what whole shards and all keys held at once would take: bounds, not an interval.
    """

    run: str
    bytes: int
    new_bytes: int
    probed_bytes: int
    rows: Range
    kept: Range
    seconds: Range
    disk: Range
    memory: Range


def save(found: Estimate, workspace: Workspace) -> None:
    """Keep an estimate for the run that it is of."""
    write_atomic(path_of(found.run, workspace), json.dumps(asdict(found)))


def path_of(run_id: str, workspace: Workspace) -> Path:
    return workspace.root / "estimates" / f"{run_id}.json"


def how_far_off(run_id: str, workspace: Workspace, took: dict[str, float]) -> str | None:
    """One sentence that holds an estimate made before against what a run took; None if there was none."""
    path = path_of(run_id, workspace)
    if not path.exists():
        return None
    said = json.loads(path.read_text(encoding="utf-8"))
    parts: list[str] = []
    for name, value in took.items():
        expected = Range(**said[name])
        off = (value - expected.mean) / expected.mean if expected.mean else 0.0
        inside = "inside" if expected.low <= value <= expected.high else "outside"
        parts.append(f"{name} {off:+.0%} ({inside})")
    return "against the estimate: " + ", ".join(parts)
