"""Account numbers, IPv6 addresses and keys of services in texts, each told by its check or its form."""

from __future__ import annotations

import ipaddress
import re

_IBAN = re.compile(r"[A-Z](?<![\w-].)[A-Z][0-9]{2}(?:[ -]?[A-Z0-9]){11,30}", re.ASCII)
# Characters of a country's IBAN (ISO 13616 registry).
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC",
    }.items()
    for country in countries.split()
}  # fmt: skip
_IPV6 = re.compile(r"[0-9a-f:](?<![\w:.].)[0-9a-f:]{2,38}(?:\.[0-9]{1,3}){0,3}(?![\w:])", re.ASCII | re.I)
_GLOBAL = ipaddress.IPv6Network("2000::/3")  # global unicast (IANA)
_KEYS = re.compile(
    r"(?<![A-Za-z0-9_])(?:"
    r"A(?:KIA|SIA)[A-Z2-7]{16}"  # AWS access key ids
    r"|gh[oprsu]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"  # GitHub
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,250}"  # Slack
    r")(?![A-Za-z0-9_])"
)
_PRIVATE = re.compile(  # a block of RFC 7468 or RFC 9580: up to the next dashes, so in linear time
    r"-----BEGIN ((?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?)-----(?:(?!-----).)*-----END \1-----",
    re.DOTALL,
)


def mask_ibans(text: str, placeholder: str) -> str:
    """Replace account numbers of the right length for their country whose check digits hold (ISO 13616)."""

    def replaced(match: re.Match[str]) -> str:
        length = _IBAN_LENGTHS.get(match[0][:2], 0)
        places = [i for i, c in enumerate(match[0]) if c.isalnum()]
        if length == 0 or len(places) < length:
            return match[0]
        end = places[length - 1] + 1
        rest = match[0][end:] + match.string[match.end() : match.end() + 1]
        number = re.sub("[ -]", "", match[0][:end])
        if not iban(number) or (rest and (rest[0].isalnum() or rest[0] == "_")):
            return match[0]
        return placeholder + match[0][end:]

    return _IBAN.sub(replaced, text)


def iban(number: str) -> bool:
    """Whether the remainder of an account number is 1 (ISO 7064, MOD 97-10); letters count from 10."""
    return int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1


def mask_ipv6(text: str, placeholder: str) -> str:
    """Replace IPv6 addresses that are globally routable unicast (RFC 4291; 2000::/3)."""

    def replaced(match: re.Match[str]) -> str:
        found = match[0]
        tail = ":" if found.endswith(":") and not found.endswith("::") else ""
        try:
            address = ipaddress.IPv6Address(found.removesuffix(tail))
        except ValueError:
            return found
        return placeholder + tail if address.is_global and address in _GLOBAL else found

    return _IPV6.sub(replaced, text) if text.count(":") > 1 else text


def mask_keys(text: str, placeholder: str) -> str:
    """Replace private key blocks, and tokens of AWS, GitHub and Slack by the forms that these document."""
    if "-----BEGIN " in text:
        text = _PRIVATE.sub(placeholder, text)
    return _KEYS.sub(placeholder, text)
