"""Several budgets out of one run: branches that decay from its plateau (arXiv 2405.18392)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.train.auto import resolve
from tillage.train.checkpoint import Checkpoints
from tillage.train.evaluate import Target
from tillage.train.result import TrainResult
from tillage.train.spec import TrainSpec
from tillage.train.tokens import TokenStore
from tillage.train.trainer import train


def train_branches(
    spec: TrainSpec,
    budgets: Sequence[int],
    store: TokenStore,
    targets: dict[str, Target],
    log: EventLog | None,
    workdir: Path,
) -> list[TrainResult]:
    """Train to `spec.tokens`, and from checkpoints on the way to each smaller budget.

    A branch is what a run of its budget would have been, bit for bit on a CPU, with the warm-up of the
    longest one: until its decay begins both are the same run. It costs its decay only. Its results are in
    `workdir/branch-TOKENS`.

    Returns:
        The results, by falling budget.

    Raises:
        UserError: the schedule has no plateau, or a branch would begin outside of it.
    """
    target = targets.get(spec.reference.target)
    # What `auto` decides depends on the budget; all branches go the way of the longest.
    policy = resolve(spec.policy, store.packed(spec.packing), target, spec.seq_len, spec.tokens).policy
    spec = spec.model_copy(update={"policy": policy})
    begins = {tokens: _begin(spec, tokens) for tokens in sorted(set(budgets), reverse=True)}
    results = [train(spec, store, targets, log, workdir, forever=begins.values())]
    checkpoints = Checkpoints(workdir / "checkpoints")
    for tokens, step in begins.items():
        branch, folder = _branch(spec, tokens), workdir / f"branch-{tokens}"
        folder.mkdir(exist_ok=True)
        start = checkpoints.path(step)
        results.append(train(branch, store, targets, log, folder, cache=workdir, start=start))
    return results


def _branch(spec: TrainSpec, tokens: int) -> TrainSpec:
    short = spec.model_copy(update={"tokens": tokens, "arm": f"{spec.arm}-{tokens}"})
    optim = spec.optim.model_copy(update={"warmup": spec.optim.rising(spec.steps()) / short.steps()})
    return short.model_copy(update={"optim": optim})


def _begin(spec: TrainSpec, tokens: int) -> int:
    """The step at which the decay of a branch begins."""
    if spec.optim.schedule != "wsd":
        raise UserError(
            "branches need a plateau", where="optim.schedule", got=spec.optim.schedule, expected="wsd"
        )
    steps = max(tokens // (spec.batch * spec.seq_len), 1)
    begin, rising = steps - spec.optim.falling(steps), spec.optim.rising(spec.steps())
    plateau = spec.steps() - spec.optim.falling(spec.steps())
    if not rising <= begin <= plateau:
        raise UserError(
            "a branch would begin outside the plateau of the run", where="branches",
            got=f"{tokens} tokens: step {begin}", expected=f"steps {rising} to {plateau}",
            hint="branch at budgets below that of the run, beyond its warm-up",
        )  # fmt: skip
    return begin
