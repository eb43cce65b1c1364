"""The web recipe in datatrove: JSONL in, clean Parquet and tokens out, two processes.

    python datatrove_web.py CORPUS_FOLDER OUT LANGUAGE_MODEL TOKENIZER

Normalisation, language, Gopher, C4 and FineWeb, exact and MinHash deduplication, personal data,
decontamination, tokens. The language model is the file that Tillage uses, since its own is downloaded; the
index of the benchmark's n-grams is made with its functions, since its indexer reads only tasks of lighteval.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.pipeline.dedup.exact_dedup import (
    ExactDedupConfig,
    ExactDedupFilter,
    ExactDedupSignature,
    ExactFindDedups,
)
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.pipeline.writers import JsonlWriter, ParquetWriter
from datatrove.utils.hashing import create_hash_func
from datatrove.utils.text import ngrams, simplify_text
from datatrove.utils.word_tokenizers import load_word_tokenizer
from datatrove_minhash import TASKS, near_stages, run


class Normalise(BaseFormatter):
    """NFC and plain newlines."""

    name = "Normalise"

    def format(self, text: str) -> str:
        return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))


def text_of(doc: Document) -> str:
    return doc.text


def index(benchmark: Path, folder: Path, config: NGramsDecontConfig) -> None:
    """The hashes of the benchmark's n-grams, as its filter reads them."""
    splitter, hashed = load_word_tokenizer("en"), create_hash_func(config.hash_config)
    found: set[int] = set()
    for line in benchmark.read_text("utf-8").splitlines():
        words = splitter.word_tokenize(simplify_text(json.loads(line)["text"], config.norm_config))
        found.update(hashed(" ".join(gram)) for gram in ngrams(words, config.n_grams))
    folder.mkdir(parents=True)
    np.array(sorted(found), dtype=config.hash_config.np_descr).tofile(folder / "bench.index.hashes")


def main(source: str, out: str, language_model: str, tokenizer: str) -> None:
    language = LanguageFilter(languages="en", language_threshold=0.5)
    language.model.MODEL_URL = language_model
    work = f"{out}-work"
    grams = NGramsDecontConfig(n_grams=13)
    index(Path(source) / "benchmark.jsonl", Path(work) / "benchmark", grams)
    exact = ExactDedupConfig(content_getter=text_of)
    filtered, unique = JsonlReader(f"{work}/filtered"), JsonlReader(f"{work}/unique")
    steps = [
        (
            TASKS,
            [
                JsonlReader(source, glob_pattern="part-*.jsonl"),
                Normalise(),
                language,
                GopherQualityFilter(),
                GopherRepetitionFilter(),
                C4QualityFilter(min_num_sentences=3, min_words_per_line=5),
                FineWebQualityFilter(),
                JsonlWriter(f"{work}/filtered"),
            ],
        ),
        (TASKS, [filtered, ExactDedupSignature(f"{work}/exact", config=exact)]),
        (1, [ExactFindDedups(f"{work}/exact", output_folder=f"{work}/copies", config=exact)]),
        (
            TASKS,
            [
                filtered,
                ExactDedupFilter(f"{work}/copies", config=exact),
                JsonlWriter(f"{work}/unique"),
            ],
        ),
        *near_stages(
            unique,
            work,
            [
                PIIFormatter(),
                NGramsDecontFilter(f"{work}/benchmark", config=grams),
                ParquetWriter(out),
                DocumentTokenizer(f"{out}-tokens", tokenizer, eos_token="<|endoftext|>"),
            ],
        ),
    ]
    run(steps, out)


if __name__ == "__main__":
    main(*sys.argv[1:5])
    print(json.dumps({"done": True}))
