"""The history of a recipe file: every change by the agent is a commit with its author, reason and diff.

One append-only JSONL file a recipe, below the workspace; the recipe itself stays an ordinary file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Literal

from tillage.agent.verify import Verdict
from tillage.core.errors import UserError
from tillage.core.spec import Spec, fingerprint
from tillage.core.workspace import Workspace, write_atomic

PERSON = "person"
ROOT = -1


class Commit(Spec):
    """One version of a recipe. `parent` is the number of the version before, 0 where that was no file, and
    `ROOT` where nothing is known from before, so that nothing can be undone.

    `text` None means that there was no file. An undo's parent is that of the version it went back to, so that
    undoing again goes further back.
    """

    number: int
    parent: int
    time: float
    author: str
    why: str
    kind: Literal["found", "change", "undo"] = "change"
    text: str | None
    diff: str = ""


class RecipeHistory:
    """The commits of the recipe at `path`."""

    def __init__(self, path: Path, workspace: Workspace) -> None:
        self.path = path.absolute()
        name = f"{self.path.stem}-{fingerprint(str(self.path))[:8]}.jsonl"
        self.log = workspace.root / "history" / name

    def all(self) -> list[Commit]:
        """The commits, oldest first; a last line cut by a kill is left out."""
        if not self.log.exists():
            return []
        lines = self.log.read_text("utf-8").splitlines(keepends=True)
        whole = [(number, line) for number, line in enumerate(lines, 1) if line.endswith("\n")]
        try:
            return [Commit.load(json.loads(line), f"{self.log}:{number}") for number, line in whole]
        except ValueError as error:
            raise UserError("the history is damaged", where=self.log, got=str(error)) from error

    def commit(self, text: str, author: str, why: str) -> Commit | None:
        """Write `text` to the recipe and enter it; None if it is what is there already.

        What a person wrote there since is entered first, as found, so that no version is lost.
        """
        self._found()
        head = self._head()
        if head is not None and head.text == text and self._now() == text:
            return None
        return self._write(text, author, why, "change", head.number if head is not None else 0)

    def undo(self) -> Commit:
        """Take the last change back: the recipe is again what it was before it.

        Raises:
            UserError: there is no change to take back.
        """
        self._found()
        commits = {commit.number: commit for commit in self.all()}
        head = self._head()
        if head is None or head.parent == ROOT:
            raise UserError(
                "there is no change to undo", where=self.path, hint="tillage undo --list shows the history"
            )
        before = commits.get(head.parent)
        text, parent = (before.text, before.parent) if before is not None else (None, ROOT)
        what = f"version {before.number}" if before is not None else "no recipe"
        return self._write(text, PERSON, f"undo of version {head.number}: back to {what}", "undo", parent)

    def enter(self, verdict: Verdict, planner: str) -> list[Commit]:
        """The versions of a candidate that is accepted: as proposed, then a commit for each repair."""
        head = self._head()
        if head is not None and head.text == verdict.recipe.to_yaml() == self._now():
            return []
        steps: list[tuple[str, str]] = [(verdict.proposal.recipe.to_yaml(), verdict.proposal.summary)]
        steps += [(repair.recipe.to_yaml(), repair.why) for repair in verdict.repairs]
        if verdict.recipe.to_yaml() != steps[-1][0]:
            steps.append((verdict.recipe.to_yaml(), "as verified"))
        made = [self.commit(text, planner, why) for text, why in steps]
        return [commit for commit in made if commit is not None]

    def _head(self) -> Commit | None:
        commits = self.all()
        return commits[-1] if commits else None

    def _now(self) -> str | None:
        return self.path.read_text("utf-8") if self.path.exists() else None

    def _found(self) -> None:
        """Enter what is in the file if it is not the last version."""
        now, head = self._now(), self._head()
        if now is None or (head is not None and head.text == now):
            return
        why = "edited since" if head is not None else "as found"
        self._append(now, PERSON, why, "found", head.number if head is not None else ROOT)

    def _write(
        self, text: str | None, author: str, why: str, kind: Literal["change", "undo"], parent: int
    ) -> Commit:
        commit = self._append(text, author, why, kind, parent)
        if text is None:
            self.path.unlink(missing_ok=True)
        else:
            write_atomic(self.path, text)
        return commit

    def _append(
        self, text: str | None, author: str, why: str, kind: Literal["found", "change", "undo"], parent: int
    ) -> Commit:
        before = self._now() if kind != "found" else self._text_of(parent)
        commit = Commit(
            number=len(self.all()) + 1,
            parent=parent,
            time=round(time.time(), 3),
            author=author,
            why=why,
            kind=kind,
            text=text,
            diff="\n".join(difference(before, text, self.path.name)),
        )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as out:
            out.write(commit.model_dump_json() + "\n")
        return commit

    def _text_of(self, number: int) -> str | None:
        return next((commit.text for commit in self.all() if commit.number == number), None)


def difference(before: str | None, after: str | None, name: str) -> Sequence[str]:
    """Lines of a unified diff; None stands for no file."""
    sides = [(text or "").splitlines() for text in (before, after)]
    return list(unified_diff(sides[0], sides[1], f"a/{name}", f"b/{name}", lineterm="", n=2))
