"""Gradients of samples on two processes, copied and sharded models alike: the single run's decisions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from train_data import WORDS

from tillage.train.evaluate import Target
from tillage.train.model import ModelSpec
from tillage.train.policies import Alignment, Balance, Greats, RhoSelect
from tillage.train.policy import Chain
from tillage.train.reference import ReferenceSpec
from tillage.train.signals.gradients import GradientSpec
from tillage.train.tokens import TokenStore
from tillage.train.trainer import TrainSpec, train

SEQ = 32
BASE = TrainSpec(
    model=ModelSpec(layers=1, width=32, head_width=16), seq_len=SEQ, batch=8, tokens=SEQ * 8 * 4,
    dtype="fp32", reference=ReferenceSpec(model=ModelSpec(layers=1, width=16, head_width=8), tokens=SEQ * 40),
    gradients=GradientSpec(samples=4, every=2),
)  # fmt: skip
SPECS = [
    BASE.model_copy(update={"policy": Chain(Balance(every=2), Greats(every=2), Alignment())}),
    BASE.model_copy(update={"policy": Chain(RhoSelect(scorer=True), Alignment(scorer=True))}),
    BASE.model_copy(
        update={
            "policy": Alignment(cosine=False),
            "parallel": "fsdp",
            "gradients": GradientSpec(samples=4, every=2, kind="difference"),
        }
    ),
]
CHILD = """
import json, os, sys
from pathlib import Path
import torch
import torch.distributed as dist
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[3])
from test_gradient_ranks import SPECS, target_of
from tillage.train.tokens import TokenStore
from tillage.train.trainer import train
meet = dist.FileStore(str(Path(sys.argv[2], "meet")), 2)
dist.init_process_group("gloo", store=meet, rank=int(os.environ["RANK"]), world_size=2)
store = TokenStore.open(sys.argv[1])
found = [train(spec, store, {"search": target_of(store)}) for spec in SPECS]
seen = [[r.losses, r.trained["sample"].to_pylist(), r.trained["weight"].to_pylist()] for r in found]
print(json.dumps(seen), flush=True)
dist.destroy_process_group()
"""


def target_of(store: TokenStore) -> Target:
    texts = [" ".join(np.random.default_rng(i).choice(WORDS["docs"], 60)) for i in range(20)]
    return Target.from_texts("search", texts, store.tokenizer)


def test_two_processes_decide_as_one(store: TokenStore, tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(store.folder), str(tmp_path), str(Path(__file__).parent)],
            env={
                **os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        told = [child.communicate(timeout=100)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [child.returncode for child in children] == [0, 0]
    assert told[0] == told[1]
    for spec, (losses, samples, weights) in zip(SPECS, json.loads(told[0]), strict=True):
        single = train(spec, store, {"search": target_of(store)})
        assert losses == pytest.approx(single.losses, rel=2e-3)
        assert samples == single.trained["sample"].to_pylist()
        assert weights == pytest.approx(single.trained["weight"].to_pylist(), abs=0.05)
