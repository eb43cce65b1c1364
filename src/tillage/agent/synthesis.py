"""Operators made from predicates that a model or a person wrote as text, and the test before their use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import daft
import pyarrow as pa
from daft import DataType, Expression, Series, col
from pydantic import Field

from tillage.agent.sandbox import Limits, run_predicate
from tillage.core.errors import UserError
from tillage.ops.base import Filter, operator


@operator
class SandboxedFilter(Filter):
    """Drop documents for which a predicate in restricted Python, `keep(text)`, returns False.

    The source in `code` runs only in the sandbox (`tillage.agent.sandbox`), never in this process. Rows with
    null text are not asked about. A predicate that fails on any row fails the run.
    """

    code: str = Field(min_length=1, description="source that defines keep(text) -> bool")
    seconds: float = Field(default=2.0, gt=0, description="most seconds a batch may take")
    memory_mb: int = Field(default=64, ge=1, description="most memory a batch may take, MiB")

    source = "pydantic-monty"

    @classmethod
    def example(cls) -> SandboxedFilter:
        return cls(code="def keep(text):\n    return len(text.split()) > 2\n")

    def reads(self) -> frozenset[str]:
        return frozenset({"text"})

    def reasons(self) -> dict[str, Expression]:
        return {"predicate": ~_keep(col("text"), self.code, self.seconds, self.memory_mb)}


@daft.func.batch(return_dtype=DataType.bool())
def _keep(texts: Series, code: str, seconds: float, memory_mb: int) -> pa.Array:
    rows = texts.to_arrow().to_pylist()
    asked = [row for row in rows if row is not None]
    verdicts = iter(run_predicate(code, asked, Limits(seconds=seconds, memory_mb=memory_mb)) if asked else [])
    return pa.array([None if row is None else next(verdicts) for row in rows], pa.bool_())


@dataclass(frozen=True)
class Vetting:
    """How a predicate did on examples with known answers; "positive" means dropped."""

    precision: float
    recall: float
    examples: int
    wrong: list[str]

    def passes(self, precision: float = 0.9, recall: float = 0.7) -> bool:
        return self.precision >= precision and self.recall >= recall


def vet(code: str, keep: Sequence[str], drop: Sequence[str], limits: Limits | None = None) -> Vetting:
    """Run a predicate on texts that must be kept and planted defects that must be dropped.

    Precision is 0 when nothing is dropped. The verdict of each text must not depend on the batch it is in:
    a predicate that carries state from text to text is refused with a `UserError`.
    """
    if not keep or not drop:
        raise UserError(
            "a predicate is vetted on both kinds", got=f"{len(keep)} to keep, {len(drop)} to drop"
        )
    texts = [*keep, *drop]
    verdicts = run_predicate(code, texts, limits)
    if run_predicate(code, texts[::-1], limits)[::-1] != verdicts:
        raise UserError(
            "the predicate depends on the order of texts", hint="keep no state outside the function"
        )
    right = sum(not kept for kept in verdicts[len(keep) :])
    dropped = sum(not kept for kept in verdicts)
    wanted = [True] * len(keep) + [False] * len(drop)
    wrong = [text[:200] for text, got, want in zip(texts, verdicts, wanted, strict=True) if got != want]
    return Vetting(right / dropped if dropped else 0.0, right / len(drop), len(texts), wrong)
