"""Something else of the same kind in place of personal data: the same for the same, and nobody's.

Addresses are of the ranges kept for documentation (RFC 2606, 3849, 5737), telephone numbers of those kept for
fiction (555-0100 to 0199) or of a country code that is not given; numbers that have a check fail it.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator

from tillage.kernels.pii import PLACEHOLDERS, Kind
from tillage.kernels.pii_numbers import iban, issued, national_id

_NETS = ("192.0.2", "198.51.100", "203.0.113")
_TRIES = 1000


def surrogate(piece: str, kind: Kind, seed: int = 0) -> str:
    """What stands for `piece` everywhere: case, and how digits are grouped, does not make another."""
    plain = piece.lower() if kind in ("email", "ipv6") else "".join(c for c in piece if c.isalnum())
    draws = _draws(f"{seed}\0{kind}\0{plain}")
    if kind == "email":
        return f"user{next(draws) % 10**8:08d}@example.org"
    if kind == "ip":
        return f"{_NETS[next(draws) % 3]}.{1 + next(draws) % 254}"
    if kind == "ipv6":
        return "2001:db8:" + ":".join(f"{next(draws) % 65536:x}" for _ in range(6))
    if kind == "phone":
        return _phone(piece, draws)
    if kind == "key":
        return PLACEHOLDERS[kind] if piece.startswith("-----") else piece[:4] + _scrambled(piece[4:], draws)
    first = 2 if kind == "iban" else 0
    for _ in range(_TRIES):
        made = piece[:first] + _scrambled(piece[first:], draws)
        if not _holds(made, kind):
            return made
    return PLACEHOLDERS[kind]


def _holds(piece: str, kind: Kind) -> bool:
    if kind == "national_id":
        return national_id(piece)
    number = "".join(c for c in piece if c.isalnum())
    return iban(number) if kind == "iban" else issued(number)


def _phone(piece: str, draws: Iterator[int]) -> str:
    count = sum(c.isdigit() for c in piece)
    american = not piece.startswith("+") or (piece.startswith("+1") and count == 11)
    if american:
        area = f"{2 + next(draws) % 8}{next(draws) % 10}{next(draws) % 10}"
        digits = ("1" if count == 11 else "") + f"{area}55501{next(draws) % 100:02d}"
    else:
        digits = "999" + "".join(str(next(draws) % 10) for _ in range(count - 3))
    left = iter(digits)
    return "".join(next(left) if c.isdigit() else c for c in piece)


def _scrambled(piece: str, draws: Iterator[int]) -> str:
    """A digit for each digit and a letter for each letter (ASCII), of the same case."""
    out: list[str] = []
    for c in piece:
        kinds = (string.digits, string.ascii_uppercase, string.ascii_lowercase)
        letters = next((kind for kind in kinds if c in kind), c)
        out.append(letters[next(draws) % len(letters)] if len(letters) > 1 else c)
    return "".join(out)


def _draws(key: str) -> Iterator[int]:
    """An endless stream of 32-bit numbers that the key alone determines."""
    block = 0
    while True:
        data = hashlib.blake2b(f"{key}\0{block}".encode(), digest_size=64).digest()
        yield from (int.from_bytes(data[i : i + 4], "big") for i in range(0, 64, 4))
        block += 1
