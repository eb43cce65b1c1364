"""The demo: the whole job on text that this machine already has. Only the corpus and the goal are its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tillage.core.events import EventLog, Note, phase
from tillage.core.workspace import Workspace, write_atomic
from tillage.loop.machine_corpus import MachineCorpus, collect
from tillage.loop.rounds import loop
from tillage.loop.spec import LoopSpec

BUDGET = {"sample_rows": 3_600, "probe_bytes": 500_000, "seeds": 8, "probe_runs": 120}
"""Enough rows that a strict candidate still keeps what the probes read; `probe_bytes` is about what a
training run of the demo reads; the n-gram probe is so cheap that eight seeds cost a second."""


@dataclass(frozen=True)
class DemoOptions:
    """Where to work, the seed of everything, megabytes of text to draw, and how to train."""

    workspace: Workspace
    seed: int = 0
    megabytes: float = 40.0
    spec: LoopSpec = field(default_factory=LoopSpec)


def demo(options: DemoOptions, log: EventLog) -> dict[str, Any]:
    """Collect the corpus, write its GOAL.yaml and run `loop` on it; returns what `loop` does."""
    began = time.monotonic()
    folder = options.workspace.root / "demo" / f"s{options.seed}-{options.megabytes:g}mb"
    with phase(log, "collect", "collect the text of the installed packages"):
        corpus = collect(folder, seed=options.seed, megabytes=options.megabytes)
        parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sorted(corpus.by_domain.items()))
        log.emit(
            Note(
                f"{corpus.documents:,} documents, {corpus.bytes / 1e6:.1f} MB of {corpus.packages} packages "
                f"({parts} MB); target: {corpus.target_documents:,} documents, "
                f"{corpus.target_bytes / 1e6:.1f} MB of documentation of {len(corpus.held_out)} packages "
                "held out whole"
            )
        )
    goal = write_goal(corpus, folder, options.seed)
    done = loop(goal, options.workspace, log, spec=options.spec)
    return {**done, "goal": str(goal), "seconds": round(time.monotonic() - began, 2)}


def write_goal(corpus: MachineCorpus, folder: Path, seed: int) -> Path:
    """The demo's GOAL.yaml: what a user would write by hand."""
    goal = {
        "name": "python-docs",
        "task": "Pretrain a small model that is good at Python documentation.",
        "sources": [{"jsonl": {"path": f"{corpus.raw.name}/*.jsonl", "domain_field": "domain"}}],
        "target": {"path": corpus.target.name, "group_field": "package"},
        "budget": BUDGET,
        # Documentation is rare here, and a short training needs little of it. Test data of the standard
        # library in old encodings is unreadable on purpose; in a small sample it is more than one hundredth.
        "constraints": {"min_retention": 0.01, "max_quarantine": 0.05},
        "seed": seed,
    }
    path = folder / "goal.yaml"
    write_atomic(path, yaml.safe_dump(goal, sort_keys=False))
    return path
