"""The runs of a workspace, from the records that they leave. Loads no operators."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tillage.core.errors import UserError, nearest
from tillage.core.events import StepAccount
from tillage.core.whole import process_lives
from tillage.core.workspace import Workspace

RECORD, RECIPE, EVENTS = "run.json", "recipe.yaml", "events.jsonl"


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run.

    `status`: running, done, failed, or interrupted when its process is gone. `kind`: run, trial (nothing is
    committed) or sample (over a sample of rows, nothing is committed). `started`: seconds since the epoch.
    """

    run: str
    folder: Path
    recipe: str
    kind: str
    status: str
    started: float
    seconds: float
    rows: int
    bytes: int
    digest: str
    dataset: tuple[str, int] | None
    accounts: list[StepAccount]
    kept: list[Path]
    dropped: list[Path]
    data: dict[str, Any]

    @property
    def recipe_path(self) -> Path:
        """The recipe as it was run, for `Recipe.from_yaml`."""
        return self.folder / RECIPE

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Of each step its `id`, whether it `rewrites`, and the `columns` that it reads and makes.

        Raises:
            UserError: the record is of an earlier version, which did not keep this.
        """
        if "steps" not in self.data:
            raise UserError(
                "the run is of an earlier version",
                where=self.folder,
                hint=f"run the recipe {self.recipe} again",
            )
        return self.data["steps"]

    @property
    def finished(self) -> bool:
        return self.status == "done"


def read_record(folder: Path) -> RunRecord:
    """The record in a run's folder; `UserError` if there is none."""
    try:
        data: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError("no record of a run here", where=folder / RECORD, got=str(error)) from error
    status = data["status"]
    if status == "running" and not process_lives(int(data["pid"])):
        status = "interrupted"
    dataset = data.get("dataset")
    return RunRecord(
        run=data["run"],
        folder=folder,
        recipe=data["recipe"],
        kind=data["kind"],
        status=status,
        started=data["started"],
        seconds=data.get("seconds", 0.0),
        rows=data.get("rows", 0),
        bytes=data.get("bytes", 0),
        digest=data.get("digest", ""),
        dataset=None if dataset is None else (dataset["path"], dataset["version"]),
        accounts=[StepAccount(**step) for step in data.get("accounts", [])],
        kept=[Path(path) for path in data.get("kept", [])],
        dropped=[Path(path) for path in data.get("dropped", [])],
        data=data,
    )


def runs(workspace: Workspace, samples: bool = False) -> list[RunRecord]:
    """The runs of a workspace, the newest first; runs over samples only if asked for."""
    folders = [path.parent for path in workspace.runs.glob(f"*/{RECORD}")]
    # Other verbs keep logs beside those of recipes; theirs have no recipe.
    records = [read_record(folder) for folder in folders if (folder / RECIPE).exists()]
    shown = [record for record in records if samples or record.kind != "sample"]
    return sorted(shown, key=lambda record: (-record.started, record.run))


def find(name: str, workspace: Workspace) -> RunRecord:
    """The run called `name`, or the only one whose name begins so.

    Raises:
        UserError: none or several (with the nearest names).
    """
    known = {record.run: record for record in runs(workspace, samples=True)}
    if name in known:
        return known[name]
    begin = [run for run in known if run.startswith(name)]
    if len(begin) == 1:
        return known[begin[0]]
    if begin:
        newest = next(run for run in known if run in begin)
        raise UserError(
            f"several runs begin with {name!r}", got=", ".join(sorted(begin)), hint=f"the newest is {newest}"
        )
    raise UserError(f"no run {name!r}", where=workspace.runs, hint=nearest(name, known))
