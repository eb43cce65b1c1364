"""`tillage ops [NAME]`."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from tillage.cli.answer import Answer, Common
from tillage.cli.views import table
from tillage.ops import operators
from tillage.ops.catalogue import catalogue, describe


def ops(name: str | None = None, /, *, common: Common = Common()) -> Answer:
    """List the operators, or describe one.

    Args:
        name: the operator, as in a recipe's YAML.
    """
    del common
    if name is None:
        known = catalogue()
        rows = [[about["name"], about["kind"], about["scope"], about["description"]] for about in known]
        missing = operators.missing()
        lines: list[RenderableType] = [table(("operator", "kind", "scope", "what it does"), rows)]
        lines += [f"not loaded: {point} ({reason})" for point, reason in missing.items()]
        return Answer({"operators": known, "missing": missing}, lines)
    about = describe(operators.get(name, "tillage ops"))
    return Answer(about, _page(about))


def _page(about: dict[str, Any]) -> list[RenderableType]:
    head = f"{about['name']} ({about['kind']}, {about['scope']} scope, version {about['version']})"
    out: list[RenderableType] = [head, "", about["description"]]
    out += ["", about["details"]] if about["details"] else []
    out += ["", f"source: {about['source']}"] if about["source"] else []
    if about["parameters"]:
        rows = [
            [p["name"], p["type"], "required" if p["required"] else str(p["default"]), p["description"]]
            for p in about["parameters"]
        ]
        out.append(table(("parameter", "type", "default", "meaning"), rows))
    if about["requires"]:
        out.append("measured for it: " + ", ".join(about["requires"]))
    if about["writes"]:
        out.append("writes: " + ", ".join(f"{column} ({kind})" for column, kind in about["writes"].items()))
    if about["reasons"]:
        out.append("reasons: " + ", ".join(about["reasons"]))
    return out
