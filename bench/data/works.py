"""The works, by name. A work is added here: its sides, what is to be reached, how its outputs are checked."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq
from bench.data.corpus import Corpus
from bench.data.ours import QUALITY, kept, tillage
from bench.data.peers import DATATROVE, Peer
from bench.data.work import Command, Side, Work
from bench.page import ROOT

SIDES = ROOT / "bench" / "data" / "sides"


def script(peer: Peer | None, name: str, *more: str) -> Command:
    """`sides/NAME.py CORPUS_FOLDER OUT`, by the peer's own Python (ours without one)."""

    def command(corpus: Corpus, folder: Path) -> list[str]:
        python = sys.executable if peer is None else str(peer.python)
        return [python, str(SIDES / f"{name}.py"), str(corpus.folder), str(folder / "out"), *more]

    return command


def parquet_rows(folder: Path) -> int:
    """Rows of all Parquet files below `out`."""
    return sum(pq.read_metadata(path).num_rows for path in (folder / "out").rglob("*.parquet"))


WORKS: dict[str, Work] = {
    work.name: work
    for work in (
        Work(
            name="quality",
            title="Measuring and filtering: Gopher quality and repetition, C4, FineWeb",
            about="JSONL in, Parquet out. Tillage measures what its four filters need, applies them, keeps "
            "dropped rows with their reasons and commits a dataset version; datatrove applies its two Gopher "
            "filters; Daft reads and writes the same rows untouched.",
            sides=(
                Side("tillage", tillage(QUALITY), kept),
                Side(
                    "datatrove", script(DATATROVE, "datatrove_quality"), parquet_rows, DATATROVE, sliced=True
                ),
                Side("daft untouched", script(None, "daft_untouched"), parquet_rows),
            ),
            reach={"datatrove": 60, "daft untouched": 0.4},
        ),
    )
}
