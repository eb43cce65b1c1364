"""Clusters of rows with alike sketches by locality-sensitive hashing (Leskovec, Rajaraman, Ullman, ch. 3).

A *sketch* is a row of a matrix of unsigned integers. In one pass rows that share a key, a hash of a part of
the sketch, are candidates; two candidates that are alike are joined. A pair is joined by what its two
sketches say and by nothing else, so the clusters depend neither on the order of the rows nor on the order of
the passes, and rows that come later only add to them. A pass holds 24 bytes a row: its key (8), its place in
the order of keys (8) and its parent in the forest of clusters (8). Up to a few million rows the next passes
are made ready meanwhile, and only keys that others may share are sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int
from tillage.kernels.hashing import U, hash_bytes

Sketches = NDArray[np.unsignedinteger]
"""Shape (rows, size)."""
Keys = Callable[[int, int], NDArray[np.uint64]]
"""The keys of rows [start, stop) in one pass, shape (stop - start,)."""
Forget = Callable[[], None]
T = TypeVar("T")

EQUAL, BITS, COSINE = 0, 1, 2
"""How two sketches are compared: by equal elements, by equal bits of 64-bit elements, or as vectors of signed
bytes by their cosine, in millionths."""

_BLOCK = 1 << 16
_FEW = 1 << 22
"""Up to so many rows some passes are held at once."""
_AHEAD = 2
_ONE = U(1)
_MILLION = 1_000_000.0


@njit(nogil=True, cache=True, inline="always")
def _up(parents: NDArray[np.int64], i: Int) -> Int:
    """The parent of `i`, which is kept as its complement where `i` is a copy: that takes no byte more."""
    parent = parents[i]
    return ~parent if parent < 0 else parent


@njit(nogil=True, cache=True, inline="always")
def _hang(parents: NDArray[np.int64], i: Int, above: Int) -> None:
    """Make `above` the parent of `i`, which stays a copy if it is one."""
    parents[i] = ~above if parents[i] < 0 else above


@njit(nogil=True, cache=True)
def root(parents: NDArray[np.int64], i: Int) -> Int:
    """The representative of `i` in a union-find forest; halves the path to it."""
    while True:
        parent = _up(parents, i)
        if parent == i:
            return i
        above = _up(parents, parent)
        _hang(parents, i, above)
        i = above


@njit(nogil=True, cache=True)
def _unmark(parents: NDArray[np.int64]) -> None:
    for i in range(len(parents)):
        parents[i] = _up(parents, i)


@njit(nogil=True, cache=True)
def roots(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """The representative of every node, which is the first of its tree, shape (nodes,)."""
    out = np.empty_like(parents)
    for i in range(len(parents)):
        out[i] = root(parents, i)
    return out


@njit(nogil=True, cache=True)
def _hashed(data: NDArray[np.uint8], rows: Int, width: Int, start: Int, stop: Int) -> NDArray[np.uint64]:
    keys = np.empty(rows, np.uint64)
    for i in range(rows):
        keys[i] = hash_bytes(data, i * width + start, i * width + stop, U(start))
    return keys


def part_keys(sketches: Sketches, start: int, stop: int) -> NDArray[np.uint64]:
    """The hash of the elements [start, stop) of each sketch, shape (rows,)."""
    rows, size = sketches.shape
    each = sketches.dtype.itemsize
    data = np.ascontiguousarray(sketches).reshape(-1).view(np.uint8)
    return _hashed(data, rows, size * each, start * each, stop * each)


@njit(nogil=True, cache=True)
def _alike(sketches: Sketches, i: Int, j: Int, least: Int, how: Int) -> bool:
    same = 0
    if how == COSINE:
        # Sums of integers, and one product of floats that depends on nothing else: exact in any order.
        ab, aa, bb = np.int32(0), np.int32(0), np.int32(0)
        for k in range(sketches.shape[1]):
            a, b = np.int32(np.int8(sketches[i, k])), np.int32(np.int8(sketches[j, k]))
            ab += a * b
            aa += a * a
            bb += b * b
        bound = least / _MILLION
        return bool(ab > 0 and np.float64(ab) * ab >= bound * bound * (np.float64(aa) * bb))
    if how == BITS:
        for k in range(sketches.shape[1]):
            differ = U(sketches[i, k]) ^ U(sketches[j, k])
            same += 64
            while differ:
                differ &= differ - _ONE
                same -= 1
    else:
        for k in range(sketches.shape[1]):
            same += sketches[i, k] == sketches[j, k]
    return bool(same >= least)


@njit(nogil=True, cache=True)
def _shared(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The places, ascending, of all keys that occur twice, and of a few others: most need no sorting."""
    size = 64
    while size < 8 * len(keys):
        size *= 2
    mask = U(size - 1)
    seen = np.zeros(size, np.uint8)
    for key in keys:
        seen[key & mask] = min(seen[key & mask] + 1, 2)
    out = np.empty(len(keys), np.int64)
    count = U(0)
    for i in range(U(len(keys))):
        out[count] = i
        count += U(seen[keys[i] & mask] == 2)
    return out[: np.int64(count)].copy()


