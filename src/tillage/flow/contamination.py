"""Which evaluation items the rows overlap with, and the gate that no dataset version passes unchecked.

What a `decontaminate` step found is taken from its fit. The gate looks at the rows that a run is about to
commit, for the evaluation sets that the recipe names, with the operator's own rules: what it finds after
all steps is refused, or marked in the version's lineage where the recipe says so. Both are in one table in
the run's folder, a line for each item and row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from daft import col, lit

from tillage.core.errors import UserError
from tillage.core.events import Contamination
from tillage.core.spec import fingerprint
from tillage.core.whole import make_whole, sweep
from tillage.data.schema import ID, TEXT
from tillage.flow.compile import Stage
from tillage.flow.recipe import Recipe
from tillage.flow.stages import Done
from tillage.ops.base import settled
from tillage.ops.decontaminate import HITS, Decontaminate, hits
from tillage.ops.texts import file_fingerprint

pc: Any = pyarrow.compute  # its functions are made at run time

TABLE = "contamination.parquet"
GATE = "gate"
SCHEMA = pa.schema(
    [
        pa.field("step", pa.large_string()),
        pa.field("against", pa.large_string()),
        pa.field("item_text", pa.large_string()),
        *HITS,
    ]
)
"""`step`: the step that found it, or "gate". `against`: the file's name. `item_text`: its beginning."""
WORST, IDS, EXCERPT = 20, 5, 200
_KEYS = "keys.parquet"


@dataclass(frozen=True)
class Found:
    """What one step, or the gate, found of one file's items."""

    step: str
    op: Decontaminate
    hits: pa.Table

    def table(self) -> pa.Table:
        """With the item's text: `SCHEMA`, by item and row."""
        count = len(self.hits)
        texts = pc.utf8_slice_codeunits(self.op.items(), 0, EXCERPT).take(self.hits.column("item"))
        named = [pa.array([value] * count, pa.large_string()) for value in (self.step, self.op.against.name)]
        return pa.table([*named, texts, *self.hits.columns], schema=SCHEMA)

    def told(self, run: str) -> Contamination:
        """The counts, and the items hit by the most rows."""
        table = self.table()
        real = table.filter(pc.invert(table.column("boilerplate")))
        items = by_item(real)
        every = set(table.column("item").unique().to_pylist())
        return Contamination(
            run=run,
            step=self.step,
            against=self.op.against.name,
            content=file_fingerprint(self.op.against),
            items=len(self.op.items()),
            hit=len(items),
            rows=len(real.column("id").unique()),
            boilerplate=len(every) - len(items),
            worst=items[:WORST],
        )


def by_item(table: pa.Table) -> list[dict[str, Any]]:
    """A record for each item of a table of `SCHEMA`, those hit by most rows first: its place and text, the
    number of rows, the most n-grams and the largest share of one, and some of the rows' ids."""
    keys = ["step", "against", "item", "item_text"]
    most = [("id", "count"), ("ngrams", "max"), ("share", "max"), ("id", "list")]
    grouped = table.sort_by([("id", "ascending")]).group_by(keys, use_threads=False).aggregate(most)
    records = [
        {
            **{key: row[key] for key in keys},
            "rows": row["id_count"],
            "ngrams": row["ngrams_max"],
            "share": row["share_max"],
            "ids": row["id_list"][:IDS],
        }
        for row in grouped.to_pylist()
    ]
    return sorted(records, key=lambda r: (r["step"], r["against"], -r["rows"], -r["ngrams"], r["item"]))


def of_steps(stages: Sequence[Stage], done: Sequence[Done]) -> list[Found]:
    """What the `decontaminate` steps of a run found."""
    found: list[Found] = []
    for stage, finished in zip(stages, done, strict=True):
        for position, folder in zip(stage.fits(), finished.fits, strict=True):
            action = stage.actions[position]
            if isinstance(action.op, Decontaminate):
                found.append(Found(action.id, action.op, hits(folder)))
    return found


def of_rows(recipe: Recipe, kept: Sequence[Path], stages: Path) -> list[Found]:
    """What the rows in these files have in common with the evaluation sets that the recipe names.

    The overlap of each file of rows is kept below `stages`: for what has not changed it is not sought again.
    """
    found: list[Found] = []
    for op in recipe.evaluation:
        folder = stages / f"{GATE}-{op.fingerprint()}"
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        parts = [folder / fingerprint(path.parent.parent.name, path.parent.name, path.name) for path in kept]
        for path, part in zip(kept, parts, strict=True):
            make_whole(part, partial(_look, op, path))
        fit = folder / f"fit-{fingerprint([part.name for part in parts])}"
        if parts:
            make_whole(fit, partial(_fit, op, [str(part / _KEYS) for part in parts]))
        found.append(Found(GATE, op, hits(fit) if parts else HITS.empty_table()))
    return found


def _fit(op: Decontaminate, keys: list[str], target: Path) -> None:
    op.fit(daft.read_parquet(keys), target)


def _look(op: Decontaminate, rows: Path, target: Path) -> None:
    """Write the keys of the rows that have anything in common with an item."""
    keys = op.keys()
    frame = settled(daft.read_parquet(str(rows)).select(ID, TEXT).with_columns(keys))
    some = [(col(name).length() > lit(0)).fill_null(lit(False)) for name in keys]
    any_of = some[0] if len(some) == 1 else some[0] | some[1]
    pq.write_table(frame.where(any_of).select(ID, *keys).to_arrow(), target / _KEYS, compression="zstd")


def write(found: Sequence[Found], folder: Path) -> None:
    """Put the table of what was found into a run's folder; none where nothing was looked for."""
    path = folder / TABLE
    path.unlink(missing_ok=True)
    if found:
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        pq.write_table(pa.concat_tables([one.table() for one in found]), temporary, compression="zstd")
        temporary.replace(path)


def require_clean(recipe: Recipe, told: Sequence[Contamination]) -> None:
    """`UserError` if the gate found an overlap and the recipe does not say that it is to be let through."""
    hit = [one for one in told if one.step == GATE and one.hit]
    if not hit or recipe.contamination == "mark":
        return
    got = [
        f"{one.rows} rows hold something of {one.hit} of {one.items} items of {one.against}" for one in hit
    ]
    first = hit[0].worst[0]
    got.append(f"for one, row {first['ids'][0]} of item {first['item']}: {first['item_text'][:60]!r}")
    raise UserError(
        "the rows give evaluation items away, so nothing was committed",
        where=recipe.name,
        got="\n    ".join(got),
        expected="no overlap with the sets that the recipe names under `evaluation`",
        hint=f"`tillage contamination {hit[0].run}` names the items and rows; add a `decontaminate` step "
        "against the file, or write `contamination: mark` to commit and have it said in the lineage",
    )


def lineage(recipe: Recipe, told: Sequence[Contamination]) -> dict[str, Any]:
    """What a version says of it. `verdict`: clean, marked, or unchecked where the recipe names no set."""
    gate = [one for one in told if one.step == GATE]
    verdict = "unchecked" if not gate else "marked" if any(one.hit for one in gate) else "clean"
    sets = [{k: v for k, v in asdict(one).items() if k not in ("run", "worst")} for one in told]
    return {"verdict": verdict, "sets": sets}
