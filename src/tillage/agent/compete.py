"""Successive halving: the quick probe measures all candidates, the dear one only the better ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tillage.agent.choose import Choice, Contender, choose, choose_sound
from tillage.agent.probe import EffectMeter, agreement
from tillage.agent.verify import Ladder, Verdict
from tillage.core.events import EventLog, Note
from tillage.core.text import size


def compete(
    ladder: Ladder,
    verdicts: Sequence[Verdict],
    second: EffectMeter | None = None,
    log: EventLog | None = None,
    round: int = 1,
    share: float = 0.75,
) -> Choice:
    """The winner among the candidates that passed with a measured effect.

    With a `second` probe the best `share` by the first probe (two at least) are measured again, the winner is
    taken by the second probe's figures, and `ProbesAgree` says how far the two orders agree.

    Raises:
        WorkFailed: no candidate passed with an effect.
    """
    measured = [(v, v.effect) for v in verdicts if v.passed and v.effect is not None]
    measured.sort(key=lambda pair: (pair[1].interval.mean, pair[0].name))
    contenders = [Contender(v.name, effect, v.cost) for v, effect in measured if v.sampled is not None]
    decide = choose_sound if ladder.frozen.goal.aim == "clean" else choose
    if second is None or len(measured) < 2:
        return decide(contenders, log, round)
    finalists = measured[: max(2, math.ceil(len(measured) * share))]
    control = ladder.control
    sets = [control, *(v.sampled.documents for v, _ in finalists if v.sampled is not None)]
    budget = second.common_budget(sets)
    if log is not None:
        runs = len(sets) * len(second.seeds)
        log.emit(
            Note(
                f"the {second.probe.name} measures raw and the best {len(finalists)} again: {runs} trainings "
                f"on at most {size(budget)} each"
            )
        )
    # All at once, so that a probe that trains side by side has enough to do.
    second.measure(sets, budget)
    again: list[Contender] = []
    for verdict, first in finalists:
        assert verdict.sampled is not None
        effect = second.effect(first.candidate, verdict.sampled.documents, "raw", control, budget)
        again.append(Contender(verdict.name, effect, verdict.cost))
    agreement([first for _, first in finalists], [c.effect for c in again], log)
    return decide(again, log, round)
