"""Named registries of specs: operators, policies, sources. Users' packages join by entry point."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from tillage.core.errors import UserError, nearest
from tillage.core.spec import Spec

T = TypeVar("T", bound=Spec)
C = TypeVar("C", bound=Spec)


def snake_case(name: str) -> str:
    """`MinHashDedup` -> `minhash_dedup`, `C4Lines` -> `c4_lines`: the name used in YAML."""
    for word in ("MinHash", "SimHash", "PII", "HTML"):
        name = name.replace(word, word.capitalize())
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return name.lower()


class Registry(Generic[T]):
    """Maps names to the spec classes of one kind, for example "operator".

    Modules that are shipped with Tillage are named beforehand and imported when one of their names is asked
    for, or all names are: a recipe of four steps should not wait for the operators of all others.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self._classes: dict[str, type[T]] = {}
        self.shipped: dict[str, str] = {}
        """Name -> module; see `ship`."""
        self._missing: dict[str, ImportError] = {}
        self._external_loaded = group is None

    def ship(self, modules: Mapping[str, Sequence[str]]) -> None:
        """Name the modules that register themselves when imported, each with the names that it registers."""
        self.shipped |= {name: module for module, names in modules.items() for name in names}

    def register(self, cls: type[C]) -> type[C]:
        """Class decorator; the name is the class name in snake case and is set as `cls.name`."""
        name = snake_case(cls.__name__)
        known = self._classes.get(name)
        home = self.shipped.get(name, cls.__module__) if known is None else known.__module__
        if home != cls.__module__ or (known is not None and known.__qualname__ != cls.__qualname__):
            raise UserError(f"two {self.kind}s are called {name!r}", got=f"{home}, {cls.__module__}")
        cls.name = name  # type: ignore[attr-defined]
        self._classes[name] = cls  # type: ignore[assignment]
        return cls

    def get(self, name: str, where: str = "") -> type[T]:
        """The class called `name`; `UserError` with the nearest name, or with what kept it from loading."""
        if name not in self._classes and name in self.shipped:
            import_module(self.shipped[name])
        if name not in self._classes:  # others' packages are not loaded for nothing
            self._load_external()
        if name in self._missing and name not in self._classes:
            error = self._missing[name]
            raise UserError(
                f"{self.kind} {name!r} could not be loaded", where=where or None, got=str(error)
            ) from error
        if name not in self._classes:
            raise UserError(
                f"unknown {self.kind} {name!r}",
                where=where or None,
                hint=nearest(name, {**self.shipped, **self._classes}),
            )
        return self._classes[name]

    def names(self) -> list[str]:
        for module in dict.fromkeys(self.shipped.values()):
            import_module(module)
        self._load_external()
        return sorted(self._classes)

    def missing(self) -> dict[str, str]:
        """Entry points that could not be imported, each with its reason: `{name: message}`."""
        self._load_external()
        return {name: str(error) for name, error in sorted(self._missing.items())}

    def __iter__(self) -> Iterator[tuple[str, type[T]]]:
        return iter([(name, self._classes[name]) for name in self.names()])

    def _load_external(self) -> None:
        if self._external_loaded:
            return
        self._external_loaded = True
        for point in entry_points(group=self.group or ""):
            # One package without its optional dependency must not take the other operators away.
            try:
                point.load()
            except ImportError as error:
                self._missing[point.name] = error
