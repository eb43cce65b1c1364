"""How fast the feed serves tokens, and how large its state is on a store of billions of tokens.

    python -m bench.interaction.feed --json

Speed is that of a store which lies in memory (it is read once before): drawing, reading and bookkeeping, not
the disk. Arms that need losses get zeros for them, so no model is in the way. The large store is a file
without blocks on the disk, mapped as any other.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bench.page import machine

from bench import synthetic
from tillage.train.feed import Feed
from tillage.train.policy import parse_policy
from tillage.train.tokens import TokenStore

ARMS: dict[str, Any] = {
    "proportional": "proportional",
    "mix: odm": "odm",
    "mix + weigh: ado, lin_upper": ["ado", {"lin_upper": {"burn_in": 0}}],
    "select: likeness, a sixth": {"likeness": {"keep": 0.158}},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=float, default=1e8, help="of the store in memory")
    parser.add_argument("--large", type=float, default=4e9, help="tokens of the large one")
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=256, help="samples in a step")
    parser.add_argument("--visits", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each arm")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--publish", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        small = synthetic.store(Path(scratch, "small"), int(args.tokens), 8, 32_000, length=4000)
        int(small.tokens.sum())  # maps every page
        rows = [measure(name, small, args.seq_len, args.batch, args.visits, args.seconds) for name in ARMS]
        folder = synthetic.store(Path(scratch, "large"), int(args.large), 8, 32_000, 4000, fill=False).folder
        began = time.perf_counter()
        large = TokenStore.open(folder)
        opened = time.perf_counter() - began
        states = {
            row["arm"]: row["state_bytes"]
            for row in (measure(name, large, args.seq_len, args.batch, args.visits, 1.0) for name in ARMS)
        }
    result = {
        "machine": machine(),
        "seq_len": args.seq_len,
        "batch": args.batch,
        "tokens": len(small.tokens),
        "arms": rows,
        "large": {"tokens": len(large.tokens), "open_seconds": round(opened, 3), "state_bytes": states},
    }
    print(
        json.dumps(result) if args.json else "\n".join(map(str, [result["machine"], *rows, result["large"]]))
    )


def body(result: dict[str, Any]) -> str:
    """The section's text."""
    large = result["large"]
    rows = [
        f"| {r['arm']} | {r['tokens_per_second'] / 1e6:.1f} | {r['tokens_per_processor_second'] / 1e6:.1f} | "
        f"{large['state_bytes'][r['arm']] / 1e3:.1f} |"
        for r in result["arms"]
    ]
    told = (
        f"`python -m bench.interaction.feed --publish`; {result['machine']}. One process, batches of "
        f"{result['batch']} samples of {result['seq_len']} tokens, a store of {result['tokens']:,} tokens in "
        f"memory; losses are zeros, no model runs. State: JSON after a second of steps, on a store of "
        f"{large['tokens']:,} tokens (mapped; opened in {large['open_seconds']} s)."
    )
    head = "| policy | million tokens a second | a second of processor time | state, kB |"
    return "\n".join([told, "", head, "|---|---|---|---|", *rows])


def measure(
    name: str, store: TokenStore, seq_len: int, batch: int, visits: float, seconds: float
) -> dict[str, Any]:
    """Tokens a second of wall clock and of processor time, and the bytes of the state as JSON."""
    policy = parse_policy(ARMS[name])
    cut = store.samples(seq_len)
    scores = {"likeness": torch.rand(len(cut), generator=torch.Generator().manual_seed(0)).double().numpy()}
    feed = Feed(
        store, policy, batch_tokens=batch * seq_len, seq_len=seq_len, seed=1, scores=scores,
        max_visits=visits,
    )  # fmt: skip
    zeros = torch.zeros(batch, seq_len)

    def step() -> None:
        feed.reduce(zeros, feed.next())

    for _ in range(5):
        step()
    began, used, steps = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        step()
        steps += 1
    wall, processor = time.perf_counter() - began, time.process_time() - used
    tokens = steps * batch * seq_len
    return {
        "arm": name,
        "tokens_per_second": round(tokens / wall),
        "tokens_per_processor_second": round(tokens / processor),
        "state_bytes": len(json.dumps(feed.state_dict())),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main()
