"""The recipe: sources, steps and sink. Typed Python is the truth, YAML its lossless form."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import Field, SerializeAsAny, ValidationError, field_validator

import tillage.ops  # noqa: F401  # pyright: ignore[reportUnusedImport]  (names the operators)
from tillage.core.errors import UserError, nearest
from tillage.core.registry import Registry
from tillage.core.spec import Spec, fingerprint
from tillage.core.workspace import Workspace
from tillage.data.formats import Source, sources
from tillage.data.remote import is_url
from tillage.data.schema import QUARANTINE_STEP
from tillage.flow.places import Places, load_yaml
from tillage.ops.base import Operator, operators
from tillage.ops.decontaminate import Decontaminate

S = TypeVar("S", bound=Spec)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Step(Spec):
    """One operator at its place. `id` names it in accounts; `why` is for the reader."""

    op: SerializeAsAny[Operator]
    id: str = ""
    why: str = ""
    checkpoint: bool = False

    def canonical(self) -> Any:
        return {"id": self.id, "op": self.op.name, "spec": self.op.canonical()}


class Recipe(Spec):
    """What to do with which data.

    `dataset` is a name below the workspace's datasets or a path (with a separator); by default the recipe's
    name. `max_quarantine` is the share of records that may be unreadable. `seed` is given to each operator
    that has a seed of its own left unset. No version is committed whose rows overlap with one of the
    `evaluation` sets (each with the fields of `decontaminate`); with `contamination: mark` it is, and its
    lineage says so.
    """

    name: str
    seed: int = 0
    sources: tuple[SerializeAsAny[Source], ...]
    steps: tuple[Step, ...] = ()
    dataset: str | None = None
    max_quarantine: float = Field(default=0.01, ge=0, le=1)
    evaluation: tuple[Decontaminate, ...] = ()
    contamination: Literal["refuse", "mark"] = "refuse"

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a name is made of letters, digits, '.', '_' and '-'")
        return name

    @field_validator("steps", mode="after")
    @classmethod
    def _name_steps(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        named = [
            step if step.id else step.model_copy(update={"id": default})
            for step, default in zip(steps, default_ids(steps), strict=True)
        ]
        for step in named:
            if not _NAME.fullmatch(step.id) or step.id == QUARANTINE_STEP:
                raise ValueError(f"{step.id!r} cannot be the id of a step")
        twice = [id for id, n in Counter(step.id for step in named).items() if n > 1]
        if twice:
            raise ValueError(f"two steps have the id {twice[0]!r}")
        return tuple(named)

    def canonical(self) -> Any:
        steps = {
            "seed": self.seed,
            "sources": [source.canonical() for source in self.sources],
            "steps": [step.canonical() for step in self.steps],
        }
        if not self.evaluation:
            return steps
        gate = [op.canonical() for op in self.evaluation]
        return {**steps, "evaluation": gate, "contamination": self.contamination}

    def operator(self, step: Step) -> Operator:
        """The step's operator with the recipe's seed where it has a seed of its own left unset."""
        op = step.op
        if "seed" in type(op).model_fields and "seed" not in op.model_fields_set:
            return op.model_copy(update={"seed": self.seed})
        return op

    def step(self, id: str) -> Step:
        """The step called `id`; `UserError` with the nearest name if there is none."""
        for step in self.steps:
            if step.id == id:
                return step
        raise UserError(f"no step {id!r}", where=self.name, hint=nearest(id, [s.id for s in self.steps]))

    def dataset_path(self, workspace: Workspace) -> Path:
        name = self.dataset or self.name
        return Path(name).absolute() if os.sep in name else workspace.datasets / name

    def to_dict(self) -> dict[str, Any]:
        """Plain values from which `from_dict` makes an equal recipe."""
        out: dict[str, Any] = {"name": self.name}
        if self.seed:
            out["seed"] = self.seed
        out["sources"] = [{source.name: _given(source)} for source in self.sources]
        defaults = default_ids(self.steps)
        out["steps"] = [_step_dict(step, default) for step, default in zip(self.steps, defaults, strict=True)]
        if self.dataset is not None:
            out["dataset"] = self.dataset
        if self.max_quarantine != type(self).model_fields["max_quarantine"].default:
            out["max_quarantine"] = self.max_quarantine
        if self.evaluation:
            out["evaluation"] = [_given(op) for op in self.evaluation]
        if self.contamination != "refuse":
            out["contamination"] = self.contamination
        return out

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def from_dict(
        cls,
        value: Mapping[str, Any],
        where: str = "recipe",
        base: Path | None = None,
        places: Places | None = None,
    ) -> Recipe:
        """Build and validate. Relative paths of sources and operators are taken from `base`.

        Raises:
            UserError: unknown source, operator or field (with the nearest name), or a wrong value.
        """
        places = places or Places(where)
        data = dict(value)
        data["sources"] = parse_sources(data.get("sources"), base, places)
        data["steps"] = [
            _parse_step(item, base, places.at("steps", i))
            for i, item in enumerate(_items(data.get("steps") or [], "steps", places))
        ]
        data["evaluation"] = [
            load_at(Decontaminate, _absolute(Decontaminate, item, base), places.at("evaluation", i))
            for i, item in enumerate(_items(data.get("evaluation") or [], "evaluation", places))
        ]
        dataset = data.get("dataset")
        if isinstance(dataset, str) and os.sep in dataset and base is not None:
            data["dataset"] = os.path.normpath(base / dataset)
        return load_at(cls, data, places)

    @classmethod
    def from_yaml(cls, source: str | Path, base: Path | None = None) -> Recipe:
        """From a file (`Path`) or from text (`str`, paths relative to `base` or the current folder)."""
        value, places = load_yaml(source)
        if isinstance(source, Path):
            base = source.absolute().parent
        return cls.from_dict(value, places.where(), base or Path.cwd(), places)


def default_ids(steps: tuple[Step, ...]) -> list[str]:
    """The operator's name, with _2, _3 ... where it comes again."""
    seen: Counter[str] = Counter()
    out: list[str] = []
    for step in steps:
        seen[step.op.name] += 1
        n = seen[step.op.name]
        out.append(step.op.name if n == 1 else f"{step.op.name}_{n}")
    return out


