"""Bits per byte on texts that were not trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tillage.core.errors import UserError
from tillage.train.chats import ANSWERS, ChatEncoder, ChatFormat, Message
from tillage.train.losses import IGNORE, token_losses
from tillage.train.tokens import Floats, Ints, Tokenizer

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Target:
    """Texts to measure a model on, as tokens.

    Attributes:
        tokens: `uint32[n]`, the documents one after the other, each followed by end-of-text.
        bytes: UTF-8 bytes of each document, `int64[documents]`.
        starts: where each document begins, `int64[documents + 1]`.
        eos: the end-of-text token; predicting it does not count, as it stands for no byte.
        learned: which tokens count, `bool[n]`: the answers of chats; None if all do.
    """

    name: str
    tokens: npt.NDArray[np.uint32]
    bytes: Ints
    starts: Ints
    eos: int
    learned: npt.NDArray[np.bool_] | None = None

    def digest(self) -> str:
        """16 hex digits of the tokens, and of which of them count."""
        found = hashlib.sha256(self.tokens.tobytes())
        if self.learned is not None:
            found.update(self.learned.tobytes())
        return found.hexdigest()[:16]

    @classmethod
    def from_chats(
        cls, name: str, chats: Sequence[Sequence[Message]], tokenizer: Tokenizer, chat: ChatFormat
    ) -> Target:
        """Chats of which the answers count; `bytes` are those of the answers. Ones without are left out."""
        chats = [c for c in chats if any(m["role"] == ANSWERS and m["content"] for m in c)]
        if not chats:
            raise UserError(f"the target {name!r} has no answers")
        encoder = ChatEncoder(tokenizer, chat)
        encoded = [encoder.encode(c) for c in chats]
        end, no = np.asarray([tokenizer.eos], dtype=np.uint32), np.zeros(1, dtype=np.bool_)
        said = [sum(len(m["content"].encode()) for m in c if m["role"] == ANSWERS) for c in chats]
        return cls(
            name,
            np.concatenate([piece for ids, _ in encoded for piece in (ids, end)]),
            np.asarray(said, dtype=np.int64),
            np.concatenate([[0], np.cumsum([len(ids) + 1 for ids, _ in encoded])]),
            tokenizer.eos,
            np.concatenate([piece for _, learned in encoded for piece in (learned, no)]),
        )

    @classmethod
    def from_texts(cls, name: str, texts: Sequence[str], tokenizer: Tokenizer) -> Target:
        """Tokenise `texts` in the order given; empty ones are left out."""
        texts = [text for text in texts if text]
        if not texts:
            raise UserError(f"the target {name!r} has no text")
        encoded = tokenizer.encode(texts)
        end = np.asarray([tokenizer.eos], dtype=np.uint32)
        lengths = np.asarray([len(e) + 1 for e in encoded], dtype=np.int64)
        return cls(
            name,
            np.concatenate([piece for e in encoded for piece in (e, end)]),
            np.asarray([len(text.encode()) for text in texts], dtype=np.int64),
            np.concatenate([[0], np.cumsum(lengths)]),
            tokenizer.eos,
        )


def document_nats(model: Model, target: Target, seq_len: int, batch: int = 16) -> Floats:
    """Nats that the model needs for each document, `float64[documents]`.

    The target is read as one stream in blocks of `seq_len`; the first token has no context and follows an
    end-of-text. Blocks do not overlap, so tokens early in a block have little context, the same for every
    model. Chats are read one by one instead, each from its beginning (of one longer than `seq_len` the end),
    and only their answers count.
    """
    if target.learned is not None:
        return _answer_nats(model, target, target.learned, seq_len, batch)
    stream = np.concatenate([[target.eos], target.tokens]).astype(np.int64)
    count = len(target.tokens)
    nats = np.zeros(count)
    with torch.no_grad():
        for low in range(0, count, seq_len * batch):
            high = min(low + seq_len * batch, count)
            rows = -(-(high - low) // seq_len)
            ids = np.full(rows * seq_len, target.eos, dtype=np.int64)
            goals = np.full(rows * seq_len, target.eos, dtype=np.int64)
            ids[: high - low] = stream[low:high]
            goals[: high - low] = stream[low + 1 : high + 1]
            logits = model(torch.from_numpy(ids.reshape(rows, seq_len)))
            goal = torch.from_numpy(goals).to(logits.device)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), goal, reduction="none")
            nats[low:high] = loss[: high - low].double().cpu().numpy()
    nats[target.tokens == target.eos] = 0.0
    return np.add.reduceat(nats, target.starts[:-1])


def _answer_nats(
    model: Model, target: Target, learned: npt.NDArray[np.bool_], seq_len: int, batch: int
) -> Floats:
    nats = np.zeros(len(target.bytes))
    sizes = np.diff(target.starts)
    # Chats of like lengths are read together, so that little of a block is padding.
    order = np.argsort(sizes, kind="stable")
    with torch.no_grad():
        for low in range(0, len(order), batch):
            rows = order[low : low + batch]
            width = min(int(sizes[rows].max()), seq_len + 1)
            tokens = np.full((len(rows), width), target.eos, dtype=np.int64)
            counts = np.zeros((len(rows), width), dtype=np.bool_)
            for row, document in enumerate(rows):
                end = int(target.starts[document + 1])
                begin = max(int(target.starts[document]), end - width)
                tokens[row, : end - begin] = target.tokens[begin:end]
                counts[row, : end - begin] = learned[begin:end]
            logits = model(torch.from_numpy(tokens[:, :-1]))
            goals = torch.from_numpy(np.where(counts, tokens, IGNORE)[:, 1:].copy()).to(logits.device)
            nats[rows] = token_losses(logits, goals).sum(1).double().cpu().numpy()
    return nats


def bits_per_byte(model: Model, target: Target, seq_len: int, batch: int = 16) -> float:
    """Bits per UTF-8 byte over the whole target; lower is better, and comparable across tokenizers."""
    return float(document_nats(model, target, seq_len, batch).sum() / log(2) / target.bytes.sum())
