"""Slow readings of what the kernels say they do, in plain Python over `str`, and texts to compare them on."""

import re
import unicodedata
from collections import Counter

from hypothesis import strategies as st

from tillage.kernels.unicode import _JOINERS, _SOLO_RANGES, sentence_ends

M64 = 2**64 - 1
PRIME = 0x9E3779B97F4A7C15

PIECES = [
    *"aAbzé 0.,!?#*-…\"')]{}<>/:@\n\t\r",
    "\n\n",
    " ",
    "...",
    "the ",
    "The",
    " of",
    "that",
    "with.",
    "http://",
    "https://x.y",
    "ttp://",
    "<b>",
    "</p>",
    "<!-- ",
    "lorem ipsum",
    "LOREM IPSUM",
    "• ",
    "中",
    "文字",
    "。",
    "！",
    "「",
    "」",
    "かな",
    "กี่",
    "ไทย",
    "ខ្មែរ",
    "العربية",
    "؟",
    "हिन्दी।",
    "e\u0301",
    "\u0301",
    "👩‍🌾",
    "🇩🇪",
    "\u200b",
    "\u200d",
    "\u2028",
    "\x85",
    "\x00",
    "\U000e0100",
    "\U0002a6b2",
    "İ",
    "ǅ",
    "ß",
    "Ⅷ",
    "½",
    "word word ",
    "one two three four five ",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=30)
TEXTS = st.lists(st.none() | TEXT, max_size=6)


def category(c):
    return unicodedata.category(c)


def is_solo(c):
    return category(c)[0] == "L" and any(a <= ord(c) <= b for a, b in _SOLO_RANGES)


def is_mark(c):
    return category(c)[0] == "M" or ord(c) in _JOINERS


def is_word(c):
    return category(c)[0] in "LN" or is_mark(c)


def raw_words(text):
    """(word, whether it is a letter of an unspaced script with what follows it)"""
    kinds = "".join(
        "S" if is_solo(c) else " " if c.isspace() else "M" if is_mark(c) or category(c)[0] == "P" else "X"
        for c in text
    )
    return [(text[m.start() : m.end()], m[0][0] == "S") for m in re.finditer("SM*|[MX]+", kinds)]


def fold(c):
    lowered = c.lower()
    return lowered if ord(c) < 0x3000 and len(lowered) == 1 else c


def folded_words(text):
    kinds = "".join("S" if is_solo(c) else "W" if is_word(c) else " " for c in text)
    words = [text[m.start() : m.end()] for m in re.finditer("S|W+", kinds)]
    return ["".join(fold(c) for c in word) for word in words]


def ratio(a, b):
    return a / b if b else 0.0


TERMINAL = ".!?…؟۔।"
FULL_STOPS = "。！？"
LINE_ENDS = ".!?" + "".join(map(chr, sentence_ends()))
CLOSERS = "\"')]”’»」』）"


def abbreviates(text, at):
    """Whether the full stop at `at` follows a capital letter on its own, or a title that is a word."""
    before = [c for c in text[:at] if category(c)[0] != "M" and ord(c) not in _JOINERS]
    letters = 0
    while letters < len(before) and category(before[-1 - letters])[0] == "L":
        letters += 1
    if letters == 1 and category(text[at - 1]) in ("Lu", "Lt"):
        return True
    words = raw_words(text[:at])
    return letters > 0 and words[-1][0] in ("Mr", "Mrs", "Ms", "Dr", "St", "Prof")


def sentences(text):
    kinds = "".join(
        "W"
        if c.isspace()
        else "U"
        if c in FULL_STOPS
        else "A"
        if c == "." and abbreviates(text, i)
        else "T"
        if c in TERMINAL
        else "C"
        if c in CLOSERS
        else "O"
        for i, c in enumerate(text)
    )
    ends = (*TERMINAL, *FULL_STOPS, '"', "'", "”")
    newlines = [i for i, c in enumerate(text) if c == "\n"]
    cuts = [0, *(i for i in newlines if text[:i].rstrip().endswith(ends))]
    for m in re.finditer("[TU][TUC]*", kinds):
        after = kinds[m.end() : m.end() + 1]
        if after in ("", "W") or "U" in m[0]:
            cuts.append(m.end())
    cuts.sort()
    return sum("O" in kinds[a:b] for a, b in zip(cuts, [*cuts[1:], len(kinds)], strict=True))


