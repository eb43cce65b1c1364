"""From a recipe to stages: lazy Daft queries that end in files, cut where an operator must see all rows.

Within a stage nothing runs until its output is written. A corpus operator that only decides (dedup, quota)
does not rewrite the text: its keys are written by the stage before it, `fit` reads those, and its decision is
joined lazily in the stage that follows. So a chain of corpus operators costs one writing of the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daft import DataFrame, col, lit
from daft.functions import length_bytes, when

from tillage.core.errors import UserError
from tillage.core.spec import fingerprint
from tillage.data.schema import DROP, PARTS, TEXT
from tillage.flow.recipe import Recipe
from tillage.ops.base import Annotate, Corpus, Generate, Operator, mark_drops, settled

VERSION = 3
"""Raised when the engine's results change, so that cached stages are not reused."""

FIT_COLUMNS = ("id", "domain", "source", "line")
BYTES = "_b"


@dataclass(frozen=True)
class Action:
    """A step, or (`id` empty) a measurement that the engine put in because steps require it."""

    op: Operator
    id: str = ""

    def canonical(self) -> Any:
        return {"id": self.id, "op": self.op.name or type(self.op).__name__, "spec": self.op.canonical()}


@dataclass
class Stage:
    """Actions between two writings, and the corpus steps whose keys are written with the result."""

    actions: list[Action] = field(default_factory=list[Action])
    keys: list[Action] = field(default_factory=list[Action])
    final: bool = False

    @property
    def steps(self) -> list[Action]:
        return [action for action in self.actions if action.id]

    @property
    def name(self) -> str:
        return "+".join(action.id for action in self.steps) or "read"

    def fits(self) -> list[int]:
        """Positions of the actions that need a fit before this stage can run."""
        return [i for i, action in enumerate(self.actions) if isinstance(action.op, Corpus)]

    def fingerprint(self, before: str) -> str:
        """`before` is the fingerprint of the stage before; what files were read does not enter."""
        actions = [action.canonical() for action in self.actions]
        keys = [key.canonical() for key in self.keys]
        return fingerprint("stage", VERSION, before, actions, keys, self.final)

    def fit_fingerprint(self, before: str, position: int) -> str:
        actions = [action.canonical() for action in self.actions[: position + 1]]
        return fingerprint("fit", VERSION, before, actions)

    def bytes_columns(self) -> list[str]:
        """`_b0` on entry, one more after each action that rewrites the text."""
        return [f"{BYTES}{i}" for i in range(1 + sum(a.op.rewrites for a in self.actions))]


def compile_stages(recipe: Recipe) -> list[Stage]:
    """The stages of a recipe, in order; at least one, the last of them final."""
    planned = _insert_measurements([(Action(recipe.operator(s), s.id), s.checkpoint) for s in recipe.steps])
    stages = [Stage()]
    heavy = True  # the first stage parses its input
    for position, (action, checkpoint) in enumerate(planned):
        if isinstance(action.op, Corpus):
            if heavy or not _keys_fit(action.op, stages):
                stages.append(Stage())
                heavy = False
            stages[-2].keys.append(action)
            stages[-1].actions.append(action)
        else:
            stages[-1].actions.append(action)
            heavy = (
                heavy or action.op.rewrites or isinstance(action.op, Annotate) or TEXT in action.op.reads()
            )
        if checkpoint and position + 1 < len(planned):
            stages.append(Stage())
            heavy = False
    stages[-1].final = True
    return stages


def _keys_fit(op: Corpus, stages: list[Stage]) -> bool:
    """Whether the stage before the present one can also write this operator's keys."""
    if len(stages) < 2:
        return False
    taken = {name for key in stages[-2].keys for name in _keys_of(key.op)}
    made_here = {name for action in stages[-1].actions for name in action.op.writes()}
    return not (taken & set(op.keys()) or made_here & op.reads())


def _keys_of(op: Operator) -> set[str]:
    return set(op.keys()) if isinstance(op, Corpus) else set()


