"""The same run on 1, 2 and 4 processes: one sequence, one model, deaths survived, and what it costs.

    python -m bench.interaction.scaling --prepare DATA --corpora ../shared/corpora
    python -m bench.interaction.scaling --data DATA --worlds 1,2 --models 124m,350m --json

Parts: "same" trains at each world size and compares samples, mixtures, weights and parameters; "kill" kills
one process in the middle of a step, says how long the others took to end, and goes on from the checkpoint at
every world size; "speed" measures tokens a second. On GPUs each process has one of them; without, processes
meet by gloo.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.interaction.data import prepare
from bench.interaction.scaling_rank import Job

MODELS: dict[str, tuple[dict[str, Any], int, int]] = {
    "tiny": ({"layers": 2, "width": 64, "head_width": 32}, 64, 16),
    "4m": ({"layers": 4, "width": 256}, 256, 16),
    "124m": ({"layers": 12, "width": 768}, 1024, 64),
    "350m": ({"layers": 24, "width": 1024}, 1024, 64),
}
"""Shape, sequence length, samples in a step; the vocabulary is the data's."""
COMPOSED: list[Any] = [
    {"ado": {"start_step": 4, "ignore": 1, "every": 1}},
    {"rho_select": {"keep": 0.9}},
    {"lin_upper": {"burn_in": 4}},
]
ARMS: dict[str, Any] = {
    "mix + weight: ado, lin_upper": ["ado", {"lin_upper": {"burn_in": 0}}],
    "mix + select + weight: ado, rho, lin_upper": [
        "ado", {"rho_select": {"keep": 0.9}}, {"lin_upper": {"burn_in": 0}},
    ],
}  # fmt: skip
VOCAB = 50_304


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepare", help="write the data there and end")
    parser.add_argument("--corpora", default="../shared/corpora")
    parser.add_argument("--vocab", type=int, default=VOCAB)
    parser.add_argument("--per-domain", type=int, default=5_500_000, help="bytes of text")
    parser.add_argument("--data")
    parser.add_argument("--worlds", default="1,2,4")
    parser.add_argument("--models", default="124m,350m", help="the first is used for parts same and kill")
    parser.add_argument("--kinds", default="ddp,fsdp")
    parser.add_argument("--parts", default="same,kill,speed")
    parser.add_argument("--steps", type=int, default=24, help="steps of parts same and kill")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--port", type=int, default=29_500, help="first port on which processes meet")
    parser.add_argument("--passes", type=int, default=0, help="of parts same and kill; 0: the most processes")
    parser.add_argument("--dtypes", default="bf16", help="of part same")
    parser.add_argument("--seconds", type=float, default=540, help="no new run is begun after this")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.prepare:
        folder = Path(options.prepare)
        print(json.dumps(prepare(folder, Path(options.corpora), options.per_domain, options.vocab)))
        for name in ("dirty", "same"):
            shutil.rmtree(folder / name)
        return
    if not options.data:
        parser.error("--data is missing: a folder that --prepare wrote")
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(Scaling(options, Path(scratch)).all()), flush=True)


