"""datatrove's Gopher repetition and quality filters: JSONL in, Parquet out, two processes."""

from __future__ import annotations

import json
import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import ParquetWriter


def main(source: str, out: str) -> None:
    executor = LocalPipelineExecutor(
        pipeline=[
            JsonlReader(source, glob_pattern="part-*.jsonl"),
            GopherRepetitionFilter(),
            GopherQualityFilter(),
            ParquetWriter(out),
        ],
        tasks=4,
        workers=2,
        logging_dir=f"{out}-logs",
    )
    executor.run()


if __name__ == "__main__":
    main(*sys.argv[1:3])
    print(json.dumps({"done": True}))
