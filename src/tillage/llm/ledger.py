"""What was spent on a language model, and the limit that stops the spending."""

from __future__ import annotations

from dataclasses import dataclass

from tillage.core.errors import WorkFailed
from tillage.core.events import Cost
from tillage.llm.settings import LLMSettings


@dataclass
class Ledger:
    """Counts calls (failed attempts too), tokens and money of one session."""

    settings: LLMSettings
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    @property
    def money(self) -> float:
        return (self.tokens_in * self.settings.price_in + self.tokens_out * self.settings.price_out) / 1e6

    def check(self) -> None:
        """`WorkFailed` when the next call would start beyond the budget."""
        limits = (
            ("calls", self.calls, self.settings.max_calls),
            ("tokens", self.tokens, self.settings.max_tokens),
            ("money", self.money, self.settings.max_money),
        )
        for name, spent, limit in limits:
            if limit is not None and spent >= limit:
                raise WorkFailed(
                    "the budget for the language model is spent",
                    where=self.settings.model,
                    got=f"{spent:g} {name}",
                    expected=f"less than {limit:g} {name}",
                    hint=f"raise TILLAGE_LLM_MAX_{name.upper()} or use the embedded planner",
                )

    def attempt(self) -> None:
        """Enter a call that is about to be made; `WorkFailed` beyond the budget."""
        self.check()
        self.calls += 1

    def answered(self, tokens_in: int, tokens_out: int) -> None:
        """Enter what one call used."""
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out

    def event(self) -> Cost:
        return Cost(calls=self.calls, tokens=self.tokens, money=self.money, cached=self.cached)
