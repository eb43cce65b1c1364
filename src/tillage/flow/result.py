"""What a run made, and how its rows are read back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tillage.core.events import StepAccount
from tillage.data.schema import BASE, DETAIL, DROP, QUARANTINE_STEP


@dataclass(frozen=True)
class RunResult:
    """What a run made. `kept` and `dropped` are Parquet files that together (`rows`) hold each row once.

    Kept rows have no columns that begin with "_"; dropped rows have `_drop` ("step:reason") and `_detail`.
    """

    run: str
    folder: Path
    accounts: list[StepAccount]
    dataset: tuple[str, int] | None
    digest: str
    kept: list[Path]
    dropped: list[Path]
    schema: pa.Schema
    reused: list[str]
    seconds: float

    @property
    def rows(self) -> list[Path]:
        return [*self.kept, *self.dropped]

    def kept_table(self, columns: list[str] | None = None) -> pa.Table:
        """The rows kept, in memory, in the order of their ids."""
        return read_rows(self.kept, self.schema, columns)

    def dropped_table(self, columns: list[str] | None = None) -> pa.Table:
        """The rows dropped and quarantined, with columns `step` and `reason`, in the order of their ids."""
        extra = [BASE.field(DROP), BASE.field(DETAIL)]
        known = pa.schema([*self.schema, *(f for f in extra if f.name not in self.schema.names)])
        return split_drop(read_rows(self.dropped, known, [*columns, DROP] if columns is not None else None))


def read_rows(files: list[Path], schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Rows of files whose columns may differ, as one table ordered by id; absent columns are null."""
    wanted = list(dict.fromkeys(["id", *columns])) if columns is not None else schema.names
    shape = pa.schema([schema.field(name) for name in wanted])
    tables: list[pa.Table] = []
    for path in files:
        with pq.ParquetFile(path) as file:
            have = [name for name in wanted if name in file.schema_arrow.names]
            table = file.read(columns=have)
        for field in shape:
            if field.name not in have:
                table = table.append_column(field, pa.nulls(len(table), field.type))
        tables.append(table.select(wanted).cast(shape))
    return (pa.concat_tables(tables) if tables else shape.empty_table()).sort_by("id")


def split_drop(table: pa.Table) -> pa.Table:
    """The table with `step` and `reason` in place of `_drop`."""
    marks = [str(mark).split(":", 1) for mark in table.column(DROP).to_pylist()]
    text = pa.large_string()
    out = table.append_column("step", pa.array([mark[0] for mark in marks], text))
    return out.append_column("reason", pa.array([mark[1] for mark in marks], text)).drop_columns([DROP])


def quarantined(files: list[Path], limit: int, reasons: Collection[str] = ()) -> list[str]:
    """What was wrong with the first quarantined records (of `reasons`, if given), by file and line."""
    wanted = {f"{QUARANTINE_STEP}:{reason}" for reason in reasons}
    found: list[tuple[str, int, str]] = []
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["source", "line", DROP, DETAIL]):
                found += [
                    (row["source"], row["line"], row[DETAIL] or "")
                    for row in batch.to_pylist()
                    if row[DROP] in wanted or (not wanted and row[DROP].startswith(QUARANTINE_STEP + ":"))
                ]
        found = sorted(found)[:limit]
    return [detail for _, _, detail in found]
