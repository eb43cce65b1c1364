"""Bits per byte on texts that were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tillage.core.errors import UserError
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
    """

    name: str
    tokens: npt.NDArray[np.uint32]
    bytes: Ints
    starts: Ints
    eos: int

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
    model.
    """
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


def bits_per_byte(model: Model, target: Target, seq_len: int, batch: int = 16) -> float:
    """Bits per UTF-8 byte over the whole target; lower is better, and comparable across tokenizers."""
    return float(document_nats(model, target, seq_len, batch).sum() / log(2) / target.bytes.sum())
