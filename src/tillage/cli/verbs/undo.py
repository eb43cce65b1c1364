"""`tillage undo [recipe.yaml]`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import RenderableType

from tillage.agent.commits import Commit, RecipeHistory
from tillage.cli.answer import Answer, Writing, dry
from tillage.cli.views import table
from tillage.core.errors import UserError


def undo(
    recipe: Path = Path("recipe.yaml"),
    /,
    *,
    list_: Annotated[bool, Parameter(name=["--list", "-l"], negative="")] = False,
    common: Writing = Writing(),
) -> Answer:
    """Take the last change of a recipe back; again, the one before it.

    Every version stays in the history, so an undo loses nothing.

    Args:
        recipe: the recipe's YAML file.
        list_: only list the versions, with who made them and why.
    """
    history = RecipeHistory(recipe, common.space)
    commits = history.all()
    if not commits:
        raise UserError(
            "the recipe has no history", where=recipe, hint="tillage plan and tillage loop write one"
        )
    if list_:
        rows = [[str(c.number), _time(c), c.author, c.kind, c.why] for c in commits]
        return Answer(
            {"recipe": str(recipe), "versions": [c.model_dump() for c in commits]},
            [table(("version", "when (UTC)", "who", "what", "why"), rows)],
        )
    if common.dry_run:
        return dry(f"take the last change of {recipe} back", [recipe, history.log])
    made = history.undo()
    lines: list[RenderableType] = [made.why, *made.diff.splitlines()]
    if made.text is None:
        lines.append(f"{recipe} is gone, as before the first version; its text is in the history")
    return Answer({"recipe": str(recipe), "exists": made.text is not None, **made.model_dump()}, lines)


def _time(commit: Commit) -> str:
    return datetime.fromtimestamp(commit.time, UTC).strftime("%Y-%m-%d %H:%M")
