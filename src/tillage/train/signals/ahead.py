"""Scores of all samples, computed before training by small models and kept by fingerprint.

A policy names what it needs in `SignalSpec.ahead`; `ahead_scores` computes it once for each method,
reference,
target and store. During training they cost nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tillage.core.errors import UserError, nearest
from tillage.core.spec import fingerprint
from tillage.core.workspace import atomic_file
from tillage.train.evaluate import Target
from tillage.train.model import GPT
from tillage.train.reference import ReferenceLosses, ReferenceSpec, train_reference
from tillage.train.tokens import Floats, TokenStore


@dataclass(frozen=True)
class Setting:
    """What scores are made from. `device` is "cpu" or "cuda"."""

    spec: ReferenceSpec
    target: Target
    store: TokenStore
    seq_len: int
    dtype: str
    device: str = "cpu"

    def key(self) -> str:
        target = hashlib.sha256(self.target.tokens.tobytes()).hexdigest()[:16]
        return fingerprint(
            self.spec.canonical(), target, self.store.fingerprint, self.seq_len, self.dtype, self.device
        )

    def train(self, text: Target | TokenStore, start: GPT | None = None, share: float = 1.0) -> GPT:
        """A reference model; with `start` one that is trained further, on `share` of the tokens."""
        tokens = max(round(self.spec.tokens * share), 1)
        spec = self.spec.model_copy(update={"tokens": tokens})
        vocab = self.store.tokenizer.vocab
        return train_reference(spec, text, vocab, self.seq_len, self.dtype, self.device, start)

    def losses(self, model: GPT) -> Floats:
        """Mean loss of each sample of the store, in nats a token."""
        return ReferenceLosses(model, self.store, self.seq_len, self.dtype, 0.0, self.device).every()


def color(setting: Setting) -> Floats:
    """How much easier a sample gets for a model of the store when it is trained further on the target.

    CoLoR-Filter (Brandfonbrener et al. 2024, arXiv 2406.10670, equation 5): the loss of the prior model minus
    the loss of the conditional one, which starts from the prior; the largest are the best. The store's model
    sees the tokens of the reference's budget, the conditional one a third more of the target.
    """
    prior = setting.train(setting.store)
    conditional = setting.train(setting.target, prior, share=1 / 3)
    return setting.losses(prior) - setting.losses(conditional)


METHODS: dict[str, Callable[[Setting], Floats]] = {"color": color}


def ahead_scores(name: str, setting: Setting, cache: Path | None = None) -> tuple[Floats, float]:
    """Scores `float64[samples]`, and the seconds that they took (also when they come from the cache).

    Raises:
        UserError: there is no such method.
    """
    if name not in METHODS:
        raise UserError(f"no scores ahead of training are called {name!r}", hint=nearest(name, METHODS))
    path = cache / f"ahead-{name}-{setting.key()}.npz" if cache else None
    if path is not None:
        with suppress(FileNotFoundError), np.load(path) as saved:
            return saved["scores"], float(saved["seconds"])
    began = time.perf_counter()
    scores = METHODS[name](setting)
    if setting.device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    if path is not None:
        with atomic_file(path) as out:
            np.savez(out, scores=scores, seconds=np.asarray(seconds))
    return scores, seconds
