"""Questions about a run in plain words, answered from its records: deterministic, with row ids.

A question is matched to one of a few intents; the answer is computed, never phrased by a model. A language
model, where one is configured, may only choose the intent for words that no pattern knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow.dataset as ds

from tillage.core.errors import UserError
from tillage.core.events import StepAccount
from tillage.core.text import amount, percent
from tillage.core.workspace import Workspace
from tillage.data.rows import excerpt
from tillage.data.schema import DROP
from tillage.flow.history import RunRecord, find
from tillage.flow.recipe import Recipe
from tillage.flow.why import why

Intent = Literal["why_row", "how_many", "which_rows", "worst_step", "steps", "kept", "quarantine"]
EXAMPLES: dict[Intent, str] = {
    "why_row": 'why was "Buy now" dropped?  why was 3f2a9c kept?  what happened to raw.jsonl:17?',
    "how_many": "how many rows were dropped by exact_dedup?",
    "which_rows": "which rows were dropped by gopher_quality?",
    "worst_step": "which step dropped the most?",
    "steps": "what are the steps and why are they there?",
    "kept": "how many rows were kept?",
    "quarantine": "what was quarantined?",
}
SHOWN = 5


@dataclass(frozen=True)
class Asked:
    """A question understood: `row` names a row, `step` a step, a reason or an operator of the run."""

    intent: Intent
    row: str = ""
    step: str = ""


@dataclass(frozen=True)
class Told:
    """The answer: `text` in sentences, `rows` the ids that it rests on, `facts` the figures."""

    question: str
    intent: Intent
    text: str
    rows: list[str] = field(default_factory=list[str])
    facts: Any = None


Chooser = Callable[[str, Sequence[str]], Asked | None]
"""Chooses an intent for a question that no pattern knows; gets the names of the run's steps."""


def ask(run: str, question: str, workspace: Workspace, choose: Chooser | None = None) -> Told:
    """Answer `question` about the finished run `run`.

    Raises:
        UserError: no such run, a question that is not understood (with those that are), no such row.
    """
    record = find(run, workspace)
    if not record.finished:
        raise UserError("the run has not finished", where=record.folder, got=record.status)
    names = [account.step for account in record.accounts]
    asked = understand(question, names, _reasons(record))
    if asked is None and choose is not None:
        asked = choose(question, names)
    if asked is None:
        raise UserError(
            "the question is not understood",
            got=question,
            expected="one of these: " + "; ".join(EXAMPLES.values()),
            hint="name a row by its id, its file and line, or words of its text in quotes",
        )
    return _ANSWERS[asked.intent](question, asked, record, workspace)


def understand(question: str, steps: Sequence[str], reasons: Sequence[str] = ()) -> Asked | None:
    """The intent of a question, None if no pattern fits."""
    text = " ".join(question.split())
    low = text.lower()
    step = next((n for n in sorted([*steps, *reasons], key=len, reverse=True) if _names(low, n)), "")
    row = _row(text)
    if row and re.search(r"\bwhy\b|\bwhat happened\b|\bwhere\b|\bhow\b|\bdid\b|\bwas\b", low):
        return Asked("why_row", row=row)
    if re.search(r"\bhow (many|much)\b|\bwhat share\b|\bnumber of\b", low):
        if re.search(r"\bkept|\bkeep|\bremain|\bleft|\bsurviv", low) and not step:
            return Asked("kept")
        if re.search(r"quarantin|unreadable|malformed", low) and not step:
            return Asked("quarantine")
        return Asked("how_many", step=step)
    if re.search(r"\b(which|what) (step|operator|filter)s?\b.*\b(most|worst|greedi)", low):
        return Asked("worst_step")
    if re.search(r"quarantin|unreadable|malformed", low):
        return Asked("quarantine")
    if re.search(r"\b(which|what|show|list|examples?)\b.*\b(row|document|text|record)s?\b", low):
        return Asked("which_rows", step=step)
    if step and re.search(r"\bwhy\b|\bwhat (is|does|did)\b", low):
        return Asked("steps", step=step)
    if re.search(r"\b(what|which|why|list|show)\b.*\b(steps?|recipe|operators?|filters?|plan)\b", low):
        return Asked("steps", step=step)
    return None


