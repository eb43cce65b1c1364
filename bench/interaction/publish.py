"""Records of finished runs as a section of docs/benchmarks.md, with every seed, and as raw results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.interaction.protocol import Record
from bench.interaction.sft import ARMS as SFT
from bench.interaction.sizes import scale_of
from bench.interaction.tables import BASE, METRIC, interval, summary
from bench.interaction.tasks import TARGETS
from bench.page import RESULTS, write_section

TITLES = {
    "b1": "B1, skills that build on one another",
    "b2": "B2, seven real domains and one of noise",
    "b3": "B3, targeted pretraining on dirty data",
    "b4": "B4, fine-tuning toward one category of tasks",
    "control": "Negative control: four domains of the same text",
}
WHAT = {
    "b1": "Share of right answers over the three target skills at the full budget; tokens to 90 %.",
    "b2": (
        "Bits per byte: the mean over the seven clean domains, and on the target (PEPs). `ours` aims at text "
        "of all clean domains, `ours_target` at the target's. `static`: the best mixture of a swarm of 24 "
        "proxies by a fit of powers of the shares; `static_linear_fit`: by an earlier fit, which foretold "
        "nothing (LOG.md)."
    ),
    "b3": "Bits per byte on held-out PEPs.",
    "b4": (
        "Bits per byte of held-out answers of the target category (writing code), after fine-tuning on a "
        "pool of five sources; " + "; ".join(f"`{arm}`: {what}" for arm, what in SFT.items()) + "."
    ),
    "control": "Bits per byte on held-out books; no arm can gain.",
}

TITLE_OF_SIZE = {
    "tiny": "to try it", "cpu": "CPU size", "gpu": "GPU size",
    "gpu-pass": "GPU size, as many tokens as B3's store has", "gpu-long": "GPU size, samples come repeatedly",
}  # fmt: skip

HEAD = """Each run has its learning rate decayed to zero at its own budget. Seconds are those of training with
all that the policy needs (references, scores, probes), measured while other runs of the benchmark shared the
device. Intervals are of 95 % over seeds, differences and ratios paired by seed, values in brackets by seed.
`ours` is what `policy: auto` stands for."""


def publish(files: Sequence[Path], size: str, device: str, command: str) -> None:
    """Write the section `interaction-SIZE` and `bench/results/interaction-SIZE.jsonl` from records."""
    records: list[Record] = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    RESULTS.mkdir(parents=True, exist_ok=True)
    raw = RESULTS / f"interaction-{size}.jsonl"
    raw.write_text("".join(json.dumps(r) + "\n" for r in records))
    title = f"Data policies in training, {TITLE_OF_SIZE[size]}"
    write_section(f"interaction-{size}", title, body(records, size, device, command, raw.name))


def body(records: Sequence[Record], size: str, device: str, command: str, raw: str) -> str:
    """The section's text."""
    tables = summary(records)
    out = [
        f"{device}. `{command}`; raw, with every ledger: `bench/results/{raw}`.",
        "",
        HEAD,
    ]
    for suite, table in tables.items():
        scale = scale_of(suite, size)
        out += [
            "",
            f"### {TITLES[suite]}",
            "",
            WHAT[suite] + ("" if suite == "b4" else f" Full budget {scale.tokens:,} tokens."),
        ]
        out += [*_resolved(records, suite), "", *_table(suite, table)]
        out += _by_budget(records, suite)
        ended = [r for r in records if r["suite"] == suite and "used_up" in r]
        out += [""] if ended else []
        out += [f"Used up its data: {r['arm']}, seed {r['seed']}, {r['fraction']}." for r in ended]
    failed = [
        f"Failed: {r['suite']} {r['arm']}, seed {r['seed']}, {r['fraction']}: {r['failed'].splitlines()[0]}  "
        for r in records
        if "failed" in r
    ]
    return "\n".join([*out, *([""] if failed else []), *failed])


def _resolved(records: Sequence[Record], suite: str) -> list[str]:
    notes = {r["arm"]: r["notes"][0] for r in records if r["suite"] == suite and r.get("notes")}
    return ["", *(f"`{arm}`: {note}.  " for arm, note in notes.items())] if notes else []


def _table(suite: str, table: dict[str, Any]) -> list[str]:
    metric, base = METRIC[suite], BASE[suite]
    heads = ["arm", metric, f"against {base}"]
    heads += ["against static", "target", "target against proportional"] if suite == "b2" else []
    heads += list(TARGETS) if suite == "b1" else []
    heads += ["seconds"]
    heads += [] if suite in ("b4", "control") else ["tokens to goal, of base's", "seconds to goal, of base's"]
    rows = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for arm, row in table.items():
        if not row["final"]:
            continue
        cells = [arm, _seeds(row["final"]), interval(row["final"], "against_")]
        if suite == "b2":
            cells += [
                interval(row["static"], "against_"),
                _seeds(row["target"]),
                interval(row["target"], "against_"),
            ]
        if suite == "b1":
            cells += [interval(row["skills"][name], "") for name in TARGETS]
        cells.append(f"{row['final']['seconds']:.1f}")
        if suite not in ("b4", "control"):
            cells += [interval(row.get(f"{cost}_ratio", {}), "") for cost in ("tokens", "seconds")]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _by_budget(records: Sequence[Record], suite: str) -> list[str]:
    """What each seed ended with on the target, for arms that were trained to parts of the budget."""
    if suite not in ("b2", "b3"):
        return []
    found: dict[str, dict[float, dict[int, float]]] = {}
    for record in records:
        if record["suite"] == suite and "found" in record:
            budgets = found.setdefault(record["arm"], {})
            budgets.setdefault(record["fraction"], {})[record["seed"]] = record["found"]["peps"]
    found = {arm: budgets for arm, budgets in found.items() if set(budgets) != {1.0}}
    columns = sorted({fraction for budgets in found.values() for fraction in budgets})
    if not found:
        return []
    rows = [
        "", "On the target, each seed, at parts of the budget:", "",
        "| arm | " + " | ".join(f"{c:g}" for c in columns) + " |", "|" + "---|" * (len(columns) + 1),
    ]  # fmt: skip
    for arm, budgets in found.items():
        cells = [budgets.get(c, {}) for c in columns]
        texts = [", ".join(f"{values[seed]:.4g}" for seed in sorted(values)) for values in cells]
        rows.append(f"| {arm} | " + " | ".join(texts) + " |")
    return rows


def _seeds(row: dict[str, Any]) -> str:
    return f"{interval(row, '')} ({', '.join(f'{v:.4g}' for v in row['values'])})" if row else ""
