"""YAML with the line of each part, so that an error can say where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tillage.core.errors import UserError

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Places:
    """A place in a YAML file; `lines` maps paths of keys and indices to line numbers from 1."""

    name: str
    lines: dict[Path_, int] = field(default_factory=dict[Path_, int])
    path: Path_ = ()

    def at(self, *keys: str | int) -> Places:
        return Places(self.name, self.lines, (*self.path, *keys))

    def where(self, *keys: str | int) -> str:
        """`file:line: steps[2].words`, as far as it is known."""
        path = (*self.path, *keys)
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = self.lines.get(known)
        dotted = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path).lstrip(".")
        file = self.name if line is None else f"{self.name}:{line}"
        return f"{file}: {dotted}" if dotted else file


def load_yaml(source: str | Path) -> tuple[dict[str, Any], Places]:
    """The mapping in a YAML file (`Path`) or text, and where its parts stand.

    Raises:
        UserError: no such file, not UTF-8, bad syntax (with the line), a key given twice, not a mapping.
    """
    name = str(source) if isinstance(source, Path) else "recipe"
    text = _text(source) if isinstance(source, Path) else source
    lines: dict[Path_, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _walk(node, (), lines, name)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise UserError("not valid YAML", where=place, got=error.problem) from error
    except yaml.YAMLError as error:
        raise UserError("not valid YAML", where=name, got=error) from error
    if not isinstance(value, dict):
        raise UserError("a mapping is needed", where=name, got=type(value).__name__)
    return value, Places(name, lines)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError("cannot read the file", where=path, got=error.strerror) from error
    except UnicodeDecodeError as error:
        raise UserError("the file is not UTF-8", where=path, got=f"byte {error.start + 1}") from error


def _walk(node: yaml.Node, path: Path_, lines: dict[Path_, int], name: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            if here in lines:
                raise UserError(
                    f"key {key.value!r} is given twice", where=f"{name}:{key.start_mark.line + 1}"
                )
            lines[here] = key.start_mark.line + 1
            _walk(value, here, lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), lines, name)
