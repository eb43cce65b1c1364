"""Scores by comparing several small models: whose losses on a sample go with their losses on the target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tillage.train.draw import uniform
from tillage.train.evaluate import document_nats
from tillage.train.reference import Blocks
from tillage.train.signals.setting import Setting
from tillage.train.swarm import draw_mixtures
from tillage.train.tokens import Floats, Ints

_DRAW, _ORDER = 11, 12


def perplexity_correlation(setting: Setting, models: int = 8) -> Floats:
    """How far models that find a sample easy are those that are good on the target, in [-1, 1].

    Thrush et al. 2024, arXiv 2409.05816 (estimator sign_cdf of the official code): the mean over pairs of
    models of sign(y_i - y_j) (F(x_i) - F(x_j)), scaled to 1 at most; x are the models' losses on the sample,
    F their ranks and y the models' errors. The paper has ninety public models and errors of benchmarks; here
    `models` small ones are trained on random mixtures of the store's domains, a quarter of the reference's
    tokens each, and the error is the loss on the target.
    """
    prior = np.asarray(setting.store.groups.tokens, dtype=np.float64)
    mixtures = draw_mixtures(prior / prior.sum(), models, setting.spec.seed)
    losses: list[Floats] = []
    errors: list[float] = []
    for i, mixture in enumerate(mixtures):
        model = setting.train(_drawn(setting, mixture, i), share=0.25)
        losses.append(setting.losses(model))
        errors.append(float(document_nats(model, setting.target, setting.seq_len).sum()))
    return sign_cdf(np.stack(losses), np.asarray(errors))


def sign_cdf(losses: Floats, errors: Floats) -> Floats:
    """`float64[samples]` in [-1, 1] from losses `[models, samples]` and errors `[models]`."""
    count = len(errors)
    ranks = losses.argsort(0, kind="stable").argsort(0, kind="stable") / count
    sign = np.sign(errors[:, None] - errors[None, :]).sum(1)  # of each model against all others
    best = np.sort(sign) @ (np.arange(count) / count)
    return (sign @ ranks) / best if best > 0 else np.zeros(losses.shape[1])


def difference(setting: Setting) -> Floats:
    """How much more a model of the store knows of a sample than a smaller one does.

    Difference sampling of MiniPLM (Gu et al. 2024, arXiv 2410.17215): log p_large - log p_small for each
    sample, here in nats a token. What both find easy is trivial, what both find hard is noise. The large
    model has the reference's shape, the small one half of its layers and width.
    """
    shape = setting.spec.model
    width = max(shape.head_width, shape.width // 2 // shape.head_width * shape.head_width)
    small = shape.model_copy(update={"layers": max(shape.layers // 2, 1), "width": width, "kv_heads": None})
    least = replace(setting, spec=setting.spec.model_copy(update={"model": small}))
    return setting.losses(least.train(setting.store)) - setting.losses(setting.train(setting.store))


def _drawn(setting: Setting, mixture: Floats, number: int) -> Blocks:
    """Samples of the store by a mixture of its domains."""
    cut = setting.store.samples(setting.seq_len)
    sizes = np.maximum(cut.counts, 1)
    p = np.where(cut.counts > 0, mixture, 0.0)
    edges = np.cumsum(p / p.sum())
    count = len(cut)
    draw = np.arange(count)
    group: Ints = np.searchsorted(edges, uniform(setting.spec.seed, _DRAW, number, draw), side="right")
    place = (uniform(setting.spec.seed, _ORDER, number, draw) * sizes[group]).astype(np.int64)
    samples = cut.first[group] + place
    return Blocks(lambda index: cut.pairs(samples[index]), count)
