"""The two ways in which a command can end badly, and the nearest-name helper that makes hints."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """The user's input is wrong. Commands print it without a traceback and exit with code 2.

    Args:
        what: one sentence that says what is wrong.
        where: the file, line, field or step concerned.
        got: what was found there.
        expected: what would have been right.
        hint: what to do next.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object | None = None,
        got: object | None = None,
        expected: object | None = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.where, self.got, self.expected, self.hint = what, where, got, expected, hint
        super().__init__(what)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors cross process borders.
        return (_rebuild, (type(self), self.what, self.where, self.got, self.expected, self.hint))

    def lines(self) -> list[str]:
        """The message as printed: one line for each thing that is known."""
        parts = [("where", self.where), ("got", self.got), ("expected", self.expected), ("hint", self.hint)]
        return [self.what, *(f"  {name}: {value}" for name, value in parts if value is not None)]

    def __str__(self) -> str:
        return "\n".join(self.lines())


class WorkFailed(UserError):
    """The input was fine and the work still failed. Commands exit with code 1."""


def _rebuild(
    cls: type[UserError], what: str, where: object, got: object, expected: object, hint: str | None
) -> UserError:
    return cls(what, where=where, got=got, expected=expected, hint=hint)


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint that names the valid name nearest to `name`, or lists the valid ones."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "valid: " + ", ".join(names) if names else "nothing is valid here"
