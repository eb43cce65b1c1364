"""How long `tillage why ID` takes on many rows: generated ones, run through a recipe, asked for as a command.

    python -m bench.why [--rows 10000000] [--folder DIR] [--ask 9] [--json]

Rows are short; half are dropped by a filter. Asked are kept and dropped ids, whole and by their first 12
digits, each as a process of its own: the interpreter's start is in the time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.page import machine

from tillage.data.rows import row_id

PER_FILE = 1_000_000
RECIPE = "name: many\nsources:\n- jsonl: {path: raw}\nsteps:\n- where: {keep: 'line % 2 = 0'}\n"


def generate(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True)
    for start in range(0, rows, PER_FILE):
        with (folder / f"part-{start // PER_FILE:04d}.jsonl").open("w") as out:
            for block in range(start, min(start + PER_FILE, rows), 10_000):
                lines = range(block, min(block + 10_000, rows))
                out.write("".join(f'{{"text": "row number {i} of many"}}\n' for i in lines))


def measure(folder: Path, rows: int, ask: int) -> dict[str, Any]:
    generate(folder / "raw", rows)
    (folder / "recipe.yaml").write_text(RECIPE)
    tillage = str(Path(sys.executable).with_name("tillage"))
    begun = time.monotonic()
    subprocess.run([tillage, "run", "recipe.yaml", "--json"], cwd=folder, check=True, capture_output=True)
    ran = time.monotonic() - begun
    times: list[float] = []
    for number in range(ask):
        place = (number * 7_919_317 + 13) % rows
        line = place % PER_FILE + 1
        id = row_id(f"part-{place // PER_FILE:04d}.jsonl", line)
        shown = id if number % 3 else id[:12]
        begun = time.monotonic()
        done = subprocess.run(
            [tillage, "why", shown, "--json"], cwd=folder, check=True, capture_output=True, text=True
        )
        times.append(time.monotonic() - begun)
        facts = json.loads(done.stdout.splitlines()[-1])["facts"]
        assert f"row number {place} of many" == facts[0]["values"]["text"], facts
        assert facts[-1]["outcome"] == (
            "kept" if line % 2 == 0 else "not reached" if len(facts) > 2 else "dropped"
        )
    found = {"rows": rows, "run_seconds": round(ran, 1), "why_seconds": [round(t, 3) for t in times]}
    return {
        **found,
        "median": round(statistics.median(times), 3),
        "most": round(max(times), 3),
        "machine": machine(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--ask", type=int, default=9)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="why-", dir=options.folder))
    try:
        found = measure(folder, options.rows, options.ask)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        json.dumps(found)
        if options.json
        else "\n".join(f"{name:12} {value}" for name, value in found.items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
