"""The token store: packed arrays on disk with random access by sample.

Layout of a store: the documents of one domain lie next to each other, ordered by id, each followed by the
end-of-text token. So the store does not depend on the order or the partitioning of the rows it came from.
A *group* is a domain; sample `i` of a group is `seq_len + 1` tokens from `i * seq_len` of its stretch: inputs
and targets, shifted by one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from tillage.core.errors import UserError
from tillage.core.events import EventLog, Tokenised
from tillage.core.spec import fingerprint
from tillage.core.workspace import check_writable
from tillage.train.chats import ChatFormat
from tillage.train.fitted import Pieces
from tillage.train.losses import IGNORE
from tillage.train.packing import FORMAT, MANIFEST, Floats, write_store
from tillage.train.tokenizer import EOS, Ints, Tokenizer

Packing = Literal["stream", "best_fit", "document"]


@dataclass(frozen=True)
class Groups:
    """The domains of a store: names, and tokens (end-of-text included) and documents of each."""

    names: tuple[str, ...]
    tokens: tuple[int, ...]
    documents: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)


class TokenStore:
    """Memory-mapped tokens with document offsets, row ids, domains and measurements.

    Attributes:
        tokens: `uint16` or `uint32` array of all tokens.
        starts: `int64[documents + 1]`, where each document begins; its last token is end-of-text.
        domain: `int64[documents]`, index into `groups.names`; non-decreasing.
        bytes: `int64[documents]`, UTF-8 bytes of each text.
        mask: `uint8` for each token, 0 where it is not learned; None in stores where all are.
        packing: how samples are cut: "stream", "best_fit" or "document"; see `packed`.
        fingerprint: changes when, and only when, tokens, ids, domains, measurements or tokenizer do.
    """

    def __init__(self, folder: Path) -> None:
        manifest = _manifest(folder)
        self.folder = folder
        self.manifest = manifest
        self.fingerprint: str = manifest["fingerprint"]
        self.source: dict[str, Any] = manifest["source"]
        self.columns: list[str] = manifest["columns"]
        for name, size in manifest["files"].items():
            actual = (folder / name).stat().st_size if (folder / name).exists() else None
            if actual != size:
                raise UserError(
                    "the token store is damaged",
                    where=folder / name,
                    got="no file" if actual is None else f"{actual} bytes",
                    expected=f"{size} bytes",
                    hint="write it again with `tillage tokenize`",
                )
        self.tokenizer = Tokenizer.load(folder / "tokenizer.json", manifest.get("eos", EOS))
        dtype = np.dtype(manifest["dtype"])
        count: int = manifest["tokens"]
        self.tokens: npt.NDArray[Any] = (
            np.memmap(folder / "tokens.bin", dtype=dtype, mode="r") if count else np.zeros(0, dtype=dtype)
        )
        masked = "mask.bin" in manifest["files"] and count > 0
        self.mask: npt.NDArray[np.uint8] | None = (
            np.memmap(folder / "mask.bin", dtype=np.uint8, mode="r") if masked else None
        )
        self.packing: Packing = "stream" if self.mask is None else "best_fit"
        self._cuts: dict[int, Samples] = {}
        with pa.memory_map(str(folder / "documents.arrow")) as source:
            self._table = pa.ipc.open_file(source).read_all()
        self.starts: Ints = np.append(_numpy(self._table["start"]), count)
        self.domain: Ints = _numpy(self._table["group"])
        self.bytes: Ints = _numpy(self._table["bytes"])
        edges = np.searchsorted(self.domain, np.arange(len(manifest["domains"]) + 1))
        self._token_edges: Ints = self.starts[edges]
        self.groups = Groups(
            tuple(manifest["domains"]),
            tuple(int(n) for n in np.diff(self._token_edges)),
            tuple(int(n) for n in np.diff(edges)),
        )

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """Open a store; `UserError` if there is none or it is damaged."""
        return cls(Path(folder))

    @classmethod
    def write(
        cls,
        folder: str | Path,
        batches: Iterable[pa.RecordBatch],
        tokenizer: Tokenizer,
        log: EventLog | None = None,
        *,
        source: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        chat: ChatFormat | None = None,
    ) -> TokenStore:
        """Tokenise rows (`id`, `text`, `domain`, measurements) into `folder`, all or nothing.

        Args:
            batches: Arrow batches; read once, streamed.
            source: what the rows are (dataset, version, digest); kept in the manifest.
            columns: numeric measurements to keep per document; all numeric columns when None.
            chat: how rows with `messages` are written down; then only answers are learned. Without it the
                text of all rows is.

        Raises:
            UserError: a column is missing, a text is null, an id occurs twice, or the folder holds
                something else.
        """
        folder = Path(folder).absolute()
        if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
            raise UserError("this folder is no token store", where=folder, hint="name another folder")
        check_writable(folder.parent)
        began = time.monotonic()
        draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            write_store(draft, batches, tokenizer, dict(source or {}), columns, chat)
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            if folder.exists():
                folder.rename(old)
            draft.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        store = cls.open(folder)
        if log is not None:
            log.emit(
                Tokenised(
                    store=str(folder),
                    fingerprint=store.fingerprint,
                    documents=len(store),
                    tokens=len(store.tokens),
                    seconds=round(time.monotonic() - began, 3),
                )
            )
        return store

    def __len__(self) -> int:
        """Documents."""
        return len(self.domain)

    def ids(self) -> pa.ChunkedArray:
        """Row ids of the documents (strings)."""
        return self._table["id"]

    def id(self, document: int) -> str:
        return str(self._table["id"][document].as_py())

    def column(self, name: str) -> Floats:
        """A measurement, `float64[documents]`, NaN where there was none."""
        if name not in self.columns:
            raise UserError(
                f"the store has no measurement {name!r}", where=self.folder, expected=", ".join(self.columns)
            )
        return _numpy(self._table["m_" + name])

    def document(self, document: int) -> npt.NDArray[Any]:
        """Tokens of a document without its end-of-text."""
        return self.tokens[self.starts[document] : self.starts[document + 1] - 1]

    def packed(self, packing: Packing | Literal["auto"]) -> TokenStore:
        """The same store with its samples cut in another way.

        "stream": the documents of a domain are one stream, cut every `seq_len` tokens. "best_fit": whole
        documents share a sample (`tillage.train.fitted`). "document": each has a sample of its own, padded,
        so that a policy chooses documents and not what happens to lie beside them. "auto": best_fit where
        only a part is learned.
        """
        if packing in ("auto", self.packing):
            return self
        other = copy.copy(self)
        other.packing, other._cuts = packing, {}
        other.fingerprint = fingerprint(self.fingerprint, packing)
        return other

    def only(self, documents: npt.ArrayLike) -> TokenStore:
        """These documents alone, in memory and in the order of the store: a selection to train on."""
        chosen = np.unique(np.asarray(documents, dtype=np.int64))
        if not len(chosen) or chosen[0] < 0 or chosen[-1] >= len(self):
            raise UserError("no such documents", got=len(chosen), expected=f"numbers below {len(self)}")
        places = np.concatenate([np.arange(int(self.starts[d]), int(self.starts[d + 1])) for d in chosen])
        other = copy.copy(self)
        other.tokens, other._cuts = self.tokens[places], {}
        other.mask = None if self.mask is None else self.mask[places]
        other.starts = np.concatenate([[0], np.cumsum(np.diff(self.starts)[chosen])])
        other.domain, other.bytes = self.domain[chosen], self.bytes[chosen]
        other._table = self._table.take(pa.array(chosen))
        edges = np.searchsorted(other.domain, np.arange(len(self.groups) + 1))
        other._token_edges = other.starts[edges]
        counts = (tuple(int(n) for n in np.diff(x)) for x in (other._token_edges, edges))
        other.groups = Groups(self.groups.names, *counts)
        other.fingerprint = fingerprint(self.fingerprint, hashlib.sha256(chosen.tobytes()).hexdigest())
        return other

    def learned(self, begin: Ints, end: Ints) -> Ints:
        """How many tokens of each range of positions are learned."""
        if self.mask is None:
            return end - begin
        total = np.concatenate([[0], np.cumsum(self.mask, dtype=np.int64)])
        return total[end] - total[begin]

    def samples(self, seq_len: int) -> Samples:
        """The store cut into samples of `seq_len` tokens."""
        if seq_len not in self._cuts:
            self._cuts[seq_len] = Samples(self, seq_len)
        return self._cuts[seq_len]


class Samples:
    """A store cut into samples. A global sample number is `first[group] + index in group`.

    Attributes:
        counts: `int64[groups]`, samples of each group; 0 where a group is shorter than one sample.
        first: `int64[groups + 1]`.
        pieces: the whole documents in each sample; None where samples are cut from a stream.
        mass: share of each sample's tokens that are learned, `float64[samples]`; None where all are.
    """

    def __init__(self, store: TokenStore, seq_len: int) -> None:
        if seq_len < 1:
            raise UserError("a sample needs at least one token", got=seq_len)
        self.store, self.seq_len = store, seq_len
        self._edges: Ints = store._token_edges  # pyright: ignore[reportPrivateUsage]
        self.pieces = Pieces(store, seq_len) if store.packing != "stream" else None
        self.counts: Ints = np.maximum((np.diff(self._edges) - 1) // seq_len, 0)
        if self.pieces is not None:
            self.counts = self.pieces.counts
        self.first: Ints = np.concatenate([[0], np.cumsum(self.counts)])
        self.mass: Floats | None = None
        if self.pieces is not None:
            self.mass = self.pieces.share_learned()
        elif store.mask is not None:
            begin = self.start(np.arange(len(self)))
            self.mass = store.learned(begin + 1, begin + 1 + seq_len) / seq_len

    def __len__(self) -> int:
        return int(self.first[-1])

    def group(self, samples: npt.ArrayLike) -> Ints:
        """Group of each sample."""
        return np.searchsorted(self.first, np.asarray(samples), side="right") - 1

    def start(self, samples: npt.ArrayLike) -> Ints:
        """Position of the first token of each sample in `store.tokens`."""
        samples = np.asarray(samples)
        group = self.group(samples)
        return self._edges[group] + (samples - self.first[group]) * self.seq_len

    def read(self, samples: npt.ArrayLike) -> Ints:
        """Tokens `int64[n, seq_len + 1]` of the stream: inputs are `[:, :-1]`, targets `[:, 1:]`.

        Raises:
            UserError: packed samples are no stretches of a stream; see `pairs`.
        """
        if self.pieces is not None:
            raise UserError("packed samples have no stream of tokens", hint="use pairs")
        starts = self.start(samples).tolist()
        rows = np.empty((len(starts), self.seq_len + 1), dtype=np.int64)
        # A slice a sample: one array of indices would be eight times as large as the tokens.
        for row, start in zip(rows, starts, strict=True):
            row[:] = self.store.tokens[start : start + self.seq_len + 1]
        return rows

    def pairs(self, samples: npt.ArrayLike) -> tuple[Ints, Ints]:
        """Inputs and targets, `int64[n, seq_len]` each; targets are `IGNORE` where nothing is learned."""
        if self.pieces is not None:
            return self.pieces.pairs(samples)
        rows = self.read(samples)
        inputs, targets = np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])
        if self.store.mask is not None:
            places = self.start(samples)[:, None] + 1 + np.arange(self.seq_len)
            targets[self.store.mask[places] == 0] = IGNORE
        return inputs, targets

    def spans(self, samples: npt.ArrayLike, inputs: Tensor) -> Tensor:
        """A number for each document in a sample, `int64[n, seq_len]`, where `inputs` are; in a stream the
        end-of-text before a document counts as its beginning."""
        if self.pieces is not None:
            return torch.from_numpy(self.pieces.spans(samples)).to(inputs.device)
        return (inputs == self.store.tokenizer.eos).cumsum(1)

    def documents(self, sample: int) -> Sequence[int]:
        """Documents that a sample's inputs touch, ascending."""
        if self.pieces is not None:
            return self.pieces.documents(sample)
        begin = int(self.start(np.asarray([sample]))[0])
        low = int(np.searchsorted(self.store.starts, begin, side="right")) - 1
        high = int(np.searchsorted(self.store.starts, begin + self.seq_len, side="left"))
        return range(low, high)

    def column(self, name: str) -> Floats:
        """A measurement per sample: the mean over its documents, weighted by tokens; NaN if none has it."""
        return self.average(self.store.column(name))

    def average(self, values: Floats) -> Floats:
        """From documents to samples: means weighted by tokens, of those that are not NaN."""
        if self.pieces is not None:
            return self.pieces.column(values)
        starts = self.store.starts
        known = np.isfinite(values)
        size = np.diff(starts)
        mass = np.concatenate([[0.0], np.cumsum(size * known)])
        total = np.concatenate([[0.0], np.cumsum(size * np.where(known, values, 0.0))])
        begin = self.start(np.arange(len(self)))
        end = begin + self.seq_len
        weight = np.interp(end, starts, mass) - np.interp(begin, starts, mass)
        value = np.interp(end, starts, total) - np.interp(begin, starts, total)
        return np.divide(value, weight, out=np.full(len(self), np.nan), where=weight > 1e-9)


def _numpy(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    return column.combine_chunks().to_numpy(zero_copy_only=False)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            "there is no token store here", where=folder, hint="write one with `tillage tokenize`"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError("the token store's manifest cannot be read", where=path, got=str(error)) from error
    if manifest.get("format") != FORMAT:
        raise UserError(
            "the token store has another format", where=path, got=manifest.get("format"), expected=FORMAT
        )
    return manifest
