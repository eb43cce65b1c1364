"""Tables of the terminal: small views of what verbs answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from tillage.cli.answer import Answer
from tillage.core.events import Result, StepAccount
from tillage.core.text import amount, percent, size
from tillage.report.compare import verdict
from tillage.report.table import results_json, results_table

Json = Mapping[str, Any]


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = (), title: str = ""
) -> Table:
    """A plain table; columns in `right` hold numbers."""
    out = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    for number, name in enumerate(head):
        out.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        out.add_row(*(Text(cell) for cell in row))
    return out


def accounts_view(accounts: Sequence[StepAccount]) -> RenderableType:
    """The books of a run: what came in, what was kept, what was dropped and why."""
    rows: list[list[str]] = []
    for step in accounts:
        gone = {**step.dropped, **{f"quarantined: {reason}": n for reason, n in step.quarantined.items()}}
        why = ", ".join(
            f"{reason} {amount(n)}" for reason, n in sorted(gone.items(), key=lambda item: -item[1])
        )
        if step.added:
            why += f"; {amount(step.added)} rows added"
        kept = percent(step.rows_out / step.rows_in) if step.rows_in else "-"
        rows.append([step.step, amount(step.rows_in), amount(step.rows_out), kept, size(step.bytes_out), why])
    return table(("step", "rows in", "rows out", "kept", "text out", "dropped because"), rows, (1, 2, 3, 4))


def _rate(value: Any) -> str:
    return percent(value["rate"]) if isinstance(value, Mapping) else "-"


def profile_view(profile: Json) -> list[RenderableType]:
    """A profile in one screen: the whole, its domains, its languages, its lengths."""
    facts = [
        ("documents", amount(profile["documents"])),
        ("text", size(profile["bytes"])),
        *(
            (name.replace("_", " "), f"{_rate(profile[name])}  ({percent(r['low'])} to {percent(r['high'])})")
            for name in (
                "exact_duplicates",
                "near_duplicates",
                "markup",
                "code",
                "licence",
                "pii",
                "toxic",
                "quarantined",
            )
            if (r := profile.get(name))
        ),
    ]
    languages = sorted(profile["languages"].items(), key=lambda item: -item[1])[:6]
    facts.append(("languages", ", ".join(f"{name} {percent(share)}" for name, share in languages) or "-"))
    if len(profile["scripts"]) > 1:
        facts.append(("scripts", ", ".join(f"{n} {percent(s)}" for n, s in profile["scripts"].items())))
    if profile["mislabelled"]:
        facts.append(("words of another domain", _rate(profile["mislabelled"])))
    facts += _chat_facts(profile["chats"]) + _action_facts(profile.get("actions"))
    target = profile.get("target")
    if target:
        facts.append(("overlap with the target", _rate(target["overlap"])))
        facts.append(("separation from the target", f"{target['separation']:.2f}"))
    rows = [
        [
            name or "(none)",
            amount(d["documents"]),
            size(d["bytes"]),
            percent(d["share"]),
            _rate(d["exact_duplicates"]),
            _rate(d["near_duplicates"]),
            _rate(d["markup"]),
            _rate(d["code"]),
        ]
        for name, d in profile["domains"].items()
    ]
    head = ("domain", "documents", "text", "share", "copies", "near copies", "markup", "code")
    words = profile["quality"].get("words")
    out: list[RenderableType] = [table(("measured on a sample", ""), facts), table(head, rows, range(1, 8))]
    if profile["topics"]:
        topics = [
            [
                ", ".join(t["words"]),
                _rate(t["share"]),
                f"{t['domain'] or '(none)'} {percent(t['domain_share'])}",
            ]
            for t in profile["topics"]
        ]
        out.append(table(("topic", "share", "most of it"), topics, (1,)))
    if words:
        shown = ", ".join(f"{name} {value:,.0f}" for name, value in words["quantiles"].items())
        out.append(f"words a document: mean {words['mean']:,.0f}; {shown}")
    return out


def _chat_facts(chats: Json | None) -> list[tuple[str, str]]:
    if chats is None:
        return []
    turns = ", ".join(f"{name} {_rate(rate)}" for name, rate in chats["structure"].items())
    answers = ("refused", "truncated", "mismatched", "repeated_prompts")
    return [
        ("chats", amount(chats["any_structure"]["n"])),
        ("broken turns", f"{_rate(chats['any_structure'])}{f': {turns}' if turns else ''}"),
        ("answers", ", ".join(f"{name.replace('_', ' ')} {_rate(chats[name])}" for name in answers)),
    ]


def _action_facts(actions: Json | None) -> list[tuple[str, str]]:
    if actions is None or not actions["distinct"]:
        return []
    top: dict[str, float] = actions["top"]
    shown = ", ".join(f"{name} {percent(share)}" for name, share in top.items())
    kinds = f"{amount(actions['distinct'])} kinds, {actions['entropy']:.1f} bits"
    return [
        ("asked for (by word lists)", f"{kinds}, in {_rate(actions['named'])}"),
        (f"the {len(top)} most frequent", f"{percent(sum(top.values()))}: {shown}"),
    ]


def end_of_loop(done: Json, results: Sequence[Result], page: Path, seed: int) -> Answer:
    """How the demo and the loop end: the table, and where everything is."""
    data = {key: value for key, value in done.items() if key != "results"}
    dataset = done["dataset"]
    return Answer(
        {"table": results_json(results), **data, "report": str(page), "seed": seed},
        [
            results_table(results),
            ". ".join(verdict(results)),
            "",
            f"recipe   {done['recipe']}",
            f"dataset  {dataset['path']} version {dataset['version']}",
            f"report   {page}",
        ],
    )
