"""Run a recipe: stages, accounts, quarantine, commit. The same call after a kill goes on by itself."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import daft
import pyarrow as pa
import pyarrow.parquet as pq

from tillage import __version__
from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import (
    Committed,
    Contamination,
    EventLog,
    Example,
    Finished,
    Note,
    Started,
    StepAccount,
)
from tillage.core.lock import hold
from tillage.core.spec import fingerprint
from tillage.core.workspace import Workspace, check_writable, disk_full, write_atomic
from tillage.data.dataset import Dataset
from tillage.data.files import Inventory, versions
from tillage.data.reader import plan
from tillage.data.rows import LOSES_THE_REST
from tillage.data.schema import BASE
from tillage.flow import contamination, engine
from tillage.flow.accounts import ALIVE, account
from tillage.flow.check import require
from tillage.flow.compile import Stage, compile_stages
from tillage.flow.expected import how_far_off
from tillage.flow.history import EVENTS, RECIPE, RECORD
from tillage.flow.incremental import Unit
from tillage.flow.recipe import Recipe, input_fingerprint
from tillage.flow.result import RunResult, quarantined
from tillage.flow.sample import take_sample
from tillage.flow.stages import SHARD_BYTES, Done, StageRunner, carried, raw_units
from tillage.ops.base import Operator

Commit = Literal["replace", "append"] | None
LOCK = "lock"


def run(
    recipe: Recipe,
    workspace: Workspace,
    log: EventLog | None = None,
    *,
    runner: engine.Runner = "native",
    fresh: bool = False,
    commit: Commit = "replace",
    documents: Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> RunResult:
    """Execute `recipe` and commit what it keeps as a new version of its dataset.

    What earlier runs with the same steps did to the same files is not done again: after new files have come,
    these alone are processed, and corpus steps decide anew over the keys of all rows.

    Args:
        log: gets every event; they are also written to the run's folder.
        fresh: do everything again, even what is finished.
        commit: replace the rows of the dataset's newest version, append to them, or (None) leave it alone.
        documents: a Parquet file of raw rows (columns of `data.schema.BASE` and more) to use instead of the
            sources; see `sample_run`.
        shard_bytes: bytes of input to a query; does not change results.

    Raises:
        UserError: the contract does not hold, no input or one that changed, an output that is not writable,
            or another process is at the same run.
        WorkFailed: accounts that do not balance, too much in quarantine, a query that failed.
    """
    workspace.check_writable()
    target = recipe.dataset_path(workspace)
    if commit is not None:
        check_writable(target.parent)
        if target.exists() and not target.is_dir():
            raise UserError("the dataset's path is a file", where=target, hint="name another dataset")
    schema = pq.read_schema(documents) if documents is not None else None
    require(recipe, documents is None, schema)
    engine.use(runner)
    return _Run(recipe, workspace, log, runner, fresh, commit, documents, shard_bytes).execute(target)


def sample_run(
    recipe: Recipe,
    workspace: Workspace,
    log: EventLog | None = None,
    documents: Path | int | float = 1000,
    *,
    runner: engine.Runner = "native",
) -> RunResult:
    """Run over a sample and commit nothing.

    Args:
        documents: a Parquet file of raw rows as `take_sample` makes it; or how many rows, or which share of
            them (a float), to draw from the sources by a hash of id and the recipe's seed.
    """
    if not isinstance(documents, Path):
        workspace.check_writable()
        documents = take_sample(recipe.sources, workspace, documents, recipe.seed)
    return run(recipe, workspace, log, runner=runner, commit=None, documents=documents)


class _Run:
    """One execution; its state is what is on disk."""

    def __init__(
        self,
        recipe: Recipe,
        workspace: Workspace,
        log: EventLog | None,
        runner: engine.Runner,
        fresh: bool,
        commit: Commit,
        documents: Path | None,
        shard_bytes: int,
    ) -> None:
        self.recipe, self.workspace, self.commit = recipe, workspace, commit
        self.runner: engine.Runner = runner
        self.documents, self.shard_bytes, self.fresh = documents, shard_bytes, fresh
        self.begun = time.monotonic()
        cache = workspace.inputs
        if documents is None:
            self.inputs = plan(recipe.sources, cache)
            self.versions = versions(list(self.inputs.files))
            self.schema = self.inputs.schema
        else:
            self.inputs = None
            files = Inventory(cache).look([(0, str(documents), documents.name, False)])
            self.versions = versions(files)
            self.schema = pq.read_schema(documents).remove_metadata()
        known = [{**v, "name": "rows"} for v in self.versions] if documents is not None else self.versions
        self.mark = input_fingerprint(recipe, known)
        self.inputs_mark = fingerprint(
            [s.canonical() for s in recipe.sources] if documents is None else "rows",
            [(v["source"], v["name"], v["digest"]) for v in known],
        )
        self.id = f"{recipe.name}-{self.mark[:8]}"
        self.folder = workspace.run(self.id)
        self.record: dict[str, Any] = {
            "run": self.id,
            "recipe": recipe.name,
            "fingerprint": self.mark,
            "kind": "run" if commit is not None else "sample" if documents is not None else "trial",
            "status": "running",
            "started": time.time(),
            "pid": os.getpid(),
            "runner": runner,
            "seed": recipe.seed,
            "version": __version__,
            "inputs": self.versions,
        }
        self.above = log

    def execute(self, target: Path) -> RunResult:
        """Do the run, unless another process is at it: their results would be the same."""
        with hold(self.folder / LOCK, wait=False) as other:
            if other is not None:
                raise UserError(
                    "another process is at the same run",
                    where=self.folder,
                    got=f"process {other}" if other else None,
                    hint="wait for it: the same recipe over the same input gives the same rows",
                )
            _set_aside(self.folder / EVENTS)
            self.log = EventLog(self.folder / EVENTS, [self.above.emit] if self.above is not None else [])
            # The frame of a run belongs in its own log; a log above has a frame of its own.
            self.own = EventLog(self.folder / EVENTS)
            return self._execute(target)

    def _execute(self, target: Path) -> RunResult:
        write_atomic(self.folder / RECIPE, self.recipe.to_yaml())
        self._save()
        self.own.emit(Started("run", self.id, self.recipe.seed, __version__))
        status = "failed"
        try:
            result = self._work(target)
            status = "done"
            return result
        except UserError as error:
            self.record["error"] = str(error)
            raise
        except OSError as error:
            full = disk_full(error, self.workspace.root)
            if full is None:
                raise
            self.record["error"] = str(full)
            raise full from error
        finally:
            seconds = round(time.monotonic() - self.begun, 3)
            self.record.update(status=status, seconds=seconds)
            self._save()
            self.own.emit(Finished(status, seconds, _peak_mb()))
            self.log.close()
            self.own.close()

    def _work(self, target: Path) -> RunResult:
        stages = compile_stages(self.recipe)
        runner = StageRunner(
            self.workspace.stages, self.log, self.runner, self.shard_bytes, self.inputs, self.fresh
        )
        if self.inputs is not None:
            for path in self.inputs.empty_files():
                self.log.emit(Note(f"{path} is empty", "warning"))
            for text in self.inputs.unseen:
                self.log.emit(Note(text, "warning"))
            units = raw_units(self.inputs)
        else:
            assert self.documents is not None
            size, count = self.documents.stat().st_size, pq.read_metadata(self.documents).num_rows
            units = [Unit(f"{self.inputs_mark}/rows", size, file=self.documents, rows=count)]
        accounts: list[StepAccount] = []
        done: list[Done] = []
        schema = self.schema
        before = fingerprint("rows", str(schema))
        for number, stage in enumerate(stages):
            finished = runner.run(stage, units, schema, before)
            done.append(finished)
            if number == 0:
                self._check_quarantine(finished)
            accounts += account(self.id, stage, finished.stats, number == 0)
            before, schema = finished.fingerprint, carried(stage, finished)
            units = [] if stage.final else finished.units()
        return self._finish(target, stages, done, accounts)

    def _finish(
        self, target: Path, stages: list[Stage], done: list[Done], accounts: list[StepAccount]
    ) -> RunResult:
        for step in accounts:
            self.log.emit(step)
        self._examples(stages, done)
        last = done[-1]
        self._against_the_estimate(accounts, done)
        schema = pa.schema([f for f in last.schema if not f.name.startswith("_")])
        digest = last.stats.digest
        rows, size = last.stats.alive, (last.stats.bytes.get(ALIVE) or [0])[-1]
        told = self._contamination(stages, done)
        dataset = None
        if self.commit is not None:
            version = self._commit(target, last, schema, accounts, rows, size, told)
            dataset = (str(target), version)
        result = RunResult(
            run=self.id,
            folder=self.folder,
            accounts=accounts,
            dataset=dataset,
            digest=digest,
            kept=last.kept(),
            dropped=[path for stage in done for path in stage.dropped()],
            schema=pa.schema([f for stage in _latest_first(done) for f in stage]),
            reused=[stage.name for stage, finished in zip(stages, done, strict=True) if finished.reused],
            seconds=round(time.monotonic() - self.begun, 3),
        )
        self.record.update(
            accounts=[asdict(step) for step in accounts],
            digest=digest,
            rows=rows,
            bytes=size,
            steps=[_step(step.id, step.op) for step in self.recipe.steps],
            kept=[str(path) for path in result.kept],
            dropped=[str(path) for path in result.dropped],
            dataset=None if dataset is None else {"path": dataset[0], "version": dataset[1]},
            stages=[
                {
                    "name": s.name,
                    "fingerprint": d.fingerprint,
                    "seconds": d.seconds,
                    "reused": d.reused,
                    "made": d.made,
                    "shards": [path.name for path in d.shards],
                    "fits": [f"{path.parent.name}/{path.name}" for path in d.fits],
                }
                for s, d in zip(stages, done, strict=True)
            ],
        )
        return result

    def _against_the_estimate(self, accounts: list[StepAccount], done: list[Done]) -> None:
        """Say how far an estimate was off, for a run that did what it was of."""
        if self.commit is None or all(stage.reused for stage in done):
            return
        took = {
            "rows": accounts[0].rows_in,
            "kept": accounts[-1].rows_out,
            "seconds": time.monotonic() - self.begun,
            "disk": sum(stage.disk for stage in done),
            "memory": _peak_mb() * 2**20,
        }
        said = how_far_off(self.id, self.workspace, took)
        if said is not None:
            self.record["estimate"] = said
            self.log.emit(Note(said))

    def _contamination(self, stages: list[Stage], done: list[Done]) -> list[Contamination]:
        """What evaluation items were found in the rows; the gate shuts here, before anything is committed."""
        found = contamination.of_steps(stages, done)
        if self.commit is not None:
            found += contamination.of_rows(self.recipe, done[-1].kept(), self.workspace.stages)
        contamination.write(found, self.folder)
        told = [one.told(self.id) for one in found]
        for one in told:
            self.log.emit(one)
        self.record["contamination"] = [asdict(one) for one in told]
        contamination.require_clean(self.recipe, told)
        for one in told:
            if one.step == contamination.GATE and one.hit:
                text = f"{one.rows} rows hold something of {one.hit} of {one.items} items of {one.against}"
                self.log.emit(Note(f"{text}; the lineage says so", "warning"))
        return told

    def _commit(
        self,
        target: Path,
        last: Done,
        schema: pa.Schema,
        accounts: list[StepAccount],
        rows: int,
        size: int,
        told: list[Contamination],
    ) -> int:
        lineage = {
            "run": self.id,
            "recipe": self.recipe.to_yaml(),
            "fingerprint": self.mark,
            "inputs": self.versions,
            "accounts": [asdict(step) for step in accounts],
            "contamination": contamination.lineage(self.recipe, told),
            "digest": last.stats.digest,
            "rows": rows,
            "bytes": size,
            "tillage": __version__,
            "daft": daft.__version__,
        }
        dataset = Dataset(target)
        newest = Dataset.open(target).version if dataset.exists() else None
        put = dataset.append if self.commit == "append" else dataset.commit
        version = put(last.kept(), schema, lineage)
        if version == newest:
            self.log.emit(Note(f"version {version} of {target} already holds this run"))
        self.log.emit(Committed(str(target), version, rows, size, last.stats.digest, lineage))
        return version

    def _examples(self, stages: list[Stage], done: list[Done]) -> None:
        for stage, finished in zip(stages, done, strict=True):
            kept = finished.stats.examples.get(ALIVE, [])
            for group, rows in sorted(finished.stats.examples.items()):
                if group != ALIVE:
                    step, reason = group.split(":", 1)
                    for id, text in rows:
                        self.log.emit(Example(self.id, step, reason, id, text, kept=False))
            dropping = {group.split(":")[0] for group in finished.stats.examples if group != ALIVE}
            for action in stage.steps:
                if action.id in dropping:
                    for id, text in kept:
                        self.log.emit(Example(self.id, action.id, "", id, text, kept=True))

    def _check_quarantine(self, first: Done) -> None:
        total, bad = sum(first.stats.rows.values()), first.stats.quarantined
        if bad.keys() & LOSES_THE_REST:
            # Counted as one record each, though nobody knows how many are gone.
            for detail in quarantined(first.dropped(), 10, LOSES_THE_REST):
                self.log.emit(Note(f"the rest of a file is lost: {detail}", "warning"))
        if total == 0:
            raise UserError("the input holds no rows", where=self.recipe.name)
        count, limit = sum(bad.values()), self.recipe.max_quarantine
        if count <= limit * total:
            return
        self.record["quarantined"] = bad
        shown = quarantined(first.dropped(), 5)
        found = f"{count} of {total} ({count / total:.1%}): "
        found += ", ".join(f"{reason} {n}" for reason, n in bad.items())
        if self.documents is not None:
            # A sample may be over by chance, and commits nothing: only the run over all rows can say.
            text = f"records that cannot be read: {found}, the limit is {limit:.1%}"
            self.log.emit(Note(text, "warning"))
            return
        raise WorkFailed(
            "too many records cannot be read",
            where=self.recipe.name,
            got=found + "".join(f"\n    {detail}" for detail in shown),
            expected=f"at most {limit:.1%} (max_quarantine)",
            hint="mend the input, or raise max_quarantine if this is as it should be; nothing was committed",
        )

    def _save(self) -> None:
        write_atomic(self.folder / RECORD, json.dumps(self.record, ensure_ascii=False, indent=1, default=str))


def _latest_first(done: list[Done]) -> list[list[pa.Field]]:
    """The fields of all stages that are not the engine's own, each name once."""
    seen: set[str] = set()
    out: list[list[pa.Field]] = []
    for stage in reversed(done):
        fields = [f for f in stage.schema if f.name not in seen and not f.name.startswith("_")]
        seen.update(f.name for f in fields)
        out.append(fields)
    return out


def _step(id: str, op: Operator) -> dict[str, Any]:
    """What tells a row's life without loading the operator: the columns that the step reads and makes."""
    columns = sorted((op.reads() | op.writes().keys()) - set(BASE.names))
    return {"id": id, "rewrites": op.rewrites, "columns": columns}


def _set_aside(path: Path) -> None:
    """Keep the log of an earlier attempt under a number: each attempt tells the whole story anew."""
    if path.exists():
        number = 1 + len(list(path.parent.glob("events.*.jsonl")))
        path.rename(path.with_name(f"events.{number}.jsonl"))


def _peak_mb() -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
