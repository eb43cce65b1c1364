"""What each operator does, on rows made for it."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillage.core.errors import UserError
from tillage.data.schema import BASE
from tillage.ops.base import operators
from tillage.ops.c4 import C4Lines, C4Quality
from tillage.ops.conformance import execute
from tillage.ops.decontaminate import Decontaminate
from tillage.ops.dedup import ExactDedup, MinHashDedup
from tillage.ops.gopher import GopherQuality, GopherRepetition
from tillage.ops.language import Language, LanguageFilter
from tillage.ops.pieces import BoilerplateLines
from tillage.ops.pii import PiiFilter, PiiMask, PiiStats
from tillage.ops.rewrite import FixMojibake, HtmlToText, Truncate, UnicodeNormalise
from tillage.ops.select import DomainQuota, Sample, share_budgets
from tillage.ops.stats import MEASURES, TextStats
from tillage.ops.target import TargetLikeness
from tillage.ops.texts import read_texts
from tillage.ops.where import Where

PROSE = (
    "The farmer and the miller have a field to the north of the river, and they sow wheat in it. "
    "When spring comes with its rain, green shoots rise from dark soil. That is how bread begins."
)


def rows(*texts, domains=None, sources=None, lines=None):
    """Rows with ids 0, 1, 2 in the given order."""
    count = len(texts)
    columns = [
        [f"{i:032x}" for i in range(count)],
        list(texts),
        domains or ["prose"] * count,
        sources or ["file.jsonl"] * count,
        lines or list(range(1, count + 1)),
        [None] * count,
        [None] * count,
    ]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, BASE.types, strict=True)]
    return pa.table(arrays, schema=BASE)


def drops(op, *texts, **where):
    return [
        drop and drop.split(":")[1] for drop in execute(op, rows(*texts, **where)).column("_drop").to_pylist()
    ]


def texts(op, *given_texts):
    return execute(op, rows(*given_texts)).column("text").to_pylist()


def test_gopher_quality_names_what_is_wrong():
    op = GopherQuality(min_words=20, max_words=80)
    assert drops(
        op,
        PROSE,
        "the of and",
        PROSE * 4,
        "a b of the " * 8,
        "incomprehensibilities the uncharacteristically of " * 6,
        PROSE + " #" * 10,
        PROSE + " ..." * 10,
        "\n".join(f"- {line} of the" for line in ["indeed written"] * 12),
        "\n".join(["they have all gone with the wind and the river at last ..."] * 3 + ["to sea"]),
        PROSE + " 12 34" * 6,
        "green shoots rise dark soil spring comes " * 4,
    ) == [
        None,
        "too_few_words",
        "too_many_words",
        "short_words",
        "long_words",
        "too_many_hashes",
        "too_many_ellipses",
        "too_many_bullets",
        "too_many_ellipsis_lines",
        "too_few_alpha_words",
        "too_few_stop_words",
    ]


def test_gopher_bounds_are_inclusive():
    words = "the of and " * 10  # 30 words of mean length 8 / 3
    assert drops(GopherQuality(min_words=30, min_mean_word_length=8 / 3, min_stop_words=3), words) == [None]
    assert drops(GopherQuality(min_words=31, min_mean_word_length=2), words) == ["too_few_words"]


def test_gopher_quality_says_nothing_of_word_length_without_spaces():
    assert drops(GopherQuality(min_stop_words=0, min_words=10), "农民在春天播种小麦，雨水来了。") == [None]


def test_gopher_repetition():
    varied = " ".join(f"word{i}" for i in range(100))
    lines = "\n".join([f"line {i} has words of its own to say" for i in range(6)] + ["again"] * 5)
    assert drops(GopherRepetition(), PROSE, varied, lines, "buy now cheap " * 40, None) == [
        None,
        None,
        "dup_lines",
        "top_2gram",
        None,
    ]


def test_statistics_merge_into_one_pass():
    first, second = TextStats(measures=("words", "dup_lines")), TextStats(measures=("chars", "words"))
    merged = first.merge(second)
    assert merged == TextStats(measures=("chars", "words", "dup_lines"))
    assert first.merge(Language()) is None
    assert list(TextStats().writes()) == list(MEASURES)
    with pytest.raises(UserError, match="did you mean 'words'"):
        TextStats(measures=("word",))
    with pytest.raises(UserError, match="no measurement"):
        TextStats(measures=())


def test_where_keeps_what_is_true_and_measures_what_it_names():
    op = Where(keep="words > 3 AND domain <> 'code'")
    assert op.requires() == (TextStats(measures=("words",)),)
    assert op.reads() == {"words", "domain"}
    given_texts = ("one two three four", "one two three four", "one two", None)
    assert drops(op, *given_texts, domains=["prose", "code", "prose", "prose"]) == [
        None,
        "where",
        "where",
        "where",
    ]
    named = Where(keep="lang = 'en' or lower(domain) = 'prose'", reason="not_english")
    assert Language() in named.requires()
    assert drops(named, PROSE, "", domains=["x", "x"]) == [None, "not_english"]
    cast = Where(keep="cast(words as double) / chars < 0.5 and coalesce(domain, 'none') in ('prose', 'none')")
    assert cast.reads() == {"words", "chars", "domain"}
    assert drops(cast, PROSE) == [None]
    assert drops(Where(keep="domain <> 'a; -- select)'"), PROSE) == [None]
    assert drops(Where(keep="words > 1 and (chars between 1 and 9)"), "a b", PROSE) == [None, "where"]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("words >", "cannot be read"),
        ("", "cannot be read"),
        ("nosuch(words) > 1", "cannot be read"),
        ("words + 1", "not a condition"),
        ("domian = 'x'", "did you mean 'domain'"),
        ("upper(words) = 'A'", "does not fit its columns"),
        ("words > 3, chars > 4", "cannot be read"),
        ("words > 3 chars", "cannot be read"),
        ("words > 3; words > 4", "cannot be read"),
        ("words > 3) or (chars > 4", "closing bracket"),
        ("words in (select 1)", "cannot be read"),
        ("row_number() over (order by words) > 1", "cannot be read"),
        ("sum(words) > 3", "cannot be read"),
    ],
)
def test_where_explains_a_bad_expression(keep, message):
    with pytest.raises(UserError, match=message):
        execute(Where(keep=keep), rows("a"))


def test_sample_takes_the_fraction_and_nests():
    table = [f"text {i}" for i in range(2000)]
    kept = {f: [i for i, d in enumerate(drops(Sample(fraction=f), *table)) if d is None] for f in (0.1, 0.3)}
    assert len(kept[0.1]) == pytest.approx(200, abs=50)
    assert set(kept[0.1]) < set(kept[0.3])
    assert kept[0.1] != [i for i, d in enumerate(drops(Sample(fraction=0.1, seed=1), *table)) if d is None]
    assert drops(Sample(fraction=0), "a", "b") == ["sampled_out"] * 2
    assert drops(Sample(fraction=1), "a", "b") == [None] * 2


def test_quota_by_rows_and_bytes():
    domains = ["a"] * 10 + ["b"] * 10 + [None]
    given_texts = ["x" * 100] * 21
    dropped = drops(DomainQuota(max_rows={"a": 3}, max_bytes={"b": 450}), *given_texts, domains=domains)
    assert sum(d is None for d in dropped[:10]) == 3
    assert sum(d is None for d in dropped[10:20]) == 4
    assert dropped[20] is None


def test_quota_by_share_holds_of_what_remains():
    domains = ["code"] * 60 + ["prose"] * 40
    dropped = drops(DomainQuota(max_share={"code": 0.2}), *["x" * 10] * 100, domains=domains)
    kept = [domain for domain, drop in zip(domains, dropped, strict=True) if drop is None]
    assert kept.count("prose") == 40
    assert kept.count("code") == 10


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 10**6), min_size=1),
    st.dictionaries(st.sampled_from("abcd"), st.floats(0.05, 0.6), max_size=3),
)
def test_share_budgets(sizes, shares):
    budgets = share_budgets(sizes, shares)
    kept = {d: min(size, budgets.get(d, size)) for d, size in sizes.items()}
    total = sum(kept.values())
    for domain, share in shares.items():
        if any(sizes[d] > 0 for d in sizes.keys() - shares.keys()):
            assert kept.get(domain, 0) <= share * total + 2
        assert budgets.get(domain, 0) >= 0
    assert all(kept[d] == sizes[d] for d in sizes.keys() - shares.keys())


def test_quota_refuses_what_limits_nothing():
    with pytest.raises(UserError, match="limits nothing"):
        DomainQuota()
    with pytest.raises(UserError, match="between 0 and 1"):
        DomainQuota(max_share={"a": 1.5})


def test_exact_dedup_keeps_the_first_by_file_and_line():
    result = execute(
        ExactDedup(),
        rows(
            "same",
            "other",
            "same",
            None,
            "same",
            "",
            "",
            None,
            sources=list("bbabcaaa"),
            lines=[1, 2, 9, 1, 1, 3, 2, 4],
        ),
    )
    assert result.column("duplicate_of").to_pylist() == [
        f"{2:032x}", None, None, None, f"{2:032x}", f"{6:032x}", None, None,
    ]  # fmt: skip
    assert result.column("duplicates").to_pylist() == [3, 1, 3, 1, 3, 2, 2, 1]
    assert [d is not None for d in result.column("_drop").to_pylist()] == [
        True, False, False, False, True, True, False, False,
    ]  # fmt: skip
    marked = execute(ExactDedup(mark=True), rows("same", "same"))
    assert marked.column("_drop").to_pylist() == [None, None]
    assert marked.column("duplicates").to_pylist() == [2, 2]


def test_dedup_sees_only_rows_that_are_alive():
    table = rows("same", "same")
    table = table.set_column(5, BASE.field(5), pa.array(["step:gone", None], pa.large_string()))
    assert execute(ExactDedup(), table).column("_drop").to_pylist() == ["step:gone", None]


def test_minhash_dedup_keeps_first_or_longest():
    copy = PROSE.upper().replace(",", " ;")
    longer = PROSE + " And so it ends."
    given_texts = (
        PROSE,
        "Nothing like it at all, this one is about ships and the sea.",
        copy,
        longer,
        "",
        None,
    )
    result = execute(MinHashDedup(), rows(*given_texts))
    assert result.column("near_duplicate_of").to_pylist() == [None, None, "0" * 32, "0" * 32, None, None]
    assert result.column("near_duplicates").to_pylist() == [3, 1, 3, 3, 1, 1]
    assert drops(MinHashDedup(keep="longest"), *given_texts) == [
        "near_duplicate", None, "near_duplicate", None, None, None,
    ]  # fmt: skip
    assert drops(MinHashDedup(mark=True), *given_texts) == [None] * 6
    assert drops(MinHashDedup(threshold=1.0), PROSE, longer) == [None, None]
    with pytest.raises(UserError, match="too long"):
        MinHashDedup(bands=256, rows=64)


def test_corpus_operators_take_an_empty_corpus(tmp_path):
    target = tmp_path / "t.txt"
    target.write_text("a target text\n")
    for op in (ExactDedup(), MinHashDedup(), DomainQuota(max_rows={"a": 1}), TargetLikeness(target=target)):
        result = execute(op, rows())
        assert result.num_rows == 0
        assert set(op.writes()) <= set(result.column_names)


def test_c4():
    lines = ["Home | News", "This is a line with five words.", "Use cookies to read on, dear reader."]
    page = "\n".join([*lines, "See [1] it as it is now[edit]."])
    assert texts(C4Lines(), page, None) == ["This is a line with five words.\nSee  it as it is now.", None]
    assert drops(
        C4Quality(min_sentences=2), "One. Two.", "One.", "One. Two. {", "Lorem ipsum dolor. Sit amet.", None
    ) == [None, "too_few_sentences", "curly_brace", "lorem_ipsum", None]
    assert drops(C4Quality(min_sentences=0, braces=False, lorem_ipsum=False), "{ lorem ipsum") == [None]


def test_html_to_text_knows_a_page_by_its_beginning():
    article = "Rye is sown in autumn and reaped in summer. " * 80
    page = f"<!-- saved -->\n<!DOCTYPE html><html><body><p>{article}</p></body></html>"
    mention = f"{article} `<html>`, `<p>` and `</p>` are tags."
    plain, same = texts(HtmlToText(), page, mention)
    assert plain == article.strip()
    assert same == mention


def test_html_to_text_leaves_other_text_alone():
    page = (
        "<html><body><nav>Home</nav><p>Wheat &amp; rye</p><script>x()</script><p>grow here</p></body></html>"
    )
    code = "if a < b:\n    print('<b>')\n" * 5
    plain, same, empty = texts(HtmlToText(main_content=False), page, code, "")
    assert "Wheat & rye" in plain and "<" not in plain and "x()" not in plain
    assert same == code
    assert empty == ""
    assert texts(HtmlToText(min_tags=100), page) == [page]


def test_maps_rewrite():
    assert texts(UnicodeNormalise(), "e\u0301\r\n", None) == ["é\n", None]
    assert texts(PiiMask(kinds=("email",)), "a@b.org 8.8.8.8") == ["<EMAIL> 8.8.8.8"]
    assert texts(PiiMask(kinds=("iban",)), "a@b.org GB82WEST12345698765432") == ["a@b.org <IBAN>"]
    assert PiiMask().kinds == ("email", "ip", "card", "phone")


def test_personal_data_is_counted_dropped_or_replaced_the_same_everywhere():
    table = rows("a@b.org, c@d.org; DNI 12345678Z", "nothing", "again a@b.org", None)
    counted = execute(PiiStats(kinds=("email", "national_id")), table)
    assert counted.column("pii_email").to_pylist() == [2, 0, 1, None]
    assert counted.column("pii_national_id").to_pylist() == [1, 0, 0, None]
    assert "pii_card" not in counted.column_names
    assert drops(PiiFilter(), "a@b.org, c@d.org", "nothing", "DNI 12345678Z", None) == [
        "email", None, "national_id", None,
    ]  # fmt: skip
    assert drops(PiiFilter(kinds=("email",), most=1), "a@b.org, c@d.org", "a@b.org", "12345678Z") == [
        "email", None, None,
    ]  # fmt: skip
    first, _, again, _ = execute(PiiMask(put="surrogate"), table).column("text").to_pylist()
    assert again.removeprefix("again ") == first.partition(",")[0] != "a@b.org"
    assert execute(PiiMask(put="surrogate", seed=1), table).column("text").to_pylist()[0] != first
    assert texts(FixMojibake(), "cafÃ© â€œopenâ€\x9d", None) == ["café “open”", None]
    assert texts(Truncate(max_chars=9), "one two three", "short", None) == ["one two", "short", None]


def test_language_filter():
    german = "Der Bauer und der Müller gingen am Morgen auf den Markt und kauften Brot."
    assert drops(LanguageFilter(keep=("en",)), PROSE, german, "123", None) == [
        None,
        "other_language",
        "no_language",
        None,
    ]
    assert drops(LanguageFilter(keep=("en", "de"), min_score=1.0), german) == ["uncertain_language"]


QUESTION = "Which of the two rivers that meet at the old town is the longer one?"


def test_decontaminate_reads_any_kind_of_file_and_is_known_by_its_content(tmp_path):
    files = {}
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet", "d.txt"):
        files[name] = path = tmp_path / name
        line = json.dumps({"question": QUESTION}) + "\n"
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(line.encode()))
        elif name.endswith(".parquet"):
            pq.write_table(pa.table({"question": [QUESTION]}), path)
        else:
            path.write_text(line if name.endswith("jsonl") else QUESTION + "\n\n")
    for path in files.values():
        op = Decontaminate(against=path, field="question")
        dropped = drops(op, f"Quiz. {QUESTION.lower()} Answer: the first.", PROSE, "", None)
        assert dropped == ["overlap", None, None, None], path
    op = Decontaminate(against=files["d.txt"])
    moved = tmp_path / "moved.txt"
    moved.write_bytes(files["d.txt"].read_bytes())
    assert Decontaminate(against=moved).fingerprint() == op.fingerprint()
    moved.write_text("another question that is asked\n")
    assert Decontaminate(against=moved).fingerprint() != op.fingerprint()
    assert drops(Decontaminate(against=files["d.txt"], max_overlap=3, near_share=0), QUESTION) == [None]
    assert drops(Decontaminate(against=files["d.txt"], max_overlap=3), QUESTION) == ["near_copy"]


def test_what_many_documents_share_is_boilerplate_and_gives_nothing_away(tmp_path):
    header = (
        "Permission is hereby granted free of charge to any person obtaining a copy of this very software."
    )
    path = tmp_path / "target.txt"
    path.write_text(f"{QUESTION}\n{header}")
    rows = [f"{header} Module {i}." for i in range(6)] + [f"So: {QUESTION}"]
    assert drops(Decontaminate(against=path, max_documents=5), *rows) == [None] * 6 + ["overlap"]
    assert drops(Decontaminate(against=path, max_documents=6), *rows) == ["overlap"] * 7


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "cannot read"),
        ("bad.jsonl", b'{"text": "a"}\n{"text"', "not JSON"),
        ("field.jsonl", b'{"txt": "a"}\n', "did you mean 'txt'"),
        ("list.jsonl", b"[1]\n", "no text in field"),
        ("empty.txt", b"\n\n", "no texts"),
        ("utf.txt", b"\xff\xfe\n", "cannot read"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a"}\n', mtime=0)[:-12], "cannot read"),
        ("bad.parquet", b"PAR1", "cannot read"),
    ],
)
def test_target_files_that_cannot_be_read_are_explained(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_texts(path)
    assert str(path) in str(caught.value)


def test_target_likeness_scores_the_target_high(tmp_path):
    target = tmp_path / "target.txt"
    target.write_text(PROSE + "\nThe miller grinds wheat and the farmer sows it by the river in spring.\n")
    other = "def main(args): return parser.parse(args) if args else None  # entry point of the program"
    table = rows(*[f"{other} {i}" for i in range(30)], "The farmer sows wheat by the river.", "", None)
    result = execute(TargetLikeness(target=target, buckets=12), table)
    scores = result.column("target_score").to_pylist()
    assert scores[30] > 0.5 > max(scores[:30])
    assert scores[31:] == [None, None]
    small = (
        execute(TargetLikeness(target=target, buckets=12, sample=5), table).column("target_score").to_pylist()
    )
    assert small[30] > max(small[:30]) and small != scores
    op = TargetLikeness(target=target)
    before = op.fingerprint()
    target.write_text("other\n")
    assert op.fingerprint() != before


def test_parameters_are_checked_with_place_and_hint():
    with pytest.raises(UserError, match="did you mean 'min_words'"):
        operators.get("gopher_quality").load({"min_word": 3}, "recipe.yaml: steps[0]")
    with pytest.raises(UserError, match="did you mean 'gopher_quality'"):
        operators.get("gopher_qualty")
    with pytest.raises(UserError, match="greater than or equal to 0"):
        operators.get("sample").load({"fraction": -1}, "steps[1]")


def test_lines_of_many_documents_go_from_all_of_them():
    texts = [f"Home | About us\nOf its own {i}\nRead the terms of use" for i in range(5)]
    texts += [
        "Home | About us\nHome | About us\nRead the terms of use",
        "Read the terms of use\nOnce\nOnce",
        "",
        None,
    ]
    result = execute(BoilerplateLines(min_documents=6), rows(*texts), 3)
    found = result.column("text").to_pylist()
    assert found[:5] == [f"Of its own {i}" for i in range(5)]
    assert found[5:] == [texts[5], "Once\nOnce", "", None]
    assert result.column("boilerplate_lines").to_pylist() == [2] * 5 + [3, 1, 0, 0]
    assert drops(BoilerplateLines(min_documents=6), *texts)[5] == "nothing_left"
    few = execute(BoilerplateLines(min_documents=7), rows(*texts)).column("text").to_pylist()
    assert few[0] == "Home | About us\nOf its own 0"
    marked = execute(BoilerplateLines(min_documents=6, mark=True), rows(*texts))
    assert marked.column("text").to_pylist() == texts