def _names(low: str, name: str) -> bool:
    spoken = re.escape(name.lower()).replace("_", "[ _-]")
    return re.search(rf"(?<![\w]){spoken}(?![\w])", low) is not None


def _row(text: str) -> str:
    """What names a row: quoted words, file:line, or four hex digits or more with a figure among them."""
    quoted = re.search(r"[\"“”'‘’]([^\"“”]{2,})[\"“”'‘’]", text)
    if quoted:
        return quoted[1]
    place = re.search(r"\S+\.\w+:\d+", text) or re.search(r"(\S+\.\w+),? line (\d+)", text)
    if place:
        return place[0] if place.lastindex is None else f"{place[1]}:{place[2]}"
    ids = [word for word in re.findall(r"\b[0-9a-f]{4,32}\b", text.lower()) if re.search(r"\d", word)]
    return max(ids, key=len, default="")


def _reasons(record: RunRecord) -> list[str]:
    return sorted({reason for account in record.accounts for reason in account.dropped})


def _why_row(question: str, asked: Asked, record: RunRecord, workspace: Workspace) -> Told:
    ids = _find(asked.row, record)
    if not ids:
        raise UserError("the run has no such row", where=record.run, got=asked.row)
    lines: list[str] = []
    facts: dict[str, Any] = {}
    for id, text in ids[:SHOWN]:
        life = why(id, workspace, record.run)
        end = life[-1]
        gone = next((fact for fact in life if fact.outcome in ("dropped", "quarantined")), None)
        values = ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}"
                           for k, v in (gone.values if gone else {}).items())  # fmt: skip
        if gone is not None and gone.outcome == "dropped":
            said = f"was dropped by {gone.step}: {gone.detail}" + (f" ({values})" if values else "")
            reason = next(
                (s.why for s in Recipe.from_yaml(record.recipe_path).steps if s.id == gone.step), ""
            )
            said += f"; the step is there because: {reason}" if reason else ""
        elif gone is not None:
            said = f"was quarantined: {gone.detail}"
        else:
            said = f"was kept ({end.detail})"
            changed = [fact.step for fact in life if fact.outcome == "rewritten or left"]
            said += f"; rewritten or left as it was by {', '.join(changed)}" if changed else ""
        lines.append(f"row {id} ({excerpt(text)!r}) {said}")
        facts[id] = [str(fact) for fact in life]
    if len(ids) > SHOWN:
        lines.append(f"... and {len(ids) - SHOWN} more rows that fit {asked.row!r}")
    return Told(question, "why_row", "\n".join(lines), [id for id, _ in ids], facts)


def _find(named: str, record: RunRecord) -> list[tuple[str, str]]:
    """(id, text) of the rows that an id's beginning, a file:line or words of the text name."""
    place = re.fullmatch(r"(.+):(\d+)", named)
    found: dict[str, str] = {}
    for path in [*record.kept, *record.dropped]:
        table = ds.dataset(path, format="parquet")
        names = [name for name in ("id", "text", "source", "line") if name in table.schema.names]
        if re.fullmatch(r"[0-9a-f]{4,32}", named):
            test: Any = (ds.field("id") >= named) & (ds.field("id") < named + "g")
        elif place is not None:
            test = ds.field("line") == int(place[2])
        else:
            test = None
        for batch in table.to_batches(columns=names, filter=test):
            for row in batch.to_pylist():
                text = row["text"] or ""
                if place is not None and not _same_file(place[1], row["source"]):
                    continue
                if test is None and named.lower() not in text.lower():
                    continue
                found[row["id"]] = text
    return sorted(found.items())


def _same_file(asked: str, source: str) -> bool:
    return Path(asked).name == Path(source.split(":")[-1]).name


