"""The best static mixture by a swarm of small runs, for `fixed`."""

from __future__ import annotations

import numpy as np

from tillage.core.errors import UserError, nearest
from tillage.train.evaluate import Target
from tillage.train.policies import Fixed
from tillage.train.spec import TrainSpec
from tillage.train.swarm import best_mixture, draw_mixtures, fit_mixtures
from tillage.train.tokens import TokenStore
from tillage.train.trainer import train


def swarm_mixture(
    spec: TrainSpec,
    store: TokenStore,
    target: Target,
    *,
    proxies: int = 24,
    seed: int = 0,
    most: dict[str, float] | None = None,
) -> Fixed:
    """The mixture of domains that small runs promise the lowest loss on the target.

    RegMix (Liu et al. 2024, arXiv 2407.01492): `proxies` runs on random mixtures, a regression from mixture
    to bits per byte (`tillage.train.swarm`), and the mean of the best of many simulated mixtures.

    Args:
        spec: of a proxy: a small model and few tokens; its policy is replaced.
        most: largest share of a domain, by name, for example what its tokens allow without repetition.

    Raises:
        UserError: fewer proxies than domains, or a bound on a domain that the store has not.
    """
    names = store.groups.names
    if proxies <= len(names):
        raise UserError("too few proxies for a fit", got=proxies, expected=f"more than {len(names)} domains")
    for name in most or {}:
        if name not in names:
            raise UserError(f"a bound on no domain of the store: {name!r}", hint=nearest(name, names))
    tokens = np.asarray(store.groups.tokens, dtype=np.float64)
    prior = tokens / tokens.sum()
    mixtures = draw_mixtures(prior, proxies, seed)
    found: list[float] = []
    for i, mixture in enumerate(mixtures):
        weights = dict(zip(names, mixture.tolist(), strict=True))
        arm = spec.model_copy(update={"policy": Fixed(weights=weights), "arm": f"proxy {i}"})
        found.append(train(arm, store, {target.name: target}).bpb[target.name])
    bound = np.asarray([(most or {}).get(name, 1.0) for name in names])
    best = best_mixture(fit_mixtures(mixtures, np.asarray(found)), prior, bound, seed=seed)
    return Fixed(weights=dict(zip(names, np.round(best, 6).tolist(), strict=True)))
