"""What a corpus is like, measured on a sample: the evidence that every planner's decision cites."""
# pyarrow.compute makes its functions at import, where a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tillage.core.errors import UserError
from tillage.core.events import EventLog, Profiled
from tillage.core.spec import Spec
from tillage.data.chat import MESSAGES
from tillage.data.chat_actions import ChatActions, chat_actions
from tillage.data.chat_faults import ChatFaults, chat_faults
from tillage.data.excess import Excess
from tillage.data.fields import value_form
from tillage.data.rate import Rate
from tillage.data.schema import DOMAIN, ID, LINE, SOURCE, TEXT
from tillage.data.topics import Topic, topics
from tillage.data.toxic import built_in, toxic_counts, toxic_ratio
from tillage.data.traits import (
    code_like,
    garbled,
    licence_like,
    markup_like,
    pii_counts,
    scripts,
    shared_lines,
    unnormalised,
)
from tillage.kernels.domains import FOLDS, Counts, count_domains, domain_margins
from tillage.kernels.hashing import hash_strings
from tillage.kernels.language import detect
from tillage.kernels.likeness import count_features, likeness, log_ratio
from tillage.kernels.minhash import clusters, minhash
from tillage.kernels.overlap import MAX_DOCUMENTS, common, matches, ngram_set, uncommon
from tillage.kernels.repetition import REPETITION, repetition
from tillage.kernels.text_stats import STATS, text_stats

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
TARGET_SHARES = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
NEAR_DUPLICATE = 0.8
OVERLAP_WORDS = 13
TOXIC = 0.01
"""The bound of `toxic_words`."""

BY_DOMAIN = (
    "chars",
    "words",
    "mean_word_length",
    "alpha_words",
    "stop_words",
    "symbol_share",
    "digit_share",
    "html_share",
    "dup_line_chars",
    "dup_5gram",
)


class Distribution(Spec):
    """Mean and quantiles of a measurement over `n` documents; keys of `quantiles` are `p01` ... `p99`."""

    n: int
    mean: float
    quantiles: dict[str, float]

    def at(self, share: float) -> float:
        """The quantile, interpolated between those stored; the outermost ones beyond them."""
        return float(np.interp(share, QUANTILES, [self.quantiles[_label(q)] for q in QUANTILES]))


class FieldProfile(Spec):
    """A column. `role` `note` is free text, `key` is unique in each row."""

    name: str
    type: str
    role: Literal[
        "id",
        "text",
        "domain",
        "source",
        "line",
        "category",
        "number",
        "note",
        "key",
        "date",
        "url",
        "messages",
        "nested",
    ]
    null_share: float
    distinct: int
    n: int


class DomainProfile(Spec):
    """One domain of the sample; shares are of the sample's bytes."""

    documents: int
    bytes: int
    share: float
    exact_duplicates: Rate
    near_duplicates: Rate
    code: Rate
    markup: Rate
    licence: Rate
    likeness: Distribution | None
    overlap: Rate | None
    quality: dict[str, Distribution]


class OperatingPoint(Spec):
    """A bound on likeness: the share of the target's and of the sample's documents above it (of the sample's
    bytes, too), and where it lies (`score`) for an operator fitted to the whole deduplicated sample."""

    target_kept: float
    raw_kept: float
    raw_bytes_kept: float
    score: float


class TargetProfile(Spec):
    """The target's search part and how the deduplicated sample relates to it.

    `likeness` is the cross-fitted score of target documents, `raw_likeness` that of the sample: each half is
    scored by weights from the other half. A document whose own words were counted scores lower than its equal
    that was not, so cross-fitted scores compare the two sides, and only `points` bound an operator's scores.
    """

    documents: int
    bytes: int
    languages: dict[str, float]
    overlap: Rate
    overlap_words: int
    likeness: Distribution
    raw_likeness: Distribution
    separation: float
    points: tuple[OperatingPoint, ...]
    quality: dict[str, Distribution]


