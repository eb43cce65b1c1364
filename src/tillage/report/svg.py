"""The ground of all charts: scales, ticks, axes, and the frame of an SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tillage.report.html import Child, Html, el, number

SERIES = 8
"""Colours in the style sheet: `--s0` to `--s7`."""


def colour(index: int) -> str:
    return f"var(--s{index % SERIES})"


@dataclass(frozen=True)
class Scale:
    """Maps values in [low, high] to pixels in [start, stop]."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        return self.start + (value - self.low) / span * (self.stop - self.start) if span else self.start


def nice(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values from at or below `low` to at or above `high`."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # too near to one another for steps between them
        pad = abs(low) * 0.05 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 3 - math.floor(math.log10(step))  # of the step, however small it is
    return [round(k * step, digits) for k in range(first, last + 1)]


def tick_text(ticks: Sequence[float]) -> Callable[[float], str]:
    """One format for all ticks of an axis: as many decimals as the step needs, thousands as k."""
    top = max((abs(t) for t in ticks), default=0.0)
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    unit, sign = (1e6, " M") if top >= 2e6 else (1e3, " k") if top >= 1e4 else (1.0, "")
    places = max(0, -math.floor(math.log10(step / unit) + 1e-9)) if step > 0 else 0
    if places and abs(round(step / unit, places) - step / unit) > 1e-9 * step:
        places += 1
    return lambda value: f"{value / unit:.{places}f}{sign if value else ''}".replace("-", "\u2212")


def frame(width: float, height: float, label: str, *children: Child | Sequence[Child]) -> Html:
    """The outer element; `label` is read by screen readers."""
    return el(
        "svg",
        *children,
        viewBox=f"0 0 {number(width)} {number(height)}",
        style=f"min-width:{min(width, 760):.0f}px;max-width:{width:.0f}px",
        role="img",
        aria_label=label,
        class_="chart",
    )


def text(x: float, y: float, content: str, anchor: str = "start", class_: str = "") -> Html:
    return el("text", content, x=x, y=y, text_anchor=anchor, class_=class_ or None)


def line(x1: float, y1: float, x2: float, y2: float, class_: str = "grid", stroke: str | None = None) -> Html:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, stroke=stroke)


def polyline(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def x_axis(scale: Scale, ticks: Sequence[float], top: float, bottom: float, title: str) -> list[Html]:
    """Grid lines from `top` to `bottom`, tick labels and a title below."""
    shown = tick_text(ticks)
    out = [line(scale(t), top, scale(t), bottom) for t in ticks]
    out += [text(scale(t), bottom + 16, shown(t), "middle", "tick") for t in ticks]
    out.append(text((scale.start + scale.stop) / 2, bottom + 34, title, "middle", "axis"))
    return out


def y_axis(scale: Scale, ticks: Sequence[float], left: float, right: float, title: str) -> list[Html]:
    """Grid lines from `left` to `right`, tick labels beside, a title above."""
    shown = tick_text(ticks)
    out = [line(left, scale(t), right, scale(t)) for t in ticks]
    out += [text(left - 7, scale(t) + 4, shown(t), "end", "tick") for t in ticks]
    out.append(text(left - 40, min(scale.start, scale.stop) - 10, title, "start", "axis"))
    return out


def legend(names: Sequence[str], colours: Sequence[str] | None = None) -> Html:
    """Swatches with names, as HTML so that they wrap."""
    paint = colours or [colour(i) for i in range(len(names))]
    items = [
        el("span", el("i", style=f"background:{c}"), name, class_="key")
        for name, c in zip(names, paint, strict=True)
    ]
    return el("div", items, class_="legend")
