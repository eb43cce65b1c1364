"""The suites: what is trained, on what, and what is measured at the end of each run."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench.interaction import arms, sft
from bench.interaction.data import DOMAINS, TARGET, Bundle, head, joined, load
from bench.interaction.loop import Forward, Machine, run
from bench.interaction.sizes import Scale, scale_of
from bench.interaction.tasks import TARGETS, accuracy, questions, skill_store

from tillage.train.evaluate import Target, bits_per_byte
from tillage.train.policies import Fixed
from tillage.train.stream import UsedUp
from tillage.train.swarm import best_mixture, draw_mixtures, fit_mixtures
from tillage.train.tokens import TokenStore


@dataclass(frozen=True)
class Work:
    """One run to make, small enough to send to another process.

    `mixture` is set for a proxy of the swarm and for the arm "static".
    """

    suite: str
    arm: str
    seed: int
    fraction: float
    size: str
    data: str
    device: str
    dtype: str
    cache: str
    mixture: dict[str, float] | None = None
    tokens: int | None = None
    threads: int = 1
    factor: float = 1.0
    """On every budget."""
    model: str = ""
    """Of b4: see `sft`."""

    def name(self) -> dict[str, Any]:
        """What its record is found by."""
        return {"suite": self.suite, "arm": self.arm, "seed": self.seed, "fraction": self.fraction}

    def scale(self) -> Scale:
        """Its budgets and shapes."""
        found = scale_of(self.suite, self.size)
        return replace(
            found, tokens=round(found.tokens * self.factor), proxy=round(found.proxy * self.factor)
        )


STORES = {"b2": "domains", "swarm": "domains", "b3": "dirty", "control": "same"}


def execute(work: Work) -> dict[str, Any]:
    """Make one run; the record that goes into the results.

    A run that uses up its data within the bound on repetition ends there, and one that fails ends alone:
    their records say so and hold no measurement.
    """
    machine = Machine(work.device, work.dtype, work.threads)
    cache = Path(work.cache)
    name = work.name()
    try:
        outcome = _made(work, machine, cache)
    except UsedUp as error:
        return {**name, "used_up": str(error.got)}
    except Exception as error:  # noqa: BLE001  # told, made again next time, exit 1
        traceback.print_exc()
        return {**name, "failed": f"{type(error).__name__}: {error}"[:300]}
    return {**name, **outcome.record()}


def _made(work: Work, machine: Machine, cache: Path) -> Any:
    if work.suite == "b4":
        return sft.run(work)
    return _skills(work, machine, cache) if work.suite == "b1" else _text(work, machine, cache)


def _steps(scale: Scale, work: Work) -> int:
    budget = work.tokens or round(work.fraction * scale.tokens)
    return max(budget // (scale.batch * scale.seq_len), 1)


def _skills(work: Work, machine: Machine, cache: Path) -> Any:
    scale = work.scale()
    store = skill_store(cache, scale.tokens)
    make = arms.skills()[work.arm]
    tests = {name: questions(name, scale.evaluate, store.tokenizer) for name in TARGETS}

    def evaluate(forward: Forward) -> dict[str, float]:
        found = {
            name: accuracy(forward, stream, store.tokenizer, scale.seq_len, machine.device).share
            for name, stream in tests.items()
        }
        return {**found, "accuracy": float(np.mean(list(found.values())))}

    target = _skill_target(store, scale)
    return run(
        scale, store, make(_steps(scale, work), work.seed), evaluate, machine,
        seed=work.seed, fraction=work.fraction, target=target, cache=cache,
    )  # fmt: skip


def _skill_target(store: TokenStore, scale: Scale) -> Target:
    """Examples of the target skills for the reference model, other ones than those of the test."""
    parts: list[Target] = []
    for name in TARGETS:
        stream = questions(name, max(scale.reference.tokens // 6, 2_000), store.tokenizer, seed=20_000)
        parts.append(
            Target(
                name,
                stream.astype(np.uint32),
                np.asarray([len(stream)]),
                np.asarray([0, len(stream)]),
                store.tokenizer.eos,
            )
        )
    return joined("skills", parts)


def measure(bundle: Bundle, scale: Scale, names: tuple[str, ...]) -> Callable[[Forward], dict[str, float]]:
    """Bits per byte of the holdout by domain; `mean` is the plain mean over the clean domains."""
    texts = {name: head(bundle.holdout[name], scale.evaluate) for name in names}

    def evaluate(forward: Forward) -> dict[str, float]:
        found = {name: bits_per_byte(forward, text, scale.seq_len, 32) for name, text in texts.items()}
        return {**found, "mean": float(np.mean(list(found.values())))}

    return evaluate


def _text(work: Work, machine: Machine, cache: Path) -> Any:
    scale = work.scale()
    bundle = load(Path(work.data), STORES[work.suite])
    names: tuple[str, ...] = DOMAINS
    target = joined("clean", [bundle.search[name] for name in DOMAINS])
    if work.suite in ("b3",) or work.arm == "ours_target":
        target = bundle.search[TARGET]
    if work.suite == "b3":
        names = (TARGET,)
    if work.suite == "control":
        names, target = ("books",), bundle.search["books"]
    if work.mixture is not None:
        policy = Fixed(weights=work.mixture)
    else:
        table = {"b2": lambda: arms.domains(None), "b3": arms.dirty, "control": arms.control}[work.suite]()
        policy = table[work.arm](_steps(scale, work), work.seed)
    if work.suite == "swarm":
        scale = replace(scale, evaluate=scale.evaluate // 2)
    return run(
        scale, bundle.store, policy, measure(bundle, scale, names), machine,
        seed=work.seed, fraction=work.fraction, tokens=work.tokens, target=target, cache=cache,
    )  # fmt: skip


def swarm_work(base: Work) -> list[Work]:
    """The proxies of the best static mixture: the small budget on random mixtures."""
    scale = base.scale()
    groups = load(Path(base.data), "domains").store.groups
    prior = np.full(len(groups), 1.0 / len(groups))
    return [
        replace(
            base, suite="swarm", arm=f"proxy-{i}", seed=i, tokens=scale.proxy,
            mixture=dict(zip(groups.names, mixture.tolist(), strict=True)),
        )
        for i, mixture in enumerate(draw_mixtures(prior, scale.swarm, seed=1))
    ]  # fmt: skip


def static_mixture(base: Work, works: list[Work], records: list[dict[str, Any]]) -> dict[str, float]:
    """The mixture that the fit over the proxies expects to be best for the mean over the clean domains."""
    scale = base.scale()
    groups = load(Path(base.data), "domains").store.groups
    mixtures = np.asarray([[w.mixture[n] for n in groups.names] for w in works if w.mixture is not None])
    losses = np.asarray([[r["found"][name] for name in DOMAINS] for r in records])
    prior = np.full(len(groups), 1.0 / len(groups))
    most = scale.visits * np.asarray(groups.tokens) / scale.tokens
    found = best_mixture(fit_mixtures(mixtures, losses), prior, np.minimum(most, 1.0))
    return dict(zip(groups.names, found.tolist(), strict=True))
