"""Runs code that nobody reviewed: out of process, without files or network, under time and memory limits.

The interpreter is pydantic-monty (extra `agent`): a subset of Python in worker processes of its own. On top
of what it denies, modules are held to a list, output to a few kilobytes, and the clock and the dice stand
still, so that the same text always gives the same result.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from tillage.core.errors import UserError, WorkFailed
from tillage.core.spec import Spec

# Asked for here and not in the middle of a run: without it the registry leaves the sandboxed operators out.
try:
    import pydantic_monty as monty
except ImportError as error:
    raise ImportError(
        "the sandbox needs pydantic-monty: pip install 'tillage[agent]'", name=error.name
    ) from error

Entry = Literal["keep", "rewrite", "measure"]
"""The function that the code defines: of one text, to bool, to the new text, to a dict of measurements."""

MODULES = frozenset({"re", "math", "json", "datetime"})
DENIED = frozenset({"eval", "exec", "compile", "open", "input", "__import__"})
"""Names that would get round the list of modules, or that can only fail later."""

PRINTED = 16 << 10
"""Bytes of output that the code may print; none of it is shown. One byte more ends the run."""

_STOPPED_CLOCK = datetime(2000, 1, 1, tzinfo=UTC)
_CALLS = 1024


class Limits(Spec):
    """What one batch may use; beyond it the worker is stopped and the batch fails."""

    seconds: float = Field(default=2.0, gt=0)
    memory_mb: int = Field(default=64, ge=1)
    recursion: int = Field(default=100, ge=1)


def run_predicate(code: str, texts: Sequence[str], limits: Limits | None = None) -> list[bool]:
    """`keep(text)` of `code` for each text; errors as of `run_entry`."""
    return run_entry(code, "keep", texts, limits)


def run_entry(code: str, entry: Entry, texts: Sequence[str], limits: Limits | None = None) -> list[Any]:
    """The function `entry` of `code` for each text: bools, strings, or dicts with string keys.

    Raises:
        UserError: `code` is not of the subset, imports what is not on the list, or does not define the
        function. WorkFailed: it raised, ran past a limit, asked for something that is denied, or gave a
        wrong type.
    """
    review(code)
    limits = limits or Limits()
    with (
        monty.Monty(max_processes=1) as pool,
        pool.checkout(
            script_name=f"{entry}.py",
            limits={
                "max_feed_duration_secs": limits.seconds,
                "max_memory": limits.memory_mb << 20,
                "max_recursion_depth": limits.recursion,
                "max_suspensions": _CALLS,
                "max_total_sleep_secs": 0.0,
            },
            os_policy={"datetime": _STOPPED_CLOCK, "sleep": "zero", "random_start": {"seed": 0}},
        ) as session,
    ):
        # Without a collector the output would go to this process's own, into an answer that is JSON perhaps.
        printed = monty.CollectString(max_bytes=PRINTED)
        try:
            session.feed_run(code, print_callback=printed)
            results = session.feed_run(
                f"[{entry}(text) for text in texts]", inputs={"texts": list(texts)}, print_callback=printed
            )
        except monty.MontySyntaxError as error:
            raise UserError("the code is not valid", where=f"{entry}.py", got=str(error)) from error
        except monty.MontyError as error:
            if f"name '{entry}' is not defined" in str(error):
                raise UserError(
                    "the code defines no such function", expected=f"def {entry}(text): ..."
                ) from error
            raise WorkFailed("the code failed in the sandbox", got=str(error)[:500]) from error
    for result in results if isinstance(results, list) else [results]:
        if not _RIGHT[entry][1](result):
            raise WorkFailed(f"{entry} must return {_RIGHT[entry][0]}", got=repr(result)[:100])
    return results


def review(code: str) -> None:
    """`UserError` for code that does not parse, or that names a module or a function that is not allowed.

    This is for a clear message and a short list, not for safety: that is the interpreter's.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError("the code is not valid", got=str(error)) from error
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        for name in names:
            if name not in MODULES:
                raise UserError(
                    f"the code imports {name!r}",
                    where=f"line {node.lineno}",  # pyright: ignore[reportAttributeAccessIssue]
                    expected="no imports but " + ", ".join(sorted(MODULES)),
                )
        if isinstance(node, ast.Name) and node.id in DENIED:
            raise UserError(
                f"the code uses {node.id!r}", where=f"line {node.lineno}", expected="plain Python"
            )


_RIGHT: dict[Entry, tuple[str, Any]] = {
    "keep": ("True or False", lambda value: isinstance(value, bool)),
    "rewrite": ("a string", lambda value: isinstance(value, str)),
    "measure": (
        "a dict with a value for each declared column",
        lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value),
    ),
}
