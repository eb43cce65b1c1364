"""Odd lines: the compiled reader and the careful one agree, whatever else the block holds."""

from __future__ import annotations

import pytest

from tillage.data.jsonl import Columns, Fault, read
from tillage.data.rows import ARROW, FieldType, schema_of

KINDS: tuple[tuple[str, FieldType], ...] = (("n", "int"), ("f", "float"), ("s", "string"), ("b", "bool"))
WANT = Columns("text", "d", None, None, KINDS, 1 << 20)
SCHEMA = schema_of({name: ARROW[kind] for name, kind in KINDS})
LINES = [
    '{"text":"a\tb"}', '{"text":"a\x01b"}', '{"text":"\\ud800"}', '{"text":"\\ud83d\\ude00"}',
    '{"text":"a","n":1.0}', '{"text":"a","n":1.5}', '{"text":"a","n":9223372036854775808}',
    '{"text":"a","n":true}', '{"text":"a","n":-0}', '{"text":"a","n":1e2}', '{"text":"a","f":1}',
    '{"text":"a","f":NaN}', '{"text":"a","f":1e999}', '{"text":"a","f":"1"}', '{"text":"a","f":-Infinity}',
    '{"text":"a","f":123456789012345678901234567890}', '{"text":"a","f":2.2250738585072011e-308}',
    '{"text":"a","s":1}', '{"text":"a","s":"\\ud800"}', '{"text":"a","b":1}', '{"text":"a","b":"true"}',
    '{"text":"a","text":"b"}', '{"text":"a","n":1,"n":2}', '{"text":1}', '{"text":null}', '{"text":["a"]}',
    '{"text":"a"}{"text":"b"}', '{"text":"a",}', '{"text":"a"} ', ' {"text":"a"}', '{"text":"a","x":NaN}',
    '{"text":"a","x":01}', '{"text":"a","x":[1,}', '{"text":"\\u0000x"}', '{"text":"\x7f"}',
    '{"text":"\u2028"}',
    '{"text":"a","x":"\\ud800"}', '{"text":"a","x":{"y":"\t"}}', '{"text":"","n":null}', '{"text":"a"/**/}',
    '{"n":1}', '{"te\\u0078t":"a"}', "{'text':'a'}",
]  # fmt: skip


def rows(*lines: str) -> list[str]:
    stream: list[bytes | Fault] = ["\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"]
    # Compared as they print: NaN is not equal to itself.
    return [repr(row) for batch in read(iter(stream), "x", 1, WANT, SCHEMA) for row in batch.to_pylist()]


@pytest.mark.parametrize("line", LINES)
def test_a_line_reads_the_same_alone_and_beside_a_broken_one(line: str) -> None:
    assert rows(line) == rows(line, "not json")[:-1]
