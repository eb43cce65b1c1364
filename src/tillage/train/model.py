"""A small decoder-only transformer: rotary positions, RMSNorm, QK-norm, grouped queries."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.utils.checkpoint import checkpoint

from tillage.core.errors import UserError
from tillage.core.spec import Spec
from tillage.core.workspace import atomic_file
from tillage.train.causal import CausalModel
from tillage.train.losses import linear_token_losses


class ModelSpec(Spec):
    """Shape of the model; the vocabulary comes from the token store."""

    layers: int = Field(default=4, ge=1)
    width: int = Field(default=128, ge=16)
    head_width: int = Field(default=64, ge=8)
    kv_heads: int | None = Field(default=None, ge=1)
    """Key and value heads, a divisor of the query heads (arXiv 2305.13245); as many by default."""
    mlp: Literal["relu2", "swiglu"] = "relu2"
    """Squared ReLU (arXiv 2109.08668) or SwiGLU (arXiv 2002.05202), each with the size of a 4x layer."""
    rope_base: float = 10_000.0
    tied: bool = True
    """Whether the output matrix is the embedding (arXiv 1608.05859)."""

    def heads(self) -> int:
        heads, rest = divmod(self.width, self.head_width)
        if rest or heads == 0 or self.head_width % 2:
            raise UserError(
                "the heads do not fit the width", got=f"width {self.width}, head_width {self.head_width}",
                expected="width a multiple of an even head_width",
            )  # fmt: skip
        if heads % (self.kv_heads or heads):
            raise UserError(
                "kv_heads does not divide the heads", got=self.kv_heads, expected=f"divisor of {heads}"
            )
        return heads


Mask = Tensor | BlockMask | None
"""Which keys a query sees: `bool[b, 1, t, t]`, blocks for flex_attention, or None for all that came
before."""


_DENSE = 2048
"""Longest sample with a dense mask outside compiled models, where flex_attention is slower."""


def document_mask(documents: Tensor) -> Mask:
    """The mask of queries that see what came before in their own document.

    Args:
        documents: `int64[b, t]`, a number for each document in a sample.
    """
    b, t = documents.shape
    if documents.is_cuda and (torch.compiler.is_compiling() or t > _DENSE):

        def same(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query >= key) & (documents[batch, query] == documents[batch, key])

        return create_block_mask(same, b, None, t, t, device=str(documents.device))
    before = torch.ones(t, t, dtype=torch.bool, device=documents.device).tril()
    return ((documents[:, :, None] == documents[:, None, :]) & before)[:, None]


class Attention(nn.Module):
    """Causal attention over `[b, t, width]`; rotary (arXiv 2104.09864), QK-norm (arXiv 2010.04245)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.heads, self.size = spec.heads(), spec.head_width
        self.kv_heads = spec.kv_heads or self.heads
        self.qkv = nn.Linear(spec.width, (self.heads + 2 * self.kv_heads) * self.size, bias=False)
        self.out = nn.Linear(spec.width, spec.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask) -> Tensor:
        b, t, width = x.shape
        split = [self.heads * self.size, self.kv_heads * self.size, self.kv_heads * self.size]
        q, k, v = (
            part.view(b, t, -1, self.size).transpose(1, 2) for part in self.qkv(x).split(split, dim=-1)
        )
        q = _rotate(F.rms_norm(q, (self.size,)), cos, sin).to(v.dtype)
        k = _rotate(F.rms_norm(k, (self.size,)), cos, sin).to(v.dtype)
        gqa = self.kv_heads != self.heads
        if isinstance(mask, BlockMask):
            y: Any = flex_attention(q, k, v, block_mask=mask, enable_gqa=gqa)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=gqa)
        return self.out(y.transpose(1, 2).reshape(b, t, width))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, two = x.chunk(2, dim=-1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), dim=-1)


