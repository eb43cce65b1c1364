"""What a question means; what is answered is tested with a real run in tests/cli."""

from __future__ import annotations

import pytest

from tillage.agent.ask import EXAMPLES, Asked, understand

STEPS = ["read", "exact_dedup", "gopher_quality", "like_target"]


@pytest.mark.parametrize(
    ("question", "meant"),
    [
        ('why was "Buy now!" dropped?', Asked("why_row", row="Buy now!")),
        ("Why was 3f2a9c1b dropped", Asked("why_row", row="3f2a9c1b")),
        ("what happened to raw/field.jsonl:17?", Asked("why_row", row="raw/field.jsonl:17")),
        ("why is field.jsonl line 3 gone?", Asked("why_row", row="field.jsonl:3")),
        ("how many rows did exact dedup drop?", Asked("how_many", step="exact_dedup")),
        ("how many were dropped?", Asked("how_many")),
        ("How many rows were dropped as too_short", Asked("how_many", step="too_short")),
        ("how many rows are left?", Asked("kept")),
        ("how many records were unreadable?", Asked("quarantine")),
        ("which step dropped the most?", Asked("worst_step")),
        ("which rows did like_target drop?", Asked("which_rows", step="like_target")),
        ("show me some dropped documents", Asked("which_rows")),
        ("why is gopher_quality there?", Asked("steps", step="gopher_quality")),
        ("what are the steps?", Asked("steps")),
        ("what was quarantined?", Asked("quarantine")),
        ("what is the meaning of life?", None),
        ("", None),
    ],
)
def test_questions(question: str, meant: Asked | None) -> None:
    assert understand(question, STEPS, ["too_short"]) == meant


@pytest.mark.parametrize("intent", EXAMPLES)
def test_the_examples_given_as_hints_are_understood(intent: str) -> None:
    for question in EXAMPLES[intent].split("?  "):  # type: ignore[index]
        found = understand(question, STEPS)
        assert found is not None
        assert found.intent == intent
