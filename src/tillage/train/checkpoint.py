"""Checkpoints of a run on disk: each appears whole or not at all, the newest few stay."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from tillage.core.errors import UserError
from tillage.core.workspace import atomic_file

_NAME = re.compile(r"step-(\d+)\.pt")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        keep: how many of the newest stay.
        forever: steps whose checkpoints are never removed.
    """

    def __init__(self, folder: Path, keep: int = 2, forever: Collection[int] = ()) -> None:
        self.folder, self.keep, self.forever = folder, keep, frozenset(forever)

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.pt"

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(p.name) for p in self.folder.iterdir())
        return sorted(int(m[1]) for m in found if m)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write, then remove what is neither among the newest nor to stay."""
        path = self.path(step)
        with atomic_file(path) as out:
            torch.save(state, out)
        for old in self.steps()[: -self.keep]:
            if old not in self.forever:
                self.path(old).unlink()
        return path

    def newest(self) -> Path | None:
        steps = self.steps()
        return self.path(steps[-1]) if steps else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Checkpoints.save` wrote, on the CPU."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UserError(
            "the checkpoint cannot be read", where=path, got=str(error)[:200],
            hint="remove this file to go on from the one before",
        ) from error  # fmt: skip
