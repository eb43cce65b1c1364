"""`tillage diff RUN RUN`."""

from __future__ import annotations

from dataclasses import asdict

from rich.text import Text

from tillage.cli.answer import Answer, Common
from tillage.cli.views import table
from tillage.core.events import StepAccount
from tillage.core.text import amount
from tillage.flow.diff import diff as compare


def diff(a: str, b: str, /, *, common: Common = Common()) -> Answer:
    """Compare two finished runs: recipes, accounts, the rows that they kept.

    Args:
        a: a run's name, or a beginning of it that is no other run's.
        b: the other run.
    """
    found = compare(a, b, common.space)
    rows = [[step.step, *_books(step.a), *_books(step.b)] for step in found.steps]
    head = ("step", f"{found.a}: in", "out", f"{found.b}: in", "out")
    same = "the same digest" if found.same_digest else "different digests"
    only = f"only by {found.a} {amount(found.only_a)}, only by {found.b} {amount(found.only_b)}"
    kept = f"kept by both {amount(found.both)}, {only}"
    colours = {"+": "green", "-": "red", "@": "cyan"}
    recipe = [Text(line, colours.get(line[:1], "")) for line in found.recipe] or ["the recipes are the same"]
    return Answer(asdict(found), [*recipe, table(head, rows, (1, 2, 3, 4)), f"{kept}; {same}"])


def _books(step: StepAccount | None) -> tuple[str, str]:
    return ("-", "-") if step is None else (amount(step.rows_in), amount(step.rows_out))
