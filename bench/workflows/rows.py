"""A line of a task's data and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class Row:
    """A line of the data and the truth about it.

    `cure` is `keep` for a clean row; `read` for a clean row in another schema. `group`: rows of which one
    must stay. `original`: the text that a perfect repair would give. `label`: the true domain of a
    mislabelled row.
    """

    text: str
    domain: str
    fault: str = ""
    cure: Literal["keep", "drop", "mend", "copy", "read"] = "keep"
    marks: tuple[str, ...] = ()
    original: str = ""
    group: str = ""
    label: str = ""
    file: str = ""
    line: int = 0
    record: dict[str, Any] = field(default_factory=dict[str, Any])
