"""The rule that selects one epoch's student: how well it separates drawn defects from good pictures.

It knows nothing of optimisers or files. The student never learns from a drawn defect. The same seed draws the
same defects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from drivers.image_file import Image
from monitor.evaluation.auroc_pro import auroc
from monitor.images.preprocessing import IndexedImages
from monitor.training.synthetic_defects import DefectKind, DefectPicture, draw_defect

_MOST, _FEWEST = 16, 4
"""The largest and the smallest number of pictures on which one defect of each kind is drawn. On the
magnetic-tile data set, the students selected with 16 pictures were as good as those selected with 30."""


class SelectionSet:
    """The pictures of a training run and copies of some of them with a drawn defect, all by index.

    The copies (`indices`) follow the highest index of `train` and `select`; all other indices are those of
    `pictures`. The defects are drawn on pictures of `select`. The displaced pieces are cut from pictures of
    `train`.
    """

    def __init__(
        self, pictures: IndexedImages, train: Sequence[int], select: Sequence[int], seed: int
    ) -> None:
        self._pictures = pictures
        self._first = 1 + max(*train, *select)
        self._drawn: list[DefectPicture] = []
        rng = np.random.default_rng(seed)
        for number in range(min(_MOST, max(_FEWEST, len(select)))):
            good = pictures[select[number % len(select)]]
            for kind in DefectKind:
                source = pictures[train[int(rng.integers(len(train)))]]
                if source.shape != good.shape:
                    source = good
                self._drawn.append(draw_defect(kind, good, source, rng))
        self.indices = range(self._first, self._first + len(self._drawn))
        """The indices of the pictures with a drawn defect."""

    def __getitem__(self, index: int, /) -> Image:
        return self._drawn[index - self._first].picture if index in self.indices else self._pictures[index]

    def peaks(self, maps: Tensor, indices: Sequence[int]) -> list[float]:
        """The score of each picture `indices` from the anomaly maps (N, h, w): the map's largest value.

        The score of a picture with a drawn defect is the largest value within the defect, because a large
        value elsewhere does not show that the student finds the defect.
        """
        peaks = []
        for single, index in zip(maps, indices, strict=True):
            size = self[index].shape[:2]
            full = F.interpolate(single[None, None], size=size, mode="bilinear")[0, 0]
            if index in self.indices:
                full = full[torch.from_numpy(self._drawn[index - self._first].where).to(full.device)]
            peaks.append(float(full.max()))
        return peaks

    @staticmethod
    def separation(good: Sequence[float], drawn: Sequence[float]) -> float:
        """The area under the ROC curve of these scores.

        It is 1 if every drawn defect scores higher than every good picture.
        """
        return auroc(np.array(good), np.array(drawn))
