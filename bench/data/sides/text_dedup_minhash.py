"""text-dedup's MinHash: JSONL in, an Arrow dataset out, two processes."""

from __future__ import annotations

import os
import sys


def main(source: str, out: str) -> None:
    os.environ["HF_HOME"] = f"{out}-home"  # else a second run would find the first one's results
    sys.argv = [
        "minhash", "--path", "json", "--data_files", f"{source}/part-*.jsonl", "--split", "train",
        "--cache_dir", f"{out}-cache", "--output", out, "--column", "text", "--num_proc", "2",
        "--ngram", "5", "--min_length", "1", "--num_perm", "112", "--b", "14", "--r", "8",
    ]  # fmt: skip
    from text_dedup.minhash import main as minhash  # not before HF_HOME stands

    minhash()


if __name__ == "__main__":
    main(*sys.argv[1:3])
