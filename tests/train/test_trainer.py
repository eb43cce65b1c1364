"""Whole training runs, small: learning, exact resume, records, events, targets, utilities."""

from __future__ import annotations

import json
from math import log
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from train_data import documents

from tillage.core.errors import UserError
from tillage.core.events import Evaluated, Event, EventLog, Overhead, TrainStep
from tillage.train.evaluate import Target, bits_per_byte, document_nats
from tillage.train.feedback import Document, measure_utility
from tillage.train.job import TrainJob
from tillage.train.model import GPT, ModelSpec
from tillage.train.optim import OptimSpec, rate
from tillage.train.policies import Ado, LinUpper, RhoSelect, TargetMix
from tillage.train.policy import Chain
from tillage.train.reference import ReferenceLosses, ReferenceSpec
from tillage.train.tokens import Tokenizer, TokenStore
from tillage.train.trainer import TrainResult, TrainSpec, load_model, train

TINY = ModelSpec(layers=1, width=32, head_width=16)
SPEC = TrainSpec(
    model=TINY,
    seq_len=32,
    batch=8,
    tokens=32 * 8 * 24,
    policy=Chain(TargetMix(), RhoSelect(keep=0.75), LinUpper(burn_in=4)),
    reference=ReferenceSpec(model=TINY, tokens=32 * 4 * 20),
    log_every=4,
    dtype="fp32",
)


@pytest.fixture(scope="module")
def targets(tokenizer: Tokenizer) -> dict[str, Target]:
    texts = [d["text"] for d in documents(120, seed=7) if d["domain"] == "docs"]
    return {
        "search": Target.from_texts("search", texts[:20], tokenizer),
        "holdout": Target.from_texts("holdout", texts[20:], tokenizer),
    }


class Stop(Exception):
    pass


def test_training_learns_and_says_what_it_did(
    store: TokenStore, targets: dict[str, Target], tmp_path: Path
) -> None:
    events: list[Event] = []
    result = train(SPEC, store, targets, EventLog(subscribers=[events.append]), tmp_path)
    assert result.losses[-1] < result.losses[0] - 1.0
    blank = GPT(TINY, store.tokenizer.vocab, 32)
    assert result.bpb["holdout"] < 0.7 * bits_per_byte(blank, targets["holdout"], 32)
    steps = [e for e in events if isinstance(e, TrainStep)]
    assert [e.step for e in steps] == [1, 5, 9, 13, 17, 21, 24]
    assert steps[-1].tokens == result.tokens == 32 * 8 * 24
    assert steps[-1].kept == pytest.approx(8 / 11, abs=1e-4) and steps[-1].weight_max > 1.0
    assert {e.target: e.bpb for e in events if isinstance(e, Evaluated)} == result.bpb
    assert set(result.ledger) == {
        "training", "evaluation", "reference_training", "reference_scoring", "candidate_scoring",
    }  # fmt: skip
    (overhead,) = [e for e in events if isinstance(e, Overhead)]
    assert 0 < overhead.share < 1
    spent = sum(v for k, v in result.ledger.items() if k != "evaluation")
    assert spent == pytest.approx(result.seconds)
    # The target is documentation: its domain gains, noise loses.
    assert result.mixture[-1]["docs"] > result.mixture[0]["docs"] > 0
    assert result.mixture[-1]["noise"] < result.mixture[0]["noise"]

    trained = pq.read_table(tmp_path / "trained.parquet")
    assert trained.num_rows == 24 * 8
    by_domain: dict[str, list[float]] = {}
    for row in trained.filter(np.asarray(trained["step"]) == 3).to_pylist():
        by_domain.setdefault(row["domain"], []).append(row["loss"])
    assert result.domain_losses[3] == pytest.approx({k: np.mean(v) for k, v in by_domain.items()})
    rows = pq.read_table(tmp_path / "documents.parquet")
    assert rows["id"].to_pylist() == sorted(rows["id"].to_pylist())
    cut = store.samples(32)
    touched = sum(len(cut.documents(s)) for s in trained["sample"].to_pylist())
    assert sum(rows["visits"].to_pylist()) == touched

    again = load_model(tmp_path / "model.pt")
    assert bits_per_byte(again, targets["holdout"], 32) == result.bpb["holdout"]
    assert json.loads((tmp_path / "result.json").read_text())["bpb"] == result.bpb


