"""The effect of data, measured by small models: train on it, score the target, compare with a control."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.core.errors import UserError
from tillage.core.events import EffectMeasured, EventLog, ProbesAgree
from tillage.core.stats import Interval, kendall_tau, paired_interval
from tillage.kernels.hashing import hash_strings
from tillage.kernels.ngram_lm import NgramModel


@dataclass(frozen=True)
class Job:
    """One training of a probe: `documents` to draw from, and the seed of the draw and of the training."""

    documents: Sequence[str]
    seed: int


class EffectProbe(Protocol):
    """A model that is quick to train; all that the agent knows of training."""

    @property
    def name(self) -> str: ...

    def bpb(self, jobs: Sequence[Job], target: Sequence[str], *, budget_bytes: int) -> list[float]:
        """Bits per byte of `target` after training on `budget_bytes` of each job's documents; deterministic.

        Jobs come together, so that a probe may run them side by side.
        """
        ...


@dataclass(frozen=True)
class NgramProbe:
    """The byte n-gram model as a probe. No text is repeated: that would make its counts overconfident."""

    order: int = 6
    name: str = "ngram"
    workers: int = 2

    def bpb(self, jobs: Sequence[Job], target: Sequence[str], *, budget_bytes: int) -> list[float]:
        def one(job: Job) -> float:
            chosen = draw(job.documents, seed=job.seed, budget_bytes=budget_bytes)
            return NgramModel(self.order).train(chosen).bits_per_byte(target)

        # The kernels release the GIL, so threads are enough.
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(one, jobs))


PIECE = 4_096
"""Longest piece of a draw in characters: else one long file could be the whole budget, and the draws of
different seeds would differ by their luck with long files."""


def draw(documents: Sequence[str], *, seed: int, budget_bytes: int) -> list[str]:
    """At most `budget_bytes` of UTF-8, as pieces of documents in the order of a seeded hash of their text.

    The draw does not depend on the order of `documents`, and two corpora that share documents draw the shared
    pieces in the same order, so that a paired difference is not blurred by the draw. The last piece is cut.
    """
    pieces = [text[at : at + PIECE] for text in documents for at in range(0, len(text), PIECE)]
    if not pieces:
        return []
    order = np.argsort(_spread(hash_strings(pa.array(pieces, pa.large_string()), seed)), kind="stable")
    chosen: list[str] = []
    left = budget_bytes
    for index in map(int, order):
        data = pieces[index].encode()
        chosen.append(pieces[index] if len(data) <= left else data[:left].decode("utf-8", "ignore"))
        left -= len(data)
        if left <= 0:
            break
    return chosen


def _spread(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Keys that differ where hashes are equal: copies must not enter or miss a draw all together."""
    order = np.argsort(hashes, kind="stable")
    place = np.arange(len(hashes))
    ordered = hashes[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    copy = (place - np.maximum.accumulate(np.where(starts, place, 0))).astype(np.uint64)
    keys = np.empty_like(hashes)
    # An odd multiplier and a fold of the high bits scatter the copies; the first keeps its own place.
    moved = (ordered + copy) * np.uint64(0x9E3779B97F4A7C15)
    keys[order] = np.where(copy == 0, ordered, moved ^ (moved >> np.uint64(29)))
    return keys


@dataclass(frozen=True)
class Effect:
    """Candidate minus control in bits per byte over paired seeds; below zero is better."""

    candidate: str
    control: str
    probe: str
    seeds: list[int]
    candidate_bpb: list[float]
    control_bpb: list[float]
    interval: Interval
    seconds: float

    @property
    def improves(self) -> bool:
        """The whole 95 % interval lies below zero."""
        return self.interval.below(0.0)

    @property
    def harms(self) -> bool:
        return self.interval.above(0.0)


_Key = tuple[int, int, int]
"""Documents, sum of their hashes, budget."""


@dataclass
class EffectMeter:
    """Measures candidates with one probe, target, budget and seeds; equal documents are measured once.

    `runs` counts trainings, for the goal's budget.
    """

    probe: EffectProbe
    target: Sequence[str]
    seeds: Sequence[int]
    budget_bytes: int
    log: EventLog | None = None
    runs: int = 0
    _known: dict[_Key, list[float]] = field(default_factory=dict[_Key, list[float]])

    _unpaid: dict[_Key, float] = field(default_factory=dict[_Key, float])

    def __post_init__(self) -> None:
        if not self.target:
            raise UserError("an effect cannot be measured without a target", hint="give the goal a target")

    def common_budget(self, sets: Sequence[Sequence[str]]) -> int:
        """Bytes that a draw from each set may take: the budget, or four fifths of the smallest set if that is
        less. So no arm gets more text than another, and draws of different seeds differ."""
        return max(min(self.budget_bytes, *(_bytes(documents) * 4 // 5 for documents in sets)), 1)

    def measure(self, sets: Sequence[Sequence[str]], budget: int | None = None) -> list[list[float]]:
        """Bits per byte on the target for each seed, after training on as many bytes of each set."""
        budget = self.common_budget(sets) if budget is None else budget
        keys = [self._key(documents, budget) for documents in sets]
        new = {key: documents for key, documents in zip(keys, sets, strict=True) if key not in self._known}
        jobs = [Job(documents, seed) for documents in new.values() for seed in self.seeds]
        if jobs:
            start = time.perf_counter()
            values = self.probe.bpb(jobs, self.target, budget_bytes=budget)
            self.runs += len(jobs)
            count = len(self.seeds)
            for place, key in enumerate(new):
                self._known[key] = values[place * count : (place + 1) * count]
            share = (time.perf_counter() - start) / len(new)
            self._unpaid |= dict.fromkeys(new, share)
        return [self._known[key] for key in keys]

    @staticmethod
    def _key(documents: Sequence[str], budget: int) -> _Key:
        if not any(documents):
            raise UserError("an effect cannot be measured on no documents")
        hashes = hash_strings(pa.array(documents, pa.large_string()))
        return len(documents), int(hashes.sum(dtype=np.uint64)), budget

    def effect(
        self,
        candidate: str,
        documents: Sequence[str],
        control: str,
        control_documents: Sequence[str],
        budget: int | None = None,
    ) -> Effect:
        """The paired effect, on equal bytes for both; emits `EffectMeasured`."""
        sets = [documents, control_documents]
        budget = self.common_budget(sets) if budget is None else budget
        after, before = self.measure(sets, budget)
        # What was measured ahead or for several effects is charged once, to the first that uses it.
        seconds = sum(self._unpaid.pop(self._key(of, budget), 0.0) for of in sets)
        effect = Effect(
            candidate,
            control,
            self.probe.name,
            list(self.seeds),
            after,
            before,
            paired_interval(after, before),
            seconds,
        )
        if self.log is not None:
            self.log.emit(
                EffectMeasured(
                    candidate,
                    control,
                    effect.probe,
                    effect.seeds,
                    after,
                    before,
                    effect.interval.mean,
                    effect.interval.low,
                    effect.interval.high,
                    round(effect.seconds, 3),
                )
            )
        return effect


def _bytes(documents: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in documents)


def agreement(first: Sequence[Effect], second: Sequence[Effect], log: EventLog | None = None) -> float:
    """Kendall's tau between two probes' orders of the candidates that both measured; NaN below two."""
    other = {effect.candidate: effect for effect in second}
    both = [(effect, other[effect.candidate]) for effect in first if effect.candidate in other]
    tau = kendall_tau([a.interval.mean for a, _ in both], [b.interval.mean for _, b in both])
    if log is not None and len(both) > 1 and tau == tau:
        log.emit(ProbesAgree([both[0][0].probe, both[0][1].probe], tau, [a.candidate for a, _ in both]))
    return tau
