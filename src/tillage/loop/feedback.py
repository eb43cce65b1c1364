"""What training measured about the data, joined with the rows: the evidence for the next round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import torch
from torch import Tensor

from tillage.agent.embedded import QUALITY_BOUNDS
from tillage.core.events import EventLog, Utility
from tillage.data.schema import DOMAIN, DROP, ID, QUARANTINE_STEP, TEXT
from tillage.flow.result import RunResult
from tillage.kernels.hashing import hash_strings
from tillage.kernels.repetition import repetition
from tillage.kernels.text_stats import text_stats
from tillage.loop.spec import LoopSpec
from tillage.train.evaluate import Target
from tillage.train.feedback import Document, measure_utility
from tillage.train.precision import pick_dtype
from tillage.train.reference import reference_losses
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainResult

pc: Any = pyarrow.compute  # its functions are made at run time

SCORES = ("target_score", "lang_score")
"""Columns of a run that are joined, beside the measurements that the planner bounds: each is tested, and many
tests find something by chance."""


def utilities(
    general: TrainResult,
    store: TokenStore,
    search: Target,
    run: RunResult,
    spec: LoopSpec,
    folder: Path,
    seed: int,
    log: EventLog,
) -> list[Utility]:
    """Score a draw of kept and of dropped rows of the full run, and emit what follows for their groups.

    Args:
        general: the model of the raw arm. search: the target's search part; its reference model (the one that
            the selecting policy used, if any) is the targeted side of the excess loss.
    """
    train = spec.train
    losses, _ = reference_losses(
        train.reference, search, store, train.seq_len, pick_dtype(train.dtype), folder / "references"
    )
    half = spec.utility_documents // 2
    documents = [
        *_documents(_rows(run.kept, _first(run.kept_table([]), half, seed))),
        *_documents(_rows(run.dropped, _first_of_each(run.dropped_table([]), half, seed))),
    ]
    torch.set_num_threads(spec.workers)

    def forward(ids: Tensor) -> Tensor:
        return general.model(ids)

    found = measure_utility(
        forward, losses.model, store.tokenizer, documents, seq_len=train.seq_len, limit=2 * train.seq_len
    )
    for utility in found:
        log.emit(utility)
    return found


def _first(table: pa.Table, count: int, seed: int) -> set[str]:
    """Ids of the `count` rows that a hash of their id puts first."""
    ids = table[ID].combine_chunks()
    return set(ids.take(pa.array(hash_strings(ids, seed).argsort(kind="stable")[:count])).to_pylist())


def _first_of_each(table: pa.Table, count: int, seed: int) -> set[str]:
    """An equal share for each step and reason, so that rare reasons are measured too; nothing unreadable."""
    table = table.filter(pc.not_equal(table["step"], QUARANTINE_STEP))
    keys = pc.binary_join_element_wise(table["step"], table["reason"], pa.scalar(":", pa.large_string()))
    names = pc.unique(keys).to_pylist()
    share = max(count // max(len(names), 1), 8)
    return {id for name in names for id in _first(table.filter(pc.equal(keys, name)), share, seed)}


def _rows(files: Sequence[Path], ids: set[str]) -> list[dict[str, Any]]:
    """The rows with these ids, ordered by id; only they are held in memory."""
    wanted = pa.array(sorted(ids), pa.large_string())
    found: list[dict[str, Any]] = []
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                hit = pc.is_in(batch.column(ID), wanted)
                found += batch.filter(hit).to_pylist()
    return sorted(found, key=lambda row: row[ID])


def _documents(rows: Sequence[dict[str, Any]]) -> list[Document]:
    """Documents with the measurements that the run made and those that any recipe can bound."""
    rows = [row for row in rows if row[TEXT]]
    stats = text_stats(pa.array([row[TEXT] for row in rows], pa.large_string()))
    stats |= repetition(pa.array([row[TEXT] for row in rows], pa.large_string()))
    columns = {name: stats[name].to_pylist() for name, _, _ in QUALITY_BOUNDS}
    documents: list[Document] = []
    for at, row in enumerate(rows):
        numbers = {name: values[at] for name, values in columns.items()}
        numbers |= {name: row.get(name) for name in SCORES}
        known = {name: float(value) for name, value in numbers.items() if value is not None}
        documents.append(Document(row[ID], row[TEXT], row[DOMAIN] or "", known, row.get(DROP)))
    return documents
