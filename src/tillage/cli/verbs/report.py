"""`tillage report RUN`."""

from __future__ import annotations

from pathlib import Path

from tillage.cli.answer import Answer, Writing, dry, run_folder
from tillage.core.events import Result
from tillage.report.log import Log
from tillage.report.page import build
from tillage.report.table import results_json, results_table


def report(run: str, /, *, out: Path | None = None, common: Writing = Writing()) -> Answer:
    """Write one self-contained HTML page from a run's event log.

    Args:
        run: a run of the workspace (see `tillage runs`), a run's folder, or an events.jsonl.
        out: the page; report.html beside the log if not given.
    """
    source = run_folder(run, common.space)
    log = Log.read(source)
    page = out or (source if source.is_dir() else source.parent) / "report.html"
    if common.dry_run:
        return dry(f"draw a page from {len(log.events)} events of {source}", [page])
    results = log.all(Result)
    table = [results_table(results)] if results else []
    return Answer(
        {"report": str(build(source, page)), "events": len(log.events), "table": results_json(results)},
        [*table, f"report: {page}"],
    )
