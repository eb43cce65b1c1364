"""Reference losses: how hard a sample is for a small model of the target's search part, or of the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from tillage.core.spec import Spec, fingerprint
from tillage.core.workspace import atomic_file
from tillage.train.draw import permute
from tillage.train.evaluate import Target
from tillage.train.losses import IGNORE, sample_losses
from tillage.train.model import GPT, ModelSpec
from tillage.train.optim import Optimizer, OptimSpec
from tillage.train.precision import precision
from tillage.train.tokens import Floats, Ints, TokenStore


class ReferenceSpec(Spec):
    """The reference model: small, as it only has to rank; trained on `target`, never on a holdout.

    Policies that compare with the prior mixture (DoReMi) have it trained on the store instead.
    """

    target: str = "search"
    model: ModelSpec = ModelSpec(layers=2, width=64, head_width=32)
    tokens: int = Field(default=150_000, ge=1)
    batch: int = Field(default=4, ge=1)
    optim: OptimSpec = OptimSpec()
    seed: int = Field(default=0, ge=0)


def train_reference(
    spec: ReferenceSpec,
    text: Target | TokenStore | Blocks,
    vocab: int,
    seq_len: int,
    dtype: str,
    device: str = "cpu",
    start: nn.Module | None = None,
) -> GPT:
    """Train on random blocks of a target, or on the samples of a store in proportion to tokens.

    The learning rate ends at zero.

    Args:
        start: weights to begin with, of a model of the same shape; fresh ones by default.
    """
    model = GPT(spec.model, vocab, seq_len, spec.seed)
    if start is not None:
        model.load_state_dict(start.state_dict())
    model.to(device)
    read, count = blocks(text, seq_len)
    steps = max(spec.tokens // (spec.batch * seq_len), 1)
    optimizer = Optimizer(model, spec.optim)
    for step in range(steps):
        number = step * spec.batch + np.arange(spec.batch)
        block = permute(number % count, count, spec.seed, 3, number // count)
        ids, targets = (torch.from_numpy(x).to(device) for x in read(block))
        with precision(dtype, device):
            loss = model(ids, targets).sum() / (targets != IGNORE).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.optim.clip)
        optimizer.step(spec.optim.factor(step, steps))
    return model.eval()


@dataclass(frozen=True)
class Blocks:
    """Blocks to train on by number: how to read inputs and targets, `[n, seq_len]` each, and how many."""

    read: Callable[[Ints], tuple[Ints, Ints]]
    count: int


def blocks(
    text: Target | TokenStore | Blocks, seq_len: int
) -> tuple[Callable[[Ints], tuple[Ints, Ints]], int]:
    """How to read inputs and targets of blocks of `seq_len` tokens by number, and how many blocks there
    are."""
    if isinstance(text, Blocks):
        return text.read, text.count
    if isinstance(text, TokenStore):
        cut = text.samples(seq_len)
        return cut.pairs, len(cut)
    stream = np.concatenate([[text.eos], text.tokens]).astype(np.int64)
    if len(stream) <= seq_len:
        stream = np.tile(stream, -(-(seq_len + 1) // len(stream)))

    goals = stream[1:]
    if text.learned is not None:
        goals = np.where(np.resize(text.learned, len(goals)), goals, IGNORE)

    def pairs(number: Ints) -> tuple[Ints, Ints]:
        places = (number * seq_len)[:, None] + np.arange(seq_len)
        return stream[places], goals[places]

    return pairs, (len(stream) - 1) // seq_len


class ReferenceLosses:
    """Mean reference loss of samples, computed on first need and kept: `losses(samples) -> float64[n]`.

    `model` gives the losses of tokens from ids and targets (`[n, seq_len]` each, as a `GPT` does), so that
    the logits of a block are never held whole. Samples are scored in blocks of neighbours, always the same
    ones, so a value never depends on what else was asked for.

    Attributes:
        seconds: what training the reference took (also when it came from the cache: it was still spent).
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        store: TokenStore,
        seq_len: int,
        dtype: str,
        seconds: float = 0.0,
        device: str = "cpu",
    ) -> None:
        self.model, self.dtype, self.seconds, self.device = model, dtype, seconds, device
        self._block = 8 if device == "cpu" else 64
        self._cut = store.samples(seq_len)
        self._known: Floats = np.full(len(self._cut), np.nan)

    def __call__(self, samples: Ints) -> Floats:
        for block in np.unique(samples[np.isnan(self._known[samples])] // self._block):
            span = self._span(block)
            targets = torch.from_numpy(self._cut.pairs(span)[1]).to(self.device)
            self._known[span] = sample_losses(self._score(span), targets).double().cpu().numpy()
        return self._known[samples]

    def every(self) -> Floats:
        """Losses of all samples of the store, `float64[samples]`."""
        return self(np.arange(len(self._known)))

    def tokens(self, samples: Ints) -> Floats:
        """Loss of each token in nats, `float64[n, seq_len]`; not kept, as there are as many as tokens."""
        if self.device != "cpu":  # one pass over them costs less than the blocks around each
            return self._score(samples).double().cpu().numpy()
        return np.concatenate([self._score(samples[i : i + 1]).double().numpy() for i in range(len(samples))])

    def _span(self, block: int) -> Ints:
        return np.arange(block * self._block, min((block + 1) * self._block, len(self._known)))

    def _score(self, samples: Ints) -> Tensor:
        """Loss of each token, `float32[n, seq_len]`."""
        ids, targets = (torch.from_numpy(x).to(self.device) for x in self._cut.pairs(samples))
        with torch.no_grad(), precision(self.dtype, self.device):
            return self.model(ids, targets)

    def save(self, path: Path) -> None:
        """Add what is known here to the cache file at `path`, atomically."""
        self.load(path)
        with atomic_file(path) as out:
            np.save(out, self._known)

    def load(self, path: Path) -> None:
        """Take over losses that an earlier run computed; a file of another size is another store's."""
        with suppress(FileNotFoundError):
            known = np.load(path)
            if known.shape == self._known.shape:
                self._known = np.where(np.isnan(self._known), known, self._known)


def reference_losses(
    spec: ReferenceSpec,
    target: Target | None,
    store: TokenStore,
    seq_len: int,
    dtype: str,
    cache: Path | None,
    device: str = "cpu",
) -> tuple[ReferenceLosses, Path | None]:
    """The losses object, and the file for its cache: one for each reference, store and precision.

    Without a target the reference model is trained on the store itself. With `cache`, a folder, the trained
    model and the losses are kept there and found again. Under `torchrun` the first process trains and the
    others get its weights.
    """
    text = store if target is None else target
    digest = target.digest() if target is not None else store.fingerprint
    vocab = store.tokenizer.vocab
    key = fingerprint(spec.canonical(), digest, store.tokenizer.fingerprint, seq_len, dtype, device)
    file = cache / f"reference-{key}.pt" if cache else None
    alone = not (dist.is_available() and dist.is_initialized())
    first = alone or dist.get_rank() == 0
    if first and file is not None and file.exists():
        saved = torch.load(file, weights_only=True)
        model = GPT(spec.model, vocab, seq_len, spec.seed)
        model.load_state_dict(saved["model"])
        model.to(device).eval()
        seconds = float(saved["seconds"])
    elif first:
        began = time.perf_counter()
        model = train_reference(spec, text, vocab, seq_len, dtype, device)
        seconds = time.perf_counter() - began
        if file is not None:
            with atomic_file(file) as out:
                torch.save({"model": model.state_dict(), "seconds": seconds}, out)
    else:
        model, seconds = GPT(spec.model, vocab, seq_len, spec.seed).to(device).eval(), 0.0
    if not alone:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
        took = torch.tensor([seconds], device=device)
        dist.broadcast(took, 0)
        seconds = float(took)
    losses = ReferenceLosses(model, store, seq_len, dtype, seconds, device)
    values = cache / f"reference-{key}-{store.fingerprint}.npy" if cache else None
    if values is not None:
        losses.load(values)
    return losses, values
