"""Procedural images depend on the seed alone, and are varied."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from monitor.teachers.procedural_images import draw_canvas, image_batches


def test_the_same_seed_draws_the_same_images() -> None:
    first, again, other = (
        np.stack(list(islice(image_batches(seed=s, side=48, batch=4, pool=3, canvas_side=96, uses=3), 3)))
        for s in (1, 1, 2)
    )
    assert first.shape == (3, 4, 48, 48, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_are_varied() -> None:
    images = next(image_batches(seed=5, side=64, batch=64, pool=16, canvas_side=128)).astype(np.float64)
    means = images.mean((1, 2, 3))
    assert means.std() > 20, "some are bright and some are dark"
    grey = np.abs(images[..., 0] - images[..., 1]).mean((1, 2)) < 8
    assert 0.1 < grey.mean() < 0.95, "some are grey and some are coloured"
    assert (images.std((1, 2)).max(1) > 10).mean() > 0.5, "most have contrast"
    assert len({image.tobytes() for image in images}) == 64


def test_a_canvas_has_the_asked_size() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        canvas = draw_canvas(rng, 80)
        assert canvas.shape == (80, 80, 3)
        assert canvas.dtype == np.uint8


def test_a_canvas_smaller_than_the_images_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller"):
        next(image_batches(seed=0, side=64, batch=1, canvas_side=32))
