"""`tillage why ID`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow.parquet as pq

from tillage.cli.answer import Answer, Common
from tillage.cli.lean import spare_imports
from tillage.core.workspace import Workspace
from tillage.flow.why import why as life
from tillage.report.log import group

TRAINED = "documents.parquet"
"""What a training run leaves in its folder: a row for each document that it touched."""


def why(id: str, /, *, run: str | None = None, common: Common = Common()) -> Answer:
    """Tell a row's whole life: origin, measurements, decisions, training.

    Args:
        id: the row's id, or a beginning of it that is no other row's.
        run: only this run of a recipe; all finished runs if not given, the newest first.
    """
    spare_imports()
    facts = life(id, common.space, run)
    trained = list(_trained(id, common.space))
    lines: list[str] = []
    for name, of in group(facts, lambda fact: fact.run).items():
        lines += [name, *(f"  {fact}" for fact in of)]
    for visit in trained:
        loss = f", mean loss {visit['loss']:.3f} nats a token" if visit.get("loss") is not None else ""
        lines.append(visit["run"])
        lines.append(f"  trained on {visit['visits']} times, mean weight {visit['weight']:.3g}{loss}")
    return Answer({"id": id, "facts": [asdict(fact) for fact in facts], "trained": trained}, lines)


def _trained(id: str, workspace: Workspace) -> Iterator[dict[str, Any]]:
    """How often and with what weight each training run of the workspace met the row."""
    for path in sorted(
        path for folder in ("runs", "goals") for path in (workspace.root / folder).rglob(TRAINED)
    ):
        chosen = [("id", ">=", id), ("id", "<", id + "g")]
        for row in pq.read_table(path, filters=chosen).to_pylist():
            yield {"run": path.parent.relative_to(workspace.root).as_posix(), **row}
