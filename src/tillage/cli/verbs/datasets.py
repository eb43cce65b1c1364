"""`tillage datasets [DATASET]`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from tillage.cli.answer import FAILED, Answer, Common
from tillage.cli.views import accounts_view, table
from tillage.core.events import StepAccount
from tillage.core.text import amount, size
from tillage.data.dataset import Dataset, Version
from tillage.data.refs import names, open_ref, tags


def datasets(
    ref: str | None = None,
    /,
    *,
    verify: Annotated[bool, Parameter(negative="")] = False,
    common: Common = Common(),
) -> Answer:
    """List the datasets of the workspace, or the versions of one.

    Args:
        ref: a dataset, to list its versions; with @VERSION or @TAG, to show what that version was made from.
        verify: also read all files and compare them with the checksums in their names.
    """
    if ref is None:
        return _all(common, verify)
    dataset = open_ref(ref, common.space)
    return _one(dataset, verify) if "@" in ref else _versions(dataset.path.name, dataset, verify)


def _all(common: Common, verify: bool) -> Answer:
    found: list[dict[str, Any]] = []
    for name in names(common.space):
        dataset = Dataset.open(common.space.datasets / name)
        history = dataset.history()
        newest = _told(history[0], tags(dataset.path)) if history else {"version": dataset.version}
        found.append({"name": name, "path": str(dataset.path), "versions": len(history), **newest})
        if verify:
            found[-1]["damage"] = dataset.damage()
    if not found:
        return Answer({"datasets": []}, [f"no datasets in {common.space.datasets}"])
    rows = [[each["name"], str(each["versions"]), *_cells(each)] for each in found]
    head = ("dataset", "versions", "newest", "made (UTC)", "rows", "text", "run", "tags")
    return _answer({"datasets": found}, [table(head, rows, (1, 2, 4, 5))], found)


def _versions(name: str, dataset: Dataset, verify: bool) -> Answer:
    known = tags(dataset.path)
    found = [_told(entry, known) for entry in dataset.history()]
    if verify:
        for each in found:
            each["damage"] = Dataset.open(dataset.path, each["version"]).damage()
    rows = [[*_cells(each), each["made_by"]] for each in found]
    head = ("version", "made (UTC)", "rows", "text", "run", "tags", "how")
    data = {"name": name, "path": str(dataset.path), "versions": found}
    return _answer(data, [f"{name} ({dataset.path})", table(head, rows, (0, 2, 3))], found)


def _one(dataset: Dataset, verify: bool) -> Answer:
    entry = next((e for e in dataset.history() if e.version == dataset.version), None)
    lineage = dataset.lineage() if entry is None else entry.lineage
    told: dict[str, Any] = {"version": dataset.version, "made_by": "not by a run"}
    if entry is not None:
        told = _told(entry, tags(dataset.path))
    if verify:
        told["damage"] = dataset.damage()
    inputs = lineage.get("inputs", [])
    files = [[v["name"], size(v["size"]), v["digest"]] for v in inputs[:20]]
    more = [f"and {len(inputs) - 20} more"] if len(inputs) > 20 else []
    name = f"{dataset.path.name}@{dataset.version}"
    view = [
        f"{name}: {told['made_by']}, run {lineage['run']}, digest {lineage['digest']}",
        f"made by Tillage {lineage.get('tillage')} with Daft {lineage.get('daft', 'of an unknown version')}",
        accounts_view([StepAccount(**account) for account in lineage.get("accounts", [])]),
        table(("input", "size", "BLAKE2b-128"), files, (1,)),
        *more,
        *_contamination(lineage.get("contamination")),
        lineage["recipe"],
    ]
    return _answer({"path": str(dataset.path), **told, "lineage": lineage}, view, [told])


def _told(entry: Version, known: dict[str, int]) -> dict[str, Any]:
    lineage = entry.lineage
    how = "replaced"
    if "rolled_back" in lineage:
        how = f"rolled back to {lineage['rolled_back']['to']}"
    elif "added" in lineage:
        how = f"appended to {lineage['base']}"
    return {
        "version": entry.version,
        "made": entry.time,
        "rows": lineage.get("rows"),
        "bytes": lineage.get("bytes"),
        "run": lineage["run"],
        "digest": lineage["digest"],
        "tags": sorted(tag for tag, version in known.items() if version == entry.version),
        "made_by": how,
    }


def _contamination(said: dict[str, Any] | None) -> list[str]:
    if said is None or said["verdict"] == "unchecked":
        return ["evaluation sets: the recipe names none, so no overlap was looked for"]
    return [
        f"evaluation sets: {said['verdict']}; {one['against']}: {one['hit']} of {one['items']} items hit by "
        f"{one['rows']} rows"
        for one in said["sets"]
        if one["step"] == "gate"
    ]


def _cells(each: dict[str, Any]) -> list[str]:
    made = datetime.fromtimestamp(each["made"], UTC).strftime("%Y-%m-%d %H:%M") if "made" in each else "-"
    return [
        str(each["version"]),
        made,
        amount(each.get("rows")),
        size(each.get("bytes")),
        each.get("run", "-"),
        ", ".join(each.get("tags", [])),
    ]


def _answer(data: dict[str, Any], view: list[Any], found: list[dict[str, Any]]) -> Answer:
    """With what is damaged, if that was looked for; exit code 1 if anything is."""
    if not any("damage" in each for each in found):
        return Answer(data, view)
    bad = [what for each in found for what in each["damage"]]
    said = bad or ["all files are what was written"]
    hint = ["run the recipe again: damaged files are made anew"] if bad else []
    return Answer(data, [*view, *dict.fromkeys(said), *hint], FAILED if bad else 0)
