"""Where the time and the money went: phases, the overhead ledger of training, the language model."""

from __future__ import annotations

from collections.abc import Sequence

from tillage.core.events import Cost, Overhead, Phase
from tillage.core.text import amount, percent, seconds
from tillage.report.charts import gantt, stacked
from tillage.report.html import Html, el, figure, join, table
from tillage.report.log import Log, group
from tillage.report.svg import colour, legend


def section(log: Log) -> Html | None:
    parts = [_phases(log), _ledger(log.all(Overhead)), _money(log.last(Cost))]
    shown = [part for part in parts if part is not None]
    return join(el("h2", "Cost"), shown) if shown else None


def _phases(log: Log) -> Html | None:
    begun: dict[str, tuple[float, str]] = {}
    rows: list[tuple[str, float, float]] = []
    for at, event in zip(log.times, log.events, strict=True):
        if isinstance(event, Phase):
            if not event.done:
                begun[event.name] = (at, event.title)
                continue
            begin, title = begun.pop(event.name, (at - event.seconds, event.name))
            rows.append((event.title or title, max(begin - log.times[0], 0.0), at - log.times[0]))
    if not rows:
        return None
    return join(
        el("h3", "Phases"), figure("Wall clock of each phase.", gantt(rows, "seconds since the start"))
    )


def _ledger(overheads: Sequence[Overhead]) -> Html | None:
    if not overheads:
        return None
    kinds = list(dict.fromkeys(kind for event in overheads for kind in event.seconds))
    paint = {kind: colour(i) for i, kind in enumerate(kinds)}
    bars: list[tuple[str, dict[str, float]]] = []
    rows: list[list[str]] = []
    for arm, of in group(overheads, lambda event: event.arm).items():
        mean = {kind: sum(event.seconds.get(kind, 0.0) for event in of) / len(of) for kind in kinds}
        bars.append((arm, mean))
        share = sum(event.share for event in of) / len(of)
        rows.append([arm, str(len(of)), *(seconds(mean[kind]) for kind in kinds), percent(share)])
    head = ("arm", "runs", *kinds, "overhead")
    caption = "Seconds of a training run by what they went to, mean of seeds. Wall clock: all but evaluation."
    return join(
        el("h3", "Overhead ledger"),
        legend(kinds, list(paint.values())),
        figure(caption, stacked(bars, "seconds a run", paint)),
        table(head, rows, range(1, len(head))),
        _forwards(overheads),
    )


def _forwards(overheads: Sequence[Overhead]) -> Html | None:
    """Work of each signal in forward passes, and which policies asked for it."""
    rows: list[list[str]] = []
    for arm, of in group(overheads, lambda event: event.arm).items():
        total = sum(sum(event.forwards.values()) for event in of)
        for kind in dict.fromkeys(kind for event in of for kind in event.forwards):
            spent = sum(event.forwards.get(kind, 0.0) for event in of)
            users = dict.fromkeys(name for event in of for name in event.users.get(kind, []))
            rows.append([arm, kind, f"{spent / len(of):,.0f}", percent(spent / total), ", ".join(users)])
    if not rows:
        return None
    return table(("arm", "signal", "forward passes", "share of the work", "for"), rows, (2, 3))


def _money(cost: Cost | None) -> Html | None:
    if cost is None:
        return None
    said = f"{amount(cost.calls)} calls, {amount(cost.cached)} from the cache, {amount(cost.tokens)} tokens"
    said = "No language model was called." if not cost.calls else f"{said}, ${cost.money:.4f}."
    return join(el("h3", "Language model"), el("p", said))
