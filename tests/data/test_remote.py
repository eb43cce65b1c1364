"""Sources behind S3 URLs, read from a server on the loopback."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import serving

from tillage.core.errors import UserError
from tillage.core.workspace import Workspace
from tillage.data.dataset import Dataset
from tillage.data.export import Format, export
from tillage.data.files import Part
from tillage.data.hugging_face import HuggingFace
from tillage.data.reader import plan, read_all
from tillage.data.sources import Csv, Jsonl, Parquet, Source, Text
from tillage.flow.recipe import Recipe
from tillage.flow.run import run

Store = tuple[dict[str, bytes], list[tuple[str, str]]]
LINES = b"".join(b'{"text": "line %d of the wheat harvest", "n": %d}\n' % (i, i) for i in range(50))


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(10)]}), out, row_group_size=4)
    return out.getvalue()


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    objects: dict[str, bytes] = {
        "raw/a.jsonl": LINES,
        "raw/deep/b c.jsonl": b'{"text": "one more", "n": 7}\n',
        "raw/packed.jsonl.gz": gzip.compress(b'{"text": "packed", "n": 1}\n'),
        "tables/t.parquet": _parquet(),
        "tables/t.csv": b'text,n\n"two\nlines",3\n',
        "notes/n.md": b"# Weizen\n",
    }
    with serving({"bucket": objects}) as (url, requests), pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield objects, requests


def texts(source: Source) -> list[str]:
    return [t for batch in read_all(plan([source])) for t in batch.column("text").to_pylist()]


def test_folders_globs_and_files_are_found_and_read(store: Store) -> None:
    assert len(texts(Jsonl(path=("s3://bucket/raw",)))) == 52
    assert len(texts(Jsonl(path=("s3://bucket/raw/*.jsonl",)))) == 50
    assert texts(Jsonl(path=("s3://bucket/raw/deep/b c.jsonl",))) == ["one more"]
    assert texts(Jsonl(path=("s3://bucket/raw/packed.jsonl.gz",))) == ["packed"]
    assert texts(Parquet(path=("s3://bucket/tables/t.parquet",))) == [f"row {i}" for i in range(10)]
    assert texts(Csv(path=("s3://bucket/tables",))) == ["two\nlines"]
    assert texts(Text(path=("s3://bucket/notes/*",))) == ["# Weizen\n"]


def test_names_are_below_the_root_as_for_local_files(store: Store) -> None:
    names = [file.name for file in plan([Jsonl(path=("s3://bucket/raw",))]).files]
    assert names == ["a.jsonl", "deep/b c.jsonl", "packed.jsonl.gz"]


def test_what_is_not_there_is_a_clear_error(store: Store, tmp_path: Path) -> None:
    for url in ("s3://bucket/none/*.jsonl", "s3://bucket/raw/none.jsonl", "s3://bucket/notes"):
        with pytest.raises(UserError, match="no input file matches") as told:
            plan([Jsonl(path=(url,))])
        assert told.value.got == url
    with pytest.raises(UserError, match="local paths and URLs"):
        plan([Jsonl(path=("s3://bucket/raw", str(tmp_path)))])


def test_a_run_reads_a_bucket_as_it_reads_a_folder(store: Store, tmp_path: Path) -> None:
    objects, _ = store
    local = tmp_path / "raw"
    for key in ("raw/a.jsonl", "raw/deep/b c.jsonl", "raw/packed.jsonl.gz"):
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(objects[key])
    digests = []
    for place, path in (("far", "s3://bucket/raw"), ("near", str(local))):
        text = f"name: wheat\nsources:\n- jsonl: {{path: {path}, domain: d}}\nsteps:\n- exact_dedup\n"
        recipe = Recipe.from_yaml(text, base=tmp_path)
        digests.append(run(recipe, Workspace.default(tmp_path / place)).digest)
    assert digests[0] == digests[1]


def test_exports_to_a_bucket_are_sources(store: Store, tmp_path: Path) -> None:
    recipe = Recipe.from_yaml(
        "name: wheat\nsources:\n- jsonl: {path: s3://bucket/raw, domain: d}\nsteps: []\n", base=tmp_path
    )
    made = run(recipe, Workspace.default(tmp_path / "space")).dataset
    assert made is not None
    dataset = Dataset.open(*made)
    rows = sorted(texts(Jsonl(path=("s3://bucket/raw",))))
    kinds: tuple[tuple[Format, type[Source]], ...] = (
        ("parquet", Parquet),
        ("jsonl", Jsonl),
        ("hf", HuggingFace),
    )
    for to, source in kinds:
        export(dataset, to, f"s3://bucket/made/{to}")
        assert sorted(texts(source(path=(f"s3://bucket/made/{to}",)))) == rows


def test_an_object_replaced_by_one_of_the_same_size_is_noticed(store: Store, tmp_path: Path) -> None:
    objects, _ = store
    objects["changing/a.jsonl"] = b'{"text": "before"}\n'
    inputs = plan([Jsonl(path=("s3://bucket/changing",))])
    assert list(read_all(inputs))
    objects["changing/a.jsonl"] = b'{"text": "beyond"}\n'
    with pytest.raises(UserError, match="changed while the run") as told:
        list(read_all(inputs))
    assert told.value.where == "s3://bucket/changing/a.jsonl"
    assert told.value.got == "19 bytes that were written since"
    objects["changing/a.jsonl"] += b"\n"
    with pytest.raises(UserError, match="changed while the run") as told:
        list(read_all(inputs))
    assert told.value.got == "20 bytes"
    del objects["changing/a.jsonl"]
    with pytest.raises(UserError, match="an input file vanished"):
        list(read_all(inputs))


@pytest.mark.parametrize("far", [True, False])
def test_a_run_ends_when_a_file_is_replaced_while_it_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: bool
) -> None:
    objects, _ = store
    before, after = (b'{"text": "%s"}\n' % word for word in (b"before", b"beyond"))
    near = tmp_path / "swap"
    near.mkdir()

    def put(content: bytes) -> None:
        objects["swap/a.jsonl"] = content
        (near / "a.jsonl").write_bytes(content)

    put(before)
    really = Jsonl.read

    def read(self: Jsonl, part: Part, columns: pa.Schema) -> Iterator[pa.RecordBatch]:
        yield from really(self, part, columns)
        put(after)

    monkeypatch.setattr(Jsonl, "read", read)
    path = "s3://bucket/swap" if far else near
    text = f"name: swap\nsources:\n- jsonl: {{path: {path}, domain: d}}\nsteps: []\n"
    space = Workspace.default(tmp_path / "space")
    with pytest.raises(UserError, match="changed while the run"):
        run(Recipe.from_yaml(text, base=tmp_path), space)
    assert not (space.datasets / "swap").exists()
