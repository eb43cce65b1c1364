"""What the raw data holds, as profiled before anything was decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tillage.core.events import Profiled
from tillage.core.text import amount, percent, size
from tillage.report.charts import bars
from tillage.report.html import Html, details, el, figure, join, table
from tillage.report.log import Log

Json = Mapping[str, Any]
RATES = {
    "exact_duplicates": "exact copies",
    "near_duplicates": "near copies",
    "markup": "markup",
    "code": "code",
    "licence": "licence text",
    "pii": "personal data",
    "quarantined": "unreadable",
}
LANGUAGES = 10


def section(log: Log) -> Html | None:
    event = log.last(Profiled)
    if event is None:
        return None
    profile = event.profile
    return join(
        el("h2", "Data"),
        el("p", _lead(profile), class_="lead"),
        el("div", _tiles(profile), class_="tiles"),
        el("div", _domains(profile), _languages(profile), class_="pair"),
        _by_domain(profile),
        _target(profile),
        _quantiles(profile),
        _fields(profile),
    )


def _lead(profile: Json) -> str:
    n = profile.get("documents")
    sample = f"a sample of {amount(n)} documents" if isinstance(n, int) else "a sample"
    return f"The profile that the plan rests on, measured on {sample} before anything was decided."


def _tiles(profile: Json) -> list[Html]:
    out: list[Html] = []
    if isinstance(profile.get("documents"), int):
        out.append(_tile(amount(profile["documents"]), "documents"))
    if isinstance(profile.get("bytes"), int | float):
        out.append(_tile(size(profile["bytes"]), "of text"))
    for key, label in RATES.items():
        rate = _rate(profile.get(key))
        if rate is not None:
            out.append(_tile(percent(rate["rate"]), label, _interval(rate)))
    target = profile.get("target")
    overlap = _rate(target.get("overlap")) if isinstance(target, Mapping) else None
    if overlap is not None:
        out.append(_tile(percent(overlap["rate"]), "overlap with the target", _interval(overlap)))
    return out


def _tile(value: str, label: str, note: str = "") -> Html:
    return el("div", el("b", value), el("span", label), el("em", note) if note else None, class_="tile")


def _rate(value: Any) -> Json | None:
    """A rate with its interval, if `value` is one."""
    return value if isinstance(value, Mapping) and isinstance(value.get("rate"), int | float) else None


def _interval(rate: Json) -> str:
    return f"{100 * rate['low']:.2g} to {100 * rate['high']:.2g} %"


def _domains(profile: Json) -> Html | None:
    domains = profile.get("domains")
    if not isinstance(domains, Mapping) or len(domains) < 2:
        return None
    items = [
        (
            str(name) or "(none)",
            float(d["share"]),
            f"{percent(d['share'])} · {amount(d.get('documents'))} documents",
        )
        for name, d in domains.items()
    ]
    return figure("Share of the bytes by domain.", bars(sorted(items, key=lambda i: -i[1]), "domains"))


def _languages(profile: Json) -> Html | None:
    languages = profile.get("languages")
    if not isinstance(languages, Mapping) or len(languages) < 2:
        return None
    items = [(str(name), float(share), percent(share)) for name, share in languages.items()]
    items.sort(key=lambda item: -item[1])
    more = f"; the first {LANGUAGES} of {len(items)}" if len(items) > LANGUAGES else ""
    return figure(f"Share of the documents by language{more}.", bars(items[:LANGUAGES], "languages", index=2))


def _by_domain(profile: Json) -> Html | None:
    domains = profile.get("domains")
    if not isinstance(domains, Mapping):
        return None
    head = (
        "domain",
        "documents",
        "text",
        "exact copies",
        "near copies",
        "markup",
        "code",
        "licence",
        "likeness",
    )
    rows: list[list[str]] = []
    for name, d in domains.items():
        rates = [
            _rate(d.get(key)) for key in ("exact_duplicates", "near_duplicates", "markup", "code", "licence")
        ]
        likeness = d.get("likeness")
        middle = f"{likeness['quantiles']['p50']:.2f}" if isinstance(likeness, Mapping) else "–"
        shares = [percent(rate["rate"]) if rate else "–" for rate in rates]
        rows.append(
            [str(name) or "(none)", amount(d.get("documents")), size(d.get("bytes")), *shares, middle]
        )
    note = "Likeness: median score of a classifier between target and sample, above 0.5 like the target."
    return join(
        el("h3", "By domain"), table(head, rows, range(1, len(head))), el("p", note, class_="soft small")
    )


def _target(profile: Json) -> Html | None:
    target = profile.get("target")
    if not isinstance(target, Mapping):
        return None
    said = f"{amount(target.get('documents'))} documents, {size(target.get('bytes'))} in its search part."
    apart = target.get("separation")
    if isinstance(apart, int | float):
        said += f" A classifier scores a document of it above one of the sample with chance {apart:.2f}."
    overlap = _rate(target.get("overlap"))
    if overlap is not None:
        words = target.get("overlap_words", "several")
        share = f"{percent(overlap['rate'])} of the sample ({_interval(overlap)})"
        said += f" {share} shares {words} words in a row with it."
    return join(el("h3", "Target"), el("p", said))


def _quantiles(profile: Json) -> Html | None:
    quality = profile.get("quality")
    if not isinstance(quality, Mapping) or not quality:
        return None
    names = list(next(iter(quality.values()))["quantiles"])
    rows = [
        [str(name), *(f"{d['quantiles'][q]:.4g}" for q in names), f"{d['mean']:.4g}", amount(d["n"])]
        for name, d in quality.items()
    ]
    head = ("measurement", *names, "mean", "n")
    return details(f"Quantiles of {len(rows)} measurements", table(head, rows, range(1, len(head))))


def _fields(profile: Json) -> Html | None:
    fields = profile.get("fields")
    if not isinstance(fields, list) or not fields:
        return None
    rows = [
        [f["name"], f["type"], f["role"], percent(f["null_share"]), amount(f["distinct"]), amount(f["n"])]
        for f in fields
    ]
    head = ("field", "type", "role", "null", "distinct", "n")
    return details(f"{len(rows)} fields", table(head, rows, (3, 4, 5)))
