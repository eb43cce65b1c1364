"""The page as text: escaped, complete, robust against missing events, the same for the same log."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_events
import yaml

from tillage.core import events as ev
from tillage.core.errors import UserError
from tillage.report.log import Log
from tillage.report.page import SECTIONS, build, render
from tillage.report.sections.rerun import rerun, training_file

VOID = {"meta", "link", "br", "hr", "img"}


class Checked(HTMLParser):
    """Collects tags and attributes; fails on a tag that is not closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parse(page: str) -> Checked:
    checked = Checked()
    checked.feed(page)
    checked.close()
    assert checked.open == []
    return checked


def log_of(events: list[ev.Event]) -> Log:
    return Log([(1_790_000_000.0 + i, event) for i, event in enumerate(events)])


def test_every_section_is_drawn_and_well_formed(tmp_path: Path) -> None:
    page = build(report_events.write(tmp_path / "run" / "events.jsonl"), tmp_path / "out" / "report.html")
    text = page.read_text("utf-8")
    checked = parse(text)
    for name in SECTIONS:
        assert f'id="{name.lower().replace(" ", "-")}"' in text
    assert "NaN" not in text
    assert checked.tags.count("svg") > 15


def test_text_of_rows_is_escaped_and_nothing_can_load() -> None:
    text = render(log_of(report_events.events()))
    checked = parse(text)
    assert "script" not in checked.tags
    assert "img" not in checked.tags
    assert "iframe" not in checked.tags
    assert any(value.startswith("default-src 'none'") for _, value in checked.attributes)
    assert "&lt;script&gt;fetch" in text
    assert "\x00" not in text
    links = [value for name, value in checked.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert not re.search(r"url\(|@import", text)


def test_the_same_log_gives_the_same_page(tmp_path: Path) -> None:
    log = report_events.write(tmp_path / "events.jsonl")
    assert build(log, tmp_path / "a.html").read_bytes() == build(tmp_path, tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize(
    "kind", sorted({type(event) for event in report_events.events()}, key=lambda k: k.__name__)
)
def test_robust_when_events_are_missing(kind: type[ev.Event]) -> None:
    every = report_events.events()
    parse(render(log_of([event for event in every if type(event) is not kind])))
    parse(render(log_of([event for event in every if type(event) is kind])))
    parse(render(log_of([next(event for event in every if type(event) is kind)])))


def test_infinite_intervals_and_single_seeds_are_drawn() -> None:
    one = ev.Result("one seed", [2.5], 2.5, -math.inf, math.inf, 3.0)
    other = ev.Result("another", [2.4], 2.4, -math.inf, math.inf, 3.0)
    effect = ev.EffectMeasured("a", "raw", "ngram", [1], [2.0], [2.0], 0.0, -math.inf, math.inf)
    text = render(log_of([one, other, effect]))
    assert "no interval" in text
    assert not re.search(r'="[^"]*(nan|inf)\b', text)


def test_books_that_do_not_balance_are_called_out() -> None:
    good = ev.StepAccount("r", "a", "where", 10, 100, 8, 80, {"where": 2})
    bad = ev.StepAccount("r", "b", "where", 8, 80, 5, 50, {"where": 2})
    assert "does not balance" not in render(log_of([good]))
    text = render(log_of([good, bad]))
    assert text.count("does not balance") == 1
    assert "1 of 2 steps do not balance" in text


def test_headline_says_when_nothing_was_better() -> None:
    base = ev.Result("raw and plain", [2.0, 2.1, 2.05], 2.05, 2.0, 2.1, 1.0)
    worse = ev.Result("dynamic", [2.1, 2.2, 2.15], 2.15, 2.1, 2.2, 1.0)
    assert "<h1>Nothing was better than raw and plain</h1>" in render(log_of([base, worse]))


def test_headline_says_when_it_may_be_chance() -> None:
    base = ev.Result("raw", [2.0, 2.1, 2.2], 2.1, 2.0, 2.2, 1.0)
    luck = ev.Result("new", [1.9, 2.2, 2.1], 2.07, 1.9, 2.2, 1.0)
    assert "may be chance" in render(log_of([base, luck]))


@pytest.mark.parametrize(
    "content", ["", "not json\n", '{"event": "Note"}\n', "[1]\n", '{"t": 1, "event": "Note"}\n']
)
def test_what_is_not_a_log_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "events.jsonl").write_text(content)
    with pytest.raises(UserError):
        build(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_missing_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no event log"):
        build(tmp_path, tmp_path / "report.html")


def test_trials_are_folded_below_what_was_committed() -> None:
    text = render(log_of(report_events.events()))
    assert "Runs that were not committed: 1" in text
    assert text.index("docs-5e6f7a8b") < text.index("trial-00000000")
    examples = text[text.index('id="examples"') :]
    assert "docs-5e6f7a8b" in examples
    assert "trial-00000000" not in examples[: examples.index("</section>")]


def test_commands_name_the_workspace_and_the_recipes() -> None:
    started = ev.Started("demo", "demo-s7", 7, "0.1.0", "tillage demo --seed 7 --workspace '/data/my work'")
    log = log_of([started, *report_events.events()[1:]])
    commands = [command for _, command in rerun(log)]
    space = " --workspace '/data/my work'"
    assert "tillage run '/data/my work/runs/docs-1a2b3c4d/recipe.yaml'" + space in commands
    assert "tillage tokenize datasets/docs --version 1" + space in commands
    assert f"tillage report demo-s7{space}" in commands
    job = yaml.safe_load(training_file(log))
    assert job["store"] == "stores/docs"
    assert job["targets"] == {"search": "target/search.jsonl"}
    assert job["train"] == {"seed": 1, "tokens": 295 * 4096}
    assert "train.yaml" in render(log)


def test_commands_of_the_default_workspace_are_short() -> None:
    commands = [command for _, command in rerun(log_of(report_events.events()))]
    assert "tillage check .tillage/runs/docs-1a2b3c4d/recipe.yaml --sample 1000" in commands
    assert not any("--workspace" in command for command in commands)
    assert rerun(log_of([ev.Note("nothing")])) == []
