"""C4's lines, Unicode normalisation, masking and language identification."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor

import kernel_reference as reference
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tillage.kernels.c4 import POLICY, SCRIPT, keep_lines
from tillage.kernels.language import detect
from tillage.kernels.pii import mask_pii
from tillage.kernels.pii_numbers import luhn
from tillage.kernels.rewrite import normalise
from tillage.kernels.unicode import LETTER, SOLO, SPACE, class_table, lower_table


@settings(max_examples=150, deadline=None)
@given(reference.TEXTS, st.integers(0, 4))
@example([".."], 0)
def test_c4_lines(texts, min_words):
    phrases = ("lorem ipsum", "the", "javascript")
    kept = keep_lines(pa.array(texts, pa.large_string()), min_words, 1000, True, phrases)
    kept.validate(full=True)
    assert kept.to_pylist() == [
        None if t is None else reference.c4_lines(t, min_words, phrases) for t in texts
    ]


def test_c4_rules_one_by_one():
    lines = {
        "Please enable JavaScript to read this page.": False,
        "By reading on you agree to our Terms of Use.": False,
        "Home About Contact News Shop": False,
        "Too short this.": False,
        'She said that it was "over and done."': True,
        "The rest of this story is cut...": False,
        "A line of five words here.  ": True,
        "it has " + "x" * 1001 + " as a single word.": False,
        "今天下雨，我们不出门。": True,
    }
    text = "\n".join(lines)
    expected = "\n".join(line.rstrip() for line, keep in lines.items() if keep)
    assert keep_lines(pa.array([text]), phrases=SCRIPT + POLICY).to_pylist() == [expected]
    assert keep_lines(pa.array([text]), 0, 2000, False, ()).to_pylist() == [
        "\n".join(line.rstrip() for line in lines)
    ]


@given(reference.TEXT, st.sampled_from(["NFC", "NFKC", "NFD", "NFKD"]))
def test_normalise(text, form):
    result = normalise(text, form)
    assert normalise(result, form) == result
    assert unicodedata.is_normalized(form, result)
    assert not set("\r\x85\u2028\x00\u200b") & set(result)
    plain = normalise(text, form, invisible=False)
    newlines = text.replace("\r\n", "\n").replace("\r", "\n")
    for c in "\x85\u2028\u2029":
        newlines = newlines.replace(c, "\n")
    assert plain == unicodedata.normalize(form, newlines)


def test_normalise_keeps_joiners_and_drops_overrides():
    assert normalise("e\u0301\r\nb\rc\x00\u202ed\u200b\ufeff") == "é\nb\ncd"
    assert normalise("👩\u200d🌾 می\u200cخواهم") == "👩\u200d🌾 می\u200cخواهم"
    assert normalise("ﬁ①", "NFKC") == "fi1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jo.smith+x@mail.example.org, please", "write to <EMAIL>, please"),
        ("<jo@example.com>", "<<EMAIL>>"),
        ("user@host and @decorator and a@b", "user@host and @decorator and a@b"),
        ("from 8.8.8.8:53 and 93.184.216.34.", "from <IP>:53 and <IP>."),
        ("203.0.113.255 224.0.0.1 08.8.8.8 1.2.3", "203.0.113.255 224.0.0.1 08.8.8.8 1.2.3"),
        (
            "邮箱jo@example.com，谢谢 x" + "y" * 64 + "@example.com",
            "邮箱<EMAIL>，谢谢 x" + "y" * 64 + "@example.com",
        ),
        ("a@b.org,c@d.org;e@f@g.org", "<EMAIL>,<EMAIL>;e@<EMAIL>"),
        ("+000000120 +12.5 +1-800-555-0199", "+000000120 +12.5 <PHONE>"),
        ("127.0.0.1, 10.1.2.3, 192.168.1.1, 172.20.0.1", "127.0.0.1, 10.1.2.3, 192.168.1.1, 172.20.0.1"),
        ("version 1.2.3.4.5 and 300.1.1.1", "version 1.2.3.4.5 and 300.1.1.1"),
        ("card 4111 1111 1111 1111.", "card <CARD>."),
        ("card 4111-1111-1111-1111 5500005555555559", "card <CARD> <CARD>"),
        ("no card 4111 1111 1111 1112", "no card 4111 1111 1111 1112"),
        ("call +1 202 555 0143 or (202) 555-0143 or 202-555-0143", "call <PHONE> or <PHONE> or <PHONE>"),
        ("call +49 30 1234567 now", "call <PHONE> now"),
        ("on 2024-05-06 12:30:45 at 3.14159 and 1+2", "on 2024-05-06 12:30:45 at 3.14159 and 1+2"),
        ("sha 123-456-78901 id 12345678", "sha 123-456-78901 id 12345678"),
        ("电话 +86 10 6552 9988", "电话 <PHONE>"),
    ],
)
def test_masking(text, expected):
    assert mask_pii(text) == expected
    assert mask_pii(expected) == expected


def test_masking_only_what_is_asked_for():
    text = "a@example.org 8.8.8.8 4111111111111111 202-555-0143"
    assert mask_pii(text, frozenset({"email"})) == "<EMAIL> 8.8.8.8 4111111111111111 202-555-0143"
    assert mask_pii(text, frozenset({"card"})) == "a@example.org 8.8.8.8 <CARD> 202-555-0143"


@given(st.integers(0, 10**15), st.integers(0, 15))
def test_luhn_sees_each_changed_digit(number, place):
    digits = [int(c) for c in f"{number:015d}"]
    check = next(c for c in range(10) if luhn([*digits, c]) or not any([*digits, c]))
    whole = [*digits, check]
    changed = list(whole)
    changed[place] = (changed[place] + 1) % 10
    assert not luhn(changed)
    assert luhn(whole) == any(whole)


@pytest.mark.parametrize("piece", ["a" * 60 + ".", "1 ", "+1", "1.", "a@", "a@b.", "4111 ", "(202) "])
def test_masking_takes_linear_time(piece):
    # A pattern that backtracks without bound would not come back from these.
    assert len(mask_pii(piece * (200_000 // len(piece)))) > 0


def test_language():
    texts = [
        "The farmer and the miller walked to the market in the morning.",
        "Der Bauer und der Müller gingen am Morgen auf den Markt.",
        "这个国家的农业生产在过去的十年里有了很大的发展，农民的生活水平也提高了。",
        "Фермер и мельник утром пошли на рынок.",
        None,
        "",
        "123 !?\n",
        "El campesino\ny el molinero\nfueron al mercado por la mañana.",
    ]
    codes, scores = detect(pa.array(texts))
    assert codes.to_pylist() == ["en", "de", "zh", "ru", None, None, None, "es"]
    assert codes.type == pa.large_string()
    assert all(0 < s <= 1 for s in scores.to_pylist() if s is not None)
    assert scores.is_null().equals(codes.is_null())
    array = pa.array(texts * 20)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(detect, [array] * 8))
    assert all(r[0].equals(results[0][0]) and r[1].equals(results[0][1]) for r in results)


def test_class_table_agrees_with_unicodedata():
    table, lower = class_table(), lower_table()
    for code in [*range(0x3000), *range(0x3000, 0x32400, 7)]:
        c = chr(code)
        category = unicodedata.category(c)
        assert bool(table[code] & LETTER) == category.startswith("L"), hex(code)
        assert bool(table[code] & SPACE) == c.isspace(), hex(code)
        if table[code] & SOLO:
            scripts = (
                "CJK",
                "HIRAGANA",
                "KATAKANA",
                "THAI",
                "LAO",
                "MYANMAR",
                "KHMER",
                "IDEOGRAPHIC",
                "HENTAIGANA",
            )
            assert any(s in unicodedata.name(c) for s in (*scripts, "MASU", "VERTICAL")), hex(code)
    assert all(int(lower[code]) == ord(reference.fold(chr(code))) for code in range(0x3000))
