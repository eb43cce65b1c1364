"""What scores are made from ahead of training."""

from __future__ import annotations

from dataclasses import dataclass

from tillage.core.spec import fingerprint
from tillage.train.evaluate import Target
from tillage.train.model import GPT
from tillage.train.reference import Blocks, ReferenceLosses, ReferenceSpec, train_reference
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
        target, store = self.target.digest(), self.store.fingerprint
        return fingerprint(self.spec.canonical(), target, store, self.seq_len, self.dtype, self.device)

    def train(self, text: Target | TokenStore | Blocks, start: GPT | None = None, share: float = 1.0) -> GPT:
        """A reference model; with `start` one that is trained further, on `share` of the tokens."""
        tokens = max(round(self.spec.tokens * share), 1)
        spec = self.spec.model_copy(update={"tokens": tokens})
        vocab = self.store.tokenizer.vocab
        return train_reference(spec, text, vocab, self.seq_len, self.dtype, self.device, start)

    def losses(self, model: GPT) -> Floats:
        """Mean loss of each sample of the store, in nats a token."""
        return ReferenceLosses(model, self.store, self.seq_len, self.dtype, 0.0, self.device).every()
