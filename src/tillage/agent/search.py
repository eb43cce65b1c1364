"""Search over thresholds by successive halving: measured once as columns, every threshold is a mask.

The mended sample is annotated once. A variant is a care for soundness and a bound on likeness; many variants
are measured on few bytes with few seeds, the better third on more, and so on (Jamieson and Talwalkar 2016,
arXiv 1502.07943). All of a round are paired: the same seeds, the same bytes, the same control.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.agent.evidence import OPEN
from tillage.agent.probe import EffectMeter
from tillage.core.events import EventLog, Note
from tillage.core.stats import paired_interval
from tillage.data.excess import Excess, keeps
from tillage.data.profile import OperatingPoint, Profile
from tillage.data.traits import ends_open

SHARE = 3
"""One of so many goes on to the next round."""

ROUNDS = 3
LEAST_SEEDS = 3
MOST_VARIANTS = 27


@dataclass(frozen=True)
class Variant:
    """What is kept: bounds of one care for soundness, and likeness above an operating point."""

    care: str
    point: OperatingPoint | None

    @property
    def name(self) -> str:
        like = "any likeness" if self.point is None else f"likeness {self.point.score:.4g}"
        return f"{self.care or 'no'} care, {like}"


@dataclass(frozen=True)
class Found:
    """The variant that measured best, its paired difference from raw, and how it came to it."""

    variant: Variant
    mean: float
    low: float
    high: float
    tried: int
    runs: int


def variants(found: Profile, least_bytes: float, seed: int) -> list[Variant]:
    """Every care with every likeness that keeps `least_bytes` of the sample, `MOST_VARIANTS` at most."""
    points: list[OperatingPoint | None] = [None]
    if found.target is not None:
        points += [point for point in found.target.points if point.raw_bytes_kept >= least_bytes]
    cares = ["", *(care for care, bounds in found.excess.items() if bounds)]
    every = [Variant(care, point) for care in cares for point in points]
    rng = random.Random(seed)
    return every if len(every) <= MOST_VARIANTS else rng.sample(every, MOST_VARIANTS)


def mask(table: pa.Table, variant: Variant, found: Profile) -> NDArray[np.bool_]:
    """Which rows of the annotated sample the variant keeps."""
    kept = np.ones(len(table), np.bool_)
    for bound in found.excess.get(variant.care, ()):
        kept &= keeps(bound, _values(table, bound))
    if variant.point is not None:
        kept &= _column(table, "target_score") >= variant.point.score
    return kept


def _values(table: pa.Table, bound: Excess) -> NDArray[np.float64]:
    if bound.measure == OPEN:
        return ends_open(table["text"].cast(pa.large_string()).combine_chunks())
    return _column(table, bound.measure)


def _column(table: pa.Table, name: str) -> NDArray[np.float64]:
    values: Any = table[name].cast(pa.float64()).fill_null(float("nan")).to_numpy()
    return np.asarray(values, np.float64)


def halve(
    candidates: Sequence[Variant],
    documents: Callable[[Variant], list[str]],
    control: Sequence[str],
    meter: EffectMeter,
    runs: int,
    time_left: Callable[[], bool],
    log: EventLog | None = None,
) -> Found | None:
    """The variant with the lowest mean difference from `control` after halving; None without budget.

    Args:
        documents: the texts that a variant keeps.
        runs: trainings of the probe that the search may spend.
        time_left: asked before each round.
    """
    alive = [variant for variant in candidates if documents(variant)]
    tried, before = len(alive), meter.runs
    best: Found | None = None
    for number in range(ROUNDS):
        seeds = list(meter.seeds)[: max(LEAST_SEEDS, len(meter.seeds) * (number + 1) // ROUNDS)]
        affordable = (runs - (meter.runs - before)) // len(seeds) - 1
        alive = alive[: max(affordable, 0)]
        if not alive or not time_left():
            break
        sets = [control, *(documents(variant) for variant in alive)]
        share = SHARE ** (ROUNDS - 1 - number)
        budget = max(meter.common_budget(sets) // share, 10_000)
        stage = EffectMeter(meter.probe, meter.target, seeds, meter.budget_bytes)
        base, *values = stage.measure(sets, budget)
        meter.runs += stage.runs
        gaps = [paired_interval(after, base) for after in values]
        order = sorted(range(len(alive)), key=lambda i: (gaps[i].mean, alive[i].name))
        first = gaps[order[0]]
        spent = meter.runs - before
        best = Found(alive[order[0]], first.mean, first.low, first.high, tried, spent)
        if log is not None:
            log.emit(
                Note(
                    f"search, round {number + 1}: {len(alive)} variants on {budget:,} bytes with "
                    f"{len(seeds)} seeds; best {best.variant.name}: {first.mean:+.4f} "
                    f"[{first.low:+.4f}, {first.high:+.4f}]"
                )
            )
        alive = [alive[i] for i in order[: max(1, len(alive) // SHARE)]]
    return best
