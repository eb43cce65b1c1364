"""`policy: auto`: what it stands for, how it is told, and the counting that it rests on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from train_data import WORDS

from tillage.core.errors import UserError
from tillage.core.events import Event, EventLog, Note
from tillage.train.auto import capped, needed, resolve
from tillage.train.evaluate import Target
from tillage.train.job import TrainJob
from tillage.train.model import ModelSpec
from tillage.train.policies import Fixed, Likeness, Odm, Proportional
from tillage.train.policy import Auto, Chain, dump_policy, parse_policy
from tillage.train.signals.likeness import counts, document_scores, features, likeness, offer, weights
from tillage.train.tokens import Tokenizer, TokenStore
from tillage.train.trainer import TrainSpec, train

SEQ = 32


def texts(kind: str, count: int, seed: int = 9) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[kind], 60)) + "." for _ in range(count)]


def target(store: TokenStore, *kinds: str) -> Target:
    return Target.from_texts("search", [t for k in kinds for t in texts(k, 24)], store.tokenizer)


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> TokenStore:
    """One domain in which a quarter is documentation and the rest is noise."""
    rows = [
        {"id": f"{i:032x}", "text": text, "domain": "crawl"}
        for i, text in enumerate([*texts("docs", 40, 1), *texts("noise", 40, 2), *texts("code", 80, 3)])
    ]
    return TokenStore.write(
        tmp_path_factory.mktemp("crawl") / "s", [pa.RecordBatch.from_pylist(rows)], tokenizer
    )


def test_documents_are_scored_as_if_one_by_one(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces, and pairs across documents, change nothing of note: each score is that document's own mean."""
    table = np.random.default_rng(0).normal(size=1 << 18)
    whole = document_scores(table, store.tokens, store.starts)
    monkeypatch.setattr("tillage.train.signals.likeness._PIECE", 57)
    assert np.allclose(document_scores(table, store.tokens, store.starts), whole)
    for d in (0, 5, len(store) - 1):
        low, high = store.starts[d], store.starts[d + 1]
        one = features(store.tokens[max(low - 1, 0) : high])  # with the pair that leads into it
        size = high - low
        singles, pairs = one[: high - max(low - 1, 0)][-size:], one[high - max(low - 1, 0) :]
        assert whole[d] == pytest.approx((table[singles].sum() + table[pairs].sum()) / (2 * size), rel=1e-4)


def test_weights_by_hand() -> None:
    data, wanted = np.zeros(1 << 18), np.zeros(1 << 18)
    data[:2], wanted[:2] = (90, 10), (5, 5)
    found = weights(wanted, data)
    assert found[0] == pytest.approx(np.log((0.5 / 0.9 + 0.1) / 1.1), rel=1e-6)
    assert found[1] == pytest.approx(np.log((0.5 / 0.1 + 0.1) / 1.1), rel=1e-6)
    assert found[2] == pytest.approx(np.log(0.1 / 1.1))
    assert counts(np.asarray([[3, 4, 3]])).sum() == 5  # three tokens, two pairs


def test_likeness_finds_the_target_in_a_mixed_domain(crawl: TokenStore) -> None:
    found = offer(target(crawl, "docs"), crawl, SEQ)
    true = sum(len(crawl.document(d)) for d in range(len(crawl)) if int(crawl.id(d), 16) < 40)
    assert found.share == pytest.approx(true / len(crawl.tokens), abs=0.06)
    score = likeness(target(crawl, "docs"), crawl, SEQ)
    cut = crawl.samples(SEQ)
    mine = np.asarray(
        [np.mean([int(crawl.id(d), 16) < 40 for d in cut.documents(s)]) for s in range(len(cut))]
    )
    assert score[mine == 1].min() > score[mine == 0].max()


