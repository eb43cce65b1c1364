"""Operators, a family a file. Importing this package fills the registry."""

from tillage.ops import (
    c4,
    chat,
    dedup,
    edit,
    fineweb,
    gopher,
    language,
    licence,
    pieces,
    refinedweb,
    rewrite,
    select,
    stats,
    target,
    where,
    word_order,
)
from tillage.ops.base import operators

__all__ = [
    "c4",
    "chat",
    "dedup",
    "edit",
    "fineweb",
    "gopher",
    "language",
    "licence",
    "operators",
    "pieces",
    "refinedweb",
    "rewrite",
    "select",
    "stats",
    "target",
    "where",
    "word_order",
]