def same(one: TrainResult, two: TrainResult) -> bool:
    return (
        one.losses == two.losses
        and one.trained.equals(two.trained)
        and one.mixture == two.mixture
        and one.bpb == two.bpb
        and all(
            torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True)
        )
    )


@pytest.mark.parametrize("stop", [3, 13, 22])
def test_a_killed_run_goes_on_bit_for_bit(
    store: TokenStore, targets: dict[str, Target], tmp_path: Path, stop: int
) -> None:
    spec = SPEC.model_copy(update={"checkpoint_every": 2, "log_every": 1})
    whole = train(spec, store, targets)

    def killer(event: Event) -> None:
        if isinstance(event, TrainStep) and event.step == stop:
            raise Stop

    with pytest.raises(Stop):
        train(spec, store, targets, EventLog(subscribers=[killer]), tmp_path)
    events: list[Event] = []
    resumed = train(spec, store, targets, EventLog(subscribers=[events.append]), tmp_path)
    first = next(e.step for e in events if isinstance(e, TrainStep))
    assert first == (stop - 1) // 2 * 2 + 1  # the last checkpoint, not the start
    assert same(whole, resumed)
    with pytest.raises(UserError, match="another run"):
        train(spec.model_copy(update={"seed": 5}), store, targets, workdir=tmp_path)
    kept = sorted((tmp_path / "checkpoints").iterdir())
    assert [p.name for p in kept] == ["step-00000022.pt", "step-00000024.pt"]
    kept[-1].write_bytes(b"garbage")
    with pytest.raises(UserError, match="cannot be read"):
        train(spec, store, targets, workdir=tmp_path)


def test_cached_reference_changes_nothing(
    store: TokenStore, targets: dict[str, Target], tmp_path: Path
) -> None:
    spec = SPEC.model_copy(update={"tokens": 32 * 8 * 6})
    fresh = train(spec, store, targets)
    first = train(spec, store, targets, cache=tmp_path)
    files = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.suffix == ".pt"}
    second = train(spec, store, targets, cache=tmp_path)
    assert same(fresh, first) and same(first, second)
    assert files == {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir() if p.suffix == ".pt"}
    # Found again or not, what training the reference took is part of the run's cost.
    assert second.ledger["reference_training"] == first.ledger["reference_training"] > 0
    assert len(list(tmp_path.glob("reference-*.npy"))) == 1
    other = spec.model_copy(update={"reference": ReferenceSpec(model=TINY, tokens=32 * 4 * 10)})
    train(other, store, targets, cache=tmp_path)
    assert len(list(tmp_path.glob("reference-*.npy"))) == 2


def test_reference_losses_do_not_depend_on_what_else_is_asked(store: TokenStore) -> None:
    model = GPT(TINY, store.tokenizer.vocab, 32, 1)
    one, two = (ReferenceLosses(model, store, 32, "fp32") for _ in range(2))
    everything = one(np.arange(40))
    assert [two(np.asarray([i]))[0] for i in reversed(range(40))] == everything[::-1].tolist()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_accumulation_gives_the_same_run(store: TokenStore, accumulate: int) -> None:
    spec = TrainSpec(model=TINY, seq_len=32, batch=8, tokens=32 * 8 * 6, dtype="fp32", accumulate=accumulate)
    plain = train(spec.model_copy(update={"accumulate": 1}), store, {})
    assert train(spec, store, {}).losses == pytest.approx(plain.losses, rel=1e-4)


def test_reference_needs_its_target(store: TokenStore, targets: dict[str, Target]) -> None:
    with pytest.raises(UserError, match="no target 'search'"):
        train(SPEC, store, {"holdout": targets["holdout"]})


def test_bits_per_byte_of_a_uniform_model(tokenizer: Tokenizer) -> None:
    texts = ["abc def", "", "the value of a parameter " * 30]
    target = Target.from_texts("t", texts, tokenizer)
    count = sum(len(e) for e in tokenizer.encode(texts))

    def flat(ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*ids.shape, tokenizer.vocab)

    size = sum(len(t) for t in texts)
    assert bits_per_byte(flat, target, 16) == pytest.approx(count * log(tokenizer.vocab) / log(2) / size)
    assert len(document_nats(flat, target, 16)) == 2


