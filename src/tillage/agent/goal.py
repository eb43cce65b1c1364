"""What the user wants, in words and numbers; its target is split before anything is planned."""

from __future__ import annotations

import glob as globbing
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from tillage.core.errors import UserError
from tillage.core.spec import Spec, fingerprint
from tillage.core.workspace import Workspace, check_writable, write_atomic
from tillage.flow.places import load_yaml
from tillage.flow.recipe import parse_sources


class Target(Spec):
    """Texts for what the model should be good at: .jsonl (.gz, .zst), .parquet or plain text files.

    `group_field` names what must not be torn apart by the split, for example a package or an author; without
    it, each distinct text is a group. `holdout` is the share of bytes that only the final verdict reads.
    """

    path: tuple[str, ...]
    text_field: str = "text"
    group_field: str | None = None
    holdout: float = Field(default=0.5, gt=0, lt=1)

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Budget(Spec):
    """How much verification may cost. `probe_runs` counts trainings of a probe, all candidates and seeds."""

    minutes: float = Field(default=5.0, gt=0)
    probe_runs: int = Field(default=60, ge=1)
    probe_bytes: int = Field(default=2_000_000, ge=10_000)
    seeds: int = Field(default=5, ge=3)
    sample_rows: int = Field(default=8_000, ge=100)
    repairs: int = Field(default=3, ge=0)


class Constraints(Spec):
    """What a recipe must respect. `languages` empty means all; `forbidden` are operator names;
    `max_quarantine` is the share of records that may be unreadable, as in a recipe."""

    languages: tuple[str, ...] = ()
    min_retention: float = Field(default=0.02, ge=0, le=1)
    forbidden: tuple[str, ...] = ()
    max_quarantine: float = Field(default=0.01, ge=0, le=1)


