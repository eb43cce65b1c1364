"""The whole life of one row: where it came from, what each step measured, why it was dropped or kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tillage.core.errors import UserError
from tillage.core.workspace import Workspace
from tillage.data.rows import printable
from tillage.data.schema import DETAIL, DROP, PARENT, PART, QUARANTINE_STEP
from tillage.flow.history import RunRecord, find, runs
from tillage.flow.rowindex import look_up

SHOWN = 200


@dataclass(frozen=True)
class Fact:
    """One thing that is known of a row. `outcome`: read, quarantined, measured, passed, rewritten, dropped,
    not reached, made, kept. `values`: the measurements that the step reads or makes."""

    run: str
    step: str
    outcome: str
    detail: str
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        values = ", ".join(f"{name}={_short(value)}" for name, value in self.values.items())
        return f"{self.step}: {self.outcome}" + "".join(
            f" — {part}" for part in (self.detail, values) if part
        )


def why(id: str, workspace: Workspace, run: str | None = None) -> list[Fact]:
    """The facts about a row, in the order of the steps, for each finished run that saw it (newest first).

    Args:
        id: the row's id, or a beginning of it that is no other row's.
        run: only this run.

    Raises:
        UserError: no run has seen such a row, or several rows' ids begin so.
    """
    records = [find(run, workspace)] if run is not None else runs(workspace)
    facts: list[Fact] = []
    for record in records:
        if record.finished:
            row = _find_row(id, record)
            if row is not None:
                facts += _life(row, record)
    if not facts:
        raise UserError(
            f"no row {id!r}",
            where=run or workspace.runs,
            got=f"{sum(r.finished for r in records)} finished runs",
            hint="ids are 32 hex digits; the datasets and the report show them",
        )
    return facts


def _find_row(id: str, record: RunRecord) -> dict[str, Any] | None:
    """The row as the run left it, with `_drop` null if it was kept."""
    found: dict[str, dict[str, Any]] = {}
    for path in [*record.kept, *record.dropped]:
        if not path.exists():
            raise UserError(
                "the run's rows are no longer there", where=path, hint=f"run the recipe {record.recipe} again"
            )
        for row in look_up(path, id):
            found[row["id"]] = {DROP: None, DETAIL: None, **row}
    if len(found) > 1:
        raise UserError(f"several rows' ids begin with {id!r}", got=", ".join(sorted(found)[:5]))
    return next(iter(found.values()), None)


def _life(row: dict[str, Any], record: RunRecord) -> list[Fact]:
    files = {item["name"]: item["path"] for item in record.data["inputs"]}
    place = f"{files.get(row['source'], row['source'])}, line {row['line']}"
    step, _, reason = (row[DROP] or "").partition(":")
    if step == QUARANTINE_STEP:
        detail = f"{place}: {reason}: {row[DETAIL]}"
        return [Fact(record.run, QUARANTINE_STEP, "quarantined", detail)]
    text = row["text"] or ""
    facts = [
        Fact(record.run, QUARANTINE_STEP, "read", place, {"domain": row["domain"], "text": text[:SHOWN]})
    ]
    steps = record.steps
    whole = _find_row(row[PARENT], record) if row.get(PARENT) is not None else None
    if whole is not None:
        # Until then its life is that of the row which it was made of.
        maker = (whole[DROP] or "").partition(":")[0]
        before = _life(whole, record)
        facts = before[: 1 + next(i for i, fact in enumerate(before) if fact.step == maker)]
        detail = f"part {row[PART]} of row {row[PARENT]}"
        facts.append(Fact(record.run, maker, "made", detail, {"text": text[:SHOWN]}))
        steps = steps[1 + next(i for i, item in enumerate(steps) if item["id"] == maker) :]
    reached = True
    for item in steps:
        id, names = item["id"], item["columns"]
        values = {name: row[name] for name in names if row.get(name) is not None} if reached else {}
        if not reached:
            facts.append(Fact(record.run, id, "not reached", ""))
        elif id == step:
            facts.append(Fact(record.run, id, "dropped", reason, values))
            reached = False
        else:
            outcome = "rewritten or left" if item["rewrites"] else "passed"
            facts.append(Fact(record.run, id, outcome, "", values))
    if reached:
        dataset = f"{record.dataset[0]}, version {record.dataset[1]}" if record.dataset else "not committed"
        facts.append(Fact(record.run, "dataset", "kept", dataset))
    return facts


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    flat = printable(" ".join(str(value).split()))
    return flat if len(flat) <= 60 else flat[:59] + "…"
