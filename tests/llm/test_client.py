"""The client against a scripted server: answers, retries, budget, cache."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

pytest.importorskip("pydantic_ai")
import stamina

from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Cost, Event, EventLog
from tillage.llm import metered
from tillage.llm.cache import AnswerCache
from tillage.llm.client import LLMClient
from tillage.llm.settings import LLMSettings


class Answer(BaseModel):
    colour: str
    number: int


GOOD = json.dumps({"colour": "blue", "number": 3})


def settings(llm: Any, **more: Any) -> LLMSettings:
    return LLMSettings(url=llm.url, model="scripted", **more)


def test_answer_is_typed_and_counted(llm: Any) -> None:
    llm.answers = [GOOD]
    events: list[Event] = []
    asked = LLMClient(settings(llm, price_in=10, price_out=20), log=EventLog(None, [events.append]))
    assert asked.ask("be brief", "which?", Answer) == Answer(colour="blue", number=3)
    assert events == [Cost(calls=1, tokens=110, money=(100 * 10 + 10 * 20) / 1e6, cached=0)]
    sent = llm.requests[0]
    assert sent["response_format"]["type"] == "json_schema"
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]


def test_busy_server_is_asked_again(llm: Any) -> None:
    llm.answers = [(429, {"Retry-After": "7"}), (503, {}), GOOD]
    asked = LLMClient(settings(llm))
    assert asked.ask("", "which?", Answer).number == 3
    assert asked.ledger.calls == 3


def test_retry_after_is_honoured(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | bool] = []
    plain = metered.wait

    def spy(error: Exception) -> bool | float:
        waits.append(plain(error))
        return waits[-1]

    monkeypatch.setattr(metered, "wait", spy)
    llm.answers = [(429, {"Retry-After": "7"}), (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), GOOD]
    LLMClient(settings(llm)).ask("", "which?", Answer)
    assert waits == [7.0, 0.0]


def test_refusal_is_not_retried(llm: Any) -> None:
    llm.answers = [(401, {})]
    with pytest.raises(WorkFailed, match="does not answer"):
        LLMClient(settings(llm)).ask("", "which?", Answer)
    assert len(llm.requests) == 1


def test_dead_endpoint_fails_loudly() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with (
            stamina.set_testing(True, attempts=2),
            pytest.raises(WorkFailed, match="does not answer") as failed,
        ):
            LLMClient(LLMSettings(url=url, model="none")).ask("", "which?", Answer)
    assert url in str(failed.value)


def test_malformed_answer_is_told_then_fails(llm: Any) -> None:
    llm.answers = ["{}", GOOD]
    asked = LLMClient(settings(llm))
    assert asked.ask("", "which?", Answer).colour == "blue"
    assert (asked.ledger.calls, asked.ledger.tokens) == (2, 220)
    assert "Field required" in json.dumps(llm.requests[1]["messages"])
    llm.answers = ["{}", "not json"]
    with pytest.raises(WorkFailed, match="form that was asked"):
        asked.ask("", "which?", Answer)
    assert (asked.ledger.calls, asked.ledger.tokens) == (4, 440)


def test_a_server_that_hangs_is_not_waited_for(llm: Any) -> None:
    done = threading.Event()

    def hang(request: dict[str, Any]) -> str:
        done.wait(30)
        return GOOD

    llm.last = hang
    asked = LLMClient(settings(llm, timeout_seconds=0.2))
    try:
        with (
            stamina.set_testing(True, attempts=2),
            pytest.raises(WorkFailed, match="does not answer") as failed,
        ):
            asked.ask("", "which?", Answer)
    finally:
        done.set()
    assert "timed out" in str(failed.value).lower()
    assert asked.ledger.calls == 2  # asked again, and each attempt counted


def test_budget_stops_the_next_call(llm: Any) -> None:
    llm.answers = [GOOD, GOOD]
    asked = LLMClient(settings(llm, max_tokens=100))
    asked.ask("", "one", Answer)
    with pytest.raises(WorkFailed, match="budget"):
        asked.ask("", "two", Answer)
    assert len(llm.requests) == 1


def test_money_budget() -> None:
    asked = LLMClient(LLMSettings(url="http://127.0.0.1:9", model="m", price_in=1e6, max_money=5))
    asked.ledger.answered(5, 0)
    with pytest.raises(WorkFailed, match="money"):
        asked.ledger.check()


def test_same_question_is_not_paid_twice(llm: Any, tmp_path: Path) -> None:
    llm.answers = [GOOD, GOOD]
    first = LLMClient(settings(llm), AnswerCache(tmp_path))
    first.ask("", "which?", Answer)
    second = LLMClient(settings(llm), AnswerCache(tmp_path))
    assert second.ask("", "which?", Answer).number == 3
    assert (second.ledger.calls, second.ledger.cached) == (0, 1)
    second.ask("", "another?", Answer)
    assert second.ledger.calls == 1


def test_settings_from_environment() -> None:
    assert LLMSettings.from_environment({}) is None
    with pytest.raises(UserError, match="no model"):
        LLMSettings.from_environment({"TILLAGE_LLM_URL": "http://x"})
    with pytest.raises(UserError, match="max_money"):
        LLMSettings.from_environment(
            {"TILLAGE_LLM_URL": "x", "TILLAGE_LLM_MODEL": "m", "TILLAGE_LLM_MAX_MONEY": "much"}
        )
    known = LLMSettings.from_environment(
        {"TILLAGE_LLM_URL": "http://x", "TILLAGE_LLM_MODEL": "m", "TILLAGE_LLM_KEY": "secret"}
    )
    assert known is not None
    assert "secret" not in repr(known)
