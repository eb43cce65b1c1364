"""Numbers that are told by a check: payment cards, bank accounts, national ids of nine countries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

_CARD = re.compile(r"[0-9](?<![\w.-].)(?:[ -]?[0-9]){12,18}(?![\w-]|\.[0-9])", re.ASCII)
# Beginnings of the numbers that networks issue, and their lengths: in ISO/IEC 7812 terms their IIN ranges.
_ISSUED = re.compile(
    r"4(?:[0-9]{15}|[0-9]{18})"  # Visa; 13 digits have not been issued for long, and are like EANs
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|3(?:0[0-5]|[689][0-9])[0-9]{11}"  # Diners Club
    r"|(?:6011|64[4-9][0-9]|65[0-9]{2}|62[0-9]{2}|81[0-9]{2}|220[0-4])[0-9]{12,15}"  # Discover, UnionPay, Mir
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"  # JCB
    r"|(?:50(?:18|20|38)|5893|6304|6759|676[1-3])[0-9]{9,15}"  # Maestro
    r"|(?:508[0-9]|60[0-9]{2}|82[0-9]{2}|9792)[0-9]{12}"  # RuPay, Troy
)
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


def cards(text: str) -> Iterator[tuple[int, int]]:
    """Payment cards: 13 to 19 digits of an issuer's range whose check digit holds (ISO/IEC 7812-1)."""
    for match in _CARD.finditer(text):
        if issued(_alnum(match[0])):
            yield match.span()


def issued(number: str) -> bool:
    """Whether digits are a card's number: of a network's range, and right by Luhn's check."""
    return _ISSUED.fullmatch(number) is not None and luhn([int(c) for c in number])


def luhn(digits: list[int]) -> bool:
    """Whether the last digit is the check digit of the others (Luhn, ISO/IEC 7812-1); no for all zeros."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0 and any(digits)


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """Account numbers of the right length for their country whose check digits hold (ISO 13616)."""
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2], 0)
        places = [i for i, c in enumerate(match[0]) if c.isalnum()]
        if length == 0 or len(places) < length:
            continue
        end = places[length - 1] + 1
        rest = match[0][end:] + text[match.end() : match.end() + 1]
        if iban(_alnum(match[0][:end])) and not (rest and (rest[0].isalnum() or rest[0] == "_")):
            yield match.start(), match.start() + end


def iban(number: str) -> bool:
    """Whether the remainder of an account number is 1 (ISO 7064, MOD 97-10); letters count from 10."""
    return int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1


def national_ids(text: str) -> Iterator[tuple[int, int]]:
    """National ids: of Brazil, China, France, Germany, India, Italy, Spain, the United Kingdom and States."""
    found: list[tuple[int, int]] = []
    for id in _IDS:
        for match in id.pattern.finditer(text):
            start, end = match.span()
            near = text[max(0, start - _BEFORE) : end + _AFTER]
            if id.check(_alnum(match[0])) and (id.context is None or id.context.search(near)):
                found.append((start, end))
    done = 0
    for start, end in sorted(found):
        if start >= done:
            yield start, end
            done = end


def national_id(text: str) -> bool:
    """Whether a text is the number of a national id, whatever stands around it."""
    return any(id.pattern.fullmatch(text) and id.check(_alnum(text)) for id in _IDS)


@dataclass(frozen=True)
class _Id:
    """How an id is written, when it is one, and what must be said near it where its check is weak."""

    pattern: re.Pattern[str]
    check: Callable[[str], bool]
    context: re.Pattern[str] | None = None


_BEFORE, _AFTER = 40, 20
_END = r"(?![\w-]|[.,][0-9])"


def _alnum(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _social_security(n: str) -> bool:
    """United States (SSA, POMS RM 10201.030): areas 000, 666 and 900 to 999, groups 00 and serials 0000 are
    not given; nor are three numbers that advertisements have made known."""
    known = n in ("078051120", "219099999", "457555462")
    return n[:3] not in ("000", "666") and n[0] != "9" and n[3:5] != "00" and n[5:] != "0000" and not known


def _nino(n: str) -> bool:
    """United Kingdom (HMRC, NIM39110): prefixes that are not given."""
    return n[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _steuer_id(n: str) -> bool:
    """Germany (Steuer-ID): one of the first ten digits stands two or three times, not three in a row, the
    others once at most; check digit of ISO 7064, MOD 11,10."""
    counts = sorted(n[:10].count(c) for c in set(n[:10]))
    if counts[-1] not in (2, 3) or (len(counts) > 1 and counts[-2] != 1):
        return False
    if any(n[i] == n[i + 1] == n[i + 2] for i in range(8)):
        return False
    product = 10
    for c in n[:10]:
        product = ((int(c) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(n[10])


def _nir(n: str) -> bool:
    """France (NIR, INSEE): month of birth; a key of 97 less the remainder by 97, 2A and 2B as 19 and 18."""
    month = int(n[3:5])
    if not 1 <= month <= 12:
        return False
    number = n[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(n[13:])


def _dni(n: str) -> bool:
    """Spain (DNI, and NIE for X, Y, Z as 0, 1, 2): a letter by the remainder by 23. 20240131T is a time."""
    if n[0] in "12" and n[-1] in "TZ" and _day(n[:8]):
        return False
    number = int(str("XYZ".index(n[0])) + n[1:-1] if n[0] in "XYZ" else n[:-1])
    return "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == n[-1]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21,
         2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23],
        strict=True,
    )
)  # fmt: skip


def _codice_fiscale(n: str) -> bool:
    """Italy (D.M. 23 December 1976): a letter by the sum of values of the odd and the even places."""
    even = sum(int(c) if c.isdigit() else ord(c) - ord("A") for c in n[1:15:2])
    return chr(ord("A") + (sum(_ODD[c] for c in n[:15:2]) + even) % 26) == n[15]


def _cpf(n: str) -> bool:
    """Brazil (Receita Federal): two check digits, each by the remainder by 11."""
    if len(set(n)) == 1:
        return False
    for length in (9, 10):
        total = sum(int(c) * (length + 1 - i) for i, c in enumerate(n[:length]))
        if total * 10 % 11 % 10 != int(n[length]):
            return False
    return True


# The dihedral group of order 10, and the powers of the permutation (Verhoeff 1969).
_D = [
    [(a + b) % 5 + (b // 5 * 5) if a < 5 else (a - b) % 5 + (5 - b // 5 * 5) for b in range(10)]
    for a in range(10)
]
_P = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
for _ in range(6):
    _P.append([_P[1][i] for i in _P[-1]])


def verhoeff(n: str) -> bool:
    """Whether the last digit is Verhoeff's check digit of the others."""
    check = 0
    for place, c in enumerate(reversed(n)):
        check = _D[check][_P[place % 8][int(c)]]
    return check == 0


