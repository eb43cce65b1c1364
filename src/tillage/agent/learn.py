"""Predicates learned from rows marked good or bad: a list of rules over measurements, patterns and fields.

Each rule is one condition or two; a row that fits any rule is dropped. Rules are found one by one, each to
cover bad rows that are left without good ones (sequential covering, as in Cohen 1995, RIPPER, less its
pruning). The result is the condition of a `where` step, so that a person can read it and repairs can loosen
it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.core.errors import UserError, WorkFailed
from tillage.core.text import percent
from tillage.kernels.repetition import REPETITION, repetition
from tillage.kernels.text_stats import STATS, text_stats
from tillage.ops.where import Where

Row = Mapping[str, Any]
Mask = NDArray[np.bool_]

FEWEST = 4
FOLDS = 5
MOST_RULES = 4
MOST_WORDS = 200
CUTS = 16
"""Thresholds tried for each measurement."""

SHAPES = {
    "no figures": "[0-9]",
    "a time": "[0-9]{1,2}:[0-9]{2}",
    "a link": "https?://",
    "a capital at the start": "^[A-Z]",
    "a sentence's end": r"[.!?]\s*$",
    "capitals": "[A-Z]{6,}",
    "repeated marks": "[!?]{2,}",
    "a tag": "<[a-z/][^>]*>",
    "an address": r"[\w.]+@[\w.]+",
}
_WORD = re.compile(r"[^\W\d_]{3,}")
_COUNTED = re.compile(r"[0-9]+ ?([^\W\d_]{2,})")


@dataclass(frozen=True)
class Atom:
    """A condition: SQL for the `where` step, and how dear it is (plain ones win among equals)."""

    sql: str
    cost: int


@dataclass(frozen=True)
class Learned:
    """`keep` is the SQL condition. `precision` and `recall` (positive: dropped) are cross-validated: each
    row was judged by rules that were learned without it. `fit_*` are those on the rows learned from."""

    keep: str
    rules: list[str]
    precision: float
    recall: float
    fit_precision: float
    fit_recall: float
    good: int
    bad: int

    def step(self, id: str = "learned") -> dict[str, Any]:
        """The step of a recipe."""
        of = f"{self.good} good and {self.bad} bad rows"
        body = {"where": {"keep": self.keep, "reason": "learned"}}
        return learned_step(body, id, of, self.precision, self.recall)


def learned_step(body: dict[str, Any], id: str, of: str, precision: float, recall: float) -> dict[str, Any]:
    """The step with what it was learned `of`, and how well by cross-validation, as its reason."""
    figures = f"precision {percent(precision)}, recall {percent(recall)} over {FOLDS} folds"
    return {**body, "id": id, "why": f"learned from {of}; {figures}"}


@dataclass
class _Table:
    """Rows as columns: what conditions look at."""

    texts: list[str]
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict[str, NDArray[np.float64]])
    present: dict[str, Mask] = field(default_factory=dict[str, Mask])

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Table:
        texts = [str(row["text"]) for row in rows]
        array = pa.array(texts, pa.large_string())
        measured = {**text_stats(array), **repetition(array)}
        values = {
            name: np.asarray(measured[name].cast(pa.float64()).fill_null(0.0), np.float64)
            for name in (*STATS, *REPETITION)
        }
        names = sorted({name for row in rows for name in row} - {"text"})
        present = {
            name: np.asarray([row.get(name) not in (None, "") for row in rows], np.bool_)
            for name in names
            if _is_column(name)
        }
        return cls(texts, values, present)


def _is_column(name: str) -> bool:
    """Whether a condition can name the field: a word that SQL keeps for itself cannot be a column there."""
    try:
        return name.isidentifier() and Where(keep=f"{name} IS NULL").reads() == frozenset({name})
    except UserError:
        return False


def learn(good: Sequence[Row], bad: Sequence[Row]) -> Learned:
    """Rules that drop the bad rows and spare the good ones. A row has `text` and may have other fields.

    Raises:
        UserError: fewer than four rows of either sort, or a row without text.
        WorkFailed: no rule tells them apart.
    """
    for name, rows in (("good", good), ("bad", bad)):
        if len(rows) < FEWEST:
            raise UserError(f"too few {name} rows", got=len(rows), expected=f"{FEWEST} or more")
        if not all(isinstance(row.get("text"), str) for row in rows):
            raise UserError(f"a {name} row has no text", expected="a field 'text' in each row")
    table = _Table.of([*good, *bad])
    is_bad = np.asarray([False] * len(good) + [True] * len(bad), np.bool_)
    rules = _rules(table, is_bad, np.ones(len(is_bad), np.bool_))
    if not rules:
        raise WorkFailed(
            "no rule tells the good rows from the bad ones",
            got=f"{len(good)} good, {len(bad)} bad",
            hint="mark more rows, or have a language model write the operator: tillage ops write",
        )
    folds = _folds(is_bad)
    dropped = np.zeros(len(is_bad), np.bool_)
    for fold in range(FOLDS):
        rest = folds != fold
        found = _rules(table, is_bad, rest)
        dropped |= ~rest & _fits(found, table)
    everywhere = _fits(rules, table)
    said = [" AND ".join(atom.sql for atom in rule) for rule in rules]
    keep = " AND ".join(f"NOT ({rule})" for rule in said)
    return Learned(keep, said, *_figures(dropped, is_bad), *_figures(everywhere, is_bad), len(good), len(bad))


def _figures(dropped: Mask, is_bad: Mask) -> tuple[float, float]:
    right = int((dropped & is_bad).sum())
    return right / max(int(dropped.sum()), 1), right / max(int(is_bad.sum()), 1)


def _folds(is_bad: Mask) -> NDArray[np.int64]:
    """The fold of each row: rows of each sort in turn."""
    out = np.zeros(len(is_bad), np.int64)
    for sort in (False, True):
        at = np.flatnonzero(is_bad == sort)
        out[at] = np.arange(len(at)) % FOLDS
    return out


Rule = tuple[Atom, ...]


def _rules(table: _Table, is_bad: Mask, seen: Mask) -> list[Rule]:
    """Rules learned from the rows `seen` alone."""
    atoms = _atoms(table, is_bad, seen)
    masks = [_holds(atom, table) & seen for atom in atoms]
    left, good = is_bad & seen, ~is_bad & seen
    found: list[Rule] = []
    least = max(2, int(0.05 * left.sum()))
    while left.sum() >= least and len(found) < MOST_RULES:
        order = sorted(range(len(atoms)), key=lambda i: (-_score(masks[i], left, good), atoms[i].cost))
        best: tuple[float, int, Rule, Mask] | None = None
        for i in order[:40]:
            choices: list[tuple[Rule, Mask]] = [((atoms[i],), masks[i])]
            if (masks[i] & good).any():
                choices += [((atoms[i], atoms[j]), masks[i] & masks[j]) for j in order[:120] if j != i]
            for rule, mask in choices:
                worth = _score(mask, left, good)
                cost = sum(atom.cost for atom in rule) + 3 * (len(rule) - 1)
                if best is None or (worth - 0.02 * cost, -cost) > (best[0] - 0.02 * best[1], -best[1]):
                    best = (worth, cost, rule, mask)
        if best is None:
            break
        hit, wrong = int((best[3] & left).sum()), int((best[3] & good).sum())
        if hit < least or hit < 9 * wrong:
            break
        found.append(best[2])
        left = left & ~best[3]
    return found


def _score(mask: Mask, left: Mask, good: Mask) -> float:
    """Share of the bad rows left that a rule covers, less a heavy charge for good ones."""
    hit, wrong = int((mask & left).sum()), int((mask & good).sum())
    return hit / max(int(left.sum()), 1) - 5 * wrong / max(int(good.sum()), 1)


def _fits(rules: Sequence[Rule], table: _Table) -> Mask:
    out = np.zeros(len(table.texts), np.bool_)
    for rule in rules:
        out |= np.logical_and.reduce([_holds(atom, table) for atom in rule])
    return out


def _atoms(table: _Table, is_bad: Mask, seen: Mask) -> list[Atom]:
    """The conditions to choose from, made of the rows `seen` alone."""
    atoms: list[Atom] = []
    for name in table.present:
        atoms += [Atom(f"{name} IS NULL OR {name} = ''", 1), Atom(f"NOT ({name} IS NULL OR {name} = '')", 1)]
    for shape in SHAPES.values():
        atoms += [Atom(f"regexp_match(text, '{shape}')", 2), Atom(f"NOT regexp_match(text, '{shape}')", 2)]
    at = np.flatnonzero(seen)
    words: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    counted: Counter[str] = Counter()
    for i in at:
        text = table.texts[i].lower()
        words[bool(is_bad[i])].update(set(_WORD.findall(text)))
        counted.update(set(_COUNTED.findall(text)))
    for unit, _ in counted.most_common(30):
        pattern = f"(?i)[0-9]+ ?{unit}"
        atoms += [
            Atom(f"regexp_match(text, '{pattern}')", 2),
            Atom(f"NOT regexp_match(text, '{pattern}')", 2),
        ]
    sizes = {sort: max(int((is_bad[at] == sort).sum()), 1) for sort in (False, True)}
    apart = {w: abs(words[True][w] / sizes[True] - words[False][w] / sizes[False])
             for w in words[True] | words[False]}  # fmt: skip
    for word in sorted(apart, key=lambda w: (-apart[w], w))[:MOST_WORDS]:
        atoms += [
            Atom(f"contains(lower(text), '{word}')", 3),
            Atom(f"NOT contains(lower(text), '{word}')", 3),
        ]
    for name, values in table.values.items():
        known = np.unique(values[at])
        if len(known) < 2:
            continue
        middles = (known[1:] + known[:-1]) / 2
        cuts = np.unique(middles[np.linspace(0, len(middles) - 1, min(CUTS, len(middles))).astype(np.int64)])
        for cut in cuts:
            atoms += [Atom(f"{name} > {cut:.6g}", 2), Atom(f"{name} <= {cut:.6g}", 2)]
    return atoms


_MEASURED = re.compile(r"([a-z0-9_]+) (>|<=) (\S+)")
_PATTERN = re.compile(r"(NOT )?regexp_match\(text, '(.*)'\)", re.DOTALL)
_CONTAINS = re.compile(r"(NOT )?contains\(lower\(text\), '(.*)'\)")
_PRESENT = re.compile(r"(NOT \()?(\w+) IS NULL")


def _holds(atom: Atom, table: _Table) -> Mask:
    """Where a condition is true; the same that the SQL says."""
    if found := _MEASURED.fullmatch(atom.sql):
        values, cut = table.values[found[1]], float(found[3])
        return values > cut if found[2] == ">" else values <= cut
    if found := _PATTERN.fullmatch(atom.sql):
        search = re.compile(found[2]).search
        hits = np.asarray([search(text) is not None for text in table.texts], np.bool_)
        return ~hits if found[1] else hits
    if found := _CONTAINS.fullmatch(atom.sql):
        hits = np.asarray([found[2] in text.lower() for text in table.texts], np.bool_)
        return ~hits if found[1] else hits
    found = _PRESENT.match(atom.sql)
    assert found is not None
    here = table.present[found[2]]
    return here if found[1] else ~here
