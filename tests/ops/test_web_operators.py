"""FineWeb, RefinedWeb and the removal of what stands elsewhere in the corpus, on rows made for it."""

import json

import pyarrow as pa
import pytest

from tillage.core.events import EventLog
from tillage.core.workspace import Workspace
from tillage.data.schema import BASE
from tillage.data.sources import Jsonl
from tillage.flow.recipe import Recipe, Step
from tillage.flow.run import run
from tillage.ops.conformance import execute
from tillage.ops.dedup import ExactDedup, SimHashDedup, UrlDedup
from tillage.ops.fineweb import FinewebQuality
from tillage.ops.pieces import LineDedup, ParagraphDedup
from tillage.ops.refinedweb import RefinedwebLines
from tillage.ops.stats import TextStats

PROSE = (
    "The farmer and the miller have a field to the north of the river, and they sow wheat in it. "
    "When spring comes with its rain, green shoots rise from dark soil. That is how bread begins."
)
FOOTER = "All rights to this page are with the mill."


def rows(*texts, sources=None, lines=None, **extra):
    """Rows with ids 0, 1, 2 in the given order."""
    count = len(texts)
    columns = [
        [f"{i:032x}" for i in range(count)], list(texts), ["prose"] * count, sources or ["a.jsonl"] * count,
        lines or list(range(1, count + 1)), [None] * count, [None] * count,
    ]  # fmt: skip
    arrays = [pa.array(column, kind) for column, kind in zip(columns, BASE.types, strict=True)]
    table = pa.table(arrays, schema=BASE)
    for name, values in extra.items():
        table = table.append_column(name, pa.array(values, pa.large_string()))
    return table


def drops(op, table):
    return [drop and drop.split(":")[1] for drop in execute(op, table).column("_drop").to_pylist()]


def test_fineweb_names_what_is_wrong():
    lines = [f"Line number {i} says something of its own to us." for i in range(10)]
    menu = [f"entry number {i}" for i in range(9)]
    assert drops(
        FinewebQuality(),
        rows(
            "\n".join(lines),
            "\n".join(line.rstrip(".") for line in lines),
            "\n".join([*menu, *lines[:3]]),
            "\n".join([*lines, lines[0]]),
            "Yes.\nNo it is not so at all, said the old man.\n\n\n\n\n",
            None,
        ),
    ) == [None, "few_terminal_lines", "short_lines", "dup_line_chars", "list", None]


def test_fineweb_bounds_are_inclusive():
    text = "One line of this text ends well, and it is long.\nthe other is long too and does not end well"
    op = FinewebQuality(min_terminal_lines=0.5, max_short_lines=0.0, max_newline_ratio=1 / 20)
    assert drops(op, rows(text)) == [None]
    assert drops(FinewebQuality(min_terminal_lines=0.51), rows(text)) == ["few_terminal_lines"]


def test_refinedweb_corrects_a_little_and_drops_what_loses_much():
    page = f"Home\n{PROSE}\n3 likes\n{PROSE}"
    menu = f"Home\nAbout\nSign in\n{PROSE}"
    result = execute(RefinedwebLines(), rows(page, menu, PROSE, None))
    assert result.column("text").to_pylist() == [f"{PROSE}\n{PROSE}", menu, PROSE, None]
    words = len(PROSE.split())
    assert result.column("removed_words").to_pylist() == pytest.approx(
        [3 / (2 * words + 3), 4 / (words + 4), 0, None]
    )
    assert [d is None for d in result.column("_drop").to_pylist()] == [True, False, True, True]
    assert drops(RefinedwebLines(max_removed=1), rows(menu)) == [None]


def test_paragraph_dedup_keeps_the_first_by_file_and_line():
    table = rows(
        f"{PROSE}\n\n{FOOTER}\n",
        f"A text of its own stands here.\n\n  {FOOTER}",
        f"{FOOTER}\n\n{PROSE}",
        "Too short.\n\nToo short.",
        "",
        None,
        sources=["b.jsonl", "b.jsonl", "a.jsonl", "b.jsonl", "b.jsonl", "b.jsonl"],
        lines=[1, 2, 9, 3, 4, 5],
    )
    result = execute(ParagraphDedup(), table)
    assert result.column("copied_paragraphs").to_pylist() == [2, 1, 0, 0, 0, 0]
    assert result.column("copied_paragraph_share").to_pylist() == [1, 0.5, 0, 0, 0, 0]
    assert result.column("text").to_pylist() == [
        table.column("text")[0].as_py(), "A text of its own stands here.", f"{FOOTER}\n\n{PROSE}",
        "Too short.\n\nToo short.", "", None,
    ]  # fmt: skip
    assert drops(ParagraphDedup(), table) == ["nothing_left", None, None, None, None, None]
    marked = execute(ParagraphDedup(mark=True), table)
    assert marked.column("copied_paragraphs").to_pylist() == [2, 1, 0, 0, 0, 0]
    assert marked.column("text").equals(table.column("text"))
    assert marked.column("_drop").null_count == 6