class Goal(Spec):
    """A task in words, raw sources, a target set, a budget and constraints. `sources` are as in a recipe.

    `aim` says what may be dropped: `target` whatever helps the target least, `clean` only what is broken;
    then a sound document stays, however little it is like the target, which shows what sound ones are like.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    task: str
    aim: Literal["target", "clean"] = "target"
    kind: Literal["pretrain", "continued_pretraining", "sft"] = "pretrain"
    sources: tuple[dict[str, Any], ...] = Field(min_length=1)
    target: Target | None = None
    budget: Budget = Budget()
    constraints: Constraints = Constraints()
    dataset: str = ""
    seed: int = 0

    @classmethod
    def from_yaml(cls, path: Path) -> Goal:
        """Read a GOAL.yaml; relative paths in it are relative to it. `UserError` names file and field."""
        value, places = load_yaml(path)
        goal = cls.load(value, str(path))
        folder = path.absolute().parent
        parse_sources([dict(source) for source in goal.sources], folder, places)
        return goal.based_at(folder)

    def based_at(self, folder: Path) -> Goal:
        """The same goal with relative paths of target and sources made absolute below `folder`."""
        target = self.target
        if target is not None:
            target = target.model_copy(update={"path": tuple(str(folder / p) for p in target.path)})
        return self.model_copy(
            update={"target": target, "sources": tuple(_rebase(source, folder) for source in self.sources)}
        )


def _rebase(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    def moved(value: Any) -> Any:
        return [str(folder / v) for v in value] if isinstance(value, list) else str(folder / value)

    return {
        kind: {k: moved(v) if k == "path" else v for k, v in fields.items()}
        if isinstance(fields, dict)
        else fields
        for kind, fields in source.items()
    }


@dataclass(frozen=True)
class Document:
    text: str
    group: str


class FrozenGoal:
    """A goal and its target, split on disk. The agent looks at `search()`; `holdout()` is for a verdict only.

    Folder: `goal.json`, `search.jsonl`, `holdout.jsonl` (rows `text`, `group`), `protected.jsonl` (both, for
    decontamination), `reads.jsonl` (who read the holdout, for what round).
    """

    def __init__(self, goal: Goal, folder: Path) -> None:
        self.goal = goal
        self.folder = folder

    @classmethod
    def open(cls, folder: Path) -> FrozenGoal:
        """A goal frozen earlier. `UserError` if there is none or its files were changed since."""
        path = folder / "goal.json"
        if not path.exists():
            raise UserError("no frozen goal here", where=folder, hint="freeze one with `tillage plan`")
        record = json.loads(path.read_text("utf-8"))
        frozen = cls(Goal.load(record["goal"], str(path)), folder)
        for name, digest in record["files"].items():
            if not (folder / name).exists() or _digest(folder / name) != digest:
                raise UserError("the frozen target was changed", where=folder / name, hint="freeze it anew")
        return frozen

    @property
    def search_path(self) -> Path | None:
        """JSONL file of the search part, for operators that take a target; None without a target."""
        return self.folder / "search.jsonl" if self.goal.target else None

    @property
    def protected_path(self) -> Path | None:
        """All of the target in one file, only for an operator that removes overlap with it from the data."""
        return self.folder / "protected.jsonl" if self.goal.target else None

    def search(self) -> list[str]:
        """Texts that planning and verification may look at."""
        return self._texts("search.jsonl")

    def holdout(self, round: int, verdict: str) -> list[str]:
        """Texts for the final numbers of a round. Every read is recorded in `reads.jsonl`.

        `verdict` names what is judged (for example the recipes' fingerprints). A second, different verdict in
        the same round is refused with a `UserError`: it would turn the holdout into a search set.
        """
        record = self.folder / "reads.jsonl"
        for line in record.read_text("utf-8").splitlines() if record.exists() else []:
            known = json.loads(line)
            if known["round"] == round and known["verdict"] != verdict:
                raise UserError(
                    "the holdout was already read for another verdict of this round",
                    where=record,
                    got=f"round {round}: {verdict}",
                    expected=f"round {round}: {known['verdict']}",
                    hint="judge everything of a round at once, or start the next round",
                )
        with record.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"round": round, "verdict": verdict}) + "\n")
        return self._texts("holdout.jsonl")

    def verdicts(self) -> list[str]:
        """The different verdicts that the holdout was read for, in order."""
        record = self.folder / "reads.jsonl"
        lines = record.read_text("utf-8").splitlines() if record.exists() else []
        return list(dict.fromkeys(json.loads(line)["verdict"] for line in lines))

    def _texts(self, name: str) -> list[str]:
        if self.goal.target is None:
            return []
        with (self.folder / name).open(encoding="utf-8") as lines:
            return [json.loads(line)["text"] for line in lines]


def goal_folder(goal: Goal, workspace: Workspace) -> Path:
    """Where a goal is frozen: another folder for another goal and for other content of its target."""
    files = _files(goal.target) if goal.target is not None else []
    try:
        content = [_digest(path) for path in files]
    except OSError as error:
        raise UserError("cannot read the target", where=error.filename, got=error.strerror) from error
    return workspace.root / "goals" / f"{goal.name}-{fingerprint(goal.canonical(), content)[:8]}"


def freeze(goal: Goal, folder: Path) -> FrozenGoal:
    """Split the target by group into search and holdout and write both; nothing is planned before this.

    Groups in the order of a seeded hash go to the part that is furthest below its share of bytes, so a split
    is the same on every machine and close to the shares. Freezing the same goal again returns what is there.

    Raises:
        UserError: no readable target text, fewer than two groups, or another goal is frozen in `folder`.
    """
    check_writable(folder)
    if (folder / "goal.json").exists():
        frozen = FrozenGoal.open(folder)
        if frozen.goal != goal:
            raise UserError("another goal is frozen here", where=folder, hint="use another folder")
        return frozen
    parts: dict[str, list[Document]] = {}
    if goal.target is not None:
        search, holdout = _split(read_target(goal.target), goal.target, goal.seed)
        parts = {"search.jsonl": search, "holdout.jsonl": holdout, "protected.jsonl": [*search, *holdout]}
    for name, documents in parts.items():
        lines = (json.dumps({"text": d.text, "group": d.group}, ensure_ascii=False) for d in documents)
        write_atomic(folder / name, "".join(line + "\n" for line in lines))
    record = {"goal": goal.model_dump(mode="json"), "files": {n: _digest(folder / n) for n in parts}}
    write_atomic(folder / "goal.json", json.dumps(record, ensure_ascii=False, indent=1))
    return FrozenGoal(goal, folder)


def _split(documents: list[Document], target: Target, seed: int) -> tuple[list[Document], list[Document]]:
    groups: dict[str, list[Document]] = {}
    for document in documents:
        groups.setdefault(document.group, []).append(document)
    if len(groups) < 2:
        raise UserError(
            "the target cannot be split into search and holdout",
            where=", ".join(target.path),
            got=f"{len(groups)} group(s) in {len(documents)} document(s)",
            expected="two groups or more",
        )
    sides: tuple[list[Document], list[Document]] = ([], [])
    shares = (1.0 - target.holdout, target.holdout)
    filled = [0, 0]
    for name in sorted(groups, key=lambda g: fingerprint(seed, g)):
        size = sum(len(d.text.encode()) for d in groups[name])
        side = 0 if filled[0] / shares[0] <= filled[1] / shares[1] else 1
        sides[side].extend(groups[name])
        filled[side] += size
    return sides


def read_target(target: Target) -> list[Document]:
    """All documents of the target in the order of sorted paths; blank texts are left out."""
    documents = [document for file in _files(target) for document in _read_file(file, target)]
    documents = [d for d in documents if d.text.strip()]
    if not documents:
        raise UserError("the target holds no text", where=", ".join(target.path))
    return documents


def _files(target: Target) -> list[Path]:
    found: list[Path] = []
    for pattern in target.path:
        magic = globbing.has_magic(pattern)
        found += map(Path, sorted(globbing.glob(pattern, recursive=True)) if magic else [pattern])
    return found


def _read_file(path: Path, target: Target) -> Iterator[Document]:
    try:
        if path.suffix == ".parquet":
            wanted = [target.text_field] + ([target.group_field] if target.group_field else [])
            for row in pq.read_table(path, columns=wanted).to_pylist():
                yield _document(row, target, str(path))
        elif any(suffix in path.suffixes for suffix in (".jsonl", ".ndjson", ".json")):
            with pa.input_stream(str(path), compression="detect") as stream:
                content = stream.read().decode("utf-8")
            for number, line in enumerate(content.split("\n"), 1):
                if line.strip():
                    yield _document(_json(line, f"{path}:{number}"), target, f"{path}:{number}")
        else:
            text = path.read_text("utf-8")
            yield Document(text, str(path))
    except OSError as error:
        got = "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
        raise UserError("cannot read the target", where=path, got=got) from error
    except (pa.ArrowException, ValueError) as error:
        raise UserError("cannot read the target", where=path, got=str(error)[:300]) from error


def _json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise UserError("a line of the target is not JSON", where=where, got=str(error)) from error


def _document(row: Any, target: Target, where: str) -> Document:
    text = row.get(target.text_field) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise UserError(
            f"a target row has no text in {target.text_field!r}",
            where=where,
            got=sorted(row) if isinstance(row, dict) else type(row).__name__,
            hint="set target.text_field",
        )
    if target.group_field is None:
        return Document(text, hashlib.blake2b(text.encode(), digest_size=8).hexdigest())
    if row.get(target.group_field) is None:
        raise UserError(f"a target row has no {target.group_field!r}", where=where, got=sorted(row))
    return Document(text, str(row[target.group_field]))


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
