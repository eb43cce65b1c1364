"""Tokenizer and token store."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from train_data import batches, documents

from tillage.core.errors import UserError
from tillage.core.events import Event, EventLog, Tokenised
from tillage.train.tokenizer import EOS
from tillage.train.tokens import Tokenizer, TokenStore


def test_tokenizer_is_deterministic_and_lossless(tmp_path: Path) -> None:
    texts = [d["text"] for d in documents(60)]
    one, two = Tokenizer.train(texts, 400), Tokenizer.train(iter(texts), 400)
    assert one.fingerprint == two.fingerprint
    assert one.vocab == 400
    odd = ["", "naïve 🦊\n\t\x00", f"a {EOS} b", "ﬁ ﷺ " * 3]
    for text, ids in zip(odd, one.encode(odd), strict=True):
        assert one.decode(ids) == text
        assert one.token_bytes[ids].sum() == len(text.encode())
        assert one.eos not in ids.tolist()
    one.save(tmp_path / "t.json")
    assert Tokenizer.load(tmp_path / "t.json").fingerprint == one.fingerprint
    assert pickle.loads(pickle.dumps(one)).fingerprint == one.fingerprint


def test_tokenizer_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too small"):
        Tokenizer.train(["x"], 100)
    with pytest.raises(UserError, match="cannot read"):
        Tokenizer.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="no tokenizer"):
        Tokenizer.load(tmp_path / "bad.json")


def test_store_holds_every_document(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = documents(50)
    events: list[Event] = []
    store = TokenStore.write(
        tmp_path / "s", batches(rows), tokenizer, EventLog(subscribers=[events.append]), source={"version": 3}
    )
    assert len(store) == 50
    assert store.source == {"version": 3}
    by_id = {row["id"]: row for row in rows}
    ids = store.ids().to_pylist()
    assert sorted(ids) == sorted(by_id)
    score = store.column("score")
    for i, name in enumerate(ids):
        row = by_id[name]
        assert tokenizer.decode(store.document(i)) == row["text"]
        assert store.tokens[store.starts[i + 1] - 1] == tokenizer.eos
        assert store.bytes[i] == len(row["text"].encode())
        assert store.groups.names[store.domain[i]] == row["domain"]
        assert np.isnan(score[i]) if row["score"] is None else score[i] == row["score"]
    assert [type(e) for e in events] == [Tokenised]
    assert store.tokens.dtype == np.uint16


def test_store_does_not_depend_on_order_or_partitioning(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = documents(40)
    one = TokenStore.write(tmp_path / "a", batches(rows, 7), tokenizer)
    two = TokenStore.write(tmp_path / "b", batches(rows[::-1], 40), tokenizer)
    assert one.fingerprint == two.fingerprint
    assert (tmp_path / "a/tokens.bin").read_bytes() == (tmp_path / "b/tokens.bin").read_bytes()
    changed = [dict(r) for r in rows]
    changed[3]["score"] = 0.123
    three = TokenStore.write(tmp_path / "b", batches(changed), tokenizer)
    assert three.fingerprint != one.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_samples_cover_each_group(store: TokenStore) -> None:
    samples = store.samples(32)
    tokens = samples.read(np.arange(len(samples)))
    assert tokens.shape == (len(samples), 33)
    assert (tokens[:, :-1] < store.tokenizer.vocab).all()
    for sample in range(len(samples)):
        group = int(samples.group(sample))
        touched = samples.documents(sample)
        assert set(store.domain[list(touched)]) == {group}
        begin = int(samples.start(np.asarray([sample]))[0])
        inside = [
            d for d in range(len(store)) if store.starts[d] < begin + 32 and store.starts[d + 1] > begin
        ]
        assert list(touched) == inside
    for group, tokens_of in enumerate(store.groups.tokens):
        assert samples.counts[group] == (tokens_of - 1) // 32


def test_sample_measurement_is_the_token_weighted_mean(store: TokenStore) -> None:
    samples, score = store.samples(32), store.column("score")
    got = samples.column("score")
    for sample in range(0, len(samples), 7):
        begin = int(samples.start(np.asarray([sample]))[0])
        per_token = np.repeat(score, np.diff(store.starts))[begin : begin + 32]
        known = per_token[np.isfinite(per_token)]
        if len(known):
            assert got[sample] == pytest.approx(known.mean())
        else:
            assert np.isnan(got[sample])


def test_store_errors(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="no token store here"):
        TokenStore.open(tmp_path)
    with pytest.raises(UserError, match="no rows"):
        TokenStore.write(tmp_path / "a", [], tokenizer)
    with pytest.raises(UserError, match="no column 'domain'"):
        TokenStore.write(tmp_path / "a", [pa.record_batch({"id": ["1"], "text": ["x"]})], tokenizer)
    row = {"id": ["1", "1"], "text": ["x", "y"], "domain": ["d", "d"]}
    with pytest.raises(UserError, match="same id"):
        TokenStore.write(tmp_path / "a", [pa.record_batch(row)], tokenizer)
    row = {"id": ["1", "2"], "text": ["x", None], "domain": ["d", "d"]}
    with pytest.raises(UserError, match="no text"):
        TokenStore.write(tmp_path / "a", [pa.record_batch(row)], tokenizer)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep me")
    with pytest.raises(UserError, match="no token store"):
        TokenStore.write(tmp_path / "mine", batches(documents(3)), tokenizer)
    assert (tmp_path / "mine/notes.txt").read_text() == "keep me"


def test_damaged_store_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    TokenStore.write(tmp_path / "s", batches(documents(10)), tokenizer)
    whole = (tmp_path / "s/tokens.bin").read_bytes()
    (tmp_path / "s/tokens.bin").write_bytes(whole[:-2])
    with pytest.raises(UserError, match="damaged"):
        TokenStore.open(tmp_path / "s")
    (tmp_path / "s/manifest.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        TokenStore.open(tmp_path / "s")