def _insert_measurements(steps: list[tuple[Action, bool]]) -> list[tuple[Action, bool]]:
    """Puts each required annotation once between two changes of the text, merged with what later steps need.

    Measurements that a later map made stale are taken again at the end, so that the dataset's columns
    describe the text that it holds.
    """
    out: list[tuple[Action, bool]] = []
    fresh: dict[str, Annotate] = {}
    stale: dict[str, Annotate] = {}
    for position, (action, checkpoint) in enumerate(steps):
        missing = [need for need in action.op.requires() if not _stands(need, fresh)]
        if missing:
            for other, _ in _until_rewritten(steps[position + 1 :]):
                missing += [need for need in other.op.requires() if not _stands(need, fresh)]
                if isinstance(other.op, Annotate) and any(type(other.op) is type(need) for need in missing):
                    missing.append(other.op)
            out += _measure(missing, fresh)
        if isinstance(action.op, Annotate) and action.op.writes() and _stands(action.op, fresh):
            # Already measured for an earlier step: the step stays, with nothing left to do.
            action = Action(_Measured(), action.id)
        out.append((action, checkpoint))
        if action.op.rewrites:
            stale, fresh = {**stale, **fresh}, {}
        elif isinstance(action.op, Annotate):
            fresh.update(dict.fromkeys(action.op.writes(), action.op))
    again = {name: op for name, op in stale.items() if name not in fresh}
    unique = [op for i, op in enumerate(again.values()) if op not in list(again.values())[:i]]
    return out + _measure(unique, fresh)


class _Measured(Annotate):
    """Stands for an annotation whose columns an earlier measurement has made."""

    def apply(self, frame: DataFrame, artifact: Path | None = None) -> DataFrame:
        return frame


def _until_rewritten(steps: Sequence[tuple[Action, bool]]) -> Sequence[tuple[Action, bool]]:
    for position, (action, _) in enumerate(steps):
        if action.op.rewrites:
            return steps[: position + 1]
    return steps


def _measure(needs: list[Annotate], fresh: dict[str, Annotate]) -> list[tuple[Action, bool]]:
    merged: list[Annotate] = []
    for need in needs:
        for i, known in enumerate(merged):
            both = known.merge(need)
            if both is not None:
                merged[i] = both
                break
        else:
            merged.append(need)
    for op in merged:
        fresh.update(dict.fromkeys(op.writes(), op))
    return [(Action(op), False) for op in merged]


def _stands(need: Annotate, fresh: Mapping[str, Annotate]) -> bool:
    """Whether all columns of an annotation stand in the frame, measured by the same kind of annotation."""
    for name in need.writes():
        made = fresh.get(name)
        if made is None or type(made) is not type(need) or made.merge(need) is None:
            return False
    return True


def enter(frame: DataFrame) -> DataFrame:
    """Begin a stage: note the bytes of text that each row brings."""
    return frame.with_column(f"{BYTES}0", _text_bytes())


def advance(frame: DataFrame, actions: Sequence[Action], artifacts: Mapping[str, Path]) -> DataFrame:
    """Apply actions lazily: annotate, rewrite, and mark what is dropped as "step:reason"."""
    maps = 0
    for action in actions:
        before = frame.column_names
        frame = action.op.apply(frame, artifacts.get(action.id))
        frame = mark_drops(frame, action.id, action.op.reasons())
        if isinstance(action.op, Generate):
            frame = _born_here(frame, maps)
        if action.op.rewrites:
            maps += 1
            frame = frame.with_column(f"{BYTES}{maps}", _text_bytes())
        lost = [name for name in before if name not in frame.column_names]
        if lost:
            raise UserError(
                "an operator lost columns", where=action.id or action.op.name, got=", ".join(lost)
            )
    return frame


def _born_here(frame: DataFrame, maps: int) -> DataFrame:
    """Rows that were made just now brought no text into the steps before."""
    new = (col(PARTS) == lit(0)).fill_null(lit(False))
    none = {f"{BYTES}{i}": when(new, lit(0)).otherwise(col(f"{BYTES}{i}")) for i in range(maps + 1)}
    parts = when(new, lit(None).cast("int64")).otherwise(col(PARTS))
    return settled(frame.with_columns({**{n: e.cast("int64") for n, e in none.items()}, PARTS: parts}))


def with_keys(frame: DataFrame, keys: Sequence[Action]) -> DataFrame:
    """Add the key columns of the corpus steps that are fitted next."""
    for key in keys:
        if isinstance(key.op, Corpus) and key.op.keys():
            frame = settled(frame.with_columns(key.op.keys()))
    return frame


def fit_frame(frame: DataFrame, op: Corpus) -> DataFrame:
    """The rows that are alive, with the columns that `fit` may see."""
    wanted = [*FIT_COLUMNS, *sorted(op.reads()), *op.keys()]
    return frame.where(col(DROP).is_null()).select(*dict.fromkeys(wanted))


def key_names(stage: Stage) -> list[str]:
    return sorted({name for key in stage.keys for name in _keys_of(key.op)})


def _text_bytes() -> Any:
    return length_bytes(col(TEXT)).fill_null(lit(0)).cast("int64")
