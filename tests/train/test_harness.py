"""Tasks of lm-evaluation-harness: what it asks for, and a task from a local file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tillage.core.errors import UserError
from tillage.train.harness import TextScorer, evaluate_tasks
from tillage.train.model import GPT, ModelSpec
from tillage.train.tokens import Tokenizer


@pytest.fixture(scope="module")
def scorer(tokenizer: Tokenizer) -> TextScorer:
    model = GPT(ModelSpec(layers=1, width=32, head_width=16), tokenizer.vocab, 32).eval()
    generator = torch.Generator().manual_seed(3)
    for p in model.parameters():
        p.data.normal_(std=0.3, generator=generator)
    return TextScorer(model, tokenizer, batch=3)


def logs(scorer: TextScorer, tokens: list[int]) -> torch.Tensor:
    return F.log_softmax(scorer.model(torch.tensor([tokens]))[0], -1).detach()


def test_likelihoods_are_those_of_the_model(scorer: TextScorer, tokenizer: Tokenizer) -> None:
    pairs = [("the file ", "is not found"), ("", "error"), ("def", " self = x"), ("a path", " of the value")]
    for (context, text), (value, greedy) in zip(pairs, scorer.continuations(pairs), strict=True):
        kept = context.rstrip()
        both = [int(t) for t in tokenizer.encode([context + text])[0]]
        both = both if kept else [tokenizer.eos, *both]
        count = len(both) - (len(tokenizer.encode([kept])[0]) if kept else 1)
        scores = logs(scorer, both[:-1])[-count:]
        own = both[-count:]
        assert value == pytest.approx(float(scores[range(count), own].sum()), rel=1e-4)
        assert greedy == (scores.argmax(-1).tolist() == own)


def test_greedy_text_is_likely_and_stops(scorer: TextScorer, tokenizer: Tokenizer) -> None:
    said = scorer.generate("the value", [], 6)
    tokens = [int(t) for t in tokenizer.encode(["the value"])[0]]
    for _ in range(6):
        following = int(logs(scorer, tokens)[-1].argmax())
        if following == tokenizer.eos:
            break
        tokens.append(following)
    assert "the value" + said == tokenizer.decode(tokens)
    stop = said[1:3]
    assert scorer.generate("the value", [stop], 6) == said[: said.index(stop)]


def test_whole_texts_in_windows(scorer: TextScorer, tokenizer: Tokenizer) -> None:
    text = "return the value of a parameter " * 12
    tokens = np.asarray([tokenizer.eos, *tokenizer.encode([text])[0]], dtype=np.int64).tolist()
    assert len(tokens) > 64
    total = 0.0
    for low in range(0, len(tokens) - 1, 32):
        part = tokens[low : low + 33]
        total += float(logs(scorer, part[:-1])[range(len(part) - 1), part[1:]].sum())
    assert scorer.whole([text])[0] == pytest.approx(total, rel=1e-4)


def test_without_the_extra_it_is_named(scorer: TextScorer, tmp_path: Path) -> None:
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="lm-evaluation-harness"):
            evaluate_tasks(scorer.model, scorer.tokenizer, tmp_path, ["x"])


@pytest.mark.filterwarnings("ignore")  # of the harness and what it imports
def test_a_task_from_a_local_file(scorer: TextScorer, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    rows = [{"question": f"x{i} is", "choices": [" found", " not found"], "answer": i % 2} for i in range(6)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "local.yaml").write_text(
        f"task: local\ndataset_path: json\ndataset_kwargs:\n  data_files: {{test: {tmp_path}/items.jsonl}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\n"
        "doc_to_choice: choices\ndoc_to_target: answer\nmetric_list: [{metric: acc}]\n"
    )
    found = evaluate_tasks(scorer.model, scorer.tokenizer, tmp_path, ["local"])
    pairs = [(row["question"], choice) for row in rows for choice in row["choices"]]
    values = np.asarray([value for value, _ in scorer.continuations(pairs)]).reshape(-1, 2)
    right = values.argmax(1) == np.asarray([row["answer"] for row in rows])
    assert found["local"]["acc,none"] == pytest.approx(right.mean())
    with pytest.raises(UserError, match="no such task"):
        evaluate_tasks(scorer.model, scorer.tokenizer, tmp_path, ["other"])
