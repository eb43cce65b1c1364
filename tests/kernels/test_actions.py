"""What a prompt asks for, by word lists: examples of each rule, and whatever else comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillage.kernels.actions import VERBS, action, named

ASKED = {
    "Write a short story about a fox.": "write story",
    "Please could you kindly write me three short stories?": "write story",
    "Can you please explain how photosynthesis works?": "explain",
    "Explain the water cycle to a child.": "explain cycle",
    "Summarize the following text:\n\nList of rivers": "summarise text",
    "Given the article below, give me a list of the names in it.": "give list",
    "I want you to act as a poet. Compose two limericks.": "compose limerick",
    "Imagine you are a baker. Describe the steps you would take.": "describe step",
    "Imagine you are a baker.": "imagine",
    "In Python, write a function that sorts a list.": "write function",
    "Write a C# method that adds.": "write method",
    "How can I serve files with Node.js?": "how",
    "What's the output of the following code:\nprint(1)": "what",
    "Describe the most peculiar species discovered in 1920.": "describe species",
    "Your task is to classify each sentence as true or false.": "classify sentence",
    "Answer: write it in full": "write",
    "1. Identify the world's oldest cities - all of them": "identify city",
    "**Generate** an e-mail": "generate e-mail",
    "Translate “good morning” into German": "translate",
    "Quickly sort these classes, boxes and buses": "sort class",
}
NOTHING = ["", "Hello there", "The dog writes a story.", "写一首诗", "Schreibe ein Gedicht über den Wald.",
           "What a day!", "Answer:", "👩‍🌾", "Étudiez ceci", "which is why"]  # fmt: skip


@pytest.mark.parametrize("prompt", ASKED)
def test_the_verb_and_what_it_is_about(prompt: str) -> None:
    found = action(prompt)
    assert found is not None
    assert named(found) == ASKED[prompt]


@pytest.mark.parametrize("prompt", NOTHING)
def test_prompts_without_a_known_action(prompt: str) -> None:
    assert action(prompt) is None


@given(st.text())
def test_any_text_is_borne(text: str) -> None:
    found = action(text)
    assert found is None or (found[0] and " " not in named(found).replace(" ", "", 1))


@given(st.sampled_from(sorted(VERBS)), st.text(alphabet="abc ,.?!:\n漢", max_size=30))
def test_a_verb_at_the_beginning_is_found(verb: str, rest: str) -> None:
    british = {word: word.replace("ize", "ise") for word in VERBS if word.endswith("ize")}
    british["analyze"] = "analyse"
    found = action(f"{verb.title()} the apple. {rest}")
    assert found == (british.get(verb, verb), "apple")


def test_only_the_head_is_looked_at() -> None:
    assert action("x " * 2000 + ". Write a poem.") is None
