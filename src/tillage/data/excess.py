"""What the data has more of than the target: bounds on measurements, with the figures that justify them.

A target shows what sound documents are like. Where the data's tail of a measurement is heavier than the
target's, the surplus is not sound. Beyond its data the target's tail is extrapolated by an exponential law,
the limit for light tails (Pickands 1975, doi 10.1214/aos/1176343003: peaks over a threshold): with u the 10 %
quantile and s the mean of u - x over the target's x below u, the share of sound documents below t is
0.1 exp(-(u - t) / s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tillage.core.spec import Spec

Values = NDArray[np.float64]

TAIL = 0.1
LEAST_ROWS = 6
LEAST_SHARE = 0.004
"""A surplus of fewer rows, or of a smaller share of the data, is no evidence."""

PRECISION = 0.6
"""At least this share of what a bound drops must be surplus, with sound documents counted twice."""

VALLEY = 0.6
"""At a bound the data may be at most this dense, against the densest place beyond it: what a bound cuts
off has to be a population of its own, not the end of the sound one."""

BANDWIDTH = 0.15
FEW_VALUES = 5
LEAST_DATA, LEAST_TARGET, FEW_TARGET = 20, 10, 50
UNSURE = 5.0
"""So many times more sound documents are expected where a tail rests on few of the target's, or the whole
target has fewer than `FEW_TARGET`."""

MOST_SOUND = 0.04
"""Largest share of sound documents that a bound may be expected to drop, whatever it gains."""

MOST_BOUNDS = 6


class Excess(Spec):
    """A bound `measure >= value` (side `low`) or `<= value` (`high`) that the data breaks more.

    `dropped` is the share of the sample that it drops, `sound` the share of sound documents that it should
    drop, by the target's tail; `target` is the share of target documents beyond it.
    """

    measure: str
    side: str
    value: float
    dropped: float
    sound: float
    target: float
    rows: int
    n: int

    @property
    def condition(self) -> str:
        return f"{self.measure} {'>=' if self.side == 'low' else '<='} {self.value:.6g}"


@dataclass(frozen=True)
class Tail:
    """The target's tail of a measurement, turned so that it lies low."""

    values: Values
    start: float
    scale: float

    @classmethod
    def of(cls, target: Values) -> Tail:
        ordered = np.sort(target)
        start = float(np.quantile(ordered, TAIL))
        below = start - ordered[ordered < start]
        return cls(ordered, start, float(below.mean()) if len(below) else 0.0)

    def share(self, bound: Values) -> Values:
        """Expected share of sound documents below each bound: what the target shows, and its law beyond."""
        n = len(self.values)
        below = np.searchsorted(self.values, bound, "left")
        shown = (below + 0.5) / (n + 1)
        if self.scale <= 0.0:
            return shown
        mass = float((self.values < self.start).mean())
        law = mass * np.exp(np.minimum((bound - self.start) / self.scale, 0.0))
        # Within the data the counts speak; beyond them only the law can.
        return np.where(below == 0, np.minimum(law, shown), np.maximum(law, below / n))


def bound(
    name: str,
    data: Values,
    target: Values,
    *,
    strictness: float,
    most_sound: float = MOST_SOUND,
    valley: bool = True,
) -> Excess | None:
    """The bound on one measurement that drops most surplus, or None where there is none worth a step.

    Args:
        data, target: the measurement of each document; NaN where it has none.
        strictness: sound documents that one may lose for a faulty one that goes.
        valley: whether a bound must lie in a valley of the data's density.
    """
    found = [
        one
        for side, sign in (("low", 1.0), ("high", -1.0))
        if (one := _low(name, side, sign, data, target, strictness, most_sound, valley)) is not None
    ]
    return max(found, key=lambda e: e.dropped - e.sound, default=None)


