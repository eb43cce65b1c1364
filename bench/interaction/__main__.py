"""python -m bench.interaction --prepare DATA --corpora DIR --size cpu
python -m bench.interaction --data DATA --size gpu --only b1,b2,b3,control,overhead --seeds 1,2,3 --json

Progress goes to standard error; with `--json` standard output is one JSON object. Each run is appended to
`--records`, and a run that is there already is not made again, so that a long benchmark can be made in
pieces.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench.interaction import arms
from bench.interaction.data import prepare
from bench.interaction.overhead import overhead
from bench.interaction.sizes import SKILLS, TEXT
from bench.interaction.suites import Work, execute, execute_until, static_mixture, swarm_work
from bench.interaction.tables import summary, to_markdown

from tillage.train.precision import pick_dtype

PER_DOMAIN = {"tiny": 60_000, "cpu": 1_500_000, "gpu": 5_500_000}
VOCAB = {"tiny": 512, "cpu": 2048, "gpu": 4096}
ALL = ("b1", "b2", "b3", "control", "overhead")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.interaction", description=__doc__)
    parser.add_argument("--size", choices=("auto", "tiny", "cpu", "gpu"), default="auto")
    parser.add_argument("--only", default=",".join(ALL), help="suites, separated by commas")
    parser.add_argument("--arms", default="", help="only these arms of each suite")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--fractions", default="", help="only these fractions of the budget")
    parser.add_argument("--data", default="", help="folder that --prepare wrote")
    parser.add_argument(
        "--prepare", default="", help="write the data there; ends then, unless --data is given"
    )
    parser.add_argument("--corpora", default="../shared/corpora", help="text for --prepare")
    parser.add_argument("--jobs", type=int, default=1, help="processes beside one another; times are theirs")
    parser.add_argument("--tokens", type=float, default=1.0, help="factor on every budget")
    parser.add_argument("--limit", type=float, default=0.0, help="seconds after which no run is begun")
    parser.add_argument("--records", default="", help="file of finished runs, to go on from")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    began = time.monotonic()
    cuda = torch.cuda.is_available()
    size = ("gpu" if cuda else "cpu") if args.size == "auto" else args.size
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(args.data or args.prepare or scratch)
        if args.prepare or not args.data:
            sizes = prepare(data, Path(args.corpora), PER_DOMAIN[size], VOCAB[size])
            print(json.dumps(sizes), file=sys.stderr)
            if args.prepare and not args.data:
                return
        seeds = [int(s) for s in args.seeds.split(",")]
        base = Work(
            "", "", 0, 1.0, size, str(data), "cuda" if cuda else "cpu",
            "bf16" if cuda else pick_dtype("auto"), str(Path(scratch, "cache")),
            threads=max((os.cpu_count() or 1) // args.jobs, 1), factor=args.tokens,
        )  # fmt: skip
        only = args.only.split(",")
        records = Records(Path(args.records) if args.records else None)
        until = began + args.limit if args.limit else float("inf")
        wanted = [a for a in args.arms.split(",") if a]
        fractions = [float(f) for f in args.fractions.split(",") if f]
        for suite in (s for s in only if s != "overhead"):
            works = plan(suite, base, seeds, wanted, fractions, records, args.jobs, until)
            records.make(works, args.jobs, until)
        result: dict[str, Any] = {
            "size": size,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "torch": torch.__version__,
            "jobs": args.jobs,
            "tables": summary(records.all),
        }
        if "overhead" in only:
            result["overhead"] = overhead(base, wanted)
        result["records"] = records.all
        result["seconds"] = round(time.monotonic() - began, 1)
    print(json.dumps(result) if args.json else to_markdown(result))


def plan(
    suite: str, base: Work, seeds: list[int], wanted: list[str], fractions: list[float], records: Records,
    jobs: int, until: float,
) -> list[Work]:  # fmt: skip
    """The runs of a suite; for "b2" the swarm is made at once, as an arm is what it finds."""
    static: dict[str, float] | None = None
    if suite == "b2" and (not wanted or "static" in wanted):
        proxies = swarm_work(base)
        done = records.make(proxies, jobs, until)
        if len(done) == len(proxies):
            static = static_mixture(base, proxies, done)
            print(json.dumps({"static": static}), file=sys.stderr)
    tables = {
        "b1": arms.skills,
        "b2": lambda: arms.domains(static),
        "b3": arms.dirty,
        "control": arms.control,
    }
    scale = (SKILLS if suite == "b1" else TEXT)[base.size]
    works: list[Work] = []
    for seed in seeds:
        for arm in tables[suite]():
            if wanted and arm not in wanted:
                continue
            # Only what is asked for the cost of reaching a level is trained to all budgets.
            several = suite in ("b1", "b3") or (suite == "b2" and arm in ("proportional", "ours_target"))
            for fraction in scale.fractions if several else (1.0,):
                if not fractions or fraction in fractions:
                    mixture = static if arm == "static" else None
                    works.append(
                        replace(base, suite=suite, arm=arm, seed=seed, fraction=fraction, mixture=mixture)
                    )
    return works


class Records:
    """Finished runs, kept in a file of JSON lines."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.all: list[dict[str, Any]] = []
        if path is not None and path.exists():
            self.all = [json.loads(line) for line in path.read_text().splitlines()]

    def _found(self, work: Work) -> dict[str, Any] | None:
        key = (work.suite, work.arm, work.seed, work.fraction)
        return next((r for r in self.all if (r["suite"], r["arm"], r["seed"], r["fraction"]) == key), None)

    def make(self, works: list[Work], jobs: int, until: float) -> list[dict[str, Any]]:
        """Records of these runs, those made before included; fewer when the time is up."""
        missing = [w for w in works if self._found(w) is None]
        for record in _run(missing, jobs, until):
            self.all.append(record)
            line = json.dumps(record)
            if self.path is not None:
                with self.path.open("a") as out:
                    out.write(line + "\n")
            short = {k: v for k, v in record.items() if k not in ("mixture", "ledger")}
            print(json.dumps(short), file=sys.stderr, flush=True)
        return [r for w in works if (r := self._found(w)) is not None]


def _run(works: list[Work], jobs: int, until: float) -> Iterable[dict[str, Any]]:
    if jobs == 1:
        for work in works:
            if time.monotonic() < until:
                yield execute(work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        # One at a time to each process, so that none is begun when the time is up.
        for record in pool.imap_unordered(execute_until, [(w, until) for w in works]):
            if record is not None:
                yield record


if __name__ == "__main__":
    main()
