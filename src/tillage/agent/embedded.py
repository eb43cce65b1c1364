"""The planner that needs no language model: rules over measured evidence, and what earlier runs taught.

Each rule asks a question that holds for any corpus (is there markup? would this filter drop the target
itself?) and cites the figure that answered it. Which of the resulting candidates is right is not decided here
but by measurement (`tillage.agent.verify`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tillage.agent.goal import FrozenGoal
from tillage.agent.memory import Memory
from tillage.agent.planner import Catalogue, Outcome, Proposal, build
from tillage.agent.trial import Trial, try_filter
from tillage.core.text import percent
from tillage.data.excess import Excess
from tillage.data.profile import OperatingPoint, Profile
from tillage.data.rate import Rate

Steps = list[dict[str, Any]]

# A rule applies when the lower end of a rate's interval passes its bound: one odd document is no evidence.
MARKUP = 0.005
GARBLED = 0.002
BOILERPLATE = 0.02
MUCH_CODE = 0.3
"""In code equal lines mean different things, so they are left alone where there is much of it."""

PII = 0.002
TOXIC = 0.001
UNNORMALISED = 0.001
DUPLICATES = 0.0
LANGUAGES = 0.01
TARGET_LOSS = 0.15
"""A published filter that would drop more of the target than this share is not used with its own bounds."""

LANGUAGE_SCORES = (0.3, 0.15, 0.0)
"""Least confidence to ask for; the first at which the filter drops at most `LANGUAGE_LOSS` of the target."""

LANGUAGE_LOSS = 0.02
MISMATCHED = 0.05
"""Sound chats have pairs without a long word in common, too: 0.5 % of GPTeacher's, 4.5 % of pairs of a
sentence and what follows it. Only where there are more are they left out."""

SOUND_IDEAS = 4
"""The first ideas judge whether a document is sound; the others, whether it is like the target."""

TRIAL_TEXTS = 1_000
PUBLISHED = ("gopher_quality", "gopher_repetition", "c4_quality")
QUALITY_BOUNDS = (
    ("words", 0.02, None),
    ("mean_word_length", 0.01, 0.99),
    ("alpha_words", 0.02, None),
    ("symbol_share", None, 0.99),
    ("digit_share", None, 0.99),
    ("dup_line_chars", None, 0.98),
    ("top_2gram", None, 0.98),
)


@dataclass(frozen=True)
class _Evidence:
    frozen: FrozenGoal
    profile: Profile
    catalogue: Catalogue
    target: Sequence[str]

    def has(self, *names: str) -> bool:
        return all(name in self.catalogue for name in names)


class EmbeddedPlanner:
    """Evidence rules. With a `memory`, strategies that helped on similar data are proposed first."""

    name = "embedded"

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory

    def propose(
        self,
        frozen: FrozenGoal,
        profile: Profile,
        catalogue: Catalogue,
        history: Sequence[Outcome] = (),
    ) -> list[Proposal]:
        """Three candidates or more that differ in kind, less those in `history` and those that memory knows
        to lose on such data."""
        known = _Evidence(frozen, profile, catalogue, frozen.search())
        ideas = [
            ("clean", "repair and deduplicate, judge no document", _clean),
            ("sound", "clean, then drop what the data has and the target has not", _sound),
            ("careful", "the same with bounds that spare more", _careful),
            ("greedy", "the same with bounds that drop more", _greedy),
            ("heuristic", "clean, then published quality filters", _heuristic),
            ("bounded", "clean, then bounds that the target itself keeps", _bounded),
            ("targeted", "clean, then keep what is like the target", _targeted),
            ("focused", "targeted more strictly, with quotas for unlike domains", _focused),
        ]
        if frozen.goal.aim == "clean":
            ideas = ideas[:SOUND_IDEAS]
        tried = {outcome.strategy for outcome in history}
        found: list[Proposal] = []
        seen: set[str] = set()
        for strategy, summary, rule in ideas:
            steps = rule(known)
            if steps is None or strategy in tried:
                continue
            recipe = build(frozen, strategy, steps)
            if recipe.fingerprint() not in seen:
                seen.add(recipe.fingerprint())
                found.append(Proposal(strategy, strategy, recipe, summary, self.name))
        lost = self.memory.losers(profile.evidence()) if self.memory else {}
        worth = [proposal for proposal in found if proposal.strategy not in lost]
        return self._ordered(worth or found, profile)

    def _ordered(self, found: list[Proposal], profile: Profile) -> list[Proposal]:
        scores = self.memory.scores(profile.evidence()) if self.memory else {}
        return sorted(found, key=lambda p: scores.get(p.strategy, 0.0))


def _clean_steps(known: _Evidence) -> Steps:
    """What every candidate begins with, so that they share its stages: mend, guard, deduplicate."""
    profile, steps = known.profile, Steps()
    if known.has("html_to_text") and profile.markup.low > MARKUP:
        steps.append(_step("html_to_text", f"markup in {_cite(profile.markup)}"))
    if known.has("fix_mojibake") and profile.garbled.low > GARBLED:
        steps.append(_step("fix_mojibake", f"garbled characters in {_cite(profile.garbled)}"))
    if known.has("unicode_normalise") and profile.unnormalised.low > UNNORMALISED:
        why = f"not in normal form: {_cite(profile.unnormalised)}"
        steps.append(_step("unicode_normalise", why))
    if known.has("pii_mask") and profile.pii.low > PII:
        kinds = ", ".join(f"{n} {kind}" for kind, n in profile.pii_kinds.items() if n)
        steps.append(_step("pii_mask", f"personal data in {_cite(profile.pii)}: {kinds}"))
    if profile.target is not None and known.has("decontaminate"):  # whatever the rate: the sample is small
        words = profile.target.overlap_words
        cited = _cite(profile.target.overlap)
        why = f"{words}-word overlap with the target's search part in {cited}; the holdout unseen"
        steps.append(_step("decontaminate", why, against=str(known.frozen.protected_path)))
    chats = any(field.role == "messages" for field in profile.fields)
    if chats:
        steps += _chat_steps(known)
    if known.has("exact_dedup") and profile.exact_duplicates.low > DUPLICATES:
        steps.append(_step("exact_dedup", f"exact copies are {_cite(profile.exact_duplicates)}"))
    if known.has("minhash_dedup") and profile.near_duplicates.low > DUPLICATES:
        why = f"near-copies (Jaccard {profile.near_duplicate_threshold}) are {_cite(profile.near_duplicates)}"
        steps.append(_step("minhash_dedup", why, threshold=profile.near_duplicate_threshold))
    if (
        profile.chats is not None
        and known.has("prompt_dedup")
        and profile.chats.repeated_prompts.low > DUPLICATES
    ):
        why = f"prompts that an earlier chat has, too, in {_cite(profile.chats.repeated_prompts)}"
        steps.append(_step("prompt_dedup", why))
    # After the copies are gone, of which it would leave the lines that differ.
    little_code = profile.code.rate < MUCH_CODE
    cuts = little_code and not chats  # lines cannot be cut out of messages
    if known.has("line_dedup") and profile.boilerplate.low > BOILERPLATE and cuts:
        steps.append(_step("line_dedup", f"lines that many documents share in {_cite(profile.boilerplate)}"))
    return steps


def _chat_steps(known: _Evidence) -> Steps:
    """Turns out of order and answers that do not answer."""
    chats, steps = known.profile.chats, Steps()
    if chats is None:
        return steps
    if known.has("chat_structure") and chats.any_structure.low > 0:
        worst = sorted(chats.structure.items(), key=lambda item: (-item[1].rate, item[0]))[:3]
        cited = ", ".join(f"{name} {percent(rate.rate)}" for name, rate in worst)
        steps.append(_step("chat_structure", f"broken turns in {_cite(chats.any_structure)}: {cited}"))
    if known.has("chat_answers") and chats.any_answer > 0:
        kinds = {
            "declined": chats.refused,
            "broken off": chats.truncated,
            "beside the prompt": chats.mismatched,
        }
        cited = ", ".join(f"{name} {percent(rate.rate)}" for name, rate in kinds.items())
        related: dict[str, Any] = {} if chats.mismatched.low > MISMATCHED else {"min_overlap": 0.0}
        steps.append(_step("chat_answers", f"answers of {chats.refused.n:,} chats: {cited}", **related))
    return steps


def _languages(known: _Evidence) -> Steps:
    """Keep the languages that the goal names, or else those of the target, if others are there."""
    profile = known.profile
    wanted = list(known.frozen.goal.constraints.languages)
    why = "the goal asks for " + ", ".join(wanted)
    if not wanted and profile.target is not None:
        wanted = sorted(lang for lang, share in profile.target.languages.items() if share >= LANGUAGES)
        wanted = [lang for lang in wanted if lang != "unknown"]
        held = sum(profile.target.languages.get(lang, 0.0) for lang in wanted)
        why = f"{percent(held)} of the target is in {', '.join(wanted)}"
    others = 1.0 - sum(profile.languages.get(lang, 0.0) for lang in wanted)
    if not wanted or not known.has("language_filter") or others <= LANGUAGES:
        return []
    why += f"; {percent(others)} of the sample is not"
    for score in LANGUAGE_SCORES:
        if not known.target:
            return [_step("language_filter", why, keep=wanted, min_score=score)]
        op = known.catalogue["language_filter"].load({"keep": wanted, "min_score": score}, "language_filter")
        trial = try_filter(op, known.target[:TRIAL_TEXTS])
        if trial.rate <= LANGUAGE_LOSS:
            why += f"; would drop {percent(trial.rate)} of {trial.documents} target documents"
            return [_step("language_filter", why, keep=wanted, min_score=score)]
    return []


def _toxic(known: _Evidence) -> Steps:
    """Leave strong language out where the data has some, unless the target speaks so too."""
    profile = known.profile
    if not known.has("toxic_words") or profile.toxic.low <= TOXIC:
        return []
    why = f"more than 1 % strong language or slurs in {_cite(profile.toxic)}"
    if known.target:
        trial = try_filter(known.catalogue["toxic_words"](), known.target[:TRIAL_TEXTS])
        if trial.rate > TARGET_LOSS:
            return []
        why += f"; would drop {percent(trial.rate)} of {trial.documents} target documents"
    return [_step("toxic_words", why)]


def _clean(known: _Evidence) -> Steps:
    return [*_clean_steps(known), *_wanted_languages(known)]


def mended(frozen: FrozenGoal, profile: Profile, allowed: Catalogue) -> Steps:
    """Steps after which soundness is judged: repair, deduplication and languages."""
    known = _Evidence(frozen, profile, allowed, frozen.search())
    return [*_clean_steps(known), *_languages(known)]


def _sound(known: _Evidence) -> Steps | None:
    return _by_soundness(known, "usual")


def _careful(known: _Evidence) -> Steps | None:
    return _by_soundness(known, "careful")


def _greedy(known: _Evidence) -> Steps | None:
    return _by_soundness(known, "greedy")


def annotated(frozen: FrozenGoal, profile: Profile, allowed: Catalogue) -> Steps:
    """The mended sample with every measurement that a threshold may be about."""
    known = _Evidence(frozen, profile, allowed, frozen.search())
    names = [
        name for name in ("text_stats", "fluency", "domain_margin", "target_likeness") if known.has(name)
    ]
    steps = mended(frozen, profile, allowed)
    for name in names:
        steps.append(_step(name, "for the search of thresholds", **_measuring(known, name)))
    return steps


def searched(
    frozen: FrozenGoal,
    profile: Profile,
    allowed: Catalogue,
    care: str,
    point: OperatingPoint | None,
    why: str,
) -> Proposal:
    """The proposal for thresholds that a search found: bounds of one care, and a likeness or none."""
    known = _Evidence(frozen, profile, allowed, frozen.search())
    steps = _by_soundness(known, care) or mended(frozen, profile, allowed)
    if point is not None:
        if not any("target_likeness" in step for step in steps):
            steps.append(_step("target_likeness", why, target=str(frozen.search_path)))
        keep = f"target_score >= {point.score:.6g}"
        steps.append(_step("where", why, "like_target", keep=keep, reason="unlike_target"))
    summary = "thresholds found by successive halving"
    return Proposal("searched", "searched", build(frozen, "searched", steps), summary, "embedded")


def _by_soundness(known: _Evidence, care: str) -> Steps | None:
    """A step for each bound, with the measurement that it needs before the first of them."""
    if known.profile.target is None or not known.has("where"):
        return None
    steps = [*_clean_steps(known), *_languages(known), *_toxic(known)]
    made: set[str] = set()
    for number, bound in enumerate(known.profile.excess.get(care, ()), 1):
        needed = MEASURED_BY.get(bound.measure)
        if needed is not None and not known.has(needed):
            continue
        why = (
            f"{bound.measure} {'below' if bound.side == 'low' else 'above'} {bound.value:.4g} in "
            f"{percent(bound.dropped)} of {bound.n:,} mended documents, by the target's tail in "
            f"{percent(bound.sound)} of sound ones"
        )
        if needed is not None and needed not in made:
            made.add(needed)
            steps.append(_step(needed, why, **_measuring(known, needed)))
        reason = f"{bound.measure}_{bound.side}"
        steps.append(_step("where", why, f"bound_{number}", keep=_condition(bound), reason=reason))
    return steps


def _measuring(known: _Evidence, name: str) -> dict[str, Any]:
    """The parameters with which an operator measures for a bound."""
    if name == "target_likeness":
        return {"target": str(known.frozen.search_path)}
    return {"mark": True} if name == "fluency" else {}


MEASURED_BY = {
    "fluency": "fluency",
    "familiar_words": "fluency",
    "familiar_phrases": "fluency",
    "target_score": "target_likeness",
    "domain_margin": "domain_margin",
}
OPEN_END = r"NOT regexp_match(text, '[\p{L},–—(-]\s*$')"
"""The condition of `tillage.data.traits.ends_open`."""


def _condition(bound: Excess) -> str:
    """SQL for the bound; a document without the measurement stays."""
    if bound.measure == "ends_open":
        return OPEN_END
    if bound.measure in MEASURED_BY:
        return f"{bound.measure} IS NULL OR {bound.condition}"
    return bound.condition


def _wanted_languages(known: _Evidence) -> Steps:
    """Only a constraint of the goal; a candidate that judges nothing does not guess languages."""
    return _languages(known) if known.frozen.goal.constraints.languages else []


def _heuristic(known: _Evidence) -> Steps | None:
    """Published bounds, each filter only if it would spare the target."""
    filters: Steps = []
    for name in PUBLISHED:
        if not known.has(name):
            continue
        step = _published(known, name)
        if step is not None:
            filters.append(step)
    languages = _languages(known)
    if not filters and not languages:
        return None
    return [*_clean_steps(known), *languages, *_toxic(known), *filters]


def _published(known: _Evidence, name: str) -> dict[str, Any] | None:
    """The filter with its published bounds, or with the one bound that hits the target loosened, or None."""
    if not known.target:
        return _step(name, "published bounds; no target to try them on")
    trial = try_filter(known.catalogue[name](), known.target[:TRIAL_TEXTS])
    if trial.rate <= TARGET_LOSS:
        return _step(name, f"would drop {percent(trial.rate)} of {trial.documents} target documents")
    return None


def refused_filters(known_catalogue: Catalogue, target: Sequence[str]) -> dict[str, Trial]:
    """Published filters left out because they would drop too much of the target, with their trials."""
    found: dict[str, Trial] = {}
    for name in PUBLISHED:
        if name in known_catalogue and target:
            trial = try_filter(known_catalogue[name](), target[:TRIAL_TEXTS])
            if trial.rate > TARGET_LOSS:
                found[name] = trial
    return found


def _bounded(known: _Evidence) -> Steps | None:
    """Bounds taken from the target's own distribution instead of from a paper about the web."""
    target = known.profile.target
    if target is None or not known.has("where"):
        return None
    parts: list[str] = []
    for name, low, high in QUALITY_BOUNDS:
        spread, raw = target.quality.get(name), known.profile.quality.get(name)
        if spread is None or raw is None:
            continue
        # A bound that hardly any raw document breaks only lengthens the recipe.
        if low is not None and raw.at(0.05) < spread.at(low):
            parts.append(f"{name} >= {spread.at(low):.6g}")
        if high is not None and raw.at(0.95) > spread.at(high):
            parts.append(f"{name} <= {spread.at(high):.6g}")
    if not parts:
        return None
    why = f"bounds that 95 % or more of each measurement keeps in {target.documents} target documents"
    where = _step("where", why, "quality_bounds", keep=" AND ".join(parts), reason="outside_target_bounds")
    return [*_clean_steps(known), *_languages(known), where]


