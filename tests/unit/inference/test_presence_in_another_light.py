"""An accepted gate calls no good part empty in any light, and it never calls a dark image empty."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drivers.image_file import Image
from monitor.images.preprocessing import resize_image
from monitor.inference.presence import PresenceGate, average_cells, learn_gate
from monitor.model.recipe_json import Presence
from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe
from monitor.training.presence_training import PresenceError, check_without_parts, compare_with_parts
from tests.real.parts import random_recipe, save
from tests.real.small_training import train

HIGH, WIDE = 96, 128
NO_GATE = "train without --empty"


@dataclass(frozen=True)
class Scene:
    """A round part on a belt. The grey levels are those in normal light."""

    belt: float
    part: float
    reach: int = 30
    """The part's radius in pixels; 90 fills the frame."""
    noise: float = 2.0
    flicker: float = 0.0
    """The standard deviation of the light from image to image, as a share of it."""
    colour: bool = True

    def image(self, seed: int, *, part: bool, light: float = 1.0, defect: bool = False) -> Image:
        rng = np.random.default_rng((seed, part))
        shape = (HIGH, WIDE, 3) if self.colour else (HIGH, WIDE)
        pixels = np.full(shape, self.belt, np.float64)
        if part:
            cv2.circle(pixels, (WIDE // 2, HIGH // 2), self.reach, (self.part,) * 3, -1)
        if defect:
            cv2.line(pixels, (54, 40), (74, 56), (250,) * 3, 3)
        pixels *= light * rng.normal(1, self.flicker)
        return np.asarray(np.clip(np.round(pixels + rng.normal(0, self.noise, shape)), 0, 255), np.uint8)

    def empties(self, count: int = 20) -> Presence:
        images = [self.image(number, part=False) for number in range(count)]
        return learn_gate(np.stack([average_cells(resized(image)) for image in images]), images[0].shape)

    def gate(self) -> Presence:
        """The gate, compared with good parts. Raises PresenceError."""
        shown = [(number, self.image(number, part=True)) for number in range(8)]
        return compare_with_parts(
            self.empties(), [(Path(f"{n}.png"), one.shape, resized(one)) for n, one in shown], NO_GATE
        )


def resized(image: Image) -> Image:
    return resize_image(image, (64, 64))


def is_empty(gate: PresenceGate, image: Image) -> bool:
    return gate.is_empty(image, resized(image))


ORDINARY = Scene(belt=60, part=150)


@settings(max_examples=25, deadline=None)
@given(
    belt=st.integers(0, 255),
    contrast=st.integers(-200, 200),
    reach=st.sampled_from([8, 30, 90]),
    noise=st.floats(0, 4),
    flicker=st.sampled_from([0.0, 0.02, 0.1, 0.2]),
    colour=st.booleans(),
)
def test_no_good_part_is_empty_to_an_accepted_gate_in_whatever_light(
    belt: int, contrast: int, reach: int, noise: float, flicker: float, colour: bool
) -> None:
    scene = Scene(belt, min(max(belt + contrast, 0), 255), reach, noise, flicker, colour)
    try:
        gate = PresenceGate(scene.gate())
    except PresenceError:
        assume(False)
    steady = replace(scene, flicker=0.0)
    for number, light in enumerate([*np.arange(0, 1.6, 0.02), *np.arange(1.6, 8, 0.2), 100]):
        assert not is_empty(gate, steady.image(1000 + number, part=True, light=float(light))), light
        if light in (0, 100):
            assert not is_empty(gate, steady.image(2000 + number, part=False, light=float(light)))
    for grey in (0, 255):
        assert not is_empty(gate, np.full_like(scene.image(0, part=True), grey))


@pytest.mark.parametrize(
    ("scene", "why"),
    [
        (Scene(belt=2, part=150), "all black, as when the lamp fails"),
        (Scene(belt=7, part=150, noise=0.5), "all black"),
        (Scene(belt=2, part=150, colour=False), "all black"),
        (Scene(belt=252, part=100), "all white, as when far too much light falls on it"),
        (Scene(belt=255, part=20), "all white"),
        (Scene(belt=60, part=250, flicker=0.2), "all black"),
    ],
)
def test_a_place_that_looks_like_no_light_or_too_much_makes_no_gate(scene: Scene, why: str) -> None:
    with pytest.raises(PresenceError, match=why) as refusal:
        scene.gate()
    assert str(refusal.value).endswith(f"keep the light steady, or {NO_GATE}")
    if scene.flicker == 0:
        with pytest.raises(PresenceError, match=why):
            check_without_parts(scene.empties())


@pytest.mark.parametrize(
    ("scene", "light"),
    [
        (Scene(belt=100, part=200, reach=90), "5[0-2]%"),
        (Scene(belt=200, part=50, reach=90), "(38|39|40)[0-9]%"),
        (Scene(belt=40, part=49.5, noise=0.2), "9[0-9]%"),
        (Scene(belt=100, part=255, reach=90), "4[0-2]%"),
    ],
)
def test_parts_that_the_empty_place_in_another_light_looks_like_make_no_gate(
    scene: Scene, light: str
) -> None:
    """The part fills the frame, so nothing else shows the light; or the part hardly differs from the belt."""
    with pytest.raises(
        PresenceError, match=rf"8 of 8 .* in another light: 0\.png at {light} of the light, \.\.\.:"
    ) as refusal:
        scene.gate()
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(NO_GATE)


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("flicker", [0.0, 0.02])
@pytest.mark.parametrize("noise", [0.3, 4.0])
@pytest.mark.parametrize("belt", [25, 60, 130, 180])
def test_an_ordinary_belt_makes_a_gate(belt: int, noise: float, flicker: float, colour: bool) -> None:
    """The parts are small or large, and not much brighter or darker than the belt."""
    contrast = 30 + belt // 4
    for part in (belt - contrast, belt + contrast):
        for reach in (8, 30, 55):
            if 0 <= part <= 255:
                gate = Scene(belt, part, reach, noise, flicker, colour).gate()
                assert gate.parts == 8
    assert check_without_parts(Scene(belt, belt, 8, noise, flicker, colour).empties()).parts == 0


def test_a_clipped_part_that_fills_the_frame_is_not_thought_to_be_as_bright_as_white() -> None:
    """Dimmed to 40 %, the part may be brighter than 100 grey levels, because only its image was clipped at
    255."""
    gate = PresenceGate(Scene(belt=100, part=255, reach=90).empties())
    lamp = gate.nearest_light_factor(resized(np.full((HIGH, WIDE, 3), 255, np.uint8)), 1.25)
    assert lamp is not None
    scene = Scene(belt=100, part=400, reach=90)
    assert is_empty(gate, scene.image(1, part=True, light=0.25))


def save_scene(folder: Path, scene: Scene, *, part: bool, count: int) -> Path:
    for number in range(count):
        save(folder / f"{number:03d}.png", scene.image(number, part=part))
    return folder


def test_parts_on_a_black_belt_train_no_gate_for_a_lamp_that_may_fail(tmp_path: Path) -> None:
    black = Scene(belt=2, part=150)
    good = save_scene(tmp_path / "good", black, part=True, count=10)
    empty = save_scene(tmp_path / "empty", black, part=False, count=10)
    with pytest.raises(PresenceError, match="all black, as when the lamp fails") as refusal:
        train(tmp_path, good, empty=empty)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "recipes/disc").exists()
    recipe = random_recipe(tmp_path / "r").folder
    with pytest.raises(PresenceError, match="all black"):
        calibrate_recipe(CalibrationRequest(recipe=recipe, images=None, empty=empty), say=print)
    with pytest.raises(PresenceError, match="all black"):
        calibrate_recipe(CalibrationRequest(recipe=recipe, images=good, empty=empty), say=print)


def test_a_dead_lamp_is_scored_by_an_ordinary_gate() -> None:
    gate = PresenceGate(ORDINARY.gate())
    assert is_empty(gate, ORDINARY.image(500, part=False))
    for defect in (False, True):
        assert not is_empty(gate, ORDINARY.image(500, part=True, light=0.0, defect=defect))
