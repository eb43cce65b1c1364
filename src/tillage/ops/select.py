"""Selection by chance, by domain and by score."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataFrame, Expression, col, lit
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from tillage.core.errors import UserError
from tillage.kernels.hashing import hash_strings
from tillage.ops.base import Annotate, Corpus, Decisions, Filter, operator
from tillage.ops.stats import MEASURES, TextStats
from tillage.ops.udf import measure, with_measure, without

pc: Any = pyarrow.compute  # its functions are made at run time


def unit_hash(ids: pa.Array, seed: int) -> pa.Array:
    """A number in [0, 1) for each id, uniform and fixed by (id, seed)."""
    return pa.array((hash_strings(ids, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def chance(seed: int) -> dict[str, Expression]:
    """The key `_chance` of corpus operators that look at a sample: `unit_hash` of the id."""
    return {"_chance": measure(partial(unit_hash, seed=seed), pa.float64(), "id")}


def sampled(frame: DataFrame, most: int) -> tuple[float, DataFrame]:
    """At most `most` rows (and those of equal chance), and the largest chance among them.

    Two passes: the sample is chosen by ids alone, so that only its texts are ever held.
    """
    chances = np.sort(frame.select("_chance").to_arrow().column(0).to_numpy())
    last = float(chances[min(most, len(chances)) - 1]) if len(chances) else -1.0
    return last, frame.where(col("_chance") <= lit(last))


@operator
class Sample(Filter):
    """Keep a fraction of the rows, chosen by a hash of their ids: the same rows however the data is split."""

    source = "hash sampling"

    fraction: float = Field(ge=0, le=1, description="share of rows to keep")
    seed: int = Field(default=0, ge=0, description="another seed chooses other rows")

    @classmethod
    def example(cls) -> Self:
        return cls(fraction=0.5)

    def reads(self) -> frozenset[str]:
        return frozenset({"id"})

    def writes(self) -> dict[str, pa.DataType]:
        return {"_sample": pa.float64()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return with_measure(frame, "_sample", partial(unit_hash, seed=self.seed), pa.float64(), "id")

    def reasons(self) -> dict[str, Expression]:
        return {"sampled_out": col("_sample") >= lit(self.fraction)}


@operator
class DomainQuota(Corpus):
    """Limit domains to a share of the bytes that remain, to rows or to bytes, keeping rows chosen by hash.

    Any other column can say the group in place of the domain, such as `topic` or `lang`.
    """

    source = "quotas by domain, as in the mixtures of Gao et al. 2020 (The Pile), arXiv 2101.00027"

    max_share: dict[str, float] = Field(
        default={}, description="domain -> largest share of the bytes kept, 0 to 1"
    )
    max_rows: dict[str, PositiveInt] = Field(default={}, description="domain -> most rows")
    max_bytes: dict[str, PositiveInt] = Field(default={}, description="domain -> most bytes of text")
    share_each: float | None = Field(
        default=None, gt=0, lt=1, description="largest share of the bytes kept for each domain not named"
    )
    rows_each: PositiveInt | None = Field(default=None, description="most rows of each domain not named")
    by: str = Field(default="domain", min_length=1, description="the column that says the group")
    seed: int = Field(default=0, ge=0, description="another seed chooses other rows")

    @classmethod
    def example(cls) -> Self:
        return cls(max_share={"prose": 0.2})

    @model_validator(mode="after")
    def _shares(self) -> Self:
        for domain, share in self.max_share.items():
            if not 0 < share < 1:
                raise UserError("a share must lie between 0 and 1", where=f"max_share: {domain}", got=share)
        if not (self.max_share or self.max_rows or self.max_bytes or self.share_each or self.rows_each):
            raise UserError("the quota limits nothing", expected="max_share, max_rows, rows_each or the like")
        return self

    def reads(self) -> frozenset[str]:
        return frozenset({"text", self.by})

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"over_quota": "beyond the limit of its domain"}

    def writes(self) -> dict[str, pa.DataType]:
        return {"over_quota": pa.bool_()}

    def keys(self) -> dict[str, Expression]:
        return {
            "_chance": measure(partial(unit_hash, seed=self.seed), pa.float64(), "id"),
            "_bytes": measure(_byte_length, pa.int64()),
        }

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        table = frame.select(*dict.fromkeys(["id", self.by, "_chance", "_bytes"])).to_arrow()
        table = table.take(pc.sort_indices(table, sort_keys=[("_chance", "ascending"), ("id", "ascending")]))
        named = pc.fill_null(table.column(self.by).cast(pa.large_string()), "").combine_chunks()
        named = named.dictionary_encode()
        names = named.dictionary.to_pylist()
        codes = named.indices.to_numpy(zero_copy_only=False)
        sizes = pc.fill_null(table.column("_bytes"), 0).to_numpy()
        keep = np.ones(len(table), bool)
        of = {name: np.flatnonzero(codes == code) for code, name in enumerate(names)}
        for name, rows in of.items():
            within = np.arange(len(rows)) < self.max_rows.get(name, self.rows_each or len(rows))
            if name in self.max_bytes:
                within &= np.cumsum(sizes[rows]) <= self.max_bytes[name]
            keep[rows] = within
        shares = dict.fromkeys(names, self.share_each) if self.share_each is not None else {}
        budgets = share_budgets(
            {name: int(sizes[of[name][keep[of[name]]]].sum()) for name in sorted(names)},
            {**shares, **self.max_share},
        )
        for name, budget in budgets.items():
            rows = of[name][keep[of[name]]]
            keep[rows] = np.cumsum(sizes[rows]) <= budget
        over = np.flatnonzero(~keep)
        columns = [table.column("id").take(pa.array(over)), pa.array(np.ones(len(over), bool))]
        Decisions.write(artifact, pa.table(columns, names=["id", "over_quota"]))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError("domain_quota was applied without being fitted to the corpus")
        joined = Decisions.join(without(frame, "over_quota"), artifact)
        return joined.with_column("over_quota", col("over_quota").fill_null(lit(False)))

    def reasons(self) -> dict[str, Expression]:
        return {"over_quota": col("over_quota")}


class Marked(Corpus):
    """Base: `fit` decides which rows go, and one column says so."""

    column_name: ClassVar[str]

    def writes(self) -> dict[str, pa.DataType]:
        return {self.column_name: pa.bool_()}

    def decide(self, artifact: Path, ids: pa.ChunkedArray, keep: NDArray[np.bool_]) -> None:
        """Write the decision for the rows where `keep` is false."""
        gone = np.flatnonzero(~keep)
        columns = [ids.take(pa.array(gone)), pa.array(np.ones(len(gone), bool))]
        Decisions.write(artifact, pa.table(columns, names=["id", self.column_name]))

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        if artifact is None:
            raise UserError(f"{self.name} was applied without being fitted to the corpus")
        joined = Decisions.join(without(frame, self.column_name), artifact)
        return joined.with_column(self.column_name, col(self.column_name).fill_null(lit(False)))

    def reasons(self) -> dict[str, Expression]:
        return {self.column_name: col(self.column_name)}


@operator
class TemperatureSample(Marked):
    """Flatten the shares of domains, or of languages or topics, p to p^(1/T), by dropping rows of large ones.

    The domain that would grow most is kept whole and sets the size of the others: no row is repeated. Domains
    below `min_share` are kept whole and set nothing. Rows are chosen by hash.
    """

    source = "Arivazhagan et al. 2019, arXiv 1907.05019, section 4.2 (temperature), by dropping alone"
    column_name = "over_share"

    temperature: float = Field(
        default=2.0, ge=1, description="1 keeps all; the larger, the more alike the shares"
    )
    by: Literal["bytes", "rows"] = Field(default="bytes", description="what shares are of")
    group: str = Field(default="domain", min_length=1, description="the column that says the group")
    min_share: float = Field(
        default=0.01, ge=0, lt=1, description="domains of a smaller share are kept whole and set nothing"
    )
    seed: int = Field(default=0, ge=0, description="another seed chooses other rows")

    def reads(self) -> frozenset[str]:
        return frozenset({"text", self.group} if self.by == "bytes" else {self.group})

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"over_share": "beyond the share of its domain at this temperature"}

    def keys(self) -> dict[str, Expression]:
        keys = {"_chance": measure(partial(unit_hash, seed=self.seed), pa.float64(), "id")}
        if self.by == "bytes":
            keys["_bytes"] = measure(_byte_length, pa.int64())
        return keys

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        table = frame.select(*dict.fromkeys(["id", self.group, *self.keys()])).to_arrow()
        table = table.take(pc.sort_indices(table, sort_keys=[("_chance", "ascending"), ("id", "ascending")]))
        codes = groups(table.column(self.group))
        weights = np.ones(len(table))
        if self.by == "bytes":
            weights = pc.fill_null(table.column("_bytes"), 0).to_numpy().astype(np.float64)
        sizes = np.bincount(codes, weights).astype(np.float64)
        budgets = temperature_budgets(sizes, self.temperature, self.min_share)
        keep = np.ones(len(table), bool)
        for code in np.flatnonzero(budgets < sizes):
            rows = np.flatnonzero(codes == code)
            keep[rows] = np.cumsum(weights[rows]) <= budgets[code]
        self.decide(artifact, table.column("id"), keep)


@operator
class TopK(Marked):
    """Keep the k rows of each domain (or other group) with the highest values of a column.

    Rows without a value come last; among equals a hash of the id decides. A measurement of `text_stats` is
    taken if it is named.
    """

    source = "choice within clusters, as in Abbas et al. 2023 (SemDeDup), arXiv 2303.09540"
    column_name = "beyond_top_k"

    k: PositiveInt = Field(description="rows to keep in each group")
    column: str = Field(min_length=1, description="a column of numbers to rank by")
    by: str = Field(default="domain", min_length=1, description="the column that says the group")
    highest: bool = Field(default=True, description="keep the highest values, or else the lowest")
    seed: int = Field(default=0, ge=0, description="another seed decides otherwise among equals")

    @classmethod
    def example(cls) -> Self:
        return cls(k=2, column="words")

    def requires(self) -> tuple[Annotate, ...]:
        return (TextStats(measures=(self.column,)),) if self.column in MEASURES else ()

    def reads(self) -> frozenset[str]:
        return frozenset({self.column, self.by})

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {"beyond_top_k": "not among the k best of its group"}

    def keys(self) -> dict[str, Expression]:
        return {"_chance": measure(partial(unit_hash, seed=self.seed), pa.float64(), "id")}

    def fit(self, frame: DataFrame, artifact: Path) -> None:
        table = frame.select("id", "_chance", *dict.fromkeys([self.column, self.by])).to_arrow()
        kind = table.schema.field(self.column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise UserError("cannot rank by a column that is not of numbers", where=self.column, got=kind)
        order = "descending" if self.highest else "ascending"
        keys = [(self.column, order), ("_chance", "ascending"), ("id", "ascending")]
        table = table.take(pc.sort_indices(table, sort_keys=keys))
        codes = groups(table.column(self.by))
        grouped = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[grouped], codes[grouped], side="left")
        keep = np.empty(len(table), bool)
        keep[grouped] = np.arange(len(table)) - starts < self.k
        self.decide(artifact, table.column("id"), keep)


def groups(values: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number for each distinct value, null among them, shape (rows,)."""
    encoded = values.combine_chunks().dictionary_encode("encode")
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def temperature_budgets(
    sizes: NDArray[np.float64], temperature: float, min_share: float = 0.0
) -> NDArray[np.float64]:
    """What each domain may keep so that shares are as p^(1/T) and none grows, shape (domains,).

    Domains whose share is below `min_share` keep all.
    """
    budgets = sizes.astype(np.float64)
    chosen = (sizes > 0) & (sizes >= min_share * sizes.sum())
    if chosen.any():
        wanted = (sizes[chosen] / sizes[chosen].sum()) ** (1.0 / temperature)
        budgets[chosen] = wanted * (sizes[chosen] / wanted).min()
        budgets[chosen] = np.minimum(np.floor(budgets[chosen] + 0.5), sizes[chosen])
    return budgets


def share_budgets(sizes: dict[str, int], shares: dict[str, float]) -> dict[str, int]:
    """The bytes that each domain over its share may keep, so that it holds its share of what remains.

    With capped domains C, the rest weighs R and the whole T solves T = R + T * (sum of shares in C); domains
    are capped until none exceeds its share of T. Where no domain is left to be the rest, each keeps
    its share of the largest whole that all can fill.
    """
    capped: set[str] = set()
    while True:
        free = sum(size for domain, size in sizes.items() if domain not in capped)
        room = 1.0 - sum(shares[d] for d in capped)
        if free == 0 or room <= 0:
            break
        total = free / room
        over = {d for d in shares if d in sizes and d not in capped and sizes[d] > shares[d] * total + 0.5}
        if not over:
            return {d: int(shares[d] * total + 0.5) for d in capped}
        capped |= over
    present = [d for d in sizes if sizes[d] > 0 and d in shares]
    if not present:
        return {}
    total = min(sizes[d] / shares[d] for d in present)
    return {d: int(shares[d] * total + 0.5) for d in present}


def _byte_length(texts: pa.Array) -> pa.Array:
    return pc.binary_length(texts).cast(pa.int64())
