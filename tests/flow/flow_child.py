"""Runs one recipe in a process of its own, so that it can be killed or use another runner.

Arguments: folder of raw files, workspace, runner, bytes a shard. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from flow_rows import First, Short, Strip, recipe

from tillage.core.workspace import Workspace
from tillage.flow.run import run
from tillage.ops.dedup import ExactDedup


def main(raw: str, home: str, runner: str, shard_bytes: str) -> None:
    what = recipe(Path(raw), Short(least=12, most=50), Strip(), ExactDedup(), Short(), First())
    workspace = Workspace.default(home)
    result = run(what, workspace, runner=runner, shard_bytes=int(shard_bytes))  # type: ignore[arg-type]
    answer = {"digest": result.digest, "dataset": result.dataset, "reused": result.reused}
    print(json.dumps({**answer, "accounts": [str(account) for account in result.accounts]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    # Daft's thread sometimes aborts the interpreter at exit, after the work is done.
    os._exit(0)
