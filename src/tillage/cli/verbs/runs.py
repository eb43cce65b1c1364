"""`tillage runs`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tillage.cli.answer import EVENTS, Answer, Common
from tillage.cli.views import table
from tillage.core.events import Finished, Result, Started
from tillage.core.text import amount, seconds
from tillage.core.workspace import Workspace
from tillage.flow.history import RECORD
from tillage.flow.history import runs as recipe_runs
from tillage.report.log import Log


def runs(*, samples: bool = False, common: Common = Common()) -> Answer:
    """List the runs of the workspace, the newest first.

    Args:
        samples: also those of recipes over a sample of rows.
    """
    found = [*_recipes(common.space, samples), *_others(common.space)]
    found.sort(key=lambda run: (-run["started"], run["run"]))
    head = ("run", "kind", "status", "started (UTC)", "took", "result")
    rows = [
        [
            run["run"],
            run["kind"],
            run["status"],
            datetime.fromtimestamp(run["started"], UTC).strftime("%Y-%m-%d %H:%M"),
            seconds(run["seconds"]),
            _result(run),
        ]
        for run in found
    ]
    return Answer({"runs": found}, [table(head, rows, (4,))] if rows else [f"no runs in {common.space.runs}"])


def _recipes(workspace: Workspace, samples: bool) -> Iterator[dict[str, Any]]:
    for run in recipe_runs(workspace, samples):
        yield {
            "run": run.run,
            "kind": run.kind,
            "status": run.status,
            "started": run.started,
            "seconds": run.seconds,
            "rows": run.rows,
            "bytes": run.bytes,
            "digest": run.digest,
            "dataset": None if run.dataset is None else {"path": run.dataset[0], "version": run.dataset[1]},
            "folder": str(run.folder),
        }


def _others(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Runs of other verbs: what their logs say."""
    for path in workspace.runs.glob(f"*/{EVENTS}"):
        if (path.parent / RECORD).exists() or not path.stat().st_size:
            continue
        log = Log.read(path)
        started, finished, best = log.last(Started), log.last(Finished), log.all(Result)
        yield {
            "run": path.parent.name,
            "kind": started.verb if started else "unknown",
            "status": finished.status if finished else "not finished",
            "started": log.times[0],
            "seconds": finished.seconds if finished else log.times[-1] - log.times[0],
            "bpb": min((result.bpb for result in best), default=None),
            "folder": str(path.parent),
        }


def _result(run: dict[str, Any]) -> str:
    if run.get("dataset"):
        name = Path(run["dataset"]["path"]).name
        return f"{amount(run['rows'])} rows in {name} version {run['dataset']['version']}"
    if run.get("bpb") is not None:
        return f"{run['bpb']:.4f} bits/byte"
    return f"{amount(run['rows'])} rows" if run.get("rows") else "-"