_RANGES = ((11, 15), (21, 23), (31, 37), (41, 46), (50, 54), (61, 65), (71, 71), (81, 83), (91, 91))
_PROVINCES = frozenset(code for first, last in _RANGES for code in range(first, last + 1))


def _resident(n: str) -> bool:
    """China (GB 11643-1999): province, day of birth, and the check character of ISO 7064, MOD 11-2."""
    if int(n[:2]) not in _PROVINCES or not _day(n[6:14]):
        return False
    total = sum(int(c) * (2 ** (17 - i) % 11) for i, c in enumerate(n[:17]))
    return "10X98765432"[total % 11] == n[17].upper()


def _day(n: str) -> bool:
    """Whether eight digits are a day from 1850 to 2100."""
    try:
        return 1850 <= date(int(n[:4]), int(n[4:6]), int(n[6:])).year <= 2100
    except ValueError:
        return False


def _compiled(pattern: str, flags: re.RegexFlag = re.ASCII) -> re.Pattern[str]:
    return re.compile(pattern + _END, flags)


_SSN, _AADHAAR = re.compile(r"\bssns?\b|social\s+security", re.I), re.compile(r"a+dh?a+r|uidai|आधार", re.I)
_NINO = r"[A-CEGHJ-PR-TW-Z](?<![\w-].)[A-CEGHJ-NPR-TW-Z](?: ?[0-9]{2}){3} ?[A-D]"
_NIR = r"[12](?<![\w.,-].)(?:[ .-]?[0-9]{2}){2}[ .-]?(?:[0-9]{2}|2[AB])(?:[ .-]?[0-9]{3}){2}[ .-]?[0-9]{2}"
_FISCALE = r"[A-Z](?<![\w-].)[A-Z]{5}[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]"
_IDS = (
    _Id(_compiled(r"[0-8](?<![\w.-].)[0-9]{2}-[0-9]{2}-[0-9]{4}"), _social_security),
    _Id(_compiled(r"[0-8](?<![\w.-].)[0-9]{2} ?[0-9]{2} ?[0-9]{4}"), _social_security, _SSN),
    _Id(_compiled(_NINO), _nino),
    _Id(_compiled(r"[1-9](?<![\w.,/-].)(?:[0-9]{10}|[0-9](?: [0-9]{3}){3})"), _steuer_id),
    _Id(_compiled(_NIR), _nir),
    _Id(_compiled(r"[0-9XYZ](?<![\w.-].)[0-9]{7}-?[A-HJ-NP-TV-Z]"), _dni),
    _Id(_compiled(_FISCALE), _codice_fiscale),
    _Id(_compiled(r"[0-9](?<![\w.-].)[0-9]{2}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"), _cpf),
    _Id(_compiled(r"[0-9](?<![\w.-].)[0-9]{10}"), _cpf, re.compile(r"\bcpfs?\b", re.I)),
    _Id(_compiled(r"[2-9](?<![\w.-].)[0-9]{3}([ -]?)[0-9]{4}\1[0-9]{4}"), verhoeff, _AADHAAR),
    _Id(_compiled(r"[1-9](?<![\w.-].)[0-9]{16}[0-9Xx]"), _resident),
)
