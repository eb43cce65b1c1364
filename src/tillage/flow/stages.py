"""Runs one stage after the other: fits, shards; finished work is found again by the content that it read."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import daft
import pyarrow as pa
from daft import DataFrame

from tillage.core.errors import UserError
from tillage.core.events import EventLog, Note, StageDone
from tillage.core.spec import fingerprint
from tillage.core.whole import Sums, discard, make_whole, sweep
from tillage.data import stored
from tillage.data.files import check_unchanged
from tillage.data.reader import Inputs, counted, no_rows, raise_left, rows
from tillage.data.schema import BASE, DETAIL, DROP, PARTS
from tillage.flow import engine
from tillage.flow.accounts import Stats, check_balance
from tillage.flow.compile import Action, Stage, advance, enter, fit_frame, key_names, with_keys
from tillage.flow.incremental import (
    Decided,
    Unit,
    content,
    group,
    hashed_ids,
    known_groups,
    largest_within,
    write_fitted,
    write_units,
)
from tillage.flow.shards import dropped_files, kept_files, read_stats, storable_schema, write_stats
from tillage.ops.base import Corpus

SHARD_BYTES = 256 << 20
COUNTS = "counts"


@dataclass
class Done:
    """A finished stage: where its shards lie and what they counted."""

    folder: Path
    fingerprint: str
    shards: list[Path]
    stats: Stats
    made: int = 0
    disk: int = 0
    fits: list[Path] = field(default_factory=list[Path])
    seconds: float = 0.0
    schema: pa.Schema = field(default_factory=lambda: BASE)

    @property
    def reused(self) -> bool:
        """Whether all of it was there already."""
        return self.made == 0

    def kept(self) -> list[Path]:
        return [path for shard in self.shards for path in kept_files(shard)]

    def dropped(self) -> list[Path]:
        return [path for shard in self.shards for path in dropped_files(shard)]

    def units(self) -> list[Unit]:
        """What the next stage reads; for those of a stage that is not the final one."""
        found: list[Unit] = []
        for shard in self.shards:
            for path in kept_files(shard):
                rows_, size = stored.size(path)
                key = f"{self.fingerprint}/{shard.name}/{path.name}"
                found.append(Unit(key, size, file=path, rows=rows_))
        return found


def raw_units(inputs: Inputs) -> list[Unit]:
    """The parts of the input files, named by the content of their file and how their source reads it."""
    digests = {(file.source, file.name): file.digest for file in inputs.files}
    how = [source.canonical() for source in inputs.sources]
    return [
        Unit(
            fingerprint(how[p.source], p.name, digests[p.source, p.name], p.start, p.stop, p.first),
            p.bytes,
            part=p,
        )
        for p in inputs.parts
    ]


class StageRunner:
    """Runs stages below `folder`. What is finished there under the same fingerprint is not done again."""

    def __init__(
        self,
        folder: Path,
        log: EventLog,
        runner: engine.Runner,
        shard_bytes: int = SHARD_BYTES,
        inputs: Inputs | None = None,
        fresh: bool = False,
    ) -> None:
        self.folder, self.log, self.shard_bytes = folder, log, shard_bytes
        self.runner: engine.Runner = runner
        self.inputs, self.fresh = inputs, fresh

    def run(self, stage: Stage, units: list[Unit], schema: pa.Schema, before: str) -> Done:
        """Fit what must be fitted, then write every shard that is not there yet.

        Args:
            units: all that the stage reads.
            before: the fingerprint of the steps that made them, whatever the input files were.
        """
        begun = time.monotonic()
        mark = stage.fingerprint(before)
        folder = self.folder / mark
        folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        sweep(folder)
        artifacts, decided, fresh = self._fit(stage, units, schema, before)
        plan = self._plan(stage, no_rows(schema), artifacts)
        out_schema = storable_schema(plan.schema().to_pyarrow_schema())
        total, made, disk = Stats(), 0, sum(_bytes(path) for path in artifacts.values() if path in fresh)
        paths: list[Path] = []
        known = [] if self.fresh else known_groups(folder)
        for chosen in group(units, known, self.shard_bytes):
            path = folder / _shard_name(chosen, decided)
            if self._shard(stage, chosen, schema, path, artifacts):
                made += 1
                disk += _bytes(path)
            paths.append(path)
            stats = read_stats(path)
            check_balance(stage, stats)
            total.merge(stats)
        seconds = time.monotonic() - begun
        done = Done(folder, mark, paths, total, made, disk, list(artifacts.values()), seconds, out_schema)
        size = sum(columns[-1] for columns in total.bytes.values())
        steps = [action.id for action in stage.steps]
        written = sum(total.rows.values())
        self.log.emit(StageDone(stage.name, steps, written, size, round(done.seconds, 3), done.reused))
        return done

    def _shard(
        self,
        stage: Stage,
        units: Sequence[Unit],
        schema: pa.Schema,
        path: Path,
        artifacts: dict[str, Path],
    ) -> bool:
        parts = tuple(unit.part for unit in units if unit.part is not None)

        def fill(folder: Path) -> Sums:
            counts = folder / COUNTS
            counts.mkdir()
            frame = self._plan(stage, self._read(units, schema, counts), artifacts)
            writer = engine.FileWriter(folder, stage.bytes_columns(), key_names(stage), stage.final)
            try:
                stats, sums = engine.write(frame, writer, self.runner)
            except Exception as error:
                # Foreign exceptions are named here, and nowhere else.
                raise_left(counts)
                for part in parts:
                    check_unchanged(part)
                if isinstance(error, UserError):
                    raise
                raise engine.named(error, f"stage {stage.name}, {path.name}") from error
            for part in parts:
                check_unchanged(part)
            read = counted(counts)
            stats.rows_in = sum(read.values()) if parts else sum(unit.rows for unit in units)
            for name in sorted(name for name, n in read.items() if n == 0):
                self.log.emit(Note(f"{name} holds no rows", "warning"))
            write_stats(folder, stats)
            write_units(folder, units)
            shutil.rmtree(counts)
            return sums

        if self.fresh:
            discard(path)
        return make_whole(path, fill, self._damaged)

    def _damaged(self, what: str) -> None:
        self.log.emit(Note(f"finished work is damaged and is done again: {what}", "warning"))

    def _plan(self, stage: Stage, frame: DataFrame, artifacts: dict[str, Path]) -> DataFrame:
        done = with_keys(advance(enter(frame), stage.actions, artifacts), stage.keys)
        own = {DROP, DETAIL, PARTS, *stage.bytes_columns(), *key_names(stage)}
        return done.select(*(n for n in done.column_names if not n.startswith("_") or n in own))

    def _read(self, units: Sequence[Unit], schema: pa.Schema, counts: Path) -> DataFrame:
        parts = tuple(unit.part for unit in units if unit.part is not None)
        if parts:
            assert self.inputs is not None
            return rows(self.inputs, parts, counts)
        return _read_rows(_files(units), schema)

    def _fit(
        self, stage: Stage, units: list[Unit], schema: pa.Schema, before: str
    ) -> tuple[dict[str, Path], list[Decided], set[Path]]:
        """The folders of the fits, what they decided, and which of them were made now."""
        artifacts: dict[str, Path] = {}
        fresh: set[Path] = set()
        decided: list[Decided] = []
        for position in stage.fits():
            action = stage.actions[position]
            op = action.op
            assert isinstance(op, Corpus)
            fits = self.folder / stage.fit_fingerprint(before, position)
            folder = fits / f"fit-{content(units)}"
            if self._fit_one(action, op, stage.actions[:position], units, schema, folder, artifacts, decided):
                fresh.add(folder)
            artifacts[action.id] = folder
            decided.append(Decided(folder, op))
        return artifacts, decided, fresh

    def _fit_one(
        self,
        action: Action,
        op: Corpus,
        prefix: Sequence[Action],
        units: Sequence[Unit],
        schema: pa.Schema,
        folder: Path,
        artifacts: dict[str, Path],
        earlier: Sequence[Decided],
    ) -> bool:
        begun = time.monotonic()
        folder.parent.mkdir(exist_ok=True)
        sweep(folder.parent)
        seen = sum(unit.rows for unit in units)

        def fill(target: Path) -> None:
            nonlocal seen
            known = largest_within(folder.parent, units, earlier) if op.extends and not self.fresh else None
            new = [unit for unit in units if known is None or unit.key not in known.units]
            seen = sum(unit.rows for unit in new)
            frame = fit_frame(advance(_read_rows(_files(new), schema), prefix, artifacts), op)
            try:
                if known is None:
                    op.fit(frame, target)
                else:
                    op.extend(frame, known.folder, target)
            except UserError:
                raise
            except Exception as error:
                raise engine.named(error, f"fit of step {action.id}") from error
            write_fitted(target, units, earlier)

        if self.fresh:
            discard(folder)
        made = make_whole(folder, fill, self._damaged)
        seconds = round(time.monotonic() - begun, 3)
        self.log.emit(StageDone(f"fit:{action.id}", [action.id], seen, 0, seconds, not made))
        return made


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _files(units: Sequence[Unit]) -> list[Path]:
    return [unit.file for unit in units if unit.file is not None]


def _shard_name(units: Sequence[Unit], decided: Sequence[Decided]) -> str:
    keys = [unit.key for unit in units]
    if not decided:
        return f"shard-{fingerprint(keys)}"
    ids = hashed_ids(units)
    return f"shard-{fingerprint(keys, [one.mark(ids) for one in decided])}"


def _read_rows(files: list[Path], schema: pa.Schema) -> DataFrame:
    """Rows that a stage before has kept: the columns of `schema`, all alive unless they say otherwise."""
    if not files:
        return no_rows(schema)
    if files[0].suffix == stored.SUFFIX:
        return stored.stored_rows(files, schema)
    frame = daft.read_parquet([str(path) for path in files])
    return frame.select(*schema.names)


def carried(stage: Stage, done: Done) -> pa.Schema:
    """The columns that the next stage reads: what was kept, keys too, and the engine's own, null again."""
    internal = {DROP: BASE.field(DROP), DETAIL: BASE.field(DETAIL)}
    gone = {*internal, PARTS, *stage.bytes_columns()}
    return pa.schema([*(f for f in done.schema if f.name not in gone), *internal.values()])
