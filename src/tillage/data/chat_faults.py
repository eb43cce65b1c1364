"""How often chats have each of the faults that instruction data has."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from tillage.core.spec import Spec
from tillage.data.rate import Rate
from tillage.kernels.turns import FAULTS, folded, measured

MISMATCH = 0.01
"""Least share of long words that a prompt and its answer have in common, the bound of `chat_answers`."""


class ChatFaults(Spec):
    """Rates over the sample's chats. `structure` has the faults of `tillage.kernels.turns` that were met.

    `mismatched` is the share of the chats whose prompts and answers are long enough to tell.
    """

    structure: dict[str, Rate]
    any_structure: Rate
    refused: Rate
    truncated: Rate
    mismatched: Rate
    repeated_prompts: Rate
    """Chats whose first prompt, case and punctuation aside, is that of an earlier chat."""

    @property
    def any_answer(self) -> float:
        """The largest lower bound of a rate of faulty answers."""
        return max(self.refused.low, self.truncated.low, self.mismatched.low)


def chat_faults(chats: pa.Array) -> ChatFaults | None:
    """Measure a column of messages (`tillage.data.chat`); None where no row has any."""
    rows = [chat for chat in chats.to_pylist() if chat is not None]
    if not rows:
        return None
    found = [measured(chat) for chat in rows]
    structure = Counter(one["chat_fault"] for one in found if one["chat_fault"] is not None)
    told = [one["chat_overlap"] for one in found if one["chat_overlap"] is not None]
    prompts = Counter(
        " ".join(folded(prompt["content"] or ""))
        for chat in rows
        if (prompt := next((turn for turn in chat if turn["role"] == "user"), None)) is not None
    )
    n = len(rows)
    return ChatFaults(
        structure={name: Rate.of(structure[name], n) for name in FAULTS if structure[name]},
        any_structure=Rate.of(sum(structure.values()), n),
        refused=Rate.of(sum(one["chat_refusal"] for one in found), n),
        truncated=Rate.of(sum(one["chat_truncated"] for one in found), n),
        mismatched=Rate.of(sum(share < MISMATCH for share in told), len(told)),
        repeated_prompts=Rate.of(sum(count - 1 for count in prompts.values()), n),
    )
