"""What a prepared corpus got right, row by row, and what it is worth to a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from bench.workflows.rows import Row

from tillage.agent.probe import EffectMeter, NgramProbe
from tillage.agent.rungs import OVERLAP_WORDS
from tillage.core.stats import Interval, paired_interval
from tillage.kernels.overlap import MAX_DOCUMENTS, common, matches, ngram_set, uncommon

LEFT = 0.8
"""A repaired row must still have this share of the words of the text that it was made from."""

PROBE_SEEDS = range(1_000, 1_005)
PROBE_BYTES = 2_000_000

Key = tuple[str, int]


@dataclass(frozen=True)
class Output:
    """A row of the prepared corpus."""

    text: str
    domain: str


@dataclass(frozen=True)
class RowScore:
    """Shares by row; `by_fault` is the recall of each kind of fault."""

    recall: float
    precision: float
    clean_kept: float
    faulty: int
    by_fault: dict[str, float]


def score_rows(rows: Sequence[Row], output: Mapping[Key, Output]) -> RowScore:
    """Recall and precision of the planted faults, and the share of clean rows that are still there.

    `output` is keyed by (file, line). A faulty row is found when: (drop) it is gone, or has its true label;
    (mend) it is there, without any of its marks and with most of its words; (copy) it is gone, and another of
    its group is there; (read) its text is there. Precision: of the rows gone or altered, the share that
    were faulty. In a group one row is clean, whichever it is.
    """
    found, planted = Counter[str](), Counter[str]()
    clean = kept = touched_clean = 0
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.group:
            groups.setdefault(row.group, []).append(row)
            continue
        out = output.get((row.file, row.line))
        if row.fault:
            planted[row.fault] += 1
            found[row.fault] += _found(row, out)
        else:
            clean += 1
            kept += out is not None
            touched_clean += out is None or not _same(out.text, row.text)
    for members in groups.values():
        here = sum((row.file, row.line) in output for row in members)
        fault = next(row.fault for row in members if row.fault)
        planted[fault] += len(members) - 1
        found[fault] += min(len(members) - here, len(members) - 1)
        clean += 1
        kept += here > 0
        touched_clean += here == 0
    hits = sum(found.values())
    return RowScore(
        recall=hits / max(sum(planted.values()), 1),
        precision=hits / max(hits + touched_clean, 1),
        clean_kept=kept / max(clean, 1),
        faulty=sum(planted.values()),
        by_fault={fault: round(found[fault] / n, 4) for fault, n in sorted(planted.items())},
    )


def _found(row: Row, out: Output | None) -> bool:
    if row.cure == "drop":
        return out is None or (bool(row.label) and out.domain == row.label)
    if out is None:
        return False
    marks_gone = not any(mark in out.text for mark in row.marks)
    return marks_gone and _words_left(row.original, out.text) >= LEFT


def _words_left(before: str, after: str) -> float:
    """The share of the words of `before` that `after` still has, accents aside."""
    a, b = (Counter(re.findall(r"[a-z0-9]+", text.lower())) for text in (before, after))
    return sum((a & b).values()) / max(sum(a.values()), 1)


def _same(a: str, b: str) -> bool:
    """Equal but for white space and characters that cannot be seen."""
    return "".join(c for c in a if c.isalnum()) == "".join(c for c in b if c.isalnum())


def oracle(rows: Sequence[Row]) -> list[str]:
    """The corpus of whoever knows the truth: clean rows, first copies, originals of what can be mended."""
    kept: list[str] = []
    groups: set[str] = set()
    for row in rows:
        if row.group:
            if row.group in groups:
                continue
            groups.add(row.group)
            kept.append(row.original or row.text)
        elif row.cure in ("mend", "read"):
            kept.append(row.original)
        elif row.cure == "keep" or row.label:
            kept.append(row.text)
    return kept


def holding(rows: Sequence[Row], target: Sequence[str]) -> set[Key]:
    """Rows that hold target text, planted or real: they are in no arm, since a leak is no gain.

    By shared runs of 13 words that are not in many rows, as the gate of decontamination sees it.
    """
    texts = pa.array([row.original or row.text for row in rows], pa.large_string())
    found = matches(texts, ngram_set(pa.array(list(target), pa.large_string()), OVERLAP_WORDS))
    shared = uncommon(found, common(found, MAX_DOCUMENTS)).fill_null(0).to_pylist()
    return {
        (row.file, row.line)
        for row, count in zip(rows, shared, strict=True)
        if count or row.fault == "contamination"
    }


@dataclass(frozen=True)
class Worth:
    """Bits per byte against raw; below zero is better."""

    arm: str
    interval: Interval
    values: list[float]


def measure(arms: Mapping[str, list[str]], raw: list[str], target: Sequence[str]) -> dict[str, Worth]:
    """Each arm against raw on the target's holdout: the same bytes for planner, oracle and raw, so that their
    gains compare; another arm that is smaller is measured against raw on its own size."""
    meter = EffectMeter(NgramProbe(), target, list(PROBE_SEEDS), PROBE_BYTES)
    shared = meter.common_budget([raw, *(arms[name] for name in ("planner", "oracle") if name in arms)])
    found: dict[str, Worth] = {}
    for name, documents in arms.items():
        budget = min(shared, meter.common_budget([documents]))
        after, before = meter.measure([documents, raw], budget)
        found[name] = Worth(name, paired_interval(after, before), after)
    return found
