"""The simulated conveyor: the same images for the same seed, small defects, correct times."""

from __future__ import annotations

import numpy as np
import pytest

import drivers
from drivers import simulated
from drivers.simulated import LARGEST_AREA, LARGEST_CONTRAST, Conveyor


class Clock:
    """A clock that advances only in `sleep`, or when a test sets it."""

    def __init__(self) -> None:
        self.now = 10**12

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


@pytest.mark.parametrize("scene", simulated.SCENES)
def test_an_exposure_is_always_the_same(scene: str) -> None:
    one = Conveyor(scene, 4, 0.5)
    other = Conveyor(scene, 4, 0.5)
    backwards = {k: other.image(k) for k in reversed(range(6))}
    for k in range(6):
        np.testing.assert_array_equal(one.image(k), backwards[k])
        np.testing.assert_array_equal(simulated.render(scene, 4, k, 0.5), backwards[k])
        assert one.truth(k) == simulated.truth(f"simulated://{scene}?seed=4&defects=0.5")(k)


@pytest.mark.parametrize("scene", simulated.SCENES)
def test_no_two_exposures_or_seeds_are_alike(scene: str) -> None:
    """Training and calibration on the same images would make the threshold wrong."""
    conveyor = Conveyor(scene, 0, 0.0)
    images = [conveyor.image(k) for k in (0, 1, conveyor.parts, 2 * conveyor.parts)]
    images.append(Conveyor(scene, 1, 0.0).image(0))
    for index, image in enumerate(images):
        for later in images[index + 1 :]:
            assert np.mean(image != later) > 0.3


@pytest.mark.parametrize("scene", simulated.SCENES)
@pytest.mark.parametrize("size", [(320, 320), (128, 96), pytest.param((640, 480), marks=pytest.mark.slow)])
def test_defects_are_small_and_where_truth_says(scene: str, size: tuple[int, int]) -> None:
    bad, good = Conveyor(scene, 2, 1.0, size), Conveyor(scene, 2, 0.0, size)
    kinds = set()
    for k in range(40):
        truth = bad.truth(k)
        assert truth.defective
        kinds.add(truth.defect)
        assert 0.003 < truth.area <= LARGEST_AREA
        assert 0.12 <= truth.contrast <= LARGEST_CONTRAST
        assert truth.box is not None
        x, y, width, height = truth.box
        assert x >= 0
        assert y >= 0
        assert x + width <= size[0]
        assert y + height <= size[1]
        mask = bad.mask(k)
        assert mask.shape == (size[1], size[0])
        assert mask[y : y + height, x : x + width].sum() == mask.sum() > 0
        # The two images show the same part. The defect only multiplies its brightness, at most by the
        # contrast.
        before, after = (c.image(k).astype(np.float64).mean(axis=2) for c in (good, bad))
        change = np.abs(after - before) / np.maximum(before, 20)
        assert change.max() < LARGEST_CONTRAST + 0.06
        assert change[mask].mean() > 0.08
        beside = np.ones_like(mask)
        # Thin print around a worn spot is worn too.
        margin = max(6, size[1] // 10)
        beside[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin] = False
        assert not change[beside].any()
    assert kinds == set(simulated.DEFECTS)


def test_the_share_of_defects_is_kept_and_good_parts_are_good() -> None:
    truth = simulated.truth("simulated://plate?defects=0.1&seed=9")
    bad = sum(truth(k).defective for k in range(2000))
    assert 150 < bad < 250
    assert not any(simulated.truth("simulated://plate?defects=0")(k).defective for k in range(200))


def test_another_share_of_defects_changes_nothing_else() -> None:
    few, many = Conveyor("plate", 0, 0.1), Conveyor("plate", 0, 0.9)
    both = [k for k in range(60) if not many.truth(k).defective]
    assert both
    assert all(not few.truth(k).defective for k in both)
    for k in both:
        np.testing.assert_array_equal(few.image(k), many.image(k))


def test_shots_come_on_an_absolute_schedule() -> None:
    """The reader's work does not shift the camera's schedule."""
    clock = Clock()
    camera = drivers.open("simulated://plate?fps=10&size=96x96", clock, clock.sleep)
    camera.open()
    start = clock.now
    for k in range(50):
        shot = camera.read(1.0)
        assert shot is not None
        assert shot.captured_ns == start + k * 100_000_000
        assert shot.device_frame == k
        assert shot.missed == 0
        clock.sleep(0.03)


def test_a_read_gives_up_when_asked() -> None:
    clock = Clock()
    camera = drivers.open("simulated://plate?fps=1&size=96x96", clock, clock.sleep)
    camera.open()
    assert camera.read(0.1) is not None
    before = clock.now
    assert camera.read(0.25) is None
    assert clock.now - before == 250_000_000
    assert camera.read(1.0) is not None


def test_a_late_reader_is_told_what_it_missed() -> None:
    """Each part gets one verdict: parts that were not read are counted, buffered parts keep their old
    time."""
    clock = Clock()
    camera = drivers.open("simulated://plate?fps=10&count=50&size=96x96", clock, clock.sleep)
    camera.open()
    assert camera.read(1.0) is not None
    clock.sleep(3.0)
    seen, missed = 1, 0
    while True:
        try:
            shot = camera.read(1.0)
        except drivers.SourceEnded:
            break
        assert shot is not None
        if seen == 1:
            assert shot.missed == 22
            assert clock.now - shot.captured_ns == 700_000_000
        seen, missed = seen + 1, missed + shot.missed
    assert seen + missed == 50


def test_reading_costs_the_line_little() -> None:
    camera = drivers.open("simulated://bottle-top?fps=1000&count=300&defects=0.2")
    camera.open()
    before = camera.read(1.0)
    assert before is not None
    import time

    began = time.process_time()
    shots = 0
    while shots < 100:
        shots += camera.read(1.0) is not None
    # It takes 0.3 ms on the machine where it was measured. A busy machine may take several times as long.
    assert (time.process_time() - began) / shots < 0.01


def test_close_is_harmless_at_any_time() -> None:
    camera = drivers.open("simulated://plate?size=96x96")
    camera.close()
    camera.open()
    camera.close()
    camera.close()
    with pytest.raises(drivers.CameraError):
        camera.read(0.1)
