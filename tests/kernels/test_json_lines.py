"""The compiled reader of flat JSON lines against the standard library's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels.json_lines import line_ranges, read_strings

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT


def _read(lines: list[str], *fields: str) -> dict[str, list[str | None]] | None:
    block = "\n".join(lines).encode()
    found = read_strings(block, *line_ranges(block), fields)
    if found is None:
        return None
    for column in found.values():
        column.validate(full=True)
    return {field: column.to_pylist() for field, column in found.items()}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"text": _TEXT, "a": st.none() | _TEXT}) | st.just({}), min_size=1),
    st.dictionaries(_TEXT.filter(lambda name: name not in ("text", "a") and name.isprintable()), _SCALAR),
    st.booleans(),
    st.sampled_from([None, (" , ", "\t: ")]),
)
def test_what_json_reads_is_read(records, more, ascii_only, separators):
    rows = [{**more, **record} for record in records]
    lines = [json.dumps(row, ensure_ascii=ascii_only, separators=separators) for row in rows]
    if any("\\" in json.dumps(name, ensure_ascii=ascii_only) for name in more):
        assert _read(lines, "text", "a") is None  # names with escapes are left to others
        return
    expected = {field: [row.get(field) for row in rows] for field in ("text", "a")}
    assert _read(lines, "text", "a") == expected


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_spoilt_line_is_never_read_as_something_else(data):
    line = json.dumps({"n": -1.5e-7, "text": 'quote " and \\ and 語 \U0001f600', "t": True, "z": None})
    place = data.draw(st.integers(0, len(line) - 1))
    spoilt = line[:place] + data.draw(st.sampled_from(['"', "\\", "{", "}", ",", "0", "x", "", "\x01"]))
    spoilt += line[place + 1 :]
    found = _read([spoilt], "text")
    if found is None:
        return
    record = json.loads(spoilt)
    assert found == {"text": [record.get("text")]}


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "a"',
        '{"text": "a",}',
        '{"text": "a"} x',
        '{"text": 5}',
        '{"text": ["a"]}',
        '{"text": "a", "b": {"text": "c"}}',
        '{"text": "a", "b": []}',
        '{"text": "a", "text": "b"}',
        '{"te\\u0078t": "a"}',
        '{"text": "\\ud83d"}',
        '{"text": "\\ude00\\ud83d"}',
        '{"text": "\\u12g4"}',
        '{"text": "\\x"}',
        '{"text": "a\tb"}',
        '{"text": "a", "n": 01}',
        '{"text": "a", "n": 1.}',
        '{"text": "a", "n": .5}',
        '{"text": "a", "n": +1}',
        '{"text": "a", "n": 1e}',
        '{"text": "a", "n": -}',
        '{"text": "a", "n": NaN}',
        '{"text": "a", "n": nul}',
        '{"text": "a", "n": tru}',
        '["text"]',
        "",
    ],
)
def test_what_is_not_a_flat_record_is_left(line):
    assert _read(['{"text": "sound"}', line, '{"text": "sound"}'], "text") is None


def test_pairs_of_surrogates_and_ends_of_lines():
    assert _read(['{"text": "\\ud83d\\uDE00"}\r', " {} ", '{"text":null}'], "text") == {
        "text": ["😀", None, None]
    }
    starts, ends = line_ranges(b"one\n\ntwo two two\n")
    assert list(starts) == [0, 4, 5] and list(ends) == [3, 4, 16]
    starts, ends = line_ranges(b"one")
    assert list(starts) == [0] and list(ends) == [3]
