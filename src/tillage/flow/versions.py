"""Two versions of datasets side by side: rows in, out and changed, accounts, shifts, examples."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tillage.core.errors import UserError
from tillage.core.events import StepAccount
from tillage.data.dataset import Dataset
from tillage.data.schema import DOMAIN, ID, LINE, TEXT
from tillage.flow.diff import StepDiff, merged
from tillage.kernels.digest import row_lanes
from tillage.kernels.hashing import hash_strings

pc: Any = pyarrow.compute  # its functions are made at run time
EXAMPLES = 3
EXCERPT = 200


@dataclass(frozen=True)
class Shift:
    """How a measurement moved between versions: quantiles of both, and the Kolmogorov-Smirnov distance, the
    largest difference of the two distribution functions (0 alike, 1 apart)."""

    column: str
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    distance: float


@dataclass(frozen=True)
class VersionDiff:
    """What became of the rows from `a` to `b`, by id.

    `changed`: the same id with other content, over the columns that both have. `domains`: domain -> rows in a
    and in b. `examples`: kind (in, out, changed) -> rows with `id`, and `a` and `b`, the beginnings of texts.
    """

    a: str
    b: str
    rows_a: int
    rows_b: int
    only_a: int
    only_b: int
    changed: int
    unchanged: int
    columns_only_a: list[str]
    columns_only_b: list[str]
    recipe: list[str]
    steps: list[StepDiff]
    domains: dict[str, tuple[int, int]]
    shifts: list[Shift]
    examples: dict[str, list[dict[str, str]]]
    same_digest: bool


def compare(a: Dataset, b: Dataset) -> VersionDiff:
    """Compare two versions, of one dataset or of two. Holds 16 bytes for each row of files that only one has.

    Raises:
        UserError: a dataset without ids.
    """
    schema_a, schema_b = a.schema(), b.schema()
    for dataset, schema in ((a, schema_a), (b, schema_b)):
        if ID not in schema.names:
            raise UserError("rows without ids cannot be compared", where=dataset.path)
    shared = [name for name in schema_a.names if name in schema_b.names]
    # Files that both versions hold are the same rows: only the others need be read.
    names_a, names_b = ({path.name for path in d.files()} for d in (a, b))
    common = sum(pq.read_metadata(path).num_rows for path in a.files() if path.name in names_b)
    files_a = [path for path in a.files() if path.name not in names_b]
    files_b = [path for path in b.files() if path.name not in names_a]
    rows_a, rows_b = _hashes(files_a, shared), _hashes(files_b, shared)
    only_a, only_b, changed, unchanged = _match(rows_a, rows_b)
    lineage_a, lineage_b = a.lineage(), b.lineage()
    lines = difflib.unified_diff(
        lineage_a["recipe"].splitlines(), lineage_b["recipe"].splitlines(), _name(a), _name(b), "", "", 2, ""
    )
    by_step = [
        {step["step"]: StepAccount(**step) for step in lineage.get("accounts", [])}
        for lineage in (lineage_a, lineage_b)
    ]
    return VersionDiff(
        a=_name(a),
        b=_name(b),
        rows_a=common + len(rows_a[0]),
        rows_b=common + len(rows_b[0]),
        only_a=len(only_a),
        only_b=len(only_b),
        changed=len(changed),
        unchanged=common + unchanged,
        columns_only_a=[n for n in schema_a.names if n not in schema_b.names],
        columns_only_b=[n for n in schema_b.names if n not in schema_a.names],
        recipe=list(lines),
        steps=[StepDiff(step, by_step[0].get(step), by_step[1].get(step)) for step in merged(by_step)],
        domains=_domains(a, b) if DOMAIN in shared else {},
        shifts=_shifts(a, b, schema_a, shared),
        examples=_examples(files_a, files_b, only_a, only_b, changed, TEXT in shared),
        same_digest=lineage_a.get("digest") == lineage_b.get("digest"),
    )


def _name(dataset: Dataset) -> str:
    return f"{dataset.path.name}@{dataset.version}"


Hashes = tuple[NDArray[np.uint64], NDArray[np.uint64]]


def _hashes(files: Sequence[Path], columns: Sequence[str]) -> Hashes:
    """The hashes of ids, sorted, and of the rows' content over `columns`."""
    ids, marks = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(8192, columns=list(columns)):
                ids.append(hash_strings(batch.column(ID)))
                marks.append(row_lanes(batch)[0])
    every = np.concatenate(ids)
    order = np.argsort(every, kind="stable")
    return every[order], np.concatenate(marks)[order]


