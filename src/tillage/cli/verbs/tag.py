"""`tillage tag DATASET@VERSION TAG`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from tillage.cli.answer import Answer, Writing, dry
from tillage.data.refs import open_ref, remove_tag, set_tag, tags


def tag(
    ref: str,
    tag: str,
    /,
    *,
    remove: Annotated[bool, Parameter(negative="")] = False,
    common: Writing = Writing(),
) -> Answer:
    """Give a dataset version a name, which other commands take as DATASET@TAG.

    Args:
        ref: DATASET, for its newest version, or DATASET@VERSION.
        tag: letters, digits, _ . and -; a tag that is there already moves.
        remove: take the tag away; the version stays.
    """
    dataset = open_ref(ref, common.space)
    name = f"{dataset.path.name}@{dataset.version}"
    if common.dry_run:
        return dry(f"{'remove' if remove else 'set'} the tag {tag} of {name}", [dataset.path])
    if remove:
        remove_tag(dataset.path, tag)
    else:
        set_tag(dataset, tag)
    said = (
        f"the tag {tag} of {dataset.path.name} is gone" if remove else f"{name} is {dataset.path.name}@{tag}"
    )
    return Answer({"path": str(dataset.path), "version": dataset.version, "tags": tags(dataset.path)}, [said])
