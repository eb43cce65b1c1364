"""The rungs of the verification ladder, each a function from what was measured to findings and evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.agent.findings import Finding
from tillage.agent.goal import FrozenGoal
from tillage.agent.probe import Effect, EffectMeter
from tillage.core.events import Json, StepAccount
from tillage.core.stats import mean_interval
from tillage.core.text import percent
from tillage.flow.check import check
from tillage.flow.recipe import Recipe
from tillage.kernels.likeness import count_features, likeness, log_ratio
from tillage.kernels.overlap import MAX_DOCUMENTS, NgramSet, common, matches, ngram_set, uncommon

PURPOSES = frozenset(
    {"decontaminate", "pii_mask", "fix_mojibake", "unicode_normalise", "html_to_text", "exact_dedup",
     "minhash_dedup", "prompt_dedup", "line_dedup"}
)  # fmt: skip
"""Operators that stand for a purpose of their own, safety or repair: they need no effect to be kept."""

TOLERATED = 0.01
"""Bits per byte that the aim `clean` may cost, since mending and masking are wanted for themselves."""

GATES = frozenset({"decontaminate", "pii_mask"})
"""Operators that guard: they may change nothing in a sample, and what they drop is not a loss."""

OVERLAP_WORDS = 13


@dataclass(frozen=True)
class Sampled:
    """A candidate's sample run: tables ordered by id; `dropped` has `step` and `reason`."""

    accounts: list[StepAccount]
    kept: pa.Table
    dropped: pa.Table
    seconds: float

    @property
    def documents(self) -> list[str]:
        return [text for text in self.kept["text"].to_pylist() if text]

    @property
    def kept_bytes(self) -> int:
        return self.accounts[-1].bytes_out if self.accounts else 0


