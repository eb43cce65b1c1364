"""One task: plan it, prepare it in full, score the rows and measure what it is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from bench.workflows.arms import fineweb, prepare
from bench.workflows.planners import Make
from bench.workflows.score import Key, Output, holding, measure, oracle, score_rows
from bench.workflows.tasks import Built

from tillage.agent.goal import FrozenGoal, Goal, freeze
from tillage.core.errors import UserError
from tillage.core.events import Cost, EventLog
from tillage.core.workspace import Workspace
from tillage.loop.planning import Planned, plan_goal


def run_task(built: Built, language: str, planner: str, make: Make) -> dict[str, Any]:
    """A row of the result; `valid` is False, with the error, where no plan was made or it did not run."""
    row: dict[str, Any] = {"task": built.task.name, "seed": built.seed, "planner": planner, "valid": False}
    workspace = Workspace(built.folder / f"workspace-{planner}")
    spent: list[Cost] = []
    log = EventLog(None, [lambda event: spent.append(event) if isinstance(event, Cost) else None])
    begun = time.perf_counter()
    try:
        frozen = freeze(Goal.from_yaml(built.goal), built.folder / f"goal-{planner}")
        planned = plan_goal(frozen, workspace, log, planner=make(workspace, log))
        row["seconds"] = round(time.perf_counter() - begun, 2)
        output = prepare(planned.chosen.recipe, workspace)
    except UserError as error:
        return row | _spent(spent) | {"seconds": round(time.perf_counter() - begun, 2), "error": str(error)}
    row |= _planned(planned) | _spent(spent)
    return row | {"valid": True} | _scores(built, frozen, workspace, output, language)


def _planned(planned: Planned) -> dict[str, Any]:
    meter = planned.ladder.meter
    asked = [v for v in planned.verdicts if v.proposal.planner.startswith("llm:")]
    return {
        "chosen": planned.chosen.name,
        "steps": [step.op.name for step in planned.chosen.recipe.steps],
        "probe_runs": meter.runs if meter is not None else 0,
        "by_model": len(asked),
        "by_model_passed": sum(v.passed for v in asked),
        "model_won": planned.chosen in asked,
    }


def _spent(costs: Sequence[Cost]) -> dict[str, Any]:
    """What the language model cost: its ledger's last word, which counts from the beginning of the task."""
    last = costs[-1] if costs else Cost(calls=0, tokens=0, money=0.0)
    return {"calls": last.calls, "tokens": last.tokens, "money": round(last.money, 6)}


def _scores(
    built: Built, frozen: FrozenGoal, workspace: Workspace, output: dict[Key, Output], language: str
) -> dict[str, Any]:
    scores = score_rows(built.rows, output)
    holdout = frozen.holdout(1, "benchmark")
    leaked = holding(built.rows, [*frozen.search(), *holdout])
    unleaked = [row for row in built.rows if (row.file, row.line) not in leaked]
    raw = [row.text for row in unleaked]
    arms = {"planner": _texts(output, leaked), "oracle": oracle(unleaked)}
    try:
        fixed = _texts(prepare(fineweb(frozen, language), workspace, commit=False), leaked)
    except UserError:
        fixed = []  # it cannot read the data, as with other schemas
    if sum(map(len, fixed)) > 20_000:
        arms["fineweb"] = fixed
    worth = measure(arms, raw, holdout)
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
