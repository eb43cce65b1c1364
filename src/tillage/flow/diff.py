"""Two runs side by side: what differs in the recipe, and what that did to the rows."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from tillage.core.errors import UserError
from tillage.core.events import StepAccount
from tillage.core.workspace import Workspace
from tillage.flow.history import RECIPE, RunRecord, find


@dataclass(frozen=True)
class StepDiff:
    """One step in both runs; None where a run has no such step."""

    step: str
    a: StepAccount | None
    b: StepAccount | None


@dataclass(frozen=True)
class RunDiff:
    """`recipe`: lines of a unified diff. `only_a`, `only_b`, `both`: rows kept by one run or by both."""

    a: str
    b: str
    recipe: list[str]
    steps: list[StepDiff]
    only_a: int
    only_b: int
    both: int
    same_digest: bool


def diff(a: str, b: str, workspace: Workspace) -> RunDiff:
    """Compare two finished runs by name.

    Raises:
        UserError: no such run, or one that has not finished.
    """
    one, two = _finished(a, workspace), _finished(b, workspace)
    before, after = ((record.folder / RECIPE).read_text(encoding="utf-8") for record in (one, two))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), one.run, two.run, lineterm="", n=2)
    by_step = [{account.step: account for account in record.accounts} for record in (one, two)]
    ids_a, ids_b = _ids(one.kept), _ids(two.kept)
    both = int(pyarrow.compute.sum(pyarrow.compute.is_in(ids_a, value_set=ids_b)).as_py() or 0)  # pyright: ignore
    return RunDiff(
        a=one.run,
        b=two.run,
        recipe=list(lines),
        steps=[StepDiff(step, by_step[0].get(step), by_step[1].get(step)) for step in merged(by_step)],
        only_a=len(ids_a) - both,
        only_b=len(ids_b) - both,
        both=both,
        same_digest=one.digest == two.digest,
    )


def merged(by_step: list[dict[str, StepAccount]]) -> list[str]:
    """The steps of both runs: those of the first in its order, others after the step that they follow."""
    order = list(by_step[0])
    previous = -1
    for step in by_step[1]:
        if step in order:
            previous = order.index(step)
        else:
            previous += 1
            order.insert(previous, step)
    return order


def _finished(name: str, workspace: Workspace) -> RunRecord:
    record = find(name, workspace)
    if not record.finished:
        raise UserError("the run has not finished", where=record.folder, got=record.status)
    return record


def _ids(files: list[Path]) -> pa.ChunkedArray:
    text = pa.large_string()
    columns = [pq.read_table(path, columns=["id"]).column("id").cast(text) for path in files]
    chunks = [chunk for column in columns for chunk in column.chunks]
    return pa.chunked_array(chunks, text)
