"""What earlier candidates did on data with similar evidence: one JSON line each, read before planning."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tillage.core.errors import UserError
from tillage.core.spec import Spec
from tillage.core.workspace import write_atomic

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

    def export(self, path: Path, goal: str = "") -> int:
        """Copy the experiences of goals that begin so to a file of JSON lines; returns how many."""
        found = [known for known in self.all() if known.goal.startswith(goal)]
        write_atomic(path, "".join(known.model_dump_json() + "\n" for known in found))
        return len(found)

    def clear(self, goal: str | None = None) -> int:
        """Forget the experiences of one recipe's name, or all of them; returns how many."""
        found = self.all()
        kept = [known for known in found if goal is not None and known.goal != goal]
        if kept:
            write_atomic(self.path, "".join(known.model_dump_json() + "\n" for known in kept))
        else:
            self.path.unlink(missing_ok=True)
        return len(found) - len(kept)

    def losers(self, evidence: Mapping[str, float]) -> dict[str, str]:
        """Strategies that lost clearly wherever the evidence was nearly this, and by what.

        A strategy lost where another one of the same goal was better with intervals apart, if it never was
        the best one itself on data within `ALIKE` of this.
        """
        near = [known for known in self.all() if _distance(known.evidence, evidence) <= ALIKE]
        best: dict[str, Experience] = {}
        for known in near:
            goal = known.goal.removesuffix(f"-{known.strategy}")
            if goal not in best or known.effect < best[goal].effect:
                best[goal] = known
        lost: dict[str, str] = {}
        won = {known.strategy for known in best.values()}
        for known in near:
            winner = best[known.goal.removesuffix(f"-{known.strategy}")]
            if known.strategy not in won and known.low > winner.high:
                lost[known.strategy] = (
                    f"{known.effect:+.4f} [{known.low:+.4f}, {known.high:+.4f}] bits per byte on such data, "
                    f"where {winner.strategy} had {winner.effect:+.4f} "
                    f"[{winner.low:+.4f}, {winner.high:+.4f}]"
                )
        return lost

    def scores(self, evidence: Mapping[str, float]) -> dict[str, float]:
        """Strategy -> expected effect on data with this evidence; strategies never tried are absent."""
        return expected_effects(self.all(), evidence)


ALIKE = 0.15
"""Sum of differences of shares up to which two corpora count as alike."""


def _distance(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    return sum(abs(a.get(key, 0.0) - b.get(key, 0.0)) for key in a.keys() | b.keys())


def expected_effects(experiences: Iterable[Experience], evidence: Mapping[str, float]) -> dict[str, float]:
    """Kernel-weighted mean effect of each strategy, shrunk toward zero by one imaginary null result.

    The weight of an experience is exp(-4 d), d the sum of absolute differences between the two evidences.
    """
    weights: dict[str, float] = {}
    sums: dict[str, float] = {}
    for known in experiences:
        weight = math.exp(-_SCALE * _distance(known.evidence, evidence))
        weights[known.strategy] = weights.get(known.strategy, 0.0) + weight
        sums[known.strategy] = sums.get(known.strategy, 0.0) + weight * known.effect
    return {name: sums[name] / (weights[name] + 1.0) for name in sums}