class Profile(Spec):
    """A corpus as measured on a sample of `documents` rows and `bytes` bytes of text.

    Duplicate rates count the copies that a deduplication within the sample would drop; a larger sample finds
    more, so they are lower bounds for the corpus.
    """

    documents: int
    bytes: int
    quarantined: Rate
    fields: tuple[FieldProfile, ...]
    domains: dict[str, DomainProfile]
    topics: tuple[Topic, ...]
    languages: dict[str, float]
    language_score: Distribution | None
    scripts: dict[str, float]
    exact_duplicates: Rate
    near_duplicates: Rate
    near_duplicate_threshold: float
    markup: Rate
    code: Rate
    unnormalised: Rate
    garbled: Rate
    boilerplate: Rate
    pii: Rate
    pii_kinds: dict[str, int]
    licence: Rate
    toxic: Rate
    """Documents of which more than 1 % of the words are strong language or slurs, by the built-in list."""
    mislabelled: Rate | None
    """Documents whose words speak for another domain than theirs; None where there is one domain only."""
    chats: ChatFaults | None
    actions: ChatActions | None = None
    """What chats ask for; None where there are none."""
    quality: dict[str, Distribution]
    target: TargetProfile | None = None
    excess: dict[str, tuple[Excess, ...]] = {}
    """Care -> bounds that the mended sample breaks more than the target (`tillage.agent.evidence`)."""

    def evidence(self) -> dict[str, float]:
        """The shares that say which earlier experience is like this one."""
        shares = {
            "exact_duplicates": self.exact_duplicates.rate,
            "near_duplicates": self.near_duplicates.rate,
            "markup": self.markup.rate,
            "garbled": self.garbled.rate,
            "boilerplate": self.boilerplate.rate,
            "code": self.code.rate,
            "pii": self.pii.rate,
            "licence": self.licence.rate,
            "toxic": self.toxic.rate,
            "mislabelled": self.mislabelled.rate if self.mislabelled is not None else 0.0,
            "main_language": max(self.languages.values(), default=0.0),
        }
        if self.chats is not None:
            shares["broken_chats"] = self.chats.any_structure.rate
            shares["bad_answers"] = self.chats.refused.rate + self.chats.truncated.rate
            shares["repeated_prompts"] = self.chats.repeated_prompts.rate
        if self.target is not None:
            shares |= {"overlap": self.target.overlap.rate, "separation": self.target.separation}
        shares |= {
            f"excess {bound.measure} {bound.side}": bound.dropped for bound in self.excess.get("usual", ())
        }
        return {name: round(value, 4) for name, value in shares.items()}


