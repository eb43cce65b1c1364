"""Raw data and tiny operators for the tests of the flow. The operators are not registered: the catalogue and
the conformance suite must not see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from daft import DataFrame, Expression, col, lit
from daft.functions import length, replace

from tillage.core.events import Event, EventLog
from tillage.core.workspace import Workspace
from tillage.data.sources import Jsonl
from tillage.flow.recipe import Recipe, Step
from tillage.flow.run import RunResult, run
from tillage.ops.base import Annotate, Corpus, Decisions, Filter, Map, Operator


class Chars(Annotate):
    """Counts characters, under one or several names."""

    name = "chars"
    names: tuple[str, ...] = ("chars",)

    def writes(self) -> dict[str, pa.DataType]:
        return {name: pa.int64() for name in self.names}

    def columns(self) -> dict[str, Expression]:
        return {name: length(col("text")).cast("int64") for name in self.names}

    def merge(self, other: Annotate) -> Annotate | None:
        if not isinstance(other, Chars):
            return None
        return Chars(names=tuple(dict.fromkeys([*self.names, *other.names])))


class Short(Filter):
    """Drops texts under `least` characters, and those over `most`."""

    name = "short"
    least: int = 5
    most: int = 10_000
    column: str = "chars"

    def requires(self) -> tuple[Annotate, ...]:
        return (Chars(names=(self.column,)),)

    def reasons(self) -> dict[str, Expression]:
        return {
            "too_short": col(self.column) < lit(self.least),
            "too_long": col(self.column) > lit(self.most),
            "odd": col(self.column) % 7 == lit(3),
        }


class Strip(Map):
    """Replaces the letter x by nothing."""

    name = "strip"

    def rewrite(self) -> Expression:
        return replace(col("text"), lit("x"), lit(""))


class First(Corpus):
    """Keeps the row with the smallest id of each text."""

    name = "first"
    key: str = "_first"
    fits: ClassVar[int] = 0

    def reads(self) -> frozenset[str]:
        return frozenset({"text"})

    def writes(self) -> dict[str, pa.DataType]:
        return {f"copy{self.key}": pa.bool_()}

    def keys(self) -> dict[str, Expression]:
        return {self.key: col("text")}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        First.fits += 1
        rows = sorted(frame.select("id", self.key).to_arrow().to_pylist(), key=lambda row: row["id"])
        seen: set[str] = set()
        copies: list[str] = []
        for row in rows:
            if row[self.key] in seen:
                copies.append(row["id"])
            seen.add(row[self.key])
        marks = pa.array([True] * len(copies), pa.bool_())
        table = pa.table({"id": pa.array(copies, pa.large_string()), f"copy{self.key}": marks})
        Decisions.write(artifact, table)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        assert artifact is not None
        return Decisions.join(frame, artifact)

    def reasons(self) -> dict[str, Expression]:
        return {"copy": col(f"copy{self.key}")}


def write_raw(folder: Path, count: int = 400, per_file: int = 50) -> Path:
    """Lines of several lengths, every tenth a copy of its predecessor, in files of `per_file`."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        f"{'x' * (i % 3)}number {i - (i % 10 == 9)} " + "word " * ((i - (i % 10 == 9)) % 11)
        for i in range(count)
    ]
    for start in range(0, count, per_file):
        part = enumerate(texts[start : start + per_file], start)
        lines = [json.dumps({"text": text, "n": i}) for i, text in part]
        (folder / f"part-{start:05d}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def recipe(raw: Path, *ops: Operator, name: str = "test", **fields: object) -> Recipe:
    source = Jsonl(path=(str(raw),), domain="test", fields={"n": "int"})
    steps = tuple(Step(op=op) for op in ops)
    return Recipe.model_validate({"name": name, "sources": (source,), "steps": steps, **fields})


def home(tmp_path: Path, name: str = "home") -> Workspace:
    return Workspace.default(tmp_path / name)


def run_quietly(what: Recipe, workspace: Workspace, **options: object) -> tuple[RunResult, list[Event]]:
    events: list[Event] = []
    return run(what, workspace, EventLog(None, [events.append]), **options), events  # type: ignore[arg-type]
