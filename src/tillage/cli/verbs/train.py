"""`tillage train train.yaml`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rich.console import RenderableType

from tillage.cli.answer import Answer, Writing, dry, need_file
from tillage.cli.live import logged
from tillage.cli.views import table
from tillage.core.text import percent, seconds
from tillage.train.job import TrainJob
from tillage.train.result import TrainResult, overhead_table


def train(job: Path, /, *, common: Writing = Writing()) -> Answer:
    """Train a model on a token store with data policies.

    The model, its checkpoint and what each document was trained on go to the run's folder; the same command
    goes on from the checkpoint. Under torchrun each process trains its part of every batch.

    Args:
        job: the training's YAML file: store, targets, train.
    """
    parsed = TrainJob.from_yaml(need_file(job, "the training file"))
    spec = parsed.train
    arm = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.arm).strip("-") or "train"
    folder = common.space.run(f"train-{arm}-{parsed.fingerprint()[:8]}")
    if common.dry_run:
        store = parsed.open_store()
        does = f"train {spec.steps()} steps on {len(store)} documents of {store.folder}"
        return dry(does, [folder])
    if int(os.environ.get("RANK", "0")) > 0:
        # One process tells what happens; the others work.
        parsed.run(None, folder)
        return Answer({})
    with logged("train", folder, spec.seed, common.json) as log:
        result, *branches = parsed.run(log, folder)
    data, view = _data(result, folder), _view(result, folder)
    if branches:
        data["branches"] = {str(b.tokens): {"bpb": b.bpb, "seconds": b.seconds} for b in branches}
        rows = [[f"{b.tokens:,}", name, f"{bpb:.4f}"] for b in branches for name, bpb in b.bpb.items()]
        view.insert(-1, table(("branch, tokens", "target", "bits/byte"), rows, (0, 2)))
    return Answer(data, view)


def _data(result: TrainResult, folder: Path) -> dict[str, object]:
    return {
        "run": folder.name,
        "folder": str(folder),
        "arm": result.arm,
        "seed": result.seed,
        "bpb": result.bpb,
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "overhead": result.overhead_share,
        "ledger": result.ledger,
        "forwards": result.forwards,
        "loss": result.losses[-1] if result.losses else None,
    }


def _view(result: TrainResult, folder: Path) -> list[RenderableType]:
    rows = [[name, f"{bpb:.4f}"] for name, bpb in result.bpb.items()]
    rest = [["training", seconds(result.ledger.get("training", 0.0)), "", ""]]
    ledger = [
        [line.name, seconds(line.seconds), f"{line.forwards:,.0f}", percent(line.share)]
        for line in overhead_table(result)
    ]
    total = ["overhead", "", "", percent(result.overhead_share)]
    return [
        *([table(("target", "bits/byte"), rows, (1,))] if rows else []),
        table(("overhead ledger", "seconds", "forward passes", "share"), [*rest, *ledger, total], (1, 2, 3)),
        f"run: {folder.name} ({folder})",
    ]
