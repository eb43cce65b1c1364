"""Events as plain sentences, a line each: what is shown where there is no terminal, and above a live view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tillage.core import events as ev
from tillage.core.text import amount, percent, seconds, signed, size

Level = str
Line = tuple[Level, str]
"""A level (head, info, good, bad, warning, error, dim) and a sentence."""


class Teller:
    """Tells events one after the other; a step whose reason was told before is only named."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()

    def __call__(self, event: ev.Event) -> list[Line]:
        """The sentences that tell of `event`; none for events that only feed charts."""
        if isinstance(event, ev.Proposed):
            return self._proposal(event)
        tell = _TELL.get(type(event))
        return tell(event) if tell else []

    def _proposal(self, event: ev.Proposed) -> list[Line]:
        out: list[Line] = [("info", f"{event.planner} planner proposes {event.candidate}: {event.summary}")]
        same = [step for step, why in event.whys.items() if (step, why) in self._known]
        if same:
            out.append(("dim", f"  as above: {', '.join(same)}"))
        out += [("dim", f"  {step}: {why}") for step, why in event.whys.items() if step not in same]
        self._known |= set(event.whys.items())
        return out


def _started(event: ev.Started) -> list[Line]:
    return [("dim", f"tillage {event.version} · {event.verb} · run {event.run} · seed {event.seed}")]


def _phase(event: ev.Phase) -> list[Line]:
    if event.done:
        return [("good", f"{event.title}: done in {seconds(event.seconds)}")]
    return [("head", event.title)]


def _note(event: ev.Note) -> list[Line]:
    return [(event.level if event.level in ("warning", "error") else "info", event.text)]


def _profiled(event: ev.Profiled) -> list[Line]:
    known = event.profile
    domains = known.get("domains") or {}
    what = f"{amount(known.get('documents'))} documents, {size(known.get('bytes'))}, {len(domains)} domains"
    rates = [
        f"{name.replace('_', ' ')} {percent(known[name]['rate'])}"
        for name in ("exact_duplicates", "near_duplicates", "markup", "code", "pii")
        if isinstance(known.get(name), dict)
    ]
    return [("info", f"profiled a sample of {what}"), *([("dim", "  " + ", ".join(rates))] if rates else [])]


def _verified(event: ev.Verified) -> list[Line]:
    if event.passed:
        return [("good", f"{event.candidate}: {event.rung} passed in {seconds(event.seconds)}")]
    hint = f" ({event.hint})" if event.hint else ""
    return [("bad", f"{event.candidate}: {event.rung} failed: {event.finding}{hint}")]


def _repaired(event: ev.Repaired) -> list[Line]:
    return [("warning", f"{event.candidate}: repaired: {event.why}")]


def _effect(event: ev.EffectMeasured) -> list[Line]:
    level = "good" if event.high < 0 else "bad" if event.low > 0 else "info"
    interval = f"[{signed(event.low)}, {signed(event.high)}]"
    against = f"{event.candidate} against {event.control}: {signed(event.mean)} bits/byte {interval}"
    return [(level, f"{against}, {event.probe}, {len(event.seeds)} seeds, {seconds(event.seconds)}")]


def _agree(event: ev.ProbesAgree) -> list[Line]:
    tau = f"Kendall's tau {event.tau:+.2f} over {len(event.candidates)} candidates"
    return [("info", f"order of candidates by {' and '.join(event.probes)}: {tau}")]


def _chosen(event: ev.Chosen) -> list[Line]:
    return [("head", f"round {event.round}: {event.candidate} is chosen: {event.why}")]


def _stage(event: ev.StageDone) -> list[Line]:
    how = "reused" if event.reused else f"in {seconds(event.seconds)}"
    steps = "" if event.stage.rpartition(":")[2] == "+".join(event.steps) else ", ".join(event.steps)
    named = f"{event.stage} ({steps})" if steps else event.stage
    return [("dim", f"stage {named}: {amount(event.rows)} rows {how}")]


def _account(event: ev.StepAccount) -> list[Line]:
    lost = ""
    for how, gone in (("dropped", event.dropped), ("quarantined", event.quarantined)):
        why = ", ".join(f"{reason} {amount(n)}" for reason, n in sorted(gone.items(), key=lambda kv: -kv[1]))
        lost += f"; {how} {why}" if why else ""
    if event.added:
        lost += f"; added {amount(event.added)}"
    kept = percent(event.rows_out / event.rows_in) if event.rows_in else "-"
    return [
        ("dim", f"{event.step}: {amount(event.rows_in)} -> {amount(event.rows_out)} rows ({kept} kept){lost}")
    ]


def _committed(event: ev.Committed) -> list[Line]:
    what = f"{amount(event.rows)} rows, {size(event.bytes)}, digest {event.digest[:12]}"
    return [("good", f"committed {event.dataset} version {event.version}: {what}")]


def _tokenised(event: ev.Tokenised) -> list[Line]:
    what = f"{amount(event.documents)} documents, {amount(event.tokens)} tokens"
    return [("good", f"tokenised {what} in {seconds(event.seconds)}: {event.store}")]


def _evaluated(event: ev.Evaluated) -> list[Line]:
    at = f"{event.arm} seed {event.seed} step {event.step}"
    return [("info", f"{at}: {event.bpb:.4f} bits/byte on {event.target}")]


def _overhead(event: ev.Overhead) -> list[Line]:
    spent = ", ".join(f"{what} {seconds(s)}" for what, s in event.seconds.items())
    return [("dim", f"{event.arm} seed {event.seed}: overhead {percent(event.share)} ({spent})")]


def _result(event: ev.Result) -> list[Line]:
    interval = f"[{event.low:.4f}, {event.high:.4f}]"
    return [("head", f"{event.name}: {event.bpb:.4f} bits/byte {interval} in {seconds(event.seconds)}")]


def _cost(event: ev.Cost) -> list[Line]:
    if not event.calls:
        return []
    cached = f", {event.cached} from the cache" if event.cached else ""
    return [
        (
            "info",
            f"language model: {event.calls} calls{cached}, {amount(event.tokens)} tokens, ${event.money:.4f}",
        )
    ]


def _finished(event: ev.Finished) -> list[Line]:
    peak = f", peak memory {size(event.peak_mb * 1e6)}" if event.peak_mb else ""
    level = "good" if event.status in ("done", "ok") else "bad"
    return [(level, f"{event.status} in {seconds(event.seconds)}{peak}")]


_TELL: dict[type[ev.Event], Callable[[Any], list[Line]]] = {
    ev.Started: _started,
    ev.Phase: _phase,
    ev.Note: _note,
    ev.Profiled: _profiled,
    ev.Verified: _verified,
    ev.Repaired: _repaired,
    ev.EffectMeasured: _effect,
    ev.ProbesAgree: _agree,
    ev.Chosen: _chosen,
    ev.StageDone: _stage,
    ev.StepAccount: _account,
    ev.Committed: _committed,
    ev.Tokenised: _tokenised,
    ev.Evaluated: _evaluated,
    ev.Overhead: _overhead,
    ev.Result: _result,
    ev.Cost: _cost,
    ev.Finished: _finished,
}
