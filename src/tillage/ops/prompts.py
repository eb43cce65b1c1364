"""Instruction data by what is asked: near-copies of prompts, and how varied prompts and answers are."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from daft import DataFrame, Expression
from pydantic import Field

from tillage.data.chat import MESSAGES, Message
from tillage.data.chat_actions import first_action
from tillage.kernels.actions import named
from tillage.kernels.diversity import distinct, mtld, words
from tillage.kernels.turns import spoken_by
from tillage.ops.base import Annotate, operator
from tillage.ops.chat import ChatStats
from tillage.ops.dedup import MinHashDedup, minhash_sketch
from tillage.ops.udf import measure, with_measures

_OPENING = 2


@operator
class PromptDedup(MinHashDedup):
    """Keep one of each cluster of chats that ask nearly the same; name it in `prompt_duplicate_of`.

    Compared are the user's messages alone, by MinHash: whatever the answers, one stays, the first, the
    longest chat, or the best by a column such as `chat_answer_words`. Rows that are no chats stay.
    """

    source = (
        "Wang et al. 2023 (Self-Instruct), arXiv 2212.10560, section 2.2 (what is like an earlier "
        "instruction is left out, there by ROUGE-L); Broder 1997 (MinHash)"
    )
    version = 1
    noun = "prompt_duplicate"
    alike = "that ask nearly the same"

    ngram: int = Field(default=3, ge=1, le=64, description="words a shingle")

    def requires(self) -> tuple[Annotate, ...]:
        return (ChatStats(),) if self.best_by in ChatStats().writes() else super().requires()

    def reads(self) -> frozenset[str]:
        return super().reads() | {MESSAGES}

    def sketch(self) -> Expression:
        sign = partial(
            _sketch, ngram=self.ngram, hashes=self.bands * self.rows, seed=self.seed, rows=self.least_rows()
        )
        return measure(sign, pa.large_binary(), MESSAGES)


@operator
class ChatDiversity(Annotate):
    """Measure how varied the words of a chat are, and how its first prompt begins.

    `chat_opening` is for quotas and strata: what is asked for most often begins alike.
    """

    source = (
        "Li et al. 2016 (distinct-n), arXiv 1510.03055; McCarthy and Jarvis 2010 (MTLD), "
        "doi 10.3758/BRM.42.2.381, as in Cao et al. 2023 (Instruction Mining), arXiv 2307.06290; openings "
        "after Wang et al. 2023 (Self-Instruct), arXiv 2212.10560, section 3.1, without a parser"
    )

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "chat_prompt_mtld": "lexical diversity (MTLD) of the user's messages",
            "chat_answer_mtld": "lexical diversity (MTLD) of the assistant's messages",
            "chat_answer_distinct_1": "distinct words over words of the assistant's messages",
            "chat_answer_distinct_2": "distinct word pairs over word pairs of the assistant's messages",
            "chat_answer_ratio": "words of the assistant's messages over those of the user's",
            "chat_opening": f"first {_OPENING} words of the first prompt, in lower case",
        }

    def reads(self) -> frozenset[str]:
        return frozenset({MESSAGES})

    def writes(self) -> dict[str, pa.DataType]:
        return dict(_DIVERSITY)

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return with_measures(frame, _measured, self.writes(), MESSAGES)


_DIVERSITY: dict[str, pa.DataType] = {
    "chat_prompt_mtld": pa.float64(),
    "chat_answer_mtld": pa.float64(),
    "chat_answer_distinct_1": pa.float64(),
    "chat_answer_distinct_2": pa.float64(),
    "chat_answer_ratio": pa.float64(),
    "chat_opening": pa.large_string(),
}


@operator
class ChatAction(Annotate):
    """Name what the first prompt of a chat asks to be done, as "write story", by word lists for English.

    An approximation without a parser: the first verb of a list that begins a clause, and the noun after it;
    of a question its question word. Other languages, and prompts with neither, have nulls. `chat_action`
    is for quotas and strata: `stratified_sample` with `by: [chat_action]` and `rows_each`.
    """

    source = (
        "after Wang et al. 2023 (Self-Instruct), arXiv 2212.10560, section 3.1 (root verb and direct noun "
        "object), without a parser"
    )

    @classmethod
    def meanings(cls) -> dict[str, str]:
        return {
            "chat_verb": "leading verb of the first prompt, or its question word; null where none is found",
            "chat_object": "noun that the verb is about, in the singular; null where none follows",
            "chat_action": "verb and noun, or the verb alone",
        }

    def reads(self) -> frozenset[str]:
        return frozenset({MESSAGES})

    def writes(self) -> dict[str, pa.DataType]:
        return dict.fromkeys(self.meanings(), pa.large_string())

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return with_measures(frame, _actions, self.writes(), MESSAGES)


def _actions(chats: pa.Array) -> dict[str, pa.Array]:
    found = [first_action(chat) for chat in chats.to_pylist()]
    columns = {
        "chat_verb": [None if one is None else one[0] for one in found],
        "chat_object": [None if one is None else one[1] for one in found],
        "chat_action": [None if one is None else named(one) for one in found],
    }
    return {name: pa.array(values, pa.large_string()) for name, values in columns.items()}


def _measured(chats: pa.Array) -> dict[str, pa.Array]:
    nothing: dict[str, Any] = dict.fromkeys(_DIVERSITY)
    rows = [nothing if chat is None else _diversity(chat) for chat in chats.to_pylist()]
    return {name: pa.array([row[name] for row in rows], kind) for name, kind in _DIVERSITY.items()}


def _diversity(chat: list[Message]) -> dict[str, Any]:
    prompts, answers = (spoken_by(_turns(chat), role) for role in ("user", "assistant"))
    asked, said = words("\n".join(prompts)), words("\n".join(answers))
    opening = words(prompts[0])[:_OPENING] if prompts else []
    return {
        "chat_prompt_mtld": mtld(asked),
        "chat_answer_mtld": mtld(said),
        "chat_answer_distinct_1": distinct(said, 1),
        "chat_answer_distinct_2": distinct(said, 2),
        "chat_answer_ratio": len(said) / len(asked) if asked else None,
        "chat_opening": " ".join(opening) or None,
    }


def _sketch(chats: pa.Array, ngram: int, hashes: int, seed: int, rows: int) -> pa.Array:
    prompts = [
        None if chat is None else "\n".join(spoken_by(_turns(chat), "user")) for chat in chats.to_pylist()
    ]
    return minhash_sketch(pa.array(prompts, pa.large_string()), ngram, hashes, seed, rows)


def _turns(chat: list[Message]) -> list[dict[str, str]]:
    return [{"role": m["role"] or "", "content": m["content"] or ""} for m in chat]
