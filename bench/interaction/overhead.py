"""Tokens a second of the plain loop against each policy: short runs in turn, so that a pair shares its
minute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.interaction import arms
from bench.interaction.data import TARGET, load
from bench.interaction.loop import Machine, run
from bench.interaction.sizes import TEXT
from bench.interaction.suites import Work

from tillage.core.stats import mean_interval

STEPS, ROUNDS = 40, 3


def overhead(base: Work, wanted: list[str]) -> dict[str, Any]:
    """Throughput of each policy as a ratio to the plain loop beside it; what is spent before training
    (references,
    scores) is listed in seconds, not in the ratio."""
    machine = Machine(base.device, base.dtype, base.threads)
    scale = replace(TEXT[base.size], visits=199)
    steps = 5 if base.size == "tiny" else STEPS
    tokens = steps * scale.batch * scale.seq_len
    cache = Path(base.cache)
    stores = {"dirty": load(Path(base.data), "dirty"), "domains": load(Path(base.data), "domains")}
    table = {
        **{f"domains/{k}": v for k, v in arms.domains(None).items()},
        **{f"dirty/{k}": v for k, v in arms.dirty().items()},
    }

    def rate(name: str, make: arms.Make, seed: int) -> tuple[float, dict[str, float]]:
        bundle = stores[name.partition("/")[0]]
        outcome = run(
            scale, bundle.store, make(steps, seed), lambda forward: {}, machine, seed=seed, tokens=tokens,
            target=bundle.search[TARGET], cache=cache,
        )  # fmt: skip
        before = sum(outcome.ledger.get(k, 0.0) for k in ("reference_training", "ahead_scoring"))
        return outcome.tokens / (outcome.seconds - before), outcome.ledger

    found: dict[str, Any] = {}
    plain = {"domains": arms.domains(None)["proportional"], "dirty": arms.dirty()["all"]}
    for name, make in table.items():
        arm = name.partition("/")[2]
        if wanted and arm not in wanted:
            continue
        kind = name.partition("/")[0]
        rate(name, make, 0)  # compiles, fills caches of reference losses
        ratios: list[float] = []
        ledger: dict[str, float] = {}
        speed = 0.0
        for turn in range(ROUNDS):
            slow, _ = rate(f"{kind}/plain", plain[kind], turn + 1)
            speed, ledger = rate(name, make, turn + 1)
            ratios.append(speed / slow)
        interval = mean_interval(ratios)
        found[name] = {
            "ratio": {"mean": interval.mean, "low": interval.low, "high": interval.high, "seeds": interval.n},
            "tokens_per_second": round(speed), "ledger": {k: round(v, 3) for k, v in ledger.items()},
        }  # fmt: skip
    return found
