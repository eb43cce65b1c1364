"""Answers on disk by request: the same question is not paid for twice, and a run can be repeated."""

from __future__ import annotations

import json
from pathlib import Path

from tillage.core.workspace import write_atomic


class AnswerCache:
    """One JSON file per request key (16 hex digits) below `folder`; with `None` nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str) -> str | None:
        """The JSON text of the answer, or None when there is none."""
        if self.folder is None:
            return None
        path = self.folder / f"{key}.json"
        return json.dumps(json.loads(path.read_text("utf-8"))["answer"]) if path.exists() else None

    def put(self, key: str, request: dict[str, object], answer: str) -> None:
        """Keep `answer` (JSON text) beside its request, atomically."""
        if self.folder is not None:
            record = {"request": request, "answer": json.loads(answer)}
            write_atomic(self.folder / f"{key}.json", json.dumps(record, ensure_ascii=False, indent=1))
