"""TRL's trainers on a feed: `FeedSFTTrainer` on a token store, `FeedDPOTrainer` on its dataset's rows."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from tillage.core.errors import UserError
from tillage.train.adapters.hf_trainer import FeedArgs, FeedMixin
from tillage.train.adapters.rows import RowStore
from tillage.train.batch import Batch
from tillage.train.policy import Policy


class FeedSFTTrainer(FeedMixin, SFTTrainer):
    """TRL's `SFTTrainer` on a token store of chats (`TokenStore.write(..., chat=...)`).

    Packing, masks and what is learned come from the store; the settings of `SFTConfig` about these do not
    matter.
    """

    def __init__(self, *args: Any, feed: FeedArgs, **kwargs: Any) -> None:
        # The trainer wants a dataset to look at; the loader never reads it.
        kwargs.setdefault("train_dataset", Dataset.from_dict({"input_ids": [[0, 0]], "labels": [[0, 0]]}))
        super().__init__(*args, feed=feed, **kwargs)


class FeedDPOTrainer(FeedMixin, DPOTrainer):
    """TRL's `DPOTrainer`, whose pairs are drawn from its `train_dataset` by a policy.

    A policy that looks at losses sees DPO's loss of every pair: then each pair goes through the model for
    itself, its two answers together. Otherwise pairs go through it in batches, as without the feed.

    Args:
        domain: column with the domain of each row. columns: numeric columns that the policy may read.
    """

    def __init__(
        self,
        *args: Any,
        policy: Policy | None = None,
        domain: str = "domain",
        columns: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        rows: Any = kwargs.get("train_dataset")
        if rows is None or domain not in (rows.column_names or []):
            raise UserError(
                f"the rows have no column {domain!r}", where="train_dataset",
                got=None if rows is None else ", ".join(rows.column_names or []), hint="pass domain=",
            )  # fmt: skip
        super(FeedMixin, self).__init__(*args, **kwargs)
        if len(self.train_dataset) != len(rows):
            raise UserError(
                "TRL dropped rows while it prepared them, so their domains are not known any more",
                got=len(self.train_dataset), expected=len(rows), hint="drop such rows before",
            )  # fmt: skip
        store = RowStore(rows[domain], {name: rows[name] for name in columns})
        self._wire(store, policy, 1, {})

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not model.training:
            return super(FeedMixin, self).compute_loss(model, inputs, return_outputs, num_items_in_batch)
        batch = self.feed.choose(lambda b: self._pairs(model, b), self.feed.next())
        if self.feed.policy.adaptive:
            loss = self._scaled(self.feed.reduce(self._pairs(model, batch), batch))
        else:
            loss = self._loss(model, batch.input_ids[:, 0].tolist())
            self.feed.reduce(
                loss.detach().expand(len(batch.samples), 1), batch
            )  # only to say that it was used
        return (loss, {}) if return_outputs else loss

    def _pairs(self, model: Any, batch: Batch) -> Tensor:
        """DPO's loss of each pair, `[b, 1]`."""
        return torch.stack([self._loss(model, [row]) for row in batch.input_ids[:, 0].tolist()])[:, None]

    def _loss(self, model: Any, rows: list[int]) -> Tensor:
        inputs = self._prepare_inputs(self.data_collator([self.train_dataset[row] for row in rows]))
        return super(FeedMixin, self).compute_loss(model, inputs)
