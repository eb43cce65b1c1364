"""Folders of Hugging Face datasets as a source: Parquet, JSON lines, CSV or Arrow files in splits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from tillage.core.errors import UserError, nearest
from tillage.data.files import InputFile, Part, resolve
from tillage.data.jsonl import take
from tillage.data.remote import is_url, open_input
from tillage.data.rows import BadRow, RowBuilder
from tillage.data.sources import Csv, Jsonl, Parquet, Source, sources

_KINDS: tuple[type[Source], ...] = (Parquet, Jsonl, Csv)
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_BATCH = 4096


@sources.register
class HuggingFace(Source):
    """A downloaded or saved Hugging Face dataset: its Parquet, JSON lines, CSV or Arrow files.

    A file is of the split that its name or a folder above it holds as a word (`data/train-0000.parquet`,
    `validation/data-00000.arrow`); where none names a split, all are `train`. An empty `split` takes all.
    """

    suffixes = (".arrow", *(suffix for kind in _KINDS for suffix in kind.suffixes))
    split: str = "train"

    def files(self) -> tuple[str, list[str]]:
        root, paths = resolve(list(self.path), self.suffixes, f"source {self.name}")
        # Caches of downloads and of `map` hold other things under the same suffixes.
        paths = [p for p in paths if not os.path.basename(p).startswith(("cache-", "."))]
        of = {path: split_of(os.path.relpath(path, root)) for path in paths}
        if not any(of.values()):
            of = dict.fromkeys(paths, "train")
        if not self.split:
            return root, paths
        chosen = [path for path in paths if of[path] == self.split]
        if not chosen:
            known = sorted({split for split in of.values() if split})
            raise UserError(
                f"no split {self.split!r}",
                where=root,
                got=f"splits {', '.join(known)}",
                hint=nearest(self.split, known),
            )
        return root, chosen

    def _as(self, path: str) -> Source | None:
        """The source that reads files of this kind; None for Arrow files."""
        for kind in _KINDS:
            if path.endswith(kind.suffixes):
                given = self.model_dump(exclude={"split"}, exclude_unset=True)
                return kind.model_validate({**given, "path": (path,)})
        return None

    def reader(self, path: str) -> Source:
        return self._as(path) or self

    def may_split(self, path: str) -> bool:
        kind = self._as(path)
        return kind is not None and kind.may_split(path)

    def parts(self, file: InputFile) -> list[Part]:
        kind = self._as(file.path)
        return super().parts(file) if kind is None else kind.parts(file)

    def head(self, path: str) -> list[dict[str, Any]]:
        kind = self._as(path)
        return [] if kind is None else kind.head(path)

    def read(self, part: Part, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        kind = self._as(part.path)
        if kind is not None:
            yield from kind.read(part, columns)
            return
        want, number = self.columns(), 1
        for batch in _arrow(part.path):
            rows = RowBuilder(part.name, columns)
            for record in batch.to_pylist():
                try:
                    take(record, rows, number, want)
                except BadRow as bad:
                    rows.quarantine(number, bad.reason, bad.detail)
                number += 1
            yield rows.flush()


def split_of(path: str) -> str | None:
    """The split that a path below the dataset's folder names, or None."""
    for word in re.split(r"[/\\._ -]+", path):
        for split, names in _SPLITS.items():
            if word.lower() in names:
                return split
    return None


def _arrow(path: str) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file: a stream, as `save_to_disk` writes, or the format for random access."""
    try:
        with pa.PythonFile(open_input(path)) if is_url(path) else pa.memory_map(path) as source:
            if source.read(6) == b"ARROW1":
                source.seek(0)
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
            else:
                source.seek(0)
                batches = iter(pa.ipc.open_stream(source))
            for batch in batches:
                for start in range(0, batch.num_rows, _BATCH):
                    yield batch.slice(start, _BATCH)
    except pa.ArrowInvalid as error:
        raise UserError("not a whole Arrow file", where=path, got=str(error)) from error
