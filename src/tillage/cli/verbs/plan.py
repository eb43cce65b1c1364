"""`tillage plan GOAL.yaml -o recipe.yaml`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tillage.agent.commits import PERSON, RecipeHistory
from tillage.agent.embedded import EmbeddedPlanner
from tillage.agent.findings import Rung
from tillage.agent.goal import Goal, freeze, goal_folder
from tillage.agent.planner import Planner
from tillage.agent.planners import memory, planner_from_environment
from tillage.agent.verify import Verdict
from tillage.cli.answer import DONE, FAILED, Answer, Writing, dry, need_file
from tillage.cli.live import logged
from tillage.cli.review import asked, review
from tillage.cli.views import table
from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.text import signed
from tillage.core.workspace import Workspace
from tillage.flow.recipe import Recipe
from tillage.llm.endpoint import endpoint
from tillage.llm.local import LOCAL
from tillage.llm.settings import LLMSettings
from tillage.loop.planning import plan_goal


def plan(
    goal: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("recipe.yaml"),
    top: Rung = "effect",
    planner: Literal["auto", "embedded", "llm"] = "auto",
    llm: Literal["local"] | None = None,
    fallback: Annotated[bool, Parameter(negative="")] = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
    common: Writing = Writing(),
) -> Answer:
    """Propose recipes for a goal from the evidence, and write the best supported one.

    The target is frozen and split first; the data is profiled; each proposal climbs the verification ladder.
    On a terminal the plan is shown with its reasons and waits for yes, no or edit; without one nobody can be
    asked and it is written. Either way `tillage undo` takes it back.

    Args:
        goal: the goal's YAML file.
        out: the recipe to write.
        top: the highest rung to climb: contract, sample, distribution or effect.
        planner: embedded rules, which need no key; llm, the endpoint that TILLAGE_LLM_URL,
            TILLAGE_LLM_MODEL and TILLAGE_LLM_KEY name; or auto, the endpoint if one is named. What a language
            model proposes competes with what the embedded rules propose.
        llm: local serves a small model on this machine for the time of the command.
        fallback: where the language model fails, go on with the embedded planner and say so.
        yes: write the recipe without asking.
    """
    wanted = Goal.from_yaml(need_file(goal, "the goal"))
    folder = goal_folder(wanted, common.space)
    if common.dry_run:
        return dry(f"profile the data of goal {wanted.name}, propose recipes and verify them", [out, folder])
    name = f"plan-{folder.name}"
    named = LOCAL if llm == LOCAL and planner != "embedded" else None
    with (
        nullcontext() if planner == "embedded" else endpoint(named) as settings,
        logged("plan", common.space.run(name), wanted.seed, common.json) as log,
    ):
        planned = plan_goal(
            freeze(wanted, folder),
            common.space,
            log,
            top=top,
            planner=_planner(planner, settings, common.space, log, fallback),
        )
    chosen, why, verdicts = planned.chosen, planned.why, planned.verdicts
    history = RecipeHistory(out, common.space)
    ask = not yes and asked()
    accepted: Recipe | None = chosen.recipe
    if ask:
        old = out.read_text("utf-8") if out.exists() else None
        accepted = review(chosen.recipe, f"{chosen.name}: {why}", old, out.name)
    if accepted is not None:
        history.enter(chosen, chosen.proposal.planner)
        if accepted != chosen.recipe:
            history.commit(accepted.to_yaml(), PERSON, "edited before it was accepted")
    written = "nobody was asked: there is no terminal (--yes says that this is meant)"
    end = [f"recipe: {out}; tillage report {name} tells the rest; tillage undo {out} takes it back"]
    end += [written] if not ask and not yes else []
    end = end if accepted is not None else [f"not written: {out} is as it was"]
    rows = [[v.name, "passed" if v.passed else v.rungs[-1].rung, _effect(v), _said(v)] for v in verdicts]
    return Answer(
        {
            "recipe": str(out) if accepted is not None else None,
            "accepted": accepted is not None,
            "asked": ask,
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
            *end,
        ],
        DONE if accepted is not None else FAILED,
    )


def _planner(
    name: str, settings: LLMSettings | None, workspace: Workspace, log: EventLog, fallback: bool
) -> Planner:
    if name == "llm" and settings is None:
        raise UserError(
            "no language model is configured",
            where="TILLAGE_LLM_URL",
            expected="an OpenAI-compatible endpoint",
            hint="set TILLAGE_LLM_URL, TILLAGE_LLM_MODEL and TILLAGE_LLM_KEY; or use --llm local",
        )
    if settings is None:
        return EmbeddedPlanner(memory(workspace))
    return planner_from_environment(workspace, log, settings, fallback)


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
