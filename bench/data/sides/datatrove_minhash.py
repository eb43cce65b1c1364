"""datatrove's four steps of MinHash deduplication: JSONL in, Parquet out, two processes."""

from __future__ import annotations

import json
import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import ParquetWriter

TASKS = 4


def main(source: str, out: str) -> None:
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    reader = JsonlReader(source, glob_pattern="part-*.jsonl")
    work = f"{out}-work"
    steps = [
        (TASKS, [reader, MinhashDedupSignature(output_folder=f"{work}/signatures", config=config)]),
        (
            config.num_buckets,
            [MinhashDedupBuckets(f"{work}/signatures", output_folder=f"{work}/buckets", config=config)],
        ),
        (1, [MinhashDedupCluster(f"{work}/buckets", output_folder=f"{work}/remove", config=config)]),
        (TASKS, [reader, MinhashDedupFilter(f"{work}/remove"), ParquetWriter(out)]),
    ]
    for number, (tasks, pipeline) in enumerate(steps):
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=2, logging_dir=f"{out}-logs/{number}"
        ).run()


if __name__ == "__main__":
    main(*sys.argv[1:3])
    print(json.dumps({"done": True}))
