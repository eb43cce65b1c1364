"""All kinds of source, in one registry; those that bring libraries of their own are imported when named."""

from __future__ import annotations

from tillage.data.sources import Source, sources

__all__ = ["Source", "sources"]

sources.ship({"tillage.data.hugging_face": ["hugging_face"], "tillage.data.warc": ["warc"]})
