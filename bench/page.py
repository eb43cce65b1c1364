"""What every benchmark shares: the machine in words, and its own section of docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "bench" / "results"

HEAD = """# Benchmarks

Every section is written by the command that it names, from the raw results under `bench/results/`. Numbers
of one
table come from one run on one machine; across runs only ratios hold.
"""


def machine() -> str:
    """Cores, processor, memory, system and Python, as one line."""
    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {system}"


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package, without those that are missing."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_section(name: str, title: str, body: str) -> Path:
    """Puts `body` (Markdown, no heading) in place of section `name`, or at the end; leaves the others."""
    start, end = f"<!-- section {name} -->", f"<!-- end {name} -->"
    page = PAGE.read_text() if PAGE.exists() else HEAD
    section = f"{start}\n## {title}\n\n{body.strip()}\n{end}"
    if start in page:
        before, _, rest = page.partition(start)
        page = before + section + rest.partition(end)[2]
    else:
        page = page.rstrip() + "\n\n" + section + "\n"
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page)
    return PAGE


def write_results(name: str, results: dict[str, Any]) -> Path:
    """Raw results, every repetition and every seed, as `bench/results/NAME.json`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    return path
