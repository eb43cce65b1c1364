"""What an operator would do to given texts, without a run: for asking before a step is proposed."""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft import lit

from tillage.core.errors import UserError
from tillage.data.schema import BASE
from tillage.ops.base import Operator


@dataclass(frozen=True)
class Trial:
    """Documents dropped by each reason, the first true reason counting."""

    documents: int
    dropped: dict[str, int]

    @property
    def rate(self) -> float:
        return sum(self.dropped.values()) / self.documents if self.documents else 0.0

    def worst(self) -> str:
        """The reason that drops most, or an empty string."""
        return max(self.dropped, key=lambda reason: self.dropped[reason], default="")


def try_filter(op: Operator, texts: Sequence[str]) -> Trial:
    """Apply a row-scope filter to `texts` alone. `UserError` for a corpus operator: it needs its corpus."""
    if op.scope != "row":
        raise UserError("a corpus operator cannot be tried on texts alone", got=op.name)
    count = len(texts)
    columns = {
        "id": [f"{i:032x}" for i in range(count)],
        "text": list(texts),
        "domain": ["target"] * count,
        "source": ["target"] * count,
        "line": list(range(1, count + 1)),
        "_drop": [None] * count,
        "_detail": [None] * count,
    }
    frame = daft.from_arrow(pa.table(columns, schema=BASE))
    for need in op.requires():
        frame = need.apply(frame)
    frame = op.apply(frame)
    reasons = op.reasons()
    flags = frame.select(*(expr.fill_null(lit(False)).alias(name) for name, expr in reasons.items()))
    table = flags.to_arrow() if reasons else pa.table({})
    left = pa.chunked_array([pa.array([True] * count, pa.bool_())])
    dropped: dict[str, int] = {}
    for name in reasons:
        flag = table[name]
        hit = pc.and_(left, flag)
        dropped[name] = int(pc.sum(hit).as_py() or 0)
        left = pc.and_not(left, flag)
    return Trial(count, {name: n for name, n in dropped.items() if n})
