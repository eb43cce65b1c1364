"""The child process of `tillage.train.pool`: tasks in, answers out, until the input ends."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import IO

from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import Event, EventLog
from tillage.train.parallel import pick_device
from tillage.train.policy import as_chain
from tillage.train.pool import Answer, Task
from tillage.train.precision import pick_dtype
from tillage.train.reference import reference_losses
from tillage.train.tokens import TokenStore
from tillage.train.trainer import train


def main() -> None:
    # Answers go out on the original standard output; whatever prints must not get between them.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    stores: dict[Path, TokenStore] = {}
    while True:
        try:
            task: Task = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001  # it is named and raised again in the parent
            failure = WorkFailed(
                "a training worker cannot rebuild its task",
                got=f"{type(error).__name__}: {error}",
                hint="policies must be defined in a module that can be imported, not in a script",
            )
            _send(Answer(error=failure), answers)
            return
        _send(_answer(task, stores, answers), answers)


def _send(message: Event | Answer, out: IO[bytes]) -> None:
    out.write(pickle.dumps(message))
    out.flush()


def _answer(task: Task, stores: dict[Path, TokenStore], out: IO[bytes]) -> Answer:
    log = EventLog(subscribers=[lambda event: _send(event, out)])
    try:
        if task.store not in stores:
            stores[task.store] = TokenStore.open(task.store)
        store = stores[task.store]
        if task.prepare:
            spec = task.spec
            prior = as_chain(spec.policy).requires().prior
            target = None if prior else task.targets.get(spec.reference.target)
            if prior or target is not None:
                device = pick_device(spec.device).type
                dtype = pick_dtype(spec.dtype, device)
                reference_losses(spec.reference, target, store, spec.seq_len, dtype, task.cache, device)
            return Answer()
        return Answer(train(task.spec, store, task.targets, log, task.workdir, cache=task.cache))
    except UserError as error:
        return Answer(error=error)
    except Exception as error:  # noqa: BLE001  # it is named and raised again in the parent
        return Answer(
            error=WorkFailed(
                f"training failed: {type(error).__name__}: {error}",
                where=f"arm {task.spec.arm}, seed {task.spec.seed}",
                got=traceback.format_exc(),
            ),
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # the parent was interrupted too and says so