def text_stats(text):
    words = raw_words(text)
    proper = [(w, solo) for w, solo in words if any(category(c)[0] not in "PSC" or is_mark(c) for c in w)]
    spaced = [word for word, solo in proper if not solo]
    whole = [line for line in text.split("\n") if line.strip()]
    lines = [line.strip() for line in whole]
    kinds = Counter("Z" if c.isspace() else category(c)[0] for c in text)
    upper = sum(category(c) in ("Lu", "Lt") for c in text)
    stops = {word for word, _ in words} & {"the", "be", "to", "of", "and", "that", "have", "with"}
    ellipses = text.count("...") + text.count("…")
    raw = text.encode()
    tags = re.findall(rb"<[A-Za-z/!][^<>]*>", raw)
    return {
        "chars": len(text),
        "bytes": len(raw),
        "words": len(words),
        "proper_words": len(proper),
        "mean_word_length": ratio(sum(map(len, spaced)), len(spaced)),
        "hash_ratio": ratio(text.count("#"), len(words)),
        "ellipsis_ratio": ratio(ellipses, len(words)),
        "alpha_words": ratio(sum(any(category(c)[0] == "L" for c in w) for w, _ in words), len(words)),
        "stop_words": len(stops),
        "lines": len(lines),
        "mean_line_length": ratio(sum(map(len, lines)), len(lines)),
        "max_line_length": max(map(len, lines), default=0),
        "bullet_lines": ratio(sum(line[0] in "-*•‣●◦▪■▶∙·–" for line in lines), len(lines)),
        "ellipsis_lines": ratio(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "terminal_lines": ratio(sum(line[-1] in LINE_ENDS for line in whole), len(lines)),
        "sentences": sentences(text),
        "braces": text.count("{"),
        "lorem_ipsum": b"lorem ipsum" in raw.lower(),
        "alpha_share": ratio(kinds["L"], len(text)),
        "upper_share": ratio(upper, kinds["L"]),
        "digit_share": ratio(kinds["N"], len(text)),
        "punct_share": ratio(kinds["P"], len(text)),
        "symbol_share": ratio(kinds["S"], len(text)),
        "space_share": ratio(kinds["Z"], len(text)),
        "urls": len(re.findall("https?://", text)),
        "html_tags": len(tags),
        "html_share": ratio(sum(map(len, tags)), len(raw)),
        "short_lines": ratio(sum(len(line) <= 30 for line in whole), len(lines)),
        "newline_ratio": text.count("\n") / max(len(words), 1),
    }


def repeats(parts):
    """The parts that occurred before."""
    seen, again = set(), []
    for part in parts:
        if part in seen:
            again.append(part)
        seen.add(part)
    return again


def repetition(text):
    words = [word for word, _ in raw_words(text)]
    lines, paragraphs = re.split("\n+", text) if text else [], re.split("\n{2,}", text.strip())
    again = repeats(lines)
    out = {"dup_lines": ratio(len(again), len(lines))}
    out["dup_line_chars"] = ratio(sum(map(len, again)), len(text))
    filled = sum(len(line) for line in again if line.strip())
    out["dup_text_line_chars"] = ratio(filled, len(text.replace("\n", "")))
    again = repeats(paragraphs)
    out["dup_paragraphs"] = ratio(len(again), len(paragraphs))
    out["dup_paragraph_chars"] = ratio(sum(map(len, again)), len(text))
    for n in (2, 3, 4):
        grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        gram, count = max(grams.items(), key=lambda item: item[1], default=((), 0))  # the first of equals
        chars = (sum(map(len, gram)) + n - 1) * count
        out[f"top_{n}gram"] = ratio(min(chars, len(text)), len(text))
    for n in range(5, 11):
        seen, chars, i = set(), 0, 0
        while i + n <= len(words):
            gram = tuple(words[i : i + n])
            if gram in seen:
                chars += sum(map(len, gram))
                i += n
            else:
                seen.add(gram)
                i += 1
        out[f"dup_{n}gram"] = ratio(chars, len(text))
    return out


def mix(h):
    for m in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        h ^= h >> 33
        h = h * m & M64
    return h ^ (h >> 33)


def word_hash(word):
    h = 0
    for c in word:
        h = (h ^ ord(c)) * PRIME & M64
        h ^= h >> 32
    return mix(h)


def hash_bytes(data, seed):
    h = seed ^ (len(data) * PRIME & M64)
    whole = len(data) - len(data) % 8
    for i in range(0, whole, 8):
        h = (h ^ int.from_bytes(data[i : i + 8], "little")) * PRIME & M64
        h ^= h >> 29
    h = (h ^ int.from_bytes(data[whole:], "little")) * PRIME & M64
    return mix(h ^ (h >> 29))


def shingles(text, n):
    words = [word_hash(word) for word in folded_words(text)]
    n = min(n, len(words))
    out = set()
    for i in range(len(words) - n + 1 if n else 0):
        h = n
        for word in words[i : i + n]:
            h = (h * PRIME + word) & M64
        out.add(mix(h) >> 32)
    return out


def c4_lines(text, min_words, phrases):
    kept = []
    for line in text.splitlines():
        chunks = [chunk for chunk in line.split() if chunk]
        words = sum(1 + sum(is_solo(c) for c in chunk[1:]) for chunk in chunks)
        line = line.strip()
        lowered = line.encode().lower()
        if (
            words >= min_words
            and line.endswith((*TERMINAL, *FULL_STOPS, '"', "'", "”"))
            and not line.endswith(("..", "…"))
            and not any(phrase.encode() in lowered for phrase in phrases)
        ):
            kept.append(line)
    return "\n".join(kept)


def word_count(text):
    return sum(1 + sum(is_solo(c) for c in chunk[1:]) for chunk in text.split())


def cut_pieces(text, paragraphs):
    """(head, [piece with the blank lines after it]): what is before the first piece, and the pieces."""
    head, out, blank = "", [], True
    for line in re.findall("[^\n]*\n|[^\n]+", text):
        if line.strip() and (not paragraphs or blank or not out):
            out.append(line)
        elif out:
            out[-1] += line
        else:
            head += line
        blank = not line.strip()
    return head, out


WORDY = r"[0-9A-Za-z\x80-\U0010ffff]"
COUNTER = (
    r"[^0-9A-Za-z\x80-\U0010ffff]*[0-9][0-9,.]*[kmb]?[ \t]+(?:likes|shares|comments|retweets|reposts|quotes|"
    rf"bookmarks|upvotes|downvotes|downloads|views|followers)(?!{WORDY})[^0-9A-Za-z\x80-\U0010ffff]*"
)


def refinedweb_line(line, max_upper):
    """The corrected line, or None where it goes, and the words that are left of it."""
    text = line.strip()
    words = word_count(text)
    if not words:
        return line, words
    numeric = any(category(c)[0] == "N" for c in text)
    other = any(not c.isspace() and category(c)[0] not in "NP" for c in text)
    if (
        words == 1
        or sum(category(c) in ("Lu", "Lt") for c in text) > max_upper * len(text)
        or (numeric and not other)
        or re.fullmatch(COUNTER, text, re.I | re.ASCII)
    ):
        return None, 0
    if words > 10:
        return line, words
    start = f"(?:^|(?<!{WORDY})|(?!{WORDY}))"
    first = re.match(
        rf"(?:sign-in|sign in|signin|sign-out|sign out|signout)(?!{WORDY})", text, re.I | re.ASCII
    )
    changed = first is not None
    if first:
        text = text[first.end() :].strip()
    last = re.search(rf"{start}read more(?:\.\.\.|…)?\Z", text, re.I | re.ASCII)
    if last:
        changed = True
        text = text[: last.start()].strip()
    left = word_count(text)
    inside = re.search(rf"{start}items in cart(?!{WORDY})", text, re.I | re.ASCII)
    if inside:
        changed = True
        before, after = text[: inside.start()], text[inside.end() :]
        left = word_count(before) + word_count(after)
        if not before.strip():
            text = after.strip()
        elif not after.strip():
            text = before.strip()
        else:
            text = before + after
    if not changed:
        return line, words
    return text or None, left


def refinedweb(text, max_upper):
    lines = text.split("\n")
    corrected = [refinedweb_line(line, max_upper) for line in lines]
    total = sum(map(word_count, lines))
    removed = total - sum(left for _, left in corrected)
    return "\n".join(line for line, _ in corrected if line is not None), ratio(removed, total)
