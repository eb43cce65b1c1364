"""A bare script on rensa: JSONL in, Parquet out, one process; any hit of the index drops the document."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash, RMinHashLSH


def main(source: str, out: str) -> None:
    index = RMinHashLSH(threshold=0.7, num_perm=112, num_bands=14)
    ids, texts = [], []
    for path in sorted(Path(source).glob("part-*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                words = row["text"].split()
                sketch = RMinHash(num_perm=112, seed=42)
                sketch.update([" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))])
                if not index.query(sketch):
                    index.insert(len(ids), sketch)
                    ids.append(row["id"])
                    texts.append(row["text"])
    Path(out).mkdir(parents=True)
    pq.write_table(pa.table({"id": ids, "text": texts}), f"{out}/kept.parquet", compression="zstd")


if __name__ == "__main__":
    main(*sys.argv[1:3])
    print(json.dumps({"done": True}))