def parse_sources(value: Any, base: Path | None, places: Places) -> tuple[Source, ...]:
    """Sources from `[{jsonl: {path: ...}}, ...]`, as recipes and goals write them."""
    items = _items(value or [], "sources", places)
    if not items:
        raise UserError("no sources", where=places.where(), expected="sources: [{jsonl: {path: ...}}]")
    return tuple(
        _parse_spec(item, sources, base, places.at("sources", i), frozenset())[0]
        for i, item in enumerate(items)
    )


def _items(value: Any, field: str, places: Places) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{field} should be a list", where=places.where(field), got=type(value).__name__)
    return value


def _parse_step(item: Any, base: Path | None, places: Places) -> Step:
    if isinstance(item, Step):
        return item
    own = frozenset(Step.model_fields) - {"op"}
    op, rest = _parse_spec(item, operators, base, places, own)
    return load_at(Step, {"op": op, **rest}, places)


def _parse_spec(
    item: Any, registry: Registry[Any], base: Path | None, places: Places, own: frozenset[str]
) -> tuple[Any, dict[str, Any]]:
    """The spec that an item such as `{jsonl: {path: x}}` or `exact_dedup` names, and what else it holds."""
    if isinstance(item, Spec):
        return item, {}
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, dict):
        raise UserError(
            f"not a {registry.kind}",
            where=places.where(),
            got=repr(item)[:100],
            expected="a name with fields",
        )
    rest = {key: value for key, value in item.items() if key in own}
    names = [key for key in item if key not in own]
    if len(names) != 1:
        unknown = [n for n in names if n not in registry.names()]
        if len(names) > 1 and unknown:
            hint = nearest(str(unknown[0]), [*own, *registry.names()])
            raise UserError(f"unknown field {unknown[0]!r}", where=places.where(str(unknown[0])), hint=hint)
        raise UserError(
            f"an item names one {registry.kind}",
            where=places.where(),
            got=", ".join(str(n) for n in names) or "none",
            hint="begin each with a dash of its own",
        )
    cls = registry.get(str(names[0]), places.where(str(names[0])))
    fields = item[names[0]]
    if fields is None:
        fields = {}
    if not isinstance(fields, dict):
        raise UserError(
            f"fields of {names[0]} should be a mapping", where=places.where(), got=repr(fields)[:100]
        )
    return load_at(cls, _absolute(cls, fields, base), places.at(str(names[0]))), rest


def load_at(cls: type[S], fields: Mapping[str, Any], places: Places) -> S:
    """`cls.load(fields)`; an error says in which file, line and field of `places` the fault stands."""
    try:
        return cls.load(fields, places.where())
    except UserError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            where = places.where(*cause.errors()[0]["loc"])
        else:
            # A validator that knows only its own field.
            where = places.where() if error.where is None else f"{places.where()}: {error.where}"
        raise UserError(
            error.what, where=where, got=error.got, expected=error.expected, hint=error.hint
        ) from error


def _absolute(cls: type[Spec], fields: dict[str, Any], base: Path | None) -> dict[str, Any]:
    """Fields with relative paths joined to `base`: those typed as Path, and `path` of sources."""
    if base is None:
        return fields
    out = dict(fields)
    for name, field in cls.model_fields.items():
        is_path = Path in _types(field.annotation) or (issubclass(cls, Source) and name == "path")
        if name in out and is_path:
            value = out[name]
            many = isinstance(value, list | tuple)
            joined = [_join(base, v) for v in (value if many else [value])]
            out[name] = joined if many else joined[0]
    return out


def _join(base: Path, value: Any) -> Any:
    if not isinstance(value, str | Path) or is_url(str(value)):
        return value
    return os.path.normpath(base / Path(value).expanduser())


def _types(annotation: Any) -> set[Any]:
    inner = get_args(annotation)
    return {annotation}.union(*(_types(arg) for arg in inner)) if inner else {annotation}


def _given(spec: Spec) -> dict[str, Any]:
    """The fields that were given, as plain values; a list of one path as the path."""
    values = spec.model_dump(mode="json", exclude_unset=True)
    if isinstance(spec, Source) and len(values["path"]) == 1:
        values["path"] = values["path"][0]
    return values


def _step_dict(step: Step, default: str) -> dict[str, Any]:
    out: dict[str, Any] = {step.op.name: _given(step.op)}
    if step.id != default:
        out["id"] = step.id
    if step.why:
        out["why"] = step.why
    if step.checkpoint:
        out["checkpoint"] = True
    return out


def input_fingerprint(recipe: Recipe, versions: list[dict[str, Any]]) -> str:
    """The fingerprint of a recipe over given input versions; paths do not enter."""
    known = [{k: v[k] for k in ("source", "name", "size", "digest")} for v in versions]
    return fingerprint("run", recipe.canonical(), known)
