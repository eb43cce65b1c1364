"""What chats ask for as columns, for quotas and strata."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tillage.data.chat import MESSAGES, MESSAGES_TYPE
from tillage.ops.conformance import execute
from tillage.ops.prompts import ChatAction


def test_verb_noun_and_both() -> None:
    def said(*turns: tuple[str, str | None]) -> list[dict[str, str | None]]:
        return [{"role": role, "content": content} for role, content in turns]

    poems = said(
        ("system", "Answer."), ("user", "Write two poems."), ("assistant", "x"), ("user", "Translate it.")
    )
    chats: list[Any] = [
        poems,
        said(("user", "Why is that?"), ("assistant", "x")),
        said(("user", "写一首诗"), ("assistant", "好")),
        said(("assistant", "Write a poem.")),
        [],
        said(("user", None)),
        None,
    ]
    table = pa.table(
        {
            "id": pa.array([f"{n:032x}" for n in range(len(chats))], pa.large_string()),
            "text": pa.array(["x"] * len(chats), pa.large_string()),
            "domain": pa.array(["d"] * len(chats), pa.large_string()),
            "source": pa.array(["s"] * len(chats), pa.large_string()),
            MESSAGES: pa.array(chats, MESSAGES_TYPE),
        }
    )
    found = execute(ChatAction(), table)
    assert found.column("chat_verb").to_pylist() == ["write", "why", *[None] * 5]
    assert found.column("chat_object").to_pylist() == ["poem", *[None] * 6]
    assert found.column("chat_action").to_pylist() == ["write poem", "why", *[None] * 5]
