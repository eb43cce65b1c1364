"""datatrove's four steps of MinHash deduplication: JSONL in, Parquet out, two processes."""

from __future__ import annotations

import json
import sys
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import ParquetWriter

TASKS = 4


Stage = tuple[int, list[Any]]
"""Tasks, and the steps that each of them runs."""


def near_stages(reader: Any, work: str, ends: list[Any]) -> list[Stage]:
    """The four stages that drop near-duplicates of what `reader` reads; `ends` take what is left."""
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    found = f"{work}/signatures", f"{work}/buckets", f"{work}/remove"
    return [
        (TASKS, [reader, MinhashDedupSignature(output_folder=found[0], config=config)]),
        (config.num_buckets, [MinhashDedupBuckets(found[0], output_folder=found[1], config=config)]),
        (1, [MinhashDedupCluster(found[1], output_folder=found[2], config=config)]),
        (TASKS, [reader, MinhashDedupFilter(found[2]), *ends]),
    ]


def run(stages: list[Stage], out: str) -> None:
    """One stage after the other, two processes each."""
    for number, (tasks, pipeline) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=2, logging_dir=f"{out}-logs/{number}"
        ).run()


def main(source: str, out: str) -> None:
    reader = JsonlReader(source, glob_pattern="part-*.jsonl")
    run(near_stages(reader, f"{out}-work", [ParquetWriter(out)]), out)


if __name__ == "__main__":
    main(*sys.argv[1:3])
    print(json.dumps({"done": True}))
