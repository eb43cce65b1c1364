"""What decides a training run, as one spec."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from tillage.core.spec import Spec, fingerprint
from tillage.train.model import ModelSpec
from tillage.train.models import AnyModel, SavedModel, parse_model
from tillage.train.optim import OptimSpec
from tillage.train.parallel import Kind
from tillage.train.policies import Proportional
from tillage.train.policy import AnyPolicy
from tillage.train.reference import ReferenceSpec
from tillage.train.signals.gradients import GradientSpec
from tillage.train.spikes import SpikeGuard


class TrainSpec(Spec):
    """All that decides what a training run does. The budget counts tokens trained on, not candidates."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset(
        {
            "arm",
            "threads",
            "eval_every",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
            "adopt",
            "device",
            "compile",
            "recompute",
            "parallel",
            "passes",
            "peak_tflops",
        }
    )

    arm: str = "train"
    """Name of the run in events and tables."""
    model: AnyModel = ModelSpec()
    seq_len: int = Field(default=256, ge=8)
    batch: int = Field(default=4, ge=1)
    """Samples in an optimiser step, over all ranks and micro-batches."""
    accumulate: int = Field(default=1, ge=1)
    tokens: int = Field(default=200_000, ge=1)
    optim: OptimSpec = OptimSpec()
    """Of a model that is trained already, where nothing is said: AdamW at 2e-5, at 2e-4 with LoRA or for one
    of ours."""
    seed: int = Field(default=0, ge=0)
    policy: AnyPolicy = Proportional()
    prefetch: int = Field(default=1, ge=0)
    reference: ReferenceSpec = ReferenceSpec()
    gradients: GradientSpec = GradientSpec()
    """How gradients of samples are measured, for policies that need them."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where torch finds one."""
    compile: bool = False
    """torch.compile: some ten seconds at the beginning, then fewer and larger steps of work."""
    recompute: bool = False
    """Activation checkpointing: blocks are computed again in the backward pass (arXiv 1604.06174)."""
    document_mask: bool | None = None
    """Whether tokens attend within their own document only; by default where samples are packed of whole
    documents."""
    packing: Literal["auto", "stream", "best_fit", "document"] = "auto"
    """How samples are cut: from one stream of a domain's documents, or packed of whole documents, or
    a document alone; by default packed where only a part is learned, as of chats."""
    parallel: Kind = "ddp"
    """Under torchrun: ddp copies the model to each process, fsdp shards it."""
    passes: int | None = Field(default=None, ge=1)
    """Forward passes that a micro-batch is cut into, over all processes; one for each process by default.

    With `passes: 4` one, two and four processes multiply matrices of the same shapes, and what they compute
    differs by the order of the sums of gradients alone.
    """
    spikes: SpikeGuard | None = None
    peak_tflops: float | None = Field(default=None, gt=0)
    """Of one device, for the share of it that is used; known for common GPUs."""
    max_visits: float | None = Field(default=None, gt=0)
    """Times that a sample may be trained on; the best of a selection then give way to the next best."""
    threads: int = Field(default=1, ge=1)
    eval_every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0: only at the end."""
    log_every: int = Field(default=5, ge=1)
    checkpoint_every: int = Field(default=0, ge=0)
    """Steps between checkpoints (in the work folder); 0: none."""
    keep_checkpoints: int = Field(default=2, ge=1)
    adopt: bool = False
    """Whether a run may go on with a grown version of its data; otherwise another store is refused."""

    @model_validator(mode="before")
    @classmethod
    def _fine_tuning(cls, data: Any) -> Any:
        """The rates of a fresh small model would ruin a trained one."""
        if not isinstance(data, dict) or "optim" in data or "model" not in data:
            return data
        model = parse_model(data["model"])
        if isinstance(model, ModelSpec):
            return data
        lr = 2e-4 if isinstance(model, SavedModel) or model.lora is not None else 2e-5
        return {**data, "optim": OptimSpec(kind="adamw", lr=lr, lr_embedding=lr, weight_decay=0.0)}

    def canonical(self) -> Any:
        """Without the folder of a model: a run knows the model by what is in it."""
        value = super().canonical()
        if not isinstance(self.model, ModelSpec):
            value["model"]["saved" if isinstance(self.model, SavedModel) else "hf"] = ""
        return value

    def steps(self) -> int:
        """Optimiser steps that the budget allows, at least one."""
        return max(self.tokens // (self.batch * self.seq_len), 1)

    def trunk(self) -> str:
        """What two runs share that differ in their budgets only: with wsd they are one run until decay
        begins."""
        plain = self.optim.model_copy(update={"decay": 1.0, "warmup": 0.0})
        same = self.model_copy(update={"tokens": 1, "optim": plain})
        return fingerprint(same.fingerprint(), self.optim.rising(self.steps()))