def test_models_of_each_kind_are_causal_and_seeded() -> None:
    ids = torch.arange(24).reshape(2, 12) % 50
    for spec in (
        ModelSpec(layers=2, width=64, head_width=16, kv_heads=2),
        ModelSpec(layers=1, width=32, head_width=16, mlp="swiglu"),
    ):
        model = GPT(spec, 50, 16, seed=3)
        assert torch.equal(model(ids), GPT(spec, 50, 16, seed=3)(ids))
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(1))
        changed = ids.clone()
        changed[:, 7] = 9
        one, two = model(ids), model(changed)
        assert torch.allclose(one[:, :7], two[:, :7], atol=1e-6)
        assert not torch.allclose(one[:, 7:], two[:, 7:], atol=1e-4)
    with pytest.raises(UserError, match="do not fit"):
        GPT(ModelSpec(width=100, head_width=64), 50, 16)


def test_schedules_end_near_zero() -> None:
    for schedule in ("wsd", "cosine"):
        values = [rate(s, 100, schedule, 0.1, 0.3) for s in range(100)]  # type: ignore[arg-type]
        assert values[0] == pytest.approx(0.1) and max(values) == pytest.approx(1.0, abs=0.01)
        assert 0 < values[-1] < 0.05
        peak = int(np.argmax(values))
        assert all(a >= b for a, b in zip(values[peak:], values[peak + 1 :], strict=False))


def test_train_yaml(tmp_path: Path, store: TokenStore) -> None:
    (tmp_path / "goal.jsonl").write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in ("a b", "the value"))
    )
    job = TrainJob(
        store=str(store.folder),
        targets={"search": "goal.jsonl"},
        train=TrainSpec(
            model=TINY, seq_len=32, batch=4, tokens=256, policy=Ado(every=3), optim=OptimSpec(lr=0.01)
        ),
    )
    (tmp_path / "train.yaml").write_text(job.to_yaml())
    again = TrainJob.from_yaml(tmp_path / "train.yaml")
    assert again.train.fingerprint() == job.train.fingerprint()
    assert isinstance(again.train.policy, Ado) and again.train.policy.every == 3
    (result,) = again.run()
    assert result.bpb.keys() == {"search"}
    for text, message in (
        ("train: {polcy: odm}", "did you mean 'policy'"),
        ("store: x\ntrain: {policy: adoo}", "did you mean 'ado'"),
        ("store: x\nstor: y", "did you mean 'store'"),
        ("- 1", "holds no fields"),
        ("a: [", "no YAML"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError) as raised:
            TrainJob.from_yaml(tmp_path / "bad.yaml")
        assert message in str(raised.value)
        assert "bad.yaml" in str(raised.value.where)
    with pytest.raises(UserError, match="no file matches"):
        TrainJob(store="x", targets={"t": str(tmp_path / "none*.txt")}).read_targets(store.tokenizer)


def test_utilities_find_the_domain_and_the_measurement_that_help(
    store: TokenStore, targets: dict[str, Target]
) -> None:
    plain = SPEC.model_copy(update={"policy": TrainSpec().policy})
    general = train(plain, store, {}).model
    target_store = plain.model_copy(
        update={"policy": TrainSpec.model_validate({"policy": {"fixed": {"weights": {"docs": 1}}}}).policy}
    )
    targeted = train(target_store, store, {}).model
    found = measure_utility(
        general,
        targeted,
        store.tokenizer,
        [
            Document(
                d["id"],
                d["text"],
                d["domain"],
                {"likeness": float(d["domain"] == "docs") + i * 1e-3},
                "short:words" if i % 10 < 2 else None,
            )
            for i, d in enumerate(documents(90, seed=11))
        ],
        seq_len=32,
    )
    domains = {u.key: u for u in found if u.kind == "domain"}
    assert domains["docs"].low > 0 > domains["noise"].high
    assert all(u.low <= u.value <= u.high and u.n >= 2 for u in found)
    buckets = [u for u in found if u.kind == "bucket"]
    assert len(buckets) == 4 and buckets[-1].value == max(b.value for b in buckets) > 0
    (dropped,) = [u for u in found if u.kind == "dropped"]
    assert dropped.key == "short:words" and dropped.n == 18
