"""Which candidate wins: by measured effect, with ties going to the cheaper one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tillage.agent.probe import Effect
from tillage.core.errors import WorkFailed
from tillage.core.events import Chosen, EventLog
from tillage.core.stats import paired_interval

EQUAL_BPB = 0.01
"""Bits per byte: a smaller mean difference that no interval confirms is not worth another step."""


@dataclass(frozen=True)
class Contender:
    """A candidate that climbed the ladder. `cost` is (corpus operators, steps): unlike seconds, which depend
    on the machine and on what is cached, it is the same in every run."""

    name: str
    effect: Effect
    cost: tuple[int, int]


@dataclass(frozen=True)
class Choice:
    winner: Contender
    why: str
    tied: list[str]


def choose(contenders: Sequence[Contender], log: EventLog | None = None, round: int = 1) -> Choice:
    """The contender with the lowest mean effect, or the cheapest of those that are as good as it.

    As good: the paired 95 % interval of the difference covers zero and the mean difference is at most
    `EQUAL_BPB`. The interval alone would not do: over three seeds it is so wide that cheapness, not effect,
    would decide. `why` says whether the winner is better than the control, so one that is not stays visible.
    """
    if not contenders:
        raise WorkFailed(
            "no candidate passed verification", hint="read the findings; relax the goal's constraints"
        )
    best = min(contenders, key=lambda c: (c.effect.interval.mean, c.name))
    tied = [c for c in contenders if c is best or not _apart(c.effect, best.effect)]
    winner = min(tied, key=lambda c: (c.cost, c.effect.interval.mean, c.name))
    interval = winner.effect.interval
    if winner.effect.improves:
        verdict = "better than"
    elif winner.effect.harms:
        verdict = "worse than"
    else:
        verdict = "not told apart from"
    why = (
        f"{interval.mean:+.4f} bits per byte [{interval.low:+.4f}, {interval.high:+.4f}] over "
        f"{interval.n} seeds, {verdict} {winner.effect.control}"
    )
    others = sorted(c.name for c in tied if c is not winner)
    if others:
        corpus, steps = winner.cost
        why += f"; tied with {', '.join(others)}, cheapest ({corpus} corpus operators, {steps} steps)"
    if log is not None:
        log.emit(Chosen(winner.name, why, round))
    return Choice(winner, why, others)


PREFERRED = ("sound", "careful", "clean")
"""For a goal that only broken documents are to go: from the usual care to none."""


def choose_sound(contenders: Sequence[Contender], log: EventLog | None = None, round: int = 1) -> Choice:
    """The contender with the usual care, unless another one measures clearly better; for the aim `clean`.

    Faults need not show in bits per byte, so evidence decides and effect has a veto: a contender gives way
    to the next more careful one where the whole interval says that it is worse by more than `EQUAL_BPB`.
    The greedy one, and any other, takes its place where it is better by as much on the mean.
    """
    known = {c.name: c for c in contenders}
    order = [known[name] for name in PREFERRED if name in known]
    if not order:
        return choose(contenders, log, round)
    winner = order[0]
    for milder in order[1:]:
        if _worse(winner.effect, milder.effect, surely=EQUAL_BPB):
            winner = milder
    for other in contenders:
        if other.name not in PREFERRED and _worse(winner.effect, other.effect):
            winner = other
    interval = winner.effect.interval
    why = (
        f"{winner.name}: what is broken goes and the rest stays; {interval.mean:+.4f} bits per byte "
        f"[{interval.low:+.4f}, {interval.high:+.4f}] over {interval.n} seeds against {winner.effect.control}"
    )
    if log is not None:
        log.emit(Chosen(winner.name, why, round))
    return Choice(winner, why, [])


def _worse(a: Effect, b: Effect, surely: float = 0.0) -> bool:
    """`a` is worse than `b` by more than `EQUAL_BPB` on the mean, and by `surely` on the whole interval."""
    if a.seeds != b.seeds:
        return a.interval.low > b.interval.high + EQUAL_BPB
    difference = paired_interval(_gains(a), _gains(b))
    return difference.above(surely) and difference.mean > EQUAL_BPB


def _gains(effect: Effect) -> list[float]:
    """Each seed's difference from the control. Effects may rest on unequal bytes, so only these compare."""
    return [a - b for a, b in zip(effect.candidate_bpb, effect.control_bpb, strict=True)]


def _apart(a: Effect, b: Effect) -> bool:
    if a.seeds != b.seeds:
        return a.interval.low > b.interval.high or b.interval.low > a.interval.high
    difference = paired_interval(_gains(a), _gains(b))
    return difference.above(0.0) or difference.below(0.0) or abs(difference.mean) > EQUAL_BPB
