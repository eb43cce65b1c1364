"""Trainers of transformers and TRL that take their data from a feed.

    from tillage.train.adapters.hf_trainer import FeedTrainer                     # 1
    trainer = FeedTrainer(model=model, args=args, feed=FeedArgs(store, policy))   # 2, 3

`FeedMixin` makes the same of any trainer of that family. It uses the documented hooks of `Trainer` alone:
`get_train_dataloader`, `compute_loss`, `training_step`, and a callback for checkpoints. The loader hands out
tickets; a batch is drawn when its loss is computed, because only then it is known what the policy decided,
and for policies that select what the model thinks of the candidates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer, TrainerCallback

from tillage.core.errors import UserError
from tillage.core.workspace import write_atomic
from tillage.train.batch import Batch
from tillage.train.feed import Feed
from tillage.train.hf import positions
from tillage.train.losses import token_losses
from tillage.train.policy import Policy
from tillage.train.tokens import TokenStore

STATE = "tillage_feed.json"
"""The feed's state in each checkpoint folder of a trainer."""


@dataclass
class FeedArgs:
    """What a feed needs that the trainer's own arguments do not say.

    Batch size, accumulation, processes, device and seed come from `TrainingArguments`.

    Attributes:
        options: more arguments of `Feed`: reference, token_reference, scores, gradients, max_visits, ...
    """

    store: TokenStore
    policy: Policy | None = None
    seq_len: int = 256
    options: dict[str, Any] = field(default_factory=dict[str, Any])


class _Tickets(IterableDataset[dict[str, Tensor]]):
    """Stands for micro-batches that are drawn later; as many tokens, so that the trainer counts right."""

    def __init__(self, rows: int, width: int) -> None:
        self.ticket = {"input_ids": torch.zeros(1, dtype=torch.int64).expand(rows, width)}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            yield dict(self.ticket)


class _State(TrainerCallback):
    """Saves the feed with each checkpoint and brings it back; knows the trainer's step."""

    def __init__(self, owner: FeedMixin) -> None:
        self.owner = owner

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        feed = self.owner.feed
        if state.global_step == feed.step:
            return
        path = Path(args.output_dir, f"checkpoint-{state.global_step}", STATE)
        if not path.exists():
            raise UserError(
                "the checkpoint has no state of the feed", where=path,
                hint="begin anew, or call trainer.feed.load_state_dict before train()",
            )  # fmt: skip
        feed.load_state_dict(json.loads(path.read_text(encoding="utf-8")))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        said = self.owner.feed.state_dict()  # every process takes part in it
        if state.is_world_process_zero:
            folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
            write_atomic(folder / STATE, json.dumps(said))


if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class FeedMixin(_Base):
    """Before a trainer among the bases of a class, it makes the trainer take its batches from a feed.

    Args:
        feed: what the feed is made of.
        kwargs: the trainer's own arguments, without `train_dataset`. `max_steps` must be set.

    Attributes:
        feed: the `Feed`; `trainer.feed.trained`, `.ledger` and `.actions()` tell what it does.
    """

    feed: Feed

    def __init__(self, *args: Any, feed: FeedArgs, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wire(feed.store, feed.policy, feed.seq_len, feed.options)

    def _wire(self, store: TokenStore, policy: Policy | None, seq_len: int, options: dict[str, Any]) -> None:
        said = self.args
        if said.max_steps <= 0:
            raise UserError("a feed has no end", where="max_steps", got=said.max_steps, expected="1 or more")
        if said.n_gpu > 1:
            raise UserError(
                "one process with several GPUs (torch.nn.DataParallel) splits batches behind the feed's back",
                hint="start one process for each GPU: torchrun --nproc-per-node N script.py",
            )
        # Every loss of the feed is already its part of the whole step's.
        self.model_accepts_loss_kwargs = False
        accumulate = said.gradient_accumulation_steps
        self._rows = said.per_device_train_batch_size
        rows = self._rows * said.world_size * accumulate
        seed = said.data_seed if said.data_seed is not None else said.seed
        self.feed = Feed(
            store, policy, batch_tokens=rows * seq_len, seq_len=seq_len, seed=seed,
            rank=said.process_index, world=said.world_size, accumulate=accumulate, device=said.device,
            **options,
        )  # fmt: skip
        self.add_callback(_State(self))

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(_Tickets(self._rows, self.feed.seq_len), batch_size=None)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        batch = self.feed.select(
            lambda ids: model(input_ids=ids, use_cache=False).logits,
            self.feed.next(),
            lambda b: token_losses(self._logits(model, b), b.targets),
        )
        logits = self._logits(model, batch)
        loss = self._scaled(self.feed.loss(logits, batch))
        return (loss, {"logits": logits}) if return_outputs else loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.feed.normalise(model.parameters())
        return loss

    def _scaled(self, loss: Tensor) -> Tensor:
        """The trainer divides a loss by the accumulation; the feed's needs no division."""
        return loss * self.feed.accumulate

    def _logits(self, model: Any, batch: Batch) -> Tensor:
        more = {} if batch.spans is None else {"position_ids": positions(batch.spans)}
        return model(input_ids=batch.input_ids, use_cache=False, **more).logits


class FeedTrainer(FeedMixin, Trainer):
    """transformers' `Trainer` on a token store."""
