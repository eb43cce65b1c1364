"""What a language model drafts, and how a draft becomes a recipe or findings; nothing in it is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field

from tillage.agent.findings import Finding
from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import Catalogue, build
from tillage.core.errors import UserError, nearest
from tillage.flow.check import check
from tillage.flow.recipe import Recipe
from tillage.ops.base import Operator

SEARCH, PROTECTED = "$SEARCH", "$PROTECTED"
FILES_RULE = (
    f"Where an operator takes a file, write {SEARCH} for texts like the target and {PROTECTED} for texts "
    "that must not be trained on."
)
MOST_STEPS = 24


class StepDraft(BaseModel):
    operator: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    why: str = Field(min_length=1, max_length=500)


class RecipeDraft(BaseModel):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,40}$")
    summary: str = Field(max_length=500)
    steps: list[StepDraft] = Field(min_length=1, max_length=MOST_STEPS)


class PlanDraft(BaseModel):
    """What the model answers where it plans in one go."""

    candidates: list[RecipeDraft] = Field(min_length=1, max_length=8)


def recipe_of(
    draft: RecipeDraft,
    frozen: FrozenGoal,
    catalogue: Catalogue,
    made: Mapping[str, Operator] | None = None,
) -> tuple[Recipe | None, list[Finding]]:
    """The recipe that a draft describes, and what is wrong with it.

    Files are named by two placeholders that are replaced here, so a draft cannot name a path; operators are
    those of `catalogue` and `made`, the vetted ones of this session, so a draft cannot bring code.
    """
    made = made or {}
    findings: list[Finding] = []
    steps: list[dict[str, Any]] = []
    for number, step in enumerate(draft.steps, 1):
        where = f"step {number}"
        if step.operator in made:
            op = made[step.operator]
            steps.append({op.name: op.model_dump(mode="json", exclude_unset=True), "why": step.why})
            continue
        if step.operator not in catalogue:
            hint = nearest(step.operator, [*catalogue, *made])
            message = f"no operator {step.operator[:60]!r}"
            findings.append(Finding("contract", "unknown_operator", where, message, hint))
            continue
        parameters, fault = _with_files(step, frozen, catalogue)
        if fault:
            findings.append(Finding("contract", "invalid_parameter", where, fault))
        steps.append({step.operator: parameters, "why": step.why})
    if findings:
        return None, findings
    try:
        recipe = build(frozen, draft.name, steps)
    except UserError as error:
        message = f"{error.what}" + (f": {error.got}" if error.got is not None else "")
        return None, [Finding("contract", "invalid_parameter", str(error.where), message, error.hint or "")]
    return recipe, [Finding.of_contract(found) for found in check(recipe, inputs=False)]


def told(finding: Finding) -> str:
    """A finding as the model reads it."""
    return f"{finding} ({finding.hint})" if finding.hint else str(finding)


def _with_files(step: StepDraft, frozen: FrozenGoal, catalogue: Catalogue) -> tuple[dict[str, Any], str]:
    """The parameters with placeholders replaced, and what is wrong with a file parameter that has none."""
    files = {SEARCH: frozen.search_path, PROTECTED: frozen.protected_path}
    parameters = dict(step.parameters)
    for name, field in catalogue[step.operator].model_fields.items():
        if name not in parameters or not _takes_path(field.annotation):
            continue
        path = files.get(str(parameters[name]))
        if path is None:
            known = ", ".join(mark for mark, file in files.items() if file is not None) or "no file"
            return parameters, f"{name} must be {known}, not {str(parameters[name])[:60]!r}"
        parameters[name] = str(path)
    return parameters, ""


def _takes_path(annotation: Any) -> bool:
    return annotation is Path or any(_takes_path(part) for part in get_args(annotation))
