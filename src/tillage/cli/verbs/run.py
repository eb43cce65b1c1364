"""`tillage run recipe.yaml`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from tillage.cli.answer import Answer, Writing, dry, need_file
from tillage.cli.live import watch
from tillage.cli.views import accounts_view
from tillage.flow.check import require
from tillage.flow.recipe import Recipe
from tillage.flow.run import run as execute


def run(
    recipe: Path,
    /,
    *,
    runner: Literal["native", "ray"] = "native",
    fresh: bool = False,
    append: bool = False,
    common: Writing = Writing(),
) -> Answer:
    """Run a recipe in full and commit a dataset version.

    Finished work is reused: the same command again after a kill goes on by itself, and after new input files
    have come it processes these alone.

    Args:
        recipe: the recipe's YAML file.
        runner: native runs here, ray on a Ray cluster (a local one if there is none). The result is the same.
        fresh: do everything again, even what is finished.
        append: add the rows to those of the dataset's newest version instead of replacing them.
    """
    parsed = Recipe.from_yaml(need_file(recipe, "the recipe"))
    if common.dry_run:
        require(parsed)
        where = [parsed.dataset_path(common.space), common.space.runs, common.space.stages]
        return dry(f"run the {len(parsed.steps)} steps of {parsed.name} on the {runner} runner", where)
    with watch(common.json) as log:
        result = execute(
            parsed, common.space, log, runner=runner, fresh=fresh, commit="append" if append else "replace"
        )
    path, version = result.dataset or (None, None)
    return Answer(
        {
            "run": result.run,
            "folder": str(result.folder),
            "dataset": {"path": path, "version": version},
            "digest": result.digest,
            "accounts": [asdict(step) for step in result.accounts],
            "reused": result.reused,
            "seconds": result.seconds,
        },
        [
            accounts_view(result.accounts),
            f"dataset: {path} version {version}, digest {result.digest}",
            f"run: {result.run} ({result.folder})",
        ],
    )
