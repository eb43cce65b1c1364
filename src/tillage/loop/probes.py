"""The small transformer as an effect probe, beside the agent's own n-gram model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tillage.agent.probe import Job, draw
from tillage.data.schema import DOMAIN, ID, TEXT
from tillage.train.evaluate import Target
from tillage.train.pool import Task, train_many
from tillage.train.tokens import Tokenizer, TokenStore
from tillage.train.trainer import TrainSpec

SAMPLE_BYTES = 16
"""Bytes of text drawn for a token of the training budget: more than enough that nothing is repeated where
there is enough text."""


class TransformerProbe:
    """Trains `spec` on a draw of the documents; fewer documents than the budget are repeated, as in training.

    Args:
        target_bytes: at most so much of the target is scored, drawn by a hash of the text.
    """

    name = "transformer"

    def __init__(self, spec: TrainSpec, tokenizer: Tokenizer, *, workers: int, target_bytes: int) -> None:
        self.spec, self.tokenizer, self.workers, self.target_bytes = spec, tokenizer, workers, target_bytes

    def bpb(self, jobs: Sequence[Job], target: Sequence[str], *, budget_bytes: int) -> list[float]:
        """Bits per byte of `target` for each job; the runs share the worker processes."""
        texts = draw(target, seed=0, budget_bytes=self.target_bytes)
        goal = {"target": Target.from_texts("target", texts, self.tokenizer)}
        with tempfile.TemporaryDirectory(prefix="tillage-probe-") as folder:
            tasks = [
                Task(
                    self.spec.model_copy(update={"seed": job.seed}),
                    self._store(Path(folder) / str(number), job, budget_bytes),
                    goal,
                )
                for number, job in enumerate(jobs)
            ]
            results = train_many(tasks, workers=self.workers)
        return [result.bpb["target"] for result in results]

    def _store(self, folder: Path, job: Job, budget_bytes: int) -> Path:
        most = min(budget_bytes, SAMPLE_BYTES * self.spec.tokens)
        texts = draw(job.documents, seed=job.seed, budget_bytes=most)
        rows = pa.record_batch(
            {
                ID: pa.array([f"{i:08d}" for i in range(len(texts))], pa.large_string()),
                TEXT: pa.array(texts, pa.large_string()),
                DOMAIN: pa.array(["all"] * len(texts), pa.large_string()),
            }
        )
        TokenStore.write(folder, [rows], self.tokenizer)
        return folder
