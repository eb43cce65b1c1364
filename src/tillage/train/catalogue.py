"""What policies there are, as a table for docs/writing-a-policy.md.

python -m tillage.train.catalogue docs/writing-a-policy.md      rewrites the table between the marks
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from tillage.core.errors import UserError
from tillage.core.workspace import write_atomic
from tillage.train.policies import __all__ as shipped
from tillage.train.policy import policies

BEGIN = "<!-- policies: written by python -m tillage.train.catalogue -->"
END = "<!-- end of policies -->"
_ORDER = ("mix", "select", "weigh", "token")


def table() -> str:
    """The policies that come with Tillage, by factor and name, with source and known fault."""
    rows: list[tuple[int, str, str]] = []
    for name, cls in policies:
        if cls.__name__ not in shipped:
            continue  # of another package
        factor = ", ".join(sorted(cls.factors, key=_ORDER.index))
        does = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
        noise = "chases it" if cls.chases_noise else ""
        row = f"| `{name}` | `{factor}` | {does} | {cls.source} | {noise} |"
        rows.append((min(_ORDER.index(f) for f in cls.factors), name, row))
    head = ["| policy | factor | what it does | source | noise |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(row for _, _, row in sorted(rows))])


def renew(page: str) -> str:
    """The page with a current table between the marks; `UserError` if it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError("the page has no marks for the table of policies", expected=f"{BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_atomic(path, renew(path.read_text(encoding="utf-8")))
