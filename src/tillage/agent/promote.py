"""A vetted operator as a plain Python file, for a person to review: there it is ordinary code."""

from __future__ import annotations

from pprint import pformat

from tillage.agent.library import Entry

_HEAD = '''"""{summary}

Written by {author} for the need: {need}
Judged: precision {precision:.2f}, recall {recall:.2f} on {examples} rows, {judged_on}.
Until a person has read it, it is nobody's code: it runs here without the sandbox that it was tested in.
"""

from __future__ import annotations

{imports}

{code}
'''

_FILTER = '''

@operator
class {cls}(Filter):
    """{summary}"""

    source = {source!r}

    def reads(self) -> frozenset[str]:
        return frozenset({{"text"}})

    def reasons(self) -> dict[str, Expression]:
        return {{{name!r}: ~measure(_each, pa.bool_())}}


def _each(texts: pa.Array) -> pa.Array:
    return pa.array([None if text is None else keep(text) for text in texts.to_pylist()], pa.bool_())
'''

_MAP = '''

@operator
class {cls}(Map):
    """{summary}"""

    source = {source!r}

    def rewrite(self) -> Expression:
        return measure(_each, pa.large_string())


def _each(texts: pa.Array) -> pa.Array:
    rows = texts.to_pylist()
    return pa.array([None if text is None else rewrite(text) for text in rows], pa.large_string())
'''

_ANNOTATE = '''

COLUMNS = {{{columns}}}


@operator
class {cls}(Annotate):
    """{summary}"""

    source = {source!r}

    def writes(self) -> dict[str, pa.DataType]:
        return COLUMNS

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return with_measures(frame, _each, COLUMNS)


def _each(texts: pa.Array) -> dict[str, pa.Array]:
    rows = [{{}} if text is None else measure(text) for text in texts.to_pylist()]
    return {{name: pa.array([row.get(name) for row in rows], kind) for name, kind in COLUMNS.items()}}
'''

_TESTS = '''

CASES = {cases}
"""Rows that it was written and judged by: what is expected stands in `keep`, `rewritten` or `values`."""
'''

_IMPORTS = {
    "filter": "import pyarrow as pa\nfrom daft import Expression\n\n"
    "from tillage.ops.base import Filter, operator\nfrom tillage.ops.udf import measure",
    "map": "import pyarrow as pa\nfrom daft import Expression\n\n"
    "from tillage.ops.base import Map, operator\nfrom tillage.ops.udf import measure",
    "annotate": "from pathlib import Path\n\nimport pyarrow as pa\nfrom daft import DataFrame\n\n"
    "from tillage.ops.base import Annotate, operator\nfrom tillage.ops.udf import with_measures",
}
_BODY = {"filter": _FILTER, "map": _MAP, "annotate": _ANNOTATE}
_ARROW = {"string": "large_string", "integer": "int64", "number": "float64", "boolean": "bool_"}


def source_of(entry: Entry) -> str:
    """The file's text: the code as it was written, an operator around it, and the rows it was judged by."""
    plain = {
        "name": entry.name,
        "cls": "".join(part.capitalize() for part in entry.name.split("_")),
        "summary": _line(f"{entry.name.replace('_', ' ').capitalize()}: {entry.need}"),
        "need": _line(entry.need),
        "author": _line(entry.author),
        "source": f"written by {_line(entry.author)}",
        "columns": ", ".join(f"{name!r}: pa.{_ARROW[kind]}()" for name, kind in entry.values.items()),
        "imports": _IMPORTS[entry.kind],
        "code": entry.code.strip(),
        "precision": entry.precision,
        "recall": entry.recall,
        "examples": entry.examples,
        "judged_on": entry.judged_on,
        "cases": pformat([case.model_dump(exclude_none=True) for case in entry.cases], width=100),
    }
    return "".join(part.format(**plain) for part in (_HEAD, _BODY[entry.kind], _TESTS))


def _line(text: str) -> str:
    """One line that cannot end the docstring it stands in."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split())[:300]
