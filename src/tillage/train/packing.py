"""How rows become the files of a token store: tokenised into a spool, then put in their final order."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from tillage.core.errors import UserError, WorkFailed
from tillage.core.workspace import write_atomic
from tillage.data import schema
from tillage.data.chat import MESSAGES
from tillage.train.chats import ChatEncoder, ChatFormat
from tillage.train.tokenizer import Ints, Tokenizer

FORMAT = 1
MANIFEST = "manifest.json"
"""Written last: a folder without it is no store."""
_SLICE_BYTES = 4_000_000

pc: Any = pyarrow.compute  # its functions are made at import time: no checker sees them
Floats = npt.NDArray[np.float64]


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Pieces of a batch of about `_SLICE_BYTES` of text, so that encodings never fill the memory."""
    sizes = pc.binary_length(batch.column(schema.TEXT)).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    begin = 0
    while begin < batch.num_rows:
        done = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, done + _SLICE_BYTES, side="right")), begin + 1)
        yield batch.slice(begin, end - begin)
        begin = end


def _measurements(arrow: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    fixed = {field.name for field in schema.BASE}
    numeric = [
        f.name
        for f in arrow
        if f.name not in fixed
        and (pa.types.is_integer(f.type) or pa.types.is_floating(f.type) or pa.types.is_boolean(f.type))
    ]
    if columns is None:
        return sorted(numeric)
    for name in columns:
        if name not in numeric:
            raise UserError(
                f"no numeric column {name!r} in the rows",
                got=", ".join(arrow.names),
                hint="leave `columns` out",
            )
    return sorted(columns)


def write_store(
    draft: Path,
    batches: Iterable[pa.RecordBatch],
    tokenizer: Tokenizer,
    source: dict[str, Any],
    columns: Sequence[str] | None,
    chat: ChatFormat | None = None,
) -> None:
    encoder = None if chat is None else ChatEncoder(tokenizer, chat)
    dtype = np.dtype(np.uint16 if tokenizer.vocab <= 1 << 16 else np.uint32)
    spool = draft / "spool.bin"
    ids: list[pa.Array] = []
    domains: list[pa.Array] = []
    sizes: list[Ints] = []
    lengths: list[Ints] = []
    masks: list[npt.NDArray[np.bool_]] = []
    values: dict[str, list[Floats]] | None = None
    with spool.open("wb") as out:
        for batch in batches:
            for need in (schema.ID, schema.TEXT, schema.DOMAIN):
                if need not in batch.schema.names:
                    raise UserError(
                        f"the rows have no column {need!r}",
                        got=", ".join(batch.schema.names),
                        expected="id, text, domain",
                    )
            if batch.column(schema.TEXT).null_count or batch.column(schema.ID).null_count:
                raise UserError(
                    "a row has no id or no text", expected="only kept rows", hint="drop such rows first"
                )
            if values is None:
                values = {name: [] for name in _measurements(batch.schema, columns)}
            for part in _slices(batch):
                texts = part.column(schema.TEXT)
                encoded = tokenizer.encode(texts.to_pylist())
                if encoder is not None:
                    masks += _chats(encoder, part, encoded)
                end = np.asarray([tokenizer.eos], dtype=dtype)
                pieces = [piece for e in encoded for piece in (e.astype(dtype), end)]
                out.write(np.concatenate(pieces).tobytes())
                ids.append(part.column(schema.ID).cast(pa.large_string()))
                domains.append(pc.fill_null(part.column(schema.DOMAIN).cast(pa.large_string()), "unknown"))
                sizes.append(pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64))
                lengths.append(np.asarray([len(e) + 1 for e in encoded], dtype=np.int64))
                for name, parts in values.items():
                    numbers = part.column(name).cast(pa.float64())
                    parts.append(pc.fill_null(numbers, float("nan")).to_numpy(zero_copy_only=False))
    values = values or {}
    names, table, order, begin, length = _order(ids, domains, sizes, lengths)
    for name, parts in values.items():
        table = table.append_column("m_" + name, pa.array(np.concatenate(parts)[order]))
    digest = _gather(draft / "tokens.bin", np.memmap(spool, dtype=dtype, mode="r"), begin, length)
    if masks:
        everything = np.concatenate(masks).astype(np.uint8)
        digest += _gather(draft / "mask.bin", everything, begin, length)
    spool.unlink()
    with (
        pa.OSFile(str(draft / "documents.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    tokenizer.save(draft / "tokenizer.json")
    content = hashlib.sha256(digest)
    for column in ("id", "group", "start", *("m_" + name for name in sorted(values))):
        content.update(column.encode())
        plain = table[column].combine_chunks()
        if column == "id":
            content.update("\n".join(plain.to_pylist()).encode())
        else:
            content.update(plain.to_numpy(zero_copy_only=False).tobytes())
    content.update(json.dumps([tokenizer.fingerprint, names]).encode())
    manifest = {
        "format": FORMAT,
        "fingerprint": content.hexdigest()[:16],
        "tokenizer": tokenizer.fingerprint,
        "eos": tokenizer.eos_text,
        "chat": None if chat is None else chat.name,
        "dtype": dtype.name,
        "documents": table.num_rows,
        "tokens": int(length.sum()),
        "bytes": int(pc.sum(table["bytes"]).as_py() or 0),
        "domains": names,
        "columns": sorted(values),
        "source": source,
        "files": {p.name: p.stat().st_size for p in sorted(draft.iterdir())},
    }
    write_atomic(draft / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _order(
    ids: list[pa.Array], domains: list[pa.Array], sizes: list[Ints], lengths: list[Ints]
) -> tuple[list[str], pa.Table, Ints, Ints, Ints]:
    """Documents by domain, then id; also where each lies in the spool and how long it is."""
    if not ids:
        raise UserError(
            "there are no rows to tokenise", hint="look at the accounts of the run that made them"
        )
    id_array = pa.chunked_array(ids, type=pa.large_string()).combine_chunks()
    domain_array = pa.chunked_array(domains, type=pa.large_string()).combine_chunks()
    table = pa.table({"id": id_array, "domain": domain_array})
    order = pc.sort_indices(table, [("domain", "ascending"), ("id", "ascending")]).to_numpy()
    ordered = id_array.take(pa.array(order))
    if pc.count_distinct(id_array).as_py() != len(id_array):
        counted = id_array.value_counts()
        twice = next(c["values"].as_py() for c in counted if c["counts"].as_py() > 1)
        raise UserError("two rows have the same id", got=twice, expected="unique ids")
    names = sorted(pc.unique(domain_array).to_pylist())
    group = pc.index_in(domain_array.take(pa.array(order)), value_set=pa.array(names, type=pa.large_string()))
    all_lengths = np.concatenate(lengths)
    begin = (np.cumsum(all_lengths) - all_lengths)[order]
    length = all_lengths[order]
    documents = pa.table(
        {
            "id": ordered,
            "group": group.cast(pa.int64()),
            "start": pa.array(np.cumsum(length) - length),
            "bytes": pa.array(np.concatenate(sizes)[order]),
        }
    )
    return names, documents, order.astype(np.int64), begin, length


def _chats(
    encoder: ChatEncoder, part: pa.RecordBatch, encoded: list[npt.NDArray[np.uint32]]
) -> list[npt.NDArray[np.bool_]]:
    """What is learned of each row, its end-of-text included; rows with messages are encoded as chats, in
    place."""
    if MESSAGES not in part.schema.names:
        raise UserError(
            "the rows have no messages", got=", ".join(part.schema.names), expected=MESSAGES,
            hint="read the data with a source that makes chats, or leave `chat` out",
        )  # fmt: skip
    masks: list[npt.NDArray[np.bool_]] = []
    for row, messages in enumerate(part.column(MESSAGES).to_pylist()):
        ends = True
        learned = np.ones(len(encoded[row]), dtype=np.bool_)
        if messages is not None:
            encoded[row], learned = encoder.encode(messages)
            ends = encoder.chat.ends and bool(learned[-1:].all())
        masks.append(np.append(learned, ends))
    return masks


def _gather(path: Path, spool: npt.NDArray[Any], begin: Ints, length: Ints) -> bytes:
    """Copy documents from the spool in their final order; the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for low in range(0, len(begin), 4096):
            parts = [
                spool[b : b + n]
                for b, n in zip(begin[low : low + 4096], length[low : low + 4096], strict=True)
            ]
            block = np.concatenate(parts).tobytes()
            digest.update(block)
            if out.write(block) != len(block):
                raise WorkFailed("the disk did not take all tokens", where=path)
        out.flush()
        with suppress(OSError):
            os.fsync(out.fileno())
    return digest.digest()
