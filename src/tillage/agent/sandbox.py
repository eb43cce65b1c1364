"""Runs code that nobody reviewed: out of process, without files or network, under time and memory limits.

The interpreter is pydantic-monty (extra `agent`): a subset of Python in worker processes of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tillage.core.errors import UserError, WorkFailed
from tillage.core.spec import Spec

# Asked for here and not in the middle of a run: without it the registry leaves the sandboxed operator out.
try:
    import pydantic_monty as monty
except ImportError as error:
    raise ImportError(
        "the sandbox needs pydantic-monty: pip install 'tillage[agent]'", name=error.name
    ) from error

ENTRY = "keep"


class Limits(Spec):
    """What one batch may use; beyond it the worker is stopped and the batch fails."""

    seconds: float = Field(default=2.0, gt=0)
    memory_mb: int = Field(default=64, ge=1)
    recursion: int = Field(default=100, ge=1)


def run_predicate(code: str, texts: Sequence[str], limits: Limits | None = None) -> list[bool]:
    """`keep(text)` of `code` for each text, as bools.

    Raises:
        UserError: `code` is not of the subset, or does not define `keep(text)`.
        WorkFailed: it raised, ran past a limit, asked for something that is denied, or gave no bool.
    """
    limits = limits or Limits()
    with (
        monty.Monty(max_processes=1) as pool,
        pool.checkout(
            script_name="predicate.py",
            limits={
                "max_feed_duration_secs": limits.seconds,
                "max_memory": limits.memory_mb << 20,
                "max_recursion_depth": limits.recursion,
            },
        ) as session,
    ):
        try:
            session.feed_run(code)
            verdicts = session.feed_run(f"[{ENTRY}(text) for text in texts]", inputs={"texts": list(texts)})
        except monty.MontySyntaxError as error:
            raise UserError("the predicate is not valid", where="predicate.py", got=str(error)) from error
        except monty.MontyError as error:
            if f"name '{ENTRY}' is not defined" in str(error):
                raise UserError(
                    "the predicate defines no such function", expected=f"def {ENTRY}(text): ..."
                ) from error
            raise WorkFailed("the predicate failed in the sandbox", got=str(error)) from error
    if not isinstance(verdicts, list) or not all(isinstance(v, bool) for v in verdicts):
        wrong = next((v for v in verdicts if not isinstance(v, bool)), verdicts)
        raise WorkFailed("the predicate must return True or False", got=repr(wrong)[:100])
    return verdicts
