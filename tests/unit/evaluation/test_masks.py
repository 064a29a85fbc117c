"""A mask keeps even the smallest defect at the network's size."""

from __future__ import annotations

import cv2
import numpy as np

from monitor.evaluation.masks import resize_mask


def test_no_defect_is_too_small_for_its_mask() -> None:
    mask = np.zeros((2048, 2048), np.uint8)
    mask[1001, 1203] = 1
    assert np.argwhere(resize_mask(mask, (64, 64))).tolist() == [[31, 37]]
    large = np.zeros((512, 512), np.uint8)
    large[100:200, 300:400] = 255
    official = cv2.resize(large, (64, 64)).astype(bool)
    assert np.array_equal(resize_mask(large, (64, 64)), official)
