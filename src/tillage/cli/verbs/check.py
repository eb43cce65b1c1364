"""`tillage check recipe.yaml`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tillage.cli.answer import DONE, WRONG_INPUT, Answer, Writing, dry, need_file
from tillage.cli.live import watch
from tillage.cli.views import accounts_view
from tillage.flow.check import check as contract
from tillage.flow.recipe import Recipe
from tillage.flow.run import sample_run


def check(recipe: Path, /, *, sample: int = 0, common: Writing = Writing()) -> Answer:
    """Check a recipe's contract; with --sample, run it on a sample and balance its accounts.

    Exits with 2 when the contract does not hold.

    Args:
        recipe: the recipe's YAML file.
        sample: rows to run it on; 0 runs nothing.
    """
    parsed = Recipe.from_yaml(need_file(recipe, "the recipe"))
    findings = contract(parsed)
    known = {
        "recipe": parsed.name,
        "fingerprint": parsed.fingerprint(),
        "findings": [asdict(f) for f in findings],
    }
    if findings:
        return Answer(
            known,
            [f"the contract of {parsed.name} does not hold:", *(f"  {f}" for f in findings)],
            WRONG_INPUT,
        )
    holds = (
        f"the contract of {parsed.name} holds: {len(parsed.steps)} steps, fingerprint {parsed.fingerprint()}"
    )
    if not sample:
        return Answer(known, [holds], DONE)
    if common.dry_run:
        return dry(f"run {parsed.name} on {sample} rows", [common.space.root])
    with watch(common.json) as log:
        result = sample_run(parsed, common.space, log, sample)
    books = [asdict(step) for step in result.accounts]
    return Answer(
        {**known, "accounts": books, "digest": result.digest, "run": result.run, "seconds": result.seconds},
        [holds, accounts_view(result.accounts), f"the accounts balance; run {result.run}"],
    )
