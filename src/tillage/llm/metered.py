"""One request to a model: looked up in the cache, held to the budget, retried, entered in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import openai
import stamina
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from tillage.core.spec import fingerprint
from tillage.llm.cache import AnswerCache
from tillage.llm.ledger import Ledger
from tillage.llm.settings import LLMSettings

RETRIED_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
LONGEST_WAIT = 60.0
_CHANGING = frozenset(
    {
        "timestamp",
        "run_id",
        "conversation_id",
        "usage",
        "provider_response_id",
        "provider_details",
        "metadata",
    }
)
"""What differs between two equal conversations, and is no part of what the model reads."""


class MeteredModel(WrapperModel):
    """A model whose every request is counted. Not the conversation is retried but the request that failed, so
    that no tool runs twice."""

    def __init__(self, model: Model, settings: LLMSettings, ledger: Ledger, cache: AnswerCache) -> None:
        super().__init__(model)
        self.llm, self.ledger, self.cache = settings, ledger, cache

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        request = self._request(messages, model_request_parameters)
        key = fingerprint(request)
        known = self.cache.get(key)
        if known is not None:
            self.ledger.cached += 1
            response = ModelMessagesTypeAdapter.validate_json(known)[0]
            assert isinstance(response, ModelResponse)
            return response
        async for attempt in stamina.retry_context(
            on=wait, attempts=self.llm.attempts, timeout=None, wait_max=LONGEST_WAIT
        ):
            with attempt:
                self.ledger.attempt()
                response = await self.wrapped.request(messages, model_settings, model_request_parameters)
                self.ledger.answered(response.usage.input_tokens, response.usage.output_tokens)
                self.cache.put(key, request, ModelMessagesTypeAdapter.dump_json([response]).decode())
                return response
        raise AssertionError("retry_context returns or raises")

    def _request(self, messages: list[ModelMessage], asked: ModelRequestParameters) -> dict[str, Any]:
        """What the answer depends on, as JSON: for the key, and for whoever reads the cache."""
        tools = [*asked.function_tools, *asked.output_tools]
        schema = asked.output_object.json_schema if asked.output_object is not None else None
        return {
            "url": self.llm.served or self.llm.url,
            "model": self.llm.model,
            "settings": [self.llm.output, self.llm.temperature, self.llm.max_output_tokens],
            "tools": [[tool.name, tool.description, tool.parameters_json_schema] for tool in tools],
            "schema": schema,
            "messages": _lasting(ModelMessagesTypeAdapter.dump_python(messages, mode="json")),
        }


def _lasting(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lasting(part) for key, part in value.items() if key not in _CHANGING}
    return [_lasting(part) for part in value] if isinstance(value, list) else value


def wait(error: Exception) -> bool | float:
    """Whether to try again, or after how many seconds when the server said so (`Retry-After`)."""
    if isinstance(error, ModelHTTPError):
        if error.status_code not in RETRIED_STATUS:
            return False
        cause = error.__cause__
        after = (
            cause.response.headers.get("retry-after") if isinstance(cause, openai.APIStatusError) else None
        )
        seconds = _seconds(after) if after is not None else None
        return True if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)
    return isinstance(error, ModelAPIError)


def _seconds(after: str) -> float | None:
    """`Retry-After` in seconds from now: a number or an HTTP date (RFC 9110, 10.2.3); None if neither."""
    try:
        return float(after)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
