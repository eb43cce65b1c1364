"""The works, by name. A work is added here: its sides, what is to be reached, how its outputs are checked."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq
from bench.data.corpus import Corpus
from bench.data.near import check_near
from bench.data.ours import QUALITY, kept, tillage
from bench.data.peers import DATATROVE, RENSA, Peer
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
        Work(
            name="minhash",
            title="Near-duplicates by MinHash: word 5-grams, 14 bands of 8",
            about="JSONL in, clean Parquet and clusters out. Tillage also keeps dropped rows with the id of "
            "the row that stays, and commits a dataset version.",
            sides=(
                Side("tillage", tillage([{"minhash_dedup": {}}]), kept),
                Side(
                    "datatrove", script(DATATROVE, "datatrove_minhash"), parquet_rows, DATATROVE, sliced=True
                ),
                Side("rensa", script(RENSA, "rensa_minhash"), parquet_rows, RENSA, note="one process"),
            ),
            reach={"datatrove": 80, "rensa": 4},
            check=check_near,
        ),
        Work(
            name="substring",
            title="Repeated spans: exact, paragraph and substring deduplication (50 words)",
            about="JSONL in, Parquet out: equal documents and paragraphs go, then spans of 50 words that "
            "stand elsewhere. No peer here does all three; to be reached are 15 MB/s.",
            sides=(
                Side(
                    "tillage",
                    tillage([{"exact_dedup": {}}, {"paragraph_dedup": {}}, {"substring_dedup": {}}]),
                    kept,
                ),
                Side("substring alone", tillage([{"substring_dedup": {}}]), kept),
            ),
        ),
    )
}
