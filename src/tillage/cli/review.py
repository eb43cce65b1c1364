"""A person's yes, no or edit to a recipe, before it is written."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from rich.console import Console

from tillage.agent.commits import difference
from tillage.core.errors import UserError
from tillage.flow.check import require
from tillage.flow.recipe import Recipe

QUESTION = "write this recipe? [yes, no, edit] "
Verdict = Literal["yes", "no"]


def asked() -> bool:
    """Whether there is somebody to ask: a terminal on both sides."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def review(recipe: Recipe, why: str, old: str | None, name: str) -> Recipe | None:
    """The recipe that the person accepts, edited or not; None for a no (or the end of input).

    Shows the steps with their reasons and, if a recipe is there already, the difference to it. Speaks on
    standard error, so that the answer to a `--json` stays alone on standard output.
    """
    console = Console(file=sys.stderr)
    show(console, recipe, why, old, name)
    while True:
        console.print(QUESTION, end="", markup=False)
        console.file.flush()
        line = sys.stdin.readline()
        answer = line.strip().lower()
        if not line or answer in ("n", "no"):
            return None
        if answer in ("y", "yes"):
            return recipe
        if answer in ("e", "edit"):
            try:
                edited = edit(recipe)
                require(edited)
            except UserError as error:
                console.print("\n".join(error.lines()), markup=False)
                continue
            recipe = edited
            show(console, recipe, "as edited", old, name)
        else:
            console.print("yes writes it, no writes nothing, edit opens $EDITOR")


def show(console: Console, recipe: Recipe, why: str, old: str | None, name: str) -> None:
    """The plan: each step with its reason, what chose it, and what it changes."""
    console.print(f"plan {recipe.name}: {why}", markup=False)
    for number, step in enumerate(recipe.steps, 1):
        console.print(f"  {number}. {step.id}: {step.why or 'no reason given'}", markup=False, soft_wrap=True)
    if old is not None:
        for line in difference(old, recipe.to_yaml(), name):
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def edit(recipe: Recipe) -> Recipe:
    """The recipe after `$VISUAL` or `$EDITOR` (else vi) has had it.

    Raises:
        UserError: no editor, one that failed, or a text that is no recipe.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="tillage-edit-") as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(recipe.to_yaml(), encoding="utf-8")
        try:
            code = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode
        except (OSError, ValueError) as error:
            raise UserError("the editor does not start", where="$EDITOR", got=f"{editor}: {error}") from error
        if code:
            raise UserError("the editor failed", where="$EDITOR", got=f"{editor} ended with {code}")
        return Recipe.from_yaml(path)
