"""Typed questions to an OpenAI-compatible endpoint: retried, counted, cached, validated."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import openai
import stamina
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput, UnexpectedModelBehavior
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.output import OutputSpec
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RunUsage

from tillage.core.errors import WorkFailed
from tillage.core.events import EventLog
from tillage.core.spec import fingerprint
from tillage.llm.cache import AnswerCache
from tillage.llm.ledger import Ledger
from tillage.llm.settings import LLMSettings

T = TypeVar("T", bound=BaseModel)

_RETRIED_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_LONGEST_WAIT = 60.0


class LLMClient:
    """Asks one model. Every answer is an instance of a pydantic model.

    Errors are `WorkFailed`: an endpoint that cannot be reached or keeps refusing, an answer that does not
    validate even after the model was told why, and a spent budget.
    """

    def __init__(
        self, settings: LLMSettings, cache: AnswerCache | None = None, log: EventLog | None = None
    ) -> None:
        self.settings = settings
        self.ledger = Ledger(settings)
        self.cache = cache or AnswerCache(None)
        self.log = log

    def ask(self, instructions: str, prompt: str, output: type[T]) -> T:
        """The model's answer to `prompt` as an `output`, from the cache if it was asked before."""
        request: dict[str, object] = {
            "model": self.settings.model,
            "url": self.settings.url,
            "instructions": instructions,
            "prompt": prompt,
            "schema": output.model_json_schema(),
            "settings": [self.settings.output, self.settings.temperature, self.settings.max_output_tokens],
        }
        key = fingerprint(request)
        known = self.cache.get(key)
        if known is not None:
            self.ledger.cached += 1
            answer = output.model_validate_json(known)
        else:
            answer = asyncio.run(self._ask(instructions, prompt, output))
            self.cache.put(key, request, answer.model_dump_json())
        if self.log is not None:
            self.log.emit(self.ledger.event())
        return answer

    async def _ask(self, instructions: str, prompt: str, output: type[T]) -> T:
        settings = self.settings
        # The SDK would retry on its own and uncounted, hence max_retries=0.
        async with openai.AsyncOpenAI(
            base_url=settings.url,
            api_key=settings.key.get_secret_value(),
            max_retries=0,
            timeout=settings.timeout_seconds,
        ) as connection:
            agent = Agent(
                OpenAIChatModel(settings.model, provider=OpenAIProvider(openai_client=connection)),
                output_type=_output_spec(output, settings.output),
                instructions=instructions,
                retries=1,
                model_settings=ModelSettings(
                    temperature=settings.temperature, max_tokens=settings.max_output_tokens
                ),
            )
            try:
                async for attempt in stamina.retry_context(
                    on=_wait, attempts=settings.attempts, timeout=None, wait_max=_LONGEST_WAIT
                ):
                    with attempt:
                        self.ledger.attempt()
                        usage = RunUsage()
                        try:
                            return (await agent.run(prompt, usage=usage)).output
                        finally:  # an answer that does not validate was paid for, too
                            self.ledger.answered(usage.input_tokens, usage.output_tokens, usage.requests)
            except ModelAPIError as error:
                raise WorkFailed(
                    "the language model does not answer",
                    where=settings.url,
                    got=str(error),
                    hint="check TILLAGE_LLM_URL, _MODEL and _KEY, or unset them to use the embedded planner",
                ) from error
            except UnexpectedModelBehavior as error:
                raise WorkFailed(
                    "the language model's answer does not have the form that was asked for",
                    where=f"{settings.model} at {settings.url}",
                    got=str(error.__cause__ or error)[:500],
                    expected=f"JSON of the schema of {output.__name__}",
                    hint="try TILLAGE_LLM_OUTPUT=tool or =prompt, or another model",
                ) from error
        raise AssertionError("retry_context returns or raises")


def _output_spec(output: type[T], mode: str) -> OutputSpec[T]:
    if mode == "schema":
        return NativeOutput(output)
    return ToolOutput(output) if mode == "tool" else PromptedOutput(output)


def _wait(error: Exception) -> bool | float:
    """Whether to try again, or after how many seconds when the server said so (`Retry-After`)."""
    if isinstance(error, ModelHTTPError):
        if error.status_code not in _RETRIED_STATUS:
            return False
        cause = error.__cause__
        after = (
            cause.response.headers.get("retry-after") if isinstance(cause, openai.APIStatusError) else None
        )
        try:
            return True if after is None else min(float(after), _LONGEST_WAIT)
        except ValueError:  # an HTTP date: rare enough to fall back to the usual backoff
            return True
    return isinstance(error, ModelAPIError)
