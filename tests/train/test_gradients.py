"""Products of samples' gradients: against vmap(grad), in both precisions, through feed and trainer."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from train_data import WORDS

from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Event, EventLog, TrainStep
from tillage.train.evaluate import Target
from tillage.train.model import GPT, ModelSpec
from tillage.train.policies import Alignment, Balance, Doge, Greats
from tillage.train.policy import Chain
from tillage.train.signals.difference import DifferenceProbe
from tillage.train.signals.ghost import GhostProbe
from tillage.train.signals.gradients import GradientSpec, TargetBatches
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train

SEQ = 32
SMALL = ModelSpec(layers=2, width=32, head_width=16, kv_heads=1, mlp="swiglu")


@pytest.fixture(scope="module")
def target(store: TokenStore) -> Target:
    texts = [" ".join(np.random.default_rng(i).choice(WORDS["docs"], 60)) for i in range(20)]
    return Target.from_texts("search", texts, store.tokenizer)


@pytest.fixture(scope="module")
def model(store: TokenStore) -> GPT:
    made = GPT(SMALL, store.tokenizer.vocab, SEQ)
    generator = torch.Generator().manual_seed(1)
    for p in made.parameters():  # a fresh model has layers of zeros, and so of no gradient
        if p.ndim == 2:
            torch.nn.init.normal_(p, std=0.2, generator=generator)
    return made


@pytest.fixture(scope="module")
def batch(store: TokenStore) -> tuple[Tensor, Tensor]:
    tokens = torch.from_numpy(store.samples(SEQ).read(np.arange(0, 50, 8)))
    return tokens[:, :-1], tokens[:, 1:]


def oracle(model: GPT, ids: Tensor, goals: Tensor, every: bool = False) -> Tensor:
    """Gradient of each sample's mean loss, flat, over the weights of linear layers or over all."""
    weights = {n: p.detach() for n, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits: Any = functional_call(model, weights, (x[None],))
        return F.cross_entropy(logits[0], y)

    with sdpa_kernel(SDPBackend.MATH):
        rows = vmap(grad(loss), in_dims=(None, 0, 0))(weights, ids, goals)
    wanted = [n for n, p in weights.items() if every or (p.ndim == 2 and not n.startswith(("embed", "head")))]
    return torch.cat([rows[n].flatten(1) for n in wanted], 1)


def ghost(model: GPT, target: Target, **fields: Any) -> GhostProbe:
    sketch = fields.pop("sketches", False)
    spec = GradientSpec(samples=6, chunk=4, **fields)
    return GhostProbe(model, model, TargetBatches(target, SEQ, spec), spec, sketch=sketch)


def direction(model: GPT, target: Target, every: bool = False) -> Tensor:
    found = TargetBatches(target, SEQ, GradientSpec(samples=6)).at(0)
    return torch.cat([oracle(model, x, y, every) for x, y, _ in found]).mean(0)


def test_products_are_those_of_vmapped_gradients(
    model: GPT, target: Target, batch: tuple[Tensor, Tensor]
) -> None:
    probe = ghost(model, target)
    assert probe.refresh(0) == 18 and probe.refresh(3) == 0
    found = probe.measure(*batch, None)
    rows = oracle(model, *batch)
    expected = (rows @ direction(model, target)).double().numpy()
    assert found.dots == pytest.approx(expected, rel=2e-4, abs=1e-6)
    with torch.no_grad():
        assert found.losses == pytest.approx(model(*batch).numpy(), rel=1e-5, abs=1e-6)
    assert all(p.grad is None for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    del probe
    gc.collect()
    assert not any(m._forward_hooks for m in model.modules())


def test_a_direction_of_low_rank_is_its_best_approximation(
    model: GPT, target: Target, batch: tuple[Tensor, Tensor]
) -> None:
    probe, whole = ghost(model, target, rank=4), ghost(model, target)
    probe.refresh(0), whole.refresh(0)
    expected = 0
    rows, at = oracle(model, *batch), 0
    for name, layer in probe.layers.items():
        v = whole._direction[name][0]
        u, s, w = torch.linalg.svd(v)
        best = (u[:, :4] * s[:4]) @ w[:4]
        expected = expected + rows[:, at : at + v.numel()] @ best.flatten()
        at += layer.weight.numel()
    wanted = expected.numpy()
    # Random vectors find it nearly, and a small product is what is left of large ones.
    near = pytest.approx(wanted, abs=0.02 * float(np.abs(wanted).max()))
    assert probe.measure(*batch, None).dots == near
    assert probe.cost < whole.cost == 3.0


def test_differences_are_products_over_all_weights(
    model: GPT, target: Target, batch: tuple[Tensor, Tensor]
) -> None:
    spec = GradientSpec(samples=6, step=1e-3)
    probe = DifferenceProbe(model, model, TargetBatches(target, SEQ, spec), spec)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with pytest.raises(WorkFailed, match="refresh"):
        probe.measure(*batch, None)
    probe.refresh(0)
    found = probe.measure(*batch, None)
    expected = oracle(model, *batch, every=True) @ direction(model, target, every=True)
    assert found.dots == pytest.approx(expected.numpy(), rel=0.02, abs=2e-3)
    assert all(torch.equal(before[n], p) and p.grad is None for n, p in model.named_parameters())


def test_bf16_products_rank_samples_as_fp32(model: GPT, target: Target, batch: tuple[Tensor, Tensor]) -> None:
    def half(ids: Tensor, goals: Tensor, spans: Tensor | None) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(ids, goals, spans)

    exact = ghost(model, target)
    spec = GradientSpec(samples=6)
    rough = GhostProbe(model, half, TargetBatches(target, SEQ, spec), spec)
    exact.refresh(0), rough.refresh(0)
    one, two = exact.measure(*batch, None).dots, rough.measure(*batch, None).dots
    assert np.corrcoef(one, two)[0, 1] > 0.995


def test_recomputation_changes_nothing(model: GPT, target: Target, batch: tuple[Tensor, Tensor]) -> None:
    plain = ghost(model, target)
    again = ghost(copy.deepcopy(model), target)
    again.losses.recompute = True  # type: ignore[attr-defined]
    plain.refresh(0), again.refresh(0)
    assert np.allclose(plain.measure(*batch, None).dots, again.measure(*batch, None).dots, rtol=1e-5)


def test_sketches_keep_products_on_average(model: GPT, target: Target, batch: tuple[Tensor, Tensor]) -> None:
    exact = (lambda rows: (rows @ rows.T).numpy())(oracle(model, *batch))
    found = np.zeros_like(exact, dtype=np.float64)
    for seed in range(20):
        rows = ghost(model, target, sketches=True, sketch=8, seed=1000 * seed)
        rows.refresh(0)
        sketch = rows.measure(*batch, None).sketch
        found += sketch @ sketch.T / 20
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert np.abs(found - exact).max() < 0.1 * scale.max()
    assert rows.target_sketch().shape == sketch.shape[1:] == (64 * len(rows.layers),)


def test_the_direction_moves_on_and_is_kept(model: GPT, target: Target, batch: tuple[Tensor, Tensor]) -> None:
    probe, again = ghost(model, target, every=2), ghost(model, target, every=2)
    probe.refresh(0)
    one = probe.measure(*batch, None).dots
    again.load_state_dict(probe.state_dict())
    assert again.refresh(1) == 0 and np.array_equal(one, again.measure(*batch, None).dots)
    probe.refresh(2)  # other samples of the target
    assert not np.allclose(one, probe.measure(*batch, None).dots)


def test_errors_say_what_is_missing(model: GPT, target: Target) -> None:
    with pytest.raises(UserError, match="need a target"):
        GhostProbe(model, model, None, GradientSpec())
    with pytest.raises(UserError, match="no trainable linear"):
        GhostProbe(torch.nn.Embedding(3, 3), model, None, GradientSpec(), dots=False)
    with pytest.raises(UserError, match="fewer samples"):
        TargetBatches(target, SEQ, GradientSpec(samples=1), 0, 2)


def test_the_feed_selects_and_mixes_by_gradients(store: TokenStore, target: Target) -> None:
    spec = TrainSpec(
        model=SMALL, seq_len=SEQ, batch=8, tokens=SEQ * 8 * 12, dtype="fp32", checkpoint_every=5,
        policy=Chain(Doge(every=2), Greats(keep=0.5, every=3)), gradients=GradientSpec(samples=4, every=4),
    )  # fmt: skip
    result = train(spec, store, {"search": target})
    assert result.ledger["gradients"] > 0
    mixture = [row["noise"] for row in result.mixture]
    assert mixture[0] != mixture[-1]


def test_a_run_with_gradients_resumes_exactly(store: TokenStore, target: Target, tmp_path: Path) -> None:
    spec = TrainSpec(
        model=SMALL, seq_len=SEQ, batch=8, tokens=SEQ * 8 * 9, dtype="fp32", checkpoint_every=2, log_every=1,
        policy=Chain(Balance(every=2, target=True), Greats(keep=0.5, budget=0.4), Alignment(every=2)),
        gradients=GradientSpec(samples=4, every=4),
    )  # fmt: skip
    whole = train(spec, store, {"search": target})

    def killer(event: Event) -> None:
        if isinstance(event, TrainStep) and event.step == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(spec, store, {"search": target}, EventLog(subscribers=[killer]), tmp_path)
    again = train(spec, store, {"search": target}, workdir=tmp_path)
    assert again.losses == whole.losses and again.trained.equals(whole.trained)
    with pytest.raises(UserError, match="no target 'search'"):
        train(spec, store, {})
