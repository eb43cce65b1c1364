"""Rows that are made of others: accounts balance, the digest is the same however it is cut, lives told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_rows import Chars, First, Short, Strip, home, recipe, run_quietly

from tillage.core.errors import UserError, WorkFailed
from tillage.data.rows import row_id
from tillage.data.sources import Jsonl
from tillage.flow.recipe import Recipe, Step
from tillage.flow.why import why
from tillage.ops.base import Generate
from tillage.ops.dedup import ExactDedup
from tillage.ops.pieces import LineDedup
from tillage.ops.rewrite import Truncate
from tillage.ops.split import SplitLong
from tillage.ops.where import Where


def write(folder: Path) -> Path:
    """Rows of 0 to 9 paragraphs of 50 characters, two of them the same in each."""
    folder.mkdir()
    for part in range(3):
        lines: list[str] = []
        for i in range(20):
            paragraphs = [
                f"row {part} {i} paragraph {k if k != 4 else 3} ".ljust(49, "y") + "." for k in range(i % 10)
            ]
            lines.append(json.dumps({"text": "\n\n".join(paragraphs) or "tiny", "n": i}))
        (folder / f"part-{part}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


STEPS = (Short(least=5), SplitLong(max_chars=120), Strip(), First(), SplitLong(max_chars=60), Chars())


def test_accounts_balance_and_rows_are_of_their_parents(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    result, _ = run_quietly(recipe(raw, *STEPS), home(tmp_path))
    for step in result.accounts:
        assert step.rows_in + step.added == step.rows_out + sum(step.dropped.values()) + sum(
            step.quarantined.values()
        )
    split = {a.step: a for a in result.accounts}
    assert split["split_long"].added > 2 * split["split_long"].dropped["parts"] > 0
    assert split["split_long_2"].added > 0
    for one, two in zip(result.accounts, result.accounts[1:], strict=False):
        assert (one.rows_out, one.bytes_out) == (two.rows_in, two.bytes_in)
    # All text but the white space at the cuts goes on.
    assert 0 <= split["split_long"].bytes_in - split["split_long"].bytes_out <= 2 * split["split_long"].added
    kept = result.kept_table().to_pylist()
    assert max(len(row["text"]) for row in kept) <= 60
    dropped = {row["id"]: row for row in result.dropped_table().to_pylist()}
    made = [row for row in kept if row["parent"] is not None]
    assert made
    for row in made:
        parent = dropped[row["parent"]]
        assert row["id"] == row_id(parent["id"], row["part"])
        assert (row["source"], row["line"], row["n"]) == (parent["source"], parent["line"], parent["n"])
        assert parent["reason"] == "parts"
        assert row["chars"] == len(row["text"])
    assert not [name for name in result.kept_table().schema.names if name.startswith("_")]


def test_the_digest_is_the_same_however_the_input_is_cut(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    what = recipe(raw, *STEPS)
    whole, _ = run_quietly(what, home(tmp_path, "a"))
    for number, size in enumerate((1, 3000)):
        cut, _ = run_quietly(what, home(tmp_path, f"b{number}"), shard_bytes=size)
        assert (cut.digest, cut.accounts) == (whole.digest, whole.accounts)
    again, _ = run_quietly(what, home(tmp_path, "a"))
    assert again.digest == whole.digest and again.reused and not whole.reused


def test_why_follows_the_parent(tmp_path: Path) -> None:
    raw, space = write(tmp_path / "raw"), home(tmp_path)
    steps = (Where(keep="chars >= 5"), SplitLong(max_chars=120), Truncate(), ExactDedup())
    result, _ = run_quietly(recipe(raw, *steps, SplitLong(max_chars=60)), space)
    dropped = {row["id"]: row for row in result.dropped_table(["id", "parent"]).to_pylist()}
    row = next(
        row
        for row in result.kept_table(["id", "parent"]).to_pylist()
        if row["parent"] in dropped and dropped[row["parent"]]["parent"] is not None
    )
    facts = why(row["id"], space)
    assert [(fact.step, fact.outcome) for fact in facts] == [
        ("read", "read"), ("where", "passed"), ("split_long", "dropped"), ("split_long", "made"),
        ("truncate", "rewritten or left"), ("exact_dedup", "passed"), ("split_long_2", "dropped"),
        ("split_long_2", "made"), ("dataset", "kept"),
    ]  # fmt: skip
    assert row["parent"] in facts[-2].detail


class Miscounts(SplitLong):
    """Says another number of parts than it makes."""

    name = "miscounts"

    def apply(self, frame, artifact=None):  # type: ignore[no-untyped-def]
        made = Generate.apply(self, frame)
        return made.with_column("_parts", made["_parts"] * 2)


def test_rows_that_nobody_speaks_of_do_not_balance(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    with pytest.raises(WorkFailed, match="do not balance"):
        run_quietly(recipe(raw, Miscounts(max_chars=120)), home(tmp_path))


def test_chats_stay_whole_and_are_not_cut_where_their_messages_would_not_know(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    chat = [{"role": "user", "content": "a question " * 30}, {"role": "assistant", "content": "an answer"}]
    path.write_text(json.dumps({"messages": chat}) + "\n" + json.dumps({"text": "plain text " * 30}) + "\n")
    source = Jsonl.load({"path": str(path), "chat": "auto"}, "test")

    def of(*ops):  # type: ignore[no-untyped-def]
        return Recipe(name="chats", sources=(source,), steps=tuple(Step(op=op) for op in ops))

    result, _ = run_quietly(of(SplitLong(max_chars=100)), home(tmp_path))
    rows = result.kept_table().to_pylist()
    assert [row["parent"] for row in rows if row["messages"]] == [None]
    assert len(rows) > 3
    with pytest.raises(UserError, match="cannot rewrite the messages of chats") as caught:
        run_quietly(of(LineDedup()), home(tmp_path))
    assert "mark: true" in str(caught.value)
    run_quietly(of(LineDedup(mark=True)), home(tmp_path))
