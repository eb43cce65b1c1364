"""`tillage export DATASET@VERSION PATH --to FORMAT`."""

from __future__ import annotations

from tillage.cli.answer import Answer, Writing, dry
from tillage.core.text import amount, size
from tillage.data.export import Format
from tillage.data.export import export as write
from tillage.data.refs import open_ref


def export(ref: str, path: str, /, *, to: Format, common: Writing = Writing()) -> Answer:
    """Write a dataset version as Parquet, JSON lines or a Hugging Face folder.

    Args:
        ref: DATASET, for its newest version, DATASET@VERSION or DATASET@TAG.
        path: what to make; it must not be there. A folder, or with --to jsonl a file *.jsonl or *.jsonl.zst;
            also by a URL s3://bucket/prefix.
        to: parquet, jsonl, or hf (what load_dataset reads, with a card). For packed tokens: tillage tokenize.
    """
    dataset = open_ref(ref, common.space)
    name = f"{dataset.path.name}@{dataset.version}"
    if common.dry_run:
        return dry(f"write the {amount(dataset.count())} rows of {name} as {to}", [path])
    files = write(dataset, to, path)
    total = sum(file.bytes for file in files)
    return Answer(
        {"path": path, "format": to, "files": [file.path for file in files], "bytes": total, "of": name},
        [f"{name}: {amount(dataset.count())} rows in {path} ({len(files)} files, {size(total)})"],
    )
