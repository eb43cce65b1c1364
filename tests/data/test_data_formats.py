"""Web archives, folders of Hugging Face and Markdown with front matter: rows, fields, quarantine."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tillage.core.errors import UserError
from tillage.data.formats import Source, sources
from tillage.data.hugging_face import split_of
from tillage.data.reader import plan, read_all


def rows_of(kind: str, path: Path, **fields: Any) -> list[dict[str, Any]]:
    source: Source = sources.get(kind).load({"path": str(path), **fields}, "test")
    return [row for batch in read_all(plan([source])) for row in batch.to_pylist()]


def warc_record(kind: str, url: str, payload: bytes, mime: str = "text/html; charset=utf-8") -> bytes:
    """A record as ISO 28500 has it."""
    http = kind == "response"
    inner = f"HTTP/1.1 200 OK\r\nContent-Type: {mime}\r\n\r\n".encode() if http else b""
    head = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        "WARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-123456789abc>",
        "WARC-Date: 2026-01-02T03:04:05Z",
        *([f"WARC-Target-URI: {url}"] if url else []),
        f"Content-Type: {'application/http; msgtype=response' if http else mime}",
        f"Content-Length: {len(inner) + len(payload)}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + inner + payload + b"\r\n\r\n"


PAGES = [
    warc_record("warcinfo", "", b"software: test\r\n", "application/warc-fields"),
    warc_record("response", "http://a.example/1", "<html><p>Grüße, 漢字</p></html>".encode()),
    warc_record("response", "http://a.example/logo", b"\x89PNG", "image/png"),
    warc_record(
        "response",
        "http://b.example/2",
        "<p>café</p>".encode("latin-1"),
        "text/html; charset=iso-8859-1",
    ),
    warc_record("response", "http://b.example/3", b"<p>plain</p>" * 50, "text/html"),
]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz"])
def test_pages_of_a_web_archive(tmp_path: Path, name: str) -> None:
    members = [gzip.compress(page) for page in PAGES] if name.endswith(".gz") else PAGES
    (tmp_path / name).write_bytes(b"".join(members))
    rows = rows_of(
        "warc", tmp_path, domain_field="host", fields={"url": "string", "status": "int", "date": "string"}
    )
    assert [(row["line"], row["domain"], row["text"]) for row in rows] == [
        (2, "a.example", "<html><p>Grüße, 漢字</p></html>"),
        (4, "b.example", "<p>café</p>"),
        (5, "b.example", "<p>plain</p>" * 50),
    ]
    assert [row["url"] for row in rows] == ["http://a.example/1", "http://b.example/2", "http://b.example/3"]
    assert {row["status"] for row in rows} == {200}
    assert {row["date"] for row in rows} == {"2026-01-02T03:04:05Z"}


def test_texts_of_a_wet_file_and_its_bad_records(tmp_path: Path) -> None:
    texts = [
        warc_record("conversion", "http://a.example/1", "Grüße".encode(), "text/plain"),
        warc_record("conversion", "http://a.example/2", b"bad \xff bytes", "text/plain"),
        warc_record("conversion", "http://a.example/3", b"x" * 5_000, "text/plain"),
        warc_record("conversion", "http://a.example/4", b"the last", "text/plain"),
    ]
    (tmp_path / "a.wet.gz").write_bytes(b"".join(gzip.compress(text) for text in texts))
    rows = rows_of("warc", tmp_path, id_field="url", max_row_bytes=1_000)
    assert [row["text"] for row in rows] == ["Grüße", None, None, "the last"]
    assert [row["_drop"] for row in rows] == [None, "read:invalid_utf8", "read:too_long", None]
    assert [row["key"] for row in rows] == ["http://a.example/1", None, None, "http://a.example/4"]
    assert "a.wet.gz:2: byte 5 of the record is not UTF-8" in rows[1]["_detail"]


@pytest.mark.parametrize("cut", [0.4, 0.75, 0.97])
def test_an_archive_that_ends_early_says_so_and_keeps_what_it_held(tmp_path: Path, cut: float) -> None:
    pages = [
        warc_record("conversion", f"http://a/{i}", b"%d " % (i * 7919) * 400, "text/plain") for i in range(40)
    ]
    raw = b"".join(gzip.compress(page) for page in pages)
    (tmp_path / "cut.wet.gz").write_bytes(raw[: int(len(raw) * cut)])
    rows = rows_of("warc", tmp_path)
    assert rows[-1]["_drop"] == "read:truncated"
    whole = [row["text"] for row in rows if row["_drop"] is None]
    assert 0 < len(whole) < 40
    assert whole == [f"{i * 7919} " * 400 for i in range(len(whole))]


def test_what_is_no_web_archive_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(b"this is not a web archive\n" * 9)
    (row,) = rows_of("warc", tmp_path)
    assert row["_drop"] == "read:corrupt"


def test_fields_that_records_do_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wrong value") as caught:
        rows_of("warc", tmp_path, fields={"adress": "string"})
    assert "warc_id" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("validation/data-00000-of-00001.arrow", "validation"),
        ("dev.jsonl", "validation"),
        ("en/test-0.csv", "test"),
        ("data/contest.jsonl", None),
        ("trainer.jsonl", None),
    ],
)
def test_the_split_that_a_path_names(path: str, split: str | None) -> None:
    assert split_of(path) == split


def table(texts: list[str]) -> pa.Table:
    return pa.table({"text": texts, "n": list(range(len(texts)))})


def write_arrow(path: Path, content: pa.Table, stream: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opened(str(path), content.schema) as out:
        out.write_table(content, max_chunksize=2)


def test_splits_of_a_hugging_face_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(table(["a", "b"]), tmp_path / "data" / "train-00000-of-00002.parquet")
    (tmp_path / "data" / "train-00001-of-00002.jsonl").write_text(json.dumps({"text": "c", "n": 2}) + "\n")
    pq.write_table(table(["held out"]), tmp_path / "data" / "test-00000-of-00001.parquet")
    write_arrow(tmp_path / "data" / "cache-123-train.arrow", table(["a cache"]), True)
    (tmp_path / "README.md").write_text("# card\n")
    rows = rows_of("hugging_face", tmp_path, fields={"n": "int"})
    assert [(row["text"], row["n"]) for row in rows] == [("a", 0), ("b", 1), ("c", 2)]
    assert [row["text"] for row in rows_of("hugging_face", tmp_path, split="test")] == ["held out"]
    assert len(rows_of("hugging_face", tmp_path, split="")) == 4
    with pytest.raises(UserError, match="no split 'validation'") as caught:
        rows_of("hugging_face", tmp_path, split="validation")
    assert "test, train" in str(caught.value)


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_as_saved_to_disk(tmp_path: Path, stream: bool) -> None:
    texts = ["a", "b", "c", "d", "e"]
    write_arrow(tmp_path / "train" / "data-00000-of-00001.arrow", table(texts), stream)
    rows = rows_of("hugging_face", tmp_path, fields={"n": "int"})
    assert [(row["text"], row["n"], row["line"]) for row in rows] == [
        (t, i, i + 1) for i, t in enumerate(texts)
    ]
    path = tmp_path / "train" / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(UserError, match="not a whole Arrow file"):
        rows_of("hugging_face", tmp_path)


def test_front_matter_becomes_fields(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("---\ntitle: Füße\ntags: [x, y]\nyear: 2024\n---\n# Head\n---\ntext\n")
    (tmp_path / "b.md").write_text("no front matter\n")
    (tmp_path / "c.md").write_text("---\n- a list\n---\ntext\n")
    (tmp_path / "d.md").write_text("---\nyear: soon\n---\ntext\n")
    (tmp_path / "e.md").write_text("---\nkey: [open\n---\ntext\n")
    fields = {"title": "string", "tags": "string", "year": "int"}
    rows = rows_of("text", tmp_path, front_matter=True, fields=fields, domain_field="title")
    assert [(row["text"], row["domain"]) for row in rows[:2]] == [
        ("# Head\n---\ntext\n", "Füße"),
        ("no front matter\n", "default"),
    ]
    assert (rows[0]["tags"], rows[0]["year"], rows[1]["year"]) == ("x, y", 2024, None)
    bad = "read:malformed_front_matter"
    assert [row["_drop"] for row in rows[2:]] == [bad, "read:wrong_type", bad]
    plain = rows_of("text", tmp_path / "a.md")
    assert plain[0]["text"].startswith("---\ntitle")
    with pytest.raises(UserError, match="wrong value"):
        rows_of("text", tmp_path, fields=fields)
