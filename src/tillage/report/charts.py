"""The charts of a report, made by hand as inline SVG: intervals, bars, waterfalls, spans of time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tillage.report.html import Html, el, join
from tillage.report.svg import Scale, colour, frame, line, nice, number, text, x_axis, y_axis

WIDTH = 1056.0


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; `tone` is good, bad or empty; `values` are the observations behind it."""

    label: str
    value: float
    low: float
    high: float
    note: str = ""
    tone: str = ""
    values: Sequence[float] = ()


def forest(rows: Sequence[Estimate], title: str, zero: float | None = 0.0, width: float = WIDTH) -> Html:
    """A forest plot: one line an estimate, a whisker for its interval, single observations as faint dots.

    Infinite bounds (one observation only) are drawn to the edge as an open whisker.
    """
    finite = [v for r in rows for v in (r.value, r.low, r.high, *r.values) if math.isfinite(v)]
    finite += [zero] if zero is not None else []
    ticks = nice(min(finite, default=0.0), max(finite, default=1.0), 6)
    left = min(360.0, 24 + 7.1 * max((len(r.label) for r in rows), default=10))
    right = width - min(260.0, 24 + 6.6 * max((len(r.note) for r in rows), default=0))
    step, top = 26.0, 8.0
    bottom = top + step * len(rows)
    scale = Scale(ticks[0], ticks[-1], left, right)
    parts = x_axis(scale, ticks, top, bottom, title)
    if zero is not None:
        parts.append(line(scale(zero), top, scale(zero), bottom, "zero"))
    for i, row in enumerate(rows):
        y = top + step * (i + 0.5)
        low = scale(row.low) if math.isfinite(row.low) else left
        high = scale(row.high) if math.isfinite(row.high) else right
        marks = [line(low, y, high, y, "whisker")]
        marks += [
            line(x, y - 4, x, y + 4, "whisker")
            for x, v in ((low, row.low), (high, row.high))
            if math.isfinite(v)
        ]
        marks += [el("circle", cx=scale(v), cy=y, r=2.5, class_="faint") for v in row.values]
        marks.append(
            el(
                "circle",
                el("title", f"{row.label}: {row.note}"),
                cx=scale(row.value),
                cy=y,
                r=5,
                class_="dot",
            )
        )
        parts.append(el("g", marks, class_=f"est {row.tone}".strip()))
        parts.append(text(left - 14, y + 4, shorten(row.label, 48), "end", "label"))
        parts.append(text(right + 14, y + 4, row.note, "start", "note"))
    return frame(width, bottom + 42, title, parts)


def bars(items: Sequence[tuple[str, float, str]], title: str, width: float = 512.0, index: int = 0) -> Html:
    """Horizontal bars: label, value, text beside the bar."""
    top = max((value for _, value, _ in items), default=1.0) or 1.0
    left = min(200.0, 20 + 7.1 * max((len(name) for name, _, _ in items), default=5))
    right = width - 30 - 6.6 * max((len(note) for _, _, note in items), default=5)
    scale = Scale(0.0, top, left, max(right, left + 40))
    parts: list[Html] = []
    for i, (name, value, note) in enumerate(items):
        y = 4 + 24.0 * i
        end = scale(max(value, 0.0))
        parts.append(text(left - 10, y + 14, shorten(name, 27), "end", "label"))
        parts.append(
            el(
                "rect",
                el("title", f"{name}: {note}"),
                x=left,
                y=y + 3,
                width=max(end - left, 1.0),
                height=15,
                rx=2,
                fill=colour(index),
            )
        )
        parts.append(text(end + 8, y + 14, note, "start", "note"))
    return frame(width, 8 + 24.0 * len(items), title, parts)


@dataclass(frozen=True)
class Fall:
    """One step of a waterfall: what came in, what went on, what fell out and why."""

    label: str
    before: float
    after: float
    note: str = ""
    detail: str = ""


