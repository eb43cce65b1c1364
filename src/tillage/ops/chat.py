"""Instruction data: what is measured of chats, and which chats are dropped for it.

All read the column `messages` (`tillage.data.chat`), which sources make of alpaca, ShareGPT and OpenAI
records; rows without messages, plain text, get nulls and stay.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
from daft import DataFrame, Expression, col, lit
from pydantic import Field

from tillage.data.chat import MESSAGES
from tillage.kernels.language import detect
from tillage.kernels.turns import FAULTS, measured
from tillage.ops.base import Annotate, Filter, operator
from tillage.ops.udf import above, below, with_measures

_SOURCE = "Liu et al. 2024 (a survey of instruction data selection), arXiv 2402.05123; rules of our own"


@operator
class ChatStats(Annotate):
    """Measure chats: faults of structure, refusals, answers that break off, lengths, diversity, overlap."""

    source = _SOURCE

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "chat_fault": "first fault in the structure, null for none: " + ", ".join(FAULTS),
            "chat_turns": "messages, the system's left out",
            "chat_prompt_words": "words of the user's messages",
            "chat_answer_words": "words of the assistant's messages",
            "chat_shortest_answer": "words of the shortest message of the assistant that is not empty",
            "chat_answer_diversity": "distinct words over words of the assistant's messages",
            "chat_refusal": "whether an answer begins by declining",
            "chat_truncated": "whether an answer breaks off",
            "chat_overlap": (
                "least share of long words that a prompt and its answer have in common, of the smaller of "
                "the two; "
                "null where one has fewer than three"
            ),
        }

    def reads(self) -> frozenset[str]:
        return frozenset({MESSAGES})

    def writes(self) -> dict[str, pa.DataType]:
        return dict(_STATS)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return with_measures(frame, _measured, self.writes(), MESSAGES)


_STATS: dict[str, pa.DataType] = {
    "chat_fault": pa.large_string(),
    "chat_turns": pa.int64(),
    "chat_prompt_words": pa.int64(),
    "chat_answer_words": pa.int64(),
    "chat_shortest_answer": pa.int64(),
    "chat_answer_diversity": pa.float64(),
    "chat_refusal": pa.bool_(),
    "chat_truncated": pa.bool_(),
    "chat_overlap": pa.float64(),
}


def _measured(chats: pa.Array) -> dict[str, pa.Array]:
    nothing = dict.fromkeys(_STATS)
    rows = [nothing if chat is None else measured(chat) for chat in chats.to_pylist()]
    return {name: pa.array([row[name] for row in rows], kind) for name, kind in _STATS.items()}


class _ChatFilter(Filter):
    """Base of filters over `ChatStats`."""

    source = _SOURCE

    def requires(self) -> tuple[Annotate, ...]:
        return (ChatStats(),)


@operator
class ChatStructure(_ChatFilter):
    """Drop chats of broken turns: order of roles, empty or missing answers, template marks, leaks, echoes."""

    allow: tuple[str, ...] = Field(
        default=(), description="faults that are let through, such as echo or system_leak"
    )
    max_turns: int = Field(default=1000, ge=1, description="most messages, the system's left out")

    def reasons(self) -> dict[str, Expression]:
        wrong = {name: col("chat_fault") == lit(name) for name in FAULTS if name not in self.allow}
        return {**wrong, "turns": above("chat_turns", self.max_turns)}


@operator
class ChatAnswers(_ChatFilter):
    """Drop chats with answers that decline, break off, are too short or not to do with the prompt."""

    refusals: bool = Field(default=True, description="drop chats with an answer that begins by declining")
    truncated: bool = Field(default=True, description="drop chats with an answer that breaks off")
    min_words: int = Field(default=1, ge=0, description="least words of each answer that is not empty")
    max_words: int = Field(default=100_000, ge=1, description="most words of all answers")
    min_diversity: float = Field(
        default=0.1, ge=0, le=1, description="least distinct words over words, in answers of 50 words or more"
    )
    min_overlap: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="least share of long words in common between a prompt and its answer; 0 asks for none",
    )

    def reasons(self) -> dict[str, Expression]:
        long = col("chat_answer_words") >= lit(50)
        repeated = long & below("chat_answer_diversity", self.min_diversity)
        words = below("chat_shortest_answer", self.min_words) | above("chat_answer_words", self.max_words)
        unrelated = below("chat_overlap", self.min_overlap)
        switches = {"refusal": self.refusals, "truncated": self.truncated}
        chosen = {name: col(f"chat_{name}") for name, on in switches.items() if on}
        return {**chosen, "words": words, "repeated": repeated, "unrelated": unrelated}


@operator
class ChatLanguage(Annotate):
    """Name the languages of the prompts and of the answers of a chat, with fastText's lid.176.

    `chat_translation` says whether a prompt asks for another language, by naming one or translation.
    """

    source = "Joulin et al. 2016, arXiv 1607.01759; model lid.176.ftz (CC-BY-SA-3.0)"

    min_letters: int = Field(
        default=30, ge=1, description="prompts or answers with fewer letters have no language"
    )

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "prompt_lang": "language of the user's messages; null where too short",
            "prompt_lang_score": "probability of that language",
            "answer_lang": "language of the assistant's messages; null where too short",
            "answer_lang_score": "probability of that language",
            "chat_translation": "whether a prompt or system message speaks of a language or of translation",
        }

    def reads(self) -> frozenset[str]:
        return frozenset({MESSAGES})

    def writes(self) -> dict[str, pa.DataType]:
        text, number = pa.large_string(), pa.float64()
        names = {"prompt_lang": text, "prompt_lang_score": number, "answer_lang": text}
        return {**names, "answer_lang_score": number, "chat_translation": pa.bool_()}

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        least = self.min_letters
        return with_measures(frame, lambda chats: _languages(chats, least), self.writes(), MESSAGES)

    def merge(self, other: Annotate) -> Annotate | None:
        return self if self == other else None


# Names of languages and of translating, in the languages themselves and in English; by their beginnings.
_TRANSLATION = re.compile(
    r"\b(?:translat|übersetz|tradu[izcs]|tradui|traduc|vertaal|tłumacz|перевед|перевод|in (?:other"
    r"|another) language|"
    r"english|french|français|german|deutsch|spanish|español|chinese|mandarin|japanese|korean|italian"
    r"|italiano|"
    r"portugu|russian|русск|arabic|hindi|latin|dutch|polish|turkish|greek|swedish|hebrew|language)"
    r"|翻译|译成|中文|英文|英语|日本語|翻訳|번역|ترجم|अनुवाद",
    re.IGNORECASE,
)


def _languages(chats: pa.Array, least: int) -> dict[str, pa.Array]:
    rows = chats.to_pylist()
    out: dict[str, pa.Array] = {}
    for role, name in (("user", "prompt"), ("assistant", "answer")):
        texts = [
            None if chat is None else "\n".join(m["content"] or "" for m in chat if m["role"] == role)
            for chat in rows
        ]
        long = [t if t is not None and sum(c.isalpha() for c in t[:2000]) >= least else None for t in texts]
        out[f"{name}_lang"], out[f"{name}_lang_score"] = detect(pa.array(long, pa.large_string()))
    asks = [
        None
        if chat is None
        else any(
            _TRANSLATION.search(m["content"] or "") is not None
            for m in chat
            if m["role"] in ("user", "system")
        )
        for chat in rows
    ]
    return {**out, "chat_translation": pa.array(asks, pa.bool_())}


@operator
class ChatLanguageMatch(Filter):
    """Drop chats that are answered in another language than they are asked in, unless they ask for one."""

    source = "Joulin et al. 2016, arXiv 1607.01759 (identification); rule of our own"

    min_score: float = Field(
        default=0.7, ge=0, le=1, description="both languages must be at least this probable"
    )
    min_letters: int = Field(default=30, ge=1, description="shorter prompts or answers have no language")

    def requires(self) -> tuple[Annotate, ...]:
        return (ChatLanguage(min_letters=self.min_letters),)

    def reasons(self) -> dict[str, Expression]:
        sure = (col("prompt_lang_score") >= lit(self.min_score)) & (
            col("answer_lang_score") >= lit(self.min_score)
        )
        return {
            "other_language": sure & (col("prompt_lang") != col("answer_lang")) & ~col("chat_translation")
        }
