"""The feed in other people's loops: the same batches and the same gradients as in a plain loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_feed import table
from torch import Tensor, nn

from tillage.core.errors import UserError
from tillage.train.adapters.loops import AccelerateFeed, TitanLoader
from tillage.train.adapters.rows import RowStore
from tillage.train.feed import Feed
from tillage.train.policies import ColumnSelect, ColumnWeight, LinUpper, Odm, Proportional, RhoSelect
from tillage.train.policy import Chain, Policy
from tillage.train.tokens import TokenStore

SEQ, BATCH = 32, 8
POLICY = Chain(Odm(warmup=1), ColumnSelect(column="score", keep=0.5), ColumnWeight(column="score", low=0.2))


def plain(store: TokenStore, policy: Policy, steps: int, accumulate: int = 1, **more: Any) -> list[Tensor]:
    """Weights of the smallest model after each step of the loop in the feed's own documentation."""
    options: dict[str, Any] = {"batch_tokens": SEQ * BATCH, "seq_len": SEQ, "seed": 3, **more}
    feed, model = Feed(store, policy, accumulate=accumulate, **options), table(store)
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    weights: list[Tensor] = []
    for _ in range(steps):
        for _ in range(accumulate):
            batch = feed.select(model, feed.next())
            feed.loss(model(batch.input_ids), batch).backward()
        feed.normalise(model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        weights.append(model.weight.detach().clone())
    return weights


class Answer:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class Bigram(nn.Module):
    """The smallest model with the answer of a transformers model."""

    def __init__(self, store: TokenStore) -> None:
        super().__init__()
        self.table = table(store)

    def forward(self, input_ids: Tensor, **ignored: Any) -> Answer:
        return Answer(self.table(input_ids))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_accelerate_does_what_the_plain_loop_does(store: TokenStore, tmp_path: Path, accumulate: int) -> None:
    accelerate = pytest.importorskip("accelerate")
    wanted = plain(store, POLICY, 4, accumulate)

    def loop(begin: Path | None, steps: int) -> Tensor:
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        feed = AccelerateFeed(accelerator, store, POLICY, batch_tokens=SEQ * BATCH, seq_len=SEQ, seed=3)
        model = Bigram(store)
        model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=5.0))
        if begin is not None:
            accelerator.load_state(str(begin))
        while feed.step < steps:
            with accelerator.accumulate(model):
                batch = feed.select(lambda ids: model(ids).logits, feed.next())
                accelerator.backward(feed.loss(model(batch.input_ids).logits, batch))
                if accelerator.sync_gradients:
                    feed.normalise(model.parameters())
                optimizer.step()
                optimizer.zero_grad()
        if begin is None:
            accelerator.save_state(str(tmp_path / "state"), safe_serialization=False)
        return accelerator.unwrap_model(model).table.weight.detach()

    torch.testing.assert_close(loop(None, 2), wanted[1])
    torch.testing.assert_close(loop(tmp_path / "state", 4), wanted[3])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_torchtitan_step_is_the_plain_step(store: TokenStore, accumulate: int) -> None:
    """Its loop: micro-batches are read first, losses are sums over the step's tokens, gradients add up."""
    policy: Policy = Chain(Odm(warmup=1), ColumnSelect(column="score", keep=0.5))
    policy = Chain(*policy.parts, ColumnWeight(column="score", low=0.2)) if accumulate == 1 else policy
    wanted = plain(store, policy, 4)
    options: dict[str, Any] = {"batch_tokens": SEQ * BATCH, "seq_len": SEQ, "seed": 3}

    def loop(state: dict[str, Any], weight: Tensor | None, steps: int) -> tuple[dict[str, Any], Tensor]:
        loader = TitanLoader(store, policy, accumulate=accumulate, **options)
        loader.load_state_dict(state)
        model, reading = table(store), iter(loader)
        if weight is not None:
            model.load_state_dict({"weight": weight})
        optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
        for _ in range(steps):
            parts = [next(reading) for _ in range(accumulate)]
            tokens = sum(int((labels != -100).sum()) for _, labels in parts)
            for inputs, labels in parts:
                pred = model(inputs["input"])
                (loader.loss(pred.flatten(0, 1), labels.flatten()) / tokens).backward()
            optimizer.step()
            optimizer.zero_grad()
        return json.loads(json.dumps(loader.state_dict())), model.weight.detach().clone()

    state, weight = loop({}, None, 2)
    torch.testing.assert_close(weight, wanted[1])
    torch.testing.assert_close(loop(state, weight, 2)[1], wanted[3])


def test_what_torchtitan_cannot_do_is_said(store: TokenStore) -> None:
    options: dict[str, Any] = {
        "batch_tokens": SEQ * BATCH,
        "seq_len": SEQ,
        "reference": lambda s: np.zeros(len(s)),
    }
    with pytest.raises(UserError, match="before the model could score"):
        TitanLoader(store, RhoSelect(keep=0.5), **options)
    with pytest.raises(UserError, match="whole step at once"):
        TitanLoader(store, LinUpper(), accumulate=2, **options)
    loader = TitanLoader(store, **options)
    ids, labels = next(iter(loader))
    with pytest.raises(UserError, match="next ones"):
        loader.loss(table(store)(ids["input"]), labels + 1)


