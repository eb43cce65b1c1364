"""Pieces of texts, RefinedWeb's corrections, SimHash and URLs against slow readings."""

from collections import Counter

import kernel_reference as reference
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tillage.kernels.pieces import piece_hashes, without_pieces
from tillage.kernels.refinedweb import correct_lines
from tillage.kernels.simhash import near, simhash
from tillage.kernels.urls import normalise_url

M64 = 2**64 - 1


def large(texts):
    return pa.array(texts, pa.large_string())


@settings(max_examples=80, deadline=None)
@given(reference.TEXTS, st.booleans(), st.integers(0, 3))
def test_pieces_are_hashed_by_what_they_hold(texts, paragraphs, min_words):
    offsets, hashes = piece_hashes(large(texts), paragraphs, min_words)
    seen = {}
    for row, text in enumerate(texts):
        expected = [] if text is None else reference.cut_pieces(text, paragraphs)[1]
        found = hashes[offsets[row] : offsets[row + 1]].tolist()
        assert len(found) == len(expected)
        for piece, key in zip(expected, found, strict=True):
            if reference.word_count(piece) < min_words:
                assert key == 0
            else:
                assert seen.setdefault(piece.strip(), key) == key != 0
    assert len(set(seen.values())) == len(seen)


@settings(max_examples=150, deadline=None)
@given(reference.TEXTS, st.booleans(), st.randoms(use_true_random=False))
def test_pieces_are_cut_out(texts, paragraphs, random):
    cuts, expected = [], []
    for text in texts:
        if text is None or random.random() < 0.2:
            cuts.append(None)
            expected.append(text)
            continue
        head, pieces = reference.cut_pieces(text, paragraphs)
        cut = [random.random() < 0.5 for _ in pieces]
        left = head + "".join(piece for piece, gone in zip(pieces, cut, strict=True) if not gone)
        cuts.append(bytes(cut))
        expected.append(left.rstrip("\n ") if any(cut) else left)
    result = without_pieces(large(texts), pa.array(cuts, pa.large_binary()), paragraphs)
    result.validate(full=True)
    assert result.to_pylist() == expected


def test_cuts_of_another_text_are_refused():
    with pytest.raises(ValueError, match="do not match"):
        without_pieces(large(["a\nb"]), pa.array([b"\1"], pa.large_binary()), False)


LINE = st.lists(
    st.sampled_from(
        [
            *(
                "sign in",
                "Sign-out",
                "read more",
                "READ MORE...",
                "Read more…",
                "items in cart",
                "3 likes",
                "views",
            ),
            *(
                "1,234",
                "5.1K",
                "2 ",
                " followers",
                "ABC ",
                "word ",
                "中文",
                "é",
                "x",
                " ",
                ",",
                "!",
                "\t",
                "\u00a0",
            ),
        ]
    ),
    max_size=8,
).map("".join)
PAGE = st.lists(LINE, max_size=5).map("\n".join) | reference.TEXT


@settings(max_examples=300, deadline=None)
@given(st.lists(st.none() | PAGE, max_size=5), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_refinedweb_corrections(texts, max_upper):
    corrected, removed = correct_lines(large(texts), max_upper)
    corrected.validate(full=True)
    expected = [None if t is None else reference.refinedweb(t, max_upper) for t in texts]
    assert corrected.to_pylist() == [e and e[0] for e in expected]
    assert removed.to_pylist() == pytest.approx([e and e[1] for e in expected])


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("The rain came in the spring.", "The rain came in the spring."),
        ("ACCEPT ALL COOKIES NOW", None),
        ("NATO and the UN met.", "NATO and the UN met."),
        ("12,345", None),
        ("2019 - 2020", None),
        ("3 likes", None),
        ("• 1.2K Followers!", "• 1.2K Followers!"),
        ("(1.2K Followers)", None),
        ("3 likes and a share", "3 likes and a share"),
        ("Home", None),
        ("Sign in to your account", "to your account"),
        ("Signing in is easy", "Signing in is easy"),
        ("The mill burnt down. Read more...", "The mill burnt down."),
        ("I read more", "I"),
        ("to spread more", "to spread more"),
        ("You have 3 items in cart today", "You have 3  today"),
        ("Sign in", None),
        ("  kept as it is  ", "  kept as it is  "),
        ("a b c d e f g h i j read more", "a b c d e f g h i j read more"),
        ("今天下雨", "今天下雨"),
        ("", ""),
    ],
)
def test_refinedweb_rules_one_by_one(line, left):
    corrected, _ = correct_lines(large([f"It is so.\n{line}\nAnd that is all."]))
    middle = [] if left is None else [left]
    assert corrected.to_pylist() == ["\n".join(["It is so.", *middle, "And that is all."])]


