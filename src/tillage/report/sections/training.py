"""What training did: loss curves, the target over steps, the mixture of each arm, selection and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tillage.core.events import Evaluated, TrainStep
from tillage.core.text import percent
from tillage.report.curves import Curve, areas, curves
from tillage.report.html import Html, el, figure, join, table
from tillage.report.log import Log, group
from tillage.report.svg import colour, legend

POINTS = 240


def section(log: Log) -> Html | None:
    steps, evaluated = log.all(TrainStep), log.all(Evaluated)
    if not steps and not evaluated:
        return None
    arms = list(dict.fromkeys([*(event.arm for event in steps), *(event.arm for event in evaluated)]))
    parts: list[Html | None] = [
        _losses(steps, arms),
        _targets(evaluated, arms),
        _mixtures(steps),
        _selection(steps),
    ]
    return join(
        el("h2", "Training"),
        el(
            "p",
            "The same model, seeds and token budget in each arm; only the data and its order differ.",
            class_="lead",
        ),
        (part for part in parts if part is not None),
    )


def _mean_curve(
    points: Sequence[tuple[int, float, float]], name: str, index: int, dots: bool = False, band: bool = True
) -> Curve:
    """The mean over seeds at each x, with the range of seeds as a band; points are (seed, x, y)."""
    at = group(points, lambda p: p[1])
    seeds = len({p[0] for p in points})
    xs = sorted(x for x, of in at.items() if len(of) == seeds) or sorted(at)
    stride = max(1, -(-len(xs) // POINTS))
    xs = xs[::stride]
    ys = [[p[2] for p in at[x]] for x in xs]
    low, high = ([min(y) for y in ys], [max(y) for y in ys]) if band and seeds > 1 else ([], [])
    return Curve(name, xs, [sum(y) / len(y) for y in ys], low, high, dots, index)


def _losses(steps: Sequence[TrainStep], arms: Sequence[str]) -> Html | None:
    if not steps:
        return None
    lines = [
        _mean_curve([(e.seed, float(e.tokens), e.loss) for e in steps if e.arm == arm], arm, i)
        for i, arm in enumerate(arms)
        if any(e.arm == arm for e in steps)
    ]
    caption = (
        "Training loss, mean over seeds, with their range. Arms train on different text, so this shows "
        "that they learn, not which is better."
    )
    names, paint = [c.name for c in lines], [colour(c.index) for c in lines]
    chart = curves(lines, "loss (nats a token)", "tokens trained on")
    return join(el("h3", "Loss"), legend(names, paint), figure(caption, chart))


def _targets(evaluated: Sequence[Evaluated], arms: Sequence[str]) -> Html | None:
    parts: list[Html] = []
    for target, of in group(evaluated, lambda event: event.target).items():
        lines = [
            _mean_curve([(e.seed, float(e.step), e.bpb) for e in of if e.arm == arm], arm, i, dots=True)
            for i, arm in enumerate(arms)
            if any(e.arm == arm for e in of)
        ]
        if max((len(c.x) for c in lines), default=0) < 2:
            continue  # a single point at the end is in the result table
        names, paint = [c.name for c in lines], [colour(c.index) for c in lines]
        chart = curves(lines, "bits per byte", "step", height=280.0)
        parts.append(join(el("h3", f"Target: {target}"), legend(names, paint)))
        parts.append(figure(f"Bits per byte on {target} during training, mean and range over seeds.", chart))
    return join(parts) if parts else None


def _mixtures(steps: Sequence[TrainStep]) -> Html | None:
    mixed = [event for event in steps if event.mixture]
    domains = sorted({name for event in mixed for name in event.mixture})
    if not domains:
        return None
    paint = {name: colour(i) for i, name in enumerate(domains)}
    charts: list[Html] = []
    for arm, of in group(mixed, lambda event: event.arm).items():
        first = min(event.seed for event in of)
        points = sorted((e for e in of if e.seed == first), key=lambda e: e.tokens)
        points = points[:: max(1, len(points) // POINTS)]
        if len(points) == 1:
            points = [points[0], points[0]]
        shares = {
            name: [p.mixture.get(name, 0.0) / (sum(p.mixture.values()) or 1.0) for p in points]
            for name in domains
        }
        xs = [float(p.tokens) for p in points]
        charts.append(areas(xs, shares, arm, "tokens trained on", paint))
    caption = "Share of each domain in what the model was given, over training (first seed of each arm)."
    key = legend(domains, list(paint.values()))
    return join(el("h3", "Mixture over time"), key, figure(caption, el("div", charts, class_="pair")))


def _selection(steps: Sequence[TrainStep]) -> Html | None:
    rows: list[list[str]] = []
    for arm, of in group(steps, lambda event: event.arm).items():
        rows.append(
            [
                arm,
                str(len({e.seed for e in of})),
                percent(_mean(of, lambda e: e.kept)),
                f"{_mean(of, lambda e: e.weight_max):.2f}",
                f"{_mean([e for e in of if e.tokens_per_second], lambda e: e.tokens_per_second):,.0f}",
            ]
        )
    if not rows:
        return None
    head = ("arm", "seeds", "candidates kept", "largest weight", "tokens/s a process")
    return join(el("h3", "Selection and weights"), table(head, rows, (1, 2, 3, 4)))


def _mean(events: Sequence[TrainStep], value: Callable[[TrainStep], float]) -> float:
    return sum(value(e) for e in events) / len(events) if events else 0.0
