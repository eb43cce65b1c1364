"""Rewrites learned from pairs of texts, before and after: the shortest program of cuts that explains them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tillage.agent.learn import FOLDS, learned_step
from tillage.core.errors import UserError, WorkFailed
from tillage.ops.edit import Cut, apply

Pair = tuple[str, str]
Program = tuple[Cut, ...]

FEWEST = 3
BEAM = 12
LONGEST = 3
_LOOSE = 6
"""What a cut at a separator costs more: it fits texts of any kind, and so cuts those that it should not."""
SEPARATORS = ("\t", " | ", "|", ";", ",", ": ", ":", " - ", "=", " ", "\n\n", "\n")


@dataclass(frozen=True)
class LearnedEdit:
    """`precision`: share of changed texts that became what they should; `recall`: share of texts in need of a
    change that got it; both cross-validated. `fit`: share of all pairs that the program explains."""

    program: Program
    precision: float
    recall: float
    fit: float
    pairs: int

    def step(self, id: str = "learned_edit") -> dict[str, Any]:
        """The step of a recipe."""
        cuts = [cut.model_dump(exclude_defaults=True) for cut in self.program]
        body = {"edit": {"program": cuts}}
        return learned_step(body, id, f"{self.pairs} pairs", self.precision, self.recall)


def learn_edit(pairs: Sequence[Pair]) -> LearnedEdit:
    """A program that turns what is before into what is after.

    Raises:
        UserError: fewer than three pairs, or none that changes.
        WorkFailed: no program explains half of the pairs that change.
    """
    changed = [pair for pair in pairs if pair[0] != pair[1]]
    if len(pairs) < FEWEST or not changed:
        got = f"{len(pairs)} pairs, {len(changed)} that change"
        raise UserError("too few pairs to learn from", got=got, expected=f"{FEWEST} or more that change")
    program = _search(pairs)
    if program is None or sum(apply(program, a) == b for a, b in changed) * 2 < len(changed):
        raise WorkFailed(
            "no small program explains the pairs",
            got=f"{len(pairs)} pairs",
            hint="have a language model write the operator: tillage ops write --kind map",
        )
    right = made = 0
    for fold in range(FOLDS):
        rest = [pair for i, pair in enumerate(pairs) if i % FOLDS != fold]
        found = _search(rest) or ()
        for before, after in (pair for i, pair in enumerate(pairs) if i % FOLDS == fold):
            new = apply(found, before)
            made += new != before
            right += new == after != before
    fit = sum(apply(program, a) == b for a, b in pairs) / len(pairs)
    return LearnedEdit(program, right / max(made, 1), right / len(changed), fit, len(pairs))


def _search(pairs: Sequence[Pair]) -> Program | None:
    """The best program by pairs explained, then by length, found by a beam of partial programs."""
    beam: list[tuple[float, int, Program]] = [(_explained((), pairs), 0, ())]
    best = beam[0]
    for _ in range(LONGEST):
        grown: dict[Program, tuple[float, int, Program]] = {}
        for _, _, program in beam:
            for cut in _candidates([(apply(program, a), b) for a, b in pairs]):
                longer = (*program, cut)
                size = sum(map(_size, longer))
                grown[longer] = (_explained(longer, pairs), -size, longer)
        ranked = sorted(grown.values(), key=lambda g: (-g[0], -g[1], str(g[2])))
        # A first cut need not explain a pair by itself: what brings texts nearer stays in the beam, too.
        near = sorted(grown.values(), key=lambda g: (-_nearness(g[2], pairs), -g[1], str(g[2])))
        beam = [*ranked[:BEAM], *near[:BEAM]]
        if ranked and ranked[0][0] > best[0]:
            best = ranked[0]
        if best[0] == 1.0 or not beam:
            break
    return best[2] or None


def _size(cut: Cut) -> int:
    """How much a cut says, and how much it lets through: narrow classes are preferred to wide ones."""
    bare = cut.what
    for name, weight in (("<d>", 1), ("<w>", 2), ("<s>", 2), ("<a>", 8)):
        bare = bare.replace(name, "." * weight)
    return 1 + len(bare) + _LOOSE * (cut.do in ("before", "after", "field"))


def _explained(program: Program, pairs: Sequence[Pair]) -> float:
    return sum(apply(program, a) == b for a, b in pairs) / max(len(pairs), 1)


def _nearness(program: Program, pairs: Sequence[Pair]) -> float:
    """How much of what is still there belongs there, where what should be there still is."""
    total = 0.0
    for before, after in pairs:
        now = apply(program, before)
        total += len(after) / max(len(now), 1) if after in now else 0.0
    return total / max(len(pairs), 1)


def _candidates(pairs: Sequence[Pair]) -> list[Cut]:
    """Cuts that some pair suggests, the frequent ones first."""
    found: Counter[Cut] = Counter()
    for before, after in pairs:
        if before == after or not after:
            continue
        if before.endswith(after):
            found.update(Cut(do="prefix", what=p) for p in _general(before[: -len(after)]))
        if before.startswith(after):
            found.update(Cut(do="suffix", what=p) for p in _general(before[len(after) :]))
        at = before.find(after)
        if at > 0 and at + len(after) < len(before):
            found.update(Cut(do="prefix", what=p) for p in _general(before[:at]))
            found.update(Cut(do="suffix", what=p) for p in _general(before[at + len(after) :]))
        for separator in SEPARATORS:
            if separator not in before:
                continue
            parts = before.split(separator)
            found.update(Cut(do="field", what=separator, index=i) for i, p in enumerate(parts) if p == after)
            if parts[-1] == after:
                found[Cut(do="field", what=separator, index=-1)] += 1
            found[Cut(do="before", what=separator)] += 1
            found[Cut(do="after", what=separator)] += 1
        gone = [line for line in before.split("\n") if line not in after.split("\n")]
        found.update(Cut(do="lines", what=p) for line in set(gone) if line for p in _general(line))
        if " ".join(before.split()) != before:
            found[Cut(do="tidy")] += 1
    return [cut for cut, _ in found.most_common(40)]


def _general(text: str) -> list[str]:
    """The text itself, then with its figures, its words, and its signs made classes."""
    if len(text) > 120 or not text:
        return []
    figures = re.sub(r"[0-9]+", "<d>", text)
    words = "".join(
        part if part in ("<d>",) else re.sub(r"[^\W\d_]+", "<w>", part) for part in re.split("(<d>)", figures)
    )
    anything = re.sub(r"\S+", "<a>", text)
    return list(dict.fromkeys([text, figures, words, anything]))
