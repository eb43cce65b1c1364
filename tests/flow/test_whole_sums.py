"""Checksums that are taken while a file is written are those of what then lies on disk."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from tillage.core.whole import SummedFile, checksum, damage, make_whole
from tillage.data import stored


def test_sums_taken_while_writing_are_those_of_the_file(tmp_path: Path) -> None:
    batch = pa.record_batch({"text": pa.array(["one", None, "three"] * 5000, pa.large_string())})

    def fill(folder: Path) -> dict[str, list[int]]:
        with SummedFile(folder / "bytes") as raw:
            for n in (0, 1, 70_000):
                assert raw.write(random.Random(n).randbytes(n)) == n
        with SummedFile(folder / "rows.arrow") as file, stored.writer(file, batch.schema) as out:
            out.write_batch(batch)
            out.write_batch(batch)
        (folder / "other").write_text("not known beforehand")
        return {"bytes": raw.sum, "rows.arrow": file.sum}

    folder = tmp_path / "whole"
    assert make_whole(folder, fill)
    assert damage(folder) is None
    assert (folder / "bytes").stat().st_size == 70_001
    assert stored.size(folder / "rows.arrow") == (30_000, (folder / "rows.arrow").stat().st_size)
    with (folder / "bytes").open("ab") as file:
        file.write(b"x")
    assert damage(folder) == f"{folder / 'bytes'} is not what was written"


def test_a_disk_that_is_full_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"), SummedFile(Path("/dev/full")) as file:
        file.write(b"some")
    assert checksum(Path("/dev/null")) == 0
