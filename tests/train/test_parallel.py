"""Shards, deaths and spikes: what must hold when a run is several processes or its loss jumps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Event, EventLog, LossSpike
from tillage.train.model import ModelSpec
from tillage.train.spikes import SpikeGuard, SpikeWatch
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train

SPEC = TrainSpec(
    model=ModelSpec(layers=1, width=32, head_width=16), seq_len=32, batch=8, tokens=32 * 8 * 8, dtype="fp32",
    checkpoint_every=2, log_every=1,
)  # fmt: skip
CHILD = """
import json, os, signal, sys
from pathlib import Path
import torch.distributed as dist
from tillage.core.errors import WorkFailed
from tillage.core.events import EventLog
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train
store, out, spec, die = sys.argv[1:]
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
meet = dist.FileStore(str(Path(out, "meet-" + die)), world)
dist.init_process_group("gloo", store=meet, rank=rank, world_size=world)
spec = TrainSpec.load(json.loads(spec), "test")
if rank == 1 and die != "no":
    from tillage.train.trainer import Run
    honest = Run.gradients
    def dying(run):
        if run.feed.step == int(die):
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(run)
    Run.gradients = dying
try:
    result = train(spec, TokenStore.open(store), {}, workdir=Path(out, "run"))
    print(json.dumps(result.losses), flush=True)
except WorkFailed as error:
    print("WorkFailed", error, flush=True)
    os._exit(3)
dist.destroy_process_group()
"""


def pair(store: TokenStore, out: Path, spec: TrainSpec, die: str = "no") -> list[tuple[int, str]]:
    """Exit code and output of two gloo processes."""
    job = json.dumps(spec.model_dump(mode="json"))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(store.folder), str(out), job, die],
            env={
                **os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        return [(child.returncode, out) for child in children for out in [child.communicate(timeout=100)[0]]]
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_a_sharded_run_is_the_single_run(store: TokenStore, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"parallel": "fsdp"})  # Muon for the blocks, AdamW for the rest
    single = train(spec, store, {})
    found = pair(store, tmp_path, spec)
    assert [code for code, _ in found] == [0, 0]
    assert json.loads(found[0][1]) == pytest.approx(single.losses, rel=1e-3)


def test_a_killed_rank_ends_the_run_clearly_and_it_goes_on(store: TokenStore, tmp_path: Path) -> None:
    whole = train(SPEC, store, {})
    (code, told), (killed, _) = pair(store, tmp_path, SPEC, die="5")
    assert killed == -9 and code == 3
    assert "another process of this run died or is stuck" in told and "last checkpoint" in told
    # At another world size, from the last checkpoint.
    again = train(SPEC, store, {}, workdir=tmp_path / "run")
    assert again.losses == pytest.approx(whole.losses, rel=1e-3)
    kept = sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step-00000006.pt", "step-00000008.pt"]


def test_a_spike_is_skipped_and_told(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Event] = []
    monkeypatch.setattr(SpikeWatch, "limit", lambda self: 0.0 if self.count == 0 else float("inf"))
    spec = SPEC.model_copy(update={"spikes": SpikeGuard(action="skip")})
    train(spec, store, {}, EventLog(subscribers=[seen.append]), tmp_path)
    (spike,) = [e for e in seen if isinstance(e, LossSpike)]
    assert spike.step == 1 and spike.action == "skip" and spike.back is None
    with pytest.raises(UserError, match="rewinding needs checkpoints"):
        train(SPEC.model_copy(update={"spikes": SpikeGuard(action="rewind")}), store, {})


def test_a_rewound_run_goes_back_and_a_hopeless_one_ends(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Event] = []
    monkeypatch.setattr(SpikeWatch, "limit", lambda self: 0.0 if len(self.recent) == 5 else float("inf"))
    guard = SpikeGuard(action="rewind", most=2)
    with pytest.raises(WorkFailed, match="again and again"):
        spec = SPEC.model_copy(update={"spikes": guard, "tokens": 32 * 8 * 20})
        train(spec, store, {}, EventLog(subscribers=[seen.append]), tmp_path)
    spikes = [e for e in seen if isinstance(e, LossSpike)]
    assert [s.step for s in spikes] == [6, 7, 8] and [s.back for s in spikes] == [4, 6, 6]


def test_only_outliers_are_spikes() -> None:
    watch = SpikeWatch(SpikeGuard(window=8))
    assert not any(watch.spike(loss, 1.0) for loss in (9.0, 5.0, 4.0, 4.1, 3.9, 4.0, 3.8, 3.9))
    assert watch.spike(7.0, 1.0) and watch.count == 1 and 7.0 not in watch.recent
    assert watch.spike(3.8, float("nan"))
    other = SpikeWatch(SpikeGuard(window=8))
    other.load_state_dict(json.loads(json.dumps(watch.state_dict())))
    assert other.limit() == watch.limit() and other.count == 2
