"""The arms of each suite: names and policies. A policy whose cadence counts steps is scaled to the run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from bench.interaction.tasks import GRAPH, SKILLS, STAGES

from tillage.train.policies import (
    Ado,
    Aioli,
    Color,
    ColumnSelect,
    Curriculum,
    Doremi,
    Fixed,
    Greats,
    Likeness,
    LinUpper,
    Odm,
    Proportional,
    Rho1,
    RhoSelect,
    SkillIt,
    TargetMix,
    Uniform,
)
from tillage.train.policies.mix import Stage
from tillage.train.policy import Auto, Chain, Policy

Make = Callable[[int, int], Policy]
"""Steps of the run and seed -> policy."""


def ours(steps: int, seed: int) -> Policy:
    """What a user gets who names no policy."""
    return Auto()


def ado(steps: int) -> Ado:
    return Ado(start_step=max(steps // 12, 8), ignore=max(steps // 50, 2), every=max(steps // 100, 1))


def aioli(steps: int, domains: int) -> Aioli:
    """Four rounds of which about a fifth are sweeps (in the authors' script 140 of 200 steps are)."""
    every = max(steps // 4, 2 * domains + 2)
    return Aioli(every=every, sweeps=1, sweep_steps=max(every // (5 * domains), 1))


def random_mixture(names: list[str], seed: int) -> Fixed:
    drawn = np.random.default_rng([77, seed]).dirichlet(np.ones(len(names)))
    return Fixed(weights=dict(zip(names, np.maximum(drawn, 1e-3).tolist(), strict=True)))


def curriculum(steps: int) -> Curriculum:
    """Easy skills alone, then half of the middle ones, then half of the targets, a quarter of the rest
    each."""
    stages: list[Stage] = []
    for k, names in enumerate(STAGES):
        earlier = [n for group in STAGES[:k] for n in group]
        weights = dict.fromkeys(names, 1.0 / len(names))
        weights.update(dict.fromkeys(earlier, 0.5 / max(len(earlier), 1)))
        stages.append(Stage(until=max((k + 1) * steps // 4, k + 1), weights=weights))
    return Curriculum(stages=tuple(stages))


def skills() -> dict[str, Make]:
    names = list(SKILLS)
    return {
        "uniform": lambda steps, seed: Uniform(),
        "random": lambda steps, seed: random_mixture(names, seed),
        "curriculum": lambda steps, seed: curriculum(steps),
        "skill_it": lambda steps, seed: SkillIt(edges=GRAPH, every=max(steps // 10, 1)),
        "aioli": lambda steps, seed: aioli(steps, len(names)),
        "ado": lambda steps, seed: ado(steps),
        "ours": ours,
    }


def domains(static: dict[str, float] | None) -> dict[str, Make]:
    made: dict[str, Make] = {
        "uniform": lambda steps, seed: Uniform(),
        "proportional": lambda steps, seed: Proportional(),
        "doremi": lambda steps, seed: Doremi(),
        "odm": lambda steps, seed: Odm(warmup=max(steps // 50, 1)),
        "ado": lambda steps, seed: ado(steps),
        "aioli": lambda steps, seed: aioli(steps, 8),
        "ours": ours,
        "ours_target": ours,
        "target_mix": lambda steps, seed: TargetMix(warmup=max(steps // 50, 1), temperature=1.0),
    }
    if static is not None:
        made["static"] = lambda steps, seed: Fixed(weights=static)
    return made


SHARES = {f"keep_{percent}": percent / 100 for percent in (25, 33, 50, 70)}
"""Arms of "b3" that read a fixed share of the store, that most like the target."""


def _kept(share: float) -> Make:
    return lambda steps, seed: Likeness(keep=share)


def dirty() -> dict[str, Make]:
    return {
        "all": lambda steps, seed: Proportional(),
        "random": lambda steps, seed: ColumnSelect(column="random", keep=0.5),
        "prepared": lambda steps, seed: ColumnSelect(column="likeness", keep=0.2),
        "oracle": lambda steps, seed: ColumnSelect(column="relevant", keep=0.2),
        "rho1": lambda steps, seed: Rho1(keep=0.6),
        "rho": lambda steps, seed: RhoSelect(keep=0.5),
        "greats": lambda steps, seed: Greats(),
        "lin_upper": lambda steps, seed: LinUpper(burn_in=max(steps // 10, 1)),
        "color": lambda steps, seed: Color(keep=0.2),
        "target_mix": lambda steps, seed: TargetMix(warmup=max(steps // 50, 1)),
        "mix_color": lambda steps, seed: Chain(TargetMix(warmup=max(steps // 50, 1)), Color(keep=0.25)),
        "likeness_tenth": lambda steps, seed: Likeness(keep=0.1),
        "ours_weighted": lambda steps, seed: Chain(
            Likeness(keep=0.16), LinUpper(burn_in=max(steps // 10, 1))
        ),
        "ours": ours,
        **{arm: _kept(share) for arm, share in SHARES.items()},
    }


def control() -> dict[str, Make]:
    return {
        "proportional": lambda steps, seed: Proportional(),
        "ado": lambda steps, seed: ado(steps),
        "ours": ours,
    }
