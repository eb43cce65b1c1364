"""Names for versions of datasets: NAME, NAME@3, NAME@tag; and the tags."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tillage.core.errors import UserError, nearest
from tillage.core.workspace import Workspace, write_atomic
from tillage.data.dataset import Dataset
from tillage.data.tablefiles import OWN, alone

_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def names(workspace: Workspace) -> list[str]:
    """The datasets of a workspace."""
    found = [path for path in workspace.datasets.glob("*") if path.is_dir()]
    return sorted(path.name for path in found if Dataset(path).exists())


def dataset_path(name: str, workspace: Workspace) -> Path:
    """A dataset of the workspace by its name, or any folder by its path; `UserError` if there is none."""
    if name and (workspace.datasets / name).is_dir():
        return workspace.datasets / name
    if name and Path(name).is_dir():
        return Path(name).absolute()
    known = names(workspace)
    hint = nearest(name, known) if known else "`tillage run` makes one"
    raise UserError(f"no dataset {name!r}", where=workspace.datasets, hint=hint)


def open_ref(ref: str, workspace: Workspace) -> Dataset:
    """The dataset and version that `NAME`, `NAME@VERSION` or `NAME@TAG` names; without one the newest.

    Raises:
        UserError: no such dataset, version or tag.
    """
    name, _, wanted = ref.partition("@")
    path = dataset_path(name, workspace)
    if not wanted:
        if "@" in ref:
            raise UserError("no version after @", got=ref, expected="NAME@VERSION or NAME@TAG")
        return Dataset.open(path)
    if wanted.isdigit():
        return Dataset.open(path, int(wanted))
    known = tags(path)
    if wanted not in known:
        raise UserError(f"no tag {wanted!r}", where=path, hint=nearest(wanted, known) if known else None)
    return Dataset.open(path, known[wanted])


def tags(path: Path) -> dict[str, int]:
    """Tag -> version of the dataset at `path`."""
    try:
        return json.loads((path / OWN / "tags.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def set_tag(dataset: Dataset, tag: str) -> None:
    """Name the version that `dataset` is open at; a tag that is there already moves.

    Raises:
        UserError: a name that would be taken for a version, or that holds other than letters, digits and _.-
    """
    if not _TAG.fullmatch(tag):
        raise UserError("not a name for a tag", got=tag, expected="a letter, then letters, digits, _ . or -")
    version = dataset.version if dataset.version is not None else Dataset.open(dataset.path).version
    assert version is not None
    with alone(dataset.path):
        _save(dataset.path, {**tags(dataset.path), tag: version})


def remove_tag(path: Path, tag: str) -> None:
    """`UserError` if there is no such tag."""
    with alone(path):
        known = tags(path)
        if tag not in known:
            raise UserError(f"no tag {tag!r}", where=path, hint=nearest(tag, known) if known else None)
        _save(path, {name: version for name, version in known.items() if name != tag})


def _save(path: Path, known: dict[str, int]) -> None:
    write_atomic(path / OWN / "tags.json", json.dumps(known, indent=1, sort_keys=True) + "\n")
