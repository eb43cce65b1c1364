"""Specs: frozen, hashable descriptions whose fields are the parameters and whose docstring is the help."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from tillage.core.errors import UserError, nearest


class Spec(BaseModel):
    """A frozen pydantic model with no unknown fields; equal specs have equal fingerprints."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset()

    def canonical(self) -> Any:
        """The JSON-able value that the fingerprint is taken of."""
        return self.model_dump(mode="json", exclude=set(self.not_in_fingerprint))

    def fingerprint(self) -> str:
        """16 hex digits that change when, and only when, the meaning of the spec does."""
        return fingerprint(type(self).__name__, self.canonical())

    @classmethod
    def load(cls, value: Mapping[str, Any], where: str) -> Self:
        """Validate `value`; a `UserError` at `where` names the field and the nearest valid one."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise spec_error(cls, error, where) from error


def fingerprint(*values: object) -> str:
    """16 hex digits (SHA-256) over the canonical JSON of `values`."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def spec_error(cls: type[BaseModel], error: ValidationError, where: str) -> UserError:
    """The first fault of a pydantic error as a `UserError`."""
    errors = error.errors()
    # A misspelt field is both unknown and missing; that it is unknown says more.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place = ".".join(str(part) for part in first["loc"])
    field = str(first["loc"][-1]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        known = _model_at(cls, first["loc"][:-1]).model_fields
        return UserError(f"unknown field {field!r}", where=f"{where}: {place}", hint=nearest(field, known))
    if first["type"] == "missing":
        known = _model_at(cls, first["loc"][:-1]).model_fields
        expected = ", ".join(n for n, f in known.items() if f.is_required())
        return UserError(f"missing field {field!r}", where=f"{where}: {place}", expected=f"fields {expected}")
    return UserError(
        f"wrong value for {place or cls.__name__}",
        where=f"{where}: {place}" if place else where,
        got=repr(first.get("input"))[:200],
        expected=first["msg"],
    )


def _model_at(cls: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that a nested error is about, as far as field annotations tell."""
    for part in place:
        field = cls.model_fields.get(str(part))
        inner = _model_in(field.annotation) if field is not None else None
        cls = inner or cls
    return cls


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg)) is not None), None)
