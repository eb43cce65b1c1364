"""Begins to read a recipe's inputs while the libraries of `tillage run` are loaded.

Their digests are needed before anything can run, and loading keeps only one core busy. This is a guess from
the recipe's text alone: what it misses is read later, and what it reads for nothing is forgotten.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tillage.core.workspace import Workspace
from tillage.data import scan


def read_ahead(argv: Sequence[str]) -> None:
    """Begin with the local files of the sources of the recipe that a command line names, if it names one."""
    named = next((Path(arg) for arg in argv if arg.endswith((".yaml", ".yml"))), None)
    with suppress(OSError, ValueError, yaml.YAMLError):  # the recipe's own reading says what is wrong
        if named is not None:
            recipe = yaml.safe_load(named.read_text(encoding="utf-8"))
            known = _known(argv)
            scan.begin([found for found in _files(recipe, named.absolute().parent) if found not in known])


def _known(argv: Sequence[str]) -> set[tuple[str, tuple[int, int]]]:
    """Path and version of the files that an earlier run has read."""
    given = [arg.partition("=")[2] for arg in argv if arg.startswith("--workspace=")]
    given += [value for arg, value in pairwise(argv) if arg == "--workspace"]
    cache = Workspace.default(given[0] if given else None).inputs
    if not cache.exists():
        return set()
    return {(path, (entry[0], entry[1])) for path, entry in json.loads(cache.read_text()).items()}


def _files(recipe: Any, base: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Files and globs; what counts in a folder depends on the kind of source."""
    items = recipe.get("sources") if isinstance(recipe, dict) else None
    for item in items if isinstance(items, list) else []:
        for fields in item.values() if isinstance(item, dict) else []:
            paths = fields.get("path") if isinstance(fields, dict) else None
            for pattern in paths if isinstance(paths, list) else [paths]:
                if isinstance(pattern, str) and "://" not in pattern:
                    absolute = os.path.abspath(base / os.path.expanduser(pattern))
                    for path in sorted(glob.glob(absolute, recursive=True)):
                        if os.path.isfile(path):
                            stat = os.stat(path)
                            yield path, (stat.st_size, stat.st_mtime_ns)
