"""What operators there are, as data: for `tillage ops`, a language model's tools and docs/operators.md.

python -m tillage.ops.catalogue > docs/operators.md
"""

from __future__ import annotations

import inspect
import sys
import types
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from tillage.ops import operators
from tillage.ops.base import Operator

Json = dict[str, Any]


def describe(cls: type[Operator]) -> Json:
    """JSON-able description of an operator class.

    Keys: name, kind, scope, description (first line of the docstring), details (the rest), source, version,
    parameters (list of name, type, required, default, description), reads, writes (column -> type), requires
    (columns that are measured for it), reasons and meanings (written column -> what it says). Reads, writes,
    requires and reasons are of its `example()`, empty for one with required parameters that gives no example.
    """
    description, _, details = inspect.cleandoc(cls.__doc__ or "").partition("\n")
    parameters = [_parameter(name, field) for name, field in cls.model_fields.items()]
    about: Json = {
        "name": cls.name,
        "kind": cls.kind,
        "scope": "corpus" if cls.kind == "corpus" else "row",
        "description": description,
        "details": " ".join(details.split()),
        "source": cls.source,
        "version": cls.version,
        "parameters": parameters,
        "reads": [],
        "writes": {},
        "requires": [],
        "reasons": [],
        "meanings": cls.meanings(),
    }
    given = cls.example.__func__ is not Operator.example.__func__
    if given or not any(parameter["required"] for parameter in parameters):
        op = cls.example()
        about["reads"] = sorted(op.reads())
        about["writes"] = {column: str(kind) for column, kind in op.writes().items()}
        about["requires"] = [column for need in op.requires() for column in need.writes()]
        about["reasons"] = list(op.reasons())
    return about


def catalogue() -> list[Json]:
    """`describe` of every operator, by name."""
    return [describe(cls) for _, cls in operators]


def tool_schema(cls: type[Operator]) -> Json:
    """Name, description and the JSON schema of the parameters: the operator as a language model's tool."""
    return {
        "name": cls.name,
        "description": describe(cls)["description"],
        "parameters": cls.model_json_schema(),
    }


def to_markdown() -> str:
    """The reference page of the operators that ship with Tillage."""
    lines = [
        "# Operators",
        "",
        "Generated from the operators by `python -m tillage.ops.catalogue`; `tillage ops NAME` shows",
        "the same. Filters say why they drop a row; measurements stay in the dataset as columns.",
        "",
        "| operator | kind | what it does |",
        "|---|---|---|",
    ]
    ours = [describe(cls) for _, cls in operators if cls.__module__.startswith("tillage.")]
    lines += [f"| [{o['name']}](#{o['name']}) | {o['kind']} | {_cell(o['description'])} |" for o in ours]
    for about in ours:
        lines += ["", *_section(about)]
    return "\n".join(lines) + "\n"


def _section(about: Json) -> list[str]:
    lines = [f"## {about['name']}", "", about["description"]]
    if about["details"]:
        lines += ["", about["details"]]
    lines += ["", f"*{about['kind']}, {about['scope']} scope.* Source: {about['source']}."]
    if about["parameters"]:
        lines += ["", "| parameter | type | default | meaning |", "|---|---|---|---|"]
        for p in about["parameters"]:
            default = "required" if p["required"] else f"`{_short(p['default'])}`"
            lines.append(f"| `{p['name']}` | {_cell(p['type'])} | {default} | {_cell(p['description'])} |")
    if about["requires"]:
        lines += ["", "Measured for it: " + _listed(about["requires"]) + "."]
    if about["writes"]:
        lines += ["", "| column | type | meaning |", "|---|---|---|"]
        for column, kind in about["writes"].items():
            meaning = about["meanings"].get(column, "the new text" if column == "text" else "for the engine")
            lines.append(f"| `{column}` | {kind} | {_cell(meaning)} |")
    if about["reasons"]:
        lines += ["", "Reasons: " + _listed(about["reasons"]) + "."]
    return lines


def _parameter(name: str, field: FieldInfo) -> Json:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return {
        "name": name,
        "type": _type_name(field.annotation),
        "required": field.is_required(),
        "default": _plain(default),
        "description": field.description or "",
    }


def _type_name(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(repr(value) for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("none" if arg is type(None) else _type_name(arg) for arg in inner)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return f"list of {_type_name(inner[0])}"
    if origin is tuple:
        return f"{len(inner)} of {_type_name(inner[0])}"
    if origin in (list, set, frozenset):
        return f"list of {_type_name(inner[0])}"
    if origin is dict:
        return f"{_type_name(inner[0])} to {_type_name(inner[1])}"
    if hasattr(kind, "__metadata__"):  # Annotated
        return _type_name(inner[0])
    names = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path"}
    return names.get(kind) or getattr(kind, "__name__", str(kind))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Path | Enum):
        return str(value)
    return value


def _short(value: Any) -> str:
    text = "all" if isinstance(value, list) and len(value) > 12 else str(value)
    return text.replace("|", "\\|")


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(to_markdown())
