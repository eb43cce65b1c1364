"""Personal data in a text: where it stands, and texts with something else in its place.

Kinds are told by their form and, where there is one, by their check, so that version numbers, hashes, ISBNs
and the like are left alone. In Dolma's manner (Soldaini et al. 2024, arXiv 2402.00159) e-mail
addresses, telephone numbers and IP addresses; beyond it cards, account numbers, national ids and keys.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from tillage.kernels.pii_keys import keys
from tillage.kernels.pii_numbers import cards, ibans, national_ids

Kind = Literal["email", "key", "iban", "national_id", "ipv6", "ip", "card", "phone"]
Span = tuple[int, int, Kind]
"""Begin and end of a piece of a text, in characters, and what it is."""

PLACEHOLDERS: dict[Kind, str] = {
    "email": "<EMAIL>",
    "key": "<KEY>",
    "iban": "<IBAN>",
    "national_id": "<NATIONAL_ID>",
    "ipv6": "<IP>",
    "ip": "<IP>",
    "card": "<CARD>",
    "phone": "<PHONE>",
}
USUAL: tuple[Kind, ...] = ("email", "ip", "card", "phone")

# Patterns begin with a character and look behind it only then: that lets the matcher skip ahead quickly.
_AT_DOMAIN = re.compile(
    r"@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}[a-z]{2,24}(?![\w@-])", re.ASCII | re.I
)
_LOCAL = re.compile(r"(?<![\w.+%-])[a-z0-9](?:[a-z0-9._%+-]{0,62}[a-z0-9_+-])?$", re.ASCII | re.I)
_LONGEST_LOCAL = 64  # RFC 5321, section 4.5.3.1.1
_IPV4 = re.compile(r"[0-9](?<![\w.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\.?\w)", re.ASCII)
_IPV6 = re.compile(r"[0-9a-f:](?<![\w:.].)[0-9a-f:]{2,38}(?:\.[0-9]{1,3}){0,3}(?![\w:])", re.ASCII | re.I)
_GLOBAL = ipaddress.IPv6Network("2000::/3")  # global unicast (IANA)
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
# Four numbers that come after such a word count versions or sections.
_NUMBERED = re.compile(
    r"(?:\b(?:v|ver|vers|version|rev|revision|release|build|firmware|section|sec|chapter|clause|oid)|§)"
    r"[.:=]?\s{0,2}$",
    re.I,
)
_BEFORE = 14


def find_pii(text: str, kinds: frozenset[Kind] = frozenset(USUAL)) -> list[Span]:
    """The personal data of these kinds in a text, in order; no two overlap.

    Addresses that name nobody, such as private, loopback and documentation ones, are none.
    """
    spans: list[Span] = []
    # In this order: parts of keys and account numbers look like cards, and parts of cards like telephones.
    for kind in PLACEHOLDERS:
        if kind not in kinds:
            continue
        found: list[Span] = [(start, end, kind) for start, end in _FINDERS[kind](text)]
        if found:
            spans += found
            # What is known stands for no other kind, and parts nothing that stands before or after it.
            text = "".join(_replaced(text, found, lambda piece, _: "\0" * len(piece)))
    return sorted(spans)


def mask_pii(text: str, kinds: frozenset[Kind] = frozenset(USUAL)) -> str:
    """Put placeholders for the personal data of these kinds."""
    return rewrite_pii(text, kinds, lambda _, kind: PLACEHOLDERS[kind])


def rewrite_pii(text: str, kinds: frozenset[Kind], put: Callable[[str, Kind], str]) -> str:
    """Put `put(piece, kind)` for each piece of personal data."""
    spans = find_pii(text, kinds)
    return "".join(_replaced(text, spans, put)) if spans else text


def _replaced(text: str, spans: Iterable[Span], put: Callable[[str, Kind], str]) -> Iterator[str]:
    done = 0
    for start, end, kind in spans:
        yield text[done:start]
        yield put(text[start:end], kind)
        done = end
    yield text[done:]


def _emails(text: str) -> Iterator[tuple[int, int]]:
    if "@" not in text:
        return
    done = 0
    for domain in _AT_DOMAIN.finditer(text):
        # One character more than the longest local part, for the look behind it.
        first = max(done, domain.start() - _LONGEST_LOCAL - 1)
        local = _LOCAL.search(text[first : domain.start()])
        if local is not None:
            yield first + local.start(), domain.end()
            done = domain.end()


def _ipv4(text: str) -> Iterator[tuple[int, int]]:
    for match in _IPV4.finditer(text):
        octets = match[0].split(".")
        valid = all(int(octet) <= 255 and (octet == "0" or octet[0] != "0") for octet in octets)
        before = text[max(0, match.start() - _BEFORE) : match.start()]
        if valid and not _NOBODY.match(match[0]) and not _NUMBERED.search(before):
            yield match.span()


def _ipv6(text: str) -> Iterator[tuple[int, int]]:
    """Addresses that are globally routable unicast (RFC 4291; 2000::/3)."""
    if text.count(":") < 2:
        return
    for match in _IPV6.finditer(text):
        found = match[0]
        tail = ":" if found.endswith(":") and not found.endswith("::") else ""
        try:
            address = ipaddress.IPv6Address(found.removesuffix(tail))
        except ValueError:
            continue
        if address.is_global and address in _GLOBAL:
            yield match.start(), match.end() - len(tail)


def _phones(text: str) -> Iterator[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    if "+" in text:
        for match in _INTERNATIONAL.finditer(text):
            closes = match[0].count(")") > match[0].count("(")  # what a text in brackets ends with
            if 7 <= sum(c.isdigit() for c in match[0]) <= 15:
                found += [(match.start(), match.end() - (closes and match[0][-1] == ")"))]
    for match in _AMERICAN.finditer(text):
        if not any(start < match.end() and match.start() < end for start, end in found):
            found.append(match.span())
    return iter(sorted(found))


_FINDERS: dict[Kind, Callable[[str], Iterator[tuple[int, int]]]] = {
    "email": _emails,
    "key": keys,
    "iban": ibans,
    "national_id": national_ids,
    "ipv6": _ipv6,
    "ip": _ipv4,
    "card": cards,
    "phone": _phones,
}
