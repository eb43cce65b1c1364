"""How often samples were trained on, where a policy that selects has to stop somewhere.

Without selection what is drawn is trained on, and the stream's own counts are the visits. With it they are
not: most candidates are looked at and left, and the best would come back in every pass.
"""

from __future__ import annotations

import zlib
from base64 import b85decode, b85encode

import numpy as np
import numpy.typing as npt

from tillage.core.errors import UserError
from tillage.train.policy import Array
from tillage.train.tokens import Ints, Samples


class Visits:
    """Visits of every sample, one byte each; a few hundred kilobytes as state for a billion tokens.

    Args:
        active: groups that are drawn from. sizes: samples of each that are drawn from, the first ones.
        most: visits that a sample may have, below 200.
    """

    def __init__(self, cut: Samples, active: Ints, sizes: Ints, most: float) -> None:
        if most >= 200:
            raise UserError("visits are counted up to 199", where="max_visits", got=most)
        self.most = most
        self._cut, self._sizes = cut, sizes
        self._place = np.full(len(cut.counts), -1, dtype=np.int64)
        self._place[active] = np.arange(len(active))
        self._counts: npt.NDArray[np.uint8] = np.zeros(len(cut), dtype=np.uint8)
        self._trained = np.zeros(len(active), dtype=np.int64)

    def excess(self, samples: Ints) -> Ints:
        """Visits of each sample beyond those that leave it free for one more; 0 for a free one.

        A sample that stands several times in `samples` is visited once more at each place.
        """
        order = np.argsort(samples, kind="stable")
        _, first, sizes = np.unique(samples[order], return_index=True, return_counts=True)
        before = np.empty(len(samples), dtype=np.int64)
        before[order] = np.arange(len(samples)) - np.repeat(first, sizes)
        visits = self._counts[samples].astype(np.int64) + before
        return np.maximum(np.ceil(visits + 1.0 - self.most).astype(np.int64), 0)

    def add(self, samples: Ints) -> None:
        """Count one visit of each."""
        np.add.at(self._counts, samples[self._counts[samples] < 200], 1)
        places = self._place[self._cut.group(samples)]
        self._trained += np.bincount(places, minlength=len(self._trained))

    def left(self, mixture: Array) -> Array:
        """The mixture without the groups that are used up; all zero if all of it is."""
        free = np.where(self._trained < self.most * self._sizes, mixture, 0.0)
        return free / free.sum() if free.any() else free

    def state_dict(self) -> str:
        # Visits repeat without a pattern: runs and code lengths are all that there is to save.
        packer = zlib.compressobj(strategy=zlib.Z_RLE)
        return b85encode(packer.compress(self._counts.tobytes()) + packer.flush()).decode()

    def load_state_dict(self, state: str) -> None:
        self._counts = np.frombuffer(zlib.decompress(b85decode(state)), dtype=np.uint8).copy()
        places = self._place[self._cut.group(np.arange(len(self._counts)))]
        known = places >= 0
        self._trained = np.bincount(places[known], self._counts[known], len(self._trained)).astype(np.int64)
