"""B4 from corpora to records, at a size that takes seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from bench.interaction import sft
from bench.interaction.suites import Work, execute
from bench.interaction.tables import summary, to_markdown

from tillage.train.model import ModelSpec
from tillage.train.tokens import Tokenizer, TokenStore

SMALL = replace(
    sft.SIZES["tiny"], model=ModelSpec(layers=1, width=16, head_width=16), seq_len=96, documents=12, search=4,
    holdout=4, pretrain=400, before_batch=2,
)  # fmt: skip


def corpora(folder: Path) -> Path:
    """Files like the real ones: two kinds of GPTeacher's, school mathematics and BIG-Bench Hard."""
    teacher = [
        {
            "id": f"gpteacher/{kind}/x.json#{i}", "instruction": f"{say} number {i}", "input": "",
            "output": f"{answer} {i}",
        }
        for kind, say, answer in (("Codegen", "write", "def f(): return"), ("Roleplay", "act", "I am king"))
        for i in range(24)
    ]  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {
        "gpteacher": teacher,
        "gsm8k": [{"id": "g", "text": f"Question: what is {i} + 1?\nAnswer: {i + 1}"} for i in range(24)],
        "bbh": [{"id": "b", "text": f"Is {i} odd?\nOptions:\n{('no', 'yes')[i % 2]}"} for i in range(24)],
    }
    for name, found in rows.items():
        with pa.output_stream(str(folder / f"{name}.jsonl.zst"), compression="zstd") as out:
            out.write("".join(json.dumps(row) + "\n" for row in found).encode())
    return folder


def test_every_arm_gives_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sft.SIZES, "tiny", SMALL)
    texts = [f"the value of x{i} is not found in the file" for i in range(40)]
    tokenizer = Tokenizer.train(texts, 300)
    rows = [{"id": f"{i:032x}", "text": text, "domain": "books"} for i, text in enumerate(texts)]
    TokenStore.write(tmp_path / "domains", [pa.RecordBatch.from_pylist(rows)], tokenizer)
    sizes = sft.prepare_sft(tmp_path, corpora(tmp_path), "tiny", tokenizer)
    assert sizes == {"bbh": 12, "codegen": 12, "gsm8k": 12, "roleplay": 12}
    base = Work("b4", "", 1, 1.0, "tiny", str(tmp_path), "cpu", "fp32", str(tmp_path / "cache"))
    records = [execute(replace(base, arm=arm)) for arm in sft.ARMS]
    found = {r["arm"]: r for r in records}
    assert found["none"]["steps"] == 0 and found["full"]["steps"] == 12
    assert found["random"]["steps"] == found["less"]["steps"] == found["gradient"]["steps"]
    assert found["oracle"]["mixture"]["codegen"] == 1.0
    assert found["full"]["found"]["codegen"] < found["none"]["found"]["codegen"]
    assert found["gradient"]["seconds"] > sum(found["gradient"]["ledger"].values())  # warm-up and scores
    assert found["quarter"]["steps"] == found["online"]["steps"]
    assert "gradients" in found["online"]["ledger"]
    again = execute(replace(base, arm="gradient"))
    assert again["found"] == found["gradient"]["found"]
    tables = summary(records)
    assert set(tables) == {"b4"} and "against full" in to_markdown(
        {"tables": tables, "device": "cpu", "torch": "2", "size": "tiny", "jobs": 1}
    )
