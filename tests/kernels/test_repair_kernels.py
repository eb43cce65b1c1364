"""Mojibake, truncation, account numbers, IPv6 addresses and keys."""

import unicodedata

import kernel_reference as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels.mojibake import fix_mojibake
from tillage.kernels.pii import mask_pii
from tillage.kernels.pii_numbers import iban
from tillage.kernels.rewrite import truncate


def garble(text, windows=True):
    """What a reader of Latin-1 or Windows-1252 sees; bytes without a character there stay controls."""
    out = ""
    for byte in text.encode():
        seen = bytes([byte]).decode("cp1252", errors="ignore") if windows else ""
        out += seen or chr(byte)
    return out


WORDS = (  # noqa: SIM905
    "café Übergröße naïve señor doğru Łódź “quoted” it’s … — €5 ™ 🌾 привет Ελλάδα 今天下雨 مرحبا नमस्ते กสิกร "
    "plain x\u00a0y ½ °C"
).split(" ")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12), st.booleans(), st.integers(0, 2))
def test_what_was_garbled_is_repaired(words, windows, times):
    text = garbled = " ".join(words)
    for _ in range(times):
        garbled = garble(garbled, windows)
    assert fix_mojibake(garbled) == text


@settings(max_examples=150)
@given(reference.TEXT | st.text(st.sampled_from("aÂÃÄÅâïðé€™œ\x9d\xa0¿½»¼© "), max_size=12))
def test_repair_ends_and_only_shortens(text):
    fixed = fix_mojibake(text)
    assert fix_mojibake(fixed) == fixed
    assert len(fixed) <= len(text)
    if not set(text) & set(map(chr, range(0xC2, 0xF5))):
        assert fixed == text


@pytest.mark.parametrize(
    "text",
    [
        "«AMANHÃ»",
        "caffè…”",
        "perché…»",
        "CAFÉ®",
        "ÉCLAIR™",
        "Ä, Ö und Ü",
        "Ã a",
        "naïve",
        "ROSÅ” is",
        "à»",
    ],
)
def test_what_stands_by_right_stays(text):
    assert fix_mojibake(text) == text


@pytest.mark.parametrize("text", ["voilà le port", "déjà, et", "à la mode", "l'été à Paris"])
def test_a_sign_whose_second_byte_is_a_space_is_repaired_at_the_end_of_a_word(text):
    assert fix_mojibake(text.encode().decode("latin-1")) == text


@settings(max_examples=150)
@given(reference.TEXT, st.integers(1, 40), st.sampled_from(["line", "word", "character"]))
def test_truncate(text, most, at):
    cut = truncate(text, most, at)
    assert text.startswith(cut) and len(cut) <= most
    if len(text) <= most:
        assert cut == text
        return
    rest = text[len(cut) :]
    assert not unicodedata.category(rest[0]).startswith("M") or not cut
    assert truncate(cut, most, at) == cut
    if at == "line" and text[:most].rpartition("\n")[0].strip():
        assert rest[: len(rest) - len(rest.lstrip())].count("\n") >= 1
    if at == "word" and cut and not rest[0].isspace():
        assert not any(c.isspace() for c in cut.strip()) or not text[:most].strip()


def test_truncate_by_example():
    text = "One two three.\nFour five six."
    assert truncate(text, 20, "line") == "One two three."
    assert truncate(text, 20) == "One two three.\nFour"
    assert truncate(text, 17, "character") == "One two three.\nFo"
    assert truncate(text, 3) == "One"
    assert truncate("中文没有空格", 3) == "中文没"
    assert truncate("cafe\u0301s", 4, "character") == "caf"
    assert truncate("ab👩\u200d🌾", 4, "character") == "ab"


EVERY = frozenset({"email", "ip", "card", "phone", "iban", "ipv6", "key"})
TOKEN = "Ab1" * 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pay to DE89 3704 0044 0532 0130 00 AND soon", "pay to <IBAN> AND soon"),
        ("GB82WEST12345698765432, FR1420041010050500013M02606.", "<IBAN>, <IBAN>."),
        ("DE88 3704 0044 0532 0130 00", "DE88 3704 0044 0532 0130 00"),
        ("XX89 3704 0044 0532 0130 00", "XX89 3704 0044 0532 0130 00"),
        ("DE89370400440532013000x", "DE89370400440532013000x"),
        ("账号DE89370400440532013000。", "账号<IBAN>。"),
        ("from 2a00:1450:4001:81b::200e and [2606:4700::1111]:53.", "from <IP> and [<IP>]:53."),
        ("host 2a00:1450::1: up", "host <IP>: up"),
        (
            "::1 fe80::1 2001:db8::1 ff02::1 ::add face::b00c",
            "::1 fe80::1 2001:db8::1 ff02::1 ::add face::b00c",
        ),
        ("at 12:30:45, std::dec, a::b, 2001:1", "at 12:30:45, std::dec, a::b, 2001:1"),
        ("id AKIAIOSFODNN7EXAMPLE;", "id <KEY>;"),
        ("AKIAIOSFODNN7EXAMPLES xAKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLES xAKIAIOSFODNN7EXAMPLE"),
        (f"token=ghp_{TOKEN}", "token=<KEY>"),
        (f"github_pat_{'a' * 22}_{'b' * 59} xoxb-123456789012-abc", "<KEY> <KEY>"),
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4\n\nMIIE\n-----END RSA PRIVATE KEY-----\nb",
            "a\n<KEY>\nb",
        ),
        ("-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----", None),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", None),
    ],
)
def test_masking_of_further_kinds(text, expected):
    expected = text if expected is None else expected
    assert mask_pii(text, EVERY) == expected
    assert mask_pii(expected, EVERY) == expected
    assert mask_pii(text, frozenset({"email"})) == text


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=18, max_size=18), st.integers(0, 17))
def test_iban_sees_each_changed_character(account, place):
    check = next(c for c in range(2, 99) if iban(f"GB{c:02}{account}"))
    assert mask_pii(f"GB{check:02}{account}", frozenset({"iban"})) == "<IBAN>"
    old = account[place]
    other = str((int(old) + 1) % 10) if old.isdigit() else chr((ord(old) - 64) % 26 + 65)
    assert not iban(f"GB{check:02}{account[:place]}{other}{account[place + 1 :]}")


@pytest.mark.parametrize(
    "piece",
    [
        "DE89 3704 ",
        "A",
        "AB12",
        "a:",
        "1:2.",
        "::",
        "-----BEGIN PRIVATE KEY-----",
        "xoxb-",
        "ghp_a",
        "Ã",
        "â€",
    ],
)
def test_it_takes_linear_time(piece):
    # A pattern that backtracks without bound would not come back from these.
    text = piece * (100_000 // len(piece))
    assert len(mask_pii(text, EVERY)) > 0
    assert len(fix_mojibake(text)) > 0
