"""What holds for the whole suite: folders that are left out, and how the test process ends."""

from __future__ import annotations

import atexit
import os
import sys
from importlib.util import find_spec

import pytest

TRAINS = ("train", "loop")
SESSION = pytest.StashKey[pytest.Session]()
collect_ignore = [] if find_spec("torch") and find_spec("tokenizers") else list(TRAINS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in collect_ignore:
        terminalreporter.write_line(f"left out, for want of torch and tokenizers: tests/{name}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[SESSION] = session


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave as the command line does: the engine may abort a finished interpreter after all tests passed."""
    session = config.stash.get(SESSION, None)
    if session is None:
        return
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(session.exitstatus))