class Scaling:
    """All runs, one after the other; what is found is also written to `--out` after each."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options, self.scratch = options, scratch
        self.cuda = torch.cuda.is_available()
        most = torch.cuda.device_count() if self.cuda else 1 << 10
        self.worlds = [w for w in map(int, options.worlds.split(",")) if w <= most]
        self.passes = options.passes or max(self.worlds)
        self.kinds = options.kinds.split(",")
        self.began = time.monotonic()
        self.runs = 0
        device = torch.cuda.get_device_name() if self.cuda else platform.machine()
        self.found: dict[str, Any] = {
            "bench": "scaling", "device": device, "devices": most if self.cuda else 0,
            "torch": torch.__version__, "worlds": self.worlds, "steps": options.steps, "passes": self.passes,
        }  # fmt: skip

    def all(self) -> dict[str, Any]:
        models = self.options.models.split(",")
        for part in self.options.parts.split(","):
            if part == "same":
                for dtype in self.options.dtypes.split(","):
                    self.same(models[0], dtype)
            elif part == "kill":
                self.kill(models[0])
            else:
                for model in models:
                    self.speed(model)
        self.found["seconds"] = round(time.monotonic() - self.began, 1)
        self.write()
        return self.found

    def write(self) -> None:
        if self.options.out is not None:
            self.options.out.write_text(json.dumps(self.found) + "\n")

    def late(self) -> bool:
        return time.monotonic() - self.began > self.options.seconds

    def spec(self, model: str, kind: str, **more: Any) -> dict[str, Any]:
        shape, seq_len, batch = MODELS[model]
        reference = {"model": {"layers": 2, "width": 128}, "tokens": 30 * 4 * seq_len, "batch": 4}
        return {
            "model": shape, "seq_len": seq_len, "batch": batch,
            "tokens": self.options.steps * batch * seq_len,
            "passes": self.passes, "policy": COMPOSED, "parallel": kind, "reference": reference, "seed": 1,
            "optim": {"lr": 3e-4, "lr_embedding": 3e-4, "kind": "adamw"}, **more,
        }  # fmt: skip

    def run(self, world: int, job: Job) -> tuple[int, str, float]:
        """Exit code, the end of the output, and seconds."""
        self.runs += 1
        path = self.scratch / f"job-{self.runs}.json"
        path.write_text(json.dumps(asdict(job)))
        Path(job.out).mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world),
            "--master-addr", "127.0.0.1", "--master-port", str(self.options.port + self.runs),
            "-m", "bench.interaction.scaling_rank", str(path),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        began = time.monotonic()
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        took = time.monotonic() - began
        print(f"{job.part} at {world}: exit {done.returncode}, {took:.0f} s", file=sys.stderr, flush=True)
        if done.returncode and job.die is None:
            print(done.stdout[-3000:], file=sys.stderr, flush=True)
        return done.returncode, done.stdout, took

    def job(self, part: str, name: str, spec: dict[str, Any], **more: Any) -> Job:
        return Job(
            part, str(self.scratch / name), self.options.data, spec, ARMS, str(self.scratch / "cache"),
            blocks=self.options.blocks, **more,
        )  # fmt: skip

    def same(self, model: str, dtype: str) -> None:
        """Train at every world size, sharded and not, and compare with one process."""
        base: Path | None = None
        for world in self.worlds:
            for kind in self.kinds if world > 1 else self.kinds[:1]:
                if self.late():
                    return
                name = f"same-{dtype}-{kind}-{world}"
                code, _, took = self.run(world, self.job("train", name, self.spec(model, kind, dtype=dtype)))
                row: dict[str, Any] = {
                    "model": model, "dtype": dtype, "world": world, "kind": kind, "exit": code,
                }  # fmt: skip
                if code == 0:
                    row.update(seconds=round(took, 1))
                    here = self.scratch / name
                    base = base or here
                    row.update(compare(base, here))
                self.found.setdefault("same", []).append(row)
                self.write()

    def kill(self, model: str) -> None:
        """Kill rank 1 of two after the checkpoint; go on at every world size, against a whole run."""
        if max(self.worlds) < 2 or self.late():
            return
        half = self.options.steps // 2
        spec = self.spec(model, "ddp", dtype="bf16", checkpoint_every=half, keep_checkpoints=1)
        if self.run(2, self.job("train", "whole", spec))[0]:
            self.found["kill"] = "the run that nobody kills failed"
            return
        code, told, _ = self.run(2, self.job("train", "killed", spec, die=half + 2))
        ended = time.time()
        died = float((self.scratch / "killed/died").read_text())
        errors = [line for line in told.splitlines() if "another process of this run" in line]
        self.found["kill"] = {
            "exit": code, "seconds_to_end": round(ended - died, 1), "killed_in_step": half + 2,
            "error": errors[0] if errors else told.splitlines()[-12:],
        }  # fmt: skip
        self.write()
        for world in self.worlds:
            for kind in self.kinds if world > 1 else self.kinds[:1]:
                if self.late():
                    return
                name = f"resumed-{kind}-{world}"
                shutil.copytree(self.scratch / "killed", self.scratch / name)
                code, _, _ = self.run(world, self.job("train", name, {**spec, "parallel": kind}))
                row: dict[str, Any] = {"world": world, "kind": kind, "from_step": half, "exit": code}
                if code == 0:
                    row.update(compare(self.scratch / "whole", self.scratch / name))
                self.found.setdefault("resumed", []).append(row)
                self.write()

    def speed(self, model: str) -> None:
        """Tokens a second at every world size; each process has the same batch, so steps grow."""
        for world in self.worlds:
            for kind in self.kinds if world > 1 else self.kinds[:1]:
                if self.late():
                    return
                name = f"speed-{model}-{kind}-{world}"
                more = {
                    "compile": self.cuda, "batch": MODELS[model][2] * world, "dtype": "auto", "passes": None,
                }  # fmt: skip
                code, _, _ = self.run(world, self.job("speed", name, self.spec(model, kind, **more)))
                path = self.scratch / name / "speed.json"
                rows = json.loads(path.read_text()) if code == 0 else [{"world": world, "exit": code}]
                self.found.setdefault("speed", []).extend({"model": model, **row} for row in rows)
                self.write()


def compare(one: Path, two: Path) -> dict[str, Any]:
    """How far two runs agree: samples to the last bit, the rest by its largest difference."""
    a, b = (np.load(p / "trained.npz") for p in (one, two))
    steps = int(a["step"].max()) + 1
    equal = [np.array_equal(a["sample"][a["step"] == s], b["sample"][b["step"] == s]) for s in range(steps)]
    same = a["sample"] == b["sample"] if a["sample"].shape == b["sample"].shape else np.zeros(1, bool)
    first = next((s for s, e in enumerate(equal) if not e), None)
    until = a["step"] < (steps if first is None else first)
    distance = float(np.linalg.norm(a["parameters"] - b["parameters"]) / np.linalg.norm(a["parameters"]))
    return {
        "steps": steps, "steps_with_equal_samples": sum(equal), "first_difference": first,
        "samples_equal": round(float(same.mean()), 5),
        "mixture_difference": float(np.abs(a["mixture"] - b["mixture"]).max()),
        "loss_difference": float(np.abs(a["loss"] - b["loss"])[until].max()) if until.any() else None,
        "weight_difference": float(np.abs(a["weight"] - b["weight"])[until].max()) if until.any() else None,
        "parameter_distance": distance,
    }  # fmt: skip


if __name__ == "__main__":
    main()
