"""What a feed knows about samples besides the losses of its own step: references, columns, held-out losses.

Every process measures its own part of the global micro-batch; `gather` makes all parts the same everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from math import ceil

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from tillage.core.errors import UserError
from tillage.train.batch import Batch, Model, Reference, TokenLosses, TokenReference
from tillage.train.losses import sample_losses, token_losses
from tillage.train.policy import Array, Scored, SignalSpec
from tillage.train.scorer import Scorer
from tillage.train.signals.gradients import GradientProbe, Measured, domain_products
from tillage.train.tokens import Ints, Samples


class Measures:
    """Measurements of the samples of `cut` that a policy requires, and the ledger of what they cost.

    Args:
        needs: what the policy requires.
        active: groups of `cut` that are served.
        reference, token_reference, scores, gradients, scorer, rates: see `Feed`.

    Attributes:
        forwards: what was spent, in forward passes of the trained model over one sample, over all ranks:
            counted, so equal on every rank and in every run.
        spent: those of the current step.
        held: samples at the end of each active group that are kept out of training, `int64[active]`.
        trained_on: the others, `int64[active]`.

    Raises:
        UserError: something that the policy requires was not given.
    """

    def __init__(
        self,
        needs: SignalSpec,
        cut: Samples,
        active: Ints,
        rank: int = 0,
        world: int = 1,
        reference: Reference | None = None,
        token_reference: TokenReference | None = None,
        scores: Mapping[str, Array] | None = None,
        gradients: GradientProbe | None = None,
        scorer: Scorer | None = None,
        rates: Mapping[str, float] | None = None,
        device: torch.device | None = None,
    ) -> None:
        if needs.scorer and scorer is None:
            raise UserError(
                "the policy scores by a small model", hint="pass scorer= (see tillage.train.scorer)"
            )
        self._scorer = scorer if needs.scorer else None
        if needs.gradients and gradients is None:
            raise UserError(
                "the policy needs gradients of samples",
                hint="pass gradients= (see tillage.train.signals.gradients)",
            )
        self._gradients = gradients
        self.needs, self.cut, self.active, self.rank, self.world = needs, cut, active, rank, world
        if needs.reference and reference is None:
            raise UserError(
                "the policy needs reference losses", hint="pass reference= (see tillage.train.reference)"
            )
        if needs.tokens and token_reference is None:
            raise UserError(
                "the policy needs reference losses of tokens",
                hint="pass token_reference= (see tillage.train.reference)",
            )
        self._reference, self._token_reference = reference, token_reference
        self._columns = {name: cut.column(name) for name in sorted(needs.columns)}
        for name in sorted(needs.ahead):
            values = (scores or {}).get(name)
            if values is None or len(values) != len(cut):
                raise UserError(
                    f"the policy needs the scores {name!r} of all samples",
                    got=None if values is None else f"{len(values)} scores for {len(cut)} samples",
                    hint="pass scores= (see tillage.train.signals.ahead)",
                )
            self._columns[name] = values
        sizes: Ints = cut.counts[active]
        self.held: Ints = np.minimum(needs.heldout, np.maximum(sizes // 10, sizes > 1))
        self.trained_on: Ints = sizes - self.held
        self._seconds: dict[str, float] = {}
        self._timed: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._on_gpu = device is not None and device.type == "cuda"
        self.forwards: dict[str, float] = {}
        self.spent: dict[str, float] = {}
        self._rates = dict(rates or {})
        self._token_rows: dict[int, Array] = {}
        self._asked: tuple[Ints, Array] | None = None

    def slice(self, count: int) -> tuple[int, int]:
        """This rank's part of `count` samples."""
        return self.rank * count // self.world, (self.rank + 1) * count // self.world

    def gather(self, mine: Array, count: int) -> Array:
        """A number or a row for each sample of the global micro-batch, from the ranks' parts."""
        if self.world == 1:
            return mine
        widest = ceil(count / self.world)
        padded = torch.zeros((widest, *mine.shape[1:]), dtype=torch.float64)
        padded[: len(mine)] = torch.from_numpy(np.ascontiguousarray(mine))
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        sizes = [(r + 1) * count // self.world - r * count // self.world for r in range(self.world)]
        return np.concatenate([part[:size].numpy() for part, size in zip(parts, sizes, strict=True)])

    def spend(self, name: str, forwards: float) -> None:
        """Enter forward passes over so many samples, those of all ranks."""
        self.forwards[name] = self.forwards.get(name, 0.0) + forwards
        self.spent[name] = self.spent.get(name, 0.0) + forwards

    @contextmanager
    def overhead(self, name: str) -> Generator[None]:
        """Time spent inside is entered in the ledger under `name`.

        On a GPU it is measured there: the host's clock would also count what was asked of the GPU before.
        """
        if self._on_gpu:
            one, two = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            one.record()
            yield
            two.record()
            self._timed.append((name, one, two))
            return
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - began

    @property
    def ledger(self) -> dict[str, float]:
        """Seconds of overhead by what they were spent on."""
        self._settle(wait=True)
        return self._seconds

    def _settle(self, wait: bool) -> None:
        """Enter what the GPU has finished, or all of it."""
        while self._timed and (wait or self._timed[0][2].query()):
            name, one, two = self._timed.pop(0)
            two.synchronize()
            self._seconds[name] = self._seconds.get(name, 0.0) + one.elapsed_time(two) / 1000

    def forget(self) -> None:
        """Drop what is kept for one step only."""
        self._token_rows, self.spent, self._asked = {}, {}, None
        self._settle(wait=False)

    def references(self, batch: Batch) -> Array:
        """Reference losses of a global micro-batch; NaN if none are required."""
        mine, count = batch.samples, len(batch.world_samples)
        if not self.needs.reference or self._reference is None:
            return np.full(count, np.nan)
        if self._asked is not None and np.array_equal(self._asked[0], batch.world_samples):
            return self._asked[1]
        self.spend("reference_scoring", count * self._rates.get("reference", 1.0))
        if self.needs.tokens:
            values = self.mean(self.token_references(mine), mine)
        else:
            with self.overhead("reference_scoring"):
                values = self._reference(mine)
        self._asked = batch.world_samples, self.gather(values, count)
        return self._asked[1]

    def token_references(self, mine: Ints) -> Array:
        """Reference losses of the tokens of this rank's samples; scored once in a step."""
        assert self._token_reference is not None
        new = np.asarray([s for s in mine if int(s) not in self._token_rows], dtype=np.int64)
        if len(new):
            with self.overhead("reference_scoring"):
                rows = self._token_reference(new)
            self._token_rows.update(zip(new.tolist(), rows, strict=True))
        return np.stack([self._token_rows[int(s)] for s in mine]).astype(np.float64)

    def excess(self, batch: Batch, tokens: Array) -> Array:
        """Mean over the tokens of each sample of max(loss - reference loss, 0), over all ranks."""
        above = np.maximum(tokens - self.token_references(batch.samples), 0.0)
        return self.gather(self.mean(above, batch.samples), len(batch.world_samples))

    def mean(self, tokens: Array, samples: Ints) -> Array:
        """Mean of a value by token, `[n, seq_len]`, over what is learned of each sample; 0 elsewhere it must
        be."""
        mass = self.cut.mass
        return tokens.mean(1) if mass is None else tokens.mean(1) / np.maximum(mass[samples], 1e-9)

    def columns(self, samples: Ints) -> dict[str, Array]:
        """Required measurements of samples by name, NaN where a sample has none."""
        return {name: values[samples] for name, values in self._columns.items()}

    def candidates(self, batch: Batch, losses: TokenLosses) -> Tensor:
        """Losses of the tokens of this rank's candidates, by `losses` or by the scorer."""
        count = len(batch.world_samples)
        with torch.no_grad():
            if self._scorer is None:
                self.spend("candidate_scoring", count)
                return losses(batch)
            self.spend("candidate_scoring", count * self._rates.get("scorer", 1.0))
            return self._scorer.losses(batch.input_ids, batch.targets, batch.spans)

    def learn(self, batch: Batch) -> None:
        """Let the scorer, if there is one, learn what the run trains on."""
        if self._scorer is not None:
            with self.overhead("scorer_training"):
                self._scorer.learn(batch)
            work = 3.0 * len(batch.world_samples) * self._rates.get("scorer", 1.0)
            self.spend("scorer_training", work)

    def gradients(self, batch: Batch) -> tuple[Measured, Scored]:
        """Gradients of a global micro-batch: losses of tokens are this rank's, products and sketches
        everybody's; and all samples with what is known of them."""
        assert self._gradients is not None
        rate = 1.0 if self._scorer is None else self._rates.get("scorer", 1.0)
        with self.overhead("gradients"):
            if batch.micro == 0:
                self.spend("gradients", rate * self._gradients.refresh(batch.step))
            found = self._gradients.measure(batch.input_ids, batch.targets, batch.spans)
        count = len(batch.world_samples)
        self.spend("gradients", rate * count * self._gradients.cost)
        mine = sample_losses(torch.from_numpy(found.losses), batch.targets.cpu()).numpy()
        every = Measured(found.losses, self.gather(found.dots, count), self.gather(found.sketch, count))
        return every, self.scored(batch, self.gather(mine, count), self.references(batch), every)

    def scored(self, batch: Batch, losses: Array, reference: Array, found: Measured | None = None) -> Scored:
        """All samples of a global micro-batch as a policy sees them."""
        return Scored(
            batch.step,
            batch.world_groups,
            losses,
            reference,
            self.columns(batch.world_samples),
            found.dots if found is not None and self.needs.dots else None,
            found.sketch if found is not None and self.needs.sketch else None,
        )

    def gram(self, groups: Ints, sketch: Array) -> tuple[Array, Array]:
        """Products of the groups' mean gradients, the target's last, `[active + 1, active + 1]`, and the mean
        squared distance of samples from their group's mean, `[active]`."""
        assert self._gradients is not None
        return domain_products(groups, sketch, self._gradients.target_sketch(), len(self.active))

    def heldout(self, model: Model, device: torch.device) -> Array:
        """Mean loss of each group's held-out samples, `float64[active]`; NaN where none are held out."""
        self.spend("probes", float(self.held.sum()))
        with self.overhead("probes"), torch.no_grad():
            found = np.full(len(self.held), np.nan)
            for g in np.flatnonzero(self.held):
                count = int(self.held[g])
                last = int(self.cut.first[self.active[g]] + self.cut.counts[self.active[g]])
                low, high = self.slice(count)
                pairs = self.cut.pairs(np.arange(last - count, last)[low:high])
                ids, targets = (torch.from_numpy(x).to(device) for x in pairs)
                mine = np.zeros(0)
                if len(ids):
                    losses = sample_losses(token_losses(model(ids), targets), targets)
                    mine = losses.double().cpu().numpy()
                found[g] = self.gather(mine, count).mean()
        return found
