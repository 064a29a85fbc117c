"""How well a student tells drawn defects from good pictures: what students of different epochs are chosen by.

Deterministic under its seed. Never part of what is learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drivers.image_file import Image
from monitor.evaluation.auroc_pro import auroc
from monitor.images.preprocessing import Pictures
from monitor.training.synthetic_defects import Drawn, Kind, draw

_MOST, _FEWEST = 16, 4
"""Pictures that get one defect of each kind. On magnetic tiles 16 chose students as good as 30 did."""


class Trial:
    """`pictures`, and after the last of `select` and `train` the ones with a defect drawn on them.

    The hosts of the defects are pictures of `select`, the pieces pasted on them come from `train`.
    """

    def __init__(self, pictures: Pictures, train: Sequence[int], select: Sequence[int], seed: int) -> None:
        self._pictures = pictures
        self._first = 1 + max(*train, *select)
        self._drawn: list[Drawn] = []
        rng = np.random.default_rng(seed)
        for number in range(min(_MOST, max(_FEWEST, len(select)))):
            host = pictures[select[number % len(select)]]
            for kind in Kind:
                other = pictures[train[int(rng.integers(len(train)))]]
                self._drawn.append(draw(kind, host, other if other.shape == host.shape else host, rng))
        self.indices = range(self._first, self._first + len(self._drawn))

    def __getitem__(self, index: int, /) -> Image:
        return self._drawn[index - self._first].picture if index in self.indices else self._pictures[index]

    def peaks(self, maps: Tensor, indices: Sequence[int]) -> list[float]:
        """The score of each picture by its anomaly map (N, h, w); of a drawn one, the largest value within
        the defect: what the student makes of the rest of that picture is no answer to it."""
        peaks = []
        for single, index in zip(maps, indices, strict=True):
            size = self[index].shape[:2]
            full = F.interpolate(single[None, None], size=size, mode="bilinear")[0, 0]
            if index in self.indices:
                full = full[torch.from_numpy(self._drawn[index - self._first].where).to(full.device)]
            peaks.append(float(full.max()))
        return peaks

    @staticmethod
    def told_apart(good: Sequence[float], drawn: Sequence[float]) -> float:
        """The area under the ROC curve: 1 when every drawn defect stands out over every good picture."""
        return auroc(np.array(good), np.array(drawn))
