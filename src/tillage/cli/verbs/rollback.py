"""`tillage rollback DATASET@VERSION`."""

from __future__ import annotations

from tillage.cli.answer import Answer, Writing, dry
from tillage.core.errors import UserError
from tillage.data.refs import open_ref


def rollback(ref: str, /, *, common: Writing = Writing()) -> Answer:
    """Make a new version of a dataset that is equal to an old one; nothing is lost.

    Args:
        ref: DATASET@VERSION or DATASET@TAG: the version to go back to.
    """
    if "@" not in ref:
        raise UserError("to which version?", got=ref, expected="DATASET@VERSION or DATASET@TAG")
    dataset = open_ref(ref, common.space)
    old = dataset.version
    assert old is not None
    if common.dry_run:
        return dry(f"make a new version of {dataset.path.name} equal to version {old}", [dataset.path])
    version = dataset.rollback(old)
    said = f"{dataset.path.name} version {version} is equal to version {old}"
    return Answer({"path": str(dataset.path), "version": version, "equal_to": old}, [said])
