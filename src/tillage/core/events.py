"""Everything that happens, as frozen records in an append-only log: the only observability seam.

Terminal views, reports and `why` read these; nothing else is called from a loop. One JSON object a line:
`{"t": seconds since the epoch, "event": class name, ...fields}`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """Base of all events; fields are JSON values."""


@dataclass(frozen=True)
class Started(Event):
    verb: str
    run: str
    seed: int
    version: str
    command: str = ""


@dataclass(frozen=True)
class Phase(Event):
    """A named part of a long job begins (`done` false) or ends."""

    name: str
    title: str
    done: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Note(Event):
    """A sentence for the user; `level` is info, warning or error."""

    text: str
    level: str = "info"


@dataclass(frozen=True)
class Profiled(Event):
    profile: Json


@dataclass(frozen=True)
class Proposed(Event):
    """A planner proposes a recipe; `whys` maps step ids to one line citing the figure behind the step."""

    candidate: str
    planner: str
    summary: str
    recipe: Json
    whys: dict[str, str]
    round: int = 1


@dataclass(frozen=True)
class Verified(Event):
    """One rung of the ladder for one candidate. `finding` is empty when it passed."""

    candidate: str
    rung: str
    passed: bool
    evidence: Json
    finding: str = ""
    hint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Repaired(Event):
    candidate: str
    finding: str
    diff: str
    why: str


@dataclass(frozen=True)
class EffectMeasured(Event):
    """Paired difference candidate minus control on the target, bits per byte: below zero is better."""

    candidate: str
    control: str
    probe: str
    seeds: list[int]
    candidate_bpb: list[float]
    control_bpb: list[float]
    mean: float
    low: float
    high: float
    seconds: float = 0.0


@dataclass(frozen=True)
class ProbesAgree(Event):
    """Kendall's tau between the orders in which two probes put the same candidates."""

    probes: list[str]
    tau: float
    candidates: list[str]


@dataclass(frozen=True)
class Chosen(Event):
    candidate: str
    why: str
    round: int = 1


@dataclass(frozen=True)
class StageDone(Event):
    stage: str
    steps: list[str]
    rows: int
    bytes: int
    seconds: float
    reused: bool


@dataclass(frozen=True)
class StepAccount(Event):
    """rows_in + added = rows_out + sum(dropped) for each step; `quarantined` is non-zero for reading alone.

    `added`: rows that the step made of others, which it drops."""

    run: str
    step: str
    operator: str
    rows_in: int
    bytes_in: int
    rows_out: int
    bytes_out: int
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    quarantined: dict[str, int] = field(default_factory=dict[str, int])
    added: int = 0


@dataclass(frozen=True)
class Contamination(Event):
    """What rows have in common with the items of an evaluation file, as a step or the gate found it.

    `step`: the step, or "gate" for the rows that are about to be committed. `content`: the file's
    fingerprint. `hit` of `items` were found in `rows`; `boilerplate` more have in common with rows only what
    very many rows hold. `worst`: of the items hit by most rows, place, text, rows, n-grams, share, ids.
    """

    run: str
    step: str
    against: str
    content: str
    items: int
    hit: int
    rows: int
    boilerplate: int = 0
    worst: list[Json] = field(default_factory=list[Json])


@dataclass(frozen=True)
class Example(Event):
    """One row, kept or dropped by a step, for a person to judge; `text` is an excerpt."""

    run: str
    step: str
    reason: str
    id: str
    text: str
    kept: bool


@dataclass(frozen=True)
class Committed(Event):
    dataset: str
    version: int
    rows: int
    bytes: int
    digest: str
    lineage: Json


@dataclass(frozen=True)
class Tokenised(Event):
    store: str
    fingerprint: str
    documents: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class TrainStep(Event):
    """One optimiser step of one training run (`arm`, `seed`); not every step is logged."""

    arm: str
    seed: int
    step: int
    tokens: int
    loss: float
    lr: float
    mixture: dict[str, float]
    kept: float = 1.0
    weight_max: float = 1.0
    tokens_per_second: float = 0.0
    mfu: float | None = None
    """Model FLOPs a second over the peak of the devices; None where the peak is unknown."""


@dataclass(frozen=True)
class LossSpike(Event):
    """A step's update was not made, as its loss (nats a token) lay above `limit`; `back`: step rewound to."""

    arm: str
    seed: int
    step: int
    loss: float
    limit: float
    action: str
    back: int | None = None


@dataclass(frozen=True)
class Evaluated(Event):
    arm: str
    seed: int
    step: int
    target: str
    bpb: float
    seconds: float


@dataclass(frozen=True)
class Overhead(Event):
    """Seconds of one run by what they were spent on; `share` is overhead over the total.

    `forwards` is the same counted in forward passes of the trained model over one sample, "training" being
    three for each sample. `users` names the policies that each signal was measured for.
    """

    arm: str
    seed: int
    seconds: dict[str, float]
    share: float
    forwards: dict[str, float] = field(default_factory=dict[str, float])
    users: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


@dataclass(frozen=True)
class Utility(Event):
    """What training measured about a part of the data. `kind`: domain, bucket, dropped or step.

    `value` is in nats a token, higher is more useful; `low`, `high` its 95 % interval over `n` documents.
    """

    kind: str
    key: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Result(Event):
    """A line of the final table: bits per byte on the holdout over seeds, seconds of wall clock."""

    name: str
    values: list[float]
    bpb: float
    low: float
    high: float
    seconds: float


@dataclass(frozen=True)
class Cost(Event):
    """What a planner spent on a language model so far."""

    calls: int
    tokens: int
    money: float
    cached: int = 0


@dataclass(frozen=True)
class Finished(Event):
    status: str
    seconds: float
    peak_mb: float = 0.0


_BY_NAME: dict[str, type[Event]] = {cls.__name__: cls for cls in Event.__subclasses__()}
Subscriber = Callable[[Event], None]


class EventLog:
    """Appends events to a file, a line each, and hands them to subscribers in order.

    With `path=None` events only reach the subscribers. Lines are flushed, so a killed process loses none.
    """

    def __init__(self, path: Path | None = None, subscribers: list[Subscriber] | None = None) -> None:
        self.subscribers = list(subscribers or [])
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    def emit(self, event: Event) -> None:
        if self._file is not None:
            self._file.write(encode(event) + "\n")
            self._file.flush()
        for subscriber in self.subscribers:
            subscriber(event)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def phase(log: EventLog, name: str, title: str) -> Generator[None]:
    """Frame a named part of a long job with its events; one that fails is never said to be done."""
    log.emit(Phase(name, title))
    began = time.monotonic()
    yield
    log.emit(Phase(name, title, True, round(time.monotonic() - began, 3)))


def encode(event: Event) -> str:
    """One line of the log, without the newline."""
    record = {"t": round(time.time(), 3), "event": type(event).__name__, **asdict(event)}
    return json.dumps(record, ensure_ascii=False)


def read_events(path: Path) -> Iterator[tuple[float, Event]]:
    """The time and event of each whole line; a last line cut by a kill is left out."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            record = json.loads(line)
            at, name = record.pop("t"), record.pop("event")
            cls = _BY_NAME.get(name)
            if cls is not None:
                known = {f.name for f in fields(cls)}
                yield at, cls(**{k: v for k, v in record.items() if k in known})
