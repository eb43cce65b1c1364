"""An operator written by a model is judged on examples it has not seen, and by the conformance suite."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")
pytest.importorskip("pydantic_monty")

from tillage.agent.fence import unfenced
from tillage.agent.llm_synthesis import synthesise
from tillage.agent.synthesis import Case
from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Event, EventLog, Verified
from tillage.llm.client import LLMClient
from tillage.llm.settings import LLMSettings

KEEP = [Case(text=f"A sentence about subject {i} and nothing else.", keep=True) for i in range(10)]
DROP = [Case(text=f"BUY NOW !!! offer {i} !!!", keep=False) for i in range(10)]
CASES = [case for pair in zip(KEEP, DROP, strict=True) for case in pair]
OWN = [
    {"text": "plain words", "keep": True},
    {"text": "more of them", "keep": True},
    {"text": "!!! BUY", "keep": False},
    {"text": "SELL !!!", "keep": False},
]


def code(body: str, tests: list[dict[str, Any]] = OWN) -> str:
    draft = {
        "name": "no_advertising",
        "code": f"def keep(text):\n    {body}\n",
        "why": "test",
        "tests": tests,
    }
    return json.dumps(draft)


def client(llm: Any) -> LLMClient:
    return LLMClient(LLMSettings(url=llm.url, model="scripted"))


def prompt(request: dict[str, Any]) -> Any:
    return unfenced(request["messages"][1]["content"])


def test_a_draft_is_corrected_until_it_passes(llm: Any) -> None:
    events: list[Event] = []
    llm.answers = [
        code("return True"),
        code("return open('/etc/passwd').read() == text"),
        code("return '!!!' not in text"),
    ]
    made = synthesise(client(llm), "advertising", "filter", CASES, EventLog(None, [events.append]), 2)
    assert (made.vetting.precision, made.vetting.recall) == (1.0, 1.0)
    assert (made.name, made.judged_on, made.author) == ("no_advertising", "given", "scripted")
    assert "!!!" in made.op.code
    verified = [e for e in events if isinstance(e, Verified)]
    assert [e.passed for e in verified] == [False, False, True]
    assert "precision 0.00" in verified[0].finding
    assert "uses 'open'" in verified[1].finding
    shown = prompt(llm.requests[0])["examples"]
    assert {case["text"] for case in shown} == {case.text for case in [*KEEP[::2], *DROP[::2]][:8]}
    assert "uses 'open'" in prompt(llm.requests[2])["finding"]


def test_none_that_fails_is_used(llm: Any) -> None:
    llm.answers = [code("return len(text) > 3")] * 2
    with pytest.raises(WorkFailed, match="no operator passed"):
        synthesise(client(llm), "advertising", "filter", CASES, corrections=1)
    with pytest.raises(UserError, match="examples"):
        synthesise(client(llm), "advertising", "filter", CASES[:3])


def test_without_examples_it_is_judged_on_its_own_rows_and_says_so(llm: Any) -> None:
    llm.answers = [code("return True", []), code("return True", OWN[:2]), code("return '!!!' not in text")]
    made = synthesise(client(llm), "advertising")
    assert (made.judged_on, made.vetting.examples) == ("own", 4)
    told = [prompt(request).get("finding", "") for request in llm.requests]
    assert told == ["", "it comes without test rows", "its test rows are too few: at least 2 of either sort"]


def test_fields_of_log_lines(llm: Any) -> None:
    source = (
        "import re\n\ndef measure(text):\n"
        "    m = re.match('([0-9-]+) ([A-Z]+) (.*)', text)\n"
        "    return {'level': m.group(2), 'message': m.group(3)} if m else {}\n"
    )
    rows = [("2024-01-02 ERROR disk full", "ERROR", "disk full"), ("2024-01-03 INFO fine", "INFO", "fine")]
    tests = [{"text": text, "values": {"level": level, "message": said}} for text, level, said in rows]
    draft = {
        "name": "log_fields",
        "code": source,
        "why": "test",
        "tests": tests,
        "values": {"level": "string", "message": "string"},
    }
    llm.answers = [json.dumps(draft)]
    made = synthesise(client(llm), "split log lines into fields", "annotate")
    assert made.op.name == "sandboxed_annotate"
    assert set(made.op.writes()) == {"level", "message"}
    assert made.vetting.recall == 1.0
