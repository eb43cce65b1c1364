"""`tillage contamination RUN`."""

from __future__ import annotations

from typing import Any

import pyarrow.compute
import pyarrow.parquet as pq

from tillage.cli.answer import Answer, Common
from tillage.cli.views import table
from tillage.core.text import amount, percent
from tillage.flow.contamination import TABLE, by_item
from tillage.flow.history import find

pc: Any = pyarrow.compute  # its functions are made at run time


def contamination(
    run: str, /, *, item: int | None = None, limit: int = 20, common: Common = Common()
) -> Answer:
    """Name the evaluation items that a run's rows overlap with, and the rows.

    Args:
        run: a run of a recipe with evaluation sets or with decontaminate steps (see `tillage runs`).
        item: all rows that overlap with this item (its place in its file, from 0).
        limit: most items to print; with --json all are given.
    """
    record = find(run, common.space)
    path = record.folder / TABLE
    if not path.exists():
        text = f"{record.run} looked for no evaluation items: its recipe names no set"
        return Answer({"run": record.run, "sets": [], "items": []}, [text])
    sets: list[dict[str, Any]] = record.data.get("contamination", [])
    hits = pq.read_table(path)
    if item is not None:
        rows = hits.filter(pc.equal(hits.column("item"), item)).to_pylist()
        cells = [
            [r["step"], r["against"], r["id"], amount(r["ngrams"]), _share(r["share"]), _what(r)]
            for r in rows
        ]
        head = ("step", "file", "row", "n-grams", "share", "")
        view = [*dict.fromkeys(row["item_text"] for row in rows), table(head, cells, (3, 4))]
        return Answer(
            {"run": record.run, "rows": rows}, view if rows else [f"no row overlaps with item {item}"]
        )
    items = by_item(hits.filter(pc.invert(hits.column("boilerplate"))))
    cells = [
        [i["step"], i["against"], str(i["item"]), amount(i["rows"]), amount(i["ngrams"]), _share(i["share"]),
         i["item_text"].replace("\n", " ")[:60]]
        for i in items[:limit]
    ]  # fmt: skip
    head = ("step", "file", "item", "rows", "n-grams", "share", "begins")
    lines = [
        f"{one['step']}: {one['hit']} of {one['items']} items of {one['against']}, {amount(one['rows'])} rows"
        + (f"; {one['boilerplate']} more only as boilerplate" if one["boilerplate"] else "")
        for one in sets
    ]
    more = [f"and {len(items) - limit} more (--limit)"] if len(items) > limit else []
    view = [*lines, *([table(head, cells, (2, 3, 4, 5))] if items else []), *more]
    return Answer({"run": record.run, "sets": sets, "items": items}, view)


def _share(value: float | None) -> str:
    return "-" if value is None else percent(value)


def _what(row: dict[str, Any]) -> str:
    return "boilerplate" if row["boilerplate"] else ""