class Yardstick:
    """Likeness to the target's search part, with weights fixed by the raw sample: one scale for all."""

    def __init__(self, target: Sequence[str], raw: pa.Table) -> None:
        texts = pa.array(list(target), pa.large_string())
        self.weights = log_ratio(count_features(texts), count_features(raw["text"]))
        self.grams: NgramSet = ngram_set(texts, OVERLAP_WORDS)
        # What is boilerplate is settled by the raw rows, as for likeness.
        found = matches(raw["text"], self.grams)
        self.boilerplate = common(found, MAX_DOCUMENTS)
        # What overlaps with the target looks most like it; losing that is no drift, and no control has it.
        touching = np.asarray(uncommon(found, self.boilerplate).fill_null(0), np.int64) > 0
        self.clean = raw.filter(pa.array(~touching))
        self.before = mean_interval(list(self.likeness(self.clean["text"])) or [0.5])

    def likeness(self, texts: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
        """Scores of the texts that have words, in their order."""
        scores = likeness(texts, self.weights).cast(pa.float64()).drop_null()
        return np.asarray(scores, np.float64)

    def overlapping(self, texts: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
        """Which texts share a 13-gram with the target that is not boilerplate."""
        found = uncommon(matches(texts, self.grams), self.boilerplate)
        return np.asarray(found.fill_null(0), np.int64) > 0


def contract(frozen: FrozenGoal, recipe: Recipe, schema: pa.Schema) -> tuple[list[Finding], Json]:
    """Names, types, order and scope hold, and the goal forbids none of the operators."""
    findings = [Finding.of_contract(found) for found in check(recipe, inputs=False, schema=schema)]
    findings += [
        Finding(
            "contract",
            "forbidden_operator",
            step.id,
            f"the goal forbids {step.op.name}",
            "leave the step out",
        )
        for step in recipe.steps
        if step.op.name in frozen.goal.constraints.forbidden
    ]
    return findings, {"steps": len(recipe.steps), "operators": [step.op.name for step in recipe.steps]}


def sample(frozen: FrozenGoal, recipe: Recipe, sampled: Sampled) -> tuple[list[Finding], Json]:
    """Accounts balance, enough remains, and each step does something and leaves something."""
    findings: list[Finding] = []
    accounts = sampled.accounts
    kinds = {step.id: step.op for step in recipe.steps}
    for account in accounts:
        gone = sum(account.dropped.values()) + sum(account.quarantined.values())
        if account.rows_in + account.added != account.rows_out + gone:
            message = f"{account.rows_in} rows in, {account.rows_out} out and {gone} dropped"
            findings.append(Finding("sample", "accounts_unbalanced", account.step, message))
        op = kinds.get(account.step)
        if op is None:
            continue
        if account.rows_in and not account.rows_out:
            findings.append(
                Finding("sample", "drops_everything", account.step, f"drops all {account.rows_in} rows",
                        "loosen its bounds")
            )  # fmt: skip
        same = account.rows_in == account.rows_out and account.bytes_in == account.bytes_out
        useful = op.kind == "annotate" or op.name in GATES or op.writes().keys() - {"text"} - _flags(op.name)
        if same and not useful:
            findings.append(
                Finding("sample", "changes_nothing", account.step,
                        f"changes none of {account.rows_in} sampled rows", "leave the step out")
            )  # fmt: skip
    raw, left = accounts[0].bytes_in if accounts else 0, sampled.kept_bytes
    retention = left / raw if raw else 0.0
    least = frozen.goal.constraints.min_retention
    if retention < least:
        worst = _greediest(accounts)
        message = f"keeps {percent(retention)} of the bytes, the goal asks for {percent(least)}"
        findings.append(Finding("sample", "retention_low", worst, message, f"loosen {worst}"))
    evidence: Json = {
        "rows_in": accounts[0].rows_in if accounts else 0,
        "rows_kept": accounts[-1].rows_out if accounts else 0,
        "bytes_kept": left,
        "retention": round(retention, 6),
        "dropped": {a.step: sum(a.dropped.values()) for a in accounts if a.dropped},
        "seconds": round(sampled.seconds, 3),
    }
    return findings, evidence


def _flags(name: str) -> set[str]:
    """Columns that only carry an operator's own decision, so writing them is not a use of the operator."""
    return {
        "exact_dedup": {"duplicate_of", "duplicates"},
        "minhash_dedup": {"near_duplicate_of", "near_duplicates"},
        "prompt_dedup": {"prompt_duplicate_of", "prompt_duplicates"},
        "domain_quota": {"over_quota"},
    }.get(name, set())


def _greediest(accounts: Sequence[StepAccount]) -> str:
    """The step that drops the most bytes, the gates and the read step excepted."""
    steps = [a for a in accounts if a.operator not in GATES and a.dropped]
    return min(steps, key=lambda a: a.bytes_out / max(a.bytes_in, 1)).step if steps else ""


def distribution(
    recipe: Recipe,
    sampled: Sampled,
    raw_shares: Mapping[str, float],
    yardstick: Yardstick | None,
    aim: str = "target",
) -> tuple[list[Finding], Json]:
    """What moved: domain shares, and likeness to the target, for the whole and for what each step drops."""
    domains = {"raw": raw_shares, "kept": domain_shares(sampled.kept)}
    evidence: Json = {
        "domains": {of: {k: round(v, 4) for k, v in shares.items()} for of, shares in domains.items()}
    }
    if yardstick is None:
        return [], evidence
    findings: list[Finding] = []
    texts = sampled.kept["text"]
    touching = int(yardstick.overlapping(texts).sum())
    gate = any(step.op.name == "decontaminate" for step in recipe.steps)
    if touching and not gate:
        message = f"{touching} kept documents share a {OVERLAP_WORDS}-gram with the target"
        findings.append(Finding("distribution", "contaminated", "", message, "add decontaminate"))
    before = yardstick.before
    kept = mean_interval(list(yardstick.likeness(texts)) or [0.5])
    dropped = _dropped_likeness(recipe, sampled, yardstick)
    evidence |= {
        "likeness_raw": _triple(before.mean, before.low, before.high),
        "likeness_kept": _triple(kept.mean, kept.low, kept.high),
        "likeness_dropped": {step: round(mean, 4) for step, (mean, _) in dropped.items()},
        "overlapping": touching,
    }
    # For the aim `clean` likeness is no aim: repair and fewer copies change it as they may.
    if kept.high < before.low and aim == "target":
        judged = {s: (mean - kept.mean) * n for s, (mean, n) in dropped.items() if mean > kept.mean}
        worst = max(judged, key=lambda s: judged[s], default="")
        message = f"mean likeness to the target falls from {before.mean:.4f} to {kept.mean:.4f}"
        if worst:
            message += f"; {worst} drops {dropped[worst][1]} documents of mean {dropped[worst][0]:.4f}"
        findings.append(
            Finding("distribution", "away_from_target", worst, message, "loosen or drop the step")
        )
    return findings, evidence


def _dropped_likeness(recipe: Recipe, sampled: Sampled, yardstick: Yardstick) -> dict[str, tuple[float, int]]:
    gates = {step.id for step in recipe.steps if step.op.name in GATES}
    steps = np.asarray(sampled.dropped["step"].to_pylist(), dtype=object)
    found: dict[str, tuple[float, int]] = {}
    for step in recipe.steps:
        rows = steps == step.id
        if step.id in gates or not rows.any():
            continue
        scores = yardstick.likeness(sampled.dropped["text"].filter(pa.array(rows)))
        if len(scores):
            found[step.id] = (float(scores.mean()), len(scores))
    return found


def domain_shares(table: pa.Table) -> dict[str, float]:
    """Share of the bytes of text by domain."""
    sizes: dict[str, int] = {}
    for domain, text in zip(table["domain"].to_pylist(), table["text"].to_pylist(), strict=True):
        sizes[domain or ""] = sizes.get(domain or "", 0) + len((text or "").encode())
    total = sum(sizes.values()) or 1
    return {name: size / total for name, size in sorted(sizes.items())}


def effect(
    name: str,
    sampled: Sampled,
    control: Sequence[str],
    meter: EffectMeter,
    tolerated: float = 0.0,
) -> tuple[list[Finding], Json, Effect]:
    """Candidate against raw control on the target's search part; harmful where the interval lies above
    `tolerated` bits per byte."""
    measured = meter.effect(name, sampled.documents, "raw", control)
    interval = measured.interval
    evidence: Json = {
        "probe": measured.probe,
        "seeds": measured.seeds,
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "improves": measured.improves,
        "budget_bytes": meter.budget_bytes,
        "bytes_available": sampled.kept_bytes,
    }
    if not interval.above(tolerated):
        return [], evidence, measured
    message = f"{interval.mean:+.4f} bits per byte against raw [{interval.low:+.4f}, {interval.high:+.4f}]"
    judged = [account for account in sampled.accounts if account.operator not in PURPOSES]
    worst = _greediest(judged) or _greediest(sampled.accounts)
    return [Finding("effect", "harmful", worst, message, "drop the step")], evidence, measured


def _triple(*values: float) -> list[float | None]:
    """Mean, low, high; None where a single document leaves an end open, which JSON cannot say."""
    return [round(value, 5) if math.isfinite(value) else None for value in values]
