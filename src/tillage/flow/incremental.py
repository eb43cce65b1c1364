"""What need not be done again: shards are named by what they read and by what was decided of their rows.

A stage's folder is named by its steps alone, a shard in it by the content of the parts that it read. So a
new input file makes new shards and leaves the others, whatever the total of the inputs is. After a corpus
operator a shard's name also holds what `fit` decided of its rows: it is done again only where that changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tillage.core.spec import fingerprint
from tillage.core.whole import SUMS, damage
from tillage.core.workspace import write_atomic
from tillage.data.files import Part
from tillage.data.schema import ID
from tillage.data.stored import SUFFIX, reader
from tillage.kernels.digest import row_lanes
from tillage.kernels.hashing import hash_strings
from tillage.ops.base import Corpus, Decisions

UNITS = "units.json"
FIT = "fit.json"
_ROWS = 1 << 16


@dataclass(frozen=True)
class Unit:
    """The least that is read as a whole: a part of a raw file, or a Parquet file of rows made before.

    `key` names its content and how it is read; `bytes` is its size, of files of rows without compression, and
    only of these are the `rows` known.
    """

    key: str
    bytes: int
    part: Part | None = None
    file: Path | None = None
    rows: int = 0


def write_units(folder: Path, units: Sequence[Unit]) -> None:
    write_atomic(folder / UNITS, json.dumps([unit.key for unit in units]))


def known_groups(stage: Path) -> list[list[str]]:
    """The keys that each finished shard of a stage has read."""
    found: list[list[str]] = []
    for path in sorted(stage.glob(f"shard-*/{UNITS}")):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue  # a damaged shard is nothing to build on; its own check names it
    return found


def group(units: Sequence[Unit], known: Iterable[list[str]], limit: int) -> list[tuple[Unit, ...]]:
    """All units in groups: as finished shards hold them, the rest in order, to about `limit` bytes each."""
    at = {unit.key: i for i, unit in enumerate(units)}
    taken: set[str] = set()
    groups: list[tuple[Unit, ...]] = []
    for keys in sorted(known, key=lambda keys: (-len(keys), keys)):
        if keys and all(key in at for key in keys) and taken.isdisjoint(keys):
            taken.update(keys)
            groups.append(tuple(units[at[key]] for key in keys))
    groups += _cut([unit for unit in units if unit.key not in taken], limit)
    return sorted(groups, key=lambda units: at[units[0].key])


def _cut(units: Sequence[Unit], limit: int) -> list[tuple[Unit, ...]]:
    """Consecutive units, to at most `limit` bytes a group unless one alone is larger."""
    groups: list[tuple[Unit, ...]] = []
    held: list[Unit] = []
    total = 0
    for unit in units:
        if held and total + unit.bytes > limit:
            groups.append(tuple(held))
            held, total = [], 0
        held.append(unit)
        total += unit.bytes
    if held:
        groups.append(tuple(held))
    return groups


def content(units: Sequence[Unit]) -> str:
    """The fingerprint of all that a stage reads, whatever the shards and their order."""
    return fingerprint("content", sorted(unit.key for unit in units))


class Decided:
    """What one fit decided, so that each shard can tell whether anything about its own rows has changed.

    Holds 16 bytes for each decision. What the fit left besides decisions by row (a model, a threshold) counts
    for every shard, but not the index of an operator that `extends`, which nobody reads but its next fit.
    """

    def __init__(self, artifact: Path, op: Corpus) -> None:
        whole: dict[str, list[int]] = json.loads((artifact / SUMS).read_text(encoding="utf-8"))
        whole.pop(FIT, None)
        by_row = whole.pop(Decisions.FILE, None)
        self._rest = "" if op.extends else fingerprint(whole)
        ids, marks = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        if by_row is not None:
            for batch in Decisions.read(artifact).to_batches(_ROWS):
                ids.append(hash_strings(batch.column(ID)))
                marks.append(row_lanes(batch)[0])
        order = np.argsort(np.concatenate(ids), kind="stable")
        self._ids, self._marks = np.concatenate(ids)[order], np.concatenate(marks)[order]

    def mark(self, ids: NDArray[np.uint64]) -> str:
        """The fingerprint of what was decided of the rows with these hashed ids."""
        if not len(self._ids):
            return fingerprint(self._rest)
        place = np.searchsorted(self._ids, ids)
        place[place == len(self._ids)] = 0
        hits = place[self._ids[place] == ids]
        return fingerprint(self._rest, len(hits), int(self._marks[hits].sum(dtype=np.uint64)))


@dataclass(frozen=True)
class Fitted:
    """What a fit has seen: the keys of its units, and what the corpus steps before it had decided of them."""

    folder: Path
    units: frozenset[str]
    marks: list[str]


def write_fitted(folder: Path, units: Sequence[Unit], earlier: Sequence[Decided]) -> None:
    """Note in a fit's folder what it has seen."""
    marks = _marks(units, earlier)
    write_atomic(folder / FIT, json.dumps({"units": [unit.key for unit in units], "marks": marks}))


def largest_within(fits: Path, units: Sequence[Unit], earlier: Sequence[Decided]) -> Fitted | None:
    """The fit among those in a folder to go on from: it has seen the most rows, and only such as are still
    there and stand as they stood, so that nothing has to be taken out of it."""
    here = {unit.key: unit for unit in units}
    found: list[Fitted] = []
    for path in sorted(fits.glob(f"fit-*/{FIT}")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # a damaged fit is nothing to build on; its own check names it
        found.append(Fitted(path.parent, frozenset(said["units"]), said["marks"]))
    within = [fit for fit in found if fit.units and fit.units < here.keys()]
    for fit in sorted(within, key=lambda fit: -sum(here[key].rows for key in fit.units)):
        seen = [unit for unit in units if unit.key in fit.units]
        if damage(fit.folder) is None and _marks(seen, earlier) == fit.marks:
            return fit
    return None


def _marks(units: Sequence[Unit], earlier: Sequence[Decided]) -> list[str]:
    if not earlier:
        return []
    ids = hashed_ids(units)
    return [one.mark(ids) for one in earlier]


def hashed_ids(units: Sequence[Unit]) -> NDArray[np.uint64]:
    """The hashes of the ids in files of rows, in any order."""
    files = [unit.file for unit in units if unit.file is not None]
    return np.concatenate([np.zeros(0, np.uint64), *(hashed for path in files for hashed in _hashed(path))])


def _hashed(path: Path) -> Iterator[NDArray[np.uint64]]:
    if path.suffix != SUFFIX:
        yield hash_strings(pq.read_table(path, columns=[ID]).column(ID))
        return
    batches = reader(path)
    for i in range(batches.num_record_batches):
        yield hash_strings(batches.get_batch(i).column(ID))
