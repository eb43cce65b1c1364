"""One task: plan it, prepare it in full, score the rows and measure what it is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.workflows.arms import fineweb, prepare
from bench.workflows.score import Key, Output, measure, oracle, score_rows
from bench.workflows.tasks import Built

from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.goal import FrozenGoal, Goal, freeze
from tillage.agent.planner import Planner
from tillage.core.errors import UserError
from tillage.core.events import Cost, EventLog
from tillage.core.workspace import Workspace
from tillage.loop.planning import Planned, plan_goal

Make = Callable[[Workspace, EventLog], Planner]


class Planners:
    """The planners asked for, each made anew for a task."""

    def __init__(self, names: Sequence[str]) -> None:
        known: dict[str, Make] = {"embedded": lambda workspace, log: EmbeddedPlanner()}
        self.chosen = [(name, known[name]) for name in names]

    def __iter__(self) -> Iterator[tuple[str, Make]]:
        return iter(self.chosen)


def run_task(built: Built, language: str, planner: str, make: Make) -> dict[str, Any]:
    """A row of the result; `valid` is False, with the error, where no plan was made or it did not run."""
    row: dict[str, Any] = {"task": built.task.name, "seed": built.seed, "planner": planner, "valid": False}
    workspace = Workspace(built.folder / f"workspace-{planner}")
    calls: list[Cost] = []
    log = EventLog(None, [lambda event: calls.append(event) if isinstance(event, Cost) else None])
    begun = time.perf_counter()
    try:
        frozen = freeze(Goal.from_yaml(built.goal), built.folder / f"goal-{planner}")
        planned = plan_goal(frozen, workspace, log, planner=make(workspace, log))
        row["seconds"] = round(time.perf_counter() - begun, 2)
        output = prepare(planned.chosen.recipe, workspace)
    except UserError as error:
        return row | {"seconds": round(time.perf_counter() - begun, 2), "error": str(error)}
    row |= _planned(planned, calls)
    return row | {"valid": True} | _scores(built, frozen, workspace, output, language)


def _planned(planned: Planned, calls: Sequence[Cost]) -> dict[str, Any]:
    meter = planned.ladder.meter
    return {
        "chosen": planned.chosen.name,
        "steps": [step.op.name for step in planned.chosen.recipe.steps],
        "probe_runs": meter.runs if meter is not None else 0,
        "tokens": sum(call.tokens_in + call.tokens_out for call in calls),
        "money": round(sum(call.cost or 0.0 for call in calls), 6),
    }


def _scores(
    built: Built, frozen: FrozenGoal, workspace: Workspace, output: dict[Key, Output], language: str
) -> dict[str, Any]:
    scores = score_rows(built.rows, output)
    leaked = {(row.file, row.line) for row in built.rows if row.fault == "contamination"}
    raw = [row.text for row in built.rows if (row.file, row.line) not in leaked]
    arms = {
        "planner": _texts(output, leaked),
        "oracle": oracle([row for row in built.rows if row.fault != "contamination"]),
    }
    try:
        fixed = _texts(prepare(fineweb(frozen, language), workspace, commit=False), leaked)
    except UserError:
        fixed = []  # it cannot read the data, as with other schemas
    if sum(map(len, fixed)) > 20_000:
        arms["fineweb"] = fixed
    worth = measure(arms, raw, frozen.holdout(1, "benchmark"))
    mine, best = worth["planner"].interval, worth["oracle"].interval
    fine = worth["fineweb"].interval if "fineweb" in worth else None
    gains = best.high < 0 and -best.mean >= LEAST_GAIN
    return {
        "recall": round(scores.recall, 4),
        "precision": round(scores.precision, 4),
        "clean_kept": round(scores.clean_kept, 4),
        "faulty": scores.faulty,
        "by_fault": scores.by_fault,
        "gain": round(-mine.mean, 5),
        "gain_interval": [round(-mine.high, 5), round(-mine.low, 5)],
        "oracle_gain": round(-best.mean, 5),
        "oracle_interval": [round(-best.high, 5), round(-best.low, 5)],
        "fineweb_gain": None if fine is None else round(-fine.mean, 5),
        "share_of_oracle": round(mine.mean / best.mean, 4) if gains else None,
        "worse_than_raw": mine.above(0.0),
    }


LEAST_GAIN = 0.002
"""Bits per byte: where the truth itself gains less, a share of it says nothing."""


def _texts(output: dict[Key, Output], leaked: set[Key]) -> list[str]:
    return [out.text for key, out in output.items() if key not in leaked and out.text]
