"""Repair of UTF-8 that was read as Latin-1 or Windows-1252 ("cafÃ©" for "café").

After the idea of ftfy (Speer 2019, doi 10.5281/zenodo.2591652): turn a run of characters back into bytes and
keep what they say as UTF-8, where that is likelier than the text as it stands. Here likelier means two
characters in a row, or one of those that European and typographic text is full of.
"""

from __future__ import annotations

import re


def _continuations() -> dict[int, str]:
    """Byte 0x80 to 0xBF -> the characters that it may have been read as."""
    found: dict[int, str] = {}
    for byte in range(0x80, 0xC0):
        windows = bytes([byte]).decode("cp1252", errors="ignore")  # five bytes have no character
        found[byte] = chr(byte) + (windows if windows != chr(byte) else "")
    return found


_BYTES = {ord(char): chr(byte) for byte, chars in _continuations().items() for char in chars}
_NEXT = "[" + re.escape("".join(map(chr, _BYTES))) + "]"
_CHARACTER = f"[\xc2-\xdf]{_NEXT}|[\xe0-\xef]{_NEXT}{{2}}|[\xf0-\xf4]{_NEXT}{{3}}"
_RUN = re.compile(f"(?:{_CHARACTER})+")
# What one character alone must begin with: Latin letters and signs, typographic signs, the byte order mark
# and full-width forms, emoji. Other scripts come in runs.
_ALONE = re.compile("[\xc2-\xc5\xe2\xf0]|\xef[\xbb\xbc\xbd\xbf]")
# After a capital letter that ends a word these stand by right, as in "«AMANHÃ»"; not after small letters, and
# not as a word of its own before a space, which is "à" or a word that ends with it.
_CLOSING = frozenset("»”’›…–—™®\xa0")


def fix_mojibake(text: str) -> str:
    """The text with such runs repaired, however often they were read wrongly.

    Characters that were lost on the way, such as a no-break space turned into a space, stay lost; other
    encodings (Windows-1250, 1251, Mac Roman) are not looked for.
    """
    while not text.isascii():
        fixed = _RUN.sub(_repaired, text)
        if fixed == text:
            break
        text = fixed
    return text


def _repaired(match: re.Match[str]) -> str:
    run = match[0]
    raw = run.translate(_BYTES).encode("latin-1")
    try:
        said = raw.decode()
    except UnicodeDecodeError:  # surrogates, overlong forms
        return run
    if len(said) > 1:
        return said
    if not _ALONE.match(run):
        return run
    before = match.string[max(match.start() - 1, 0) : match.start()]
    after = match.string[match.end() : match.end() + 1]
    alone = run[1] == "\xa0" and after == " " and not before.strip()
    if len(run) == 2 and run[0] != "\xc2" and run[1] in _CLOSING and not after.isalpha():
        return said if alone or before.islower() else run
    return said
