"""From prepared rows to token stores that all arms of a loop share a tokenizer for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tillage.agent.probe import draw
from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.spec import fingerprint
from tillage.core.workspace import Workspace
from tillage.data.dataset import Dataset
from tillage.flow.run import RunResult
from tillage.train.packing import MANIFEST
from tillage.train.tokens import Tokenizer, TokenStore

BATCH_ROWS = 512


def shared_tokenizer(
    raw: Sequence[str], target: Sequence[str], folder: Path, vocab: int, size: int
) -> Tokenizer:
    """One tokenizer for every arm, from raw text and the target's search part; made once in `folder`.

    It sees neither the prepared data nor the holdout, so it favours no arm.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        texts = [*draw(raw, seed=0, budget_bytes=size), *draw(target, seed=0, budget_bytes=size)]
        Tokenizer.train(texts, vocab).save(path)
    return Tokenizer.load(path)


def store_dataset(
    dataset: tuple[str, int], tokenizer: Tokenizer, workspace: Workspace, log: EventLog
) -> TokenStore:
    """The token store of a dataset version; written once."""
    path, version = dataset
    opened = Dataset.open(path, version)
    digest = opened.lineage()["digest"]
    source = {"dataset": path, "version": version, "digest": digest}
    folder = workspace.stores / f"{Path(path).name}-{fingerprint(digest, tokenizer.fingerprint)[:8]}"
    return _store(folder, opened.batches(), tokenizer, log, source)


def store_run(result: RunResult, tokenizer: Tokenizer, workspace: Workspace, log: EventLog) -> TokenStore:
    """The token store of the rows that a run kept without committing them, for a control arm."""
    folder = workspace.stores / f"{result.run}-{fingerprint(result.digest, tokenizer.fingerprint)[:8]}"
    return _store(folder, _batches(result.kept), tokenizer, log, {"run": result.run, "digest": result.digest})


def _store(
    folder: Path,
    batches: Iterator[pa.RecordBatch],
    tokenizer: Tokenizer,
    log: EventLog,
    source: Mapping[str, object],
) -> TokenStore:
    if (folder / MANIFEST).exists():
        try:
            return TokenStore.open(folder)
        except UserError:
            pass  # damaged: written anew below
    return TokenStore.write(folder, batches, tokenizer, log, source=source)


def _batches(files: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    for path in files:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(BATCH_ROWS)


def texts_of(column: pa.ChunkedArray) -> list[str]:
    """The texts of a column without nulls and empty ones."""
    return [text for text in column.to_pylist() if text]
