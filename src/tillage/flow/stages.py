"""Runs one stage after the other: fits, shards, manifests; finished work is found again by fingerprint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.parquet as pq
from daft import DataFrame

from tillage.core.errors import UserError
from tillage.core.events import EventLog, Note, StageDone
from tillage.core.spec import fingerprint
from tillage.data.files import Part, check_unchanged
from tillage.data.reader import Inputs, counted, no_rows, raise_left, rows
from tillage.data.schema import BASE, DETAIL, DROP
from tillage.flow import engine
from tillage.flow.accounts import Stats, check_balance
from tillage.flow.compile import Action, Stage, advance, enter, fit_frame, key_names, with_keys
from tillage.flow.shards import (
    dropped_files,
    kept_files,
    make_whole,
    read_stats,
    storable_schema,
    sweep,
    write_stats,
)
from tillage.ops.base import Corpus

SHARD_BYTES = 128 << 20
COUNTS = "counts"


@dataclass(frozen=True)
class Shard:
    """What one query reads: parts of raw files, or Parquet files of rows (`count` of them) made before."""

    name: str
    bytes: int
    parts: tuple[Part, ...] = ()
    files: tuple[Path, ...] = ()
    count: int = 0


@dataclass
class Done:
    """A finished stage: where its shards lie and what they counted."""

    folder: Path
    fingerprint: str
    shards: list[Path]
    stats: Stats
    reused: bool = False
    seconds: float = 0.0
    schema: pa.Schema = field(default_factory=lambda: BASE)

    def kept(self) -> list[Path]:
        return [path for shard in self.shards for path in kept_files(shard)]

    def dropped(self) -> list[Path]:
        return [path for shard in self.shards for path in dropped_files(shard)]


class StageRunner:
    """Runs stages below `folder`. What is finished there under the same fingerprint is not done again."""

    def __init__(
        self,
        folder: Path,
        log: EventLog,
        runner: engine.Runner,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder, self.log, self.shard_bytes = folder, log, shard_bytes
        self.runner: engine.Runner = runner
        self.inputs: Inputs | None = None

    def raw_shards(self, inputs: Inputs) -> list[Shard]:
        """Parts in the order of the files, to about `shard_bytes` each."""
        self.inputs = inputs
        groups = _group(inputs.parts, [part.bytes for part in inputs.parts], self.shard_bytes)
        return [
            Shard(
                _shard_name(i, [(p.name, p.start, p.stop) for p in group]), sum(p.bytes for p in group), group
            )
            for i, group in enumerate(groups)
        ]

    def file_shards(self, files: Sequence[Path], content: str) -> list[Shard]:
        """Parquet files of rows; `content` is the fingerprint of what made them."""
        sizes = [path.stat().st_size for path in files]
        groups = _group(tuple(files), sizes, self.shard_bytes)
        shards: list[Shard] = []
        for i, group in enumerate(groups):
            count = sum(pq.read_metadata(path).num_rows for path in group)
            size = sum(path.stat().st_size for path in group)
            name = _shard_name(i, [content, *(f"{path.parent.name}/{path.name}" for path in group)])
            shards.append(Shard(name, size, files=group, count=count))
        return shards

    def run(self, stage: Stage, shards: list[Shard], schema: pa.Schema, before: str) -> Done:
        """Fit what must be fitted, then write every shard that is not there yet."""
        begun = time.monotonic()
        mark = stage.fingerprint(before)
        folder = self.folder / mark
        folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        sweep(folder)
        artifacts = self._fit(stage, shards, schema, before)
        plan = self._plan(stage, no_rows(schema), artifacts)
        out_schema = storable_schema(plan.schema().to_pyarrow_schema())
        total, made = Stats(), 0
        paths: list[Path] = []
        for shard in shards:
            path = folder / shard.name
            made += self._shard(stage, shard, schema, path, artifacts)
            paths.append(path)
            stats = read_stats(path)
            check_balance(stage, stats)
            total.merge(stats)
        done = Done(folder, mark, paths, total, made == 0, time.monotonic() - begun, out_schema)
        size = sum(columns[-1] for columns in total.bytes.values())
        steps = [action.id for action in stage.steps]
        written = sum(total.rows.values())
        self.log.emit(StageDone(stage.name, steps, written, size, round(done.seconds, 3), done.reused))
        return done

    def _shard(
        self, stage: Stage, shard: Shard, schema: pa.Schema, path: Path, artifacts: dict[str, Path]
    ) -> bool:
        def fill(folder: Path) -> None:
            counts = folder / COUNTS
            counts.mkdir()
            frame = self._plan(stage, self._read(shard, schema, counts), artifacts)
            writer = engine.FileWriter(folder, stage.bytes_columns(), key_names(stage), stage.final)
            try:
                stats = engine.write(frame, writer, self.runner)
            except Exception as error:
                # Foreign exceptions are named here, and nowhere else.
                raise_left(counts)
                for part in shard.parts:
                    check_unchanged(part)
                if isinstance(error, UserError):
                    raise
                raise engine.named(error, f"stage {stage.name}, {shard.name}") from error
            for part in shard.parts:
                check_unchanged(part)
            read = counted(counts)
            stats.rows_in = sum(read.values()) if shard.parts else shard.count
            for name in sorted(name for name, n in read.items() if n == 0):
                self.log.emit(Note(f"{name} holds no rows", "warning"))
            write_stats(folder, stats)

        return make_whole(path, fill)

    def _plan(self, stage: Stage, frame: DataFrame, artifacts: dict[str, Path]) -> DataFrame:
        done = with_keys(advance(enter(frame), stage.actions, artifacts), stage.keys)
        own = {DROP, DETAIL, *stage.bytes_columns(), *key_names(stage)}
        return done.select(*(n for n in done.column_names if not n.startswith("_") or n in own))

    def _read(self, shard: Shard, schema: pa.Schema, counts: Path) -> DataFrame:
        if shard.parts:
            assert self.inputs is not None
            return rows(self.inputs, shard.parts, counts)
        return _read_rows(list(shard.files), schema)

    def _fit(self, stage: Stage, shards: list[Shard], schema: pa.Schema, before: str) -> dict[str, Path]:
        artifacts: dict[str, Path] = {}
        for position in stage.fits():
            action = stage.actions[position]
            folder = self.folder / stage.fit_fingerprint(before, position)
            self._fit_one(action, stage.actions[:position], shards, schema, folder, artifacts)
            artifacts[action.id] = folder
        return artifacts

    def _fit_one(
        self,
        action: Action,
        prefix: Sequence[Action],
        shards: list[Shard],
        schema: pa.Schema,
        folder: Path,
        artifacts: dict[str, Path],
    ) -> None:
        op = action.op
        assert isinstance(op, Corpus)
        begun = time.monotonic()
        files = [path for shard in shards for path in shard.files]

        def fill(target: Path) -> None:
            frame = advance(_read_rows(files, schema), prefix, artifacts)
            try:
                op.fit(fit_frame(frame, op), target)
            except UserError:
                raise
            except Exception as error:
                raise engine.named(error, f"fit of step {action.id}") from error

        made = make_whole(folder, fill)
        count = sum(shard.count for shard in shards)
        seconds = round(time.monotonic() - begun, 3)
        self.log.emit(StageDone(f"fit:{action.id}", [action.id], count, 0, seconds, not made))


def _read_rows(files: list[Path], schema: pa.Schema) -> DataFrame:
    """Rows that a stage before has kept: the columns of `schema`, all alive unless they say otherwise."""
    if not files:
        return no_rows(schema)
    frame = daft.read_parquet([str(path) for path in files])
    missing = [f for f in schema if f.name not in frame.column_names]
    if missing:
        empties = {f.name: daft.lit(None).cast(daft.DataType.from_arrow_type(f.type)) for f in missing}
        frame = frame.with_columns(empties)
    return frame.select(*schema.names)


def carried(stage: Stage, done: Done) -> pa.Schema:
    """The columns that the next stage reads: what was kept, keys too, and the engine's own, null again."""
    internal = {DROP: BASE.field(DROP), DETAIL: BASE.field(DETAIL)}
    gone = {*internal, *stage.bytes_columns()}
    return pa.schema([*(f for f in done.schema if f.name not in gone), *internal.values()])


def _group(items: tuple, sizes: Sequence[int], limit: int) -> list[tuple]:
    """Consecutive items, to at most `limit` bytes a group unless one alone is larger."""
    groups: list[tuple] = []
    held: list = []
    total = 0
    for item, size in zip(items, sizes, strict=True):
        if held and total + size > limit:
            groups.append(tuple(held))
            held, total = [], 0
        held.append(item)
        total += size
    if held:
        groups.append(tuple(held))
    return groups


def _shard_name(number: int, content: object) -> str:
    return f"shard-{number:05d}-{fingerprint(content)[:8]}"