def waterfall(steps: Sequence[Fall], title: str, width: float = WIDTH) -> Html:
    """What is left after each step, from left to right; the part that falls at each step is drawn in red."""
    peak = max((max(s.before, s.after) for s in steps), default=1.0) or 1.0
    ticks = nice(0.0, peak, 5)
    left, right, top = 66.0, width - 10, 34.0
    turned = max((len(s.label) for s in steps), default=0) * 6.6 > (right - left) / max(len(steps), 1) - 8
    bottom = top + 230.0
    scale = Scale(0.0, ticks[-1], bottom, top)
    parts = y_axis(scale, ticks, left, right, title)
    band = (right - left) / max(len(steps), 1)
    thick = min(64.0, band * 0.62)
    for i, step in enumerate(steps):
        x = left + band * (i + 0.5)
        y_before, y_after = scale(step.before), scale(step.after)
        kept = el(
            "rect", x=x - thick / 2, y=y_after, width=thick, height=bottom - y_after, rx=2, class_="kept"
        )
        gap = abs(y_after - y_before)
        lost = None
        if step.before > step.after:
            lost = el(
                "rect", x=x - thick / 2, y=y_before, width=thick, height=max(gap, 1.0), rx=2, class_="lost"
            )
        parts.append(el("g", el("title", step.detail), kept, lost))
        if i + 1 < len(steps):
            parts.append(line(x + thick / 2, y_after, x + band - thick / 2, y_after, "link"))
        parts.append(text(x, min(y_before, y_after) - 6, step.note, "middle", "note"))
        if turned:
            parts.append(
                el(
                    "text",
                    shorten(step.label, 26),
                    text_anchor="end",
                    class_="label",
                    transform=f"translate({number(x + 6)},{number(bottom + 14)}) rotate(-32)",
                )
            )
        else:
            parts.append(text(x, bottom + 18, step.label, "middle", "label"))
    return frame(width, bottom + (104 if turned else 30), title, parts)


def stacked(
    rows: Sequence[tuple[str, Mapping[str, float]]],
    unit: str,
    colours: Mapping[str, str],
    width: float = WIDTH,
) -> Html:
    """One stacked horizontal bar a row: parts by name, in `unit`."""
    totals = [sum(parts.values()) for _, parts in rows]
    ticks = nice(0.0, max(totals, default=1.0), 6)
    left, right = min(300.0, 24 + 7.1 * max((len(name) for name, _ in rows), default=5)), width - 20
    bottom = 8 + 28.0 * len(rows)
    scale = Scale(0.0, ticks[-1], left, right)
    out = x_axis(scale, ticks, 8, bottom, unit)
    for i, (name, parts) in enumerate(rows):
        y, begin = 8 + 28.0 * i, 0.0
        out.append(text(left - 12, y + 18, shorten(name, 40), "end", "label"))
        for key, value in parts.items():
            rect = el(
                "rect",
                el("title", f"{name}, {key}: {value:.2f} {unit}"),
                x=scale(begin),
                y=y + 5,
                width=max(scale(begin + value) - scale(begin), 0.5),
                height=18,
                fill=colours[key],
            )
            out.append(rect)
            begin += value
    return frame(width, bottom + 42, unit, out)


def gantt(rows: Sequence[tuple[str, float, float]], title: str, width: float = WIDTH) -> Html:
    """Bars from begin to end, in seconds since the start."""
    ticks = nice(0.0, max((end for _, _, end in rows), default=1.0), 7)
    left, right = min(360.0, 24 + 6.8 * max((len(name) for name, _, _ in rows), default=5)), width - 66
    bottom = 8 + 24.0 * len(rows)
    scale = Scale(0.0, ticks[-1], left, right)
    out = x_axis(scale, ticks, 8, bottom, title)
    for i, (name, begin, end) in enumerate(rows):
        y = 8 + 24.0 * i
        out.append(text(left - 12, y + 16, shorten(name, 52), "end", "label"))
        wide = max(scale(end) - scale(begin), 1.0)
        out.append(el("rect", x=scale(begin), y=y + 4, width=wide, height=15, rx=2, fill=colour(0)))
        out.append(text(scale(begin) + wide + 8, y + 16, f"{end - begin:.1f} s", "start", "note"))
    return frame(width, bottom + 42, title, out)


def spark(value: float, whole: float, width: float = 110.0) -> Html:
    """A small bar in a table cell: the share of `whole` that is left."""
    share = value / whole if whole else 0.0
    back = el("rect", x=0, y=0, width=width, height=9, rx=2, class_="back")
    front = el("rect", x=0, y=0, width=max(width * share, 0.0), height=9, rx=2, class_="kept")
    return join(
        el(
            "svg",
            back,
            front,
            viewBox=f"0 0 {width:.0f} 9",
            width=width,
            height=9,
            class_="spark",
            role="img",
            aria_label=f"{share:.1%}",
        )
    )


def shorten(name: str, limit: int) -> str:
    """`name` cut in the middle to at most `limit` characters."""
    if len(name) <= limit:
        return name
    head = (limit - 1) // 2
    return name[:head] + "…" + name[len(name) - (limit - 1 - head) :]