@njit(nogil=True, cache=True)
def _find(keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each key is among `wanted`, which is sorted."""
    size = 64
    while size < 16 * len(wanted):
        size *= 2
    bitmap = np.zeros(size, np.uint8)
    for key in wanted:
        bitmap[np.int64(key & U(size - 1))] = 1
    out = np.zeros(len(keys), np.bool_)
    for i in range(len(keys)):
        if bitmap[np.int64(keys[i] & U(size - 1))]:
            at = np.searchsorted(wanted, keys[i])
            out[i] = at < len(wanted) and wanted[at] == keys[i]
    return out


@njit(nogil=True, cache=True)
def _unite(parents: NDArray[np.int64], i: Int, j: Int) -> None:
    """Put two rows into one tree. The earlier root stays one, so a tree is named by its first row."""
    x, y = root(parents, i), root(parents, j)
    _hang(parents, max(x, y), min(x, y))


@njit(nogil=True, cache=True)
def _join_equal(
    members: NDArray[np.int64],
    count: Int,
    sketches: Sketches,
    parents: NDArray[np.int64],
) -> None:
    """Join the rows with the sketch of the first of `count`, and mark them as copies."""
    head = members[0]
    for m in range(1, count):
        row = members[m]
        equal = True
        for k in range(sketches.shape[1]):
            equal = equal and sketches[head, k] == sketches[row, k]
        if equal:  # else 64 bits collide: the passes may still join the two
            _unite(parents, head, row)
            parents[row] = ~_up(parents, row)


@njit(nogil=True, cache=True)
def _join_alike(
    members: NDArray[np.int64],
    count: Int,
    fresh: Int,
    sketches: Sketches,
    least: Int,
    how: Int,
    parents: NDArray[np.int64],
) -> None:
    """Join the alike pairs among `count` rows of which one row at least is fresh."""
    first = root(parents, members[0])
    one, some = True, members[0] >= fresh
    for m in range(1, count):
        one = one and root(parents, members[m]) == first
        some = some or members[m] >= fresh
    if one or not some:
        return
    for b in range(1, count):
        for a in range(b):
            if members[a] < fresh and members[b] < fresh:
                continue
            apart = root(parents, members[a]) != root(parents, members[b])
            if apart and _alike(sketches, members[a], members[b], least, how):
                _unite(parents, members[a], members[b])


@njit(nogil=True, cache=True)
def _join(
    keys: NDArray[np.uint64],
    order: NDArray[np.int64],
    rows: NDArray[np.int64],
    begin: Int,
    fresh: Int,
    sketches: Sketches,
    least: Int,
    how: Int,
    equal: bool,
    parents: NDArray[np.int64],
) -> Int:
    """Join the pairs, equal or alike, of a stretch of whole buckets from `begin` on; returns where the next
    one begins.

    `rows` numbers what `keys` and `order` speak of; empty where they speak of all rows.
    """
    size = U(len(order))
    stop = min(size, U(begin + _BLOCK))
    members = np.empty(64, np.int64)
    i = U(begin)
    while i < stop:
        key = keys[U(order[i])]
        j = i + _ONE
        while j < size and keys[U(order[j])] == key:
            j += _ONE
        if j - i > U(len(members)):
            members = np.empty(np.int64(j - i), np.int64)
        count = 0
        if j - i > _ONE:
            for k in range(i, j):
                row = np.int64(order[k])
                if len(rows):
                    row = np.int64(rows[row])
                if parents[row] >= 0:  # not a copy
                    members[count] = row
                    count += 1
        if count > 1 and equal:
            _join_equal(members, count, sketches, parents)
        elif count > 1:
            _join_alike(members, count, fresh, sketches, least, how, parents)
        i = j
    return np.int64(i)


def join(
    sketches: Sketches,
    parents: NDArray[np.int64],
    passes: Sequence[Keys],
    least: int,
    how: int = EQUAL,
    fresh: int = 0,
    forget: Forget | None = None,
) -> None:
    """Join all rows with equal sketches, then in each pass the alike ones among those that share a key.

    Args:
        sketches: shape (rows, size); may lie in a file that is mapped into memory.
        parents: shape (rows,), the forest so far, changed in place; rows from `fresh` on stand alone in it.
        passes: each gives the keys of a stretch of rows.
        least: what two sketches that are alike have in common at least, counted as `how` says.
        how: `EQUAL`, `BITS` or `COSINE`.
        fresh: pairs of two rows before this one have been compared already.
        forget: called between stretches, to give pages of the mapped file back.
    """
    rows, size = sketches.shape
    sketches = sketches.view()
    sketches.flags.writeable = False  # or kernels would be compiled for both kinds of arrays

    def whole(start: int, stop: int) -> NDArray[np.uint64]:
        return part_keys(sketches[start:stop], 0, size)

    def prepare(keys_of: Keys) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        keys, chosen = _candidates(keys_of, rows, fresh, forget)
        if rows <= _FEW:
            some = _shared(keys)
            keys, chosen = keys[some], chosen[some] if len(chosen) else some
        return keys, chosen, np.argsort(keys)

    equal = True  # what the first pass asks for; no enumerate here, which would hold on to a pass's arrays
    for keys, chosen, order in _ahead(prepare, (whole, *passes), rows <= _FEW):
        at = 0
        while at < len(order):
            at = _join(keys, order, chosen, at, fresh, sketches, least, how, equal, parents)
            if forget is not None:
                forget()
        equal = False
        del keys, chosen, order  # before the next pass takes its own
    _unmark(parents)


def _ahead(prepare: Callable[[Keys], T], passes: Sequence[Keys], ahead: bool) -> Iterator[T]:
    """What `prepare` makes of each pass; if `ahead`, of the next ones while the present one is worked on."""
    if not ahead:
        yield from map(prepare, passes)
        return
    with ThreadPoolExecutor(_AHEAD) as pool:
        coming = [pool.submit(prepare, keys_of) for keys_of in passes[:_AHEAD]]
        for keys_of in passes[_AHEAD:]:
            present = coming.pop(0).result()
            coming.append(pool.submit(prepare, keys_of))
            yield present
        for present in coming:
            yield present.result()


def _candidates(
    keys_of: Keys, rows: int, fresh: int, forget: Forget | None
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Keys and numbers of the rows that can meet a fresh one; no numbers where these are all rows."""
    if fresh == 0:
        return _blocks(keys_of, 0, rows, forget), np.zeros(0, np.int64)
    new = _blocks(keys_of, fresh, rows, forget)
    wanted = np.unique(new)
    found_keys, found_rows = [new], [np.arange(fresh, rows, dtype=np.int64)]
    for start in range(0, fresh, _BLOCK):
        keys = keys_of(start, min(fresh, start + _BLOCK))
        hits = np.flatnonzero(_find(keys, wanted))
        found_keys.append(keys[hits])
        found_rows.append(start + hits)
        if forget is not None:
            forget()
    return np.concatenate(found_keys), np.concatenate(found_rows)


def _blocks(keys_of: Keys, start: int, stop: int, forget: Forget | None) -> NDArray[np.uint64]:
    keys = np.empty(stop - start, np.uint64)
    for at in range(start, stop, _BLOCK):
        end = min(stop, at + _BLOCK)
        keys[at - start : end - start] = keys_of(at, end)
        if forget is not None:
            forget()
    return keys
