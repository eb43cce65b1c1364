"""`tillage loop GOAL.yaml`."""

from __future__ import annotations

from pathlib import Path

from tillage.agent.goal import Goal
from tillage.cli.answer import Answer, Writing, dry, need_file
from tillage.cli.live import logged
from tillage.cli.views import end_of_loop
from tillage.core.events import Result
from tillage.flow.recipe import Recipe
from tillage.loop.rounds import loop as work
from tillage.loop.spec import LoopSpec
from tillage.report.log import Log
from tillage.report.page import build


def loop(
    goal: Path,
    /,
    *,
    rounds: int | None = None,
    training: Path | None = None,
    recipe: Path | None = None,
    common: Writing = Writing(),
) -> Answer:
    """Plan, prepare, train, feed back and revise, in rounds, for a goal.

    Args:
        goal: the goal's YAML file.
        rounds: how often to go round at most, 2 by default; each later round revises the recipe by what
            training measured, and the first that improves nothing is the last.
        training: a YAML file with model, tokens, seeds and policies, where the defaults will not do.
        recipe: a recipe to begin with, whose steps the rounds revise; without it the first one is planned.
    """
    wanted = Goal.from_yaml(need_file(goal, "the goal"))
    spec = LoopSpec.from_yaml(need_file(training, "the training file")) if training else LoopSpec()
    spec = spec if rounds is None else spec.model_copy(update={"rounds": rounds})
    given = Recipe.from_yaml(need_file(recipe, "the recipe")) if recipe else None
    name = f"{wanted.fingerprint()[:8]}" + (f"-{given.fingerprint()[:8]}" if given else "")
    folder = common.space.run(f"loop-{wanted.name}-{name}")
    page = folder / "report.html"
    if common.dry_run:
        does = f"plan, prepare and train {spec.rounds} rounds for goal {wanted.name}"
        return dry(does, [common.space.datasets, common.space.stores, folder, page])
    with logged("loop", folder, wanted.seed, common.json) as log:
        done = work(wanted, common.space, log, spec=spec, recipe=given)
    results = Log.read(folder).all(Result)
    build(folder, page)
    return end_of_loop(done, results, page, wanted.seed)
