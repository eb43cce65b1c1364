"""A small model that is trained beside the run and scores candidates in place of the large one."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tillage.train.batch import Batch
from tillage.train.losses import sample_losses
from tillage.train.model import GPT
from tillage.train.optim import Optimizer
from tillage.train.precision import precision
from tillage.train.reference import ReferenceSpec

_WARMUP = 20


class Scorer:
    """A model of the reference's shape that learns each batch that the run trains on.

    What it has not learnt yet, the large model has hardly learnt either; selection through a small proxy
    is that of Coleman et al. 2020, arXiv 1906.11829. Its learning rate stays at the peak after a short rise,
    as nobody keeps the model.

    Args:
        spec: shape, optimizer and seed; the target and the tokens are of no concern here.
        world: processes of the run: gradients are averaged over them.
    """

    def __init__(
        self,
        spec: ReferenceSpec,
        vocab: int,
        seq_len: int,
        dtype: str,
        device: str | torch.device = "cpu",
        world: int = 1,
    ) -> None:
        self.model = GPT(spec.model, vocab, seq_len, spec.seed).to(device)
        self._spec, self._dtype, self._world = spec, dtype, world
        self._device = torch.device(device).type
        self._optimizer = Optimizer(self.model, spec.optim)
        self._steps = 0

    def losses(self, ids: Tensor, targets: Tensor, spans: Tensor | None) -> Tensor:
        """Losses of tokens in nats, `[b, t]`."""
        with precision(self._dtype, self._device):
            return self.model(ids, targets, spans)

    def learn(self, batch: Batch) -> None:
        """One step on a micro-batch."""
        loss = sample_losses(self.losses(batch.input_ids, batch.targets, batch.spans), batch.targets).mean()
        loss.backward()
        weights = list(self.model.parameters())
        if self._world > 1:
            flat = torch.cat([p.grad.flatten() for p in weights if p.grad is not None]) / self._world
            dist.all_reduce(flat)
            at = 0
            for p in weights:
                assert p.grad is not None
                p.grad.copy_(flat[at : at + p.numel()].view_as(p))
                at += p.numel()
        nn.utils.clip_grad_norm_(weights, self._spec.optim.clip)
        self._steps += 1
        self._optimizer.step(min(self._steps / _WARMUP, 1.0))

    def state_dict(self) -> dict[str, Any]:
        weights = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        return {"steps": self._steps, "model": weights, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
