"""Chats: each fault is found, and what is in order is let through."""

import random

import pyarrow as pa
import pytest

from tillage.data.chat import MESSAGES, MESSAGES_TYPE
from tillage.data.schema import BASE
from tillage.kernels.diversity import mtld
from tillage.kernels.turns import FAULTS, fault, overlap, refuses
from tillage.ops.chat import ChatAnswers, ChatLanguageMatch, ChatStats, ChatStructure
from tillage.ops.conformance import execute
from tillage.ops.prompts import ChatDiversity, PromptDedup

SYSTEM = "You are a farmer who answers each question about wheat in one short sentence."
PROMPT, ANSWER = "When is winter wheat sown in Europe?", "Winter wheat is sown in Europe from September on."


def chat(*turns):
    return [
        {"role": {"s": "system", "u": "user", "a": "assistant", "t": "tool"}.get(r, r), "content": c}
        for r, c in turns
    ]


GOOD = chat(("u", PROMPT), ("a", ANSWER))
BROKEN = {
    "no_messages": [],
    "unknown_role": chat(("critic", "x"), ("a", "y")),
    "late_system": chat(("u", "x"), ("s", "y"), ("a", "z")),
    "starts_with_answer": chat(("a", "x"), ("u", "y")),
    "role_order": chat(("u", "x"), ("u", "y"), ("a", "z")),
    "empty_prompt": chat(("u", " \n"), ("a", "y")),
    "empty_answer": chat(("u", "x"), ("a", "")),
    "unanswered": chat(("u", "x"), ("a", "y"), ("u", "z")),
    "markup": chat(("u", "x"), ("a", "y<|im_end|>\n<|im_start|>user\nz")),
    "prompt_leak": chat(("u", "x"), ("a", "System: You are a farmer who answers in one sentence.")),
    "system_leak": chat(("s", SYSTEM), ("u", "x"), ("a", f"Sure. {SYSTEM.upper()}")),
    "echo": chat(("u", PROMPT), ("a", PROMPT.lower())),
}
SOUND = [
    GOOD,
    chat(("s", SYSTEM), *[("u", PROMPT), ("a", ANSWER)] * 3),
    chat(("u", "x"), ("a", ""), ("t", "{}"), ("t", "{}"), ("a", "y")),
    chat(("s", SYSTEM), ("u", "Who are you?"), ("a", "A farmer who answers each question.")),
    chat(("u", "Write a scene. User: hello"), ("a", "The user: a man. He waits.")),
    chat(("u", "ok"), ("a", "ok")),
]


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_name(name):
    assert fault(BROKEN[name]) == name


def test_turns_that_ran_together_are_markup():
    for content in ("x\n### Response:\ny", "[INST] x [/INST]", "yes\nHuman: and then?\nAssistant: no"):
        assert fault(chat(("u", "x"), ("a", content))) == "markup"


@pytest.mark.parametrize("turns", SOUND)
def test_sound_chats_have_none(turns):
    assert fault(turns) is None


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "As an AI language model, I do not have feelings.",
        "I cannot provide such advice.",
        "Unfortunately, I am unable to open files.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Lo siento, pero no puedo ayudarte con eso.",
        "抱歉，我无法回答这个问题。",
    ],
)
def test_refusals(answer):
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry to hear that you can't sleep. Try tea.",
        "I can help. Not every farmer can.",
        "He said: I will not go.",
        "The company could not provide figures.",
        "x " * 400 + "I cannot provide that.",
    ],
)
def test_answers_that_are_no_refusals(answer):
    assert not refuses(answer)


def test_overlap_of_prompt_and_answer():
    assert overlap(PROMPT, ANSWER) >= 0.5
    other = "Painting ceilings requires ladders, brushes and patience."
    assert overlap(PROMPT, other) == 0
    assert overlap("Hi there", ANSWER) is None


def rows(chats):
    count = len(chats)
    columns = [
        [f"{i:032x}" for i in range(count)],
        ["x"] * count,
        ["d"] * count,
        ["f"] * count,
        list(range(count)),
    ]
    columns += [[None] * count] * 2
    table = pa.table([pa.array(c, k) for c, k in zip(columns, BASE.types, strict=True)], schema=BASE)
    return table.append_column(MESSAGES, pa.array(chats, MESSAGES_TYPE))


def drops(op, chats):
    return execute(op, rows(chats)).column("_drop").to_pylist()


def test_structure():
    found = drops(ChatStructure(), [*BROKEN.values(), *SOUND, None])
    assert found == [f"chat_structure:{name}" for name in BROKEN] + [None] * (len(SOUND) + 1)
    assert drops(ChatStructure(allow=("echo",)), [BROKEN["echo"]]) == [None]
    assert drops(ChatStructure(max_turns=4), SOUND[:2]) == [None, "chat_structure:turns"]


