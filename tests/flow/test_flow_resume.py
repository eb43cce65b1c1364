"""kill -9 at any moment, the same call again goes on by itself; Ray gives what the native runner gives."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flow_rows import write_raw

from tillage.data.dataset import Dataset

CHILD = Path(__file__).with_name("flow_child.py")
FILES, SHARD = 30, 1


def start(
    raw: Path, home: Path, runner: str = "native", shard: int = SHARD, *more: str
) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(raw), str(home), runner, str(shard), *more]
    environment = {**os.environ, "RAY_DEDUP_LOGS": "0"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(child: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def kill_when(child: subprocess.Popen[str], moment: Callable[[], bool]) -> bool:
    """Kill -9 once `moment` has come; False if the child ended before. Waits at most two minutes."""
    for _ in range(60_000):
        if moment():
            break
        try:
            child.wait(0.002)
        except subprocess.TimeoutExpired:
            continue
        break
    child.send_signal(signal.SIGKILL)
    child.communicate()
    return child.returncode == -signal.SIGKILL


def listed(folder: Path, *starts: str) -> list[Path]:
    """What `folder` holds that begins so; nothing where it is gone (a live run renames its folders)."""
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if name.startswith(starts)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def shards(home: Path) -> dict[str, int]:
    """Finished shards and the times at which they were made."""
    found: dict[str, int] = {}
    for stage in listed(home / "stages", ""):
        for shard in listed(stage, "shard-"):
            try:
                found[str(shard / "stats.json")] = (shard / "stats.json").stat().st_mtime_ns
            except FileNotFoundError:
                continue
    return found


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], int]:
    """Raw files, what a run that nobody kills answers, and how many shards it makes."""
    folder = tmp_path_factory.mktemp("calm")
    raw = write_raw(folder / "raw", count=300, per_file=300 // FILES)
    answer = finish(start(raw, folder / "home"))
    total = len(shards(folder / "home"))
    assert total > 2 * FILES
    return raw, answer, total


def test_a_killed_run_goes_on_by_itself_to_the_same_digest(
    tmp_path: Path, calm: tuple[Path, dict[str, Any], int]
) -> None:
    (raw, answer, total), home = calm, tmp_path / "home"
    done: dict[str, int] = {}
    chance = random.Random(20_260_101)
    moments = [*sorted(chance.sample(range(1, FILES), 2)), FILES + chance.randrange(1, FILES)]
    for number in moments:
        child = start(raw, home)
        assert kill_when(child, lambda n=number: len(shards(home)) >= n)
        assert not Dataset(home / "datasets" / "test").exists()
        done = shards(home)
        assert number <= len(done) < total
    resumed = finish(start(raw, home))
    assert resumed["digest"] == answer["digest"]
    assert resumed["accounts"] == answer["accounts"]
    assert resumed["reused"], "no stage was finished before the last kill"
    after = shards(home)
    assert {path: after[path] for path in done} == done, "finished shards were made again"
    assert len(after) == total
    left = list(home.glob("stages/**/.*.tmp"))
    assert not left, "unfinished work was left behind"
    assert [entry.version for entry in Dataset(home / "datasets" / "test").history()] == [0]


def test_a_run_killed_while_a_shard_is_half_written_shows_nothing_of_it(
    tmp_path: Path, calm: tuple[Path, dict[str, Any], int]
) -> None:
    (raw, answer, _), home = calm, tmp_path / "home"
    child = start(raw, home)
    seen: list[Path] = []

    def half() -> bool:
        for stage in listed(home / "stages", ""):
            for shard in listed(stage, ".shard-"):
                seen.extend(path for path in listed(shard, "") if path.suffix == ".parquet")
        return bool(seen)

    assert kill_when(child, half)
    for shard in home.glob("stages/*/shard-*"):
        assert (shard / "stats.json").exists(), "a half-written shard is visible"
    assert finish(start(raw, home))["digest"] == answer["digest"]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray_gives_the_digest_of_the_native_runner_and_is_quiet(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    child = start(raw, tmp_path / "ray", "ray", 8_000, "choose")
    native = finish(start(raw, tmp_path / "native", "native", 1 << 30, "choose"))
    out, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    answer = json.loads(out)  # nothing else was printed
    assert answer["digest"] == native["digest"]
    assert answer["accounts"] == native["accounts"]
    assert err == ""


def test_the_command_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    steps = "".join(f"- where: {{keep: line <> {n}}}\n  checkpoint: true\n" for n in range(12))
    (tmp_path / "recipe.yaml").write_text(
        f"name: test\nsources: [{{jsonl: {{path: raw, domain: a}}}}]\nsteps:\n{steps}"
    )

    def command(home: str) -> subprocess.Popen[str]:
        program = Path(sys.executable).with_name("tillage")
        words = [str(program), "run", "recipe.yaml", "--json", "--workspace", str(tmp_path / home)]
        return subprocess.Popen(
            words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    calm = finish(command("calm"))
    stages = random.Random(7).randrange(2, 9)
    assert kill_when(command("home"), lambda: len(shards(tmp_path / "home")) >= stages)
    resumed = finish(command("home"))
    assert resumed["digest"] == calm["digest"]
    assert resumed["accounts"] == calm["accounts"]
    assert len(resumed["reused"]) >= stages