def test_rows_are_drawn_by_a_policy() -> None:
    domains = ["a", "b", "b", "c", "b", "a"] * 5
    score = np.arange(30.0)
    rows = RowStore(domains, {"score": score})
    feed = Feed(rows, ColumnSelect(column="score", keep=0.5), batch_tokens=4, seq_len=1, seed=1)
    for _ in range(5):
        batch = feed.next()
        offered = batch.world_samples
        batch = feed.select(lambda ids: torch.zeros(*ids.shape, 2), batch)
        numbers = batch.input_ids[:, 0].tolist()
        assert [feed.groups.names[g] for g in batch.groups] == [domains[n] for n in numbers]
        best = np.sort(score[rows.rows[offered]])[-4:]
        assert sorted(score[numbers]) == best.tolist()
        assert batch.documents == [[str(n)] for n in numbers]
        feed.reduce(torch.ones(4, 1), batch)
    assert RowStore(domains).fingerprint != rows.fingerprint


def trainer_parts(store: TokenStore, tmp_path: Path, **more: Any) -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=store.tokenizer.vocab, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128,
    )  # fmt: skip
    said: dict[str, Any] = {
        "output_dir": str(tmp_path), "max_steps": 4, "per_device_train_batch_size": 4, "seed": 3,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "report_to": "none", "use_cpu": True,
        "disable_tqdm": True, "save_steps": 2, "logging_steps": 1, "lr_scheduler_type": "constant", **more,
    }  # fmt: skip
    return transformers.LlamaForCausalLM(config), said


ONLINE = Chain(Odm(warmup=1), RhoSelect(keep=0.5), LinUpper(burn_in=1))


def test_the_trainer_of_transformers(store: TokenStore, tmp_path: Path) -> None:
    """Losses, weights and the policy's state are those of a plain loop; a checkpoint goes on exactly."""
    transformers = pytest.importorskip("transformers")
    from tillage.train.adapters.hf_trainer import FeedArgs, FeedTrainer

    reference = {"reference": lambda s: 3.0 + (s % 7) / 7}
    made = FeedArgs(store, ONLINE, SEQ, reference)

    def trainer(folder: Path, **more: Any) -> Any:
        model, said = trainer_parts(store, folder, **more)
        return FeedTrainer(model=model, args=transformers.TrainingArguments(**said), feed=made)

    whole = trainer(tmp_path / "a")
    whole.train()
    # The same by hand.
    model, said = trainer_parts(store, tmp_path / "none")
    args = transformers.TrainingArguments(**said)
    feed = Feed(store, ONLINE, batch_tokens=SEQ * 8, seq_len=SEQ, seed=3, accumulate=2, **reference)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    model.train()
    losses: list[float] = []
    for _ in range(4):
        loss = 0.0
        for _ in range(2):
            batch = feed.select(lambda ids: model(input_ids=ids).logits, feed.next())
            part = feed.loss(model(input_ids=batch.input_ids).logits, batch)
            part.backward()
            loss += part.item()
        losses.append(loss)
        feed.normalise(model.parameters())
        nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    logged = [row["loss"] for row in whole.state.log_history if "loss" in row]
    assert logged == pytest.approx(losses, rel=1e-3)
    for name, p in model.named_parameters():
        torch.testing.assert_close(dict(whole.model.named_parameters())[name], p, rtol=1e-3, atol=1e-5)
    one, two = (f.state_dict()["policy"]["state"][0]["state"]["reward"] for f in (whole.feed, feed))
    assert one == pytest.approx(two, rel=1e-5)
    # Gone on from step 2.
    again = trainer(tmp_path / "a")
    again.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    for one, two in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    with pytest.raises(UserError, match="has no end"):
        trainer(tmp_path / "b", max_steps=-1)


def tokenizer_of(store: TokenStore) -> Any:
    from transformers import PreTrainedTokenizerFast

    end = store.tokenizer.eos_text
    return PreTrainedTokenizerFast(tokenizer_object=store.tokenizer.bpe, eos_token=end, pad_token=end)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, for what TRL sets
def test_trl_fine_tunes_on_a_feed(store: TokenStore, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from tillage.train.adapters.hf_trainer import FeedArgs
    from tillage.train.adapters.trl import FeedSFTTrainer

    model, said = trainer_parts(store, tmp_path, max_steps=3)
    trainer = FeedSFTTrainer(
        model=model, args=trl.SFTConfig(**said, bf16=False), processing_class=tokenizer_of(store),
        feed=FeedArgs(store, Odm(warmup=1), SEQ),
    )  # fmt: skip
    trainer.train()
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert trainer.feed.step == 3 and len(logged) == 3 and logged[-1] < logged[0]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("policy", [Odm(warmup=1), Proportional()], ids=["adaptive", "static"])
def test_trl_dpo_on_a_feed(policy: Policy, store: TokenStore, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    from tillage.train.adapters.trl import FeedDPOTrainer

    pair = {"chosen": " is found", "rejected": " not found"}
    rows = [{"prompt": f"the value of x{i}", **pair, "domain": "ab"[i % 2]} for i in range(12)]
    model, said = trainer_parts(store, tmp_path, max_steps=3)
    again, _ = trainer_parts(store, tmp_path)
    trainer = FeedDPOTrainer(
        model=model, ref_model=again, args=trl.DPOConfig(**said, bf16=False),
        processing_class=tokenizer_of(store), train_dataset=Dataset.from_list(rows), policy=policy,
    )  # fmt: skip
    trainer.train()
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert logged[0] == pytest.approx(np.log(2), rel=1e-2) and logged[-1] < logged[0]
    if isinstance(policy, Odm):
        assert trainer.feed.trained is not None and trainer.feed.trained.samples.shape == (8,)
    with pytest.raises(UserError, match="no column 'topic'"):
        FeedDPOTrainer(model=model, train_dataset=Dataset.from_list(rows), domain="topic")
