"""What a training run gave, in memory and on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tillage.core.spec import fingerprint
from tillage.core.workspace import write_atomic
from tillage.train.causal import CausalModel
from tillage.train.spec import TrainSpec


@dataclass
class TrainResult:
    """What a run measured.

    Attributes:
        bpb: bits per byte by target, after the last step.
        seconds: training and overhead; without evaluation.
        ledger: seconds by purpose: "training", the costs that the policy declared, "evaluation".
        mixture: probability of each domain in force at each step.
        losses: mean training loss of each step before the update, nats a token.
        domain_losses: per step, mean loss by domain over the samples trained on; absent where none was.
        trained: one row for each sample trained on: step, sample, group, loss, weight.
        mfu: model FLOPs a second over the peak of the devices, in the training part; None where it is
        unknown.
        documents: one row for each document touched: id, domain, visits, tokens, mean weight, mean loss.
    """

    arm: str
    seed: int
    bpb: dict[str, float]
    steps: int
    tokens: int
    seconds: float
    ledger: dict[str, float]
    mixture: list[dict[str, float]]
    losses: list[float]
    domain_losses: list[dict[str, float]]
    trained: pa.Table = field(repr=False)
    documents: pa.Table = field(repr=False)
    model: CausalModel = field(repr=False)
    dtype: str = "fp32"
    mfu: float | None = None

    @property
    def overhead_share(self) -> float:
        """Part of `seconds` that went into signals and scoring."""
        spent = sum(v for k, v in self.ledger.items() if k not in ("training", "evaluation"))
        return spent / self.seconds if self.seconds else 0.0


def save_result(result: TrainResult, spec: TrainSpec, folder: Path) -> None:
    """Write the model, `trained.parquet`, `documents.parquet` and `result.json`."""
    pq.write_table(result.trained, folder / "trained.parquet", compression="zstd")
    pq.write_table(result.documents, folder / "documents.parquet", compression="zstd")
    result.model.save(folder)
    summary = {
        "spec": spec.model_dump(mode="json"),
        "fingerprint": fingerprint(spec.canonical()),
        **{
            k: getattr(result, k)
            for k in ("arm", "seed", "bpb", "steps", "tokens", "seconds", "ledger", "dtype", "mfu")
        },
        "mixture": result.mixture,
        "losses": np.round(result.losses, 6).tolist(),
        "domain_losses": result.domain_losses,
    }
    write_atomic(folder / "result.json", json.dumps(summary, ensure_ascii=False) + "\n")
