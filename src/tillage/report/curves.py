"""Charts over training: curves with bands, and mixtures as stacked areas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tillage.report.charts import WIDTH
from tillage.report.html import Html, el
from tillage.report.svg import Scale, colour, frame, nice, polyline, text, x_axis, y_axis


@dataclass(frozen=True)
class Curve:
    """A line with an optional band; `x`, `y`, `low` and `high` have the same length."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: bool = False
    index: int = 0


def curves(
    lines_: Sequence[Curve], title: str, x_title: str, width: float = WIDTH, height: float = 300.0
) -> Html:
    """Curves over one x axis. The y axis need not start at zero: losses are compared, not areas."""
    xs = [v for c in lines_ for v in c.x]
    ys = sorted(v for c in lines_ for v in (*c.y, *c.low, *c.high) if math.isfinite(v))
    # The first steps of training would flatten all the rest: the axis ends where 98 % of the points lie.
    cap = ys[min(len(ys) - 1, int(0.98 * len(ys)))] if ys else 1.0
    y_ticks = nice(ys[0] if ys else 0.0, cap, 5)
    left, right, top, bottom = 62.0, width - 26, 30.0, height - 46
    x_scale, x_ticks = along(xs, left, right, 8)
    y_scale = Scale(y_ticks[0], y_ticks[-1], bottom, top)

    def at(x: float, y: float) -> tuple[float, float]:
        return x_scale(x), max(y_scale(y), top)

    parts = [*x_axis(x_scale, x_ticks, top, bottom, x_title), *y_axis(y_scale, y_ticks, left, right, title)]
    for c in lines_:
        if c.low and c.high:
            edge = [at(x, v) for x, v in zip(c.x, c.high, strict=True)]
            edge += [at(x, v) for x, v in reversed(list(zip(c.x, c.low, strict=True)))]
            parts.append(el("polygon", points=polyline(edge), fill=colour(c.index), class_="band"))
    for c in lines_:
        # A loss that is not a number has no place on an axis; the gap is what there is to see.
        points = [at(x, y) for x, y in zip(c.x, c.y, strict=True) if math.isfinite(y)]
        parts.append(
            el(
                "polyline",
                el("title", c.name),
                points=polyline(points),
                stroke=colour(c.index),
                class_="curve",
            )
        )
        if c.dots:
            parts += [el("circle", cx=x, cy=y, r=3, fill=colour(c.index)) for x, y in points]
    return frame(width, height, title, parts)


def areas(
    x: Sequence[float],
    shares: Mapping[str, Sequence[float]],
    title: str,
    x_title: str,
    colours: Mapping[str, str],
    width: float = 512.0,
    height: float = 220.0,
) -> Html:
    """Shares that sum to one, stacked over `x`."""
    left, right, top, bottom = 46.0, width - 24, 26.0, height - 44
    x_scale, ticks = along(x, left, right, 5)
    y_scale = Scale(0.0, 1.0, bottom, top)
    below = [0.0] * len(x)
    parts: list[Html] = []
    for name, values in shares.items():
        above = [b + v for b, v in zip(below, values, strict=True)]
        points = [(x_scale(p), y_scale(v)) for p, v in zip(x, above, strict=True)]
        points += [(x_scale(p), y_scale(v)) for p, v in reversed(list(zip(x, below, strict=True)))]
        label = f"{name}: {values[0]:.1%} at first, {values[-1]:.1%} at last" if values else name
        parts.append(
            el("polygon", el("title", label), points=polyline(points), fill=colours[name], class_="area")
        )
        below = above
    axes = x_axis(x_scale, ticks, bottom, bottom, x_title)
    for share in (0.0, 0.5, 1.0):
        axes.append(text(left - 7, y_scale(share) + 4, f"{share:.0%}", "end", "tick"))
    return frame(width, height, title, parts, axes, text(left, 14, title, "start", "title"))


def along(values: Sequence[float], start: float, stop: float, count: int) -> tuple[Scale, list[float]]:
    """A scale that ends where the data ends, with the round values inside it."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low == high:
        high = low + 1.0
    return Scale(low, high, start, stop), [t for t in nice(low, high, count) if low <= t <= high]