def profile(
    sample: pa.Table | Path | Sequence[Path],
    target_texts: Sequence[str] | None = None,
    log: EventLog | None = None,
) -> Profile:
    """Measure raw rows (columns of `data.schema.BASE`, and any more) and their relation to a target.

    Rows are used in the order of their ids, so the result does not depend on how they came. Emits `Profiled`.

    Raises:
        UserError: the sample lacks a base column or holds no text.
    """
    table: pa.Table = sample if isinstance(sample, pa.Table) else _read(sample)
    missing = [name for name in (ID, TEXT, DOMAIN) if name not in table.column_names]
    if missing:
        raise UserError("the sample is not of raw rows", got=table.column_names, expected=f"also {missing}")
    table = table.sort_by(ID)
    readable = pc.fill_null(pc.greater(pc.utf8_length(table[TEXT]), 0), False)
    rows = table.filter(readable)
    if rows.num_rows == 0:
        raise UserError("the sample holds no text", got=f"{table.num_rows} rows")
    unreadable = int(pc.sum(pc.is_null(table[TEXT])).as_py() or 0)
    texts = _column(rows, TEXT)
    target = pa.array(list(target_texts), pa.large_string()) if target_texts else None
    measured = _Measured(texts, target)
    domain_names = np.array(pc.fill_null(rows[DOMAIN], "").to_pylist(), dtype=object)
    domains = {
        str(name): measured.domain(domain_names == name) for name in sorted({*domain_names.tolist()}, key=str)
    }
    chats = rows[MESSAGES].combine_chunks() if MESSAGES in rows.column_names else None
    found = Profile(
        documents=rows.num_rows,
        bytes=int(measured.sizes.sum()),
        quarantined=Rate.of(unreadable, table.num_rows),
        fields=tuple(_field(table, name) for name in table.column_names if not name.startswith("_")),
        domains=domains,
        topics=topics(texts, list(domain_names)),
        languages=_shares(measured.languages),
        scripts=_shares(scripts(texts)),
        language_score=_distribution(measured.language_scores),
        exact_duplicates=Rate.of(int(measured.exact.sum()), rows.num_rows),
        near_duplicates=Rate.of(int(measured.near.sum()), rows.num_rows),
        near_duplicate_threshold=NEAR_DUPLICATE,
        markup=Rate.of(int(measured.markup.sum()), rows.num_rows),
        code=Rate.of(int(measured.code.sum()), rows.num_rows),
        unnormalised=Rate.of(int(measured.unnormalised.sum()), rows.num_rows),
        garbled=Rate.of(int(measured.garbled.sum()), rows.num_rows),
        boilerplate=Rate.of(int((measured.shared_lines > 0).sum()), rows.num_rows),
        pii=Rate.of(int(measured.pii.sum()), rows.num_rows),
        pii_kinds=measured.pii_kinds,
        licence=Rate.of(int(measured.licence.sum()), rows.num_rows),
        toxic=_toxic(texts),
        mislabelled=_mislabelled(texts, list(domain_names)),
        chats=chat_faults(chats) if chats is not None else None,
        actions=chat_actions(chats) if chats is not None else None,
        quality=_distributions(measured.numbers, None),
        target=measured.target_profile(),
    )
    if log is not None:
        log.emit(Profiled(found.model_dump(mode="json")))
    return found


class _Measured:
    """Every measurement of the sample's texts, an array each."""

    def __init__(self, texts: pa.Array, target: pa.Array | None) -> None:
        self.sizes = np.asarray(pc.binary_length(texts.cast(pa.large_binary())), np.int64)
        self.target = target
        # The kernels release the GIL, and regular expressions hold it: one thread for each.
        with ThreadPoolExecutor(1) as pool:
            copies = pool.submit(_copies, texts)
            numbers = pool.submit(_numbers, texts)
            self.code = code_like(texts)
            self.licence = licence_like(texts)
            self.pii, self.pii_kinds = pii_counts(texts)
            self.unnormalised = unnormalised(texts)
            self.garbled = garbled(texts)
            self.shared_lines = shared_lines(texts, target)
            self.languages, self.language_scores = detect(texts)
            self.exact, self.near = copies.result()
            self.numbers = numbers.result()
        self.markup = markup_like(texts, self.numbers)
        if target is not None:
            found = matches(texts, ngram_set(target, OVERLAP_WORDS))
            self.overlap = _floats(uncommon(found, common(found, MAX_DOCUMENTS))) > 0
            self.single = np.flatnonzero(~(self.exact | self.near))
            self.likeness = np.full(len(texts), np.nan)
            once = texts.take(pa.array(self.single))
            self.likeness[self.single], self.target_likeness = cross_fit(once, target)
            self.fitted = _floats(likeness(once, log_ratio(count_features(target), count_features(once))))

    def domain(self, of: NDArray[np.bool_]) -> DomainProfile:
        count = int(of.sum())
        size = int(self.sizes[of].sum())
        return DomainProfile(
            documents=count,
            bytes=size,
            share=size / max(int(self.sizes.sum()), 1),
            exact_duplicates=Rate.of(int(self.exact[of].sum()), count),
            near_duplicates=Rate.of(int(self.near[of].sum()), count),
            code=Rate.of(int(self.code[of].sum()), count),
            markup=Rate.of(int(self.markup[of].sum()), count),
            licence=Rate.of(int(self.licence[of].sum()), count),
            likeness=None if self.target is None else _distribution(self.likeness[of]),
            overlap=None if self.target is None else Rate.of(int(self.overlap[of].sum()), count),
            quality=_distributions({name: self.numbers[name] for name in BY_DOMAIN}, of),
        )

    def target_profile(self) -> TargetProfile | None:
        if self.target is None:
            return None
        raw, target = _distribution(self.likeness), _distribution(self.target_likeness)
        if raw is None or target is None:
            raise UserError("neither sample nor target holds words", hint="look at the target's text field")
        return TargetProfile(
            documents=len(self.target),
            bytes=int(pc.sum(pc.binary_length(self.target.cast(pa.large_binary()))).as_py() or 0),
            languages=_shares(detect(self.target)[0]),
            overlap=Rate.of(int(self.overlap.sum()), len(self.overlap)),
            overlap_words=OVERLAP_WORDS,
            likeness=target,
            raw_likeness=raw,
            separation=_separation(self.target_likeness, self.likeness),
            points=_points(
                self.target_likeness, self.likeness[self.single], self.fitted, self.sizes[self.single]
            ),
            quality=_distributions(_numbers(self.target), None),
        )


