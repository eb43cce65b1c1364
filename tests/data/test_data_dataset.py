"""Dataset versions: atomic, with lineage, never committed twice, readable back to the same digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tillage.core.errors import UserError
from tillage.data.dataset import Dataset, storable
from tillage.kernels.digest import TableDigest

SCHEMA = pa.schema([("id", pa.large_string()), ("text", pa.large_string()), ("n", pa.int64())])


def parquet(path: Path, texts: list[str]) -> tuple[Path, str]:
    table = pa.table([[f"{t}-id" for t in texts], texts, list(range(len(texts)))], schema=SCHEMA)
    pq.write_table(table, path)
    return path, TableDigest().update(table.combine_chunks().to_batches()[0]).hexdigest()


def lineage(run: str, digest: str) -> dict[str, Any]:
    return {"run": run, "digest": digest, "recipe": "name: ä\n"}


def read(dataset: Dataset) -> list[str]:
    return [text for batch in dataset.batches(["text"]) for text in batch.column(0).to_pylist()]


def test_versions_replace_each_other_and_stay_readable(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data")
    one, digest_one = parquet(tmp_path / "one.parquet", ["a", "b"])
    two, digest_two = parquet(tmp_path / "two.parquet", ["c"])
    assert dataset.commit([one], SCHEMA, lineage("run-1", digest_one)) == 0
    assert dataset.commit([two], SCHEMA, lineage("run-2", digest_two)) == 1
    assert read(Dataset.open(dataset.path)) == ["c"]
    assert read(Dataset.open(dataset.path, 0)) == ["a", "b"]
    assert Dataset.open(dataset.path).count() == 1
    assert dataset.lineage(0) == lineage("run-1", digest_one)
    assert [entry.version for entry in dataset.history()] == [1, 0]


def test_a_finished_run_is_not_committed_twice(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data")
    one, digest = parquet(tmp_path / "one.parquet", ["a", "b"])
    assert dataset.commit([one], SCHEMA, lineage("run-1", digest)) == 0
    assert dataset.commit([one], SCHEMA, lineage("run-1", digest)) == 0
    assert len(dataset.history()) == 1


def test_the_same_run_with_other_content_leaves_the_old_version_alone(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data")
    one, digest_one = parquet(tmp_path / "one.parquet", ["a", "b"])
    two, digest_two = parquet(tmp_path / "two.parquet", ["c"])
    dataset.commit([one], SCHEMA, lineage("run-1", digest_one))
    dataset.commit([two], SCHEMA, lineage("run-1", digest_two))
    assert read(Dataset.open(dataset.path, 0)) == ["a", "b"]


def test_a_commit_that_died_half_way_is_invisible_and_can_be_repeated(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data")
    one, digest = parquet(tmp_path / "one.parquet", ["a"])
    dataset.path.mkdir()
    name = f"run-1-{digest[:12]}-00000.zstd.parquet"
    (dataset.path / name).write_bytes(b"half a file")
    assert not dataset.exists()
    dataset.commit([one], SCHEMA, lineage("run-1", digest))
    assert read(Dataset.open(dataset.path)) == ["a"]


def test_an_empty_result_is_a_version_too(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data")
    dataset.commit([], SCHEMA, lineage("run-1", "0" * 32))
    opened = Dataset.open(dataset.path)
    assert read(opened) == []
    assert opened.schema().names == SCHEMA.names


def test_what_is_read_back_has_the_digest_of_what_was_written(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data")
    one, digest = parquet(tmp_path / "one.parquet", ["a", "ß", "漢字"])
    dataset.commit([one], SCHEMA, lineage("run-1", digest))
    again = TableDigest()
    for batch in Dataset.open(dataset.path).batches(batch_rows=1):
        assert batch.schema.field("text").type == pa.large_string()
        again.update(batch)
    assert again.hexdigest() == digest


def test_no_dataset_and_no_such_version_are_the_users_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset here"):
        Dataset.open(tmp_path / "none")
    one, digest = parquet(tmp_path / "one.parquet", ["a"])
    Dataset(tmp_path / "data").commit([one], SCHEMA, lineage("run-1", digest))
    with pytest.raises(UserError, match="no such version"):
        Dataset.open(tmp_path / "data", 7)


def test_types_that_delta_lacks_become_those_it_has() -> None:
    assert storable(pa.uint16()) == pa.int64()
    assert storable(pa.null()) == pa.large_string()
    assert storable(pa.float16()) == pa.float32()
    assert storable(pa.dictionary(pa.int8(), pa.string())) == pa.string()
    assert storable(pa.list_(pa.int32())) == pa.list_(pa.int32())


def test_an_old_version_tells_its_own_lineage(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "data")
    for number, text in enumerate("abc"):
        file, digest = parquet(tmp_path / f"{text}.parquet", [text])
        assert dataset.commit([file], SCHEMA, lineage(f"run-{text}", digest)) == number
    for number, text in enumerate("abc"):
        old = Dataset.open(dataset.path, number)
        assert old.lineage()["run"] == f"run-{text}"
        assert [entry.version for entry in old.history()] == [2, 1, 0]
