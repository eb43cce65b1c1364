"""Which language model to ask, and how much may be spent on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, SecretStr

from tillage.core.errors import UserError
from tillage.core.spec import Spec


class LLMSettings(Spec):
    """An OpenAI-compatible endpoint and its budget.

    `price_in` and `price_out` are money per million tokens; they are never guessed, so a ledger over an
    endpoint without prices counts tokens and reports 0 money.

    `output` is how an answer of a given form is asked for: by the endpoint's JSON schema mode, as a tool
    call, or in words. `mode` is how plans are made: by a conversation with tools, as one draft of whole
    recipes, or step by step from a menu, for models too weak for either.
    """

    url: str
    model: str
    served: str = ""
    """What the cache knows the endpoint by, where its URL changes from session to session."""
    key: SecretStr = SecretStr("none")
    output: Literal["schema", "tool", "prompt"] = "schema"
    mode: Literal["tools", "draft", "steps"] = "tools"
    rows: bool = True
    """Whether the model may be shown rows of the data, and not only what was measured on them."""
    temperature: float = Field(default=0.0, ge=0)
    max_output_tokens: int = Field(default=4096, ge=1)
    timeout_seconds: float = Field(default=120.0, gt=0)
    attempts: int = Field(default=4, ge=1)
    price_in: float = Field(default=0.0, ge=0)
    price_out: float = Field(default=0.0, ge=0)
    max_calls: int = Field(default=50, ge=1)
    max_tokens: int = Field(default=1_000_000, ge=1)
    max_money: float | None = Field(default=None, ge=0)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> LLMSettings | None:
        """Settings from `TILLAGE_LLM_URL`, `_MODEL`, `_KEY` and so on, a variable a field.

        None when no URL is set; `UserError` when a URL is set without a model or a value is malformed.
        """
        known = os.environ if environment is None else environment
        fields = (
            "url",
            "model",
            "key",
            "output",
            "mode",
            "rows",
            "timeout_seconds",
            "attempts",
            "price_in",
            "price_out",
            "max_calls",
            "max_tokens",
            "max_money",
        )
        values = {name: known[_variable(name)] for name in fields if known.get(_variable(name))}
        if "url" not in values:
            return None
        if values["url"] == "local":
            return cls(url="local", model="local", served="local")
        if "model" not in values:
            raise UserError(
                "a language model URL is set but no model",
                where="TILLAGE_LLM_MODEL",
                hint="set it to a name that the endpoint serves, or unset TILLAGE_LLM_URL",
            )
        return cls.load(values, "environment TILLAGE_LLM_*")


def _variable(field: str) -> str:
    return f"TILLAGE_LLM_{field.upper()}"
