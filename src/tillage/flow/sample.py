"""A frozen sample of raw rows: the same rows whatever the machine, the threads or the order of the files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tillage.core.errors import UserError
from tillage.core.spec import fingerprint
from tillage.core.whole import make_whole, sweep
from tillage.core.workspace import Workspace
from tillage.data.reader import plan, read_all
from tillage.data.schema import ID
from tillage.data.sources import Source
from tillage.kernels.hashing import hash_strings

ROWS = "rows.parquet"
_OWN = 1 << 40


def take_sample(
    sources: Sequence[Source], workspace: Workspace, documents: int | float, seed: int = 0
) -> Path:
    """A Parquet file of raw rows (unreadable ones too), ordered by id; made once for the same input and size.

    Args:
        documents: how many rows (int), or which share of them (float, 0 to 1), by a hash of (id, seed).

    Raises:
        UserError: a size that makes no sense, or no input.
    """
    share = isinstance(documents, float)
    if documents <= 0 or (share and documents > 1):
        raise UserError(
            "a sample needs a size", got=documents, expected="a number of rows, or a share in (0, 1]"
        )
    inputs = plan(sources, workspace.inputs)
    content = [(f.source, f.name, f.digest) for f in inputs.files]
    mark = fingerprint([s.canonical() for s in sources], content, documents, share, seed)
    folder = workspace.root / "samples" / mark

    def fill(target: Path) -> None:
        held: list[pa.Table] = []
        for batch in read_all(inputs):
            table = pa.Table.from_batches([batch])
            held.append(table.filter(_chance(table, seed) < documents) if share else table)
            if not share and sum(len(t) for t in held) > 2 * documents + 10_000:
                held = [_smallest(pa.concat_tables(held), int(documents), seed)]
        table = pa.concat_tables(held) if held else inputs.schema.empty_table()
        if not share:
            table = _smallest(table, int(documents), seed)
        pq.write_table(table.sort_by(ID), target / ROWS, compression="zstd", use_dictionary=False)

    sweep(folder.parent)
    make_whole(folder, fill)
    return folder / ROWS


def _chance(table: pa.Table, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each row, fixed by (id, seed), and unlike the one that sampling steps draw."""
    ids = table.column(ID).combine_chunks()
    return (hash_strings(ids, seed + _OWN) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _smallest(table: pa.Table, count: int, seed: int) -> pa.Table:
    chance = _chance(table, seed)
    if len(chance) <= count:
        return table
    return table.take(pa.array(np.sort(np.argsort(chance, kind="stable")[:count])))
