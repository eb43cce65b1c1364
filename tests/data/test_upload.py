"""Exports to S3 URLs, sent to a server on the loopback: whole or not at all, and clear errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import serving

from tillage.cli.main import main
from tillage.core.errors import UserError, WorkFailed
from tillage.data import export as exporting
from tillage.data.dataset import Dataset
from tillage.data.export import LINEAGE_FILE, Format, export
from tillage.data.upload import uploading

SCHEMA = pa.schema([(name, pa.large_string()) for name in ("id", "text", "domain")])
ROWS = [{"id": f"{i:032x}", "text": f"text {i} “漢字”\n", "domain": "d"} for i in range(10)]
BLOCK = 5 << 20
"""The least size of a part of a file that stores take."""
Refuse = Callable[[str, str, dict[str, str]], tuple[int, bytes] | None]


class Store:
    """A bucket, what was asked of it, and what it refuses."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse: Refuse = lambda method, key, query: None

    @property
    def keys(self) -> list[str]:
        return sorted(key for key in self.objects if not key.endswith("/"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store()
    with serving({"bucket": made.objects}, "somebody", lambda *asked: made.refuse(*asked)) as (url, requests):
        made.requests = requests
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (
            ("AWS_ENDPOINT_URL", url),
            ("AWS_ACCESS_KEY_ID", "somebody"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset(tmp_path / "data" / "corpus")
    files: list[Path] = []
    for n, rows in enumerate((ROWS[:4], ROWS[4:])):
        files.append(tmp_path / f"{n}.parquet")
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), files[-1])
    lineage: dict[str, Any] = {"run": "corpus-1", "digest": "1" * 32, "recipe": "name: corpus\n", "rows": 10}
    made.commit(files, SCHEMA, lineage)
    return Dataset.open(made.path)


@pytest.mark.parametrize(
    ("to", "url"),
    [
        ("parquet", "s3://bucket/out/rows/"),
        ("jsonl", "s3://bucket"),
        ("jsonl", "s3://bucket/out.jsonl"),
        ("jsonl", "s3://bucket/a b/out.jsonl.zst"),
        ("hf", "s3://bucket/hub"),
    ],
)
def test_what_is_sent_is_the_files_that_a_folder_gets(
    store: Store, dataset: Dataset, tmp_path: Path, to: Format, url: str
) -> None:
    sent = export(dataset, to, url)
    near = export(dataset, to, tmp_path / f"near{''.join(Path(url).suffixes)}")
    assert [file.bytes for file in sent] == [file.bytes for file in near]
    assert store.keys == [file.path.removeprefix("s3://bucket/") for file in sent]
    for far, file in zip(store.keys, near, strict=True):
        assert store.objects[far] == Path(file.path).read_bytes()


def test_the_lineage_comes_last(store: Store, dataset: Dataset) -> None:
    kinds: tuple[Format, ...] = ("parquet", "jsonl", "hf")
    for to in kinds:
        export(dataset, to, f"s3://bucket/{to}")
        written = [key for method, key in store.requests if method == "PUT" and key.startswith(f"{to}/")]
        assert written[-1] == f"{to}/{LINEAGE_FILE}" and len(written) > 1


def test_a_file_of_many_parts(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"".join(i.to_bytes(4, "big") for i in range(3 * BLOCK // 4 + 1)))
    with uploading("s3://bucket/large") as upload:
        assert upload.put(file) == "s3://bucket/large"
    assert store.objects["large"] == file.read_bytes()
    assert len([method for method, key in store.requests if (method, key) == ("PUT", "large")]) > 1


def test_what_is_there_is_not_touched(store: Store, dataset: Dataset) -> None:
    store.objects.update({"there/deep/file": b"1", "one.jsonl": b"2"})
    before = dict(store.objects)
    places: tuple[tuple[Format, str], ...] = (
        ("parquet", "s3://bucket/there"),
        ("hf", "s3://bucket"),
        ("jsonl", "s3://bucket/one.jsonl"),
        ("jsonl", "s3://bucket/there/deep/file"),
    )
    for to, url in places:
        with pytest.raises(UserError, match="there is something here already") as told:
            export(dataset, to, url)
        assert told.value.where == url
    assert store.objects == before
    export(dataset, "parquet", "s3://bucket/ther")  # the beginning of a name is not a folder


def test_an_export_that_fails_takes_back_what_it_sent(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.objects["other"] = b"1"

    def broken(method: str, key: str, query: dict[str, str]) -> tuple[int, bytes] | None:
        ends = method == "POST" and "uploads" not in query and "00001" in key
        return (400, b"<Error><Code>EntityTooSmall</Code></Error>") if ends else None

    store.refuse = broken
    with pytest.raises(WorkFailed, match="the store failed") as failed:
        export(dataset, "parquet", "s3://bucket/out")
    assert failed.value.where == "s3://bucket/out/part-00001-of-00002.parquet"
    assert store.keys == ["other"]

    def read_only(method: str, key: str, query: dict[str, str]) -> tuple[int, bytes] | None:
        return (403, b"<Error><Code>AccessDenied</Code></Error>") if method in ("PUT", "POST") else None

    store.refuse = read_only
    with pytest.raises(UserError, match="the store refuses") as refused:
        export(dataset, "parquet", "s3://bucket/out")
    assert not isinstance(refused.value, WorkFailed)
    store.refuse = lambda method, key, query: None

    def full(*args: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "_write_text", full)
        with pytest.raises(OSError, match="No space"):
            export(dataset, "hf", "s3://bucket/out")
    assert store.keys == ["other"]
    export(dataset, "hf", "s3://bucket/out")  # what was taken back is in nobody's way
    assert "out/README.md" in store.keys


def test_what_cannot_be_written_is_a_clear_error(
    store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="there is no such bucket") as told:
        export(dataset, "parquet", "s3://none/out")
    assert told.value.got == "none"
    for url in ("s3://", "s3:///out", "s3://bucket//out", "gs://bucket/out"):
        with pytest.raises(UserError, match="cannot write to such a URL") as told:
            export(dataset, "parquet", url)
        assert told.value.where == url
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(UserError, match="the store refuses") as told:
        export(dataset, "parquet", "s3://bucket/out")
    assert "AWS_ACCESS_KEY_ID" in str(told.value.hint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the store cannot be asked"):
        export(dataset, "parquet", "s3://bucket/out")
    assert store.keys == []


def test_the_commands(
    store: Store, dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*argv: str) -> tuple[int, dict[str, Any]]:
        capfd.readouterr()
        code = main([*argv, "--workspace", str(tmp_path / "space"), "--json"])
        return code, json.loads(capfd.readouterr().out.splitlines()[-1])

    code, told = run("export", str(dataset.path), "s3://bucket/out", "--to", "parquet", "--dry-run")
    assert (code, told["writes"], store.keys) == (0, ["s3://bucket/out"], [])
    code, told = run("export", str(dataset.path), "s3://bucket/out", "--to", "parquet")
    assert (code, told["path"]) == (0, "s3://bucket/out")
    assert told["files"] == [f"s3://bucket/{key}" for key in store.keys]
    assert told["bytes"] == sum(map(len, store.objects.values()))
    code, told = run("export", str(dataset.path), "s3://bucket/out", "--to", "parquet")
    assert (code, told["error"]) == (2, "there is something here already")


def test_packed_tokens_are_sent_with_the_manifest_last(
    store: Store, dataset: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tokenizers")
    folder = tmp_path / "store"
    argv = ["tokenize", str(dataset.path), "--vocab", "300", "--store", str(folder), "--json"]
    assert main([*argv, "--send", "s3://bucket/tokens"]) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["sent"] == "s3://bucket/tokens"
    near = {f"tokens/{file.name}": file.read_bytes() for file in folder.iterdir()}
    assert store.objects == near
    assert [key for method, key in store.requests if method == "PUT"][-1] == "tokens/manifest.json"
    assert main([*argv, "--send", "s3://bucket/tokens"]) == 2
