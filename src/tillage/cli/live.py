"""The terminal view: a subscriber to events. Live on a terminal, plain lines without one.

Plain lines go to standard output, or to standard error with `--json`, so that the last line of standard
output is the answer. Nothing here is called by the work itself.
"""

from __future__ import annotations

import resource
import shlex
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tillage import __version__
from tillage.cli.answer import EVENTS
from tillage.cli.lines import Line, Teller
from tillage.core import events as ev
from tillage.core.text import amount, seconds
from tillage.core.workspace import check_writable

STYLE = {
    "head": "bold",
    "good": "green",
    "bad": "red",
    "warning": "yellow",
    "error": "bold red",
    "dim": "dim",
    "info": "",
}
MARK = {"good": "✓", "bad": "✗", "warning": "!", "error": "✗", "head": "▸", "dim": "·", "info": "·"}
ARMS_SHOWN = 8
DOMAINS_SHOWN = 3


class PlainView:
    """A line an event, to a stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.tell = Teller()
        self.began = time.monotonic()

    def __call__(self, event: ev.Event) -> None:
        for level, text in self.tell(event):
            at = time.monotonic() - self.began
            mark = f"{level}: " if level in ("warning", "error") else ""
            print(f"[{at:6.1f}s] {mark}{text}", file=self.stream, flush=True)


class LiveView:
    """Finished things scroll up; what runs now stays below: the phase, its clock, one line a training run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.tell = Teller()
        self.phase: ev.Phase | None = None
        self.phase_began = 0.0
        self.arms: dict[tuple[str, int], ev.TrainStep] = {}
        self.live = Live(
            self,
            console=console,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.spinner = Spinner("dots", style="green")

    def __call__(self, event: ev.Event) -> None:
        if isinstance(event, ev.Phase):
            self.phase = None if event.done else event
            self.phase_began = time.monotonic()
            self.arms.clear()
        if isinstance(event, ev.TrainStep):
            self.arms[event.arm, event.seed] = event
        if isinstance(event, ev.Overhead):
            self.arms.pop((event.arm, event.seed), None)
        for line in self.tell(event):
            self.console.print(self._styled(line))

    def _styled(self, line: Line) -> RenderableType:
        level, text = line
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column(overflow="fold")
        indent = len(text) - len(text.lstrip())
        grid.add_row(Text(MARK[level], STYLE[level]), Text(" " * indent + text.strip(), STYLE[level]))
        return grid

    def __rich__(self) -> RenderableType:
        if self.phase is None:  # `tillage train` has no phases
            return self._training() if self.arms else Text("")
        self.spinner.update(
            text=f"[bold]{escape(self.phase.title)}[/] [dim]{seconds(time.monotonic() - self.phase_began)}[/]"
        )
        return Group(self.spinner, self._training()) if self.arms else self.spinner

    def _training(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for (arm, seed), at in sorted(self.arms.items())[-ARMS_SHOWN:]:
            mixture = sorted(at.mixture.items(), key=lambda item: -item[1])[:DOMAINS_SHOWN]
            top = ", ".join(f"{name} {share:.0%}" for name, share in mixture)
            table.add_row(
                Text(f"  {arm} · seed {seed}"),
                Text(f"step {at.step}", "dim"),
                Text(f"{amount(at.tokens)} tokens", "dim"),
                Text(f"loss {at.loss:.3f}"),
                Text(f"{at.tokens_per_second:,.0f} tokens/s", "dim"),
                Text("" if at.mfu is None else f"MFU {at.mfu:.0%}", "dim"),
                Text(top, "dim"),
            )
        return table


@contextmanager
def watch(as_json: bool, path: Path | None = None) -> Generator[ev.EventLog]:
    """An event log that is shown while it grows, and written to `path` if given."""
    if as_json or not sys.stdout.isatty():
        with ev.EventLog(path, [PlainView(sys.stderr if as_json else sys.stdout)]) as log:
            yield log
        return
    view = LiveView(Console())
    with ev.EventLog(path, [view]) as log, view.live:
        yield log


@contextmanager
def logged(verb: str, folder: Path, seed: int, as_json: bool) -> Generator[ev.EventLog]:
    """`watch` with the log in a run's folder, between the events that begin and end a run.

    The log of an earlier run of the same name is kept beside it, as `events.1.jsonl` and so on.
    """
    check_writable(folder)
    path = folder / EVENTS
    if path.exists():
        number = 1
        while (aside := folder / f"events.{number}.jsonl").exists():
            number += 1
        path.rename(aside)
    began = time.monotonic()
    with watch(as_json, path) as log:
        log.emit(ev.Started(verb, folder.name, seed, __version__, shlex.join(["tillage", *sys.argv[1:]])))
        status = "failed"
        try:
            yield log
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            log.emit(ev.Finished(status, round(time.monotonic() - began, 3), round(_peak_mb(), 1)))


def _peak_mb() -> float:
    """Most memory that this process held, in megabytes; macOS counts bytes, Linux kilobytes."""
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
