"""How varied is what chats ask for: the actions of their first prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from tillage.core.spec import Spec
from tillage.data.chat import Message
from tillage.data.rate import Rate
from tillage.kernels.actions import action, named

TOP = 10


class ChatActions(Spec):
    """What the sample's chats ask for, by `tillage.kernels.actions`: an approximation, for English."""

    named: Rate
    """Chats of which an action is known; what follows is of these."""
    distinct: int
    entropy: float
    """Of the distribution of actions, in bits: as varied as 2 to that power of equally frequent ones."""
    top: dict[str, float]
    """The ten most frequent actions and their shares, the most frequent first."""

    @property
    def top_share(self) -> float:
        return sum(self.top.values())


def first_action(chat: Sequence[Message] | None) -> tuple[str, str | None] | None:
    """Verb and noun of the first message of the user; None where none is found."""
    prompt = next((turn["content"] for turn in chat or () if turn["role"] == "user"), None)
    return None if prompt is None else action(prompt)


def chat_actions(chats: pa.Array) -> ChatActions | None:
    """Measure a column of messages (`tillage.data.chat`); None where no row has any."""
    rows = [chat for chat in chats.to_pylist() if chat is not None]
    if not rows:
        return None
    counts = Counter(named(found) for chat in rows if (found := first_action(chat)) is not None)
    n = counts.total()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ChatActions(
        named=Rate.of(n, len(rows)),
        distinct=len(counts),
        entropy=round(math.fsum(count / n * math.log2(n / count) for _, count in ranked), 6),
        top={name: round(count / n, 6) for name, count in ranked[:TOP]},
    )
