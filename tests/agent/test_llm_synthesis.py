"""A predicate written by a model is judged on examples it has not seen."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")
pytest.importorskip("pydantic_monty")

from tillage.agent.llm_synthesis import synthesise
from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Event, EventLog, Verified
from tillage.llm.client import LLMClient
from tillage.llm.settings import LLMSettings

KEEP = [f"A sentence about subject {i} and nothing else." for i in range(10)]
DROP = [f"BUY NOW !!! offer {i} !!!" for i in range(10)]


def code(body: str) -> str:
    return json.dumps({"code": f"def keep(text):\n    {body}\n", "why": "test"})


def test_a_draft_is_corrected_until_it_passes(llm: Any) -> None:
    events: list[Event] = []
    llm.answers = [
        code("return True"),
        code("return open('/etc/passwd').read() == text"),
        code("return '!!!' not in text"),
    ]
    client = LLMClient(LLMSettings(url=llm.url, model="scripted"))
    step, vetting = synthesise(client, "advertising", KEEP, DROP, EventLog(None, [events.append]))
    assert (vetting.precision, vetting.recall, vetting.examples) == (1.0, 1.0, 10)
    assert "!!!" in step.code
    verified = [e for e in events if isinstance(e, Verified)]
    assert [e.passed for e in verified] == [False, False, True]
    assert "precision 0.00" in verified[0].finding
    assert "PermissionError" in verified[1].finding
    shown = json.loads(llm.requests[0]["messages"][1]["content"])["examples"]
    assert set(shown["drop"]) <= set(DROP[::2])
    assert "PermissionError" in llm.requests[2]["messages"][1]["content"]


def test_none_that_fails_is_used(llm: Any) -> None:
    llm.answers = [code("return len(text) > 3")] * 2
    client = LLMClient(LLMSettings(url=llm.url, model="scripted"))
    with pytest.raises(WorkFailed, match="no predicate passed"):
        synthesise(client, "advertising", KEEP, DROP, corrections=1)
    with pytest.raises(UserError, match="examples"):
        synthesise(client, "advertising", KEEP[:1], DROP)
