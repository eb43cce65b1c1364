"""What a run trained on, step by step: the record behind mixture plots and `tillage why`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tillage.core.errors import WorkFailed
from tillage.train.batch import Trained
from tillage.train.tokens import TokenStore


class History:
    """An append-only record of steps: samples with losses and weights, and the mixture in force."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._steps: list[Trained] = []
        self._first = 0

    def begin(self, step: int) -> None:
        """From this step on samples are those of another store: `documents` tells of these alone."""
        self._first = step

    def add(self, trained: Trained | None) -> None:
        if trained is None or trained.step != len(self._steps):
            raise WorkFailed(
                "a step was not recorded", got=trained.step if trained else None, expected=len(self._steps)
            )
        self._steps.append(trained)

    def mixture(self, step: int) -> dict[str, float]:
        return dict(zip(self.names, self._steps[step].mixture.tolist(), strict=True))

    def losses(self) -> list[float]:
        return [float(s.losses.mean()) for s in self._steps]

    def domain_losses(self) -> list[dict[str, float]]:
        """For each step the mean loss of each domain that was trained on; each by its own samples only."""
        return [
            {self.names[g]: float(s.losses[s.groups == g].mean()) for g in np.unique(s.groups)}
            for s in self._steps
        ]

    def table(self) -> pa.Table:
        """One row for each sample trained on: step, sample, group, loss (nats a token), weight."""
        sizes = [len(s.samples) for s in self._steps]
        step = np.repeat([s.step for s in self._steps], sizes).astype(np.int64)
        columns = {
            name: np.concatenate([getattr(s, attr) for s in self._steps]) if self._steps else np.zeros(0)
            for name, attr in (
                ("sample", "samples"),
                ("group", "groups"),
                ("loss", "losses"),
                ("weight", "weights"),
            )
        }
        names = np.asarray(self.names, dtype=object)[columns["group"].astype(np.int64)]
        return pa.table(
            {
                "step": step,
                "sample": columns["sample"].astype(np.int64),
                "domain": pa.array(names.tolist(), type=pa.large_string()),
                "loss": columns["loss"].astype(np.float64),
                "weight": columns["weight"].astype(np.float64),
            }
        )

    def documents(self, store: TokenStore, seq_len: int) -> pa.Table:
        """One row for each document touched, by id: samples that held some of it, and their mean weight and
        loss.

        Columns: id, domain, tokens (of the document), visits (samples), weight, loss.
        """
        cut = store.samples(seq_len)
        visits = np.zeros(len(store), dtype=np.int64)
        weight, loss = np.zeros(len(store)), np.zeros(len(store))
        for s in self._steps[self._first :]:
            for sample, w, value in zip(s.samples, s.weights, s.losses, strict=True):
                touched = cut.documents(int(sample))
                span = np.asarray(touched, dtype=np.int64)
                visits[span] += 1
                weight[span] += w
                loss[span] += value
        seen = np.flatnonzero(visits)
        domains = np.asarray(store.groups.names, dtype=object)[store.domain[seen]]
        table = pa.table(
            {
                "id": store.ids().take(pa.array(seen)),
                "domain": pa.array(domains.tolist(), type=pa.large_string()),
                "tokens": np.diff(store.starts)[seen],
                "visits": visits[seen],
                "weight": weight[seen] / visits[seen],
                "loss": loss[seen] / visits[seen],
            }
        )
        return table.sort_by("id")

    def state_dict(self) -> dict[str, Any]:
        steps = [
            {
                "step": s.step,
                "samples": s.samples.tolist(),
                "groups": s.groups.tolist(),
                "losses": s.losses.tolist(),
                "weights": s.weights.tolist(),
                "mixture": s.mixture.tolist(),
                "keep": s.keep,
            }
            for s in self._steps
        ]
        return {"first": self._first, "steps": steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._first = state["first"]
        self._steps = [
            Trained(
                s["step"],
                np.asarray(s["samples"], dtype=np.int64),
                np.asarray(s["groups"], dtype=np.int64),
                np.asarray(s["losses"]),
                np.asarray(s["weights"]),
                np.asarray(s["mixture"]),
                s["keep"],
            )
            for s in state["steps"]
        ]
