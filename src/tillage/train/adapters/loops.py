"""The feed in loops of Accelerate and of torchtitan. Neither library is imported here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from tillage.core.errors import UserError
from tillage.train.batch import Batch
from tillage.train.feed import Feed
from tillage.train.losses import IGNORE, token_losses
from tillage.train.policy import Policy
from tillage.train.tokens import TokenStore


class Accelerator(Protocol):
    """What of `accelerate.Accelerator` is used."""

    process_index: int
    num_processes: int
    gradient_accumulation_steps: int
    device: torch.device

    def register_for_checkpointing(self, *objects: Any) -> None: ...


class AccelerateFeed(Feed):
    """A feed whose processes, device and accumulation are an accelerator's; `save_state` saves it too.

        for batch in feed:
            with accelerator.accumulate(model):
                loss = feed.loss(model(input_ids=batch.input_ids).logits, batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    feed.normalise(model.parameters())
                optimizer.step()
                optimizer.zero_grad()

    Args:
        options: more arguments of `Feed`.
    """

    def __init__(
        self, accelerator: Accelerator, store: TokenStore, policy: Policy | None = None, **options: Any
    ) -> None:
        super().__init__(
            store, policy, rank=accelerator.process_index, world=accelerator.num_processes,
            accumulate=accelerator.gradient_accumulation_steps, device=accelerator.device, **options,
        )  # fmt: skip
        accelerator.register_for_checkpointing(self)

    def reduce(self, single: Tensor, batch: Batch) -> Tensor:
        # accelerator.backward divides by the accumulation, and the feed's loss needs no division.
        return super().reduce(single, batch) * self.accumulate


class TitanLoader:
    """A dataloader of torchtitan (`__iter__`, `state_dict`, `load_state_dict`) and the loss that goes with
    it.

    It yields `({"input": ids}, labels)`, `int64[b, seq_len]` each, for this data-parallel rank. torchtitan
    reads all micro-batches of a step before the first forward pass; so the feed's step is one batch that is
    handed out in `accumulate` parts, and the policy hears of it when the last part's loss is computed.
    Policies that mix, or select by what is known beforehand, work; one that weighs needs the losses of the
    whole step at once, so it takes `accumulate=1`; one that scores candidates by the model does not fit here.

    Args:
        dp_rank, dp_world_size: data-parallel rank and degree, as torchtitan's builder gets them.
        accumulate: micro-batches in a step (`global_batch_size / (local_batch_size * dp_world_size)`).
        options: arguments of `Feed`: batch_tokens (of a whole step, over all ranks), seq_len, seed, ...
    """

    def __init__(
        self,
        store: TokenStore,
        policy: Policy | None = None,
        *,
        dp_rank: int = 0,
        dp_world_size: int = 1,
        accumulate: int = 1,
        **options: Any,
    ) -> None:
        self.feed = Feed(store, policy, rank=dp_rank, world=dp_world_size, **options)
        chain = self.feed.policy
        if self.feed.needs.candidates or self.feed.needs.gradients:
            raise UserError(
                "torchtitan reads its batches before the model could score candidates", got=chain.canonical(),
                hint="use a policy that mixes, or one that selects by a column or by scores made ahead",
            )  # fmt: skip
        if accumulate > 1 and (chain.owner("weigh") or chain.owner("token")):
            raise UserError(
                "weights need the losses of the whole step at once", where="accumulate", got=accumulate,
                expected=1,
            )  # fmt: skip
        share = self.feed.batch // dp_world_size
        if share % accumulate:
            raise UserError("the batch does not divide", got=f"{share} samples", expected=f"k * {accumulate}")
        self.accumulate = accumulate
        self._batch: Batch | None = None
        self._losses: list[Tensor] = []

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        while True:
            batch = self.feed.next()
            if batch.candidates:
                batch = self.feed.choose(lambda b: torch.zeros_like(b.targets, dtype=torch.float32), batch)
            self._batch, self._losses = batch, []
            parts = (x.chunk(self.accumulate) for x in (batch.input_ids, batch.targets))
            for ids, labels in zip(*parts, strict=True):
                yield {"input": ids}, labels

    def loss(self, pred: Tensor, labels: Tensor) -> Tensor:
        """Sum over tokens of weight times loss, the weights' mean being 1 over the step.

        torchtitan divides it by the number of the step's tokens that are learned, and sums gradients over
        ranks.
        """
        batch = self._batch
        if batch is None or len(self._losses) == self.accumulate:
            raise UserError(
                "this loss belongs to no batch of the loader", hint="one loss for each part, in order"
            )
        rows = len(batch.targets) // self.accumulate
        part = batch.targets[len(self._losses) * rows : (len(self._losses) + 1) * rows].to(labels.device)
        if not torch.equal(labels.reshape(part.shape), part):
            raise UserError("these labels are not the next ones", hint="one loss for each part, in order")
        single = token_losses(pred.reshape(*part.shape, -1), part)
        self._losses.append(single)
        if len(self._losses) < self.accumulate:
            return single.sum()
        if self.accumulate > 1:
            whole = torch.cat([x.detach() for x in self._losses])
            self.feed.reduce(whole, batch)
            return single.sum()
        value = self.feed.reduce(single, batch) * self._learned(batch) / self.feed.world
        return value

    def _learned(self, batch: Batch) -> float:
        """Tokens of the step that are learned, over all ranks."""
        mass = self.feed.cut.mass
        if mass is None:
            return float(len(batch.world_samples) * self.feed.seq_len)
        return float(mass[batch.world_samples].sum() * self.feed.seq_len)

    def state_dict(self) -> dict[str, Any]:
        """The same on every rank: any number of ranks can go on from it."""
        return self.feed.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on; an empty state, as of a first start, changes nothing."""
        if state_dict:
            self.feed.load_state_dict(state_dict)
            self._batch, self._losses = None, []


__all__ = ["IGNORE", "AccelerateFeed", "TitanLoader"]
