"""The gate calls an image empty only if every cell looks like the place without a part."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.image_file import Image
from monitor.images.preprocessing import resize_image
from monitor.inference.presence import (
    MIN_EMPTY_IMAGES,
    OUTLIER_DEPARTURE_SD,
    Cells,
    PresenceGate,
    average_cells,
    describe_gate,
    largest_tolerance,
    learn_gate,
    leave_one_out_departures_sd,
    record_parts,
)
from monitor.model.recipe_json import Presence
from tests.real.parts import empty_place, part

SIZE = 64
FRAME = (80, 80, 3)


def resized(image: Image) -> Image:
    return resize_image(image, (SIZE, SIZE))


def stack(count: int, first: int = 0) -> Cells:
    return np.stack([average_cells(resized(empty_place(first + number))) for number in range(count)])


PRESENCE = learn_gate(stack(30), FRAME)
GATE = PresenceGate(PRESENCE)


def is_empty(image: Image) -> bool:
    return GATE.is_empty(image, resized(image))


def test_empty_frames_are_known_and_parts_are_not_empty() -> None:
    assert all(is_empty(empty_place(1000 + number)) for number in range(200))
    assert not any(is_empty(part(number, defect=number % 2 == 0)) for number in range(200))


@settings(max_examples=60, deadline=None)
@given(
    left=st.integers(0, 76), top=st.integers(0, 76), channel=st.integers(0, 2), darker=st.booleans(), seed=...
)
def test_a_shard_anywhere_is_not_empty(left: int, top: int, channel: int, darker: bool, seed: int) -> None:
    """A remnant of a part on one thousandth of the frame, in one colour, is not empty."""
    image = empty_place(abs(seed))
    image[top : top + 3, left : left + 3, channel] = 0 if darker else 200
    assert not is_empty(image)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 3).filter(lambda gain: abs(gain - 1) > 0.25))
def test_another_lamp_is_not_empty(gain: float) -> None:
    image = np.asarray(np.clip(empty_place(3) * gain, 0, 255), np.uint8)
    assert not is_empty(image)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 200), columns=st.integers(1, 200), mono=st.booleans())
def test_what_can_not_be_compared_is_not_empty(rows: int, columns: int, mono: bool) -> None:
    """The same view in another size or colour kind is not empty."""
    image = np.full((rows, columns) if mono else (rows, columns, 3), 40, np.uint8)
    assert is_empty(image) == (image.shape == FRAME)
    if mono:
        assert GATE.departure(resized(image)) == math.inf


@settings(max_examples=60, deadline=None)
@given(
    place=st.integers(0, len(PRESENCE.means) - 1),
    wrong=st.sampled_from(
        [("means", math.nan), ("means", math.inf), ("means", -math.inf), ("deviations", math.nan)]
    ),
)
def test_a_gate_with_a_value_that_is_none_calls_nothing_empty(place: int, wrong: tuple[str, float]) -> None:
    """Loading refuses a recipe with such a gate; this is the second check."""
    what, value = wrong
    values = list(getattr(PRESENCE, what))
    values[place] = value
    gate = PresenceGate(msgspec.structs.replace(PRESENCE, **{what: tuple(values)}))
    image = empty_place(5)
    assert is_empty(image)
    assert not gate.is_empty(image, resized(image))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(MIN_EMPTY_IMAGES, 40), st.floats(0, 12), st.booleans())
def test_whatever_made_the_gate_is_empty_to_it(seed: int, count: int, noise: float, mono: bool) -> None:
    rng = np.random.default_rng(seed)
    frame = (50, 70) if mono else (50, 70, 3)
    images = np.clip(rng.normal(90, noise, (count, *frame)), 0, 255).astype(np.uint8)
    pictures = [resize_image(image, (32, 32)) for image in images]
    gate = PresenceGate(learn_gate(np.stack([average_cells(picture) for picture in pictures]), frame))
    assert all(gate.is_empty(image, picture) for image, picture in zip(images, pictures, strict=True))


@pytest.mark.parametrize("count", [5, 10, 30, 100])
@pytest.mark.parametrize("kind", ["noise", "flicker", "texture"])
def test_a_new_empty_frame_is_hardly_ever_missed(count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    shares = []
    for _ in range(10):
        values = np.repeat(rng.uniform(40, 160, (1, 32, 32)), count + 50, axis=0)
        if kind == "noise":
            values += rng.normal(0, 3, values.shape)
        elif kind == "flicker":
            values *= rng.normal(1, 0.02, (len(values), 1, 1))
        else:
            belt = rng.normal(0, 8, (400, 32))
            values += np.stack([belt[at : at + 32] for at in rng.integers(0, 368, len(values))])
        found = np.clip(np.round(values), 0, 255).astype(np.uint8)
        gate = PresenceGate(learn_gate(found[:count], (32, 32)))
        shares.append(np.mean([not gate.is_empty(one, one) for one in found[count:]]))
    assert np.mean(shares) <= 1 / (count + 1)


def test_leaving_one_out_is_done_as_if_it_had_not_been_there() -> None:
    rng = np.random.default_rng(0)
    empties = rng.integers(0, 256, (7, 32, 32), np.uint8)
    for place, departure in enumerate(leave_one_out_departures_sd(empties)):
        others = PresenceGate(learn_gate(np.delete(empties, place, axis=0), (32, 32)))
        limit = learn_gate(np.delete(empties, place, axis=0), (32, 32)).limit
        assert departure == pytest.approx(others.departure(empties[place]) * limit, rel=1e-2)


def test_a_part_among_the_empty_pictures_stands_out() -> None:
    empties = stack(20)
    assert leave_one_out_departures_sd(empties).max() < OUTLIER_DEPARTURE_SD / 2
    empties[7] = average_cells(resized(part(1)))
    assert leave_one_out_departures_sd(empties).argmax() == 7
    assert leave_one_out_departures_sd(empties).max() > OUTLIER_DEPARTURE_SD


def test_too_few_pictures_make_no_gate() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        learn_gate(stack(4), FRAME)


def test_a_still_place_may_change_a_little() -> None:
    """The light always varies a little, also if a few seconds of images show no variation."""
    still = np.full((5, 32, 32), 128, np.uint8)
    assert largest_tolerance(learn_gate(still, (32, 32))) == 4.0


def test_what_the_gate_is_from_is_said() -> None:
    assert describe_gate(PRESENCE) == "presence gate from 30 empty pictures, never compared with parts"
    compared = record_parts(PRESENCE, [7.5, 12.0])
    assert describe_gate(compared).endswith("the nearest of 2 good parts at 7.5 times its limit")


def test_a_gate_goes_through_json_unchanged() -> None:
    again = msgspec.json.decode(msgspec.json.encode(PRESENCE), type=Presence)
    assert again == PRESENCE
    assert PresenceGate(again).departure(resized(part(3))) == GATE.departure(resized(part(3)))
