"""Data policies: what decides, during training, which data the model sees next and with what weight.

Every method sets factors of one measure over tokens, `w = p(group) * keep(sample) * v(sample) * u(token)`.
`p` is realised by sampling, `keep` by not training, `v` and `u` in the loss. A policy is a spec (its fields
are parameters) that holds state after `start`; its class says which factors it sets, and `Chain` composes
policies that set different ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, PlainSerializer, PrivateAttr

from tillage.core.errors import UserError
from tillage.core.registry import Registry
from tillage.core.spec import Spec
from tillage.train.tokens import Groups

Factor = Literal["mix", "select", "weigh", "token"]
Array = npt.NDArray[np.float64]
State = dict[str, Any]


@dataclass(frozen=True)
class SignalSpec:
    """What a policy needs. Domain and sample losses come from the step's own forward pass and cost nothing.

    Attributes:
        reference: reference losses of samples: a reference model is trained and scores them (cost:
            "reference_training", "reference_scoring").
        candidates: candidates are scored by the model before each step (cost: "candidate_scoring").
        scorer: candidates, and gradients of samples, are measured on a small model that is trained beside the
            run (`tillage.train.scorer`; cost: "scorer_training").
        prior: the reference model is trained on the store itself, in proportion to tokens, not on a target.
        tokens: reference losses of single tokens as well; they are not kept, so each visit scores anew.
        columns: measurements of the store, by sample (read once, no cost in a step).
        ahead: scores of samples computed before training (`tillage.train.signals.ahead`; cost:
            "ahead_scoring"); they come as columns of these names.
        heldout: samples of each domain that are kept out of training; their losses are measured before each
            step whose actions say `probe` (cost: "probes").
        dots: at steps whose actions say `gradients`, the product of each sample's gradient with that of the
            target (`tillage.train.signals.gradients`; cost: "gradients").
        sketch: a random projection of each sample's gradient at those steps, at the same cost.
        gram: products of the domains' mean gradients with one another, and with the target's if there is one.
    """

    reference: bool = False
    candidates: bool = False
    prior: bool = False
    tokens: bool = False
    columns: frozenset[str] = frozenset()
    ahead: frozenset[str] = frozenset()
    heldout: int = 0
    dots: bool = False
    sketch: bool = False
    gram: bool = False
    scorer: bool = False

    @property
    def gradients(self) -> bool:
        """Whether any signal of gradients is required."""
        return self.dots or self.sketch or self.gram

    @property
    def scores(self) -> bool:
        """Whether samples are measured before a step."""
        return self.candidates or self.gradients

    def __or__(self, other: SignalSpec) -> SignalSpec:
        if self.reference and other.reference and self.prior != other.prior:
            raise UserError(
                "the policies need two different reference models",
                got="one of the target and one of the store",
                expected="one reference for all policies of a chain",
            )
        if self.scores and other.scores and self.scorer != other.scorer:
            raise UserError(
                "one policy measures on the model in training, another on the small scorer",
                expected="one of them for all policies of a chain that score candidates or measure gradients",
                hint="give all of them `scorer: true`, or none",
            )
        return SignalSpec(
            self.reference or other.reference,
            self.candidates or other.candidates,
            self.prior or other.prior,
            self.tokens or other.tokens,
            self.columns | other.columns,
            self.ahead | other.ahead,
            max(self.heldout, other.heldout),
            self.dots or other.dots,
            self.sketch or other.sketch,
            self.gram or other.gram,
            self.scorer or other.scorer,
        )

    def costs(self) -> frozenset[str]:
        """Keys of the overhead ledger that this policy may add to."""
        names: set[str] = set()
        if self.reference:
            names |= {"reference_training", "reference_scoring"}
        if self.candidates:
            names.add("candidate_scoring")
        if self.ahead:
            names.add("ahead_scoring")
        if self.heldout:
            names.add("probes")
        if self.gradients:
            names.add("gradients")
        if self.scorer:
            names.add("scorer_training")
        return frozenset(names)


@dataclass(frozen=True)
class Signals:
    """What one optimiser step showed, over all ranks and micro-batches: equal on every rank.

    Attributes:
        step: the step that was taken, from 0.
        counts: samples trained on, by group, `float64[groups]`.
        losses: mean loss in nats a token of those samples before the step; NaN where there were none.
        reference: mean reference loss of the same samples; NaN where unknown.
        tokens: tokens in a sample.
        excess: mean over the tokens of each group of max(loss - reference loss, 0), `float64[groups]`; only
            if reference losses of tokens are required.
        heldout: mean loss of each domain's held-out samples before the step, `float64[groups]`, NaN for a
            domain too small to hold any out; only at steps that said `probe`.
        gram: products of the groups' mean gradients, the target's last, `float64[groups + 1, groups + 1]`;
            NaN for a group without samples, or without a target; only at steps that said `gradients`.
        spread: mean squared distance of samples' gradients from their group's mean, `float64[groups]`; NaN
            for a group of less than two samples; with `gram`.
        spent: what measuring cost at this step by key of the ledger, in forward passes counted; 1 is what
            training on the step's batch costs.
        measured: the samples whose gradients were measured at this step.
    """

    step: int
    counts: Array
    losses: Array
    reference: Array
    tokens: int
    excess: Array | None = None
    heldout: Array | None = None
    gram: Array | None = None
    spread: Array | None = None
    spent: Mapping[str, float] = field(default_factory=dict[str, float])
    measured: Scored | None = None


@dataclass(frozen=True)
class Scored:
    """Samples to score or to weigh, over all ranks; losses in nats a token, all arrays `[n]`.

    Losses and reference losses are NaN where the policy does not require them. `columns` holds the
    measurements that it requires, NaN where a sample has none. `dots` are products of the samples' gradients
    with the target's, `sketch` (`[n, k]`) random projections of the gradients, whose products are about those
    of the gradients; both are None at steps without `Actions.gradients`.
    """

    step: int
    groups: npt.NDArray[np.int64]
    losses: Array
    reference: Array
    columns: Mapping[str, Array] = field(default_factory=dict[str, Array])
    dots: Array | None = None
    sketch: Array | None = None

    @staticmethod
    def join(parts: Sequence[Scored]) -> Scored:
        """Samples of several micro-batches as one."""

        def of(values: list[Array | None]) -> Array | None:
            known = [value for value in values if value is not None]
            return np.concatenate(known) if len(known) == len(values) else None

        return Scored(
            parts[0].step,
            np.concatenate([p.groups for p in parts]),
            np.concatenate([p.losses for p in parts]),
            np.concatenate([p.reference for p in parts]),
            {name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns},
            of([p.dots for p in parts]),
            of([p.sketch for p in parts]),
        )

    def part(self, index: npt.NDArray[np.int64]) -> Scored:
        """The samples at `index`."""
        return Scored(
            self.step,
            self.groups[index],
            self.losses[index],
            self.reference[index],
            {name: values[index] for name, values in self.columns.items()},
            None if self.dots is None else self.dots[index],
            None if self.sketch is None else self.sketch[index],
        )


@dataclass(frozen=True)
class ScoredTokens:
    """Tokens to weigh, over all ranks: groups `int64[n]`; losses in nats, `float64[n, tokens]`."""

    step: int
    groups: npt.NDArray[np.int64]
    losses: Array
    reference: Array


@dataclass(frozen=True)
class Actions:
    """Factors in force from some step on; None leaves a factor alone.

    Attributes:
        mixture: probability of each group, `float64[groups]`, sums to 1.
        keep: fraction of the candidates to train on, in (0, 1].
        probe: measure held-out losses before this step, if the policy requires them.
        gradients: measure the signals of gradients that the policy requires before this step.
    """

    mixture: Array | None = None
    keep: float | None = None
    probe: bool = False
    gradients: bool = False


class Policy(Spec):
    """Base of all policies. Override `initial`, `observe`, `act`, and `score`, `weigh` or `weigh_tokens`.

    `self.state` is a dict of JSON values: all that a policy remembers, saved with every checkpoint.
    The other methods must not change it. `self.groups` names the domains with at least one sample.
    """

    factors: ClassVar[frozenset[Factor]]
    source: ClassVar[str] = ""
    name: ClassVar[str] = ""
    chases_noise: ClassVar[bool] = False
    """Whether it is known to favour text that nobody can learn: `train.controls` measures it."""

    _state: State = PrivateAttr(default_factory=dict)
    _groups: Groups | None = PrivateAttr(default=None)

    @property
    def state(self) -> State:
        return self._state

    @property
    def groups(self) -> Groups:
        if self._groups is None:
            raise UserError(f"policy {self.name!r} was not started", hint="call start(groups) first")
        return self._groups

    @property
    def prior(self) -> Array:
        """Share of each group in the tokens of the store."""
        tokens = np.asarray(self.groups.tokens, dtype=np.float64)
        return tokens / tokens.sum()

    def start(self, groups: Groups) -> Self:
        """A copy with fresh state for these groups; the spec itself never changes."""
        fresh = self.model_copy()
        fresh._groups = groups
        fresh._state = {}
        fresh._state = fresh.initial()
        return fresh

    def requires(self) -> SignalSpec:
        return SignalSpec()

    def initial(self) -> State:
        """State before the first step."""
        return {}

    def observe(self, signals: Signals) -> None:
        """Take in one step. Signals are the same on every rank, so states stay the same."""

    def act(self, step: int) -> Actions:
        """Factors for `step`: a pure function of the state."""
        return Actions()

    def score(self, batch: Scored) -> Array:
        """Value of each candidate; the highest are kept. Only for the factor "select"."""
        raise UserError(f"policy {self.name!r} does not select", expected="a score method")

    @property
    def adaptive(self) -> bool:
        """Whether it needs the losses of each step: then a loop that does not report them is in error."""
        return type(self).observe is not Policy.observe or bool(self.factors - {"mix"})

    def weigh(self, batch: Scored) -> Array:
        """Non-negative weight of each sample, on one scale for all batches. Only for the factor "weigh".

        The feed divides by the sum of the weights over the step.
        """
        raise UserError(f"policy {self.name!r} does not weigh", expected="a weigh method")

    def weigh_tokens(self, batch: ScoredTokens) -> Array:
        """Non-negative weight of each token, `[n, tokens]`. Only for the factor "token".

        The feed divides the product with the samples' weights by its sum over the step.
        """
        raise UserError(f"policy {self.name!r} does not weigh tokens", expected="a weigh_tokens method")

    def state_dict(self) -> State:
        return {"policy": self.fingerprint(), "state": _copy(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["policy"] != self.fingerprint():
            raise UserError(
                f"this state belongs to another policy than {self.name!r}",
                got=state["policy"],
                expected=self.fingerprint(),
            )
        self._state = _copy(state["state"])


def _copy(value: Any) -> Any:
    """A deep copy of JSON values."""
    if isinstance(value, Mapping):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value


policies: Registry[Policy] = Registry("policy", group="tillage.policies")
policy = policies.register


class Chain(Policy):
    """Several policies as one; no two may set the same factor."""

    factors: ClassVar[frozenset[Factor]] = frozenset()
    name: ClassVar[str] = "chain"
    parts: tuple[AnyPolicy, ...] = ()

    def __init__(self, *parts: Policy, **fields: Any) -> None:
        super().__init__(**({"parts": parts} if parts else {}), **fields)

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        owner: dict[str, Policy] = {}
        if len(self.parts) > 1 and any(isinstance(part, Auto) for part in self.parts):
            raise UserError("the policy auto stands alone", expected="auto, or policies that you choose")
        for part in self.parts:
            for factor in sorted(part.factors):
                if factor in owner:
                    raise UserError(
                        f"two policies set the factor {factor!r}",
                        got=f"{owner[factor].name}, {part.name}",
                        expected="one policy for each of mix, select, weigh and token",
                    )
                owner[factor] = part
        self.requires()  # says so when two parts need different reference models

    def canonical(self) -> Any:
        return [[p.name, p.canonical()] for p in self.parts]

    def start(self, groups: Groups) -> Self:
        started = tuple(part.start(groups) for part in self.parts)
        fresh = self.model_copy(update={"parts": started})
        fresh._groups = groups
        return fresh

    def requires(self) -> SignalSpec:
        needs = SignalSpec()
        for part in self.parts:
            needs = needs | part.requires()
        return needs

    def observe(self, signals: Signals) -> None:
        for part in self.parts:
            part.observe(signals)

    def act(self, step: int) -> Actions:
        mixture, keep, probe, gradients = None, None, False, False
        for part in self.parts:
            actions = part.act(step)
            mixture = actions.mixture if "mix" in part.factors else mixture
            keep = actions.keep if "select" in part.factors else keep
            probe = probe or actions.probe
            gradients = gradients or actions.gradients
        return Actions(mixture, keep, probe, gradients)

    @property
    def adaptive(self) -> bool:
        return any(part.adaptive for part in self.parts)

    def owner(self, factor: Factor) -> Policy | None:
        """The part that sets a factor."""
        return next((part for part in self.parts if factor in part.factors), None)

    def score(self, batch: Scored) -> Array:
        part = self.owner("select")
        return part.score(batch) if part else super().score(batch)

    def weigh(self, batch: Scored) -> Array:
        part = self.owner("weigh")
        return part.weigh(batch) if part else super().weigh(batch)

    def weigh_tokens(self, batch: ScoredTokens) -> Array:
        part = self.owner("token")
        return part.weigh_tokens(batch) if part else super().weigh_tokens(batch)

    def state_dict(self) -> State:
        return {"policy": self.fingerprint(), "state": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["policy"] != self.fingerprint():
            raise UserError(
                "this state belongs to another chain of policies",
                got=state["policy"],
                expected=self.fingerprint(),
            )
        for part, part_state in zip(self.parts, state["state"], strict=True):
            part.load_state_dict(part_state)


class Auto(Policy):
    """Stands for the policy that `tillage.train.auto.resolve` finds for a store and a target."""

    factors: ClassVar[frozenset[Factor]] = frozenset()
    name: ClassVar[str] = "auto"

    def start(self, groups: Groups) -> Self:
        raise UserError(
            "the policy auto was not resolved", hint="tillage.train.auto.resolve(policy, store, target, ...)"
        )


def parse_policy(value: Any) -> Policy:
    """A policy from YAML: `auto`, `odm`, `{odm: {smoothing: 0.9}}`, or a list of these for a chain."""
    if isinstance(value, Policy):
        return value
    if value == Auto.name:
        return Auto()
    if isinstance(value, str):
        return policies.get(value, "policy")()
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise UserError(
                "a policy is one name with its fields", got=dict(value), expected="{name: {field: value}}"
            )
        name, fields = next(iter(value.items()))
        return policies.get(str(name), "policy").load(fields or {}, f"policy {name}")
    if isinstance(value, Sequence):
        return Chain(*(parse_policy(v) for v in value))
    raise UserError("this is no policy", got=repr(value), expected="a name, {name: {field: value}} or a list")


def dump_policy(value: Policy) -> Any:
    """The inverse of `parse_policy`."""
    if isinstance(value, Auto):
        return value.name
    if isinstance(value, Chain):
        return [dump_policy(part) for part in value.parts]
    return {value.name: value.model_dump(mode="json")}


AnyPolicy = Annotated[Policy, BeforeValidator(parse_policy), PlainSerializer(dump_policy)]
Chain.model_rebuild()


def as_chain(value: Policy) -> Chain:
    """`value` as a chain, so that the feed knows one form only."""
    return value if isinstance(value, Chain) else Chain(value)
