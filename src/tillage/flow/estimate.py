"""What a run will take: rows, time, memory and disk, from running the recipe over pieces of its input.

Pieces of about a megabyte are taken from files spread over the input, run in three groups and all together in
a workspace of their own. What grows with the input is the difference between the two; what is left is the
start. Intervals are Student's over the three groups. A small corpus has fewer copies than a large one, so
deduplication keeps less of the whole than of the pieces: rows kept are rather too many.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from tillage.core.errors import UserError
from tillage.core.events import EventLog
from tillage.core.spec import fingerprint
from tillage.core.stats import mean_interval
from tillage.core.workspace import Workspace
from tillage.data import jsonl
from tillage.data.files import Part, versions
from tillage.data.reader import Inputs, plan
from tillage.data.remote import is_url, open_input
from tillage.data.sources import Jsonl, Parquet, Source, parquet_file
from tillage.flow.compile import compile_stages
from tillage.flow.expected import Estimate, Range, save
from tillage.flow.incremental import known_groups
from tillage.flow.recipe import Recipe, input_fingerprint
from tillage.flow.run import run
from tillage.flow.stages import SHARD_BYTES, raw_units

PIECE = 1 << 20
GROUPS, EACH = 3, 2
_CORPUS_ROW = 256
"""Bytes of memory that a corpus step may need for a row, keys and decisions; see `Estimate.memory`."""
_LEAST_SPREAD = 0.25
"""Pieces are run one after the other on one machine in one minute: their spread alone says too little."""


def estimate(recipe: Recipe, workspace: Workspace) -> Estimate:
    """Estimate a run of `recipe` here, and keep the estimate, so that the run can say how far it was off.

    Raises:
        UserError: as `run`, and for input of which no piece can be read.
    """
    workspace.check_writable()
    inputs = plan(recipe.sources, workspace.inputs)
    run_id = f"{recipe.name}-{input_fingerprint(recipe, versions(list(inputs.files)))[:8]}"
    total, new = inputs.bytes, _new_bytes(recipe, inputs, workspace)
    with tempfile.TemporaryDirectory(prefix="estimate-", dir=workspace.root) as folder:
        pieces = [_piece(inputs.sources[p.source], p, Path(folder), i) for i, p in enumerate(_spread(inputs))]
        groups = [pieces[i::GROUPS] for i in range(min(GROUPS, len(pieces)))]
        _probe(recipe, groups[0], Path(folder) / "warm")  # compiles what is not compiled yet
        parts = [_probe(recipe, group, Path(folder) / f"group-{i}") for i, group in enumerate(groups)]
        whole = _probe(recipe, pieces, Path(folder) / "all") if len(groups) > 1 else parts[0]
    larger = [p for p in parts if whole.bytes > p.bytes]
    slopes = [max(0.0, whole.seconds - p.seconds) / (whole.bytes - p.bytes) for p in larger]
    slope = _range(slopes or [whole.seconds / whole.bytes], 1.0)
    start = max(0.0, whole.seconds - slope.mean * whole.bytes)
    peak = _peak()
    corpus = sum(bool(stage.fits()) for stage in compile_stages(recipe))
    rows = _range([p.rows / p.bytes for p in parts], total)
    found = Estimate(
        run=run_id,
        bytes=total,
        new_bytes=new,
        probed_bytes=whole.bytes,
        rows=rows,
        kept=_range([p.kept / p.bytes for p in parts], total),
        seconds=Range(*(start + rate * new for rate in (slope.mean, slope.low, slope.high))),
        disk=_range([p.disk / p.bytes for p in parts], new),
        memory=_memory(peak, min(total, SHARD_BYTES), rows.high, corpus),
    )
    save(found, workspace)
    return found


def _new_bytes(recipe: Recipe, inputs: Inputs, workspace: Workspace) -> int:
    """Bytes of the parts that no finished shard of the first stage holds."""
    mark = compile_stages(recipe)[0].fingerprint(fingerprint("rows", str(inputs.schema)))
    known = {key for keys in known_groups(workspace.stages / mark) for key in keys}
    return sum(unit.bytes for unit in raw_units(inputs) if unit.key not in known)


def _spread(inputs: Inputs) -> list[Part]:
    """Parts from all over the input, the same each time; a part comes again where there are few."""
    whole = sum(part.bytes for part in inputs.parts)
    chosen: list[Part] = []
    for number in range(GROUPS * EACH):
        place = (number + 0.5) * whole / (GROUPS * EACH)
        for part in inputs.parts:
            if place < part.bytes:
                break
            place -= part.bytes
        chosen.append(part)  # pyright: ignore[reportPossiblyUnboundVariable]  (there is a part, else plan raises)
    return chosen


@dataclass(frozen=True)
class _Piece:
    source: Source
    path: Path
    bytes: int


def _piece(source: Source, part: Part, folder: Path, number: int) -> _Piece:
    """About PIECE bytes of a part as a file of its own, and the bytes that they take in the input."""
    reader = source.reader(part.path)
    if isinstance(reader, Jsonl):
        target = folder / f"{number}.jsonl"
        size = _lines(reader, part, number, target)
    elif isinstance(reader, Parquet):
        target, size = folder / f"{number}.parquet", part.bytes
        with parquet_file(part.path) as file:
            pq.write_table(file.read_row_groups(list(range(part.start, part.stop))), target)
    else:
        target, size = folder / f"{number}-{os.path.basename(part.path)}", part.size
        if is_url(part.path):
            with open_input(part.path) as file, target.open("wb") as out:
                shutil.copyfileobj(file, out)
        else:
            target.symlink_to(part.path)
    return _Piece(reader, target, max(1, size))


def _lines(source: Jsonl, part: Part, number: int, target: Path) -> int:
    with open_input(part.path) as file, target.open("wb") as out:
        if source.may_split(part.path):
            # Another place in the part each time that it comes.
            start = part.start + (part.stop - part.start) * (number % EACH) // EACH
            file.seek(start)
            text = file.read(min(PIECE, part.stop - start))
            begin = text.find(b"\n") + 1 if start > part.start else 0
            text = text[begin : text.rfind(b"\n") + 1] or text
            out.write(text)
            return len(text)
        size = 0
        for chunk in jsonl.decompressed(file, part.path):
            if isinstance(chunk, jsonl.Fault):
                break
            out.write(chunk)
            size += len(chunk)
            if size > 8 * PIECE:
                break
        return file.tell()


@dataclass(frozen=True)
class _Probed:
    bytes: int
    rows: int
    kept: int
    seconds: float
    disk: int


def _probe(recipe: Recipe, pieces: Sequence[_Piece], home: Path) -> _Probed:
    """Run the recipe over pieces and see what it takes."""
    # Twice the same piece would be copies to each other.
    unique = list({piece.path.read_bytes(): piece for piece in pieces}.values())
    sources = tuple(piece.source.model_copy(update={"path": (str(piece.path),)}) for piece in unique)
    what = recipe.model_copy(update={"sources": sources, "max_quarantine": 1.0, "dataset": None})
    begun = time.monotonic()
    try:
        result = run(what, Workspace(home), EventLog(None), commit=None)
    except UserError as error:
        if error.what != "the input holds no rows":
            raise
        raise UserError("pieces of the input hold no rows, so nothing can be estimated") from error
    seconds = time.monotonic() - begun
    disk = sum(path.stat().st_size for path in (home / "stages").rglob("*") if path.is_file())
    accounts = result.accounts
    return _Probed(sum(p.bytes for p in unique), accounts[0].rows_in, accounts[-1].rows_out, seconds, disk)


def _range(rates: Sequence[float], times: float) -> Range:
    """Mean and interval of rates, times a size; never below zero, never narrower than a least spread."""
    mean = sum(rates) / len(rates)
    half = _LEAST_SPREAD * mean
    if len(rates) > 1:
        found = mean_interval(rates)
        half = max(half, found.high - found.mean)
    return Range(mean * times, max(0.0, mean - half) * times, (mean + half) * times)


def _memory(peak: int, shard: int, rows: float, corpus: int) -> Range:
    most = peak + 4 * shard + rows * _CORPUS_ROW * corpus
    return Range((peak + most) / 2, peak, most)


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
