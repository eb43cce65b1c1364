"""Raw rows: what is quarantined and how it is told; nothing depends on blocks, splits or compression."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tillage.core.errors import UserError
from tillage.data import files, jsonl, scan
from tillage.data.reader import Inputs, plan, read_all, read_part
from tillage.data.rows import row_id
from tillage.data.sources import Csv, Jsonl, Parquet, Source, Text


def rows(*sources: Source) -> list[dict[str, Any]]:
    return table(plan(sources)).to_pylist()


def table(inputs: Inputs) -> pa.Table:
    return pa.Table.from_batches(list(read_all(inputs)), inputs.schema)


def reasons(found: list[dict[str, Any]]) -> list[str | None]:
    return [row["_drop"] for row in found]


def line(**record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


GOOD = line(text="a good line")


@pytest.mark.parametrize(
    ("bad", "reason", "said"),
    [
        (b'{"text": "cut\n', "malformed_json", "Unterminated string"),
        (b'{"text": "a"} and more\n', "malformed_json", "Extra data"),
        (b'{"text": "a"}{"text": "b"}\n', "malformed_json", "Extra data"),
        (b'["text"]\n', "malformed_json", "should hold an object"),
        (b"[" * 200_000 + b"\n", "malformed_json", "recursion"),
        (b'{"text": "\xff\xfe"}\n', "invalid_utf8", "byte 11 of the line"),
        (b'{"text": "\\ud800"}\n', "invalid_utf8", "lone surrogate"),
        (b'{"words": "no text"}\n', "missing_field", "field 'text' is missing"),
        (b'{"text": null}\n', "missing_field", "field 'text' is null"),
        (b'{"text": 5}\n', "wrong_type", "should be string, found 5"),
        (b'{"text": ["a"]}\n', "wrong_type", "should be string, found ['a']"),
        (b'{"text": "a", "stars": "five"}\n', "wrong_type", "field 'stars' should be int"),
        (b'{"text": "a", "stars": 1.5}\n', "wrong_type", "field 'stars' should be int"),
        (b'{"text": "a", "stars": 99999999999999999999}\n', "wrong_type", "field 'stars' should be int"),
        (b'{"text": "a", "stars": true}\n', "wrong_type", "field 'stars' should be int"),
    ],
)
def test_a_bad_line_is_quarantined_with_file_line_and_reason(
    tmp_path: Path, bad: bytes, reason: str, said: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD + b"\n" + bad + GOOD)
    found = rows(Jsonl(path=tmp_path, fields={"stars": "int"}))
    assert reasons(found) == [None, f"read:{reason}", None]
    assert [row["line"] for row in found] == [1, 3, 4]
    assert found[1]["text"] is None
    assert found[1]["_detail"].startswith("a.jsonl:3: ")
    assert said in found[1]["_detail"]
    assert found[0]["text"] == found[2]["text"] == "a good line"


def test_a_domain_and_a_key_come_from_fields_and_must_be_there(tmp_path: Path) -> None:
    records = [
        line(text="a", kind="prose", number=7),
        line(text="b", kind="code", number="x"),
        line(text="c", number="y"),
        line(text="d", kind="prose"),
    ]
    (tmp_path / "a.jsonl").write_bytes(b"".join(records))
    found = rows(Jsonl(path=tmp_path, domain_field="kind", id_field="number"))
    assert [(row["domain"], row["key"]) for row in found[:2]] == [("prose", "7"), ("code", "x")]
    assert reasons(found) == [None, None, "read:missing_field", "read:missing_field"]


def test_extra_fields_are_typed_and_null_where_absent(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(line(text="a", stars=2, score=1, ok=True, who="x") + line(text="b"))
    (tmp_path / "b.jsonl").write_bytes(line(text="c"))
    one = Jsonl(
        path=tmp_path / "a.jsonl", fields={"stars": "int", "score": "float", "ok": "bool", "who": "string"}
    )
    found = rows(one, Jsonl(path=tmp_path / "b.jsonl"))
    assert [found[0][name] for name in one.fields] == [2, 1.0, True, "x"]
    assert [found[1][name] for name in one.fields] == [found[2][name] for name in one.fields] == [None] * 4


def test_an_empty_file_gives_no_rows_beside_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl").write_bytes(GOOD)
    inputs = plan([Jsonl(path=tmp_path)])
    assert inputs.empty_files() == [str(tmp_path / "a.jsonl")]
    assert table(inputs).num_rows == 1


def test_only_empty_files_are_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match="all input files are empty"):
        plan([Jsonl(path=tmp_path)])


def test_a_glob_that_matches_nothing_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no input file matches") as caught:
        plan([Jsonl(path=tmp_path / "*.jsonl")])
    assert str(tmp_path / "*.jsonl") in str(caught.value)


def compress(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data, mtime=0)
    return zstandard.ZstdCompressor(level=1).compress(data)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_read_alike(tmp_path: Path, suffix: str) -> None:
    data = b"".join(line(text=f"number {i}") for i in range(1000))
    half = data.index(b"\n", len(data) // 2) + 1
    (tmp_path / "a.jsonl").write_bytes(data)
    plain = rows(Jsonl(path=tmp_path / "a.jsonl"))
    packed = tmp_path / f"b.jsonl{suffix}"
    packed.write_bytes(compress(data[:half], suffix) + compress(data[half:], suffix))
    found = rows(Jsonl(path=packed))
    assert [row["text"] for row in found] == [row["text"] for row in plain]
    assert [row["line"] for row in found] == list(range(1, 1001))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_truncated_file_keeps_the_rows_before_and_says_so(tmp_path: Path, suffix: str) -> None:
    data = b"".join(line(text=f"number {i * 7919 % 10007}") for i in range(40_000))
    packed = compress(data, suffix)
    (tmp_path / f"a.jsonl{suffix}").write_bytes(packed[: len(packed) * 3 // 4])
    found = rows(Jsonl(path=tmp_path))
    assert 1000 < len(found) < 40_000
    assert reasons(found[:-1]) == [None] * (len(found) - 1)
    assert found[-1]["_drop"] == "read:truncated"
    assert found[-1]["line"] == len(found)


def test_a_spoilt_gz_is_quarantined_as_corrupt(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"this was never compressed")
    assert reasons(rows(Jsonl(path=tmp_path))) == ["read:corrupt"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_of_20_mb_is_read(tmp_path: Path, suffix: str) -> None:
    long = line(text="word " * 4_000_000)
    data = GOOD + long + GOOD
    (tmp_path / f"a.jsonl{suffix}").write_bytes(gzip.compress(data, 1, mtime=0) if suffix else data)
    found = rows(Jsonl(path=tmp_path))
    assert reasons(found) == [None, None, None]
    assert [len(row["text"]) for row in found] == [11, 20_000_000, 11]


@pytest.mark.parametrize("limit", [100, 10 << 20])
def test_a_line_over_the_limit_is_quarantined_and_the_next_is_read(tmp_path: Path, limit: int) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD + line(text="x" * (20 << 20)) + GOOD + line(text="y" * 200))
    found = rows(Jsonl(path=tmp_path, max_row_bytes=limit))
    assert reasons(found)[:3] == [None, "read:too_long", None]
    assert [row["line"] for row in found] == [1, 2, 3, 4]
    assert f"the limit is {limit}" in found[1]["_detail"]
    assert found[3]["_drop"] == ("read:too_long" if limit == 100 else None)


def test_a_long_line_is_never_held_whole() -> None:
    size = 0

    def endless() -> Any:
        nonlocal size
        yield b'{"text": "'
        for _ in range(100):
            size += 1 << 20
            yield b"x" * (1 << 20)
        yield b'"}\n' + GOOD

    held = list(jsonl.blocks(endless(), 9 << 20))
    assert size == 100 << 20
    assert isinstance(held[0], jsonl.Fault)
    assert held[1] == GOOD


def test_a_bom_and_carriage_returns_are_let_through(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") * 2)
    found = rows(Jsonl(path=tmp_path))
    assert reasons(found) == [None, None]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
lines = st.one_of(
    texts.map(lambda t: line(text=t, stars=len(t))),
    texts.map(lambda t: json.dumps({"text": t, "other": [t]}).encode() + b"\n"),
    st.sampled_from(
        [
            b"\n",
            b"  \r\n",
            b"{}\n",
            b'{"text": 1}\n',
            b'{"text": "\xf0\x9f"}\n',
            b'{"text":\n',
            b'"a"}\n',
            b'{"text": "a"}{"text": "b"}\n',
            b' {"text": "a", "text": "b"}\n',
            b'{"text": "a", "stars": null}\r\n',
        ]
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, min_size=1, max_size=30), st.integers(1, 200), st.booleans())
def test_rows_do_not_depend_on_blocks_or_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: list[bytes], block: int, whole_end: bool
) -> None:
    data = b"".join(content)
    (tmp_path / "a.jsonl").write_bytes(data if whole_end else data.rstrip(b"\n") or b" ")
    source = Jsonl(path=tmp_path / "a.jsonl", fields={"stars": "int"})
    whole = table(plan([source])).to_pylist()
    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "BLOCK", block)
        patch.setattr(scan, "CHUNK", max(16, block))
        patch.setattr(scan, "SPLIT", 32)
        inputs = plan([source])
        assert table(inputs).to_pylist() == whole
    slow = [row for batch in jsonl._slow(data, "a.jsonl", 1, source.columns(), inputs.schema)
            for row in batch.to_pylist()]  # fmt: skip
    assert slow == whole


def test_ids_are_stable_and_do_not_know_where_the_folder_lies(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "sub").mkdir(parents=True)
        (tmp_path / place / "sub" / "a.jsonl").write_bytes(GOOD * 3)
    one, two = (rows(Jsonl(path=tmp_path / place)) for place in ("one", "two"))
    assert one == two
    assert [row["id"] for row in one] == [row_id("sub/a.jsonl", n) for n in (1, 2, 3)]
    assert row_id("sub/a.jsonl", 1) == "e46005b3889f8afa0fb9c3c4dc39c073"  # b2sum -l 128


def test_files_alike_in_name_get_ids_of_their_own(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.jsonl").write_bytes(GOOD)
    found = rows(Jsonl(path=tmp_path / "one"), Jsonl(path=tmp_path / "two"))
    assert len({row["id"] for row in found}) == 2
    assert [row["source"] for row in found] == ["a.jsonl", "2:a.jsonl"]


def test_a_file_named_twice_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    with pytest.raises(UserError, match="read by two sources"):
        plan([Jsonl(path=tmp_path), Jsonl(path=tmp_path / "a.jsonl")])


@pytest.mark.parametrize("change", ["vanish", "grow"])
def test_a_file_that_vanishes_or_changes_is_named(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD)
    inputs = plan([Jsonl(path=path)])
    if change == "vanish":
        path.unlink()
    else:
        path.write_bytes(GOOD * 2)
    with pytest.raises(UserError, match=r"vanished|changed") as caught:
        list(read_part(inputs.sources, inputs.parts[0], inputs.schema))
    assert caught.value.where == str(path)


def test_digests_are_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "a.jsonl", tmp_path / "cache.json"
    path.write_bytes(GOOD)
    first = plan([Jsonl(path=path)], cache).files
    with monkeypatch.context() as patch:
        patch.setattr(files, "_scan", lambda *_: pytest.fail("read again"))
        assert plan([Jsonl(path=path)], cache).files == first
    stat = path.stat()
    path.write_bytes(GOOD.replace(b"good", b"poor"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert plan([Jsonl(path=path)], cache).files[0].digest != first[0].digest


def test_text_files_are_a_row_each(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "sub" / "b.md").write_text("# three")
    (tmp_path / "c.txt").write_bytes(b"\xff")
    (tmp_path / "d.txt").write_text("x" * 50)
    found = rows(Text(path=tmp_path, domain="notes", max_row_bytes=40))
    assert [(row["source"], row["text"], row["_drop"]) for row in found] == [
        ("a.txt", "one\ntwo", None),
        ("c.txt", None, "read:invalid_utf8"),
        ("d.txt", None, "read:too_long"),
        ("sub/b.md", "# three", None),
    ]


def test_csv_rows_keep_their_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b'text,stars\r\n"quoted\nnewline",3\r\nplain,\r\nshort\r\nbad,many\r\n\xff,1\r\nlast,5\r\n'
    )
    found = rows(Csv(path=tmp_path, fields={"stars": "int"}))
    assert [(row["line"], row["text"], row["stars"], row["_drop"]) for row in found] == [
        (2, "quoted\nnewline", 3, None),
        (4, "plain", None, None),
        (5, None, None, "read:malformed_csv"),
        (6, None, None, "read:wrong_type"),
        (7, None, None, "read:invalid_utf8"),
        (8, "last", 5, None),
    ]


def test_csv_without_the_column_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("txt,b\nx,1\n")
    with pytest.raises(UserError, match="did you mean 'txt'"):
        rows(Csv(path=tmp_path))


def test_parquet_is_read_by_row_groups_with_stable_numbers(tmp_path: Path) -> None:
    data = pa.table(
        {"text": ["a", None, "c", "d"], "n": pa.array([1, 2, 3, 4], pa.int32()), "k": [9, 8, 7, 6]}
    )
    pq.write_table(data, tmp_path / "a.parquet", row_group_size=2)
    inputs = plan([Parquet(path=tmp_path, fields={"n": "int"}, id_field="k")])
    assert len(inputs.parts) == 2
    found = table(inputs).to_pylist()
    assert [(row["line"], row["text"], row["_drop"]) for row in found] == [
        (1, "a", None),
        (2, None, "read:missing_field"),
        (3, "c", None),
        (4, "d", None),
    ]
    assert [(row["n"], row["key"]) for row in found if row["_drop"] is None] == [(1, "9"), (3, "7"), (4, "6")]


def test_parquet_text_that_is_not_utf8_is_quarantined(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff", b"fine"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    found = rows(Parquet(path=tmp_path))
    assert [(row["text"], row["_drop"]) for row in found] == [
        ("good", None),
        (None, "read:invalid_utf8"),
        ("fine", None),
    ]


def test_parquet_of_the_wrong_shape_is_the_users_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"texts": ["a"], "n": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="did you mean 'texts'"):
        plan([Parquet(path=tmp_path)])
    with pytest.raises(UserError, match="wrong type"):
        plan([Parquet(path=tmp_path, text_field="texts", fields={"n": "int"})])
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="not a whole Parquet file"):
        plan([Parquet(path=tmp_path)])


@pytest.mark.parametrize(
    ("cls", "fields", "said"),
    [
        (Jsonl, {"fields": {"id": "int"}}, "made by the reader"),
        (Jsonl, {"fields": {"_x": "int"}}, "made by the reader"),
        (Jsonl, {"domain": "a", "domain_field": "b"}, "not both"),
        (Text, {"fields": {"a": "int"}}, "no fields"),
        (Jsonl, {"fields": {"a": "date"}}, "'string', 'int', 'float' or 'bool'"),
    ],
)
def test_sources_that_make_no_sense_are_refused(cls: type[Source], fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        cls.load({"path": "x", **fields}, "recipe")


def test_sources_that_disagree_on_a_column_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "b.jsonl").write_bytes(GOOD)
    with pytest.raises(UserError, match="different types"):
        plan(
            [
                Jsonl(path=tmp_path / "a.jsonl", fields={"n": "int"}),
                Jsonl(path=tmp_path / "b.jsonl", fields={"n": "string"}),
            ]
        )
