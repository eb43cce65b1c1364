"""One compiled pass against string methods and regular expressions."""

from concurrent.futures import ThreadPoolExecutor

import kernel_reference as reference
import pyarrow as pa
import pytest
from hypothesis import example, given, settings

from tillage.kernels.repetition import REPETITION, repetition
from tillage.kernels.text_stats import STATS, text_stats


def check(kernel, slow, types, texts):
    columns = kernel(pa.array(texts, pa.large_string()))
    assert list(columns) == list(types)
    for name, column in columns.items():
        assert column.type == types[name][0]
        expected = [None if t is None else slow(t)[name] for t in texts]
        assert column.to_pylist() == pytest.approx(expected), name


@settings(max_examples=150, deadline=None)
@given(reference.TEXTS)
@example(["中文字。很好！ abc", "", None, "。", "a" * 10])
@example(["The end... \n  ...\n•x\n\u2028y.", "https://a http:// shttp:// ttps://", "<a <b> <1> </> <!>"])
def test_measurements(texts):
    check(text_stats, reference.text_stats, STATS, texts)


@settings(max_examples=150, deadline=None)
@given(reference.TEXTS)
@example(["a b c a b c\n\na b c a b c\nx\nx", "word " * 40, "中文" * 20, "x\n \nx\n\t\n\nx", None])
def test_repetition(texts):
    check(repetition, reference.repetition, REPETITION, texts)


def test_slices_chunks_and_string_types_give_the_same():
    texts = ["one two", None, "三 four", "", "five. six"]
    expected = text_stats(pa.array(texts[1:4], pa.large_string()))["words"]
    narrow = pa.array(texts, pa.string())
    assert text_stats(narrow.slice(1, 3))["words"] == expected
    chunked = pa.chunked_array([narrow.slice(1, 1), narrow.slice(2, 2)])
    assert text_stats(chunked)["words"] == expected
    assert text_stats(pa.array(texts, pa.string_view()).slice(1, 3))["words"] == expected
    assert text_stats(pa.chunked_array([], pa.string()))["words"].to_pylist() == []
    assert text_stats(pa.array([None, None], pa.string()))["words"].to_pylist() == [None, None]


def test_text_under_a_null_is_not_read():
    # Arrow lets the bytes of a null row be anything.
    array = pa.Array.from_buffers(
        pa.string(),
        2,
        [
            pa.py_buffer(b"\x02"),
            pa.array([0, 3, 6], pa.int32()).buffers()[1],
            pa.py_buffer(b"\xff\xff\xffabc"),
        ],
    )
    assert text_stats(array)["chars"].to_pylist() == [None, 3]
    assert repetition(array)["dup_lines"].to_pylist() == [None, 0.0]


def test_threads_do_not_disturb_each_other():
    texts = [" ".join(f"w{i * j % 17}" for j in range(200)) + ".\n中文。" for i in range(60)]
    arrays = [pa.array(texts[i:] + texts[:i]) for i in range(8)]

    def work(array):
        return text_stats(array), repetition(array)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, arrays)) == [work(array) for array in arrays]


def test_gopher_example_by_hand():
    text = "- the cat\n- the cat\n- a dog of\n\nAnd that...\n"
    stats = {k: v[0].as_py() for k, v in text_stats(pa.array([text])).items()}
    assert stats["lines"] == 4
    assert stats["bullet_lines"] == 0.75
    assert stats["ellipsis_lines"] == 0.25
    assert stats["stop_words"] == 2  # the, of; neither "And" nor "that..."
    found = repetition(pa.array([text]))
    assert found["dup_lines"][0].as_py() == 0.2  # with the empty line after the last newline
    assert found["dup_line_chars"][0].as_py() == pytest.approx(len("- the cat") / len(text))
    assert found["top_2gram"][0].as_py() == pytest.approx(2 * len("- the") / len(text))  # first of equals
