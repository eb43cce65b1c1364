"""`build`: one self-contained HTML page from an event log. It loads nothing, and tells the browser so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from tillage.core.events import Finished, Note, Result, Started
from tillage.core.text import seconds, size
from tillage.core.workspace import write_atomic
from tillage.report.compare import verdict
from tillage.report.html import Html, el, join
from tillage.report.log import Log
from tillage.report.sections import (
    accounts,
    contamination,
    cost,
    data,
    examples,
    feedback,
    plan,
    rerun,
    result,
    training,
    verify,
)

# The page may hold text that anybody wrote. It is escaped everywhere; even so nothing may load or run.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
SECTIONS: dict[str, Callable[[Log], Html | None]] = {
    "Result": result.section,
    "Data": data.section,
    "Plan": plan.section,
    "Verification": verify.section,
    "Accounts": accounts.section,
    "Contamination": contamination.section,
    "Examples": examples.section,
    "Training": training.section,
    "Feedback": feedback.section,
    "Cost": cost.section,
    "Do it again": rerun.section,
}


def build(source: Path, out: Path) -> Path:
    """Write the report of a run to `out` and return it.

    Args:
        source: an events.jsonl, or the run's folder that holds it.
        out: the HTML file; replaced whole or not at all.

    Raises:
        UserError: there is no event log at `source`, it is empty, or it is not one.
    """
    write_atomic(out, render(Log.read(source)))
    return out


def render(log: Log) -> str:
    """The page as text: a function of the log alone, so the same log gives the same bytes."""
    parts = [(name, markup) for name, make in SECTIONS.items() if (markup := make(log)) is not None]
    title = _title(log)
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", f"Tillage: {title}"),
        el("link", rel="icon", href="data:,"),
        el("style", Html(files("tillage.report").joinpath("style.css").read_text("utf-8"))),
    )
    links = (el("a", name, href=f"#{_anchor(name)}") for name, _ in parts)
    sections = (el("section", markup, id=_anchor(name)) for name, markup in parts)
    body = el(
        "body",
        el(
            "header", el("div", "Tillage report", class_="brand"), el("h1", title), _rests_on(log), _meta(log)
        ),
        el("nav", el("div", links)),
        el("main", _notes(log), sections),
        el("footer", _foot(log)),
    )
    return "<!doctype html>\n" + el("html", head, body, lang="en") + "\n"


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _title(log: Log) -> str:
    said, _ = verdict(log.all(Result))
    if said:
        return said
    started = log.last(Started)
    if started is None:
        return "A run"
    verb = started.verb
    return f"{verb[:1].upper()}{verb[1:]}: {started.run.removeprefix(verb + '-')}"


def _rests_on(log: Log) -> Html | None:
    _, figures = verdict(log.all(Result))
    return el("p", figures, class_="lead") if figures else None


def _meta(log: Log) -> Html:
    started, finished = log.last(Started), log.last(Finished)
    pairs: list[tuple[str, str]] = []
    if started is not None:
        pairs += [
            ("command", started.verb),
            ("run", started.run),
            ("seed", str(started.seed)),
            ("version", started.version),
        ]
    pairs.append(("started", datetime.fromtimestamp(log.times[0], UTC).strftime("%Y-%m-%d %H:%M UTC")))
    if finished is not None:
        pairs.append(("took", seconds(finished.seconds)))
        if finished.peak_mb:
            pairs.append(("peak memory", size(finished.peak_mb * 1e6)))
        pairs.append(("status", finished.status))
    else:
        pairs.append(("status", "not finished"))
    return el("div", (el("span", f"{name} ", el("b", value)) for name, value in pairs), class_="meta")


def _notes(log: Log) -> Html | None:
    """Warnings and errors, each once, above everything else."""
    shown = dict.fromkeys((note.level, note.text) for note in log.all(Note) if note.level != "info")
    return join(
        el("div", el("b", f"{level}: ", class_="bad" if level == "error" else "warn"), text, class_="callout")
        for level, text in shown
    )


def _foot(log: Log) -> Html:
    return join(f"Made from {len(log.events)} events of one log. This page loads nothing and runs nothing.")
