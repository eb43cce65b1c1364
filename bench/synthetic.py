"""Token stores of any size from nothing: for measuring speed and sizes, where the text does not matter."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer as Bpe
from tokenizers import decoders, models, pre_tokenizers

from tillage.train.packing import FORMAT
from tillage.train.tokens import Tokenizer, TokenStore

EOS = "<|endoftext|>"


def tokenizer(vocab: int) -> Tokenizer:
    """Bytes, an end-of-text token, and names that no text has."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [EOS, *letters, *(f"<{i}>" for i in range(vocab - len(letters) - 1))]
    bpe = Bpe(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return Tokenizer(bpe)


def store(
    folder: Path, tokens: int, domains: int, vocab: int, length: int = 1000, fill: bool = True
) -> TokenStore:
    """A store of `domains` domains and about `tokens` tokens in documents of `length`.

    Args:
        fill: random tokens, steeply unequal in frequency; otherwise zeros in a file without blocks on the
        disk.
    """
    folder.mkdir(parents=True)
    words = tokenizer(vocab)
    words.save(folder / "tokenizer.json")
    count = tokens // length
    dtype = np.dtype(np.uint16 if vocab <= 1 << 16 else np.uint32)
    with (folder / "tokens.bin").open("wb") as out:
        if not fill:
            out.truncate(count * length * dtype.itemsize)
        rng = np.random.default_rng(0)
        for low in range(0, count if fill else 0, 1000):
            block = (rng.random((min(1000, count - low), length)) ** 3 * vocab).astype(dtype)
            block[:, -1] = words.eos
            out.write(block.tobytes())
    group = np.arange(count) * domains // count
    table = pa.table(
        {
            "id": pa.array([f"{i:016x}" for i in range(count)], type=pa.large_string()),
            "group": pa.array(group.astype(np.int64)),
            "start": pa.array(np.arange(count, dtype=np.int64) * length),
            "bytes": pa.array(np.full(count, 4 * length, dtype=np.int64)),
        }
    )
    with (
        pa.OSFile(str(folder / "documents.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    manifest = {
        "format": FORMAT, "fingerprint": f"synthetic-{tokens}-{domains}-{vocab}-{length}",
        "tokenizer": words.fingerprint, "dtype": dtype.name, "documents": count, "tokens": count * length,
        "bytes": 4 * count * length, "domains": [f"domain-{i:03d}" for i in range(domains)], "columns": [],
        "source": {}, "files": {p.name: p.stat().st_size for p in sorted(folder.iterdir())},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return TokenStore.open(folder)
