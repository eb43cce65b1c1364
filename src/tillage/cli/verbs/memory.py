"""`tillage memory`: what earlier plans learned."""

from __future__ import annotations

from pathlib import Path

from tillage.agent.planners import memory as store
from tillage.cli.answer import Answer, Writing, dry
from tillage.cli.views import table
from tillage.core.errors import UserError
from tillage.core.text import signed


def memory(
    *,
    goal: str | None = None,
    export: Path | None = None,
    clear: bool = False,
    common: Writing = Writing(),
) -> Answer:
    """List what earlier plans measured: strategy, steps and effect; export it or forget it.

    Args:
        goal: only experiences of this goal (a prefix of the recipe's name).
        export: write them to this file as JSON lines.
        clear: forget them.
    """
    if clear and export is not None:
        raise UserError("export and clear exclude each other", got="both", hint="export first, then clear")
    held = store(common.space)
    found = [known for known in held.all() if goal is None or known.goal.startswith(goal)]
    if clear:
        if common.dry_run:
            return dry(f"forget {len(found)} experiences", [held.path])
        gone = sum(held.clear(name) for name in dict.fromkeys(known.goal for known in found))
        return Answer({"cleared": gone}, [f"forgot {gone} experiences"])
    if export is not None:
        if common.dry_run:
            return dry(f"export {len(found)} experiences", [export])
        written = held.export(export, goal or "")
        return Answer(
            {"exported": written, "path": str(export)}, [f"wrote {written} experiences to {export}"]
        )
    rows = [
        [known.goal, known.strategy, ", ".join(known.steps),
         f"{signed(known.effect)} [{signed(known.low)}, {signed(known.high)}]"]
        for known in found
    ]  # fmt: skip
    about = [known.model_dump(mode="json") for known in found]
    return Answer({"experiences": about}, [table(("recipe", "strategy", "steps", "effect, bits/byte"), rows)])
