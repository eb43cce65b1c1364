"""What a workspace holds that no dataset version needs: stages of old runs and trials, samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tillage.core.errors import UserError
from tillage.core.whole import discard, sweep
from tillage.core.workspace import Workspace
from tillage.data.dataset import Dataset
from tillage.data.refs import names
from tillage.flow.history import RunRecord, runs


@dataclass(frozen=True)
class Waste:
    """Folders that nobody needs. `bytes`: what their removal frees; files that a dataset shares free none."""

    folders: list[Path]
    bytes: int


def find_waste(workspace: Workspace) -> Waste:
    """What `clean` would remove.

    Kept is all that runs have used from which a version of a dataset was made: their rows, for `why`, and
    their finished stages, with which the next run over more files begins.

    Raises:
        UserError: a run is going on, or a record names a dataset that cannot be read.
    """
    records = runs(workspace, samples=True)
    busy = next((record for record in records if record.status == "running"), None)
    if busy is not None:
        raise UserError("a run is going on", where=busy.folder, hint="wait for its end, then clean")
    needed = _needed(workspace, records)
    used: set[Path] = set()
    for record in records:
        if record.run in needed:
            used |= _used(record.data, workspace.stages)
    found: list[Path] = []
    for stage in _folders(workspace.stages):
        done = [*stage.glob("shard-*"), *stage.glob("fit-*")]
        gone = [folder for folder in done if folder not in used]
        found += [stage] if len(gone) == len(done) else gone
    found += _folders(workspace.root / "samples")
    return Waste(found, sum(_frees(folder) for folder in found))


def clean(workspace: Workspace) -> Waste:
    """Remove what `find_waste` names, and what dead processes left unfinished."""
    waste = find_waste(workspace)
    for folder in waste.folders:
        discard(folder)
    for folder in [workspace.stages, *_folders(workspace.stages), workspace.root / "samples"]:
        if folder.exists():
            sweep(folder)
    return waste


def _needed(workspace: Workspace, records: Iterable[RunRecord]) -> set[str]:
    """The runs that a version of any dataset known here names."""
    paths = {workspace.datasets / name for name in names(workspace)}
    paths |= {Path(record.dataset[0]) for record in records if record.dataset is not None}
    return {
        entry.lineage["run"]
        for path in sorted(paths)
        if Dataset(path).exists()
        for entry in Dataset(path).history()
    }


def _used(record: dict[str, Any], stages: Path) -> set[Path]:
    used = {Path(path).parent for path in [*record.get("kept", []), *record.get("dropped", [])]}
    for stage in record.get("stages", []):
        used |= {stages / stage["fingerprint"] / name for name in stage.get("shards", [])}
        used |= {stages / name for name in stage.get("fits", [])}
    return used


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))


def _frees(folder: Path) -> int:
    stats = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)
