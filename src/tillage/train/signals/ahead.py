"""Scores of all samples, computed before training by small models and kept by fingerprint.

A policy names what it needs in `SignalSpec.ahead`; `ahead_scores` computes it once for each method,
reference,
target and store. During training they cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from tillage.core.errors import UserError, nearest
from tillage.core.workspace import atomic_file
from tillage.train.signals.less import less
from tillage.train.signals.likeness import likeness
from tillage.train.signals.setting import Setting
from tillage.train.signals.several import difference, perplexity_correlation
from tillage.train.tokens import Floats


def color(setting: Setting) -> Floats:
    """How much easier a sample gets for a model of the store when it is trained further on the target.

    CoLoR-Filter (Brandfonbrener et al. 2024, arXiv 2406.10670, equation 5): the loss of the prior model minus
    the loss of the conditional one, which starts from the prior; the largest are the best. The store's model
    sees the tokens of the reference's budget, the conditional one a third more of the target.
    """
    prior = setting.train(setting.store)
    conditional = setting.train(setting.target, prior, share=1 / 3)
    return setting.losses(prior) - setting.losses(conditional)


def like(setting: Setting) -> Floats:
    """Likeness to the target by tokens and their pairs; needs no model."""
    return likeness(setting.target, setting.store, setting.seq_len)


METHODS: dict[str, Callable[[Setting], Floats]] = {
    "color": color,
    "difference": difference,
    "less": less,
    "likeness": like,
    "perplexity_correlation": perplexity_correlation,
}


def ahead_scores(name: str, setting: Setting, cache: Path | None = None) -> tuple[Floats, float]:
    """Scores `float64[samples]`, and the seconds that they took (also when they come from the cache).

    Raises:
        UserError: there is no such method.
    """
    if name not in METHODS:
        raise UserError(f"no scores ahead of training are called {name!r}", hint=nearest(name, METHODS))
    path = cache / f"ahead-{name}-{setting.key()}.npz" if cache else None
    if path is not None:
        with suppress(FileNotFoundError), np.load(path) as saved:
            return saved["scores"], float(saved["seconds"])
    began = time.perf_counter()
    scores = METHODS[name](setting)
    if setting.device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    if path is not None:
        with atomic_file(path) as out:
            np.savez(out, scores=scores, seconds=np.asarray(seconds))
    return scores, seconds
