"""Runs one recipe in a process of its own, so that it can be killed or use another runner.

Arguments: folder of raw files, workspace, runner, bytes a shard, and "choose" for further steps that choose
among what is left. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from flow_rows import First, Short, Strip, recipe

from tillage.core.workspace import Workspace
from tillage.flow.run import run
from tillage.ops.base import Operator
from tillage.ops.dedup import ExactDedup
from tillage.ops.embedding import Similarity, Topics
from tillage.ops.perplexity import Perplexity
from tillage.ops.sampling import Quantile, ScoreSample, StratifiedSample
from tillage.ops.select import DomainQuota, TopK
from tillage.ops.semantic import SemanticDedup
from tillage.ops.toxicity import ToxicWords


def choosing(raw: Path) -> list[Operator]:
    """Operators that look at the whole corpus, or hold a model, which each worker has to load for itself."""
    chosen: list[Operator] = [
        Perplexity(reference=raw / "part-00000.jsonl", max=30),
        ToxicWords(max_ratio=0.5),
        Quantile(column="perplexity", highest=0.97),
        ScoreSample(column="n", fraction=0.95),
        StratifiedSample(fraction=0.95),
        DomainQuota(by="domain", rows_each=165),
    ]
    if find_spec("wordllama"):
        chosen += [
            Similarity(reference=raw / "part-00000.jsonl", min=-0.5),
            Topics(topics=3),
            SemanticDedup(mark=True, min_words=1),
            TopK(k=80, column="topic_similarity", by="topic"),
        ]
    return chosen


def main(raw: str, home: str, runner: str, shard_bytes: str, *more: str) -> None:
    steps = [Short(least=12, most=50), Strip(), ExactDedup(), Short(), First()]
    what = recipe(Path(raw), *steps, *(choosing(Path(raw)) if more == ("choose",) else ()))
    workspace = Workspace.default(home)
    result = run(what, workspace, runner=runner, shard_bytes=int(shard_bytes))  # type: ignore[arg-type]
    answer = {"digest": result.digest, "dataset": result.dataset, "reused": result.reused}
    print(json.dumps({**answer, "accounts": [str(account) for account in result.accounts]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    # Daft's thread sometimes aborts the interpreter at exit, after the work is done.
    os._exit(0)