def _low(
    name: str,
    side: str,
    sign: float,
    data: Values,
    target: Values,
    strictness: float,
    most_sound: float,
    valley: bool,
) -> Excess | None:
    raw = np.sort(sign * data[~np.isnan(data)])
    sound = sign * target[~np.isnan(target)]
    if len(raw) < LEAST_DATA or len(sound) < LEAST_TARGET:
        return None
    tail = Tail.of(sound)
    # Bounds between neighbours of the data: no row lies on one, so rounding a bound moves no row.
    cuts = np.flatnonzero(np.diff(raw) > 0)
    cuts = cuts[(cuts + 1) <= 0.95 * len(raw)]
    if not len(cuts):
        return None
    values = (raw[cuts] + raw[cuts + 1]) / 2.0
    rows = cuts + 1.0
    share = rows / len(raw)
    lost = tail.share(values)
    # Where most of the target has none of it, the few that have some tell little about the law.
    mostly_one = (sound == np.median(sound)).mean() > 0.5
    if len(np.unique(raw)) > FEW_VALUES and (mostly_one or len(sound) < FEW_TARGET):
        lost = lost * UNSURE
    worth = share - lost - lost / strictness
    doubtful = share - 2.0 * lost - 3.0 * np.sqrt(lost / len(raw))
    good = (rows >= max(LEAST_ROWS, LEAST_SHARE * len(raw))) & (doubtful >= PRECISION * share)
    good &= lost <= most_sound
    if valley:
        good &= _valley(raw, values, sound)
    if not good.any():
        return None
    best = int(np.argmax(np.where(good, worth, -np.inf)))
    if worth[best] <= 0:
        return None
    return Excess(
        measure=name,
        side=side,
        value=float(f"{sign * values[best]:.9g}"),
        dropped=round(float(share[best]), 6),
        sound=round(float(lost[best]), 6),
        target=round(float((sound < values[best]).mean()), 6),
        rows=int(rows[best]),
        n=len(raw),
    )


def _valley(raw: Values, cuts: Values, sound: Values) -> NDArray[np.bool_]:
    """Which cuts lie in a valley of the data's density, on a scale that is logarithmic far from the target.

    A measurement of few values, such as yes or no, has gaps instead of valleys.
    """
    if len(np.unique(raw)) <= FEW_VALUES:
        return np.ones(len(cuts), np.bool_)
    middle = float(np.median(sound))
    width = float(np.subtract(*np.quantile(sound, [0.75, 0.25]))) / 1.35
    width = width or float(np.abs(sound - middle).mean()) or float(np.abs(raw - middle).mean())
    places = np.arcsinh((raw - middle) / width)
    grid = np.linspace(places[0] - 3 * BANDWIDTH, places[-1] + 3 * BANDWIDTH, 512)
    step = grid[1] - grid[0]
    counts = np.histogram(places, bins=len(grid), range=(grid[0] - step / 2, grid[-1] + step / 2))[0]
    kernel = np.exp(-0.5 * (np.arange(-3 * BANDWIDTH, 3 * BANDWIDTH + step, step) / BANDWIDTH) ** 2)
    density = np.convolve(counts, kernel, "same")
    at = np.interp(np.arcsinh((cuts - middle) / width), grid, density)
    beyond = np.interp(np.arcsinh((cuts - middle) / width), grid, np.maximum.accumulate(density))
    return (at <= VALLEY * beyond) & (beyond >= LEAST_ROWS / 2)


def bounds(
    data: Mapping[str, Values],
    target: Mapping[str, Values],
    *,
    strictness: float,
    most_sound: Mapping[str, float] | None = None,
) -> list[Excess]:
    """Bounds chosen one after the other: most surplus first, each on what those before leave.

    `most_sound` holds measurements with a limit of their own for the share of sound documents dropped.
    """
    limits = most_sound or {}
    alive = np.ones(len(next(iter(data.values()))), np.bool_)
    found: list[Excess] = []
    names = [name for name in data if name in target]
    while len(found) < MOST_BOUNDS:
        options = [
            one
            for name in names
            if (
                one := bound(
                    name,
                    data[name][alive],
                    target[name],
                    strictness=strictness,
                    most_sound=limits.get(name, MOST_SOUND),
                )
            )
            is not None
        ]
        if not options:
            break
        # A measurement of few values has no place for a bound that spares the sound, so it comes last.
        fine = [e for e in options if len(np.unique(data[e.measure])) > FEW_VALUES]
        best = max(fine or options, key=lambda e: (e.dropped - e.sound, e.measure))
        found.append(best)
        alive &= keeps(best, data[best.measure])
    return found


def keeps(found: Excess, values: Values) -> NDArray[np.bool_]:
    """Which rows the bound keeps; a row without the measurement stays."""
    inside = values >= found.value if found.side == "low" else values <= found.value
    return inside | np.isnan(values)
