"""Tokens a second and share of the peak of the project's trainer, plain and with policies, paired.

    python -m bench.interaction.throughput --size gpu --models 124m,350m --json

One model is built and compiled for each shape; then arms take turns on it, block by block, each between two
blocks of the plain loop, so that what else the machine does meets all of them. Needs torch, numpy, pyarrow,
pydantic and tokenizers, and no data: tokens are random, as only the time counts. Reference models are
untrained for the same reason; their training is not part of the throughput.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.interaction.step_profile import step_profile

from bench import synthetic
from tillage.core.events import EventLog
from tillage.train.evaluate import Target
from tillage.train.feed import Feed
from tillage.train.hardware import wait_for
from tillage.train.history import History
from tillage.train.model import GPT, ModelSpec
from tillage.train.optim import OptimSpec
from tillage.train.parallel import pick_device
from tillage.train.policy import as_chain, parse_policy
from tillage.train.precision import pick_dtype
from tillage.train.probes import gradient_probe, losses_of
from tillage.train.reference import ReferenceLosses
from tillage.train.scorer import Scorer
from tillage.train.signals.gradients import GradientSpec
from tillage.train.tokens import TokenStore
from tillage.train.trainer import Run, TrainSpec

MODELS = {
    "tiny": (ModelSpec(layers=2, width=128), 128, 16, 1024),
    "4m": (ModelSpec(layers=4, width=256), 256, 16, 2048),
    "124m": (ModelSpec(layers=12, width=768), 1024, 64, 50304),
    "350m": (ModelSpec(layers=24, width=1024), 1024, 64, 50304),
}
"""Shape, sequence length, samples in a step, vocabulary."""

ARMS: dict[str, Any] = {
    "mix: odm": "odm",
    "mix: ado": "ado",
    "mix + weight: ado, lin_upper": ["ado", {"lin_upper": {"burn_in": 0}}],
    "weight: lin_upper": {"lin_upper": {"burn_in": 0}},
    "tokens: rho1": "rho1",
    "select: rho 0.9": {"rho_select": {"keep": 0.9}},
    "select: rho 0.75": {"rho_select": {"keep": 0.75}},
    "select: rho 0.75, scorer": {"rho_select": {"keep": 0.75, "scorer": True}},
    "select: rho 0.75, budget 0.13": {"rho_select": {"keep": 0.75, "budget": 0.13}},
    "dots: alignment": "alignment",
    "dots: alignment, budget 0.2": {"alignment": {"budget": 0.2}},
    "dots: alignment, scorer": {"alignment": {"scorer": True}},
    "dots: greats 0.75": {"greats": {"keep": 0.75}},
    "dots: greats 0.75, budget 0.2": {"greats": {"keep": 0.75, "budget": 0.2}},
    "dots: greats 0.75, scorer": {"greats": {"keep": 0.75, "scorer": True}},
    "mix: doge": "doge",
    "mix: balance, budget 0.02": {"balance": {"budget": 0.02}},
    "mix + select + weight": ["ado", {"rho_select": {"keep": 0.9}}, {"lin_upper": {"burn_in": 0}}],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", choices=["cpu", "gpu"], default="gpu" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--models", help=f"of {', '.join(MODELS)}; tiny on a CPU, 124m,350m on a GPU")
    parser.add_argument("--only", help="parts of the names of arms, separated by commas")
    parser.add_argument("--policy", action="append", default=[], help="another arm: a policy's name, or JSON")
    parser.add_argument("--blocks", type=int, default=3, help="turns of each arm")
    parser.add_argument("--steps", type=int, default=8, help="steps in a turn")
    parser.add_argument("--warm", type=int, default=16, help="steps of an arm before, to compile all of it")
    parser.add_argument("--batch", type=int, help="samples in a step")
    parser.add_argument("--gradients", help="settings of gradient signals, as JSON")
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--document-mask", action="store_true")
    parser.add_argument("--profile", action="store_true", help="also say where a plain step's time goes")
    parser.add_argument("--seconds", type=float, default=480, help="no new arm is begun after this")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    parser.add_argument("--json", action="store_true", help="only JSON on standard output")
    options = parser.parse_args()
    began = time.monotonic()
    names = (options.models or ("124m,350m" if options.size == "gpu" else "tiny")).split(",")
    if unknown := set(names) - set(MODELS):
        parser.error(f"unknown models {', '.join(sorted(unknown))}; there are {', '.join(MODELS)}")
    # Where it is written is of no interest, and would name a path of the machine.
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    out: dict[str, Any] = {"bench": "throughput", "machine": _machine(), "options": settings, "results": []}
    for name in names:
        for row in measure(name, options, began):
            out["results"].append(row)
            _save(options, out)  # after each, so that a run that is cut loses nothing that it measured
        _save(options, out)
    print(json.dumps(out), flush=True)


def measure(name: str, options: argparse.Namespace, began: float) -> Iterator[dict[str, Any]]:
    """Every arm on one model, as soon as it is measured."""
    shape, seq_len, batch, vocab = MODELS[name]
    batch = options.batch or batch
    spec = TrainSpec(
        model=shape, seq_len=seq_len, batch=batch, device="cuda" if options.size == "gpu" else "cpu",
        compile=options.size == "gpu" and not options.no_compile, recompute=options.recompute,
        document_mask=options.document_mask,
        optim=OptimSpec(kind=options.optimizer, lr=1e-4, lr_embedding=1e-4),
        threads=torch.get_num_threads(),
        gradients=GradientSpec(**json.loads(options.gradients or "{}")),
    )  # fmt: skip
    device = pick_device(spec.device)
    dtype = pick_dtype(spec.dtype, device.type)
    arms = {**ARMS, **{text: _policy(text) for text in options.policy}}
    if options.only:
        arms = {k: v for k, v in arms.items() if any(part in k for part in options.only.split(","))}
    with tempfile.TemporaryDirectory() as folder:
        store = synthetic.store(Path(folder) / "s", max(40 * batch * seq_len, 2_000_000), 8, vocab)
        model = GPT(shape, vocab, seq_len).to(device)
        plain = _feed(spec, "proportional", store, device, dtype, model)
        run = Run(spec, plain, model, History(plain.groups.names), dtype, device, 1, {}, EventLog())
        _say(options, f"{name}: {model.parameter_count() / 1e6:.1f} M parameters, {device}, {dtype}")
        start = time.perf_counter()
        _block(run, plain, 3)
        _say(options, f"  first steps (compilation): {time.perf_counter() - start:.1f} s")
        seconds = [_block(run, plain, options.steps) for _ in range(options.blocks)]
        first = _row(name, "plain", run, seconds, None)
        _tell(options, first)
        if options.profile and device.type == "cuda":
            first["profile"] = step_profile(lambda: _steps(run, plain, 1), lambda: wait_for(device))
        yield first
        for arm, policy in arms.items():
            if time.monotonic() - began > options.seconds:
                yield {"model": name, "arm": arm, "left_out": "no time"}
                continue
            feed = _feed(spec, policy, store, device, dtype, model)
            _block(run, feed, options.warm)
            feed.ledger.clear()
            feed.forwards.clear()
            mine: list[float] = []
            ratios: list[float] = []
            for _ in range(options.blocks):
                before = _block(run, plain, options.steps)
                mine.append(_block(run, feed, options.steps))
                after = _block(run, plain, options.steps)
                ratios.append(mine[-1] / statistics.mean((before, after)))
            row = _row(name, arm, run, mine, ratios)
            row["ledger_s_per_step"] = {
                k: round(v / (options.blocks * options.steps), 5) for k, v in feed.ledger.items()
            }
            work = 3.0 * batch * options.blocks * options.steps
            row["forwards_share"] = {k: round(v / work, 4) for k, v in feed.forwards.items()}
            _tell(options, row)
            yield row
        if device.type == "cuda":
            first["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
            del run, model
            torch.cuda.empty_cache()


def _save(options: argparse.Namespace, out: dict[str, Any]) -> None:
    if options.out:
        options.out.write_text(json.dumps(out) + "\n")


def _policy(text: str) -> Any:
    return json.loads(text) if text[:1] in "[{" else text


def _feed(
    spec: TrainSpec, policy: Any, store: TokenStore, device: torch.device, dtype: str, model: GPT
) -> Feed:
    chain = as_chain(parse_policy(policy))
    needs, vocab = chain.requires(), store.tokenizer.vocab
    small = GPT(spec.reference.model, vocab, spec.seq_len, 1).to(device).eval()
    rate = small.flops_per_token() / model.flops_per_token()
    extra: dict[str, Any] = {"rates": {"reference": rate, "scorer": rate}}
    measured = model, losses_of(model, dtype, device)
    if needs.scorer:
        extra["scorer"] = scorer = Scorer(spec.reference, vocab, spec.seq_len, dtype, device)
        measured = scorer.model, scorer.losses
    if needs.gradients:
        tokens = np.random.default_rng(0).integers(1, vocab, 64 * spec.seq_len).astype(np.uint32)
        ends = np.asarray([0, len(tokens)])
        target = Target("search", tokens, ends[1:] * 4, ends, store.tokenizer.eos)
        extra["gradients"] = gradient_probe(
            spec.gradients, needs, *measured, measured[1], {"search": target}, spec.seq_len, device=device,
            spans=spec.document_mask,
        )  # fmt: skip
    if needs.reference:
        losses = ReferenceLosses(small, store, spec.seq_len, dtype, 0.0, device.type)
        extra |= {"reference": losses, "token_reference": losses.tokens}
    return Feed(
        store, chain, batch_tokens=spec.batch * spec.seq_len, seq_len=spec.seq_len, device=device,
        spans=spec.document_mask, **extra,
    )  # fmt: skip


def _block(run: Run, feed: Feed, steps: int) -> float:
    """Seconds a step."""
    run.feed = feed
    run.model.train()
    wait_for(run.device)
    began = time.perf_counter()
    _steps(run, feed, steps)
    wait_for(run.device)
    return (time.perf_counter() - began) / steps


def _steps(run: Run, feed: Feed, steps: int) -> None:
    for _ in range(steps):
        run.gradients()
        run.optimizer.step(1.0)
        assert feed.trained is not None


def _row(name: str, arm: str, run: Run, seconds: list[float], ratios: list[float] | None) -> dict[str, Any]:
    tokens = run.spec.batch * run.spec.seq_len
    speed = tokens / statistics.median(seconds)
    return {
        "model": name, "arm": arm, "parameters": run.model.parameter_count(), "seq_len": run.spec.seq_len,
        "batch_tokens": tokens, "dtype": run.dtype, "compile": run.spec.compile,
        "tokens_per_second": round(speed, 1),
        "mfu": None if run.share_of_peak is None else round(speed * run.share_of_peak, 4),
        "overhead": None if ratios is None else round(statistics.median(ratios) - 1, 4),
        "overheads": None if ratios is None else [round(r - 1, 4) for r in ratios],
        "seconds_per_step": [round(s, 5) for s in seconds],
    }  # fmt: skip


def _machine() -> dict[str, Any]:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "device": name,
        "torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads(),
    }  # fmt: skip


def _say(options: argparse.Namespace, text: str) -> None:
    print(text, file=sys.stderr if options.json else sys.stdout, flush=True)


def _tell(options: argparse.Namespace, row: dict[str, Any]) -> None:
    mfu = "" if row["mfu"] is None else f", MFU {row['mfu']:.1%}"
    cost = "" if row["overhead"] is None else f", overhead {row['overhead']:+.1%}"
    _say(options, f"  {row['arm']}: {row['tokens_per_second']:,.0f} tokens/s{mfu}{cost}")


if __name__ == "__main__":
    main()
