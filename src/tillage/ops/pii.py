"""Personal data: counted, masked, replaced by something of the same kind, or dropped with its document."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow as pa
from daft import DataFrame, Expression
from pydantic import Field

from tillage.kernels.pii import PLACEHOLDERS, USUAL, Kind, find_pii, mask_pii, rewrite_pii
from tillage.kernels.surrogates import surrogate
from tillage.ops.base import Annotate, Filter, Map, operator
from tillage.ops.udf import above, measure, with_measures

_SOURCE = (
    "Dolma (Soldaini et al. 2024), arXiv 2402.00159; checks of ISO/IEC 7812-1 (Luhn), ISO 13616, "
    "ISO 7064 (Steuer-ID, GB 11643), Verhoeff 1969 (Aadhaar) and the offices that give the ids"
)
EVERY: tuple[Kind, ...] = tuple(PLACEHOLDERS)


@operator
class PiiStats(Annotate):
    """Count personal data by kind.

    Kinds: e-mail addresses, public IP addresses (v4 and v6), telephone numbers, payment cards, account
    numbers (IBAN), national ids (of Brazil, China, France, Germany, India, Italy, Spain, the United Kingdom
    and States), keys and tokens of services.
    """

    source = _SOURCE

    kinds: tuple[Kind, ...] = Field(default=EVERY, min_length=1, description="what to count")

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {f"pii_{kind}": f"pieces of the kind {kind}" for kind in EVERY}

    def writes(self) -> dict[str, pa.DataType]:
        return {f"pii_{kind}": pa.int64() for kind in EVERY if kind in self.kinds}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return with_measures(frame, partial(_counts, kinds=self.kinds), self.writes())

    def merge(self, other: Annotate) -> Annotate | None:
        if not isinstance(other, PiiStats):
            return None
        return PiiStats(kinds=tuple(kind for kind in EVERY if kind in self.kinds + other.kinds))


@operator
class PiiMask(Map):
    """Put placeholders, or something of the same kind, for personal data.

    By default e-mail addresses, public IPv4 addresses, payment cards and telephone numbers; where asked for
    also account numbers (IBAN), public IPv6 addresses, national ids, and keys of services. `pii_stats` lists
    them all and counts them.
    """

    source = _SOURCE
    version = 2

    kinds: tuple[Kind, ...] = Field(default=USUAL, min_length=1, description="what to mask")
    put: Literal["placeholder", "surrogate"] = Field(
        default="placeholder",
        description="<EMAIL> and the like, or another address, number or key that is nobody's, the same "
        "one for the same in the whole corpus",
    )
    seed: int = Field(default=0, ge=0, description="seed of the surrogates")

    def rewrite(self) -> Expression:
        kinds = frozenset(self.kinds)
        each = partial(_rewritten, kinds=kinds, seed=self.seed if self.put == "surrogate" else None)
        return measure(each, pa.large_string())


@operator
class PiiFilter(Filter):
    """Drop documents with more personal data than a bound, by kind."""

    source = _SOURCE

    kinds: tuple[Kind, ...] = Field(default=EVERY, min_length=1, description="what to drop documents for")
    most: int = Field(default=0, ge=0, description="most pieces of a kind that are let through")

    def requires(self) -> tuple[Annotate, ...]:
        return (PiiStats(kinds=self.kinds),)

    def reasons(self) -> dict[str, Expression]:
        return {kind: above(f"pii_{kind}", self.most) for kind in EVERY if kind in self.kinds}


def _counts(texts: pa.Array, kinds: tuple[Kind, ...]) -> dict[str, pa.Array]:
    wanted = frozenset(kinds)
    rows: list[dict[Kind, int] | None] = []
    for text in texts.to_pylist():
        if text is None:
            rows.append(None)
            continue
        row = dict.fromkeys(kinds, 0)
        for _, _, kind in find_pii(text, wanted):
            row[kind] += 1
        rows.append(row)
    return {
        f"pii_{kind}": pa.array([None if row is None else row[kind] for row in rows], pa.int64())
        for kind in kinds
    }


def _rewritten(texts: pa.Array, kinds: frozenset[Kind], seed: int | None) -> pa.Array:
    new = [
        None
        if text is None
        else mask_pii(text, kinds)
        if seed is None
        else rewrite_pii(text, kinds, partial(surrogate, seed=seed))
        for text in texts.to_pylist()
    ]
    return pa.array(new, pa.large_string())
