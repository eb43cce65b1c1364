"""Rewriting of single texts: Unicode normalisation and masking of personal data."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from tillage.kernels.pii import mask_ibans, mask_ipv6, mask_keys

# Controls other than tab and newline, and characters of no width: soft hyphen, zero-width space, word joiner,
# byte order mark, directional marks and overrides (UAX 9), interlinear annotation. The joiners U+200C and
# U+200D stay: they spell words in Persian and Indic scripts, and emoji.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad"
    "\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
_NEWLINE = re.compile("\r\n?|\x85|\u2028|\u2029")

HTML_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,500}?-->\s*)?<(?:!doctype\s+html|html)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
"""The beginning of an HTML page."""

Form = Literal["NFC", "NFKC", "NFD", "NFKD"]


def normalise(text: str, form: Form = "NFC", invisible: bool = True) -> str:
    """One Unicode form (UAX 15), newlines as "\\n"; `invisible` drops controls and characters of no width."""
    if text.isascii():  # every form leaves ASCII alone
        if "\r" in text:
            text = _NEWLINE.sub("\n", text)
        return _INVISIBLE.sub("", text) if invisible and not text.isprintable() else text
    text = _NEWLINE.sub("\n", text)
    if invisible:
        text = _INVISIBLE.sub("", text)
    if not unicodedata.is_normalized(form, text):
        text = unicodedata.normalize(form, text)
    return text


Boundary = Literal["line", "word", "character"]
_JOINER = "\u200d"


def truncate(text: str, max_chars: int, at: Boundary = "word") -> str:
    """The beginning of a text, of at most `max_chars` code points, cut at a boundary and trimmed there.

    Without a line end or a space before the limit the next finer boundary is taken. Combining marks and
    joined emoji stay with the character before them (UAX 29, roughly).
    """
    if len(text) <= max_chars:
        return text
    if at == "line":
        end = text.rfind("\n", 0, max_chars + 1)
        if text[: max(end, 0)].strip():
            return text[:end].rstrip()
    end = max_chars
    if at != "character":
        while end > 0 and not text[end].isspace():
            end -= 1
        if text[:end].strip():
            return text[:end].rstrip()
        end = max_chars
    while end > 0 and (_continues(text[end]) or text[end - 1] == _JOINER):
        end -= 1
    return text[:end]


def _continues(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or character == _JOINER


# Patterns begin with a character and look behind it only then: that lets the matcher skip ahead quickly.
_AT_DOMAIN = re.compile(
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,24}(?![\w@-])", re.ASCII | re.I
)
_LOCAL = re.compile(r"(?<![\w.+%-])[a-z0-9](?:[a-z0-9._%+-]{0,62}[a-z0-9_+-])?$", re.ASCII | re.I)
_LONGEST_LOCAL = 64  # RFC 5321, section 4.5.3.1.1
_IPV4 = re.compile(r"[0-9](?<![\w.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\.?\w)", re.ASCII)
_CARD = re.compile(r"[0-9](?<![\w.-].)(?:[ -]?[0-9]){12,18}(?![\w-]|\.[0-9])", re.ASCII)
# An international number (+ and 7 to 15 digits, E.164), or a North American one with separators.
_INTERNATIONAL = re.compile(
    r"\+(?<![\w.+-].)[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,5}(?![\w-]|\.[0-9])", re.ASCII
)
_AMERICAN = re.compile(
    r"[(0-9](?<![\w.+-].)(?:(?<=\()[0-9]{3}\) ?|(?<=[0-9])[0-9]{2}[-.])[0-9]{3}[-.][0-9]{4}(?![\w-]|\.[0-9])",
    re.ASCII,
)
# This network, private, loopback, link-local, documentation (RFC 5737), multicast, reserved (RFC 6890).
_NOBODY = re.compile(
    r"(?:0|10|127)\.|169\.254\.|172\.(?:1[6-9]|2[0-9]|3[01])\.|192\.168\."
    r"|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|(?:22[4-9]|2[3-5][0-9])\."
)

PLACEHOLDERS = {
    "email": "<EMAIL>",
    "ip": "<IP>",
    "card": "<CARD>",
    "phone": "<PHONE>",
    "iban": "<IBAN>",
    "ipv6": "<IP>",
    "key": "<KEY>",
}
USUAL = ("email", "ip", "card", "phone")


def mask_pii(text: str, kinds: frozenset[str] = frozenset(USUAL)) -> str:
    """Put placeholders for e-mail addresses, public IPv4 addresses, payment card and telephone numbers.

    And, where asked for, for account numbers ("iban"), public IPv6 addresses ("ipv6") and keys of services
    ("key"). Card numbers have 13 to 19 digits and pass Luhn's check (ISO/IEC 7812-1). Addresses that name
    nobody, such as private, loopback and documentation ones, stay.
    """
    if "email" in kinds and "@" in text:
        text = _mask_emails(text)
    # Before cards and telephones, which parts of them look like.
    if "key" in kinds:
        text = mask_keys(text, PLACEHOLDERS["key"])
    if "iban" in kinds:
        text = mask_ibans(text, PLACEHOLDERS["iban"])
    if "ipv6" in kinds:
        text = mask_ipv6(text, PLACEHOLDERS["ipv6"])
    if "ip" in kinds:
        text = _IPV4.sub(_ip, text)
    if "card" in kinds:
        text = _CARD.sub(_card, text)
    if "phone" in kinds:
        if "+" in text:
            text = _INTERNATIONAL.sub(_phone, text)
        text = _AMERICAN.sub(PLACEHOLDERS["phone"], text)
    return text


def _mask_emails(text: str) -> str:
    parts: list[str] = []
    done = 0
    for domain in _AT_DOMAIN.finditer(text):
        # One character more than the longest local part, for the look behind it.
        first = max(done, domain.start() - _LONGEST_LOCAL - 1)
        local = _LOCAL.search(text[first : domain.start()])
        if local is not None:
            parts += [text[done : first + local.start()], PLACEHOLDERS["email"]]
            done = domain.end()
    return "".join([*parts, text[done:]]) if parts else text


def _ip(match: re.Match[str]) -> str:
    octets = match[0].split(".")
    valid = all(int(octet) <= 255 and (octet == "0" or octet[0] != "0") for octet in octets)
    return PLACEHOLDERS["ip"] if valid and not _NOBODY.match(match[0]) else match[0]


def _card(match: re.Match[str]) -> str:
    return PLACEHOLDERS["card"] if luhn([int(c) for c in match[0] if c.isdigit()]) else match[0]


def _phone(match: re.Match[str]) -> str:
    return PLACEHOLDERS["phone"] if 7 <= sum(c.isdigit() for c in match[0]) <= 15 else match[0]


def luhn(digits: list[int]) -> bool:
    """Whether the last digit is the check digit of the others (Luhn, ISO/IEC 7812-1); no for all zeros."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0 and any(digits)
