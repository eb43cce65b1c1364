"""Losses of tokens against torch's own cross-entropy, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tillage.train.losses import IGNORE, group_losses, linear_token_losses, sample_losses, token_losses


def case(b: int, t: int, width: int, vocab: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(b, t, width, generator=g, requires_grad=True)
    weight = torch.randn(vocab, width, generator=g, requires_grad=True)
    targets = torch.randint(0, vocab, (b, t), generator=g)
    targets[torch.rand(b, t, generator=g) < 0.2] = IGNORE
    return hidden, weight, targets, torch.rand(b, t, generator=g)


def slow(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = (hidden @ weight.T).flatten(0, 1)
    flat = F.cross_entropy(logits, targets.flatten(), reduction="none", ignore_index=IGNORE)
    return flat.view(targets.shape)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 7), st.integers(1, 9), st.integers(2, 40), st.integers(1, 400),
    st.integers(0, 1000),
)  # fmt: skip
def test_values_and_gradients_are_those_of_cross_entropy(
    b: int, t: int, width: int, vocab: int, chunk: int, seed: int
) -> None:
    hidden, weight, targets, weights = case(b, t, width, vocab, seed)
    expected = slow(hidden, weight, targets)
    wanted = torch.autograd.grad((expected * weights).sum(), (hidden, weight))
    found = linear_token_losses(hidden, weight, targets, chunk_elements=chunk)
    grads = torch.autograd.grad((found * weights).sum(), (hidden, weight))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, two in zip(grads, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    logits = (hidden @ weight.T).detach().requires_grad_()
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORE)
    (wish,) = torch.autograd.grad((plain * weights.flatten()).sum(), logits)
    own = token_losses(logits, targets)
    (got,) = torch.autograd.grad((own * weights).sum(), logits)
    torch.testing.assert_close(own.flatten(), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got, wish, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [64, 1 << 20])
def test_autocast_multiplies_in_bf16_and_keeps_the_weight_in_fp32(chunk: int) -> None:
    hidden, weight, targets, weights = case(2, 16, 32, 48, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_token_losses(hidden, weight, targets, chunk_elements=chunk)
        (found * weights).sum().backward()
    expected = slow(hidden.detach(), weight.detach(), targets)
    assert found.dtype == torch.float32 and weight.grad is not None and weight.grad.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found.detach(), expected, rtol=0.05, atol=0.1)


def test_large_losses_stay_finite() -> None:
    logits = torch.tensor([[[3e4, -3e4], [-3e4, 3e4]]], requires_grad=True)
    losses = token_losses(logits, torch.tensor([[1, 1]]))
    losses.sum().backward()
    assert losses.tolist() == [[6e4, 0.0]] and logits.grad is not None and logits.grad.isfinite().all()


def test_means_by_sample_and_by_group() -> None:
    tokens = torch.tensor([[1.0, 3.0], [5.0, 0.0], [0.0, 0.0]])
    targets = torch.tensor([[1, 1], [1, IGNORE], [IGNORE, IGNORE]])
    means = sample_losses(tokens, targets)
    assert means.tolist() == [2.0, 5.0, 0.0]
    value, count = group_losses(means, torch.tensor([2, 0, 2]), 3)
    assert value[[0, 2]].tolist() == [5.0, 1.0] and value[1].isnan() and count.tolist() == [1, 0, 2]
