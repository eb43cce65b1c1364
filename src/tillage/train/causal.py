"""What the trainer asks of a model: ours and Hugging Face's answer alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from torch import Tensor, nn


class CausalModel(nn.Module, ABC):
    """Token ids `int64[b, t]` (t up to `seq_len`) -> logits `[b, t, vocab]`, or losses given targets."""

    vocab: int
    seq_len: int

    @abstractmethod
    def forward(self, ids: Tensor, targets: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """Logits, or with `targets` the losses of the tokens in nats, `float32[b, t]`.

        Args:
            targets: `int64[b, t]`, `losses.IGNORE` where nothing is learned.
            documents: `int64[b, t]`: a token attends within its own document; to all before it when None.
        """

    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """The blocks, in order: what is sharded, compiled or computed again one at a time."""

    @abstractmethod
    def tables(self) -> list[nn.Parameter]:
        """Embeddings and the output matrix: they have a learning rate of their own."""

    @abstractmethod
    def recomputes(self) -> None:
        """From now on the backward pass computes the blocks again instead of keeping what is in them."""

    @abstractmethod
    def flops_per_token(self) -> float:
        """Floating-point operations of training on one token, forward and backward."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model into a run's folder; `result.load_model` reads it."""

    def trained_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Of a whole state by name, what training changes: all of it, or what is not frozen."""
        if all(p.requires_grad for p in self.parameters()):
            return state
        free = {name for name, p in self.named_parameters(remove_duplicate=False) if p.requires_grad}
        return {name: value for name, value in state.items() if name in free}
