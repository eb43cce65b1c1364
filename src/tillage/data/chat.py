"""Chats: alpaca, ShareGPT and OpenAI records as one nested column of messages, and as text to measure.

Layouts: alpaca has `instruction`, `input` and `output` (Taori et al. 2023, Stanford Alpaca), also
written `prompt` and `response` or `completion`, `question` and `answer`; ShareGPT has `conversations` of
`from` and `value` (Chiang et al. 2023, Vicuna); OpenAI has `messages` of `role` and `content` (its chat
completions API).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import pyarrow as pa

from tillage.data.rows import BadRow, excerpt, typed

ChatForm = Literal["auto", "openai", "sharegpt", "alpaca"]


class Message(TypedDict):
    """One turn: who speaks (`system`, `user`, `assistant`, `tool` or another name) and the text."""

    role: str
    content: str


MESSAGES = "messages"
"""The column of a row's messages; null in rows that are plain text."""
MESSAGES_TYPE = pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.large_string())]))

ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
}
"""Other names of roles that the layouts use."""
_TURNS: dict[ChatForm, tuple[str, ...]] = {
    "openai": ("messages", "conversation"),
    "sharegpt": ("conversations", "conversation"),
    "auto": ("messages", "conversations", "conversation"),
}
_PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
)


def to_messages(record: Mapping[str, Any], form: ChatForm = "auto") -> list[Message] | None:
    """The messages of a record in this layout; null where it has none of the layout's fields.

    A message without content is one of empty text, as of a call of a tool; roles come out in lower case and
    by the names above.

    Raises:
        BadRow: the fields are there and do not hold messages.
    """
    for name in _TURNS.get(form, ()):
        if (turns := record.get(name)) is not None:
            system = record.get("system") or record.get("system_prompt")
            return [*_system(system), *_turns(turns, name)]
    if form in ("auto", "alpaca"):
        for ask, reply in _PAIRS:
            if record.get(ask) is not None and reply in record:
                return _pair(record, ask, reply)
    return None


def render(messages: Sequence[Message]) -> str:
    """The text of a chat, to measure and to train on: each message after its role, blank lines between."""
    return "\n\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in messages)


def from_messages(messages: Sequence[Message], form: ChatForm = "openai") -> dict[str, Any]:
    """The record of a chat in a layout; `auto` is OpenAI's.

    Raises:
        ValueError: alpaca holds a system message at most, a prompt and an answer; this is another chat.
    """
    if form == "sharegpt":
        names = {"user": "human", "assistant": "gpt"}
        turns = [{"from": names.get(m["role"], m["role"]), "value": m["content"]} for m in messages]
        return {"conversations": turns}
    if form != "alpaca":
        return {MESSAGES: [dict(m) for m in messages]}
    rest = list(messages)
    record = {"system": rest.pop(0)["content"]} if rest and rest[0]["role"] == "system" else {}
    if [m["role"] for m in rest] != ["user", "assistant"]:
        found = " ".join(m["role"] for m in messages)
        raise ValueError(f"alpaca holds one prompt and one answer, not {found or 'nothing'}")
    return {**record, "instruction": rest[0]["content"], "input": "", "output": rest[1]["content"]}


def _system(text: Any) -> list[Message]:
    return [Message(role="system", content=typed(text, "string", "system"))] if text else []


def _turns(turns: Any, name: str) -> list[Message]:
    if not isinstance(turns, list):
        raise BadRow("wrong_type", f"field {name!r} should be a list of messages: {excerpt(repr(turns))}")
    out: list[Message] = []
    for number, turn in enumerate(turns, 1):
        where = f"{name}[{number}]"
        if not isinstance(turn, Mapping):
            raise BadRow("wrong_type", f"{where} should be a message, found {excerpt(repr(turn))}")
        said = turn.get("role", turn.get("from"))
        role = typed(said, "string", f"{where}.role")
        if role is None:
            raise BadRow("missing_field", f"{where} has neither role nor from: {excerpt(repr(turn))}")
        content = _content(turn.get("content", turn.get("value")), f"{where}.content")
        out.append(Message(role=_role(role), content=content))
    return out


def _role(name: str) -> str:
    name = name.strip().lower()
    return ROLES.get(name, name)


def _content(value: Any, where: str) -> str:
    """Text, or the text parts of OpenAI's content parts."""
    if not isinstance(value, list):
        return typed(value, "string", where) or ""
    parts: list[str] = []
    for part in value:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
        if text is None:
            raise BadRow("wrong_type", f"{where} holds a part that is not text: {excerpt(repr(part))}")
        parts.append(typed(text, "string", where))
    return "\n".join(parts)


def _pair(record: Mapping[str, Any], ask: str, reply: str) -> list[Message]:
    system, history = record.get("system") or record.get("system_prompt"), record.get("history") or []
    out = _system(system)
    if not isinstance(history, list):
        raise BadRow("wrong_type", f"field 'history' should be a list of pairs: {excerpt(repr(history))}")
    for number, earlier in enumerate(history, 1):
        if not isinstance(earlier, list | tuple) or len(earlier) != 2:
            raise BadRow("wrong_type", f"history[{number}] should be a pair, found {excerpt(repr(earlier))}")
        pair = zip(("user", "assistant"), earlier, strict=True)
        out += [Message(role=r, content=typed(t, "string", f"history[{number}]") or "") for r, t in pair]
    prompt, more = typed(record[ask], "string", ask), typed(record.get("input"), "string", "input")
    out.append(Message(role="user", content=f"{prompt}\n\n{more}" if more else prompt))
    out.append(Message(role="assistant", content=typed(record[reply], "string", reply) or ""))
    return out