def _copies(texts: pa.Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows repeat an earlier one exactly, and which are near-copies of one (exact ones among them)."""
    exact = np.ones(len(texts), np.bool_)
    exact[np.unique(hash_strings(texts), return_index=True)[1]] = False
    sketches, some = minhash(texts)
    return exact, (clusters(sketches, 8, NEAR_DUPLICATE, 6) != np.arange(len(texts))) & some


def label_margins(texts: pa.Array, domains: Sequence[str]) -> NDArray[np.float64]:
    """How much more the words of each text speak for its own domain than for the others, in nats
    (`tillage.kernels.domains`); NaN where that cannot be told."""
    folds = (hash_strings(texts) % np.uint64(FOLDS)).astype(np.int64)
    counts: Counts = {}
    rows: dict[str, int] = {}
    count_domains(texts, domains, folds, counts, rows)
    return domain_margins(texts, domains, folds, counts, rows)


def _toxic(texts: pa.Array) -> Rate:
    ratio = toxic_ratio(toxic_counts(texts, tuple(built_in().items())), level=2)
    return Rate.of(int((ratio > TOXIC).sum()), len(texts))


def _mislabelled(texts: pa.Array, domains: Sequence[str]) -> Rate | None:
    margins = label_margins(texts, domains) if len(set(domains)) > 1 else np.full(1, np.nan)
    told = margins[~np.isnan(margins)]
    return Rate.of(int((told < 0).sum()), len(told)) if len(told) else None


def cross_fit(texts: pa.Array, target: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Likeness of sample and target, each text scored by the other half's weights; NaN without words."""
    counts = [(count_features(target[side::2]), count_features(texts[side::2])) for side in (0, 1)]
    scored: list[NDArray[np.float64]] = []
    for array in (texts, target):
        out = np.full(len(array), np.nan)
        for side in (0, 1):
            out[side::2] = _floats(likeness(array[side::2], log_ratio(*counts[1 - side])))
        scored.append(out)
    return scored[0], scored[1]


def _points(
    target: NDArray[np.float64],
    raw: NDArray[np.float64],
    fitted: NDArray[np.float64],
    sizes: NDArray[np.int64],
) -> tuple[OperatingPoint, ...]:
    """For shares of the target, the share of the sample that passes too, and the bound that passes it."""
    has_words = ~np.isnan(fitted)
    target, raw, fitted = target[~np.isnan(target)], raw[has_words], fitted[has_words]
    sizes = sizes[has_words]
    found: list[OperatingPoint] = []
    for share in TARGET_SHARES:
        kept = float((raw >= np.quantile(target, 1 - share)).mean())
        bound = float(np.quantile(fitted, 1 - kept))
        passed = fitted >= bound
        found.append(
            OperatingPoint(
                target_kept=share,
                raw_kept=round(float(passed.mean()), 6),
                raw_bytes_kept=round(float(sizes[passed].sum() / max(sizes.sum(), 1)), 6),
                score=float(f"{bound:.6g}"),
            )
        )
    return tuple(found)


def _separation(target: NDArray[np.float64], raw: NDArray[np.float64]) -> float:
    """Chance that a target document scores above a raw one (area under the ROC curve), ties counted half."""
    target, raw = np.sort(target[~np.isnan(target)]), np.sort(raw[~np.isnan(raw)])
    below = np.searchsorted(raw, target, "left").sum() + np.searchsorted(raw, target, "right").sum()
    return float(below) / (2 * len(target) * len(raw))


def _numbers(texts: pa.Array) -> dict[str, NDArray[np.float64]]:
    columns = {**text_stats(texts), **repetition(texts)}
    return {name: _floats(columns[name]) for name in (*STATS, *REPETITION)}


def _floats(array: pa.Array) -> NDArray[np.float64]:
    return np.asarray(array.cast(pa.float64()).fill_null(float("nan")), np.float64)


def _distributions(
    numbers: Mapping[str, NDArray[np.float64]], of: NDArray[np.bool_] | None
) -> dict[str, Distribution]:
    found = {name: _distribution(values if of is None else values[of]) for name, values in numbers.items()}
    return {name: value for name, value in found.items() if value is not None}


def _distribution(values: NDArray[np.float64] | pa.Array) -> Distribution | None:
    numbers = _floats(values) if isinstance(values, pa.Array) else values
    numbers = numbers[~np.isnan(numbers)]
    if len(numbers) == 0:
        return None
    cuts = np.quantile(numbers, QUANTILES)
    return Distribution(
        n=len(numbers),
        mean=round(float(numbers.mean()), 6),
        quantiles={_label(q): round(float(v), 6) for q, v in zip(QUANTILES, cuts, strict=True)},
    )


def _label(share: float) -> str:
    return f"p{round(share * 100):02d}"


def _shares(values: pa.Array) -> dict[str, float]:
    """Value -> share of all rows, nulls as `unknown`, most frequent first."""
    counts = pc.value_counts(pc.fill_null(values, "unknown")).to_pylist()
    ordered = sorted(counts, key=lambda c: (-c["counts"], c["values"]))
    return {c["values"]: round(c["counts"] / len(values), 6) for c in ordered}


def _field(table: pa.Table, name: str) -> FieldProfile:
    column = table[name]
    nested = pa.types.is_nested(column.type)
    distinct = len({str(v) for v in column.to_pylist()}) if nested else int(pc.count_distinct(column).as_py())
    present = len(column) - column.null_count
    roles = {ID: "id", TEXT: "text", DOMAIN: "domain", SOURCE: "source", LINE: "line"}
    if name in roles:
        role = roles[name]
    elif nested:
        role = "messages" if name == MESSAGES else "nested"
    elif pa.types.is_temporal(column.type):
        role = "date"
    elif not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        role = "number"
    elif (form := value_form(column.drop_null().slice(0, 50).to_pylist())) is not None:
        role = form
    elif distinct == present and present > 1:
        role = "key"
    else:
        role = "category" if distinct <= max(20, present // 10) else "note"
    return FieldProfile.model_validate(
        {
            "name": name,
            "type": str(column.type),
            "role": role,
            "null_share": column.null_count / max(len(column), 1),
            "distinct": distinct,
            "n": len(column),
        }
    )


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name].cast(pa.large_string()).combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _read(paths: Path | Sequence[Path]) -> pa.Table:
    files = [paths] if isinstance(paths, Path) else list(paths)
    try:
        return pa.concat_tables([pq.read_table(file) for file in files], promote_options="default")
    except (OSError, pa.ArrowException) as error:
        raise UserError("cannot read the sample", where=", ".join(map(str, files)), got=str(error)) from error
