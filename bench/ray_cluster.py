"""A Ray cluster of several nodes on this machine, one of them killed in the middle of a run: one digest?

    python -m bench.ray_cluster [--mb 40] [--nodes 2] [--json]

The head and the nodes are processes of Ray's own test cluster, with a folder that all share. Once some shards
are finished a node is killed without warning. If the run fails for it, the same command is given again, as a
user would; the answer says how often. The digest is held against the native runner's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.out_of_core import RECIPE, generate
from bench.page import machine, versions

SHARDS_BEFORE = 2
TRIES = 4
CHILD = """
import json, os, sys
from pathlib import Path
from tillage.core.workspace import Workspace
from tillage.flow.recipe import Recipe
from tillage.flow.run import run
result = run(Recipe.from_yaml(Path("recipe.yaml")), Workspace.default(sys.argv[1]), runner=sys.argv[2],
             shard_bytes=int(sys.argv[3]))
print(json.dumps({"digest": result.digest, "rows": result.accounts[-1].rows_out}), flush=True)
os._exit(0)
"""


def start(folder: Path, home: str, runner: str, shard: int, address: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "RAY_DEDUP_LOGS": "0", **({"RAY_ADDRESS": address} if address else {})}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, home, runner, str(shard)],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def finished(folder: Path) -> int:
    return len(list((folder / "ray").glob("stages/*/shard-*")))


def measure(folder: Path, size: int, nodes: int) -> dict[str, Any]:
    from ray.cluster_utils import Cluster

    generate(folder / "raw", size)
    (folder / "recipe.yaml").write_text(RECIPE)
    shard = size // 8
    out, err = start(folder, "native", "native", shard).communicate(timeout=200)
    native = json.loads(out.splitlines()[-1]) if out else {"error": err[-2000:]}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    workers = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
    cluster.wait_for_nodes()
    found: dict[str, Any] = {"native": native, "nodes": nodes + 1, "runs": []}
    try:
        for attempt in range(TRIES):
            before, killed = finished(folder), False
            child = start(folder, "ray", "ray", shard, cluster.address)
            while attempt == 0 and child.poll() is None:
                if finished(folder) >= SHARDS_BEFORE:
                    cluster.remove_node(workers.pop(), allow_graceful=False)
                    killed = True
                    break
                time.sleep(0.05)
            try:
                out, err = child.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                child.kill()
                out, err = child.communicate()
                err += "\nno end after 120 s, ended by the benchmark"
            done = {"killed_a_node": killed, "shards_before": before, "shards_after": finished(folder)}
            if child.returncode == 0:
                found["runs"].append({**done, **json.loads(out.splitlines()[-1])})
                break
            found["runs"].append({**done, "failed": err[-600:]})
    finally:
        cluster.shutdown()
    last = found["runs"][-1]
    found["same"] = last.get("digest") == native.get("digest") and "digest" in last
    return {**found, "machine": machine(), "versions": versions("ray", "daft")}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=40.0)
    parser.add_argument("--nodes", type=int, default=2, help="beside the head")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ray-cluster-"))
    try:
        found = measure(folder, int(options.mb * 1e6), options.nodes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found) if options.json else json.dumps(found, indent=1))
    return 0 if found["same"] else 1


if __name__ == "__main__":
    sys.exit(main())
