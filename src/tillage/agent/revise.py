"""The second round: what training measured becomes edits of the recipe, each with its figure, each verified.

Utilities are those of `tillage.train.feedback`: nats a token against the average kept document, keyed by
domain, by measurement bucket (`name[low,high)`) and by reason of dropping (`step:reason`). A rule acts only
where the whole 95 % interval lies on one side of zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import Outcome, Proposal
from tillage.agent.probe import Effect, EffectMeter
from tillage.agent.repair import diff, with_steps
from tillage.agent.rungs import GATES
from tillage.agent.verify import Ladder, Verdict
from tillage.core.errors import UserError
from tillage.core.events import Chosen, EventLog, Note, StepAccount, Utility
from tillage.core.text import percent
from tillage.data.profile import Profile
from tillage.flow.recipe import Recipe, Step
from tillage.ops.base import operators
from tillage.ops.stats import MEASURES

KEPT_COPIES = frozenset({"exact_dedup", "minhash_dedup", "prompt_dedup"})
"""Copies look as useful as what they copy; that is no reason to bring them back."""

LEAST_SHARE = 0.01
MOST_WISHES = 5
_SCORE = re.compile(r"target_score\s*>=?\s*(?P<value>[\d.]+(?:e-?\d+)?)")
_BUCKET = re.compile(r"(?P<name>\w+)\[(?P<low>[^,]+),(?P<high>[^\])]+)[\])]")


@dataclass(frozen=True)
class _Edit:
    kind: str
    recipe: Recipe
    why: str


def revise(
    recipe: Recipe,
    profile: Profile,
    utilities: Sequence[Utility],
    accounts: Sequence[StepAccount] = (),
    history: Sequence[Outcome] = (),
    *,
    frozen: FrozenGoal,
    shares: Mapping[str, float] | None = None,
    round: int = 2,
) -> list[Proposal]:
    """Revisions of `recipe`, one for each kind of evidence and one with all of them; none if nothing is told.

    Args:
        accounts: of the run whose data was trained on; they say how much a step to be undone had dropped.
        history: recipes tried before are not proposed again.
        shares: domain -> share of the bytes that the recipe keeps; the raw shares if not given.
    """
    shares = shares or {name: domain.share for name, domain in profile.domains.items()}
    rules = (
        lambda r: _quotas(r, utilities, shares, frozen),
        lambda r: _bounds(r, utilities, frozen),
        lambda r: _readmit(r, utilities, accounts, profile),
    )
    edits = [edit for rule in rules if (edit := rule(recipe)) is not None]
    if len(edits) > 1:
        whole, whys = recipe, list[str]()
        for rule in rules:
            edit = rule(whole)
            if edit is not None:
                whole, whys = edit.recipe, [*whys, edit.why]
        edits.append(_Edit("all", whole, "; ".join(whys)))
    seen = {outcome.recipe.fingerprint() for outcome in history} | {recipe.fingerprint()}
    found: list[Proposal] = []
    for edit in edits:
        if edit.recipe.fingerprint() not in seen:
            seen.add(edit.recipe.fingerprint())
            name = f"round-{round}-{edit.kind}"
            found.append(Proposal(name, f"revise-{edit.kind}", edit.recipe, edit.why, "embedded", round))
    return found


def _cite(utility: Utility) -> str:
    interval = f"[{utility.low:+.3f}, {utility.high:+.3f}]"
    return f"{utility.value:+.3f} nats a token {interval} against the average kept document, over {utility.n}"


def more_of(utilities: Sequence[Utility], shares: Mapping[str, float]) -> list[str]:
    """What to collect more of: domains and kinds of documents that are worth more than the average one.

    A sentence for each domain, and for the best bucket of each measurement, whose whole interval lies above
    zero, the most useful first. Which steps drop such rows, `revise` says.

    Args:
        shares: domain -> share of the bytes that the recipe keeps.
    """
    wanted = [
        (u.value, f"domain {u.key} ({percent(shares.get(u.key, 0.0))} of the bytes kept)", u)
        for u in utilities
        if u.kind == "domain" and u.low > 0
    ]
    best: dict[str, Utility] = {}
    for utility in utilities:
        name = utility.key.partition("[")[0]
        if utility.kind == "bucket" and utility.low > 0:
            best[name] = max(best.get(name, utility), utility, key=lambda u: u.value)
    wanted += [(u.value, f"documents with {u.key}", u) for u in best.values()]
    wanted.sort(key=lambda w: (-w[0], w[1]))
    return [f"collect more of {what}: worth {_cite(u)}" for _, what, u in wanted[:MOST_WISHES]]


def _quotas(
    recipe: Recipe, utilities: Sequence[Utility], shares: Mapping[str, float], frozen: FrozenGoal
) -> _Edit | None:
    """Half its share for each domain that is worth less than the average document; a step for all of them."""
    if "domain_quota" in frozen.goal.constraints.forbidden:
        return None
    domains = [u for u in utilities if u.kind == "domain" and shares.get(u.key, 0.0) > LEAST_SHARE]
    poor = [u for u in domains if u.high < 0]
    if not poor or len(poor) >= len(shares):
        return None
    caps = {u.key: max(round(shares[u.key] / 2, 4), LEAST_SHARE) for u in poor}
    why = "; ".join(
        f"domain {u.key} held {percent(shares[u.key])}, worth {_cite(u)}: at most {percent(caps[u.key])}"
        for u in poor
    )
    known = next((step for step in recipe.steps if step.op.name == "domain_quota"), None)
    if known is None:
        op = operators.get("domain_quota").load({"max_share": caps}, "revision")
        steps = (*recipe.steps, Step(op=op, id=_free_id(recipe, "domain_quota"), why=why))
    else:
        held: dict[str, float] = {**getattr(known.op, "max_share", {})}
        tighter = {**held, **{name: min(cap, held.get(name, 1.0)) for name, cap in caps.items()}}
        op = known.op.model_copy(update={"max_share": tighter})
        steps = _replaced(recipe, known.model_copy(update={"op": op, "why": why}))
    return _Edit("quota", with_steps(recipe, steps), why)


def _bounds(recipe: Recipe, utilities: Sequence[Utility], frozen: FrozenGoal) -> _Edit | None:
    """Cut off the outermost bucket of the measurement whose poor end costs most."""
    if "where" in frozen.goal.constraints.forbidden:
        return None
    buckets: dict[str, list[tuple[float, float, Utility]]] = {}
    for utility in utilities:
        match = _BUCKET.fullmatch(utility.key) if utility.kind == "bucket" else None
        if match is not None and _measurable(recipe, match["name"]):
            place = (float(match["low"]), float(match["high"]), utility)
            buckets.setdefault(match["name"], []).append(place)
    ends: list[tuple[float, str, Utility]] = []
    for name, found in buckets.items():
        if len(found) < 2:
            continue
        first, last = min(found, key=lambda b: b[0]), max(found, key=lambda b: b[1])
        if first[2].high < 0:
            ends.append((-first[2].value * first[2].n, f"{name} >= {first[1]:.6g}", first[2]))
        if last[2].high < 0:
            ends.append((-last[2].value * last[2].n, f"{name} < {last[0]:.6g}", last[2]))
    if not ends:
        return None
    _, condition, utility = max(ends, key=lambda end: (end[0], end[1]))
    why = f"documents with {utility.key} are worth {_cite(utility)}: keep {condition}"
    op = operators.get("where").load({"keep": condition, "reason": "poor_bucket"}, "revision")
    step = Step(op=op, id=_free_id(recipe, "trained_bound"), why=why)
    # Before a quota, which counts what is left.
    at = next((i for i, s in enumerate(recipe.steps) if s.op.name == "domain_quota"), len(recipe.steps))
    steps = (*recipe.steps[:at], step, *recipe.steps[at:])
    return _Edit("bound", with_steps(recipe, steps), why)


def _measurable(recipe: Recipe, column: str) -> bool:
    """Whether a `where` at the end of the recipe can read the column."""
    made = {name for step in recipe.steps for name in step.op.writes()}
    return column in MEASURES or column in {"lang_score"} or column in made


def _readmit(
    recipe: Recipe, utilities: Sequence[Utility], accounts: Sequence[StepAccount], profile: Profile
) -> _Edit | None:
    """Loosen the filter whose dropped rows are worth most above the average kept document, or leave it out.

    A bound on likeness moves to the next wider operating point of the profile; other filters are left out.
    """
    steps = {step.id: step for step in recipe.steps}
    lost: dict[str, list[Utility]] = {}
    for utility in utilities:
        step = steps.get(utility.key.split(":")[0]) if utility.kind == "dropped" else None
        if step is not None and step.op.name not in GATES | KEPT_COPIES:
            lost.setdefault(step.id, []).append(utility)
    # A step goes only if on the whole it drops what is useful: one good reason does not condemn the others.
    worth = {
        id: sum(u.value * u.n for u in found)
        for id, found in lost.items()
        if any(u.low > 0 for u in found) and sum(u.value * u.n for u in found) > 0
    }
    if not worth:
        return None
    id = max(sorted(worth), key=lambda step: worth[step])
    useful = max((u for u in lost[id] if u.low > 0), key=lambda u: u.value * u.n)
    dropped = next((sum(a.dropped.values()) for a in accounts if a.step == id), None)
    count = f" ({dropped} rows)" if dropped is not None else ""
    why = f"what {id} drops{count} as {useful.key.split(':')[-1]} is worth {_cite(useful)}"
    wider = _wider(steps[id], profile)
    if wider is not None:
        step, moved = wider
        why = f"{why}: {moved}"
        return _Edit("readmit", with_steps(recipe, _replaced(recipe, step)), why)
    why += ": left out"
    rest = tuple(step for step in recipe.steps if step.id != id)
    return _Edit("readmit", with_steps(recipe, rest), why) if rest else None


def _wider(step: Step, profile: Profile) -> tuple[Step, str] | None:
    """A `where` on the target score moved to the next operating point that keeps more of the target."""
    bound = _SCORE.search(str(getattr(step.op, "keep", ""))) if step.op.name == "where" else None
    if bound is None or profile.target is None:
        return None
    below = [p for p in profile.target.points if p.score < float(bound["value"]) * 0.9999]
    if not below:
        return None
    point = max(below, key=lambda p: p.score)
    text = str(getattr(step.op, "keep", ""))
    keep = text[: bound.start("value")] + f"{point.score:.6g}" + text[bound.end("value") :]
    moved = (
        f"target_score moved from {bound['value']} to {point.score:.6g}, which keeps "
        f"{percent(point.target_kept)} of the target"
    )
    op = step.op.model_copy(update={"keep": keep})
    return step.model_copy(update={"op": op, "why": f"{step.why}; then {moved}"}), moved


def _replaced(recipe: Recipe, step: Step) -> tuple[Step, ...]:
    return tuple(step if known.id == step.id else known for known in recipe.steps)


def _free_id(recipe: Recipe, wanted: str) -> str:
    taken = {step.id for step in recipe.steps}
    return next(
        name for i in range(1, len(taken) + 2) if (name := wanted if i == 1 else f"{wanted}_{i}") not in taken
    )


@dataclass(frozen=True)
class RevisionResult:
    """`accepted` is None when no revision improved on the previous recipe, which then stands."""

    accepted: Verdict | None
    effects: list[Effect]
    verdicts: list[Verdict]
    diffs: dict[str, str]
    why: str


def verify_revision(
    ladder: Ladder,
    previous: Verdict,
    proposals: Sequence[Proposal],
    meter: EffectMeter | None = None,
    log: EventLog | None = None,
    round: int = 2,
) -> RevisionResult:
    """Climb with each revision and measure it against the previous recipe; accept the best that improves.

    Improving means that the whole 95 % interval of the paired effect lies below zero; else the previous
    recipe stands. Emits the events of the ladder, then `Chosen`.

    Raises:
        UserError: the previous recipe was not verified, or there is no target to measure on.
    """
    meter = meter or ladder.meter
    if meter is None or previous.sampled is None:
        raise UserError("a revision is measured against a verified recipe and a target", where=previous.name)
    before = previous.sampled.documents
    verdicts = [ladder.verify(proposal, top="distribution") for proposal in proposals]
    effects: list[Effect] = []
    best: tuple[Verdict, Effect] | None = None
    for verdict in verdicts:
        if not verdict.passed or verdict.sampled is None:
            continue
        verdict.effect = meter.effect(verdict.name, verdict.sampled.documents, previous.name, before)
        effects.append(verdict.effect)
        better = best is None or verdict.effect.interval.mean < best[1].interval.mean
        if verdict.effect.improves and better:
            best = (verdict, verdict.effect)
    diffs = {verdict.name: diff(previous.recipe, verdict.recipe) for verdict in verdicts}
    if best is not None:
        why = f"{best[1].interval} bits per byte against {previous.name}"
    elif effects:
        nearest = min(effects, key=lambda e: e.interval.mean)
        why = (
            f"reverted to {previous.name}: the best revision {nearest.candidate} measured {nearest.interval}"
        )
    else:
        why = f"{previous.name} stands: no revision was proposed or none passed the ladder"
    if log is not None:
        winner = best[0] if best is not None else previous
        for verdict in verdicts:
            log.emit(Note(f"revision {verdict.name}: {verdict.proposal.summary}\n{diffs[verdict.name]}"))
        log.emit(Chosen(winner.name, why, round))
    return RevisionResult(best[0] if best is not None else None, effects, verdicts, diffs, why)
