"""What is shown while work goes on: plain lines, a live view, and only the answer with --json."""

from __future__ import annotations

import io
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from tillage.cli.answer import strict
from tillage.cli.lines import Teller
from tillage.cli.live import LiveView, PlainView, logged, watch
from tillage.core import events as ev
from tillage.report.log import Log

EVENTS: list[ev.Event] = [
    ev.Started("demo", "demo-1", 7, "0.1.0"),
    ev.Phase("a", "Profile the data"),
    ev.Profiled({"documents": 10, "bytes": 1_000, "domains": {"x": {}}, "pii": {"rate": 0.5}}),
    ev.Proposed("clean", "embedded", "mend", {"steps": []}, {"exact_dedup": "[bold]11 %[/] are copies"}),
    ev.Verified("clean", "sample", False, {}, "keeps 1 %", "loosen"),
    ev.Verified("clean", "contract", True, {}),
    ev.Repaired("clean", "keeps 1 %", "-a\n+b", "loosened"),
    ev.EffectMeasured("clean", "raw", "ngram", [1, 2, 3], [2.0], [2.1], -0.1, -0.2, -0.01, 3.0),
    ev.ProbesAgree(["ngram", "gpt"], 0.5, ["clean", "web"]),
    ev.Chosen("clean", "best"),
    ev.StageDone("one", ["a"], 10, 100, 1.0, False),
    ev.StepAccount("r", "a", "where", 10, 100, 8, 80, {"short": 2}),
    ev.Committed("d", 0, 8, 80, "ab" * 16, {}),
    ev.Tokenised("s", "f", 8, 800, 1.0),
    ev.TrainStep("dynamic", 1, 10, 4_000, 3.25, 1e-3, {"x": 0.75, "y": 0.25}),
    ev.Evaluated("dynamic", 1, 10, "search", 2.345, 0.1),
    ev.Overhead("dynamic", 1, {"training": 9.0, "scoring": 1.0}, 0.1),
    ev.Result("dynamic", [2.3, 2.4, 2.2], 2.3, 2.1, 2.5, 30.0),
    ev.Cost(3, 1_000, 0.01, 1),
    ev.Note("careful", "warning"),
    ev.Phase("a", "Profile the data", True, 2.0),
    ev.Finished("done", 12.0, 900.0),
]


def test_plain_view_tells_every_event_but_single_training_steps() -> None:
    out = io.StringIO()
    view = PlainView(out)
    for event in EVENTS:
        view(event)
    text = out.getvalue()
    for event in EVENTS:
        assert Teller()(event) or isinstance(event, ev.TrainStep), event
    assert "warning: careful" in text
    assert "10 -> 8 rows (80.0 % kept); dropped short 2" in text
    assert "−0.1000 bits/byte [−0.2000, −0.0100]" in text
    assert "\x1b" not in text


def test_a_reason_is_told_once() -> None:
    tell = Teller()
    whys = {"exact_dedup": "11 % are copies", "where": "3 % are short"}
    first = tell(ev.Proposed("a", "embedded", "one", {}, whys))
    second = tell(ev.Proposed("b", "embedded", "two", {}, {**whys, "where": "4 % are short"}))
    assert [text for _, text in first][1:] == ["  exact_dedup: 11 % are copies", "  where: 3 % are short"]
    assert [text for _, text in second][1:] == ["  as above: exact_dedup", "  where: 4 % are short"]


def test_live_view_shows_the_phase_and_what_trains() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=110, color_system="truecolor")
    view = LiveView(console)
    below: list[str] = []
    with view.live:
        for event in EVENTS:
            view(event)
            with console.capture() as shown:
                console.print(view)
            below.append(shown.get())
    text = out.getvalue()
    assert "[bold]11 %[/] are copies" in text, "text of events is not markup"
    while_training = below[[isinstance(e, ev.TrainStep) for e in EVENTS].index(True)]
    assert "Profile the data" in while_training
    assert "loss 3.250" in while_training
    assert "x 75%" in while_training
    assert "Profile the data" not in below[-1]


def test_live_view_of_training_alone() -> None:
    """`tillage train` has no phases: the line of its run is there all the same."""
    console = Console(file=io.StringIO(), force_terminal=False, width=140)
    view = LiveView(console)
    mixture = {"a": 0.5, "b": 0.25, "c": 0.15, "d": 0.1}
    view(ev.TrainStep("train", 3, 7, 4096, 2.5, 0.01, mixture, tokens_per_second=1234.0, mfu=0.375))
    with console.capture() as shown:
        console.print(view)
    for part in ("step 7", "loss 2.500", "1,234 tokens/s", "MFU 38%", "a 50%, b 25%, c 15%"):
        assert part in shown.get()
    view(ev.Overhead("train", 3, {}, 0.0))
    with console.capture() as shown:
        console.print(view)
    assert not shown.get().strip()


def test_progress_goes_to_standard_error_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(True) as log:
        log.emit(ev.Note("hello"))
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "hello" in seen.err
    with watch(False) as log:
        log.emit(ev.Note("hello"))
    assert "hello" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("x"), "failed"), (KeyboardInterrupt(), "interrupted"), (None, "done")]
)
def test_a_log_is_framed_however_the_work_ends(
    error: BaseException | None, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["tillage", "train", "my file.yaml"])
    expected = pytest.raises(type(error)) if error is not None else nullcontext()
    with expected, logged("train", tmp_path / "run", 3, True):
        if error is not None:
            raise error
    log = Log.read(tmp_path / "run")
    started, finished = log.last(ev.Started), log.last(ev.Finished)
    assert started is not None
    assert finished is not None
    assert started.command == "tillage train 'my file.yaml'"
    assert finished.status == status


def test_json_holds_no_infinity() -> None:
    assert strict({"a": float("inf"), "b": [float("nan"), 1.5], 3: (1,)}) == {
        "a": None,
        "b": [None, 1.5],
        "3": [1],
    }