def test_line_dedup_takes_lines_and_copies_within_a_text():
    table = rows(f"{FOOTER}\nthe mill\n{FOOTER}\nthe mill", f"new words in a line\n\n{FOOTER}\nthe mill")
    result = execute(LineDedup(), table)
    assert result.column("text").to_pylist() == [
        f"{FOOTER}\nthe mill\nthe mill",
        "new words in a line\n\nthe mill",
    ]
    assert result.column("copied_lines").to_pylist() == [1, 1]
    every = execute(LineDedup(min_words=0), table)
    assert every.column("text").to_pylist() == [f"{FOOTER}\nthe mill", "new words in a line"]


def test_piece_dedup_sees_only_rows_that_are_alive():
    table = rows(FOOTER, FOOTER)
    table = table.set_column(5, BASE.field(5), pa.array(["step:gone", None], pa.large_string()))
    assert execute(ParagraphDedup(), table).column("_drop").to_pylist() == ["step:gone", None]


def test_url_dedup_compares_normal_urls():
    urls = ["http://a.example/x#top", "HTTP://A.example:80/x", "http://a.example/y", None, "", None]
    table = rows("one", "one two", "three", "four", "five", "six", url=urls)
    result = execute(UrlDedup(), table)
    assert result.column("url_duplicate_of").to_pylist() == [None, "0" * 32, None, None, None, None]
    assert result.column("url_duplicates").to_pylist() == [2, 2, 1, 1, 1, 1]
    assert drops(UrlDedup(keep="longest"), table)[:2] == ["url_duplicate", None]
    assert drops(UrlDedup(mark=True), table) == [None] * 6
    assert "text" not in UrlDedup().reads()


def test_simhash_dedup_keeps_first_or_longest():
    long = " ".join(f"word{i} of the {i % 17}th row" for i in range(200))
    table = rows(
        long, "Nothing like it. " * 10, long.upper() + " end", "a few words", "a few words", "", None
    )
    result = execute(SimHashDedup(), table)
    assert result.column("simhash_duplicate_of").to_pylist() == [None, None, "0" * 32, None, None, None, None]
    assert result.column("simhash_duplicates").to_pylist() == [2, 1, 2, 1, 1, 1, 1]
    assert drops(SimHashDedup(keep="longest"), table)[:3] == ["simhash_duplicate", None, None]
    assert drops(SimHashDedup(mark=True), table) == [None] * 7
    assert drops(SimHashDedup(min_words=1, distance=0), table)[4] == "simhash_duplicate"


def test_a_run_cuts_paragraphs_and_measures_what_is_left(tmp_path):
    texts = [f"Text number {i} has words of its own.\n\n{FOOTER}" for i in range(6)] + [FOOTER]
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ops = (TextStats(measures=("bytes", "lines")), ParagraphDedup(), ExactDedup())
    recipe = Recipe.model_validate(
        {
            "name": "cut",
            "sources": (Jsonl(path=(str(raw),), domain="x"),),
            "steps": tuple(Step(op=op) for op in ops),
        }
    )
    result = run(recipe, Workspace.default(tmp_path / "home"), EventLog(None, []))
    kept = {row["line"]: row for row in result.kept_table().to_pylist()}
    own = [f"Text number {i} has words of its own." for i in range(6)]
    assert [kept[line]["text"] for line in sorted(kept)] == [f"{own[0]}\n\n{FOOTER}", *own[1:]]
    assert all(row["bytes"] == len(row["text"]) for row in kept.values())
    assert kept[1]["lines"] == 2 and kept[2]["lines"] == 1
    cut = next(a for a in result.accounts if a.step.startswith("paragraph_dedup"))
    assert cut.dropped == {"nothing_left": 1}
    assert cut.bytes_out == sum(len(row["text"]) for row in kept.values()) < cut.bytes_in
