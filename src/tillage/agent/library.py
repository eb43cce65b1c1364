"""Operators that were written in this workspace: their source, what for, and how they were judged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tillage.agent.llm_synthesis import Synthesised
from tillage.agent.synthesis import Case, ColumnType, Kind, Sandboxed, make
from tillage.core.errors import UserError, nearest
from tillage.core.spec import Spec
from tillage.core.workspace import Workspace, write_atomic

_KINDS: dict[str, Kind] = {
    "sandboxed_filter": "filter",
    "sandboxed_map": "map",
    "sandboxed_annotate": "annotate",
}


class Entry(Spec):
    """What is kept of one operator."""

    name: str
    need: str
    kind: Kind
    code: str
    values: dict[str, ColumnType] = {}
    author: str
    judged_on: str
    precision: float
    recall: float
    examples: int
    cases: tuple[Case, ...] = ()

    @property
    def op(self) -> Sandboxed:
        return make(self.kind, self.code, self.values)

    def step(self) -> dict[str, Any]:
        """The operator as a recipe's step."""
        figures = f"precision {self.precision:.2f}, recall {self.recall:.2f} on {self.examples} rows"
        return {
            self.op.name: self.op.model_dump(mode="json", exclude_unset=True),
            "id": self.name,
            "why": f"{self.need} (written by {self.author}; {figures}, {self.judged_on})",
        }


class Library:
    """One JSON file an operator, below the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.folder = workspace.root / "operators"

    def save(self, made: Synthesised) -> Path:
        """Keep an operator; one of the same name is replaced."""
        entry = Entry(
            name=made.name,
            need=made.need,
            kind=_KINDS[made.op.name],
            code=made.op.code,
            values=getattr(made.op, "values", {}),
            author=made.author,
            judged_on="judged on its own rows" if made.judged_on == "own" else "judged on given rows",
            precision=made.vetting.precision,
            recall=made.vetting.recall,
            examples=made.vetting.examples,
            cases=tuple(made.cases),
        )
        path = self.folder / f"{made.name}.json"
        write_atomic(path, entry.model_dump_json(indent=1) + "\n")
        return path

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def get(self, name: str) -> Entry:
        """The operator called `name`; `UserError` with the nearest name."""
        path = self.folder / f"{name}.json"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not path.exists():
            raise UserError(
                f"no operator {name!r} was written here", where=self.folder, hint=nearest(name, self.names())
            )
        try:
            return Entry.load(json.loads(path.read_text("utf-8")), str(path))
        except ValueError as error:
            raise UserError("the record of the operator is damaged", where=path, got=str(error)) from error