def _targeted(known: _Evidence) -> Steps | None:
    return _by_likeness(known, share=0.9, quotas=False)


def _focused(known: _Evidence) -> Steps | None:
    return _by_likeness(known, share=0.6, quotas=True)


def _by_likeness(known: _Evidence, share: float, quotas: bool) -> Steps | None:
    """Keep what scores above a bound that `share` of the target passes, or as near to it as size allows."""
    target = known.profile.target
    if target is None or known.frozen.search_path is None or not known.has("target_likeness", "where"):
        return None
    goal = known.frozen.goal
    # Less than this starves the probe, and the training after it, of distinct text.
    fill = goal.budget.probe_bytes / known.profile.bytes
    floor = min(max(2 * goal.constraints.min_retention, fill, 0.05), 0.9)
    wide = [point for point in target.points if point.raw_bytes_kept >= floor]
    point = min(wide or target.points[:1], key=lambda p: abs(p.target_kept - share))
    why = (
        f"a score of {point.score:.4g} keeps {percent(point.target_kept)} of the target and "
        f"{percent(point.raw_bytes_kept)} of the sample's bytes; a target document outscores a raw one "
        f"with chance {target.separation:.3f}"
    )
    steps = [
        *_clean_steps(known),
        *_languages(known),
        _step("target_likeness", why, target=str(known.frozen.search_path)),
        _step("where", why, "like_target", keep=f"target_score >= {point.score:.6g}", reason="unlike_target"),
    ]
    shares = _quotas(known) if quotas else {}
    if shares and known.has("domain_quota"):
        cited = ", ".join(f"{d} scores {_median(known, d):.3f}" for d in shares)
        steps.append(
            _step("domain_quota", f"median likeness {cited}, target {target.likeness.at(0.5):.3f}",
                  max_share=shares)
        )  # fmt: skip
    return steps


def _quotas(known: _Evidence) -> dict[str, float]:
    """Half its share of the raw bytes for each domain of which hardly any document is as the target's are.

    Only the less like half of the domains: the others must be able to fill what is left.
    """
    target = known.profile.target
    if target is None:
        return {}
    found: dict[str, float] = {}
    order = sorted(known.profile.domains, key=lambda name: (_median(known, name), name))
    for name in order[: len(order) // 2]:
        domain = known.profile.domains[name]
        unlike = domain.likeness is not None and domain.likeness.at(0.75) < target.likeness.at(0.1)
        if unlike and domain.share > 0.02:
            found[name] = round(domain.share / 2, 4)
    return found


def _median(known: _Evidence, domain: str) -> float:
    likeness = known.profile.domains[domain].likeness
    return likeness.at(0.5) if likeness is not None else float("nan")


def _step(op: str, why: str, id: str = "", **fields: Any) -> dict[str, Any]:
    return {op: fields, "why": why, **({"id": id} if id else {})}


def _cite(rate: Rate) -> str:
    return f"{percent(rate.rate)} of {rate.n:,} documents ({percent(rate.low)} to {percent(rate.high)})"