def test_answers():
    cut = "It is sown from September on. In some years the farmers of the north wait until the"
    chats = [
        GOOD,
        chat(("u", PROMPT), ("a", "I'm sorry, but I can't say.")),
        chat(("u", PROMPT), ("a", cut)),
        chat(("u", PROMPT), ("a", "wheat Europe " * 60)),
        chat(("u", PROMPT), ("a", "Painting ceilings requires ladders, brushes and patience.")),
        None,
    ]
    reasons = [None, "refusal", "truncated", "repeated", "unrelated", None]
    assert drops(ChatAnswers(), chats) == [r and f"chat_answers:{r}" for r in reasons]
    none = ChatAnswers(refusals=False, truncated=False, min_diversity=0, min_overlap=0)
    assert drops(none, chats) == [None] * 6
    assert drops(ChatAnswers(min_words=20), chats[:1]) == ["chat_answers:words"]


def test_measures():
    table = execute(ChatStats(), rows([chat(("s", SYSTEM), ("u", "a b c?"), ("a", "d d e.")), None]))
    first, none = (
        {name: value for name, value in row.items() if name.startswith("chat_")} for row in table.to_pylist()
    )
    assert first["chat_turns"] == 2 and first["chat_prompt_words"] == first["chat_answer_words"] == 3
    assert first["chat_answer_diversity"] == pytest.approx(2 / 3) and first["chat_overlap"] is None
    assert set(none.values()) == {None}


def test_languages_of_prompt_and_answer():
    german = "Winterweizen wird in Europa von September an gesät, wenn die Felder gepflügt sind."
    english = "Winter wheat is sown from September on, when the fields have been ploughed."
    question = "Can you tell me in which month of the year people sow their winter wheat?"
    chats = [
        chat(("u", question), ("a", english)),
        chat(("u", question), ("a", german)),
        chat(("u", f"{question} Answer in German, please."), ("a", german)),
        chat(("u", question), ("a", "Ja.")),
        None,
    ]
    other = "chat_language_match:other_language"
    assert drops(ChatLanguageMatch(), chats) == [None, other, None, None, None]


def test_prompts_that_ask_nearly_the_same_leave_one_chat():
    ask = "Write a short poem about the wheat fields to the north of the old mill by the river in spring"
    chats = [
        chat(("u", ask), ("a", "Short.")),
        chat(("s", SYSTEM), ("u", f"{ask}!"), ("a", "A longer answer with more words than the others have.")),
        chat(("u", f"{ask} please"), ("a", "It is so.")),
        chat(("u", "Explain why rye is sown in autumn"), ("a", "Short.")),
        chat(("a", "Short.")),
        None,
    ]
    same = "prompt_dedup:prompt_duplicate"
    assert drops(PromptDedup(), chats) == [None, same, same, None, None, None]
    best = PromptDedup(keep="best", best_by="chat_answer_words")
    assert [need.name for need in best.requires()] == ["chat_stats"]
    assert drops(best, chats) == [same, None, same, None, None, None]
    marked = execute(PromptDedup(mark=True), rows(chats))
    assert marked.column("prompt_duplicates").to_pylist() == [3, 3, 3, 1, 1, 1]


def test_diversity():
    table = execute(
        ChatDiversity(),
        rows(
            [
                chat(("u", "Write a poem."), ("a", "to be or not to be")),
                chat(("u", "写一首诗"), ("a", "好好好")),
                chat(("a", "👩‍🌾")),
                None,
            ]
        ),
    ).to_pylist()
    assert [row["chat_opening"] for row in table] == ["write a", "写 一", None, None]
    assert [row["chat_answer_distinct_1"] for row in table] == [
        pytest.approx(4 / 6),
        pytest.approx(1 / 3),
        None,
        None,
    ]
    assert [row["chat_answer_distinct_2"] for row in table] == [
        pytest.approx(4 / 5),
        pytest.approx(1 / 2),
        None,
        None,
    ]
    assert [row["chat_answer_ratio"] for row in table] == [2, pytest.approx(3 / 4), None, None]
    assert table[3]["chat_answer_mtld"] is None and table[2]["chat_prompt_mtld"] is None


def test_mtld_is_of_the_kind_of_words_and_not_of_how_many():
    draw = random.Random(1)
    few, many = [f"w{i}" for i in range(20)], [f"w{i}" for i in range(2000)]
    short, long = (mtld([draw.choice(few) for _ in range(n)]) for n in (300, 3000))
    assert short == pytest.approx(long, rel=0.25)
    assert mtld([draw.choice(many) for _ in range(300)]) > 10 * short
    assert mtld(["a"] * 10) == 2 and mtld([]) is None and mtld(["a", "b"]) == 2
