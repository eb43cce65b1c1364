"""Evidence that needs the mended sample: what it has more of than the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tillage.agent.goal import FrozenGoal
from tillage.agent.planner import build
from tillage.core.workspace import Workspace
from tillage.data.excess import Excess, Values, bound, bounds
from tillage.data.profile import cross_fit, label_margins
from tillage.data.traits import ends_open
from tillage.flow.run import sample_run
from tillage.kernels.fluency import MEASURES, FluencyCounts, fluency, known_order, known_phrases
from tillage.kernels.likeness import count_features, likeness, log_ratio
from tillage.kernels.repetition import repetition
from tillage.kernels.text_stats import text_stats

SOUNDNESS = (
    "mean_word_length",
    "alpha_words",
    "symbol_share",
    "digit_share",
    "upper_share",
    "space_share",
    "punct_share",
    "dup_line_chars",
    "top_2gram",
    "dup_5gram",
)
"""Measurements of which a sound document of any kind has about as much as the target's. Tags are not
among them: the placeholders of masked data look like some, and markup has a step of its own."""

ORDER, FAMILIAR, PHRASES, SCORE, OPEN, MARGIN = (
    "fluency",
    "familiar_words",
    "familiar_phrases",
    "target_score",
    "ends_open",
    "domain_margin",
)
LIKENESS_SOUND = 0.005
"""Largest share of sound documents for a bound on likeness or on phrases: these know authors, topics and
formulas, not only faults."""

CARE = {"careful": 0.08, "usual": 0.25, "greedy": 0.6}
"""Sound documents that a bound may cost for each faulty one that it drops."""


class Soundness:
    """The measurements of a mended sample and of the target, and the bounds that set them apart.

    Args:
        texts: the sample after repair and deduplication, large_string.
        target: the target's search part.
        domains: of the sample's rows, for documents whose words speak for another domain.
    """

    def __init__(self, texts: pa.Array, target: Sequence[str], domains: Sequence[str] = ()) -> None:
        sound = pa.array(list(target), pa.large_string())
        counts = FluencyCounts()
        counts.add(texts)
        self.data = _numbers(texts) | _language(texts, counts, counted=True)
        self.target = _numbers(sound) | _language(sound, counts, counted=False)
        crossed = cross_fit(texts, sound)
        self.data[SCORE], self.target[SCORE] = crossed
        weights = log_ratio(count_features(sound), count_features(texts))
        self.fitted = _floats(likeness(texts, weights))
        self.margins = label_margins(texts, domains) if len(set(domains)) > 1 else None

    def bounds(self, care: str) -> list[Excess]:
        """Bounds by one level of `CARE`; those on likeness are for an operator fitted to the sample."""
        found = bounds(
            self.data,
            self.target,
            strictness=CARE[care],
            most_sound=dict.fromkeys((SCORE, PHRASES), LIKENESS_SOUND),
        )
        chosen = [self._fitted(one) if one.measure == SCORE else one for one in found if self._useful(one)]
        return [*chosen, *self.bounds_of_labels(care)]

    def bounds_of_labels(self, care: str) -> list[Excess]:
        """The bound on the margin: rows that agree with their label show what sound ones are like.

        Below zero sound and mislabelled rows mix, without a valley between them. So the sound ones are taken
        to be symmetric about their median, of which the upper half is not mixed with anything.
        """
        if self.margins is None:
            return []
        agree = self.margins[self.margins > 0]
        if not len(agree):
            return []
        middle = float(np.median(agree))
        upper = agree[agree > middle]
        sound = np.concatenate([upper, 2 * middle - upper])
        # Where some documents speak very much for their domain, the mirror knows no bound, but a valley may.
        options = (
            bound(MARGIN, self.margins, sound, strictness=CARE[care], valley=False),
            bound(MARGIN, self.margins, agree, strictness=CARE[care]),
        )
        return [one for one in options if one is not None and one.side == "low"][:1]

    @staticmethod
    def _useful(one: Excess) -> bool:
        # What is more like the target than the target leaks it, which has a step of its own.
        return not (one.measure == SCORE and one.side == "high")

    def _fitted(self, one: Excess) -> Excess:
        crossed = self.data[SCORE]
        share = float((crossed < one.value).mean())
        value = float(np.nanquantile(self.fitted, share))
        return one.model_copy(update={"value": float(f"{value:.6g}")})


def mended_sample(
    frozen: FrozenGoal, steps: Sequence[dict[str, Any]], sample: Path, workspace: Workspace
) -> tuple[pa.Array, list[str]]:
    """The texts and domains of the sample after these steps; candidates that begin so share the stages."""
    result = sample_run(build(frozen, "mended", steps), workspace, None, sample)
    table = result.kept_table(["text", "domain"])
    texts = table["text"].cast(pa.large_string()).combine_chunks()
    whole = pa.concat_arrays(texts.chunks) if isinstance(texts, pa.ChunkedArray) else texts
    return whole, [name or "" for name in table["domain"].to_pylist()]


def _numbers(texts: pa.Array) -> dict[str, Values]:
    columns: Mapping[str, pa.Array] = {**text_stats(texts), **repetition(texts)}
    return {name: _floats(columns[name]) for name in SOUNDNESS} | {OPEN: ends_open(texts)}


def _language(texts: pa.Array, counts: FluencyCounts, counted: bool) -> dict[str, Values]:
    """The measurements of the operator `fluency`: what it would find by itself, on the target's scale."""
    measured = fluency(texts, np.full(len(texts), counted, np.uint8), counts.seen, counts.limit)
    familiar = measured[:, MEASURES.index("familiar")]
    return {ORDER: known_order(measured), FAMILIAR: familiar, PHRASES: known_phrases(measured)}


def _floats(array: pa.Array) -> NDArray[np.float64]:
    return np.asarray(array.cast(pa.float64()).fill_null(float("nan")), np.float64)
