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
        forwards: work by purpose in forward passes of the model over one sample, counted and so the same in
            every run; "training" is three a sample. Scores made ahead are not in it.
        users: names of the policies that each signal of the ledger was measured for.
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
    forwards: dict[str, float] = field(default_factory=dict[str, float])
    users: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def overhead_share(self) -> float:
        """Part of `seconds` that went into signals and scoring."""
        spent = sum(v for k, v in self.ledger.items() if k not in ("training", "evaluation"))
        return spent / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class CostLine:
    """A line of the overhead ledger: a signal, or a policy with all of its signals.

    Attributes:
        seconds: 0 for a policy whose signals the run did not measure.
        share: of the run's seconds. work: of the run's forward passes.
    """

    name: str
    seconds: float
    forwards: float
    share: float
    work: float


def overhead_table(result: TrainResult) -> list[CostLine]:
    """What each signal cost, then what each policy's signals cost; a signal that two policies need counts for
    both."""
    total = sum(result.forwards.values())

    def line(name: str, keys: list[str]) -> CostLine:
        seconds = sum(result.ledger.get(key, 0.0) for key in keys)
        forwards = sum(result.forwards.get(key, 0.0) for key in keys)
        return CostLine(
            name, seconds, forwards, seconds / (result.seconds or 1.0), forwards / total if total else 0.0
        )

    keys = sorted({*result.ledger, *result.forwards} - {"training", "evaluation"})
    policies = sorted({name for names in result.users.values() for name in names})
    return [
        *(line(key, [key]) for key in keys),
        *(line(f"policy {p}", [key for key in keys if p in result.users.get(key, [])]) for p in policies),
    ]


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
            for k in (
                "arm",
                "seed",
                "bpb",
                "steps",
                "tokens",
                "seconds",
                "ledger",
                "forwards",
                "users",
                "dtype",
                "mfu",
            )
        },
        "mixture": result.mixture,
        "losses": np.round(result.losses, 6).tolist(),
        "domain_losses": result.domain_losses,
    }
    write_atomic(folder / "result.json", json.dumps(summary, ensure_ascii=False) + "\n")
