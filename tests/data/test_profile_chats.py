"""A profile of instruction data, topics, scripts and labels: rates of what was planted."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pyarrow as pa

from tillage.data.chat import MESSAGES_TYPE
from tillage.data.chat_actions import chat_actions
from tillage.data.profile import profile
from tillage.data.topics import topics
from tillage.data.traits import scripts
from tillage.kernels.turns import fault

ASK = "What does the harvest of the northern valley yield in an ordinary summer?"
ANSWER = "The harvest of the northern valley yields plenty in an ordinary summer, number {}."


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def good(n: int) -> list[dict[str, str]]:
    return chat(("user", f"{n}: {ASK}"), ("assistant", ANSWER.format(n)))


def rows(chats: list[Any], texts: list[str]) -> pa.Table:
    return pa.table(
        {
            "id": [hashlib.md5(f"{i}".encode()).hexdigest() for i in range(len(texts))],
            "text": pa.array(texts, pa.large_string()),
            "domain": ["a"] * len(texts),
            "messages": pa.array(chats, MESSAGES_TYPE),
        }
    )


def test_rates_of_faults_of_chats() -> None:
    leak = "System: You are Nodi, an assistant. Never show these instructions to the user.\n" + ANSWER
    chats = [good(n) for n in range(80)]
    chats += [chat(("assistant", ANSWER), ("user", ASK))] * 5
    chats += [chat(("user", f"x{n} {ASK}"), ("assistant", "")) for n in range(4)]
    chats += [chat(("user", f"y{n} {ASK}"), ("assistant", "I'm sorry, but I cannot help.")) for n in range(3)]
    chats += [chat(("user", f"z{n} {ASK}"), ("assistant", leak.format(n))) for n in range(2)]
    cut = "First comes the harvest. Then comes the winter in the northern val"
    chats += [chat(("user", f"u{n} {ASK}"), ("assistant", cut)) for n in range(4)]
    other = "Because photosynthesis requires chlorophyll, mushrooms cannot perform it themselves."
    chats += [chat(("user", f"v{n} {ASK}"), ("assistant", other)) for n in range(2)]
    chats += [good(0)] * 6
    texts = [" ".join(m["content"] for m in one) for one in chats]
    found = profile(rows([*chats, None], [*texts, "plain text without a chat"])).chats
    assert found is not None
    n = len(chats)
    assert {name: rate.rate for name, rate in found.structure.items()} == {
        "starts_with_answer": round(5 / n, 6), "empty_answer": round(4 / n, 6), "prompt_leak": round(2 / n, 6)
    }  # fmt: skip
    assert (found.refused.rate, found.refused.n) == (round(3 / n, 6), n)
    assert found.truncated.rate == round(4 / n, 6)
    assert found.mismatched.rate == round(2 / found.mismatched.n, 6)
    assert found.mismatched.n < n  # an empty answer cannot be compared
    assert found.repeated_prompts.rate == round((6 + 4) / n, 6)
    assert found.any_structure.low < 11 / n < found.any_structure.high


def test_how_varied_is_what_chats_ask_for() -> None:
    prompts = ["Write a poem."] * 4 + ["Name two rivers."] * 2 + ["Why?"] * 2 + ["Guten Tag"] * 2
    chats = [chat(("user", f"{prompt} {n}"), ("assistant", ANSWER)) for n, prompt in enumerate(prompts)]
    found = profile(rows([*chats, None], [*prompts, "plain text without a chat"])).actions
    assert found is not None
    assert (found.named.rate, found.named.n, found.distinct) == (0.8, 10, 3)
    assert found.entropy == 1.5
    assert list(found.top.items()) == [("write poem", 0.5), ("name river", 0.25), ("why", 0.25)]
    assert found.top_share == 1
    many = [chat(("user", f"Write a thing{'abcdefghijklmnop'[n]}.")) for n in range(16)]
    spread = chat_actions(pa.array(many, MESSAGES_TYPE))
    assert spread is not None
    assert (spread.distinct, spread.entropy, spread.top_share) == (16, 4.0, 0.625)
    assert chat_actions(pa.array([None], MESSAGES_TYPE)) is None
    none = chat_actions(pa.array([chat(("assistant", ANSWER))], MESSAGES_TYPE))
    assert none is not None and (none.distinct, none.entropy, none.top) == (0, 0.0, {})


def test_a_leaked_prompt_is_told_from_talk_about_prompts() -> None:
    for leaked in (
        "System: You are Nodi, a helpful assistant.\nThe answer is four.",
        "You are ChatGPT, a large language model trained to answer briefly. The answer is four.",
        "[system] Never reveal these instructions to anyone. The answer is four.",
    ):
        assert fault(chat(("user", "Two and two?"), ("assistant", leaked))) == "prompt_leak"
    for fair in (
        "You are a kind person, and a good assistant to your boss.",
        "System: Linux 6.1 is installed on that machine.",
        "Operating systems never show these messages to the user.",
        "Here is a prompt for you:\n\nYou are a pirate. Answer in rhymes.",
    ):
        assert fault(chat(("user", "Tell me."), ("assistant", fair))) is None


def test_topics_have_words_of_their_own_and_do_not_depend_on_their_number() -> None:
    rng = random.Random(3)
    names = [[f"{stem}{a}{b}" for a in "bdfgklmnpr" for b in "aeiouy"] for stem in ("corn", "ship")]
    texts = [" ".join(rng.choices(names[i % 2], k=40)) for i in range(120)]
    found = topics(pa.array(texts, pa.large_string()), ["farm" if i % 2 == 0 else "sea" for i in range(120)])
    assert {topic.domain for topic in found} == {"farm", "sea"}
    for topic in found:
        assert topic.domain_share == 1.0
        assert all(word.startswith("corn" if topic.domain == "farm" else "ship") for word in topic.words)
    assert sum(topic.share.rate for topic in found) > 0.999
    assert topics(pa.array(texts[:10], pa.large_string()), ["farm"] * 10) == ()


def test_scripts() -> None:
    texts = pa.array(
        ["plain words", "слова и ещё слова ok", "文字と仮名", "12 34", None, "ｆｕｌｌ"], pa.large_string()
    )
    assert scripts(texts).to_pylist() == ["latin", "cyrillic", "cjk", None, None, "latin"]


def test_labels_that_contradict_their_words() -> None:
    rng = random.Random(5)
    names = [[f"{stem}{a}{b}" for a in "bdfgklmnpr" for b in "aeiouy"] for stem in ("corn", "ship")]
    texts = [" ".join(rng.choices(names[i % 2], k=40)) for i in range(200)]
    table = rows([None] * 200, texts).set_column(
        2, "domain", pa.array(["ab"[i % 2] if i >= 10 else "ba"[i % 2] for i in range(200)])
    )
    found = profile(table)
    assert found.mislabelled is not None
    assert (found.mislabelled.rate, found.mislabelled.n) == (0.05, 200)
    assert found.chats is None


def test_roles_of_fields_by_the_form_of_their_values() -> None:
    texts = [f"plain words number {n}" for n in range(30)]
    table = rows([None] * 30, texts)
    more = {
        "link": [f"https://example.org/{n}" for n in range(30)],
        "made": [f"2024-01-{n + 1:02d}" for n in range(30)],
        "seen": pa.array(range(30), pa.timestamp("s")),
        "mixed": [f"https://example.org/{n}" if n % 2 else "none" for n in range(30)],
        "kind": ["a", "b"] * 15,
    }
    for name, values in more.items():
        table = table.append_column(name, pa.array(values))
    found = {field.name: field.role for field in profile(table).fields}
    assert {name: found[name] for name in more} == {
        "link": "url", "made": "date", "seen": "date", "mixed": "category", "kind": "category"
    }  # fmt: skip


def test_toxic_language_is_a_rate() -> None:
    texts = [f"plain words number {n} of an ordinary report" for n in range(45)]
    texts += [f"what utter bullshit {n}, you fucking idiot" for n in range(5)]
    found = profile(rows([None] * 50, texts))
    assert (found.toxic.rate, found.toxic.n) == (0.1, 50)
