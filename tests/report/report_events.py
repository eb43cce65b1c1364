"""A made-up event log with every kind of event, to test what is drawn from one. Nothing here was measured."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict
from pathlib import Path

from tillage.core import events as ev
from tillage.core.stats import mean_interval, paired_interval, rate_interval

DOMAINS = ["code", "docstring", "licence", "markup", "other", "prose"]
ARMS = ["raw, plain", "prepared, plain", "prepared, dynamic", "second round"]
HOSTILE = (
    "</pre><script>fetch('https://example.org/x')</script><img src=https://example.org/y.png>"
    ' & "quoted" \x00 ü 漢字 🌾'
)


def recipe(name: str, extra: bool) -> dict[str, object]:
    steps: list[dict[str, object]] = [
        {"unicode_normalise": {}, "why": "0.8 % of rows hold control characters"},
        {
            "gopher_quality": {"min_words": 40, "max_symbol_ratio": 0.1},
            "why": "22 % of rows have under 40 words",
        },
        {"exact_dedup": {}, "why": "11.2 % of rows are exact copies (n = 2,000)"},
        {"minhash_dedup": {"threshold": 0.8}, "why": "a further 9.4 % are near copies [8.1, 10.8]"},
        {
            "decontaminate": {"against": "target/search.jsonl"},
            "why": "0.6 % of rows share a 13-gram with the target",
        },
    ]
    if extra:
        steps += [
            {
                "target_likeness": {"target": "target/search.jsonl"},
                "why": "target-likeness separates the domains by 1.9",
            },
            {
                "where": {"keep": "target_score > 0.31"},
                "id": "likeness_floor",
                "why": "the lowest third of rows scores 0.31",
            },
        ]
    return {
        "name": name,
        "seed": 7,
        "sources": [{"jsonl": {"path": "raw/*.jsonl"}}],
        "steps": steps,
        "dataset": "docs",
    }


def rate(value: float, n: int = 2_000) -> dict[str, float]:
    i = rate_interval(round(value * n), n)
    return {"rate": i.mean, "low": i.low, "high": i.high, "n": n}


def spread(middle: float) -> dict[str, object]:
    names = ("p01", "p05", "p10", "p25", "p50", "p75", "p90", "p95", "p99")
    factors = (0.02, 0.1, 0.2, 0.5, 1, 2, 4, 7, 19)
    quantiles = {k: middle * q for k, q in zip(names, factors, strict=True)}
    return {"n": 2_000, "mean": middle * 1.6, "quantiles": quantiles}


def profile() -> dict[str, object]:
    """In the form of `tillage.data.profile.Profile`."""
    shares = [0.41, 0.22, 0.09, 0.07, 0.12, 0.09]
    rates = {
        "exact_duplicates": rate(0.112),
        "near_duplicates": rate(0.094),
        "code": rate(0.33),
        "markup": rate(0.071),
    }
    domains = {
        name: {
            "documents": int(2_000 * s),
            "bytes": int(4e7 * s),
            "share": s,
            **rates,
            "licence": rate(s / 3),
            "likeness": spread(s - 0.2),
            "overlap": rate(0.006),
            "quality": {"words": spread(164)},
        }
        for name, s in zip(DOMAINS, shares, strict=True)
    }
    target = {
        "documents": 812,
        "bytes": 611_000,
        "languages": {"en": 1.0},
        "overlap": rate(0.006),
        "overlap_words": 13,
        "likeness": spread(0.4),
        "raw_likeness": spread(0.1),
        "separation": 0.94,
        "quality": {},
    }
    field = {
        "name": "text",
        "type": "large_string",
        "role": "text",
        "null_share": 0.001,
        "distinct": 1_770,
        "n": 2_000,
    }
    return {
        "documents": 2_000,
        "bytes": 40_213_377,
        "quarantined": rate(0.001),
        "fields": [field],
        "domains": domains,
        "languages": {"en": 0.89, "de": 0.04, "fr": 0.03, "zh": 0.02, "ja": 0.02},
        "language_score": spread(0.9),
        **rates,
        "near_duplicate_threshold": 0.8,
        "pii": rate(0.013),
        "pii_kinds": {"email": 26},
        "licence": rate(0.03),
        "quality": {"words": spread(164), "symbol_share": spread(0.01)},
        "target": target,
    }


def accounts(run: str, extra: bool) -> list[ev.Event]:
    """Balanced books of one run, with examples."""
    out: list[ev.Event] = []
    rows, size = 52_724, 40_213_377
    drops = [
        ("read", "jsonl", {}, {"malformed_json": 31, "invalid_utf8": 4}),
        ("unicode_normalise", "unicode_normalise", {}, {}),
        (
            "gopher_quality",
            "gopher_quality",
            {"too_few_words": 8_120, "symbol_ratio": 611, "mean_word_length": 1_904},
            {},
        ),
        ("exact_dedup", "exact_dedup", {"copy": 5_310}, {}),
        ("minhash_dedup", "minhash_dedup", {"near_copy": 3_988}, {}),
        ("decontaminate", "decontaminate", {"overlap": 240}, {}),
    ]
    if extra:
        drops.append(("likeness_floor", "where", {"where": 9_870}, {}))
    for step, operator, dropped, quarantined in drops:
        lost = sum(dropped.values()) + sum(quarantined.values())
        left = int(size * (rows - lost) / rows)
        out.append(ev.StepAccount(run, step, operator, rows, size, rows - lost, left, dropped, quarantined))
        out += [ev.Example(run, step, r, row_id(step + r), f"{HOSTILE} in {step}", False) for r in dropped]
        out.append(ev.Example(run, step, "", row_id(step), "Return the sum.\n\nArgs:\n  a: one", True))
        rows, size = rows - lost, left
    ids = [row_id("a"), row_id("b")]
    hit = {"item": 17, "item_text": HOSTILE, "rows": 2, "ngrams": 4, "share": None, "ids": ids}
    out.append(ev.Contamination(run, "decontaminate", "search.jsonl", "0f", 300, 12, 240, 2, [hit]))
    out.append(ev.Contamination(run, "gate", "search.jsonl", "0f", 300, 1, 3, 0, [{**hit, "share": 0.5}]))
    return out


def row_id(text: str) -> str:
    return text.encode()[:16].ljust(16, b".").hex()


def training(rng: random.Random) -> list[ev.Event]:
    out: list[ev.Event] = []
    for number, arm in enumerate(ARMS):
        for seed in (1, 2, 3):
            shift = rng.gauss(0, 0.02)
            for step in range(0, 300, 5):
                t = step / 300
                mixture = {
                    d: 1.0 + (2.5 * t * number if d == "docstring" else -0.4 * t * (d == "licence"))
                    for d in DOMAINS
                }
                total = sum(mixture.values())
                mixture = {d: v / total for d, v in mixture.items()}
                loss = 4.4 - 0.08 * number + 3.6 * math.exp(-7 * t) + shift + rng.gauss(0, 0.03)
                kept = 0.6 if number >= 2 else 1.0
                out.append(
                    ev.TrainStep(
                        arm,
                        seed,
                        step,
                        step * 4096,
                        loss,
                        3e-3 * (1 - t),
                        mixture,
                        kept,
                        1.0 + number / 3,
                        11_800.0,
                    )
                )
            for step in (60, 120, 180, 240, 300):
                bpb = 2.1 - 0.06 * number + 0.9 * math.exp(-step / 70) + shift / 2
                out.append(ev.Evaluated(arm, seed, step, "search", bpb, 0.4))
            extra = {"reference": 2.1, "scoring": 3.4} if number >= 2 else {}
            spent = {"forward and backward": 15.0 + rng.random(), "data": 0.4, **extra}
            out.append(ev.Overhead(arm, seed, spent, sum(extra.values()) / sum(spent.values())))
    return out


def events() -> list[ev.Event]:
    rng = random.Random(7)
    out: list[ev.Event] = [
        ev.Started("demo", "demo-3f2a9c1e", 7, "0.1.0", "tillage demo --seed 7"),
        ev.Note("the language detector is not installed: languages are unknown", "warning"),
        ev.Phase("profile", "Profile the raw data"),
        ev.Profiled(profile()),
        ev.Phase("profile", "", True, 4.2),
        ev.Phase("plan", "Plan"),
    ]
    names = ["conservative", "web", "target"]
    for name in names:
        spec = recipe(name, name == "target")
        whys = {next(k for k in s if k not in ("why", "id")): str(s["why"]) for s in spec["steps"]}  # type: ignore[union-attr]
        whys["likeness_floor"] = "the lowest third of rows scores under 0.31"
        out.append(ev.Proposed(name, "embedded", f"The {name} way: what the evidence supports.", spec, whys))
    out += [
        ev.Phase("plan", "Plan", True, 0.3),
        ev.Phase("verify", "Verify three candidates by running them"),
    ]
    for name in names:
        for rung in ("contract", "sample", "distribution"):
            bad = name == "web" and rung == "sample"
            finding = "gopher_quality keeps 4 % of the rows, under the bound of 10 %" if bad else ""
            out.append(
                ev.Verified(
                    name,
                    rung,
                    not bad,
                    {"retention": 0.04 if bad else 0.61},
                    finding,
                    "loosen min_words",
                    0.8,
                )
            )
    out.append(
        ev.Repaired(
            "web",
            "retention 4 %",
            "-  min_words: 400\n+  min_words: 40\n   max_words: 9",
            "min_words was loosened",
        )
    )
    out.append(ev.Verified("web", "sample", True, {"retention": 0.55}, seconds=0.9))
    for probe in ("ngram", "transformer"):
        for number, name in enumerate(names):
            control = [2.40 + rng.gauss(0, 0.01) for _ in range(3)]
            candidate = [c + 0.01 - 0.05 * number + rng.gauss(0, 0.006) for c in control]
            d = paired_interval(candidate, control)
            out.append(
                ev.EffectMeasured(
                    name, "raw", probe, [1, 2, 3], candidate, control, d.mean, d.low, d.high, 6.1
                )
            )
    out += [
        ev.ProbesAgree(["ngram", "transformer"], 0.67, names),
        ev.Chosen("target", "lowest measured effect, and its interval lies below zero"),
        ev.Phase("verify", "Verify three candidates by running them", True, 61.0),
        ev.Phase("prepare", "Prepare the data in full"),
        ev.StageDone("0-4f1d", ["read", "gopher_quality"], 42_000, 33_000_000, 5.1, False),
        ev.StageDone("1-99ab", ["exact_dedup", "minhash_dedup"], 31_000, 25_000_000, 4.0, True),
        *accounts("docs-1a2b3c4d", True),
        ev.Committed(
            "datasets/docs",
            0,
            22_646,
            17_300_000,
            "9f" * 16,
            {"recipe": "1a2b3c4d", "run": "docs-1a2b3c4d", "inputs": []},
        ),
        ev.Tokenised("stores/docs", "77aa88bb", 22_646, 5_130_000, 3.3),
        ev.Phase("prepare", "Prepare the data in full", True, 14.8),
        ev.Phase("train", "Train four arms on three seeds"),
        *training(rng),
        ev.Phase("train", "Train four arms on three seeds", True, 118.0),
    ]
    for number, domain in enumerate(DOMAINS):
        value = [-0.02, 0.31, -0.22, -0.05, 0.01, 0.12][number]
        out.append(ev.Utility("domain", domain, value, value - 0.05, value + 0.05, 400))
    for number, key in enumerate(("words q1", "words q2", "words q3", "words q4")):
        value = -0.1 + 0.07 * number
        out.append(ev.Utility("bucket", key, value, value - 0.04, value + 0.04, 250))
    out += [
        ev.Utility("dropped", "gopher_quality:too_few_words", 0.14, 0.05, 0.23, 120),
        ev.Utility("dropped", "likeness_floor:where", -0.33, -0.41, -0.25, 120),
    ]
    out.append(
        ev.Proposed("target-2", "embedded", "Readmits short docstrings.", recipe("target-2", False), {}, 2)
    )
    out.append(ev.Chosen("target-2", "measured effect -0.012 bits per byte against round 1", 2))
    out += accounts("docs-5e6f7a8b", False)
    out.append(ev.Committed("datasets/docs", 1, 32_516, 24_800_000, "8e" * 16, {"run": "docs-5e6f7a8b"}))
    out += accounts("trial-00000000", False)
    for number, arm in enumerate(ARMS):
        values = [2.31 - 0.055 * number + rng.gauss(0, 0.008) for _ in range(3)]
        i = mean_interval(values)
        out.append(ev.Result(arm, values, i.mean, i.low, i.high, 17.0 + 2 * number))
    out += [ev.Cost(0, 0, 0.0), ev.Finished("done", 287.0, 2_900.0)]
    return out


def write(path: Path, chosen: list[ev.Event] | None = None, start: float = 1_790_000_000.0) -> Path:
    """Write events with fixed, spread-out times, so that pages made of them are the same each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    at = start
    with path.open("w", encoding="utf-8") as out:
        for event in chosen if chosen is not None else events():
            at += event.seconds if isinstance(event, ev.Phase) and event.done else 0.01
            record = {"t": round(at, 3), "event": type(event).__name__, **asdict(event)}
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    return path
