"""`tillage plan GOAL.yaml -o recipe.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.findings import Rung
from tillage.agent.goal import Goal, freeze, goal_folder
from tillage.agent.planner import Planner
from tillage.agent.planners import memory, planner_from_environment
from tillage.agent.verify import Verdict
from tillage.cli.answer import Answer, Writing, dry, need_file
from tillage.cli.live import logged
from tillage.cli.views import table
from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.text import signed
from tillage.core.workspace import Workspace, write_atomic
from tillage.llm.settings import LLMSettings
from tillage.loop.planning import plan_goal


def plan(
    goal: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("recipe.yaml"),
    top: Rung = "effect",
    planner: Literal["auto", "embedded", "llm"] = "auto",
    common: Writing = Writing(),
) -> Answer:
    """Propose recipes for a goal from the evidence, and write the best supported one.

    The target is frozen and split first; the data is profiled; each proposal climbs the verification ladder.

    Args:
        goal: the goal's YAML file.
        out: the recipe to write.
        top: the highest rung to climb: contract, sample, distribution or effect.
        planner: embedded rules, which need no key; llm, the endpoint that TILLAGE_LLM_URL,
            TILLAGE_LLM_MODEL and TILLAGE_LLM_KEY name; or auto, the endpoint if one is named.
    """
    wanted = Goal.from_yaml(need_file(goal, "the goal"))
    folder = goal_folder(wanted, common.space)
    if common.dry_run:
        return dry(f"profile the data of goal {wanted.name}, propose recipes and verify them", [out, folder])
    name = f"plan-{folder.name}"
    with logged("plan", common.space.run(name), wanted.seed, common.json) as log:
        planned = plan_goal(
            freeze(wanted, folder),
            common.space,
            log,
            top=top,
            planner=_planner(planner, common.space, log),
        )
    chosen, why, verdicts = planned.chosen, planned.why, planned.verdicts
    write_atomic(out, chosen.recipe.to_yaml())
    rows = [[v.name, "passed" if v.passed else v.rungs[-1].rung, _effect(v), _said(v)] for v in verdicts]
    return Answer(
        {
            "recipe": str(out),
            "run": name,
            "chosen": chosen.name,
            "why": why,
            "candidates": [
                {
                    "name": v.name,
                    "passed": v.passed,
                    "effect": _numbers(v),
                    "findings": [str(f) for f in v.findings],
                    "repairs": len(v.repairs),
                    "recipe": v.recipe.to_dict(),
                    "whys": v.proposal.whys,
                }
                for v in verdicts
            ],
        },
        [
            table(("candidate", "ladder", "effect, bits/byte", "findings"), rows),
            f"chosen: {chosen.name}: {why}",
            f"recipe: {out}; tillage report {name} tells the rest",
        ],
    )


def _planner(name: str, workspace: Workspace, log: EventLog) -> Planner:
    if name == "embedded":
        return EmbeddedPlanner(memory(workspace))
    if name == "llm" and LLMSettings.from_environment() is None:
        raise UserError(
            "no language model is configured",
            where="TILLAGE_LLM_URL",
            expected="an OpenAI-compatible endpoint",
            hint="set TILLAGE_LLM_URL, TILLAGE_LLM_MODEL and, if it wants one, TILLAGE_LLM_KEY",
        )
    return planner_from_environment(workspace, log)


def _numbers(verdict: Verdict) -> dict[str, float] | None:
    if verdict.effect is None:
        return None
    interval = verdict.effect.interval
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def _effect(verdict: Verdict) -> str:
    numbers = _numbers(verdict)
    if numbers is None:
        return "-"
    return f"{signed(numbers['mean'])} [{signed(numbers['low'])}, {signed(numbers['high'])}]"


def _said(verdict: Verdict) -> str:
    return f"{verdict.name}: " + "; ".join(map(str, verdict.findings)) if verdict.findings else ""
