"""What went in and what became of it, step by step: kept, checked and turned into events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.core.errors import WorkFailed
from tillage.core.events import StepAccount
from tillage.data.schema import DETAIL, DROP, ID, PARTS, QUARANTINE_STEP, TEXT
from tillage.flow.compile import Stage
from tillage.flow.rowindex import keys
from tillage.kernels.digest import add_digests

EXAMPLES = 3
EXCERPT = 400
ALIVE = ""
"""The group of the rows that no step has dropped; the other groups are called "step:reason"."""


@dataclass
class Stats:
    """What a shard, or a stage, counted over the rows that it wrote.

    `rows_in` was counted by whoever read the input, the groups by whoever wrote the output. `examples` holds
    the rows with the smallest ids of each group, so they do not depend on the partitioning. `digest` is over
    the rows kept, of the last stage only. `added` is how many rows were made of those of a group, as the
    rows say that others were made of.
    """

    rows_in: int = 0
    rows: dict[str, int] = field(default_factory=dict[str, int])
    bytes: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict[str, list[tuple[str, str]]])
    digest: str = "0" * 32
    added: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, rows: pa.Table, bytes_columns: Sequence[str]) -> None:
        """Count rows that have `id`, `text`, `_detail`, `_drop` and the byte columns."""
        names = [name for name in (ID, DROP, PARTS, *bytes_columns) if name in rows.column_names]
        (batch,) = rows.select(names).combine_chunks().to_batches()
        encoded = batch.column(DROP).fill_null(ALIVE).dictionary_encode()
        codes, groups = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        counts = np.bincount(codes, minlength=len(groups))
        columns = [batch.column(name).fill_null(0).to_numpy() for name in bytes_columns]
        # Sums of a batch are far below 2^53, up to which the floats of `bincount` are exact.
        sums = [np.bincount(codes, weights=values, minlength=len(groups)) for values in columns]
        for code, group in enumerate(groups):
            self.rows[group] = self.rows.get(group, 0) + int(counts[code])
            held = self.bytes.setdefault(group, [0] * len(sums))
            self.bytes[group] = [a + int(column[code]) for a, column in zip(held, sums, strict=True)]
        self._add_examples(rows, batch.column(ID), codes, groups)
        if PARTS in batch.schema.names and batch.column(PARTS).null_count < batch.num_rows:
            made = batch.column(PARTS).fill_null(0).to_numpy()
            for group, n in zip(groups, np.bincount(codes, weights=made, minlength=len(groups)), strict=True):
                if n:
                    self.added[group] = self.added.get(group, 0) + int(n)

    def _add_examples(
        self, rows: pa.Table, ids: pa.Array, codes: NDArray[np.integer], groups: list[str]
    ) -> None:
        begin = keys(ids)
        shown = rows.select([ID, TEXT, DETAIL])
        for code, group in enumerate(groups):
            own = np.flatnonzero(codes == code)
            if len(own) > EXAMPLES:
                # The beginnings of ids leave a few to be sorted as text.
                own = own[begin[own] <= np.partition(begin[own], EXAMPLES - 1)[EXAMPLES - 1]]
            first = sorted(zip(ids.take(pa.array(own)).to_pylist(), own.tolist(), strict=True))[:EXAMPLES]
            # One by one: taking rows of several chunks would put all their texts together first.
            chosen = [shown.slice(place, 1).to_pylist()[0] for _, place in first]
            found = [(row[ID], row[DETAIL] or "" if row[TEXT] is None else row[TEXT]) for row in chosen]
            self._keep_examples(group, [(id, text[:EXCERPT]) for id, text in found])

    def _keep_examples(self, group: str, found: list[tuple[str, str]]) -> None:
        have = [(id, text) for id, text in self.examples.get(group, [])]
        self.examples[group] = sorted(have + found)[:EXAMPLES]

    def merge(self, other: Stats) -> Stats:
        self.rows_in += other.rows_in
        for group, n in other.rows.items():
            self.rows[group] = self.rows.get(group, 0) + n
            held = self.bytes.setdefault(group, [0] * len(other.bytes[group]))
            self.bytes[group] = [a + b for a, b in zip(held, other.bytes[group], strict=True)]
        for group, n in other.added.items():
            self.added[group] = self.added.get(group, 0) + n
        for group, found in other.examples.items():
            self._keep_examples(group, [(id, text) for id, text in found])
        self.digest = add_digests(self.digest, other.digest)
        return self

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def alive(self) -> int:
        return self.rows.get(ALIVE, 0)

    @property
    def quarantined(self) -> dict[str, int]:
        prefix = QUARANTINE_STEP + ":"
        return {
            group.removeprefix(prefix): n
            for group, n in sorted(self.rows.items())
            if group.startswith(prefix)
        }


def account(run: str, stage: Stage, stats: Stats, first: bool) -> list[StepAccount]:
    """The accounts of a stage's steps (after that of reading, for the first stage).

    Raises:
        WorkFailed: rows written are not rows read, or a row was dropped by an unknown step.
    """
    check_balance(stage, stats)
    alive_rows, alive_bytes = stats.rows_in, _total(stats)
    out: list[StepAccount] = []
    at = 0
    if first:
        bad = stats.quarantined
        out.append(
            StepAccount(
                run, QUARANTINE_STEP, "read", alive_rows, alive_bytes[0], alive_rows - sum(bad.values()),
                alive_bytes[0], quarantined=bad,
            )
        )  # fmt: skip
        alive_rows -= sum(bad.values())
    for action in stage.steps:
        prefix = action.id + ":"
        groups = {g.removeprefix(prefix): g for g in sorted(stats.rows) if g.startswith(prefix)}
        dropped = {reason: stats.rows[group] for reason, group in groups.items()}
        added = sum(stats.added.get(group, 0) for group in groups.values())
        rows_out = alive_rows + added - sum(dropped.values())
        bytes_in = alive_bytes[at]
        for group in groups.values():
            alive_bytes = [a - b for a, b in zip(alive_bytes, stats.bytes[group], strict=True)]
        at += action.op.rewrites
        out.append(
            StepAccount(
                run,
                action.id,
                action.op.name,
                alive_rows,
                bytes_in,
                rows_out,
                alive_bytes[at],
                dropped,
                added=added,
            )
        )
        alive_rows = rows_out
    if alive_rows != stats.alive:
        raise WorkFailed(
            "the accounts do not balance", where=stage.name, got=stats.alive, expected=alive_rows
        )
    return out


def check_balance(stage: Stage, stats: Stats) -> None:
    """`WorkFailed` unless as many rows were written as read, each alive or dropped by a step of the stage."""
    known = {QUARANTINE_STEP, *(action.id for action in stage.steps)}
    strange = sorted(group for group in stats.rows if group != ALIVE and group.split(":")[0] not in known)
    if strange:
        raise WorkFailed(
            "rows were dropped by no step of the stage", where=stage.name, got=", ".join(strange)
        )
    written, added = sum(stats.rows.values()), sum(stats.added.values())
    if written != stats.rows_in + added:
        raise WorkFailed(
            "the accounts do not balance: an operator added or lost rows",
            where=f"stage {stage.name}",
            got=f"{written} rows kept, dropped and quarantined",
            expected=f"{stats.rows_in} rows read" + (f" and {added} made of them" if added else ""),
            hint="operators say reasons for dropping rows and remove none; what they add they say",
        )


def _total(stats: Stats) -> list[int]:
    columns = [list(held) for held in stats.bytes.values()]
    return [sum(values) for values in zip(*columns, strict=True)] or [0]