def _how_many(question: str, asked: Asked, record: RunRecord, workspace: Workspace) -> Told:
    del workspace
    counts = {
        (account.step, reason): count
        for account in record.accounts
        for reason, count in account.dropped.items()
        if asked.step in ("", account.step, reason)
    }
    total = sum(counts.values())
    read = record.accounts[0].rows_in if record.accounts else 0
    of = f" by {asked.step}" if asked.step else ""
    share = f", {percent(total / read)} of the {amount(read)} rows read" if read else ""
    parts = "; ".join(f"{step}: {reason} {amount(n)}" for (step, reason), n in _largest(counts))
    text = f"{amount(total)} rows were dropped{of}{share}" + (f" ({parts})" if parts else "")
    ids = _dropped(record, asked.step)
    return Told(question, "how_many", text, ids[:SHOWN], {f"{s}:{r}": n for (s, r), n in counts.items()})


def _which_rows(question: str, asked: Asked, record: RunRecord, workspace: Workspace) -> Told:
    del workspace
    ids = _dropped(record, asked.step)
    of = f" by {asked.step}" if asked.step else ""
    if not ids:
        return Told(question, "which_rows", f"no rows were dropped{of}")
    rest = f" and {amount(len(ids) - SHOWN)} more" if len(ids) > SHOWN else ""
    return Told(
        question, "which_rows", f"rows dropped{of}: " + ", ".join(ids[:SHOWN]) + rest, ids[: 20 * SHOWN]
    )


def _worst_step(question: str, asked: Asked, record: RunRecord, workspace: Workspace) -> Told:
    del asked, workspace
    counts = {account.step: sum(account.dropped.values()) for account in record.accounts}
    largest = _largest(counts)
    if not largest or not largest[0][1]:
        return Told(question, "worst_step", "no step dropped a row", facts=counts)
    text = "; ".join(f"{step} dropped {amount(n)} rows" for step, n in largest[:3] if n)
    return Told(question, "worst_step", text, _dropped(record, largest[0][0])[:SHOWN], counts)


def _steps(question: str, asked: Asked, record: RunRecord, workspace: Workspace) -> Told:
    del workspace
    steps = [s for s in Recipe.from_yaml(record.recipe_path).steps if asked.step in ("", s.id)]
    books = {account.step: account for account in record.accounts}
    lines = [_line(step.id, step.op.name, step.why, books.get(step.id)) for step in steps]
    return Told(question, "steps", "\n".join(lines) or "the recipe has no steps", facts=lines)


def _line(id: str, operator: str, reason: str, books: StepAccount | None) -> str:
    counts = f": {amount(books.rows_in)} rows in, {amount(books.rows_out)} out" if books is not None else ""
    return f"{id} ({operator}){counts}" + (f"; because: {reason}" if reason else "; no reason was given")


def _kept(question: str, asked: Asked, record: RunRecord, workspace: Workspace) -> Told:
    del asked, workspace
    read = record.accounts[0].rows_in if record.accounts else 0
    share = f" ({percent(record.rows / read)})" if read else ""
    text = f"{amount(record.rows)} of {amount(read)} rows were kept{share}"
    return Told(question, "kept", text, facts={"kept": record.rows, "read": read})


def _quarantine(question: str, asked: Asked, record: RunRecord, workspace: Workspace) -> Told:
    del asked, workspace
    counts = {r: n for account in record.accounts for r, n in account.quarantined.items()}
    if not counts:
        return Told(question, "quarantine", "nothing was quarantined", facts=counts)
    text = f"{amount(sum(counts.values()))} records: " + ", ".join(f"{r} {n}" for r, n in _largest(counts))
    return Told(question, "quarantine", text, _dropped(record, "read")[:SHOWN], counts)


def _dropped(record: RunRecord, named: str) -> list[str]:
    """Ids of the rows dropped by a step or for a reason (all if empty); quarantine is the step `read`."""
    ids: list[str] = []
    for path in record.dropped:
        for batch in ds.dataset(path, format="parquet").to_batches(columns=["id", DROP]):
            for row in batch.to_pylist():
                step, _, reason = row[DROP].partition(":")
                if named in (step, reason) or (not named and step != "read"):
                    ids.append(row["id"])
    return sorted(ids)


def _largest(counts: dict[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


_ANSWERS: dict[Intent, Callable[[str, Asked, RunRecord, Workspace], Told]] = {
    "why_row": _why_row,
    "how_many": _how_many,
    "which_rows": _which_rows,
    "worst_step": _worst_step,
    "steps": _steps,
    "kept": _kept,
    "quarantine": _quarantine,
}
