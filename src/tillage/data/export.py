"""A dataset version as plain files for others: Parquet, JSON lines, or a Hugging Face dataset folder."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import yaml
import zstandard

from tillage.core.errors import UserError
from tillage.core.workspace import check_writable
from tillage.data.dataset import Dataset
from tillage.data.remote import is_url
from tillage.data.upload import uploading

pc: Any = pyarrow.compute  # its functions are made at run time
Format = Literal["parquet", "jsonl", "hf"]
LINEAGE_FILE = "_lineage.json"
"""Readers of folders leave out names that begin with an underscore."""
SHARD_BYTES = 256 << 20
_LICENCE = ("licence", "license")


@dataclass(frozen=True)
class Written:
    """A file of an export: its path or URL, and its bytes."""

    path: str
    bytes: int


_Content = Path | Callable[[Path], None]
"""A file to copy, or what writes one at a path."""


def export(dataset: Dataset, to: Format, path: Path | str) -> list[Written]:
    """Write the rows of a version to a path or to a URL `s3://bucket/prefix`; the files written.

    `jsonl` to a path that ends in .jsonl or .jsonl.zst is one file; everything else is a folder, which also
    holds the lineage. `hf` is what `datasets.load_dataset(folder)` reads: `data/train-*.parquet` and a card
    with the lineage and the counts of licences.

    Nothing is at a path before all of it is. A store shows each file when it is whole, and the lineage last:
    a folder without it is none. What was sent is removed if the export fails.

    Raises:
        UserError: there is something at `path` already, or it cannot be written.
        WorkFailed: a store fails half way.
    """
    one = to == "jsonl" and str(path).endswith((".jsonl", ".jsonl.zst"))
    files = iter([("", partial(_write_lines, dataset.batches()))]) if one else _files(dataset, to)
    return _send(files, str(path)) if is_url(str(path)) else _save(files, Path(path))


def _save(files: Iterator[tuple[str, _Content]], path: Path) -> list[Written]:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError("there is something here already", where=path, hint="name another path or remove it")
    check_writable(path.absolute().parent)
    with _whole(path) as temporary:
        for name, content in files:
            target = temporary / name if name else temporary
            target.parent.mkdir(parents=True, exist_ok=True)
            # Copies, not links: whoever changes an export must not change the dataset.
            shutil.copyfile(content, target) if isinstance(content, Path) else content(target)
    made = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [Written(str(file), file.stat().st_size) for file in made]


def _send(files: Iterator[tuple[str, _Content]], url: str) -> list[Written]:
    """File by file: what is not yet a file becomes one in the folder for temporary files first, since what is
    streamed to a store and breaks off would stand there as if it were whole."""
    sent: list[Written] = []
    with uploading(url) as upload, TemporaryDirectory(prefix="tillage-export-") as folder:
        for name, content in files:
            file = content if isinstance(content, Path) else Path(folder, PurePosixPath(name or url).name)
            if not isinstance(content, Path):
                content(file)
            sent.append(Written(upload.put(file, name), file.stat().st_size))
            if file is not content:
                file.unlink()
    return sorted(sent, key=lambda file: file.path)


def _files(dataset: Dataset, to: Format) -> Iterator[tuple[str, _Content]]:
    """Name and content of each file of a folder; the last one says that the folder is whole."""
    yield from _line_files(dataset) if to == "jsonl" else _parquet_files(dataset, to)
    if to == "hf":
        yield "README.md", partial(_write_text, text=card(dataset))
    lineage = {"dataset": dataset.path.name, "version": dataset.version, **dataset.lineage()}
    yield LINEAGE_FILE, partial(_write_text, text=json.dumps(lineage, ensure_ascii=False, indent=1) + "\n")


@contextmanager
def _whole(path: Path) -> Generator[Path]:
    """A path to write to that takes the place of `path` at the end, or is removed."""
    temporary = path.absolute().with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    if path.name.endswith(".zst"):
        temporary = temporary.with_name(temporary.name + ".zst")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _parquet_files(dataset: Dataset, to: Format) -> Iterator[tuple[str, _Content]]:
    files = dataset.files()
    stem = "data/train" if to == "hf" else "part"
    for number, file in enumerate(files):
        yield f"{stem}-{number:05d}-of-{len(files):05d}.parquet", file
    if not files:
        none = dataset.schema().empty_table()
        yield f"{stem}-00000-of-00001.parquet", lambda path: pq.write_table(none, path)


def _line_files(dataset: Dataset) -> Iterator[tuple[str, _Content]]:
    for number, batches in enumerate(_pieces(dataset.batches())):
        yield f"part-{number:05d}.jsonl.zst", partial(_write_lines, batches)


def _pieces(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    held: list[pa.RecordBatch] = []
    size, number = 0, 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= SHARD_BYTES:
            yield held
            held, size, number = [], 0, number + 1
    if held or number == 0:
        yield held


def _write_lines(batches: Any, path: Path) -> None:
    """One JSON object a row; compressed with Zstandard where the name says so."""
    with path.open("wb") as raw:
        compressed = path.name.endswith(".zst")
        out = (
            zstandard.ZstdCompressor(level=3, threads=-1).stream_writer(raw, closefd=False)
            if compressed
            else raw
        )
        for batch in batches:
            rows = (json.dumps(row, ensure_ascii=False, default=str) for row in batch.to_pylist())
            out.write("".join(f"{row}\n" for row in rows).encode())
        if out is not raw:
            out.close()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def card(dataset: Dataset) -> str:
    """The README of a Hugging Face dataset folder: metadata, what the rows are, where they come from."""
    lineage, schema = dataset.lineage(), dataset.schema()
    domains = _count(dataset, "domain")
    licences = next((_count(dataset, name) for name in _LICENCE if name in schema.names), None)
    rows = int(lineage.get("rows", dataset.count()))
    head = {
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}],
        "size_categories": [_size_category(rows)],
        "tags": ["tillage"],
    }
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        "",
        f"# {dataset.path.name}, version {dataset.version}",
        "",
        f"{rows:,} rows, {int(lineage.get('bytes', 0)):,} bytes of text; digest `{lineage['digest']}`.",
        f"Made by Tillage {lineage.get('tillage', '?')}, run `{lineage['run']}`.",
        "",
        "## Domains",
        "",
        *_table(("domain", "rows"), domains.most_common()),
        "",
        "## Licences",
        "",
    ]
    if licences is None:
        lines.append("No step looked for licences: what those of the sources are is not known from the data.")
    else:
        named = [(name or "none found", n) for name, n in licences.most_common()]
        lines += _table(("licence", "rows"), named)
    lines += ["", "## What was done", "", "```yaml", lineage["recipe"].rstrip(), "```", ""]
    steps = [
        (a["step"], a["rows_in"], a["rows_out"], ", ".join(f"{why} {n:,}" for why, n in _gone(a)))
        for a in lineage.get("accounts", [])
    ]
    lines += _table(("step", "rows in", "rows out", "dropped because"), steps)
    files = [(v["name"], v["size"], v["digest"]) for v in lineage.get("inputs", [])]
    lines += ["", "## Inputs", "", *_table(("file", "bytes", "BLAKE2b-128"), files[:_SHOWN])]
    if len(files) > _SHOWN:
        lines.append(f"\nand {len(files) - _SHOWN:,} more, in `{LINEAGE_FILE}`.")
    return "\n".join(lines) + "\n"


_SHOWN = 50


def _gone(account: dict[str, Any]) -> list[tuple[str, int]]:
    return sorted({**account.get("dropped", {}), **account.get("quarantined", {})}.items())


def _count(dataset: Dataset, column: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for batch in dataset.batches([column]):
        for item in pc.value_counts(batch.column(0)).to_pylist():
            total[item["values"] or ""] += item["counts"]
    return total


def _table(head: tuple[str, ...], rows: list[Any]) -> list[str]:
    def line(cells: Any) -> str:
        shown = (f"{c:,}" if isinstance(c, int) else str(c).replace("|", "\\|") for c in cells)
        return "| " + " | ".join(shown) + " |"

    return [line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]


def _size_category(rows: int) -> str:
    """The Hub's classes of size."""
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    bounds += [(10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B")]
    return next((name for bound, name in bounds if rows < bound), "n>1B")
