"""Misspelt fields are told from the heads of the files, before anything is read in full."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from tillage.core.errors import UserError
from tillage.data import files
from tillage.data.reader import plan
from tillage.data.rows import excerpt
from tillage.data.sources import Jsonl


def write(path: Path, *records: object) -> Path:
    data = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    packers = {".gz": gzip.compress, ".zst": zstandard.compress}
    path.write_bytes(packers.get(path.suffix, bytes)(data))
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("fields", "role", "hint"),
    [
        ({"text_field": "boddy"}, "text_field", "did you mean 'body'?"),
        ({"text_field": "body", "domain_field": "kin"}, "domain_field", "did you mean 'kind'?"),
        ({"text_field": "body", "id_field": "zz"}, "id_field", "valid: body, kind"),
    ],
)
def test_a_field_that_no_record_has_is_told_before_reading(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    fields: dict[str, str],
    role: str,
    hint: str,
) -> None:
    path = write(tmp_path / f"a.jsonl{suffix}", *[{"body": "b", "kind": "k"}] * 3)
    monkeypatch.setattr(files.Inventory, "look", lambda *_: pytest.fail("the whole file was read"))
    with pytest.raises(UserError, match="no record has the field") as caught:
        plan([Jsonl(path=(str(path),), **fields)])  # type: ignore[arg-type]
    assert role in str(caught.value.where)
    assert str(path) in str(caught.value.got)
    assert caught.value.hint == hint


def test_a_field_that_some_records_have_is_fine(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"other": 1}, [1], {"other": 2})
    write(tmp_path / "b.jsonl", {"text": "b"})
    assert plan([Jsonl(path=(str(tmp_path),))]).unseen == ()


def test_what_cannot_be_read_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\x00\n" * 9)
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    assert plan([Jsonl(path=(str(tmp_path),))]).unseen == ()


def test_an_optional_field_that_was_not_seen_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "a", "stars": 3})
    (said,) = plan([Jsonl(path=(str(path),), fields={"stars": "int", "starz": "int"})]).unseen
    assert "'starz'" in said
    assert "did you mean 'stars'?" in said


def test_an_excerpt_holds_nothing_that_a_terminal_would_obey() -> None:
    assert excerpt("a\x1b[31mred\x07 b\n c") == "a\ufffd[31mred\ufffd b c"