def test_what_auto_stands_for(store: TokenStore, crawl: TokenStore) -> None:
    tokens = len(store.tokens)
    one = resolve(Auto(), crawl, target(crawl, "docs"), SEQ, tokens // 8).policy
    assert isinstance(one, Likeness) and 0.1 < one.keep < 0.35
    # A budget that would read the best a hundred times takes more of the rest.
    assert resolve(Auto(), crawl, target(crawl, "docs"), SEQ, 100 * tokens).policy == Proportional()
    mixed = resolve(Auto(), store, target(store, "docs", "code"), SEQ, tokens // 4)
    assert isinstance(mixed.policy, Fixed) and "domains" in mixed.why
    assert mixed.policy.weights["noise"] < 0.02 < 0.3 < mixed.policy.weights["code"]
    blind = resolve(Auto(), store, None, SEQ, tokens)
    assert isinstance(blind.policy, Fixed)
    assert resolve(Auto(), crawl, None, SEQ, tokens).policy == Proportional()
    small = Target.from_texts("search", texts("docs", 2), store.tokenizer)
    assert "too small" in resolve(Auto(), store, small, SEQ, tokens).why
    assert resolve(Odm(), store, None, SEQ, tokens).policy == Odm()
    assert resolve(Auto(), store, target(store, "docs"), SEQ, tokens) == resolve(
        Auto(), store, target(store, "docs"), SEQ, tokens
    )


def test_a_choice_widens_before_it_is_repeated_often() -> None:
    size = 18_000_000
    assert needed(100_000, size) == pytest.approx(100_000 / size)  # a small budget reads nothing twice
    visits = [tokens / size / needed(tokens, size) for tokens in (size // 2, size, 2 * size, 9 * size)]
    assert visits == pytest.approx([1.875, 2.75, 3.0, 3.0])
    shares = [needed(tokens, size) for tokens in range(50_000, 3 * size, 500_000)]
    assert np.all(np.diff(shares) > 0)  # a larger budget never chooses from less


def test_bounds_on_repetition_are_kept() -> None:
    spare = np.asarray([1.0, 1.0, 2.0])
    assert capped(np.asarray([1.0, 1, 0]), np.ones(3), spare).tolist() == [0.5, 0.5, 0.0]
    assert capped(np.asarray([1.0, 1, 0]), np.asarray([0.2, 1, 1]), spare).tolist() == [0.2, 0.8, 0.0]
    found = capped(np.asarray([1.0, 0, 0]), np.asarray([0.4, 1, 1]), spare)
    assert found == pytest.approx([0.4, 0.2, 0.4])
    assert capped(np.ones(3), np.full(3, 0.1), spare) == pytest.approx(np.full(3, 1 / 3))  # nothing is left


def test_auto_is_told_and_trained(store: TokenStore, tmp_path: Path) -> None:
    spec = TrainSpec(
        model=ModelSpec(layers=1, width=32, head_width=16), seq_len=SEQ, batch=8, tokens=SEQ * 8 * 4,
        dtype="fp32", policy=Auto(),
    )  # fmt: skip
    seen: list[Event] = []
    aimed = {"search": target(store, "docs")}
    result = train(spec, store, aimed, EventLog(subscribers=[seen.append]), tmp_path)
    (note,) = [e.text for e in seen if isinstance(e, Note)]
    assert note.startswith("policy auto is {'likeness': {'keep':")
    domains = result.trained["domain"].to_pylist()
    assert domains.count("docs") > 0.8 * len(domains)
    assert result.ledger["ahead_scoring"] > 0
    again = train(spec, store, aimed, workdir=tmp_path)  # goes on where it ended
    assert again.losses == result.losses


def test_auto_is_the_default_of_a_training_file_and_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("store: s\ntrain: {tokens: 1000}\n")
    assert TrainJob.from_yaml(path).train.policy == Auto()
    path.write_text("store: s\n")
    assert TrainJob.from_yaml(path).train.policy == Auto()
    path.write_text("store: s\ntrain: {policy: odm}\n")
    assert TrainJob.from_yaml(path).train.policy == Odm()
    assert parse_policy(dump_policy(Auto())) == Auto()
    with pytest.raises(UserError, match="stands alone"):
        Chain(Auto(), Odm())
