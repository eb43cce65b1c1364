"""What is wrong with the turns of a chat, by rules over roles and wording."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tillage.kernels.truncated import BROKEN, ending

Turns = Sequence[Mapping[str, str]]

FAULTS = {
    "no_messages": "the chat has no message",
    "unknown_role": "a role that is not system, user, assistant or tool",
    "late_system": "a system message after the first message",
    "starts_with_answer": "the first message after the system's is not the user's",
    "role_order": "user and assistant do not take turns",
    "empty_prompt": "a user's message without a word",
    "empty_answer": "an assistant's message without a word, and no tool's after it",
    "unanswered": "the last message is not the assistant's",
    "markup": "a message holds the marks of a chat template, so that turns have run together",
    "prompt_leak": "an answer begins with instructions to the assistant, as in 'System: You are ...'",
    "system_leak": "an answer repeats eight or more words in a row of the system message",
    "echo": "an answer repeats the prompt and says nothing else",
}
"""Faults in the order in which they are looked for -> what they mean."""
KNOWN_ROLES = frozenset({"system", "user", "assistant", "tool"})

# Control words of ChatML, Llama 2 and 3, Gemma, Phi, Zephyr and Vicuna; then roles at the beginning of a
# line, which in prose and in plays are not followed by an answer in the same message.
_MARKUP = re.compile(
    r"<\|(?:im_start|im_end|system|user|assistant|end|eot_id|start_header_id|end_header_id|endoftext)\|>"
    r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|^#{2,3} ?(?:Instruction|Response|Human|Assistant|User|Input):?[ \t]*$",
    re.MULTILINE,
)
_SPEAKERS = re.compile(r"^(?:(Human|User|USER|HUMAN)|(Assistant|ASSISTANT|AI|GPT|Bot)) ?: ?\S", re.MULTILINE)
# A system prompt at the beginning of an answer: the assistant is told what it is, or what to keep to itself.
_ROLE = r"(?:assistant|chatbot|ai|language model|bot)\b"
_LEAK = re.compile(
    rf"^\W{{0,3}}(?:system(?: prompt| message)?|instructions?)\b\W{{1,3}}"
    rf"(?:you (?:are|must|should|will|only)\b|(?:never|always|do not|don['’]t) \w+"
    rf"|your (?:name|role|task) is\b)"
    rf"|^\W{{0,3}}you are (?:chatgpt|claude|gpt|(?!(?:a|an|the|my|your)\b)\w+, an?\b[^.\n]{{0,60}}\b{_ROLE}"
    rf"|an? (?:\w+ ){{0,3}}(?:ai|language model|chatbot)\b)"
    r"|^[^\n]{0,200}\b(?:never|do not|don['’]t) (?:show|reveal|share|disclose|repeat|mention)"
    r" (?:these|this|your|the) (?:system )?(?:instructions|prompt|rules|guidelines)\b",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\w+")
_LEAK_WORDS = 8
_ECHO_WORDS = 4

# A refusal says so at once: what an answer quotes later on is not one.
_HEAD = 300
_CANNOT = (
    r"(?:can ?not|can['’]t|could not|couldn['’]t|am unable|['’]m unable|am not able|['’]m not able"
    r"|won['’]t|will not|"
    r"am not programmed)"
)
_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b[^.!?\n]{0,80}\b"
    r"(?:i |my )[^.!?\n]{0,40}(?:cannot|can['’]t|do not|don['’]t|am unable|am not|not able|won['’]t|not have)"
    rf"|\b(?:sorry|apologi[sz]e|unfortunately|regret)\b[^.!?\n]{{0,60}}\bi(?: |(?=['’])){_CANNOT}"
    rf"|^\W{{0,3}}i(?: |(?=['’])){_CANNOT} (?:to )?(?:assist|help|provide|fulfil|comply|answer|do that"
    rf"|create|"
    r"generate|write|discuss|engage|support|complete|give|share|offer|continue)"
    r"|\b(?:against|violates?) (?:my|our|openai's) (?:programming|guidelines|policy|policies|content policy)"
    r"|^\W{0,3}(?:es tut mir leid|tut mir leid|leider kann ich)\b[^.!?\n]{0,60}\b(?:kann"
    r"|darf)?\b[^.!?\n]{0,40}\bnicht\b"
    r"|^\W{0,3}(?:je suis désolée?|désolée?)\b[^.!?\n]{0,40}\bje ne peux pas"
    r"|^\W{0,3}lo siento\b[^.!?\n]{0,40}\bno puedo"
    r"|^\W{0,3}(?:很)?抱歉[^。！？\n]{0,20}(?:不能|无法)|作为(?:一个|一名)?(?:ai|人工智能)[^。！？\n]{0,20}(?:不能|无法)",
    re.IGNORECASE | re.MULTILINE,
)


def fault(turns: Turns) -> str | None:
    """The first of `FAULTS` that a chat has, or None.

    A tool's messages may stand between an answer that calls it and the answer that uses it.
    """
    if not turns:
        return "no_messages"
    if any(turn["role"] not in KNOWN_ROLES for turn in turns):
        return "unknown_role"
    if any(turn["role"] == "system" for turn in turns[1:]):
        return "late_system"
    spoken = turns[1:] if turns[0]["role"] == "system" else turns
    if not spoken:
        return "unanswered"
    if spoken[0]["role"] != "user":
        return "starts_with_answer"
    if found := _order(spoken):
        return found
    return _wording(turns, spoken)


def _order(spoken: Turns) -> str | None:
    for before, turn in itertools.pairwise(spoken):
        pair = before["role"], turn["role"]
        if pair in (("user", "user"), ("assistant", "assistant"), ("user", "tool"), ("tool", "user")):
            return "role_order"
    for place, turn in enumerate(spoken):
        if not turn["content"].strip():
            if turn["role"] == "user":
                return "empty_prompt"
            follows = spoken[place + 1]["role"] if place + 1 < len(spoken) else ""
            if turn["role"] == "assistant" and follows != "tool":
                return "empty_answer"
    return None if spoken[-1]["role"] == "assistant" else "unanswered"


def _wording(turns: Turns, spoken: Turns) -> str | None:
    if any(_has_markup(turn["content"]) for turn in turns):
        return "markup"
    answers = [turn["content"] for turn in spoken if turn["role"] == "assistant"]
    if any(_LEAK.search(answer) for answer in answers):
        return "prompt_leak"
    if turns[0]["role"] == "system" and any(_repeats(answer, turns[0]["content"]) for answer in answers):
        return "system_leak"
    for before, turn in itertools.pairwise(spoken):
        if turn["role"] == "assistant" and before["role"] == "user":
            prompt, answer = folded(before["content"]), folded(turn["content"])
            if len(answer) >= _ECHO_WORDS and answer == prompt:
                return "echo"
    return None


def _has_markup(content: str) -> bool:
    if _MARKUP.search(content):
        return True
    speakers = _SPEAKERS.findall(content)
    return any(user for user, _ in speakers) and any(answer for _, answer in speakers)


def folded(text: str) -> list[str]:
    """The words of a text in lower case, without what stands between them."""
    return _WORDS.findall(text.lower())


def _repeats(answer: str, system: str) -> bool:
    """Whether both share a run of `_LEAK_WORDS` words."""
    said, told = folded(answer), folded(system)
    if min(len(said), len(told)) < _LEAK_WORDS:
        return False
    known = {tuple(told[i : i + _LEAK_WORDS]) for i in range(len(told) - _LEAK_WORDS + 1)}
    return any(tuple(said[i : i + _LEAK_WORDS]) in known for i in range(len(said) - _LEAK_WORDS + 1))


def refuses(answer: str) -> bool:
    """Whether an answer begins by declining, in English, German, French, Spanish or Chinese wording."""
    return _REFUSAL.search(answer[:_HEAD]) is not None


def spoken_by(turns: Turns, role: str) -> list[str]:
    """The contents of a role's messages, in order."""
    return [turn["content"] for turn in turns if turn["role"] == role]


