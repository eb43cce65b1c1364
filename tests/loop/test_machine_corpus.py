"""The demo's raw data is real, seeded and split by package."""

import json
from pathlib import Path

import pytest

from tillage.core.errors import UserError
from tillage.loop.machine_corpus import DOMAINS, collect, docstrings, long_description


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory):
    return collect(tmp_path_factory.mktemp("corpus"), seed=3, megabytes=8)


def rows(path: Path):
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except UnicodeDecodeError:
            yield None


def test_has_natural_domains_and_about_the_size_asked_for(corpus):
    assert set(corpus.by_domain) <= set(DOMAINS)
    assert {"code", "docstring", "prose", "licence"} <= set(corpus.by_domain)
    assert 6e6 < corpus.bytes < 14e6
    lines = sum(len(path.read_bytes().splitlines()) for path in corpus.raw.iterdir())
    assert lines == corpus.documents


def test_no_package_is_on_both_sides(corpus):
    raw = {row["package"] for path in corpus.raw.iterdir() for row in rows(path) if row}
    target = list(rows(corpus.target))
    assert not raw & {row["package"] for row in target}
    assert {row["domain"] for row in target} <= {"docstring", "prose"}
    assert len({row["package"] for row in target}) >= 5
    assert corpus.target_documents == len(target)


def test_equal_seeds_give_equal_bytes(corpus, tmp_path):
    again = collect(tmp_path, seed=3, megabytes=8)
    for path in corpus.raw.iterdir():
        assert (again.raw / path.name).read_bytes() == path.read_bytes()
    assert again.target.read_bytes() == corpus.target.read_bytes()


def test_too_little_text_is_an_error(tmp_path):
    with pytest.raises(UserError, match="too little"):
        collect(tmp_path, seed=0, megabytes=0.5)


def test_docstrings_stand_under_their_qualified_names():
    source = b'"""' + b"Module words. " * 20 + b'"""\nclass A:\n    def f(self):\n        """Does f."""\n'
    text = docstrings(source, "pkg/mod.py")
    assert text is not None
    assert text.startswith("pkg.mod\nModule words.")
    assert text.endswith("pkg.mod.A.f\nDoes f.")
    assert docstrings(b"def broken(:", "x.py") is None
    assert docstrings(b'"""short"""', "x.py") is None


def test_long_description_is_the_body():
    assert long_description(b"Name: x\nVersion: 1\n\n# Title\n\nBody\n") == b"# Title\n\nBody"
    assert long_description(b"Name: x\n") == b""
