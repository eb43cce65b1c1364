"""All kinds of source, in one registry. Importing this module fills it."""

from __future__ import annotations

import tillage.data.hugging_face  # pyright: ignore[reportUnusedImport]
import tillage.data.warc  # noqa: F401  # pyright: ignore[reportUnusedImport]
from tillage.data.sources import Source, sources

__all__ = ["Source", "sources"]
