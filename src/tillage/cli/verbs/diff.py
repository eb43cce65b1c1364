"""`tillage diff A B`: two dataset versions, or two runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.console import RenderableType
from rich.text import Text

from tillage.cli.answer import Answer, Common
from tillage.cli.views import table
from tillage.core.events import StepAccount
from tillage.core.text import amount, percent
from tillage.core.workspace import Workspace
from tillage.data.refs import names, open_ref
from tillage.data.rows import printable
from tillage.flow.diff import StepDiff
from tillage.flow.diff import diff as compare_runs
from tillage.flow.versions import VersionDiff, compare

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_SHIFTS = 12


def diff(a: str, b: str, /, *, common: Common = Common()) -> Answer:
    """Compare two dataset versions (rows in, out and changed, shifts, examples) or two finished runs.

    Args:
        a: DATASET@VERSION, DATASET@TAG or a dataset's name; or a run's name or the beginning of it.
        b: the other one, of the same kind.
    """
    if _is_dataset(a, common.space) and _is_dataset(b, common.space):
        found = compare(open_ref(a, common.space), open_ref(b, common.space))
        return Answer(asdict(found), _versions_view(found))
    runs = compare_runs(a, b, common.space)
    same = "the same digest" if runs.same_digest else "different digests"
    only = f"only by {runs.a} {amount(runs.only_a)}, only by {runs.b} {amount(runs.only_b)}"
    kept = f"kept by both {amount(runs.both)}, {only}"
    return Answer(
        asdict(runs), [*_recipe(runs.recipe), _steps(runs.steps, runs.a, runs.b), f"{kept}; {same}"]
    )


def _is_dataset(ref: str, workspace: Workspace) -> bool:
    return "@" in ref or ref in names(workspace)


def _versions_view(found: VersionDiff) -> list[RenderableType]:
    view: list[RenderableType] = [*_recipe(found.recipe)]
    if found.steps:
        view.append(_steps(found.steps, found.a, found.b))
    same = "the same digest" if found.same_digest else "different digests"
    view.append(
        f"{found.a}: {amount(found.rows_a)} rows; {found.b}: {amount(found.rows_b)} rows; "
        f"in {amount(found.only_b)}, out {amount(found.only_a)}, changed {amount(found.changed)}, "
        f"unchanged {amount(found.unchanged)}; {same}"
    )
    for name, columns in ((found.a, found.columns_only_a), (found.b, found.columns_only_b)):
        if columns:
            view.append(f"columns only of {name}: {', '.join(columns)}")
    if found.domains:
        rows = [
            [name or "(none)", amount(x), amount(y), _share(x, found.rows_a), _share(y, found.rows_b)]
            for name, (x, y) in found.domains.items()
        ]
        view.append(table(("domain", f"rows {found.a}", found.b, "share", "share"), rows, (1, 2, 3, 4)))
    moved = [shift for shift in found.shifts if shift.distance > 0][:_SHIFTS]
    if moved:
        rows = [[s.column, _quantiles(s.a), _quantiles(s.b), f"{s.distance:.3f}"] for s in moved]
        head = ("measurement", f"10, 50, 90 % of {found.a}", f"of {found.b}", "KS distance")
        view.append(table(head, rows, (3,)))
    for kind, examples in found.examples.items():
        for row in examples:
            texts = " → ".join(_line(row[side]) for side in ("a", "b") if side in row)
            view.append(f"{kind} {row['id']}: {texts}")
    return view


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "-"


def _quantiles(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _line(text: str) -> str:
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= 80 else flat[:79] + "…"


def _recipe(lines: Sequence[str]) -> list[RenderableType]:
    return [Text(line, _COLOURS.get(line[:1], "")) for line in lines] or ["the recipes are the same"]


def _steps(steps: Sequence[StepDiff], a: str, b: str) -> RenderableType:
    rows = [[step.step, *_books(step.a), *_books(step.b)] for step in steps]
    return table(("step", f"{a}: in", "out", f"{b}: in", "out"), rows, (1, 2, 3, 4))


def _books(step: StepAccount | None) -> tuple[str, str]:
    return ("-", "-") if step is None else (amount(step.rows_in), amount(step.rows_out))
