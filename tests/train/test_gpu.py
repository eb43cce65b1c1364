"""What only a GPU can show: compiled and in bf16, signals as on the CPU, exact resume, masks of documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from train_data import WORDS

from tillage.core.errors import UserError
from tillage.core.events import Event, EventLog, TrainStep
from tillage.train.evaluate import Target
from tillage.train.losses import linear_token_losses
from tillage.train.model import GPT, ModelSpec
from tillage.train.parallel import pick_device
from tillage.train.policies import Ado, Alignment, Doge, Greats, LinUpper, RhoSelect
from tillage.train.policy import Chain, SignalSpec
from tillage.train.probes import gradient_probe, losses_of
from tillage.train.reference import ReferenceSpec
from tillage.train.signals.gradients import GradientSpec
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train

SPEC = TrainSpec(
    model=ModelSpec(layers=2, width=64, head_width=32), seq_len=64, batch=8, tokens=64 * 8 * 12,
    policy=Chain(Ado(start_step=4, ignore=0, every=2), LinUpper(burn_in=2)),
)  # fmt: skip
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(UserError, match="no GPU"):
        pick_device("cuda")
    assert pick_device("auto").type == "cpu"


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_signals_are_those_of_the_cpu(store: TokenStore, compiled: bool) -> None:
    cpu = train(SPEC.model_copy(update={"device": "cpu", "dtype": "fp32"}), store, {})
    own = train(SPEC.model_copy(update={"device": "cuda", "dtype": "fp32", "compile": compiled}), store, {})
    half = train(SPEC.model_copy(update={"device": "cuda", "dtype": "bf16", "compile": compiled}), store, {})
    assert own.losses == pytest.approx(cpu.losses, rel=2e-3)  # 12 steps, sums in another order
    assert half.losses == pytest.approx(cpu.losses, rel=2e-2)
    assert own.trained["sample"].equals(cpu.trained["sample"])


@pytest.mark.gpu
@gpu
def test_resume_on_a_gpu(store: TokenStore, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"device": "cuda", "checkpoint_every": 2, "log_every": 1})
    torch.use_deterministic_algorithms(False)
    whole = train(spec, store, {})

    def killer(event: Event) -> None:
        if isinstance(event, TrainStep) and event.step == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(spec, store, {}, EventLog(subscribers=[killer]), tmp_path)
    again = train(spec, store, {}, workdir=tmp_path)
    assert again.losses == pytest.approx(whole.losses, rel=1e-3)
    assert np.array_equal(again.trained["sample"], whole.trained["sample"])


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_documents_are_masked_as_on_the_cpu(compiled: bool) -> None:
    model = GPT(ModelSpec(layers=2, width=64, head_width=32), 300, 128)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    ids = torch.randint(0, 300, (2, 128))
    documents = (torch.rand(2, 128) < 0.1).cumsum(1)
    expected = model(ids, ids, documents)
    model.cuda()
    if compiled:
        model.compile()
    found = model(ids.cuda(), ids.cuda(), documents.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.gpu
@gpu
def test_fused_losses_hold_one_chunk_of_logits() -> None:
    hidden = torch.randn(8, 512, 256, device="cuda", requires_grad=True)
    weight = torch.randn(50304, 256, device="cuda", requires_grad=True)
    goals = torch.randint(0, 50304, (8, 512), device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        linear_token_losses(hidden, weight, goals, chunk_elements=1 << 24).mean().backward()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        linear_token_losses(hidden, weight, goals, chunk_elements=1 << 24).mean().backward()
    used = torch.cuda.max_memory_allocated() - before
    assert used < 0.75 * 4096 * 50304 * 2  # one copy of all logits in bf16


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_of_samples_are_those_of_the_cpu(store: TokenStore, compiled: bool) -> None:
    texts = [" ".join(np.random.default_rng(i).choice(WORDS["docs"], 60)) for i in range(20)]
    target = Target.from_texts("search", texts, store.tokenizer)
    tokens = torch.from_numpy(store.samples(64).read(np.arange(0, 60, 6)))
    found: dict[str, np.ndarray] = {}
    for device, dtype in (("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "bf16")):
        model = GPT(ModelSpec(layers=2, width=64, head_width=32), store.tokenizer.vocab, 64)
        generator = torch.Generator().manual_seed(1)
        for p in model.parameters():
            if p.ndim == 2:
                torch.nn.init.normal_(p, std=0.1, generator=generator)
        model.to(device)
        if compiled and device == "cuda":
            model.compile()
        losses = losses_of(model, dtype, device)
        losses(tokens[:, :-1].to(device), tokens[:, 1:].to(device), None).mean().backward()  # compiles
        model.zero_grad(set_to_none=True)
        for kind in ("ghost", "difference"):
            spec = GradientSpec(samples=8, kind=kind, step=1e-3 if dtype == "fp32" else 2e-2)
            probe = gradient_probe(
                spec, SignalSpec(dots=True), model, losses, losses, {"search": target}, 64, device=device
            )
            assert probe is not None
            probe.refresh(0)
            measured = probe.measure(tokens[:, :-1].to(device), tokens[:, 1:].to(device), None)
            found[f"{kind} {device} {dtype}"] = measured.dots
    for kind in ("ghost", "difference"):
        exact = found[f"{kind} cpu fp32"]
        assert np.corrcoef(exact, found[f"{kind} cuda fp32"])[0, 1] > 0.9999
        assert np.corrcoef(exact, found[f"{kind} cuda bf16"])[0, 1] > (0.99 if kind == "ghost" else 0.8)
    scale = np.abs(found["ghost cpu fp32"]).max()
    assert np.abs(found["ghost cuda fp32"] - found["ghost cpu fp32"]).max() < 1e-2 * scale


@pytest.mark.gpu
@gpu
def test_every_way_to_score_trains_on_a_gpu(store: TokenStore) -> None:
    texts = [" ".join(np.random.default_rng(i).choice(WORDS["docs"], 60)) for i in range(20)]
    target = Target.from_texts("search", texts, store.tokenizer)
    small = ReferenceSpec(model=ModelSpec(layers=1, width=32, head_width=16), tokens=64 * 4 * 10)
    for policy in (
        Chain(Doge(every=2), Greats(every=3), Alignment(every=2)),
        Chain(RhoSelect(keep=0.5, scorer=True), Alignment(scorer=True)),
        RhoSelect(keep=0.5, budget=0.2),
    ):
        spec = SPEC.model_copy(
            update={"device": "cuda", "compile": True, "policy": policy, "reference": small}
        )
        assert np.isfinite(train(spec, store, {"search": target}).losses).all()