class Mlp(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.gated = spec.mlp == "swiglu"
        # Two thirds of it where there is a gate, in sixteens: matrix products of odd sizes are slow on GPUs.
        hidden = -(-8 * spec.width // 48) * 16 if self.gated else 4 * spec.width
        self.up = nn.Linear(spec.width, hidden * (2 if self.gated else 1), bias=False)
        self.down = nn.Linear(hidden, spec.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        if self.gated:
            gate, value = h.chunk(2, dim=-1)
            return self.down(F.silu(gate) * value)
        return self.down(F.relu(h).square())


class Norm(nn.Module):
    """RMSNorm (arXiv 1910.07467) that keeps the type of its input, whatever that of its weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],)).to(x.dtype) * self.weight.to(x.dtype)


class Block(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.norm1, self.attention = Norm(spec.width), Attention(spec)
        self.norm2, self.mlp = Norm(spec.width), Mlp(spec)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask) -> Tensor:
        x = x + self.attention(self.norm1(x), cos, sin, mask)
        return x + self.mlp(self.norm2(x))


class GPT(CausalModel):
    """The model of a `ModelSpec`. Same seed, same weights.

    Attributes:
        recompute: whether the backward pass computes the blocks again instead of keeping what is in them.
    """

    def __init__(self, spec: ModelSpec, vocab: int, seq_len: int, seed: int = 0) -> None:
        super().__init__()
        self.spec, self.vocab, self.seq_len, self.recompute = spec, vocab, seq_len, False
        self.embedding = nn.Embedding(vocab, spec.width)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = Norm(spec.width)
        self.head = None if spec.tied else nn.Linear(spec.width, vocab, bias=False)
        half = torch.arange(0, spec.head_width, 2) / spec.head_width
        angle = torch.outer(torch.arange(seq_len, dtype=torch.float32), spec.rope_base**-half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self._initialise(torch.Generator().manual_seed(seed))

    def _initialise(self, generator: torch.Generator) -> None:
        for name, p in self.named_parameters():
            if p.ndim == 2:
                scale = 0.02 if name.startswith("embedding") else p.shape[1] ** -0.5
                # Residual branches begin as zero, so that a fresh model is a bigram model of full rank.
                scale *= 0.0 if name.endswith(("out.weight", "down.weight", "head.weight")) else 1.0
                nn.init.normal_(p, std=scale, generator=generator)

    def forward(self, ids: Tensor, targets: Tensor | None = None, documents: Tensor | None = None) -> Tensor:
        """Logits, or with `targets` the losses of the tokens in nats, `float32[b, t]`, without the logits.

        Args:
            targets: `int64[b, t]`, `losses.IGNORE` where nothing is learned.
            documents: `int64[b, t]`: a token attends within its own document; to all before it when None.
        """
        t = ids.shape[1]
        cos, sin = self.get_buffer("cos")[:t], self.get_buffer("sin")[:t]
        mask = None if documents is None else document_mask(documents)
        # Normalised at once: otherwise the first blocks drown the small embeddings and learning starts late.
        x = F.rms_norm(self.embedding(ids), (self.spec.width,))
        if x.is_cuda and torch.is_autocast_enabled("cuda"):
            # On a GPU what lies between the products waits for memory: half the bytes, half the time.
            x = x.to(torch.get_autocast_dtype("cuda"))
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x: Any = checkpoint(block, x, cos, sin, mask, use_reentrant=False)
            else:
                x = block(x, cos, sin, mask)
        x = self.norm(x)
        output = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(x, output) if targets is None else linear_token_losses(x, output, targets)  # pyright: ignore[reportCallIssue]

    def layers(self) -> list[nn.Module]:
        return list(self.blocks)

    def tables(self) -> list[nn.Parameter]:
        return [*self.embedding.parameters(), *([] if self.head is None else self.head.parameters())]

    def recomputes(self) -> None:
        self.recompute = True

    def save(self, folder: Path) -> None:
        """As `folder/model.pt`."""
        with atomic_file(folder / "model.pt") as out:
            torch.save(
                {
                    "spec": self.spec.model_dump(mode="json"),
                    "vocab": self.vocab,
                    "seq_len": self.seq_len,
                    "model": self.state_dict(),
                },
                out,
            )

    @classmethod
    def load(cls, path: Path, vocab: int | None = None, seq_len: int | None = None) -> GPT:
        """What `save` wrote; for samples of `seq_len` tokens, its own by default.

        Raises:
            UserError: it cannot be read, or it is for another vocabulary than `vocab`.
        """
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise UserError("cannot read the model", where=path, got=str(error)[:200]) from error
        if vocab not in (None, saved["vocab"]):
            raise UserError(
                "the store was not tokenised for this model", where=path, got=f"{vocab} tokens",
                expected=saved["vocab"], hint="tillage tokenize --tokenizer with tokenizer.json of its store",
            )  # fmt: skip
        model = cls(ModelSpec.load(saved["spec"], str(path)), saved["vocab"], seq_len or saved["seq_len"])
        model.load_state_dict(saved["model"])
        return model.eval()

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def flops_per_token(self, seq_len: int | None = None) -> float:
        """Floating-point operations of training on one token: forward and backward, three times the forward.

        Two for each weight that multiplies it, the output matrix included, and causal attention at half of
        `seq_len` on average (arXiv 2204.02311, appendix B, with the half that a causal kernel computes).
        Recomputation does not count, so a share of the peak made with it is of useful work.
        """
        t = seq_len or self.seq_len
        weights = sum(p.numel() for p in self.blocks.parameters() if p.ndim == 2)
        attention = 2 * self.spec.layers * self.spec.width * t  # two products, over t / 2 keys
        return 3.0 * (2 * (weights + self.vocab * self.spec.width) + attention)
