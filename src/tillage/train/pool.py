"""Many training runs on worker processes of one thread each: on few cores faster than threads in one process.

Workers are plain child processes (`python -m tillage.train.worker`), so the calling script needs no main
guard and is not imported again. A run depends on its spec alone, so the order in which workers finish changes
nothing.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Event, EventLog
from tillage.train.evaluate import Target
from tillage.train.policy import as_chain
from tillage.train.trainer import TrainResult, TrainSpec

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # glibc: keep large blocks in the heap; mapping and zeroing them at every step costs about a tenth of the
    # time.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
}


@dataclass(frozen=True)
class Task:
    """One run for a worker: the arguments of `train`, the store by its folder."""

    spec: TrainSpec
    store: Path
    targets: dict[str, Target]
    workdir: Path | None = None
    cache: Path | None = None
    prepare: bool = False
    """Only train the reference model into the cache."""


@dataclass(frozen=True)
class Answer:
    """The last thing that a worker sends for a task, after its events: a result or an error."""

    result: TrainResult | None = None
    error: BaseException | None = None


def train_many(
    tasks: Iterable[Task], log: EventLog | None = None, *, workers: int | None = None
) -> list[TrainResult]:
    """Run all tasks; results and events in the order of the tasks, so a log never depends on timing.

    Events of the first unfinished run come as they happen, those of later runs when it is their turn.

    Reference models that several tasks share through `cache` are trained first, once.

    Args:
        workers: processes; as many as cores by default.

    Raises:
        UserError, WorkFailed: what the first failing task raised; tasks not yet begun are not run.
    """
    tasks = list(tasks)
    workers = workers or os.cpu_count() or 1
    if workers < 1:
        raise UserError("a pool needs a worker", got=workers)
    log = log or EventLog()
    first = _references(tasks)
    idle: list[_Worker] = []
    try:
        _Pool(first, EventLog(), min(workers, len(first)), idle).run()
        results = _Pool(tasks, log, min(workers, len(tasks)), idle).run()
    finally:
        for worker in idle:
            worker.close()
    return [result for result in results if result is not None]


def _references(tasks: list[Task]) -> list[Task]:
    """One task for each distinct reference model that a cache lacks."""
    found: dict[Any, Task] = {}
    for task in tasks:
        needs = as_chain(task.spec.policy).requires()
        if task.cache is not None and needs.reference:
            spec = task.spec
            kind = (spec.reference.fingerprint(), needs.prior)
            key = (*kind, spec.seq_len, spec.dtype, str(task.store), str(task.cache))
            found.setdefault(key, Task(spec, task.store, task.targets, None, task.cache, prepare=True))
    return list(found.values())


class _Pool:
    """`idle` holds the workers that are alive; they are taken from there and put back."""

    def __init__(self, tasks: list[Task], log: EventLog, workers: int, idle: list[_Worker]) -> None:
        self.tasks, self.log, self.workers, self.idle = tasks, log, workers, idle
        self.inbox: dict[int, list[Event | Answer]] = {index: [] for index in range(len(tasks))}
        self.busy: set[_Worker] = set()
        self.next_task = 0
        self.failed = False
        self.change = threading.Condition()

    def run(self) -> list[TrainResult | None]:
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        try:
            results: list[TrainResult | None] = []
            for index in range(len(self.tasks)):
                while isinstance(message := self._wait(index), Event):
                    self.log.emit(message)
                if message.error is not None:
                    raise message.error
                results.append(message.result)
            return results
        except BaseException:
            # Nobody wants what the others are still working on.
            with self.change:
                self.failed = True
                for worker in self.busy:
                    worker.process.kill()
            raise
        finally:
            for thread in threads:
                thread.join()

    def _wait(self, index: int) -> Event | Answer:
        with self.change:
            self.change.wait_for(lambda: self.inbox[index])
            return self.inbox[index].pop(0)

    def _post(self, index: int, message: Event | Answer) -> None:
        with self.change:
            self.inbox[index].append(message)
            # A failure stops new work; earlier tasks, which are running, still finish.
            self.failed = self.failed or (isinstance(message, Answer) and message.error is not None)
            self.change.notify_all()

    def _serve(self) -> None:
        """Keep one worker busy until nothing is left or something failed."""
        worker: _Worker | None = None
        try:
            while (index := self._take()) is not None:
                try:
                    worker = worker or self._worker()
                    for message in worker.ask(self.tasks[index]):
                        self._post(index, message)
                except Exception as error:  # noqa: BLE001  # raised again by the thread that waits
                    self._post(index, Answer(error=error))
        finally:
            if worker is not None:
                with self.change:
                    self.busy.discard(worker)
                    self.idle.append(worker)

    def _worker(self) -> _Worker:
        with self.change:
            worker = self.idle.pop() if self.idle else _Worker()
            self.busy.add(worker)
            return worker

    def _take(self) -> int | None:
        with self.change:
            if self.failed or self.next_task >= len(self.tasks):
                return None
            self.next_task += 1
            return self.next_task - 1


class _Worker:
    """A child process that takes pickled tasks on its standard input and answers on its output."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tillage.train.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
        )

    def close(self) -> None:
        """End of input ends the worker."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                # A broken pipe here: the worker is gone, and `ask` has said so.
                with suppress(BrokenPipeError):
                    stream.close()
        self.process.wait()

    def ask(self, task: Task) -> Iterator[Event | Answer]:
        """Events as they come; the last message is the answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(pickle.dumps(task))
            self.process.stdin.flush()
            while True:
                message: Event | Answer = pickle.load(self.process.stdout)
                yield message
                if isinstance(message, Answer):
                    return
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            code = self.process.wait()
            failure = WorkFailed(
                "a training worker died",
                where=f"arm {task.spec.arm}, seed {task.spec.seed}",
                got=f"exit code {code}",
                hint="out of memory? use fewer workers; its own message is on the error output",
            )
            failure.__cause__ = error
            yield Answer(error=failure)
