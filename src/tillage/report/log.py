"""An event log in memory, asked by kind of event."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import TypeVar

from tillage.core.errors import UserError
from tillage.core.events import Event, read_events

E = TypeVar("E", bound=Event)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Log:
    """All events of one log, in order, with their times (seconds since the epoch)."""

    def __init__(self, events: Iterable[tuple[float, Event]], path: Path | None = None) -> None:
        pairs = list(events)
        self.path = path
        self.times = [at for at, _ in pairs]
        self.events = [event for _, event in pairs]

    @classmethod
    def read(cls, path: Path) -> Log:
        """Read `events.jsonl`, or that file in a run's folder; `UserError` if there is none."""
        file = path / "events.jsonl" if path.is_dir() else path
        if not file.is_file():
            raise UserError(
                "no event log here",
                where=file,
                expected="a run's folder or its events.jsonl",
                hint="see tillage runs",
            )
        try:
            log = cls(read_events(file), file)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError("this is not an event log", where=file, got=str(error)) from error
        if not log.events:
            raise UserError("the event log is empty", where=file)
        return log

    def all(self, kind: type[E]) -> list[E]:
        """Events of `kind`, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[E]) -> E | None:
        found = self.all(kind)
        return found[-1] if found else None


def group(items: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """Items by key, keys in order of first appearance."""
    groups: dict[K, list[V]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