def overlap(prompt: str, answer: str) -> float | None:
    """The share of the answer's distinct long words (five letters or more) that the prompt has too.

    By the first five letters, so that endings do not count. None where either has fewer than three such
    words.
    """
    asked, said = ({w[:5] for w in folded(text) if len(w) >= 5} for text in (prompt, answer))
    if min(len(asked), len(said)) < 3:
        return None
    return len(asked & said) / min(len(asked), len(said))


def measured(turns: Sequence[Mapping[str, str | None]]) -> dict[str, Any]:
    """The measurements of a chat, named as the columns of the operator `chat_stats`, which explains them."""
    chat = [{"role": turn["role"] or "", "content": turn["content"] or ""} for turn in turns]
    answers = spoken_by(chat, "assistant")
    words = [word for answer in answers for word in answer.lower().split()]
    said = [
        (ask["content"], reply["content"])
        for ask, reply in itertools.pairwise(chat)
        if ask["role"] == "user" and reply["role"] == "assistant"
    ]
    shared = [share for pair in said if (share := overlap(*pair)) is not None]
    lengths = [length for answer in answers if (length := len(answer.split()))]
    return {
        "chat_fault": fault(chat),
        "chat_turns": sum(turn["role"] != "system" for turn in chat),
        "chat_prompt_words": sum(len(prompt.split()) for prompt in spoken_by(chat, "user")),
        "chat_answer_words": len(words),
        "chat_shortest_answer": min(lengths, default=0),
        "chat_answer_diversity": len(set(words)) / len(words) if words else None,
        "chat_refusal": any(map(refuses, answers)),
        "chat_truncated": any(ending(answer) == BROKEN for answer in answers),
        "chat_overlap": min(shared, default=None),
    }
