"""A language model writes an operator; it is used only if it does on test rows what was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from tillage.agent.fence import DATA_RULE, fenced
from tillage.agent.sandbox import MODULES
from tillage.agent.synthesis import ENTRY, Case, ColumnType, Kind, Sandboxed, Vetting, make, vet_cases
from tillage.core.errors import UserError, WorkFailed
from tillage.core.events import EventLog, Verified
from tillage.llm.client import LLMClient
from tillage.ops.conformance import conform

INSTRUCTIONS = f"""You write one small operator for cleaning training text, as Python source that defines
one function of the text of a row:
- kind "filter": keep(text) -> bool, False for a row with the described defect;
- kind "map": rewrite(text) -> str, the new text, or the same text where nothing is to be done;
- kind "annotate": measure(text) -> dict, a value or None for each column declared in "values".
Plain Python: no imports but {", ".join(sorted(MODULES))}, no files, no network, no state between calls; it
must cope with any text, the empty one too. Give test rows of your own: for a filter at least two to keep and
two to drop. {DATA_RULE}"""
SHOWN = 4
ENOUGH = 2
CODE = 8_000
"""Characters of a draft that goes back to its author."""


class OperatorDraft(BaseModel):
    """What the model answers."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{2,40}$")
    code: str = Field(min_length=1)
    why: str
    values: dict[str, ColumnType] = Field(default_factory=dict[str, ColumnType])
    tests: list[Case] = Field(default_factory=list[Case])


@dataclass(frozen=True)
class Synthesised:
    """An operator that passed. `judged_on`: "given" rows that the model had not seen, or its "own" rows."""

    name: str
    need: str
    op: Sandboxed
    vetting: Vetting
    judged_on: str
    cases: list[Case]
    author: str


def synthesise(
    client: LLMClient,
    need: str,
    kind: Kind = "filter",
    cases: Sequence[Case] = (),
    log: EventLog | None = None,
    corrections: int = 2,
) -> Synthesised:
    """An operator for `need`, vetted in the sandbox and by the conformance suite.

    The model sees every other one of `cases` and is judged on the rest; without cases it is judged on test
    rows that it wrote itself, and the result says so. A draft that fails goes back with what it got wrong, at
    most `corrections` times. Emits `Verified` (rung "operator") for each draft.

    Raises:
        UserError: cases of which too few are of either sort.
        WorkFailed: no draft passed.
    """
    shown, held = _halves(cases)
    if cases and len(cases) < 2 * ENOUGH:
        raise UserError(
            "an operator needs examples", got=f"{len(cases)} rows", expected=f"{2 * ENOUGH} or none"
        )
    question = {
        "need": need,
        "kind": kind,
        "examples": [case.model_dump(exclude_none=True) for case in shown[: 2 * SHOWN]],
    }
    prompt = fenced(question)
    finding = ""
    for number in range(1, corrections + 2):
        draft = client.ask(INSTRUCTIONS, prompt, OperatorDraft)
        finding, op, vetting = _judge(draft, kind, held or draft.tests, draft.tests)
        if log is not None:
            evidence: dict[str, object] = {"code": draft.code, "judged_on": "given" if held else "own"}
            if vetting is not None:
                evidence |= {
                    "precision": vetting.precision,
                    "recall": vetting.recall,
                    "rows": vetting.examples,
                }
            log.emit(Verified(f"{draft.name} {number}", "operator", not finding, evidence, finding))
        if not finding and op is not None and vetting is not None:
            all_cases = [*cases, *draft.tests]
            judged = "given" if held else "own"
            return Synthesised(draft.name, need, op, vetting, judged, all_cases, client.settings.model)
        prompt = fenced({**question, "draft": draft.model_dump(), "finding": finding}, CODE)
    raise WorkFailed("no operator passed its test", where=client.settings.model, got=finding)


def _judge(
    draft: OperatorDraft, kind: Kind, held: Sequence[Case], own: Sequence[Case]
) -> tuple[str, Sandboxed | None, Vetting | None]:
    """What is wrong with a draft (empty: nothing), the operator, and its figures if it ran."""
    if not draft.tests:
        return "it comes without test rows", None, None
    if held is own and not _enough(kind, own):
        return f"its test rows are too few: at least {ENOUGH} of either sort", None, None
    try:
        op = make(kind, draft.code, draft.values)
        vetting = vet_cases(op, held)
        mine = vet_cases(op, own) if own is not held and _enough(kind, own) else vetting
    except UserError as error:  # it is the draft that is wrong or fails, and the model is told so
        return f"{error.what}: {error.got}" if error.got is not None else error.what, None, None
    if not vetting.passes():
        message = f"precision {vetting.precision:.2f}, recall {vetting.recall:.2f} of {ENTRY[kind]}"
        return f"{message}; wrong on {json.dumps(vetting.wrong[:3])}", op, vetting
    if not mine.passes():
        return f"it fails its own test rows: {json.dumps(mine.wrong[:3])}", op, mine
    broken = conform(op)
    return "; ".join(f"{violation.rule}: {violation.detail}" for violation in broken), op, vetting


def _halves(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """The rows to show and those to judge by: of each sort every other one."""
    sorts: dict[object, list[Case]] = {}
    for case in cases:
        idle = case.keep is None and case.rewritten in (None, case.text) and not case.values
        sorts.setdefault(case.keep if case.keep is not None else idle, []).append(case)
    return (
        [case for of in sorts.values() for case in of[::2]],
        [case for of in sorts.values() for case in of[1::2]],
    )


def _enough(kind: Kind, cases: Sequence[Case]) -> bool:
    if kind == "filter":
        return min(sum(c.keep is True for c in cases), sum(c.keep is False for c in cases)) >= ENOUGH
    if kind == "map":
        changed = sum(c.rewritten is not None and c.rewritten != c.text for c in cases)
        return changed >= ENOUGH
    return sum(bool(c.values) for c in cases) >= ENOUGH
