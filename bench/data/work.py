"""What a benchmark is: one work, our side, the other sides, and a check that their outputs agree."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from bench.data.corpus import Corpus
from bench.data.measure import run_process
from bench.data.peers import Peer
from bench.page import ROOT

LIMIT = 3600.0
Command = Callable[[Corpus, Path], list[str]]
"""The corpus and a fresh folder for all output -> the argument vector of one whole process."""
Kept = Callable[[Path], int]
"""The folder after the run -> rows that the tool kept."""


Size = Callable[[float, float], float]
"""`--mb` and `--slice` -> megabytes of JSONL that a side reads; smaller corpora are drawn alike."""


def whole(mb: float, part: float) -> float:
    """All of it: for tools of tens of MB/s."""
    return mb + 0 * part


def sliced(mb: float, part: float) -> float:
    """The slice: for tools of a few MB/s."""
    return min(mb, part)


@dataclass(frozen=True)
class Side:
    """One tool doing the work. `peer` None runs in our environment; `mb` says how much it reads."""

    tool: str
    command: Command
    kept: Kept
    peer: Peer | None = None
    mb: Size = whole
    note: str = ""


@dataclass(frozen=True)
class Work:
    """`reach` maps a tool to the least ratio of our MB/s to its. `check` gets the folder that each tool left
    in its last run, and the corpus that each read; `derive` gets the figures of each tool. Both return
    figures for the page and the results."""

    name: str
    title: str
    about: str
    sides: tuple[Side, ...]
    reach: Mapping[str, float] = field(default_factory=dict[str, float])
    check: Callable[[Mapping[str, Path], Mapping[str, Corpus]], dict[str, Any]] | None = None
    derive: Callable[[Mapping[str, Mapping[str, Any]]], dict[str, Any]] | None = None


def environment() -> dict[str, str]:
    """Two threads a tool at most, compiled kernels in a cache of the benchmark's own."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "NUMBA_CACHE_DIR": str(ROOT / ".tillage" / "bench" / "kernels"),
        "TOKENIZERS_PARALLELISM": "true",
        "HF_HUB_OFFLINE": "1",
    }


def measure_work(
    work: Work, draw: Callable[[float], Corpus], mb: float, part: float, repeat: int, scratch: Path
) -> dict[str, Any]:
    """All sides in turn, `repeat` times: each tool's raw runs and medians, ratios, checks.

    `draw` makes the corpus of a size, `mb` and `part` are the sizes for fast and for slow tools.
    """
    sides = {side.tool: side for side in work.sides}
    missing = {t: why for t, s in sides.items() if s.peer is not None and (why := s.peer.install())}
    ready = [side for tool, side in sides.items() if tool not in missing]
    corpora = {side.tool: draw(side.mb(mb, part)) for side in ready}
    runs: dict[str, list[dict[str, float]]] = {side.tool: [] for side in ready}
    folders: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for round_ in range(repeat):
        # Another tool begins each round, so that no tool always runs after the same one.
        for side in ready[round_ % len(ready) :] + ready[: round_ % len(ready)]:
            if side.tool in failed:
                continue
            folder = scratch / work.name / side.tool
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            corpus = corpora[side.tool]
            done = run_process(side.command(corpus, folder), environment(), folder, LIMIT)
            if done.code:
                failed[side.tool] = f"exit {done.code}: {done.output.strip()[-300:]}"
                print(f"   {work.name} {side.tool}: {failed[side.tool]}", file=sys.stderr)
                continue
            folders[side.tool] = folder
            mb_s = corpus.mb / done.seconds
            runs[side.tool].append(
                {
                    "seconds": done.seconds,
                    "cpu_s": done.cpu_seconds,
                    "mb_s": mb_s,
                    "peak_mb": done.peak_mb,
                    "load": os.getloadavg()[0],
                }
            )
            print(
                f"   {work.name} {side.tool} {round_ + 1}/{repeat}: {done.seconds:.2f} s, {mb_s:.1f} MB/s, "
                f"{done.cpu_seconds:.1f} s of processor, {done.peak_mb:.0f} MB",
                file=sys.stderr,
            )
    tools: dict[str, Any] = {}
    for tool, found in runs.items():
        if found and tool not in failed:
            tools[tool] = {
                "mb_s": _median(found, "mb_s"),
                "seconds": _median(found, "seconds"),
                "cpu_s": _median(found, "cpu_s"),
                "peak_mb": round(statistics.median(r["peak_mb"] for r in found), 1),
                "kept": sides[tool].kept(folders[tool]),
                "rows": corpora[tool].documents,
                "mb": round(corpora[tool].mb, 1),
                "runs": found,
                "range": [round(min(r["mb_s"] for r in found), 2), round(max(r["mb_s"] for r in found), 2)],
            }
    ratios = {
        tool: round(tools["tillage"]["mb_s"] / found["mb_s"], 2)
        for tool, found in tools.items()
        if tool != "tillage" and "tillage" in tools
    }
    result: dict[str, Any] = {"tools": tools, "ratios": ratios, "missing": missing, "failed": failed}
    result["load"] = round(statistics.median(run["load"] for found in runs.values() for run in found), 1)
    if work.check is not None and "tillage" in tools:
        usable = {tool: folders[tool] for tool in tools}
        result["check"] = work.check(usable, {tool: corpora[tool] for tool in tools})
    if work.derive is not None and "tillage" in tools:
        result["derived"] = work.derive(tools)
    return result


def _median(runs: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(run[name] for run in runs), 3)


def output_files(folder: Path) -> list[Path]:
    """The Parquet and Arrow files that a peer left below `out`, or data-juicer's JSONL."""
    found = sorted((folder / "out").rglob("*"))
    return [p for p in found if p.suffix in (".parquet", ".arrow") or p.name == "kept.jsonl"]


def output_ids(folder: Path) -> list[str]:
    """The field `id` of every row that a peer kept."""
    ids: list[str] = []
    for path in output_files(folder):
        if path.suffix == ".parquet":
            ids += pq.read_table(path, columns=["id"]).column("id").to_pylist()
        elif path.suffix == ".arrow":
            with pa.memory_map(str(path)) as source:
                ids += pa.ipc.open_stream(source).read_all().column("id").to_pylist()
        else:
            with path.open(encoding="utf-8") as lines:
                ids += [json.loads(line)["id"] for line in lines]
    return ids


def last_json(folder: Path) -> dict[str, Any]:
    """The last line of what a side printed, for those that end with a JSON object."""
    return json.loads((folder / "output.txt").read_text(errors="replace").strip().splitlines()[-1])
