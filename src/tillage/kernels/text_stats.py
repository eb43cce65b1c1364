"""Measurements of a text in one pass over its bytes.

Words are runs of characters that are not white space, as in Gopher (Rae et al. 2021, arXiv 2112.11446); a
letter of a script written without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar) is a word of its own.
Lines are those that hold more than white space. Shares are of characters (code points) unless said
otherwise, and 0 where there is nothing to divide by. How words and lines are read follows datatrove 0.10.1,
by which the published rules are run: what a word of signs alone or the end of a line counts for.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from tillage.kernels.arrow import Int, buffers
from tillage.kernels.eight import FIRST, HIGH, U, eight, lowest, ones
from tillage.kernels.unicode import (
    DIGIT,
    LETTER,
    MARK,
    PUNCT,
    SOLO,
    SPACE,
    SYMBOL,
    UPPER,
    class_of,
    class_table,
    decode,
    sentence_ends,
    width,
)

STATS: dict[str, tuple[pa.DataType, str]] = {
    "chars": (pa.int64(), "characters (code points)"),
    "bytes": (pa.int64(), "bytes of UTF-8"),
    "words": (pa.int64(), "words"),
    "proper_words": (pa.int64(), "words that hold more than punctuation and symbols"),
    "mean_word_length": (
        pa.float64(),
        "characters a word, over words of spaced scripts that are not signs alone; 0 without any",
    ),
    "hash_ratio": (pa.float64(), "'#' characters a word"),
    "ellipsis_ratio": (pa.float64(), "ellipses ('...' or '…') a word"),
    "alpha_words": (pa.float64(), "share of words with at least one letter"),
    "stop_words": (pa.int64(), "how many of the, be, to, of, and, that, have, with stand as words"),
    "lines": (pa.int64(), "lines that are not blank"),
    "mean_line_length": (pa.float64(), "characters a line, trimmed"),
    "max_line_length": (pa.int64(), "characters of the longest line, trimmed"),
    "bullet_lines": (pa.float64(), "share of lines that begin with a bullet, '-' or '*'"),
    "ellipsis_lines": (pa.float64(), "share of lines that end with an ellipsis"),
    "terminal_lines": (pa.float64(), "share of lines whose last character, not trimmed, ends a sentence"),
    "sentences": (pa.int64(), "sentences by terminal punctuation before a space, initials and titles aside"),
    "braces": (pa.int64(), "opening curly braces, '{'"),
    "lorem_ipsum": (pa.bool_(), "'lorem ipsum' occurs, in any case"),
    "alpha_share": (pa.float64(), "share of letters"),
    "upper_share": (pa.float64(), "share of upper-case letters among letters"),
    "digit_share": (pa.float64(), "share of digits"),
    "punct_share": (pa.float64(), "share of punctuation"),
    "symbol_share": (pa.float64(), "share of symbols (mathematical, currency, emoji)"),
    "space_share": (pa.float64(), "share of white space"),
    "urls": (pa.int64(), "'http://' and 'https://'"),
    "html_tags": (pa.int64(), "HTML or XML tags"),
    "html_share": (pa.float64(), "share of bytes inside tags"),
    "short_lines": (pa.float64(), "share of lines of at most 30 characters, not trimmed"),
    "newline_ratio": (pa.float64(), "newlines a word; newlines where there is no word"),
}
"""Column -> Arrow type and meaning, in the order in which the kernel writes them."""

_NAMES = tuple(STATS)
_COUNT = len(_NAMES)
_SHORT = 30  # characters of a short line in FineWeb (Penedo et al. 2024, arXiv 2406.17557)


def _packed(*words: str) -> tuple[int, ...]:
    """Words of at most four ASCII characters, each as one integer, the first character lowest."""
    return tuple(int.from_bytes(word.encode(), "little") for word in words)


# The stop words of Gopher; titles, whose full stop ends no sentence.
_S0, _S1, _S2, _S3, _S4, _S5, _S6, _S7 = _packed("the", "be", "to", "of", "and", "that", "have", "with")
_T0, _T1, _T2, _T3, _T4, _T5 = _packed("Mr", "Mrs", "Ms", "Dr", "St", "Prof")
_LOREM = np.frombuffer(b"lorem ipsum", np.uint8)
_ENDS = sentence_ends()
_CASE, _TO_A, _BEYOND_Z = U(0x2020202020202020), U(0x1F1F1F1F1F1F1F1F), U(0x0505050505050505)
"""The bit that tells small letters; added to seven bits, carries into the eighth from "a" on, from "{" on."""


@njit(nogil=True, cache=True)
def _stop_bit(packed: Int) -> int:
    # Without branches, which nobody foresees where every third word is one of these.
    return (
        (packed == _S0)
        | (packed == _S1) << 1
        | (packed == _S2) << 2
        | (packed == _S3) << 3
        | (packed == _S4) << 4
        | (packed == _S5) << 5
        | (packed == _S6) << 6
        | (packed == _S7) << 7
    )


@njit(nogil=True, cache=True)
def _is_title(packed: Int) -> bool:
    return packed in (_T0, _T1, _T2, _T3, _T4, _T5)


@njit(nogil=True, cache=True)
def _is_bullet(c: Int) -> bool:
    return (
        c == 0x2D  # -
        or c == 0x2A  # *
        or c == 0x2022  # •
        or c == 0x2023  # ‣
        or c == 0x25CF  # ●
        or c == 0x25E6  # ◦
        or c == 0x25AA  # ▪
        or c == 0x25A0  # ■
        or c == 0x25B6  # ▶
        or c == 0x2219  # ∙
        or c == 0x00B7  # ·
        or c == 0x2013  # –
    )


@njit(nogil=True, cache=True)
def terminal(c: Int) -> Int:
    """2 for a full stop that needs no space after it, 1 for other terminal punctuation, else 0."""
    if c == 0x2E or c == 0x21 or c == 0x3F or c == 0x2026 or c == 0x061F or c == 0x06D4 or c == 0x0964:
        return 1  # . ! ? … ؟ ۔ ।
    if c == 0x3002 or c == 0xFF01 or c == 0xFF1F:
        return 2  # 。 ！ ？
    return 0


@njit(nogil=True, cache=True)
def is_quote(c: Int) -> bool:
    """Quotes that may end a line after, or in place of, its full stop."""
    return c == 0x22 or c == 0x27 or c == 0x201D


@njit(nogil=True, cache=True)
def ends_sentence(c: Int) -> bool:
    """Whether `c` is one of the signs that end a sentence in any script."""
    if c < 0x80:
        return c == 0x2E or c == 0x21 or c == 0x3F
    at = np.searchsorted(_ENDS, c)
    return bool(at < len(_ENDS) and _ENDS[at] == c)


@njit(nogil=True, cache=True)
def closes(c: Int) -> bool:
    """Quotes and brackets that may stand between a full stop and the space after it."""
    return (
        c == 0x22  # "
        or c == 0x27  # '
        or c == 0x29  # )
        or c == 0x5D  # ]
        or c == 0x201D  # ”
        or c == 0x2019  # ’
        or c == 0xBB  # »
        or c == 0x300D  # 」
        or c == 0x300F  # 』
        or c == 0xFF09  # ）
    )


@njit(nogil=True, cache=True)
def _starts_with_folded(data: NDArray[np.uint8], i: Int, stop: Int, word: NDArray[np.uint8]) -> bool:
    if i + len(word) > stop:
        return False
    for k in range(len(word)):
        b = data[i + k]
        if 0x41 <= b <= 0x5A:
            b += 0x20
        if b != word[k]:
            return False
    return True


@njit(nogil=True, cache=True)
def _measure(
    data: NDArray[np.uint8],
    start: Int,
    stop: Int,
    table: NDArray[np.uint8],
    lorem: NDArray[np.uint8],
    out: NDArray[np.float64],
) -> None:
    chars = words = proper_words = spaced_words = spaced_chars = hashes = ellipses = alpha_words = 0
    stops = packed = run = 0  # stop words seen; the present word, if short; letters in a row up to here
    lines = line_chars = longest = bullets = ellipsis_lines = terminal_lines = 0
    short_lines = newlines = 0
    sentences = braces = urls = tags = tag_bytes = 0
    letters = uppers = digits = puncts = symbols = spaces = 0
    has_lorem = in_word = word_alpha = word_proper = content = False
    word_chars = dots = ended = 0
    tag_start = -1
    # Of the present line: characters up to the last that is not white space, counted from the first.
    in_line = line_length = line_end = line_begin = 0
    last = 0  # the last character that was not white space
    tail = 0  # the last character
    last_dots = 0  # dots in a row up to it

    held = U(len(data))
    i = start
    while i <= stop:
        # Runs of ASCII letters, three quarters of most text, are taken in one step.
        end = i
        head = U(0)  # the first eight bytes
        while end < stop:
            if U(end) + U(8) > held:
                if not 0x61 <= data[U(end)] | 0x20 <= 0x7A:
                    break
                uppers += data[U(end)] < 0x61
                head |= U(data[U(end)]) << U(8 * (end - i)) if end - i < 8 else U(0)
                end += 1
                continue
            word = eight(data, U(end))
            small = (word | _CASE) & ~HIGH
            others = (~((small + _TO_A) & ~(small + _BEYOND_Z)) | word) & HIGH
            count = np.int64(lowest(others) >> U(3)) if others else 8
            count = min(count, stop - end)
            if end == i:
                head = word & FIRST[count]
            uppers += ones(~word & _CASE & FIRST[count])
            end += count
            if count < 8:
                break
        if end > i:
            size = end - i
            chars += size
            letters += size
            run += size
            if word_chars + size <= 4:
                packed |= np.int64(head) << 8 * word_chars
            if not has_lorem and size >= 5 and data[U(end - 5)] | 0x20 == 0x6C:
                has_lorem = _starts_with_folded(data, end - 5, stop, lorem)
            if in_word and word_chars == 0:
                words += 1
                proper_words += 1
                alpha_words += 1
            in_word = word_alpha = word_proper = True
            word_chars += size
            if ended == 2 and content:
                sentences += 1
            ended = dots = last_dots = 0
            content = True
            in_line = 1
            line_length += size
            line_end = line_length
            last = tail = np.int64(data[U(end - 1)])
            i = end
        if i < stop and data[U(i)] == 0x20:
            # What stands between most words; all that a space does below, without asking what else it may be.
            chars += 1
            spaces += 1
            run = dots = 0
            if in_word:
                words += 1
                proper_words += word_proper
                if word_chars > 0 and word_proper:
                    spaced_words += 1
                    spaced_chars += word_chars
                    if word_chars <= 4:
                        stops |= _stop_bit(packed)
                alpha_words += word_alpha
                in_word = word_alpha = word_proper = False
                word_chars = packed = 0
            if ended > 0:
                sentences += content
                ended = 0
                content = False
            line_length += in_line
            tail = 0x20
            i += 1
            continue
        # A newline after the end closes the last word, line and sentence.
        c = 10
        step = 1
        if i < stop:
            c = np.int64(data[U(i)])
            if c >= 0x80:
                step = width(data[U(i)])
                c = decode(data, i)
            chars += 1
        bits = class_of(c, table)

        mark = terminal(c)
        # The full stop of an initial or of a title ends no sentence.
        if (
            c == 0x2E
            and run > 0
            and ((run == 1 and class_of(last, table) & UPPER) or (word_chars <= 4 and _is_title(packed)))
        ):
            mark = -1
        if bits & LETTER:
            run += 1
        elif not bits & MARK:
            run = 0

        if c == 0x2E:
            dots += 1
            if dots % 3 == 0:
                ellipses += 1
        else:
            dots = 0
            if c == 0x2026:
                ellipses += 1
            elif c == 0x23:
                hashes += 1
            elif c == 0x7B:
                braces += 1
            elif c == 0x3A:
                if i + 2 < stop and data[i + 1] == 0x2F and data[i + 2] == 0x2F:
                    p = i - 1 if i > start and data[i - 1] == 0x73 else i  # the s of https
                    if (
                        p - 4 >= start
                        and data[p - 1] == 0x70
                        and data[p - 2] == 0x74
                        and data[p - 3] == 0x74
                        and data[p - 4] == 0x68
                    ):
                        urls += 1
            elif c == 0x3C:
                tag_start = -1
                if i + 1 < stop:
                    b = data[i + 1]
                    if 0x41 <= b <= 0x5A or 0x61 <= b <= 0x7A or b == 0x2F or b == 0x21:
                        tag_start = i
            elif c == 0x3E and tag_start >= 0:
                tags += 1
                tag_bytes += i + 1 - tag_start
                tag_start = -1

        if bits & SPACE:
            if i < stop:
                spaces += 1
            if in_word:
                words += 1
                proper_words += word_proper
                if word_chars > 0 and word_proper:
                    spaced_words += 1
                    spaced_chars += word_chars
                    if word_chars <= 4:
                        stops |= _stop_bit(packed)
                if word_alpha:
                    alpha_words += 1
                in_word = word_alpha = word_proper = False
                word_chars = packed = 0
            # A quote that ends a line ends a sentence too, as C4 reads lines.
            if ended > 0 or (c == 10 and (terminal(last) > 0 or is_quote(last))):
                if content:
                    sentences += 1
                ended = 0
                content = False
            if in_line:
                line_length += 1
            if c == 10:
                if i < stop:
                    newlines += 1
                if in_line:
                    lines += 1
                    if chars - (i < stop) - line_begin <= _SHORT:
                        short_lines += 1
                    line_chars += line_end
                    longest = max(longest, line_end)
                    if last == 0x2026 or last_dots >= 3:
                        ellipsis_lines += 1
                    terminal_lines += ends_sentence(tail)
                in_line = line_length = line_end = 0
                line_begin = chars
        else:
            if bits & LETTER:
                letters += 1
                if bits & UPPER:
                    uppers += 1
            elif bits & DIGIT:
                digits += 1
            elif bits & PUNCT:
                puncts += 1
            elif bits & SYMBOL:
                symbols += 1
            if bits & SOLO:
                if in_word:
                    words += 1
                    proper_words += word_proper
                    if word_chars > 0 and word_proper:
                        spaced_words += 1
                        spaced_chars += word_chars
                        if word_chars <= 4:
                            stops |= _stop_bit(packed)
                    if word_alpha:
                        alpha_words += 1
                # Marks and punctuation that follow belong to it: the word stays open, without a length.
                in_word = word_alpha = word_proper = True
                word_chars = packed = 0
            elif not (bits & (MARK | PUNCT) and in_word and word_chars == 0):
                if in_word and word_chars == 0:
                    words += 1
                    proper_words += 1
                    alpha_words += 1
                    word_alpha = word_proper = False
                in_word = True
                if word_chars < 4:
                    packed |= (c if 0 < c < 0x80 else 0xFF) << 8 * word_chars
                word_chars += 1
                if bits & LETTER:
                    word_alpha = True
                if not bits & (PUNCT | SYMBOL) and bits:
                    word_proper = True
            if mark > 0:
                ended = max(ended, mark)
            elif mark == 0 and not closes(c):
                if ended == 2 and content:
                    sentences += 1
                    content = False
                ended = 0
                content = True
            if not in_line:
                in_line = 1
                if _is_bullet(c):
                    bullets += 1
            line_length += 1
            line_end = line_length
            last = c
            last_dots = dots
        tail = c
        i += step
    if content:
        sentences += 1

    out[0] = chars
    out[1] = stop - start
    out[2] = words
    out[3] = proper_words
    out[4] = spaced_chars / spaced_words if spaced_words else 0.0
    out[5] = hashes / words if words else 0.0
    out[6] = ellipses / words if words else 0.0
    out[7] = alpha_words / words if words else 0.0
    bit = stops
    count = 0
    while bit:
        count += bit & 1
        bit >>= 1
    out[8] = count
    out[9] = lines
    out[10] = line_chars / lines if lines else 0.0
    out[11] = longest
    out[12] = bullets / lines if lines else 0.0
    out[13] = ellipsis_lines / lines if lines else 0.0
    out[14] = terminal_lines / lines if lines else 0.0
    out[15] = sentences
    out[16] = braces
    out[17] = has_lorem
    out[18] = letters / chars if chars else 0.0
    out[19] = uppers / letters if letters else 0.0
    out[20] = digits / chars if chars else 0.0
    out[21] = puncts / chars if chars else 0.0
    out[22] = symbols / chars if chars else 0.0
    out[23] = spaces / chars if chars else 0.0
    out[24] = urls
    out[25] = tags
    out[26] = tag_bytes / (stop - start) if stop > start else 0.0
    out[27] = short_lines / lines if lines else 0.0
    out[28] = newlines / words if words else newlines


@njit(nogil=True, cache=True)
def _measure_all(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    valid: NDArray[np.uint8],
    table: NDArray[np.uint8],
    lorem: NDArray[np.uint8],
    count: int,
) -> NDArray[np.float64]:
    out = np.zeros((len(valid), count), np.float64)
    for i in range(len(valid)):
        if valid[i]:
            _measure(data, offsets[i], offsets[i + 1], table, lorem, out[i])
    return out


def text_stats(texts: pa.Array | pa.ChunkedArray) -> dict[str, pa.Array]:
    """Every measurement of `STATS` for each text; null for null texts."""
    view = buffers(texts)
    values = _measure_all(*view, class_table(), _LOREM, _COUNT)
    return as_columns(values, view.valid, STATS)


def as_columns(
    values: NDArray[np.float64], valid: NDArray[np.uint8], types: dict[str, tuple[pa.DataType, str]]
) -> dict[str, pa.Array]:
    """The columns of a (rows, columns) matrix as typed Arrow arrays with nulls where `valid` is 0."""
    mask = None if valid.all() else valid == 0
    columns: dict[str, pa.Array] = {}
    for index, (name, (kind, _)) in enumerate(types.items()):
        numbers = values[:, index]
        if pa.types.is_integer(kind):
            numbers = numbers.astype(np.int64)
        elif pa.types.is_boolean(kind):
            numbers = numbers != 0
        columns[name] = pa.array(np.ascontiguousarray(numbers), kind, mask=mask)
    return columns
