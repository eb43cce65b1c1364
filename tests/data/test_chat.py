"""Chats in three layouts become one column of messages, from the source to the dataset."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tillage.core.events import EventLog
from tillage.core.workspace import Workspace
from tillage.data.chat import MESSAGES, from_messages, render, to_messages
from tillage.data.dataset import Dataset
from tillage.data.reader import plan, read_all
from tillage.data.rows import BadRow
from tillage.data.sources import Csv, Jsonl, Parquet
from tillage.flow.recipe import Recipe, Step
from tillage.flow.run import run
from tillage.ops.pii import PiiMask
from tillage.ops.rewrite import FixMojibake

TURNS = [("system", "Be brief."), ("user", "Two and two?"), ("assistant", "Four.")]
CHAT = [{"role": r, "content": c} for r, c in TURNS]
OPENAI = {"messages": CHAT}
SHAREGPT = {
    "conversations": [{"from": {"user": "human", "assistant": "gpt"}.get(r, r), "value": c} for r, c in TURNS]
}
ALPACA = {"system": "Be brief.", "instruction": "Two and two?", "input": "", "output": "Four."}


@pytest.mark.parametrize("record", [OPENAI, SHAREGPT, ALPACA])
def test_layouts_agree_both_ways(record):
    form = {"messages": "openai", "conversations": "sharegpt"}.get(next(iter(record)), "alpaca")
    assert to_messages(record) == to_messages(record, form) == CHAT
    assert from_messages(CHAT, form) == record
    assert all(to_messages(record, f) is None for f in {"openai", "sharegpt", "alpaca"} - {form})


def test_variants_of_layouts():
    pair = [{"role": "user", "content": "a\n\nb"}, {"role": "assistant", "content": "c"}]
    assert to_messages({"instruction": "a", "input": "b", "output": "c"}) == pair
    assert to_messages({"prompt": "a\n\nb", "completion": "c"}) == pair
    assert to_messages({"question": "x", "answer": None})[1] == {"role": "assistant", "content": ""}
    history = to_messages({"instruction": "x", "output": "y", "history": [["p", "q"]]})
    assert [m["content"] for m in history] == ["p", "q", "x", "y"]
    parts = {"messages": [{"role": "User", "content": [{"type": "text", "text": "a"}, {"text": "b"}]}]}
    assert to_messages(parts) == [{"role": "user", "content": "a\nb"}]
    call = {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}
    assert to_messages(call) == [{"role": "assistant", "content": ""}]
    assert to_messages({"text": "x"}) is None and to_messages({"messages": []}) == []
    assert render(CHAT[1:]) == "User: Two and two?\n\nAssistant: Four."


@pytest.mark.parametrize(
    "record",
    [
        {"messages": "hello"},
        {"messages": ["hello"]},
        {"messages": [{"content": "no role"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        {"instruction": "x", "output": 7},
        {"instruction": "x", "output": "y", "history": [["p"]]},
    ],
)
def test_what_holds_no_messages_is_quarantined(record):
    with pytest.raises(BadRow):
        to_messages(record)


def test_alpaca_holds_one_pair():
    with pytest.raises(ValueError, match="one prompt and one answer"):
        from_messages([*CHAT, *CHAT[1:]], "alpaca")


def table(source):
    return pa.Table.from_batches(list(read_all(plan([source]))))


def test_every_kind_of_file(tmp_path):
    lines = [OPENAI, SHAREGPT, ALPACA, {"text": "plain"}, {"messages": 5}, {"nothing": 1}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = table(Jsonl(path=(str(tmp_path / "a.jsonl"),), chat="auto"))
    assert rows.column(MESSAGES).to_pylist() == [CHAT, CHAT, CHAT, None, None, None]
    assert rows.column("text").to_pylist()[2:4] == [render(CHAT), "plain"]
    assert rows.column("_drop").to_pylist()[4:] == ["read:wrong_type", "read:missing_field"]
    pq.write_table(pa.Table.from_pylist([OPENAI]), tmp_path / "b.parquet")
    rows = table(Parquet(path=(str(tmp_path / "b.parquet"),), chat="openai"))
    assert rows.column(MESSAGES).to_pylist() == [CHAT]
    (tmp_path / "c.csv").write_text("instruction,output\nTwo and two?,Four.\n")
    rows = table(Csv(path=(str(tmp_path / "c.csv"),), chat="alpaca"))
    assert rows.column(MESSAGES).to_pylist() == [CHAT[1:]]


def test_a_run_carries_messages_and_maps_rewrite_each_of_them(tmp_path):
    chat = [
        {"role": "user", "content": "CafÃ© at a@b.org?"},
        {"role": "assistant", "content": "Ask a@b.org."},
    ]
    lines = [{"messages": chat}, {"text": "Only a@b.org."}, ALPACA]
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(line) + "\n" for line in lines))
    steps = (Step(op=FixMojibake()), Step(op=PiiMask()))
    recipe = Recipe(name="chats", sources=(Jsonl(path=(str(raw),), chat="auto"),), steps=steps)
    result = run(recipe, Workspace.default(tmp_path / "home"), EventLog(None, []))
    path, version = result.dataset
    rows = pa.Table.from_batches(list(Dataset.open(path, version).batches(["line", "text", MESSAGES])))
    rows = sorted(rows.to_pylist(), key=lambda row: row["line"])
    assert [m["content"] for m in rows[0][MESSAGES]] == ["Café at <EMAIL>?", "Ask <EMAIL>."]
    assert rows[0]["text"] == "User: Café at <EMAIL>?\n\nAssistant: Ask <EMAIL>."
    assert rows[1]["text"] == "Only <EMAIL>." and rows[1][MESSAGES] is None
    assert rows[2][MESSAGES] == CHAT
