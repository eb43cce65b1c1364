"""The one object between data and model: endless batches by a data policy, and the loss that obeys it.

    feed = Feed(store, Chain(Ado(), RhoSelect(), LinUpper()), batch_tokens=4096, seq_len=256, seed=0)
    for batch in feed:
        batch = feed.select(model, batch)
        feed.loss(model(batch.input_ids), batch).backward()
        ...
        feed.normalise(model.parameters())       # before each optimizer step; needed with accumulate > 1
        optimizer.step()

Draw number i takes its group from the counter-based generator `(seed, i)` and the mixture in force, and its
sample from a keyed permutation of the group. So all ranks know the whole global batch without talking; they
only share losses. Decisions made after step s come into force at step s + 1 + prefetch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tillage.core.errors import UserError, WorkFailed
from tillage.train.batch import (
    Batch,
    Model,
    Reference,
    TokenLosses,
    TokenReference,
    Trained,
    check_finite,
    check_weights,
)
from tillage.train.growth import card, check_growth
from tillage.train.losses import IGNORE, sample_losses, token_losses
from tillage.train.measures import Measures
from tillage.train.policies import Proportional
from tillage.train.policy import Actions, Array, Policy, ScoredTokens, as_chain
from tillage.train.scorer import Scorer
from tillage.train.seen import Seen
from tillage.train.signals.gradients import GradientProbe, Measured
from tillage.train.stream import Position, Stream, used_up
from tillage.train.tokens import Groups, Ints, TokenStore
from tillage.train.visits import Visits


class Feed:
    """Endless micro-batches of `batch_tokens / accumulate / world` tokens for this rank.

    Args:
        policy: what decides; plain sampling in proportion to tokens by default.
        batch_tokens: tokens of one optimiser step, over all ranks and micro-batches.
        reference: reference losses of samples, for policies that require them.
        token_reference: the same of single tokens.
        spans: whether batches say which tokens are of one document; by default where samples are packed of
            whole documents.
        prefetch: steps between a decision and its effect beyond the next step, at least 0.
        scores: scores of all samples computed before training, by name, for policies that require them.
        gradients: measures gradients of samples, for policies that require them.
        scorer: the small model that scores, for policies that ask for one.
        rates: what a sample's forward pass through the "reference" and the "scorer" costs, in passes of the
            trained model.
        max_visits: times that a sample may be trained on. Among candidates those trained on so often come
            last, whatever their score, and a domain used up leaves its share to the others: without selection
            from the next micro-batch on, with it as any decision.

    Raises:
        UserError: sizes that do not divide, a store too small for a sample, a missing reference.
    """

    def __init__(
        self,
        store: TokenStore,
        policy: Policy | None = None,
        *,
        batch_tokens: int,
        seq_len: int = 256,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        prefetch: int = 1,
        device: str | torch.device = "cpu",
        spans: bool | None = None,
        reference: Reference | None = None,
        token_reference: TokenReference | None = None,
        scores: Mapping[str, Array] | None = None,
        gradients: GradientProbe | None = None,
        scorer: Scorer | None = None,
        rates: Mapping[str, float] | None = None,
        max_visits: float | None = None,
    ) -> None:
        self.store, self.seed, self.rank, self.world = store, seed, rank, world
        self.seq_len, self.accumulate, self.prefetch = seq_len, accumulate, prefetch
        self.cut = store.samples(seq_len)
        self.batch = batch_tokens // seq_len
        if self.batch * seq_len != batch_tokens or batch_tokens <= 0:
            raise UserError(
                "batch_tokens is no multiple of seq_len", got=batch_tokens, expected=f"k * {seq_len}"
            )
        if self.batch % (world * accumulate):
            raise UserError(
                "the batch does not divide among ranks and micro-batches",
                got=f"{self.batch} samples, {world} ranks, {accumulate} micro-batches",
            )
        if seed < 0 or prefetch < 0 or not 0 <= rank < world:
            raise UserError("wrong seed, prefetch or rank", got=f"{seed}, {prefetch}, {rank} of {world}")
        self._active: Ints = np.flatnonzero(self.cut.counts > 0)
        if not len(self._active):
            raise UserError(
                "the store has not one whole sample", where=store.folder, got=f"{len(store.tokens)} tokens",
                expected=f"more than {seq_len} in a domain",
            )  # fmt: skip
        every = store.groups
        self.groups = Groups(
            tuple(every.names[g] for g in self._active),
            tuple(every.tokens[g] for g in self._active),
            tuple(every.documents[g] for g in self._active),
        )
        self.skipped = [name for g, name in enumerate(every.names) if g not in self._active]
        """Domains shorter than one sample: never served."""
        self.policy = as_chain(policy or Proportional()).start(self.groups)
        self.needs = self.policy.requires()
        self.measures = Measures(
            self.needs,
            self.cut,
            self._active,
            rank,
            world,
            reference,
            token_reference,
            scores,
            gradients,
            scorer,
            rates,
            torch.device(device),
        )
        self.overhead = self.measures.overhead
        self.max_visits = max_visits
        self._sizes = self.measures.trained_on
        self._trained: Trained | None = None
        self._step = 0
        self._micro = 0
        self.device = torch.device(device)
        self.spans = self.cut.pieces is not None if spans is None else spans
        selects = self.policy.owner("select") is not None
        self._visits: Visits | None = None
        if selects and max_visits is not None:
            self._visits = Visits(self.cut, self._active, self._sizes, max_visits)
        self._stream = Stream(
            self.cut, self._active, self._sizes, seed, None if selects else max_visits,
            pin=self.device.type == "cuda",
        )  # fmt: skip
        self._scheduled: dict[int, Actions] = {t: self._decide(t) for t in range(prefetch + 1)}
        self._open: Batch | None = None
        self._offered = 0
        self._pending: tuple[Batch, Tensor, torch.cuda.Event | None] | None = None
        self._window: list[tuple[Ints, Ints, Array, Array]] = []
        self._seen = Seen(self.measures, seq_len, 3.0 * self.batch)
        self.adopted: list[dict[str, Any]] = []  # grown versions of the data that took over, with the step
        self._factor = 1.0  # what the gradients of the last step still have to be multiplied by
        self._measured: Measured | None = None

    @property
    def ledger(self) -> dict[str, float]:
        """Seconds of overhead by what they were spent on."""
        return self.measures.ledger

    @property
    def forwards(self) -> dict[str, float]:
        """The same in forward passes of the trained model over one sample, counted over all ranks."""
        return self.measures.forwards

    @property
    def step(self) -> int:
        """Optimiser steps begun and finished so far."""
        self._settle()
        return self._step

    @property
    def trained(self) -> Trained | None:
        """What the last step trained on; None before the first."""
        self._settle()
        return self._trained

    def actions(self) -> Actions:
        """Factors in force at the current step; the mixture is always set."""
        self._settle()
        return self._scheduled[self._step]

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.next()

    def next(self) -> Batch:
        """The next micro-batch (or its candidates, where these have to be scored by a model)."""
        self._settle()
        if self._open is not None:
            if self.policy.adaptive:
                raise WorkFailed(
                    "the policy never saw the losses of the last batch", where=f"step {self._open.step}",
                    hint="train on feed.loss(logits, batch)",
                )  # fmt: skip
            self._close(self._open, None, None)
        if self._factor != 1.0:
            raise WorkFailed(
                "the gradients of the last step were not normalised", where=f"step {self._step - 1}",
                hint="call feed.normalise(model.parameters()) before each optimizer step",
            )  # fmt: skip
        share, (mixture, count) = self.batch // self.accumulate, self._plan(self._step)
        if not mixture.any():
            raise used_up(self.max_visits)
        block = self._stream.take(mixture, count, *self._reads(count))
        self._offered += count
        batch = self._batch(block.samples, block.groups, block.tokens, block.targets, count > share)
        self._open = batch
        if self._unread(count):
            batch = self.keep(batch, np.full(len(batch.samples), np.nan))
        following = self._step + (self._micro + 1 == self.accumulate)
        if following in self._scheduled:
            mixture, count = self._plan(following)
            if mixture.any():
                self._stream.prepare(mixture, count, *self._reads(count))
        return batch

    def _unread(self, count: int) -> bool:
        """Whether the best of `count` candidates are found without their tokens."""
        looked_at = self.needs.candidates or self.needs.gradients
        return count > self.batch // self.accumulate and not looked_at

    def _reads(self, count: int) -> tuple[int, int]:
        """The samples of `count` whose tokens this rank reads."""
        return (0, 0) if self._unread(count) else self._slice(count)

    def select(self, model: Model, batch: Batch, losses: TokenLosses | None = None) -> Batch:
        """Score candidates with `model` (no gradient) and keep the best; others come back as they are.

        Policies that select by what is known beforehand cost no forward pass.

        Args:
            losses: the same model's losses of tokens, so that candidates need no logits.
        """
        if batch.micro == 0 and self.needs.heldout and self.actions().probe:
            self._seen.heldout = self.measures.heldout(model, self.device)
        return self.choose(losses or (lambda b: token_losses(model(b.input_ids), b.targets)), batch)

    def choose(self, losses: TokenLosses, batch: Batch) -> Batch:
        """As `select`, for a model that gives the losses of tokens itself (and so holds no logits)."""
        if self.needs.gradients and self.actions().gradients:
            self._measured, samples = self.measures.gradients(batch)
            self._seen.add_gradients(samples, self._measured.sketch)
        chosen = self._best(losses, batch) if batch.candidates else batch
        self.measures.learn(chosen)
        return chosen

    def _best(self, losses: TokenLosses, batch: Batch) -> Batch:
        """The candidates to train on."""
        if not self.needs.candidates:
            return self.keep(batch, np.full(len(batch.samples), np.nan))
        with self.overhead("candidate_scoring"), torch.no_grad():
            if self._measured is not None:
                found = torch.from_numpy(self._measured.losses).to(batch.targets.device)
            else:
                found = self.measures.candidates(batch, losses)
            found = found if self.needs.tokens else sample_losses(found, batch.targets)
            values = found.double().cpu().numpy()
        return self.keep(batch, values)

    def keep(self, batch: Batch, losses: Array) -> Batch:
        """The part of the candidates to train on, given this rank's losses (nats a token).

        Args:
            losses: of samples, `[b]`, or of tokens, `[b, seq_len]`, if reference losses of tokens are
                required.
        """
        self._check_open(batch)
        share, count = self.batch // self.accumulate, len(batch.world_samples)
        excess = self.measures.excess(batch, losses) if losses.ndim == 2 else np.full(count, np.nan)
        everyone = self.measures.gather(losses.mean(1) if losses.ndim == 2 else losses, count)
        reference = self.measures.references(batch)
        scored = self.measures.scored(batch, everyone, reference, self._measured)
        value = self.policy.score(scored)
        if value.shape != everyone.shape or not np.isfinite(value).all():
            raise WorkFailed("the policy's scores are not finite", got=f"{value.shape}: {value[:4]}...")
        if self.needs.candidates and not self.needs.scorer:
            self._seen.add(batch.world_groups, everyone, reference, excess)
        order = np.argsort(-value, kind="stable")
        if self._visits is not None:
            # What was trained on as often as it may be comes last, what was least often first among it.
            order = order[np.argsort(self._visits.excess(batch.world_samples)[order], kind="stable")]
        best = np.sort(order[:share])
        if self._measured is not None:
            found = self._measured
            self._measured = Measured(found.losses, found.dots[best], found.sketch[best])
        kept = self._local(batch.world_samples[best], batch.world_groups[best], candidates=False)
        self._open = kept
        return kept

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Scalar loss of this micro-batch from the model's logits `[b, seq_len, vocab]`; see `reduce`."""
        return self.reduce(token_losses(logits, batch.targets), batch)

    def reduce(self, single: Tensor, batch: Batch) -> Tensor:
        """Scalar loss of this micro-batch, its part of the step's `sum(w * l) / sum(w)`.

        Sums are over the samples of all micro-batches and ranks of the step; with a policy that weighs tokens
        over its tokens, `w` being the product of both weights and 0 where nothing is learned. The sum of the
        weights is known here where a step is one micro-batch. Otherwise it takes the last one's losses: until
        then the number of samples (or tokens) stands in its place, and `normalise` mends the gradients. The
        value is scaled by `world`, because data-parallel wrappers average gradients over ranks.

        Args:
            single: losses of tokens in nats, `[b, seq_len]`, with their graph (`losses.linear_token_losses`).
        """
        self._check_open(batch)
        if batch.candidates:
            raise WorkFailed("these are candidates", hint="call feed.select(model, batch) first")
        if self.needs.gradients and self._scheduled[self._step].gradients and self._measured is None:
            raise WorkFailed(
                "the gradients of this batch were not measured", where=f"step {self._step}",
                hint="call feed.select(model, batch) first",
            )  # fmt: skip
        losses = sample_losses(single, batch.targets)
        if self._patient:
            factor = torch.ones(len(losses), dtype=losses.dtype, device=losses.device)
            value = (factor * losses).sum() * (self.world / self.batch)
            self._defer(batch, losses.detach())
            return value
        everyone = self.measures.gather(losses.detach().double().cpu().numpy(), len(batch.world_samples))
        check_finite(everyone, batch)
        weights = self._weights(batch, everyone)
        tokens = single.detach().double().cpu().numpy() if self.needs.tokens or self._weighs_tokens else None
        low, high = self._slice(len(batch.world_samples))
        # A step of one micro-batch knows its denominator; bit for bit the plain mean where all weights are 1.
        whole = self.accumulate == 1
        if tokens is not None and self._weighs_tokens:
            of_tokens = self._token_weights(batch, tokens, weights)
            weights = of_tokens.mean(1)
            of_tokens = of_tokens / weights.mean() if whole else of_tokens
            factors = torch.as_tensor(of_tokens[low:high], dtype=losses.dtype, device=losses.device)
            value = (factors * single).sum() * (self.world / (self.batch * self.seq_len))
        else:
            if self.cut.mass is not None:  # every token that is learned counts the same
                weights = weights * self.cut.mass[batch.world_samples]
            scaled = weights / weights.mean() if whole else weights
            factors = torch.as_tensor(scaled[low:high], dtype=losses.dtype, device=losses.device)
            value = (factors * losses).sum() * (self.world / self.batch)
        weights = weights / weights.mean() if whole else weights
        batch.weights = weights[low:high]
        self._close(batch, everyone, weights, tokens)
        return value

    def normalise(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients of a finished step by the mean weight of its samples; nothing where it is 1.

        Call it after the last backward pass and before clipping and `optimizer.step()`. It is needed only
        where weights meet several micro-batches; the feed refuses to go on when it was needed and forgotten.
        """
        if self._factor != 1.0:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(self._factor)
        self._factor = 1.0

    @property
    def _patient(self) -> bool:
        """Whether nothing depends on the losses before the next batch, so that a GPU need not be waited
        for."""
        weighs = self._weighs_tokens or self.policy.owner("weigh") is not None
        return self.device.type == "cuda" and not (weighs or self.needs.tokens or self.cut.mass is not None)

    def _defer(self, batch: Batch, losses: Tensor) -> None:
        """Begin to copy the losses to the host; `_settle` waits for them."""
        host = torch.empty(losses.shape, dtype=losses.dtype, pin_memory=True)
        host.copy_(losses, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending = batch, host, event

    def _settle(self) -> None:
        """Finish what `_defer` began."""
        if self._pending is None:
            return
        (batch, host, event), self._pending = self._pending, None
        if event is not None:
            event.synchronize()
        everyone = self.measures.gather(host.double().numpy(), len(batch.world_samples))
        check_finite(everyone, batch)
        self._close(batch, everyone, np.ones(len(everyone)), None)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on bit for bit, as JSON values; only between steps."""
        self._settle()
        if self._micro or (self._open is not None and self.policy.adaptive):
            raise WorkFailed("the feed can only be saved between steps", got=f"micro-batch {self._micro}")
        if self._open is not None:
            self._close(self._open, None, None)
        return {
            **self._identity(),
            "store": card(self.store),
            "adopted": self.adopted,
            "step": self._step,
            **self._stream.position.state_dict(),
            "scheduled": [
                [t, None if a.mixture is None else a.mixture.tolist(), a.keep, a.probe, a.gradients]
                for t, a in self._scheduled.items()
            ],
            "policy": self.policy.state_dict(),
            "visits": None if self._visits is None else self._visits.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], adopt: bool = False) -> None:
        """Go on from a saved state, at this or another number of ranks. `UserError` says what differs.

        Args:
            adopt: take this feed's store for a grown version of the saved one: the policy and the draws go
                on, every domain is read from its beginning, and `adopted` holds the step.
        """
        grown = adopt and state["store"]["fingerprint"] != self.store.fingerprint
        if grown:
            check_growth(state["store"], self.store)
        for name, value in self._identity().items():
            if state.get(name) != value and not (grown and name == "store_fingerprint"):
                raise UserError(
                    f"the saved feed had another {name.replace('_', ' ')}", got=value,
                    expected=state.get(name), hint="resume with the same data and settings, or start anew",
                )  # fmt: skip
        self.policy.load_state_dict(state["policy"])
        self.adopted = list(state["adopted"])
        if grown:
            self.adopted.append({"step": state["step"], **card(self.store)})
        self._stream.moved(Position.load(state, afresh=grown))
        if self._visits is not None and not grown:
            self._visits.load_state_dict(state["visits"])
        self._step, self._micro = state["step"], 0
        self._scheduled = {
            t: Actions(None if mixture is None else np.asarray(mixture, dtype=np.float64), *rest)
            for t, mixture, *rest in state["scheduled"]
        }
        self._open, self._window, self._measured, self._trained = None, [], None, None
        self._seen.clear()
        self._pending, self._factor, self._offered = None, 1.0, 0
        self.measures.forget()

    def _identity(self) -> dict[str, Any]:
        return {
            "store_fingerprint": self.store.fingerprint,
            "seq_len": self.seq_len,
            "batch": self.batch,
            "accumulate": self.accumulate,
            "prefetch": self.prefetch,
            "seed": self.seed,
            "max_visits": self.max_visits,
        }

    def _decide(self, step: int) -> Actions:
        actions = self.policy.act(step)
        mixture = (
            self.policy.prior if actions.mixture is None else np.asarray(actions.mixture, dtype=np.float64)
        )
        if mixture.shape != (len(self.groups),) or not (mixture >= 0).all() or abs(mixture.sum() - 1) > 1e-6:
            raise WorkFailed(
                "the policy's mixture is no probability", where=f"step {step}", got=mixture.tolist()
            )
        if self._visits is not None:
            mixture = self._visits.left(mixture)
        return Actions(mixture, actions.keep, actions.probe, actions.gradients)

    def _plan(self, step: int) -> tuple[Array, int]:
        """Mixture and number of samples of each micro-batch of a step whose actions are known."""
        actions = self._scheduled[step]
        mixture = actions.mixture
        assert mixture is not None
        return mixture, ceil(self.batch // self.accumulate / (actions.keep or 1.0) - 1e-9)

    def _slice(self, count: int) -> tuple[int, int]:
        return self.measures.slice(count)

    def _local(self, samples: Ints, groups: Ints, candidates: bool) -> Batch:
        low, high = self._slice(len(samples))
        return self._batch(samples, groups, *self._stream.read(samples[low:high]), candidates)

    def _batch(self, samples: Ints, groups: Ints, ids: Tensor, targets: Tensor, candidates: bool) -> Batch:
        low, high = self._slice(len(samples))
        ids, targets = (x.to(self.device, non_blocking=True) for x in (ids, targets))
        return Batch(
            step=self._step,
            micro=self._micro,
            input_ids=ids,
            targets=targets,
            spans=self.cut.spans(samples[low:high], ids) if self.spans else None,
            samples=samples[low:high],
            groups=groups[low:high],
            weights=np.ones(high - low),
            candidates=candidates,
            world_samples=samples,
            world_groups=groups,
            store=self.store,
        )

    def _weights(self, batch: Batch, losses: Array) -> Array:
        weigher = self.policy.owner("weigh")
        if weigher is None:
            return np.ones(len(losses))
        reference = np.full(len(losses), np.nan)
        if weigher.requires().reference:
            reference = self.measures.references(batch)
        scored = self.measures.scored(batch, losses, reference, self._measured)
        weights = np.asarray(weigher.weigh(scored))
        check_weights(weights, losses.shape, batch.step)
        return weights

    @property
    def _weighs_tokens(self) -> bool:
        return self.policy.owner("token") is not None

    def _token_weights(self, batch: Batch, tokens: Array, weights: Array) -> Array:
        """Weight of each token of the global micro-batch, `[n, seq_len]`; 0 where nothing is learned."""
        learned = (batch.targets != IGNORE).cpu().numpy()
        everyone = self.measures.gather(np.where(learned, tokens, np.nan), len(batch.world_samples))
        learned, everyone = np.isfinite(everyone), np.nan_to_num(everyone)
        reference = np.full(everyone.shape, np.nan)
        if self.needs.tokens:
            reference = self.measures.gather(self.measures.token_references(batch.samples), len(everyone))
        of_tokens = np.asarray(
            self.policy.weigh_tokens(ScoredTokens(batch.step, batch.world_groups, everyone, reference))
        )
        check_weights(of_tokens, everyone.shape, batch.step)
        product = weights[:, None] * of_tokens * learned
        if not product.any():
            raise WorkFailed("all tokens have weight 0", where=f"step {batch.step}")
        return product

    def _check_open(self, batch: Batch) -> None:
        if self._open is not batch:
            raise WorkFailed(
                "this batch is not the one being trained on",
                got=f"step {batch.step}, micro-batch {batch.micro}",
                hint="each batch goes through the feed once, in order",
            )  # fmt: skip

    def _close(
        self, batch: Batch, losses: Array | None, weights: Array | None, tokens: Array | None = None
    ) -> None:
        self._open, self._measured = None, None
        if losses is not None and weights is not None:
            self._window.append((batch.world_samples, batch.world_groups, losses, weights))
            if self._visits is not None:
                self._visits.add(batch.world_samples)
            if len(self._seen) < self._micro + 1:
                # Without candidates the batch itself is an unbiased sample of each domain.
                reference = np.full(len(losses), np.nan)
                if self.needs.reference:
                    reference = self.measures.references(batch)
                excess = np.full(len(losses), np.nan)
                if self.needs.tokens and tokens is not None:
                    excess = self.measures.excess(batch, tokens)
                self._seen.add(batch.world_groups, losses, reference, excess)
        self._micro += 1
        if self._micro == self.accumulate:
            self._finish()

    def _finish(self) -> None:
        """Tell the policy about the step and put its next decision on the schedule."""
        now = self._scheduled.pop(self._step)
        if self._window:
            assert now.mixture is not None
            samples, groups, losses, weights = (
                np.concatenate(parts) for parts in zip(*self._window, strict=True)
            )
            mean = float(weights.mean())
            if self.accumulate > 1 and mean != 1.0:
                weights, self._factor = weights / mean, 1.0 / mean
            self._trained = Trained(
                self._step,
                samples,
                groups,
                losses,
                weights,
                now.mixture,
                len(samples) / self._offered,
            )
            self.policy.observe(self._seen.signals(self._step))
        self._window = []
        self._seen.clear()
        self.measures.forget()
        self._micro = self._offered = 0
        self._step += 1
        ahead = self._step + self.prefetch
        self._scheduled[ahead] = self._decide(ahead)