def _match(a: Hashes, b: Hashes) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], int]:
    """Hashed ids only in a, only in b, in both with other content; and how many are in both alike."""
    only_a = np.setdiff1d(a[0], b[0], assume_unique=True)
    only_b = np.setdiff1d(b[0], a[0], assume_unique=True)
    _, at_a, at_b = np.intersect1d(a[0], b[0], assume_unique=True, return_indices=True)
    differ = a[1][at_a] != b[1][at_b]
    return only_a, only_b, a[0][at_a[differ]], int(len(at_a) - differ.sum())


def _domains(a: Dataset, b: Dataset) -> dict[str, tuple[int, int]]:
    counts: list[Counter[str]] = []
    for dataset in (a, b):
        total: Counter[str] = Counter()
        for batch in dataset.batches([DOMAIN]):
            for item in pc.value_counts(batch.column(0)).to_pylist():
                total[item["values"] or ""] += item["counts"]
        counts.append(total)
    return {name: (counts[0][name], counts[1][name]) for name in sorted(counts[0] | counts[1])}


def _shifts(a: Dataset, b: Dataset, schema: pa.Schema, shared: Sequence[str]) -> list[Shift]:
    """Bytes of text and every number that both versions measure, the ones that moved most first."""
    numbers = [n for n in shared if n != LINE and _numeric(schema.field(n).type)]
    found: list[Shift] = []
    for column in [*([TEXT] if TEXT in shared else []), *numbers]:
        one, two = _values(a, column), _values(b, column)
        if len(one) and len(two):
            name = "bytes of text" if column == TEXT else column
            found.append(Shift(name, _quantiles(one), _quantiles(two), distance(one, two)))
    return sorted(found, key=lambda shift: (-shift.distance, shift.column))


def _numeric(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _values(dataset: Dataset, column: str) -> NDArray[np.float64]:
    """The finite values of a column, sorted; of the text its bytes."""
    parts = [np.zeros(0)]
    for batch in dataset.batches([column]):
        array = batch.column(0).drop_null()
        array = pc.binary_length(array) if column == TEXT else array
        parts.append(array.to_numpy(zero_copy_only=False).astype(np.float64))
    values = np.concatenate(parts)
    return np.sort(values[np.isfinite(values)])


def _quantiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return float(low), float(middle), float(high)


def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The two-sample Kolmogorov-Smirnov statistic of sorted values."""
    places = np.concatenate([a, b])
    below_a = np.searchsorted(a, places, "right") / len(a)
    below_b = np.searchsorted(b, places, "right") / len(b)
    return float(np.abs(below_a - below_b).max())


def _examples(
    files_a: Sequence[Path],
    files_b: Sequence[Path],
    only_a: NDArray[np.uint64],
    only_b: NDArray[np.uint64],
    changed: NDArray[np.uint64],
    with_text: bool,
) -> dict[str, list[dict[str, str]]]:
    """A few rows of each kind, those with the smallest hashes, so that they are the same each time."""
    chosen = {
        "in": np.sort(only_b)[:EXAMPLES],
        "out": np.sort(only_a)[:EXAMPLES],
        "changed": changed[:EXAMPLES],
    }
    wanted = np.concatenate(list(chosen.values()))
    texts_a, texts_b = (_texts(files, wanted, with_text) for files in (files_a, files_b))
    out: dict[str, list[dict[str, str]]] = {}
    for kind, hashes in chosen.items():
        rows: list[dict[str, str]] = []
        for mark in hashes.tolist():
            id = (texts_a.get(mark) or texts_b.get(mark) or ("", ""))[0]
            sides = {
                side: found[mark][1] for side, found in (("a", texts_a), ("b", texts_b)) if mark in found
            }
            rows.append({"id": id, **sides})
        out[kind] = rows
    return out


def _texts(files: Sequence[Path], wanted: NDArray[np.uint64], with_text: bool) -> dict[int, tuple[str, str]]:
    """Hashed id -> (id, beginning of the text) for the wanted rows."""
    found: dict[int, tuple[str, str]] = {}
    for path in files:
        if len(found) == len(wanted):
            break
        with pq.ParquetFile(path) as file:
            for number in range(file.metadata.num_row_groups):
                hashes = hash_strings(file.read_row_group(number, columns=[ID]).column(ID))
                hits = np.flatnonzero(np.isin(hashes, wanted))
                if not len(hits):
                    continue
                names = [ID, TEXT] if with_text else [ID]
                rows = file.read_row_group(number, columns=names).take(pa.array(hits)).to_pylist()
                for mark, row in zip(hashes[hits].tolist(), rows, strict=True):
                    found[mark] = (row[ID], (row.get(TEXT) or "")[:EXCERPT])
    return found
