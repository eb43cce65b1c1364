"""Typed questions to an OpenAI-compatible endpoint, with or without tools: counted, cached, validated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import openai
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, Tool, ToolOutput, UnexpectedModelBehavior
from pydantic_ai.exceptions import ModelAPIError, UsageLimitExceeded
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.output import OutputSpec
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from tillage.core.errors import WorkFailed
from tillage.core.events import EventLog
from tillage.llm.cache import AnswerCache
from tillage.llm.ledger import Ledger
from tillage.llm.metered import MeteredModel
from tillage.llm.settings import LLMSettings

T = TypeVar("T", bound=BaseModel)

# How often the model is told that an answer or a call does not validate, in a row.
RETRIES = 1
TOOL_RETRIES = 3


@dataclass(frozen=True)
class _Question(Generic[T]):
    """What is asked: `spec` is how an `output` is asked for; `turns` are requests, where there are tools."""

    instructions: str
    prompt: str
    output: type[T]
    spec: OutputSpec[T]
    tools: Sequence[Tool[object]]
    turns: int


class LLMClient:
    """Asks one model. Every answer is an instance of a pydantic model.

    Errors are `WorkFailed`: an endpoint that cannot be reached or keeps refusing, an answer that does not
    validate even after the model was told why, too many turns, and a spent budget.
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
        spec = _output_spec(output, self.settings.output)
        return self._run(_Question(instructions, prompt, output, spec, (), RETRIES))

    def converse(
        self, instructions: str, prompt: str, tools: Sequence[Tool[object]], output: type[T], turns: int
    ) -> T:
        """Let the model call `tools` until it answers with an `output`, in `turns` requests at most.

        The tools are fixed for the conversation. The same conversation again comes from the cache, request by
        request, as long as the tools give the same results.
        """
        spec = ToolOutput(output, name="finish")
        return self._run(_Question(instructions, prompt, output, spec, tools, turns))

    def _run(self, question: _Question[T]) -> T:
        try:
            return asyncio.run(self._converse(question))
        finally:  # an answer that does not validate was paid for, too
            if self.log is not None:
                self.log.emit(self.ledger.event())

    async def _converse(self, question: _Question[T]) -> T:
        settings = self.settings
        # The SDK would retry on its own and uncounted, hence max_retries=0.
        async with openai.AsyncOpenAI(
            base_url=settings.url,
            api_key=settings.key.get_secret_value(),
            max_retries=0,
            timeout=settings.timeout_seconds,
        ) as connection:
            plain = OpenAIChatModel(settings.model, provider=OpenAIProvider(openai_client=connection))
            agent: Agent[object, T] = Agent(
                MeteredModel(plain, settings, self.ledger, self.cache),
                output_type=question.spec,
                instructions=question.instructions,
                retries=TOOL_RETRIES if question.tools else RETRIES,
                tools=question.tools,
                model_settings=ModelSettings(
                    temperature=settings.temperature, max_tokens=settings.max_output_tokens
                ),
            )
            turns = question.turns
            limits = UsageLimits(request_limit=turns if question.tools else None, tool_calls_limit=4 * turns)
            try:
                return (await agent.run(question.prompt, usage_limits=limits)).output
            except ModelAPIError as error:
                raise WorkFailed(
                    "the language model does not answer",
                    where=settings.url,
                    got=str(error),
                    hint="check TILLAGE_LLM_URL, _MODEL and _KEY, or use the embedded planner "
                    "(--planner embedded; --fallback goes on with it)",
                ) from error
            except UsageLimitExceeded as error:
                raise WorkFailed(
                    "the language model comes to no end",
                    where=f"{settings.model} at {settings.url}",
                    got=str(error),
                    expected=f"an answer within {turns} requests",
                ) from error
            except UnexpectedModelBehavior as error:
                raise WorkFailed(
                    "the language model's answer does not have the form that was asked for",
                    where=f"{settings.model} at {settings.url}",
                    got=str(error.__cause__ or error)[:500],
                    expected=f"JSON of the schema of {question.output.__name__}",
                    hint="try TILLAGE_LLM_OUTPUT=tool or =prompt, TILLAGE_LLM_MODE=steps, or another model",
                ) from error


def _output_spec(output: type[T], mode: str) -> OutputSpec[Any]:
    if mode == "schema":
        return NativeOutput(output)
    return ToolOutput(output) if mode == "tool" else PromptedOutput(output)
