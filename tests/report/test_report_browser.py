"""The page in a real browser: nothing asked of any network, no console message, everything drawn."""

from __future__ import annotations

from pathlib import Path

import browser
import pytest
import report_events

from tillage.report.page import build

BINARY = browser.find()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BINARY is None, reason="no chromium here"),
]

ASK = """(() => {
  const count = what => document.querySelectorAll(what).length;
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const shown = [...document.querySelectorAll('svg.chart')].map(s => s.getBoundingClientRect());
  const empty = shown.filter(box => box.height > 0 && box.height < 20).length;
  const bad = [...document.querySelectorAll('svg *')].filter(
    e => [...e.attributes].some(a => /NaN|inf/i.test(a.value))).length;
  return {title: document.title, sections: count('section'), wide, empty, bad,
          charts: count('svg.chart'), scripts: document.scripts.length,
          images: document.images.length, ground: getComputedStyle(document.body).backgroundColor};
})()"""


def test_page_loads_nothing_and_draws_everything(tmp_path: Path) -> None:
    page = build(report_events.write(tmp_path / "events.jsonl"), tmp_path / "report.html")
    control = tmp_path / "control.html"
    control.write_text(
        "<!doctype html><title>x</title><img src='http://tracker.invalid/p.png'><script>console.error('seen')</script>"
    )
    assert BINARY is not None
    with browser.opened(BINARY, tmp_path / "profile") as chromium:
        caught = chromium.visit(control, "document.title")
        seen = chromium.visit(page, ASK)
        dark = chromium.visit(page, ASK, dark=True)
    # The control proves that requests and console messages would have been noticed.
    assert "http://tracker.invalid/p.png" in caught.requests
    assert any("seen" in line for line in caught.console)

    assert [url for url in seen.requests if not url.startswith(("file://", "data:"))] == []
    assert seen.console == []
    assert seen.value["sections"] == 11
    assert seen.value["charts"] >= 15
    assert seen.value["scripts"] == seen.value["images"] == seen.value["empty"] == seen.value["bad"] == 0
    assert seen.value["wide"] <= 0, "the page scrolls sideways"
    assert dark.value["ground"] != seen.value["ground"]
    assert dark.console == []