def slow_simhash(text, n):
    words = [reference.word_hash(word) for word in reference.folded_words(text)]
    size = min(n, len(words))
    grams = Counter()
    for i in range(len(words) - size + 1 if size else 0):
        h = size
        for word in words[i : i + size]:
            h = (h * reference.PRIME + word) & M64
        grams[reference.mix(h)] += 1
    bits = (sum(count if h >> bit & 1 else -count for h, count in grams.items()) for bit in range(64))
    return sum(1 << bit for bit, total in enumerate(bits) if total > 0), len(words)


@settings(max_examples=60, deadline=None)
@given(reference.TEXTS, st.integers(1, 4))
def test_simhash(texts, n):
    fingerprints, words = simhash(large(texts), n)
    expected = [(0, 0) if t is None else slow_simhash(t, n) for t in texts]
    assert list(zip(fingerprints.tolist(), words.tolist(), strict=True)) == expected


def slow_near(values, distance):
    """Clusters by comparing all with all until nothing joins."""
    first = list(range(len(values)))
    changed = True
    while changed:
        changed = False
        for i, a in enumerate(values):
            for j, b in enumerate(values):
                if (a ^ b).bit_count() <= distance and first[j] > first[i]:
                    first[j] = first[i]
                    changed = True
    return first


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, M64), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 63), max_size=9)), max_size=14),
    st.integers(0, 6),
)
def test_near_finds_every_pair(seeds, changes, distance):
    values = list(seeds)
    for at, bits in changes:
        values.append(values[at % len(values)] ^ sum(1 << bit for bit in bits))
    assert near(np.array(values, np.uint64), distance).tolist() == slow_near(values, distance)


def test_near_takes_no_rows_and_no_other_distance():
    assert near(np.zeros(0, np.uint64), 3).tolist() == []
    with pytest.raises(ValueError, match="distance 7"):
        near(np.zeros(1, np.uint64), 7)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTP://Example.ORG:80", "http://example.org/"),
        ("https://example.org:443/a#part", "https://example.org/a"),
        ("https://example.org:8443/", "https://example.org:8443/"),
        ("http://example.org/a/./b/../c?q=A#x", "http://example.org/a/c?q=A"),
        ("http://example.org/../a/..", "http://example.org/"),
        ("http://example.org/%7Ejo/%c3%a9", "http://example.org/~jo/%C3%A9"),
        ("http://Jo:Pw@Example.org/", "http://Jo:Pw@example.org/"),
        ("http://example.org?q", "http://example.org/?q"),
        ("http://bücher.example/é", "http://bücher.example/é"),
        ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]/"),
        ("mailto:jo@example.org", "mailto:jo@example.org"),
        (" not a url ", "not a url"),
        ("", ""),
    ],
)
def test_urls(url, normal):
    assert normalise_url(url) == normal
    assert normalise_url(normal) == normal


@given(
    st.lists(st.sampled_from([*"/.:?#@%aB7é", "http://", "..", "%41", "%2f", ":80"]), max_size=12).map(
        "".join
    )
)
def test_normal_urls_have_no_fragment(url):
    assert "#" not in normalise_url(url)
