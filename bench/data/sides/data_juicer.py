"""data-juicer on a list of its operators, given as JSON: JSONL in, JSONL out, two processes.

python data_juicer.py CORPUS_FOLDER OUT '[{"document_minhash_deduplicator": {...}}]'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def main(source: str, out: str, process: str) -> None:
    home = Path(f"{out}-home")
    parts = home / "parts"
    parts.mkdir(parents=True)
    for part in Path(source).glob("part-*.jsonl"):  # it would read every file of a folder
        (parts / part.name).symlink_to(part)
    recipe = home / "recipe.yaml"
    steps = [{name: parameters} for step in json.loads(process) for name, parameters in step.items()]
    # JSON is YAML.
    recipe.write_text(
        json.dumps(
            {
                "project_name": "bench",
                "dataset_path": str(parts),
                "export_path": f"{out}/kept.jsonl",
                "np": 2,
                "open_tracer": False,
                "use_cache": False,
                "process": steps,
            }
        )
    )
    env = {**os.environ, "HF_HOME": str(home), "DATA_JUICER_CACHE_HOME": str(home / "cache")}
    program = str(Path(sys.executable).with_name("dj-process"))
    subprocess.run([program, "--config", str(recipe)], check=True, env=env)


if __name__ == "__main__":
    main(*sys.argv[1:4])
