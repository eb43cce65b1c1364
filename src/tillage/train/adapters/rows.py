"""A feed over rows of any dataset: what is drawn, weighed and mixed are row numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tillage.core.errors import UserError
from tillage.train.tokens import Floats, Groups, Ints, Samples, TokenStore


class RowStore(TokenStore):
    """Rows of a dataset that somebody else holds, as a store whose samples are rows.

    `Feed(RowStore(domains), policy, batch_tokens=rows, seq_len=1)` serves row numbers,
    `batch.input_ids[:, 0]`, and takes one loss for each row, `feed.reduce(losses[:, None], batch)`.

    Args:
        domains: the domain of each row.
        columns: measurements by name, `float64[rows]`, NaN where a row has none.
        ids: of the rows; their numbers by default.
    """

    def __init__(
        self,
        domains: Sequence[str],
        columns: Mapping[str, npt.ArrayLike] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        if not len(domains):
            raise UserError("there are no rows")
        names, group = np.unique(np.asarray(domains, dtype=str), return_inverse=True)
        order = np.argsort(group, kind="stable")
        counts = np.bincount(group, minlength=len(names))
        self.folder, self.mask, self.packing = Path("rows"), None, "stream"
        self.manifest, self.source = {"tokenizer": "rows"}, {}
        self.rows: Ints = order.astype(np.int64)
        """Row number of each sample."""
        self.tokens = self.rows
        self.domain: Ints = group[order].astype(np.int64)
        self.groups = Groups(tuple(str(n) for n in names), tuple(counts.tolist()), tuple(counts.tolist()))
        self._ids = None if ids is None else [str(ids[i]) for i in order]
        self._values = {k: np.asarray(v, dtype=np.float64)[order] for k, v in (columns or {}).items()}
        for name, values in self._values.items():
            if len(values) != len(order):
                raise UserError(
                    f"the column {name!r} has another length", got=len(values), expected=len(order)
                )
        self.columns = sorted(self._values)
        digest = hashlib.sha256("\0".join([*names, *(self._ids or [])]).encode() + self.domain.tobytes())
        for name in self.columns:
            digest.update(name.encode() + self._values[name].tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def id(self, document: int) -> str:
        return str(self.rows[document]) if self._ids is None else self._ids[document]

    def column(self, name: str) -> Floats:
        if name not in self._values:
            raise UserError(f"the rows have no measurement {name!r}", expected=", ".join(self.columns))
        return self._values[name]

    def samples(self, seq_len: int = 1) -> Samples:
        return _Rows(self)


class _Rows(Samples):
    """Each row is a sample of one token: its number."""

    def __init__(self, store: RowStore) -> None:
        self.store, self.seq_len = store, 1
        self.pieces, self.mass = None, None
        self.counts = np.asarray(store.groups.documents, dtype=np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.counts)])

    def start(self, samples: npt.ArrayLike) -> Ints:
        return np.asarray(samples, dtype=np.int64)

    def pairs(self, samples: npt.ArrayLike) -> tuple[Ints, Ints]:
        rows = self.store.tokens[np.asarray(samples, dtype=np.int64)][:, None]
        return rows, np.zeros_like(rows)

    def documents(self, sample: int) -> Sequence[int]:
        return [int(sample)]

    def column(self, name: str) -> Floats:
        return self.store.column(name)
