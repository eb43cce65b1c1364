"""The commands that do each part again."""

from __future__ import annotations

import shlex

import yaml

from tillage.core.events import (
    Chosen,
    Committed,
    Example,
    Proposed,
    Started,
    StepAccount,
    Tokenised,
    TrainStep,
)
from tillage.report.html import Html, el, join
from tillage.report.log import Log
from tillage.report.sections.plan import steps_of

Part = tuple[str, str]
"""What a command does, and the command."""


def section(log: Log) -> Html | None:
    parts = rerun(log)
    file = training_file(log)
    if not parts:
        return None
    shown = [join(el("p", what), el("pre", command, class_="command")) for what, command in parts]
    if file:
        shown.append(
            join(
                el("p", "One training run, with this as train.yaml and any policy in it:"),
                el("pre", file),
                el("pre", "tillage train train.yaml" + _space(log), class_="command"),
            )
        )
    return join(
        el("h2", "Do it again"),
        el(
            "p",
            "Finished stages are reused by fingerprint; results do not depend on the number of cores.",
            class_="lead",
        ),
        shown,
    )


def workspace(log: Log) -> str:
    """The workspace that the command named, or the default one."""
    started = log.last(Started)
    words = shlex.split(started.command) if started is not None else []
    for number, word in enumerate(words):
        if word == "--workspace" and number + 1 < len(words):
            return words[number + 1]
        if word.startswith("--workspace="):
            return word.partition("=")[2]
    return ".tillage"


def _space(log: Log) -> str:
    named = workspace(log)
    return "" if named == ".tillage" else f" --workspace {shlex.quote(named)}"


def rerun(log: Log) -> list[Part]:
    """Every command that the log gives grounds for, in the order of the work."""
    space = _space(log)
    out: list[Part] = []
    started = log.last(Started)
    if started is not None and started.command:
        out.append(("All of it:", started.command))
    final = [str(event.lineage.get("run")) for event in log.all(Committed)]
    for run in dict.fromkeys(final or [step.run for step in log.all(StepAccount)]):
        path = shlex.quote(f"{workspace(log)}/runs/{run}/recipe.yaml")
        out.append(
            (f"The preparation of {run}, first on a sample:", f"tillage check {path} --sample 1000{space}")
        )
        out.append(("then in full:", f"tillage run {path}{space}"))
    committed = {(event.dataset, event.version): event for event in log.all(Committed)}
    for path, version in committed:
        out.append(("The token store:", f"tillage tokenize {shlex.quote(path)} --version {version}{space}"))
    dropped = next((event for event in log.all(Example) if not event.kept), None)
    if dropped is not None:
        out.append(("Why a row was dropped:", f"tillage why {shlex.quote(dropped.id)}{space}"))
    if started is not None:
        out.append(("This page:", f"tillage report {shlex.quote(started.run)}{space}"))
    return out


def training_file(log: Log) -> str:
    """A train.yaml for the last token store with the tokens that were trained on; empty without training."""
    store, steps = log.last(Tokenised), log.all(TrainStep)
    if store is None or not steps:
        return ""
    chosen = {event.candidate for event in log.all(Chosen)}
    targets = [
        str(parameters["target"])
        for proposal in log.all(Proposed)
        if proposal.candidate in chosen
        for _, _, parameters, _ in steps_of(proposal.recipe)
        if "target" in parameters
    ]
    job: dict[str, object] = {"store": store.store}
    if targets:
        job["targets"] = {"search": targets[-1]}
    first = min(event.seed for event in steps)
    job["train"] = {"seed": first, "tokens": max(event.tokens for event in steps)}
    return yaml.safe_dump(job, sort_keys=False)
