"""Arms: the same model, tokens and seeds on different data or policies, and the verdict over them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tillage.core.events import EventLog, Note, Result
from tillage.core.stats import mean_interval, paired_interval
from tillage.core.text import signed
from tillage.loop.spec import LoopSpec
from tillage.train.evaluate import Target, bits_per_byte
from tillage.train.policy import Policy
from tillage.train.pool import Task, train_many
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainResult


@dataclass
class Arm:
    """A line of the final table; `results` has one training run for each seed once it is trained."""

    name: str
    store: TokenStore
    policy: Policy
    results: list[TrainResult] = field(default_factory=list[TrainResult])

    @property
    def slug(self) -> str:
        return self.name.replace(",", "").replace(" ", "-")

    def search_bpb(self, target: str = "search") -> list[float]:
        return [result.bpb[target] for result in self.results]


def train_arms(
    arms: Sequence[Arm], spec: LoopSpec, seed: int, targets: dict[str, Target], folder: Path, log: EventLog
) -> None:
    """Train every arm with every seed. Runs of one seed stand next to each other, so that what disturbs the
    machine for a while disturbs all arms alike."""
    pairs = [(s, arm) for s in range(seed, seed + spec.seeds) for arm in arms]
    tasks = [
        Task(
            spec.train.model_copy(update={"arm": arm.name, "seed": s, "policy": arm.policy}),
            arm.store.folder,
            targets,
            folder / f"{arm.slug}-{s}",
            folder / "references",
        )
        for s, arm in pairs
    ]
    for (_, arm), result in zip(pairs, train_many(tasks, log, workers=spec.workers), strict=True):
        arm.results.append(result)


def judge(arms: Sequence[Arm], holdout: Target, spec: LoopSpec, log: EventLog) -> list[Result]:
    """Bits per byte of every run on the holdout: a `Result` an arm, and each arm's paired difference from the
    first one as a note."""
    models = [result for arm in arms for result in arm.results]
    torch.set_num_threads(1)
    with ThreadPoolExecutor(spec.workers) as pool:
        values = list(pool.map(lambda r: _measure(r, holdout, spec.train.seq_len), models))
    found: list[Result] = []
    for arm in arms:
        own = [round(values.pop(0), 5) for _ in arm.results]
        interval = mean_interval(own)
        seconds = sum(result.seconds for result in arm.results) / len(arm.results)
        found.append(
            Result(
                arm.name, own, round(interval.mean, 5), round(interval.low, 5), round(interval.high, 5),
                round(seconds, 2),
            )
        )  # fmt: skip
    for result in found:
        log.emit(result)
    for result in found[1:]:
        gap = paired_interval(result.values, found[0].values)
        verdict = "better" if gap.below(0) else "worse" if gap.above(0) else "not told apart"
        log.emit(
            Note(
                f"{result.name} minus {found[0].name}: {signed(gap.mean)} bits per byte "
                f"[{signed(gap.low)}, {signed(gap.high)}] over {gap.n} paired seeds: {verdict}"
            )
        )
    return found


def _measure(result: TrainResult, target: Target, seq_len: int) -> float:
    # Evaluation of small models in full precision: the verdict does not depend on the training dtype.
    def forward(ids: Tensor) -> Tensor:
        return result.model(ids)

    return bits_per_byte(forward, target, seq_len)
