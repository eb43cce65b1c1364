"""`tillage run recipe.yaml`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from tillage.cli.answer import Answer, Writing, dry, need_file
from tillage.cli.lean import reuse_memory, spare_imports
from tillage.cli.live import watch
from tillage.cli.views import accounts_view
from tillage.core.text import amount, seconds, size
from tillage.flow.check import require
from tillage.flow.estimate import estimate
from tillage.flow.expected import Estimate, Range
from tillage.flow.recipe import Recipe
from tillage.flow.run import run as execute


def run(
    recipe: Path,
    /,
    *,
    runner: Literal["native", "ray"] = "native",
    fresh: bool = False,
    append: bool = False,
    probe: bool = True,
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
        probe: with --dry-run, run pieces of the input to estimate rows, time, disk and memory; the estimate
            is kept in the workspace, and the run says how far it was off.
    """
    parsed = Recipe.from_yaml(need_file(recipe, "the recipe"))
    spare_imports()
    reuse_memory()
    if common.dry_run:
        require(parsed)
        where = [parsed.dataset_path(common.space), common.space.runs, common.space.stages]
        found = estimate(parsed, common.space) if probe else None
        does = f"run the {len(parsed.steps)} steps of {parsed.name} on the {runner} runner"
        return expected(dry(does, where), found)
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


def expected(answer: Answer, found: Estimate | None) -> Answer:
    """The answer to `--dry-run` with what the run is expected to take."""
    if found is None:
        return answer

    def line(name: str, value: Range, shown: Callable[[float], str]) -> str:
        return f"{name:<8} {shown(value.mean)}  [{shown(value.low)} to {shown(value.high)}]"

    lines = [
        f"estimated from {size(found.probed_bytes)} of {size(found.bytes)}; {size(found.new_bytes)} are new:",
        line("rows", found.rows, amount),
        line("kept", found.kept, amount),
        line("time", found.seconds, seconds),
        line("disk", found.disk, size),
        line("memory", found.memory, size),
    ]
    view = [
        *answer.view[:-1],
        *lines,
        "nothing was written (--dry-run) but the estimate, for the run to compare with",
    ]
    return Answer({**answer.data, "estimate": asdict(found)}, view, answer.code)
