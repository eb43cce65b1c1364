"""Where every row went: a waterfall a run, and the books of each step."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tillage.core.events import Committed, StageDone, StepAccount, Tokenised
from tillage.core.text import amount, percent, seconds, size
from tillage.report.charts import Fall, spark, waterfall
from tillage.report.html import Html, badge, details, el, figure, join, table
from tillage.report.log import Log, group

LINEAGE = 4000
"""Characters of a lineage shown: it names every input file."""


def section(log: Log) -> Html | None:
    accounts, committed = log.all(StepAccount), log.all(Committed)
    if not accounts and not committed:
        return None
    parts: list[Html] = []
    others: list[Html] = []
    # Runs whose rows became a dataset are what counts; trials on samples are there to be looked up.
    final = {event.lineage.get("run") for event in committed}
    for run, steps in group(accounts, lambda event: event.run).items():
        # A run that was resumed tells its books again: the last word of each step counts.
        books = list({step.step: step for step in steps}.values())
        if run in final or not final:
            parts.append(join(el("h3", "Run ", el("code", run)), _books(books)))
        else:
            others.append(details(join("Run ", el("code", run)), _books(books)))
    return join(
        el("h2", "Accounts"),
        el(
            "p",
            "Rows in, and those that a step makes of others, = kept + dropped by a named reason + "
            "quarantined. Checked by the engine and again by this page.",
            class_="lead",
        ),
        parts,
        details(f"Runs that were not committed: {len(others)}", *others) if others else None,
        _datasets(committed),
        _stages(log.all(StageDone)),
        _stores(log.all(Tokenised)),
    )


def balanced(step: StepAccount) -> bool:
    """rows in + added = rows out + dropped + quarantined."""
    return step.rows_in + step.added == step.rows_out + sum(step.dropped.values()) + sum(
        step.quarantined.values()
    )


def _books(books: Sequence[StepAccount]) -> Html:
    falls: list[Fall] = []
    rows: list[list[Html | str]] = []
    for step in books:
        gone = {**step.dropped, **{f"{reason} (quarantined)": n for reason, n in step.quarantined.items()}}
        why = ", ".join(
            f"{reason} {amount(n)}" for reason, n in sorted(gone.items(), key=lambda item: -item[1])
        )
        detail = f"{step.step}: {amount(step.rows_in)} in, {amount(step.rows_out)} out. {why}"
        lost = max(0, step.rows_in - step.rows_out)
        note = f"−{percent(lost / step.rows_in)}" if lost and step.rows_in else amount(step.rows_out)
        if step.added:
            why += f" into {amount(step.added)}"
        falls.append(Fall(step.step, step.rows_in, step.rows_out, note, detail))
        label = step.step if step.step == step.operator else f"{step.step} ({step.operator})"
        share = percent(step.rows_out / step.rows_in) if step.rows_in else "–"
        rows.append(
            [
                label,
                amount(step.rows_in),
                amount(step.rows_out),
                el("span", spark(step.rows_out, step.rows_in), " ", share, class_="nowrap"),
                f"{size(step.bytes_in)} → {size(step.bytes_out)}",
                el("span", why or "–", class_="small"),
                join() if balanced(step) else badge("does not balance", "bad"),
            ]
        )
    first, last, wrong = books[0], books[-1], sum(not balanced(step) for step in books)
    verdict = "All steps balance." if not wrong else f"{wrong} of {len(books)} steps do not balance."
    kept = f"{amount(last.rows_out)} of {amount(first.rows_in)} rows are left"
    if first.rows_in:
        share = percent(last.rows_out / first.rows_in)
        kept += f" ({share}), {size(last.bytes_out)} of {size(first.bytes_in)} of text"
    caption = join(kept, ". ", el("span", verdict, class_="good" if not wrong else "bad"))
    head = ("step", "rows in", "kept", "share kept", "text", "dropped because", "")
    return join(
        figure(caption, waterfall(falls, "rows")),
        details("The books", table(head, rows, (1, 2, 4)), open_=True),
    )


def _datasets(committed: Sequence[Committed]) -> Html | None:
    if not committed:
        return None
    rows: list[list[Html | str]] = []
    for event in committed:
        lineage = {key: value for key, value in event.lineage.items() if key not in ("accounts", "recipe")}
        more = join(
            el("pre", json.dumps(lineage, indent=1, ensure_ascii=False)[:LINEAGE]),
            el("pre", str(event.lineage.get("recipe", ""))),
        )
        rows.append(
            [
                el("code", event.dataset),
                str(event.version),
                amount(event.rows),
                size(event.bytes),
                el("code", event.digest[:16]),
                details(str(event.lineage.get("run", "lineage")), more),
            ]
        )
    head = ("dataset", "version", "rows", "text", "digest", "lineage")
    return join(el("h3", "Dataset versions"), table(head, rows, (1, 2, 3)))


def _stages(stages: Sequence[StageDone]) -> Html | None:
    if not stages:
        return None
    rows = [
        [
            event.stage,
            ", ".join(event.steps),
            amount(event.rows),
            size(event.bytes),
            "reused" if event.reused else seconds(event.seconds),
        ]
        for event in stages
    ]
    return details(
        f"{len(stages)} stages", table(("stage", "steps", "rows", "bytes", "time"), rows, (2, 3, 4))
    )


def _stores(stores: Sequence[Tokenised]) -> Html | None:
    if not stores:
        return None
    rows = [
        [
            el("code", event.store),
            el("code", event.fingerprint),
            amount(event.documents),
            amount(event.tokens),
            seconds(event.seconds),
        ]
        for event in stores
    ]
    head = ("token store", "fingerprint", "documents", "tokens", "time")
    return join(el("h3", "Token stores"), table(head, rows, (2, 3, 4)))
