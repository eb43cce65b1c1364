"""What only a GPU can show: compiled and in bf16, signals as on the CPU, exact resume, masks of documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tillage.core.errors import UserError
from tillage.core.events import Event, EventLog, TrainStep
from tillage.train.losses import linear_token_losses
from tillage.train.model import GPT, ModelSpec
from tillage.train.parallel import pick_device
from tillage.train.policies import Ado, LinUpper
from tillage.train.policy import Chain
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
    assert own.losses == pytest.approx(cpu.losses, rel=1e-3)
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
