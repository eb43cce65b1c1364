"""Which field holds the text, where a goal does not say it and the files do not agree.

A field's role is told from its values in the heads of the files: text has many words; ids are
distinct and short; labels recur; dates and addresses have their form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tillage.data.chat import to_messages
from tillage.data.formats import Source, sources
from tillage.data.rows import BadRow

Role = Literal["text", "messages", "id", "label", "date", "url", "title", "number", "other"]

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+$")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}\S*)?$|\d{1,2}[./]\d{1,2}[./]\d{4}$")
TEXT_WORDS = 12
LABELS = 20


@dataclass(frozen=True)
class Schema:
    """The files of one source that hold the same fields. `roles`: field -> role."""

    files: tuple[str, ...]
    roles: dict[str, Role]
    text_field: str | None
    chat: bool
    domain_field: str | None


def roles(records: Sequence[Mapping[str, Any]]) -> dict[str, Role]:
    """Field -> role, by the values in these records; fields in their order."""
    names = list(dict.fromkeys(name for record in records for name in record))
    return {name: _role([r[name] for r in records if r.get(name) is not None]) for name in names}


def value_form(texts: Sequence[str]) -> Literal["url", "date"] | None:
    """Whether values are addresses or dates: at least nine of ten of the first fifty have the form."""
    head = [text.strip() for text in texts[:50]]
    if head and sum(_URL.fullmatch(text) is not None for text in head) >= 0.9 * len(head):
        return "url"
    if head and sum(_DATE.fullmatch(text) is not None for text in head) >= 0.9 * len(head):
        return "date"
    return None


def _role(values: Sequence[Any]) -> Role:
    if values and all(isinstance(v, int | float) for v in values):
        return "number"
    texts = [v for v in values if isinstance(v, str)]
    if not texts or len(texts) < len(values):
        nested = values and all(isinstance(v, list) for v in values)
        return "messages" if nested and all(isinstance(t, dict) for v in values for t in v) else "other"
    words = sorted(text.count(" ") + 1 for text in texts)[len(texts) // 2]
    if (form := value_form(texts)) is not None:
        return form
    if words >= TEXT_WORDS:
        return "text"
    distinct = len(set(texts))
    if distinct == len(texts) and words == 1 and len(texts) > 1:
        return "id"
    if distinct <= max(LABELS, len(texts) // 10) and words <= 4 and distinct < len(texts):
        return "label"
    return "title" if words > 1 else "other"


def schemas(source: Source) -> list[Schema]:
    """The schemas among a source's files, the most frequent first; none where its files have no records."""
    held: dict[tuple[str, ...], list[str]] = {}
    heads: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in source.files()[1]:
        records = source.head(path)
        if records:
            key = tuple(sorted(set.intersection(*(set(record) for record in records))))
            held.setdefault(key, []).append(path)
            heads.setdefault(key, []).extend(records)
    found = [_schema(tuple(held[key]), heads[key], source) for key in held]
    return sorted(found, key=lambda schema: -len(schema.files))


def _schema(files: tuple[str, ...], records: list[dict[str, Any]], source: Source) -> Schema:
    known = roles(records)
    always = [name for name in known if all(record.get(name) is not None for record in records)]
    texts = [name for name in always if known[name] == "text"]
    wanted = source.text_field if source.text_field in always else None
    longest = max(texts, key=lambda name: sum(len(str(r[name])) for r in records), default=None)
    labels = [name for name in always if known[name] == "label"]
    named = [name for name in labels if name in DOMAIN_NAMES]
    return Schema(files, known, wanted or longest, _chats(records), named[0] if named else None)


DOMAIN_NAMES = ("domain", "category", "topic", "section", "subset", "source")
"""Labels that say where a document belongs; others may say what it is worth."""


def _chats(records: Sequence[Mapping[str, Any]]) -> bool:
    try:
        return bool(records) and all(to_messages(record) is not None for record in records)
    except BadRow:
        return False


@dataclass(frozen=True)
class Resolved:
    """Sources that read every schema, as a recipe writes them, and what was told apart, a line each."""

    sources: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def resolve_fields(kind: str, fields: Mapping[str, Any], source: Source) -> Resolved | None:
    """One source a schema for a source whose files lack the named text field; None where nothing need change.

    Files without a field of text stay with the source as it was, so that reading them says what is wrong.
    """
    if source.chat is not None or kind not in sources.names():
        return None
    found = schemas(source)
    if not found or all(schema.text_field == source.text_field for schema in found):
        return None
    groups: dict[tuple[str | None, bool, str | None], list[str]] = {}
    for schema in found:
        own = schema.text_field == source.text_field
        chat = schema.chat and not own
        domain = source.domain_field or (schema.domain_field if source.domain is None else None)
        text = None if chat or own or schema.text_field is None else schema.text_field
        groups.setdefault((text, chat, domain), []).extend(schema.files)
    made: list[dict[str, Any]] = []
    notes: list[str] = []
    for (text, chat, domain), files in groups.items():
        changed = {k: v for k, v in fields.items() if k != "path"} | {"path": sorted(files)}
        if text is not None:
            changed["text_field"] = text
        if chat:
            changed["chat"] = "auto"
        if domain is not None:
            changed["domain_field"] = domain
        made.append({kind: changed})
        what = "conversations" if chat else f"text in {text or source.text_field!r}"
        notes.append(f"{len(files)} files hold {what}" + (f", domains in {domain!r}" if domain else ""))
    return Resolved(tuple(made), tuple(notes))
