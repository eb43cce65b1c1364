"""Exports hold the rows of the version, appear whole or not at all, and name where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from tillage.core.errors import UserError
from tillage.data import export as exporting
from tillage.data.dataset import Dataset
from tillage.data.export import LINEAGE_FILE, export

SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("text", pa.large_string()),
        ("domain", pa.large_string()),
        ("licence", pa.large_string()),
    ]
)
ROWS = [
    {
        "id": f"{i:032x}",
        "text": f"text {i} “漢字”\n",
        "domain": "a|b" if i % 2 else "c",
        "licence": "MIT" if i % 3 else None,
    }
    for i in range(10)
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset(tmp_path / "data" / "corpus")
    files: list[Path] = []
    for n, rows in enumerate((ROWS[:4], ROWS[4:])):
        path = tmp_path / f"{n}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
        files.append(path)
    step = {
        "step": "read",
        "op": "read",
        "rows_in": 12,
        "rows_out": 10,
        "dropped": {},
        "quarantined": {"corrupt": 2},
    }
    lineage: dict[str, Any] = {
        "run": "corpus-1", "digest": "1" * 32, "recipe": "name: corpus\n", "rows": 10, "bytes": 99,
        "accounts": [step], "inputs": [{"name": "a.jsonl", "size": 7, "digest": "d"}],
    }  # fmt: skip
    made.commit(files, SCHEMA, lineage)
    return Dataset.open(made.path)


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["id"])


def lines(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().stream_reader(raw).read()
    return [json.loads(line) for line in raw.decode().split("\n")[:-1]]


def test_parquet(tmp_path: Path, dataset: Dataset) -> None:
    written = export(dataset, "parquet", tmp_path / "out")
    files = [Path(file.path) for file in written]
    assert [file.stat().st_size for file in files] == [file.bytes for file in written]
    assert [file.name for file in files] == [
        LINEAGE_FILE,
        "part-00000-of-00002.parquet",
        "part-00001-of-00002.parquet",
    ]
    assert by_id(ds.dataset(tmp_path / "out", format="parquet").to_table().to_pylist()) == ROWS
    lineage = json.loads((tmp_path / "out" / LINEAGE_FILE).read_text())
    assert (lineage["dataset"], lineage["version"], lineage["run"]) == ("corpus", 0, "corpus-1")
    inside = {path.stat().st_ino for path in dataset.files()}
    assert not [file for file in files if file.stat().st_ino in inside], "a link, not a copy"


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.zst"])
def test_one_file_of_json_lines(tmp_path: Path, dataset: Dataset, name: str) -> None:
    (file,) = export(dataset, "jsonl", tmp_path / name)
    assert (file.path, file.bytes) == (str(tmp_path / name), (tmp_path / name).stat().st_size)
    assert by_id(lines(tmp_path / name)) == ROWS


def test_a_folder_of_json_lines(tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "SHARD_BYTES", 1)
    files = [Path(file.path) for file in export(dataset, "jsonl", tmp_path / "out")]
    parts = [file for file in files if file.name.startswith("part-")]
    assert len(parts) == 2
    assert by_id([row for part in parts for row in lines(part)]) == ROWS


def test_hugging_face_layout_with_a_card(tmp_path: Path, dataset: Dataset) -> None:
    files = export(dataset, "hf", tmp_path / "out")
    names = [Path(file.path).relative_to(tmp_path / "out").as_posix() for file in files]
    assert names == [
        "README.md",
        LINEAGE_FILE,
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]
    text = (tmp_path / "out" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    (config,) = yaml.safe_load(head)["configs"]
    (split,) = config["data_files"]
    found = sorted((tmp_path / "out").glob(split["path"]))
    assert split["split"] == "train"
    assert by_id([row for path in found for row in pq.read_table(path).to_pylist()]) == ROWS
    for said in (
        "| MIT | 6 |",
        "| none found | 4 |",
        "| a\\|b | 5 |",
        "name: corpus",
        "corrupt 2",
        "| a.jsonl | 7 | d |",
    ):
        assert said in body


def test_nothing_is_overwritten_and_nothing_half_written(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(UserError, match="there is something here already"):
        export(dataset, "parquet", tmp_path / "there")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.shutil, "copyfile", full)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space"):
        export(dataset, "hf", tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_version_is_exported_too(tmp_path: Path) -> None:
    made = Dataset(tmp_path / "none")
    made.commit([], SCHEMA, {"run": "r", "digest": "0" * 32, "recipe": "name: none\n", "rows": 0, "bytes": 0})
    opened = Dataset.open(made.path)
    export(opened, "hf", tmp_path / "hf")
    assert pq.read_table(next((tmp_path / "hf" / "data").iterdir())).schema.names == SCHEMA.names
    export(opened, "jsonl", tmp_path / "none.jsonl")
    assert (tmp_path / "none.jsonl").read_bytes() == b""
    assert len(export(opened, "jsonl", tmp_path / "folder")) == 2
