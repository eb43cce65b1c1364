"""Operators of text, safety and code in one run: one digest whole, in small shards, stopped and resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_rows import home, recipe, run_quietly

from tillage.flow.stages import StageRunner
from tillage.ops.code import CodeQuality
from tillage.ops.decontaminate import Decontaminate
from tillage.ops.dedup import MinHashDedup
from tillage.ops.pii import PiiFilter, PiiMask
from tillage.ops.split import SplitLong


def write(folder: Path) -> Path:
    """Texts of several scripts, with personal data, code and an item of the exam in some."""
    folder.mkdir()
    exam = "Which of the two rivers that meet at the old town is the longer one?"
    (folder.parent / "exam.txt").write_text(exam)
    pieces = [
        "The farmer sows wheat in spring and reaps it in autumn, as people do in that valley each year. " * 5,
        "他种小麦。收获很好！今天下雨。" * 20,
        "يزرع الفلاح القمح في الحقل. والمطر ينزل في الربيع؟ " * 10,
        "กสิกรปลูกข้าวในนา ฝนตกทุกวัน " * 10,
        "Mail jo@example.org or call +1 202 555 0143 👩‍🌾. " * 4,
        "IBAN DE89 3704 0044 0532 0130 00 of 12345678Z. " * 3,
        f"Quiz: {exam} The first, they say. ",
        "import os\n\n\ndef f(x):\n    # note\n    return os.path.join(x)\n" * 3,
    ]
    for part in range(4):
        rows = [{"text": f"{part} {i} {pieces[(part + i) % 8]}" + "\n\nend." * i, "n": i} for i in range(12)]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"part-{part}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


class Stopped(Exception):
    """As if the process had been killed."""


def test_the_digest_is_the_same_whole_in_shards_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write(tmp_path / "raw")
    exam = Decontaminate(against=tmp_path / "exam.txt")
    steps = (
        PiiMask(put="surrogate"), PiiFilter(kinds=("national_id",)), CodeQuality(), exam,
        SplitLong(max_chars=200), MinHashDedup(),
    )  # fmt: skip
    what = recipe(raw, *steps, evaluation=(exam,))
    whole, _ = run_quietly(what, home(tmp_path, "whole"))
    dropped = {account.step for account in whole.accounts if account.dropped}
    assert dropped >= {"pii_filter", "decontaminate", "split_long", "minhash_dedup"}
    small, _ = run_quietly(what, home(tmp_path, "small"), shard_bytes=1)
    assert (small.digest, small.accounts) == (whole.digest, whole.accounts)

    done, shard = [0], StageRunner._shard

    def stops(self: StageRunner, *args: object) -> bool:
        if done[0] == 6:
            raise Stopped
        done[0] += 1
        return shard(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(StageRunner, "_shard", stops)
        run_quietly(what, home(tmp_path, "resumed"), shard_bytes=1)
    resumed, _ = run_quietly(what, home(tmp_path, "resumed"), shard_bytes=1)
    assert (resumed.digest, resumed.accounts) == (whole.digest, whole.accounts)
    assert resumed.reused
