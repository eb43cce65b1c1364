"""HTML and SVG elements that escape all text by construction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

VOID = frozenset({"meta", "link", "br", "hr", "img"})


class Html(str):
    """Markup that is already safe. Everything else that goes into `el` is escaped."""


Child = Html | str | int | None
Attribute = str | float | int | bool | None


def el(tag: str, *children: Child | Iterable[Child], **attributes: Attribute) -> Html:
    """One element. `class_` is `class`, `stroke_width` is `stroke-width`; None and False leave one out."""
    parts: list[str] = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        shown = number(value) if isinstance(value, float) else str(value)
        parts.append(f" {key}" if value is True else f' {key}="{escape(shown, quote=True)}"')
    opening = f"<{tag}{''.join(parts)}>"
    return Html(opening) if tag in VOID else Html(f"{opening}{join(*children)}</{tag}>")


def join(*children: Child | Iterable[Child]) -> Html:
    """Children in order: text escaped, markup as it is, None left out."""
    out: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            out.append(child)
        elif isinstance(child, str | int):
            out.append(escape(clean(str(child)), quote=False))
        else:
            out.append(join(*child))
    return Html("".join(out))


def clean(text: str) -> str:
    """`text` without characters that HTML cannot hold: controls become visible, lone surrogates a sign."""
    return "".join(
        chr(0x2400 + ord(c))
        if ord(c) < 32 and c not in "\n\t\r"
        else "\ufffd"
        if "\ud800" <= c <= "\udfff"
        else c
        for c in text
    )


def number(value: float) -> str:
    """A coordinate: two decimals are finer than any screen."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def table(
    head: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    numeric: Iterable[int] = (),
    class_: str | None = None,
) -> Html:
    """A table in a scrolling box; columns in `numeric` are aligned to the right."""
    right = set(numeric)

    def cells(tag: str, row: Sequence[Child]) -> Html:
        return join(*(el(tag, cell, class_="num" if i in right else None) for i, cell in enumerate(row)))

    body = [el("tr", cells("td", row)) for row in rows]
    inner = el("table", el("thead", el("tr", cells("th", head))), el("tbody", body), class_=class_)
    return el("div", inner, class_="scroll")


def details(summary: Child | Iterable[Child], *body: Child | Iterable[Child], open_: bool = False) -> Html:
    """A part that unfolds without any script."""
    return el("details", el("summary", summary), *body, open=open_)


def badge(text: str, kind: str = "") -> Html:
    return el("span", text, class_=f"badge {kind}".strip())


def figure(caption: Child | Iterable[Child], *body: Child | Iterable[Child]) -> Html:
    return el("figure", el("div", *body, class_="scroll"), el("figcaption", caption))
