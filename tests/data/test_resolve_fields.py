"""Roles of fields, and sources that read every schema of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tillage.core.workspace import Workspace
from tillage.data.fields import resolve_fields, roles
from tillage.data.sources import Jsonl
from tillage.flow.recipe import Recipe
from tillage.flow.run import run

TEXT = "The rain came early that year, and the field was ploughed before the first frost of November {}."


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_roles_by_values() -> None:
    records: list[dict[str, Any]] = [
        {
            "uid": f"a{i}", "body": TEXT.format(i), "title": f"On the rain of {i}", "kind": "ab"[i % 2],
            "when": f"2024-01-{i + 1:02d}", "link": f"https://example.org/{i}", "n": i,
            "messages": [{"role": "user", "content": "hello"}],
        }
        for i in range(30)
    ]  # fmt: skip
    assert roles(records) == {
        "uid": "id", "body": "text", "title": "title", "kind": "label", "when": "date", "link": "url",
        "n": "number", "messages": "messages",
    }  # fmt: skip


def test_every_schema_of_a_folder_is_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write(data / "a.jsonl", [{"text": TEXT.format(i)} for i in range(20)])
    write(data / "b.jsonl", [{"content": TEXT.format(i), "title": "t"} for i in range(20, 35)])
    chats = [
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": TEXT.format(i)}]}
        for i in range(5)
    ]
    write(data / "c.jsonl", chats)
    found = resolve_fields("jsonl", {"path": str(data)}, Jsonl(path=(str(data),)))
    assert found is not None
    assert len(found.sources) == len(found.notes) == 3
    recipe = Recipe.from_dict({"name": "all", "sources": list(found.sources)})
    table = run(recipe, Workspace(tmp_path / "w"), None, commit=False).kept_table(["text"])
    assert table.num_rows == 40
    assert sum("Assistant: " in text for text in table["text"].to_pylist()) == 5


def test_nothing_changes_where_the_named_field_is_there(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": TEXT.format(i), "content": TEXT.format(i)} for i in range(5)])
    assert resolve_fields("jsonl", {"path": str(tmp_path)}, Jsonl(path=(str(tmp_path),))) is None


def test_files_without_any_text_stay_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": TEXT.format(i)} for i in range(5)])
    write(tmp_path / "b.jsonl", [{"n": i} for i in range(5)])
    found = resolve_fields("jsonl", {"path": str(tmp_path)}, Jsonl(path=(str(tmp_path),)))
    fields = [source["jsonl"] for source in found.sources] if found else [{"path": str(tmp_path)}]
    assert all("text_field" not in field for field in fields)
