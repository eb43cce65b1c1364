"""What earlier candidates did on data with similar evidence: one JSON line each, read before planning."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tillage.core.errors import UserError
from tillage.core.spec import Spec

_SCALE = 4.0  # evidence that differs by 0.25 in one share counts for a third


class Experience(Spec):
    """One measured candidate. `evidence` are shares; `effect` is in bits per byte, below zero is better."""

    goal: str
    strategy: str
    evidence: dict[str, float]
    steps: tuple[str, ...]
    recipe: dict[str, Any]
    effect: float
    low: float
    high: float


class Memory:
    """An append-only file of experiences."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, experience: Experience) -> None:
        """Append; an experience that is there already is not written twice."""
        if experience in self.all():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(experience.model_dump_json() + "\n")

    def all(self) -> list[Experience]:
        """Everything remembered, oldest first. A last line cut by a kill is left out."""
        if not self.path.exists():
            return []
        found: list[Experience] = []
        for number, line in enumerate(self.path.read_text("utf-8").splitlines(keepends=True), 1):
            if not line.endswith("\n"):
                break
            where = f"{self.path}:{number}"
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(
                    "the experience store is damaged", where=where, got=str(error), hint="delete the line"
                ) from error
            found.append(Experience.load(value, where))
        return found

    def scores(self, evidence: Mapping[str, float]) -> dict[str, float]:
        """Strategy -> expected effect on data with this evidence; strategies never tried are absent."""
        return expected_effects(self.all(), evidence)


def expected_effects(experiences: Iterable[Experience], evidence: Mapping[str, float]) -> dict[str, float]:
    """Kernel-weighted mean effect of each strategy, shrunk toward zero by one imaginary null result.

    The weight of an experience is exp(-4 d), d the sum of absolute differences between the two evidences.
    """
    weights: dict[str, float] = {}
    sums: dict[str, float] = {}
    for known in experiences:
        keys = known.evidence.keys() | evidence.keys()
        distance = sum(abs(known.evidence.get(k, 0.0) - evidence.get(k, 0.0)) for k in keys)
        weight = math.exp(-_SCALE * distance)
        weights[known.strategy] = weights.get(known.strategy, 0.0) + weight
        sums[known.strategy] = sums.get(known.strategy, 0.0) + weight * known.effect
    return {name: sums[name] / (weights[name] + 1.0) for name in sums}
