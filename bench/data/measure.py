"""Runs a whole process and measures it from outside: wall clock and peak memory of the process tree."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY = 0.02
LOOKS = 5
"""Looks at known processes for each look for new ones, which reads a file a thread: done each time, it took a
twentieth of a core from what is measured."""


@dataclass(frozen=True)
class Measured:
    """One process: wall clock, processor time and most resident memory of it and its descendants together,
    what it printed."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    code: int
    output: str


def run_process(command: list[str], env: dict[str, str], folder: Path, limit: float) -> Measured:
    """Run to the end, or kill the whole group after `limit` seconds (code -9)."""
    log = folder / "output.txt"
    begun = time.perf_counter()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
            cwd=folder,
            start_new_session=True,
        )
        watch = _Peak(process.pid)
        watch.start()
        # To wait with a limit is to look every 50 ms: short runs would take so much longer, or not.
        timer = threading.Timer(limit, _kill, [process])
        timer.start()
        try:
            code = process.wait()
        finally:
            seconds = time.perf_counter() - begun
            timer.cancel()
            watch.stop()
            _end_group(process)
    spent = sum(watch.ticks.values()) / os.sysconf("SC_CLK_TCK")
    return Measured(seconds, spent, watch.peak / 2**20, code, log.read_text(errors="replace"))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """What a killed or careless process left behind would disturb the next measurement."""
    _kill(process)
    process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class _Peak(threading.Thread):
    """Samples the resident memory of a process tree (pages shared by two processes count twice), and the
    processor time of each process, of which the last sample is taken."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak = root, 0
        self.ticks: dict[int, int] = {}
        self._done = threading.Event()

    def run(self) -> None:
        pids: list[int] = []
        looks = 0
        while not self._done.wait(EVERY):
            if looks % LOOKS == 0:
                pids = _tree(self.root)
            looks += 1
            self.peak = max(self.peak, sum(map(_resident, pids)))
            self.ticks |= {pid: ticks for pid in pids if (ticks := _ticks(pid))}

    def stop(self) -> None:
        self._done.set()
        self.join()


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except OSError:
            continue  # it ended meanwhile
    return found


def _ticks(pid: int) -> int:
    """Processor time of all threads of a process, user's and system's, in clock ticks; 0 where it ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError):
        return 0


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0
