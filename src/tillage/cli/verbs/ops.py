"""`tillage ops [NAME]`, `tillage ops learn`, `tillage ops write`, `tillage ops promote`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from cyclopts import App, Parameter
from rich.console import RenderableType

from tillage.agent.learn import learn as learn_rules
from tillage.agent.learn_edit import learn_edit
from tillage.cli.answer import Answer, Common, Writing, dry, need_file
from tillage.cli.live import watch
from tillage.cli.views import table
from tillage.core.errors import UserError
from tillage.core.text import percent
from tillage.core.workspace import write_atomic
from tillage.llm.endpoint import endpoint
from tillage.ops import operators
from tillage.ops.catalogue import catalogue, describe

ops = App(name="ops", help="List the operators, or describe one; learn, write and promote new ones.")


@ops.default
def show(name: str | None = None, /, *, common: Common = Common()) -> Answer:
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


@ops.command
def learn(
    *,
    good: Path | None = None,
    bad: Path | None = None,
    pairs: Path | None = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    common: Writing = Writing(),
) -> Answer:
    """Learn a filter from good and bad rows, or a rewrite from pairs; no language model is needed.

    The figures are cross-validated: each row is judged by what was learned without it.

    Args:
        good: JSON lines with `text` (and other fields) of rows to keep.
        bad: the same of rows to drop.
        pairs: JSON lines with `before` and `after`.
        out: also write the step here, as YAML to paste into a recipe.
    """
    if (pairs is None) == (good is None and bad is None) or (good is None) != (bad is None):
        raise UserError(
            "learn from what?",
            expected="--good and --bad, or --pairs",
            hint="files of JSON lines, a row each",
        )
    if common.dry_run:
        return dry("learn a step from the rows", [out] if out is not None else [])
    if pairs is not None:
        read = _rows(pairs)
        edit = learn_edit([(_text(row, "before", pairs), _text(row, "after", pairs)) for row in read])
        step, precision, recall = edit.step(), edit.precision, edit.recall
    else:
        assert good is not None
        assert bad is not None
        rules = learn_rules(_rows(good), _rows(bad))
        step, precision, recall = rules.step(), rules.precision, rules.recall
    text = yaml.safe_dump([step], sort_keys=False, allow_unicode=True, width=100)
    if out is not None:
        write_atomic(out, text)
    said = f"precision {percent(precision)}, recall {percent(recall)} on rows that were not learned from"
    return Answer({"step": step, "precision": precision, "recall": recall}, [text.rstrip(), "", said])


@ops.command
def write(
    need: str,
    /,
    *,
    kind: Literal["filter", "map", "annotate"] = "filter",
    examples: Path | None = None,
    llm: Literal["local"] | None = None,
    common: Writing = Writing(),
) -> Answer:
    """Have a language model write an operator for a need; kept only if it passes its tests in the sandbox.

    Args:
        need: what it is to do, in words.
        kind: filter drops rows, map rewrites texts, annotate adds columns.
        examples: JSON lines with `text` and `keep`, `rewritten` or `values`; the model is judged on those
        that
            it is not shown. Without them it is judged on rows of its own, and the result says so.
        llm: local serves a small model on this machine for the time of the command.
    """
    # An optional extra: listing operators needs no language model.
    from tillage.agent.library import Library
    from tillage.agent.llm_synthesis import synthesise
    from tillage.agent.synthesis import Case
    from tillage.llm.cache import AnswerCache
    from tillage.llm.client import LLMClient

    cases: list[Case] = []
    if examples is not None:
        cases = [Case.load(row, f"{examples}:{at}") for at, row in enumerate(_rows(examples), 1)]
    library = Library(common.space)
    if common.dry_run:
        return dry(f"have a {kind} written and tested", [library.folder])
    with endpoint(llm) as settings, watch(common.json) as log:
        if settings is None:
            raise UserError(
                "no language model is configured",
                where="TILLAGE_LLM_URL",
                hint="name an endpoint, use --llm local, or learn from examples: tillage ops learn",
            )
        client = LLMClient(settings, AnswerCache(common.space.root / "llm"), log)
        made = synthesise(client, need, kind, cases, log)
    path = library.save(made)
    entry = library.get(made.name)
    text = yaml.safe_dump([entry.step()], sort_keys=False, allow_unicode=True, width=100)
    figures = f"precision {made.vetting.precision:.2f}, recall {made.vetting.recall:.2f}"
    end = f"{figures}, {entry.judged_on}; tillage ops promote {made.name} writes it as a file to review"
    data = {"name": made.name, "step": entry.step(), "judged_on": made.judged_on, "path": str(path)}
    return Answer(
        {**data, "precision": made.vetting.precision, "recall": made.vetting.recall}, [text.rstrip(), "", end]
    )


@ops.command
def promote(
    name: str,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    common: Writing = Writing(),
) -> Answer:
    """Write an operator that a language model wrote as a plain Python file, for a person to review.

    Args:
        name: the operator, as `tillage ops write` or a plan named it.
        out: the file; NAME.py if not given. A file that is there already is not overwritten.
    """
    from tillage.agent.library import Library
    from tillage.agent.promote import source_of

    entry = Library(common.space).get(name)
    path = out or Path(f"{name}.py")
    if common.dry_run:
        return dry(f"write the operator {name} as a plain file", [path])
    if path.exists():
        raise UserError("the file is there already", where=path, hint="name another with --out")
    write_atomic(path, source_of(entry))
    lines = [f"{path}: read it before you import it; it runs without the sandbox"]
    return Answer({"path": str(path), "name": name, "kind": entry.kind}, lines)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    found: list[dict[str, Any]] = []
    text = need_file(path, "the file of rows").read_text("utf-8", errors="replace")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError("a line is not JSON", where=f"{path}:{number}", got=str(error)) from error
        if not isinstance(row, dict):
            raise UserError("a line is no row", where=f"{path}:{number}", got=type(row).__name__)
        found.append(row)
    return found


def _text(row: dict[str, Any], field: str, path: Path) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise UserError(f"a row has no text in {field!r}", where=path, got=", ".join(sorted(row)))
    return value


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
