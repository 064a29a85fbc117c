"""The size follows from the images' shapes, the smallest defect, the deadline and the teacher alone."""

from __future__ import annotations

import math

import pytest

from monitor.commands.bench.scoring import operations
from monitor.images.preprocessing import Size
from monitor.model.recipe_json import MAX_SIDE, MAX_TILE_SIDE, make_grid, make_tiles, size_problem
from monitor.teachers.architectures import LEVELS, build_trunk
from monitor.training.image_size import (
    DEADLINE_SHARE,
    GIGA_OPERATIONS,
    LONG_PIXELS,
    SQUARE_PIXELS,
    ChosenSize,
    affordable_pixels,
    choose_size,
    explain_scale,
    explain_spread,
    keeps_shape,
    needed_ms,
    scale,
    typical_shape,
)

SHAPES = [
    (1, 1),
    (20, 20),
    (128, 128),
    (257, 256),
    (460, 1130),
    (1130, 460),
    (3000, 4000),
    (100, 6000),
    (6000, 3),
    (9000, 9000),
]


def choose(
    *shapes: Size,
    defect: float | None = None,
    deadline_ms: float | None = None,
    architecture: str = "resnet18",
) -> ChosenSize:
    return choose_size(shapes, smallest_defect=defect, deadline_ms=deadline_ms, architecture=architecture)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1080, 1080), (256, 256)),
        ((257, 256), (256, 256)),
        ((328, 266), (256, 256)),
        ((1024, 1280), (256, 256)),
        ((1200, 1600), (224, 304)),
        ((1080, 1920), (208, 368)),
        ((1920, 1080), (368, 208)),
        ((460, 1130), (208, 512)),
        ((1000, 4000), (192, 768)),
        ((100, 6000), (80, 2048)),
    ],
)
def test_the_size_keeps_the_shape_and_grows_with_its_length(shape: Size, size: Size) -> None:
    assert choose(shape).size == size


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("defect", [None, 1, 5, 50])
@pytest.mark.parametrize("deadline_ms", [None, 10, 100, 10_000])
@pytest.mark.parametrize("architecture", ["resnet18", "squeezenet1_1", "wide_resnet50_2"])
def test_every_size_can_be_trained_and_has_sides_in_steps(
    shape: Size, defect: float | None, deadline_ms: float | None, architecture: str
) -> None:
    chosen = choose(shape, defect=defect, deadline_ms=deadline_ms, architecture=architecture)
    assert not size_problem(chosen.size, chosen.tiles)
    tile = make_grid(chosen.size, chosen.tiles).tile
    for side in (*chosen.size, *tile):
        assert side >= 64
        assert side % 16 == 0
    limit = affordable_pixels(architecture, deadline_ms)
    assert math.prod(tile) <= max(limit, SQUARE_PIXELS)
    if defect is None:
        assert chosen.tiles is None
        assert math.prod(chosen.size) <= max(limit, 64 * 64)
        assert math.prod(chosen.size) <= 1.1 * LONG_PIXELS
    assert "\n" not in chosen.reason


@pytest.mark.parametrize(("side", "expected"), [(128, 256), (100, 208), (64, 128), (20, 64)])
def test_small_images_are_enlarged_by_two_at_most_but_to_a_least_side(side: int, expected: int) -> None:
    assert choose((side, side)).size == (expected, expected)


def test_a_short_deadline_makes_the_size_smaller_and_a_long_one_does_not_make_it_larger() -> None:
    assert choose((1000, 1000), deadline_ms=250).size == choose((1000, 1000)).size == (256, 256)
    assert choose((1000, 1000), deadline_ms=60_000).size == (256, 256)
    short = choose((1000, 1000), deadline_ms=60)
    assert needed_ms(math.prod(short.size), "resnet18") <= DEADLINE_SHARE * 60
    assert short.size == (192, 192)
    assert "limited by the 24 ms that a camera's deadline of 60 ms leaves" in short.reason
    assert "limited" not in choose((1000, 1000)).reason


def test_a_slow_teacher_costs_no_pixels_where_no_camera_sets_a_deadline() -> None:
    assert choose((1000, 1000), architecture="wide_resnet50_2").size == (256, 256)
    assert "limited by the 100 ms" in choose((1000, 4000), architecture="wide_resnet50_2").reason
    assert choose((1000, 1000), architecture="wide_resnet50_2", deadline_ms=250).size == (144, 144)


@pytest.mark.parametrize("architecture", LEVELS)
def test_the_operations_are_those_of_teacher_and_student(architecture: str) -> None:
    counted = 2 * operations(build_trunk(architecture).eval(), 256) / 1e9
    assert GIGA_OPERATIONS[architecture] == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("defect", [4, 6, 10, 15, 20])
@pytest.mark.parametrize("shape", [(480, 640), (460, 1130), (1500, 500)])
def test_the_smallest_defect_gets_a_cell_of_the_second_level(shape: Size, defect: float) -> None:
    chosen = choose(shape, defect=defect)
    assert scale(shape, chosen.size) * defect >= 8
    grid = make_grid(chosen.size, chosen.tiles)
    if chosen.tiles is not None:
        assert math.prod(chosen.size) > affordable_pixels("resnet18", None)
        ms = needed_ms(len(grid) * math.prod(grid.tile), "resnet18")
        assert (
            f"; {len(grid)} tiles of {grid.tile[1]}x{grid.tile[0]} take about {ms:,.0f} ms" in chosen.reason
        )


def test_a_large_smallest_defect_leaves_the_usual_size() -> None:
    assert choose((460, 1130), defect=100) == choose((460, 1130))


def test_time_for_more_pixels_is_used_whole_before_images_are_cut() -> None:
    assert choose((460, 1130), defect=10).tiles is not None
    with_time = choose((460, 1130), defect=10, deadline_ms=1000)
    assert with_time.size == (368, 912)
    assert with_time.tiles is None
    assert "take" not in with_time.reason
    wide = choose((460, 5000), defect=10, deadline_ms=600_000)
    assert wide.tiles is not None, "one input has a largest side"
    assert wide.tiles.columns <= MAX_TILE_SIDE
    assert "take" not in wide.reason


def test_a_defect_that_cannot_get_enough_pixels_is_named_with_the_reason() -> None:
    assert (
        "a defect of 1 pixel becomes 2.0 instead of 8, because images are enlarged by at most 2"
        in choose((256, 256), defect=1).reason
    )
    huge = choose((6000, 9000), defect=2)
    assert max(huge.size) == MAX_SIDE
    assert "because a side has at most 8192" in huge.reason


def test_the_users_own_tiles_stay() -> None:
    tiles = make_tiles((128, 128))
    for defect in (None, 5):
        chosen = choose_size(
            [(460, 1130)], smallest_defect=defect, deadline_ms=None, architecture="resnet18", tiles=tiles
        )
        assert chosen.tiles == tiles
        assert chosen.size == choose((460, 1130), defect=defect).size


def test_the_typical_shape_is_the_median_one() -> None:
    assert typical_shape([(100, 200), (100, 210), (300, 100)]) == (102, 205)
    assert typical_shape([(100, 200)] * 3 + [(4000, 4000)]) == (100, 200)
    assert choose((100, 200), (4000, 100), (100, 200)).size == choose((100, 200)).size


def test_one_line_says_what_small_defects_become() -> None:
    line = explain_scale([(460, 1130)], (208, 512), smallest_defect=None)
    assert line.startswith("a defect of 4, 8, 16 pixels becomes 1.8, 3.6, 7.2 pixels for the network")
    assert "give --smallest-defect PX" in line
    assert "give" not in explain_scale([(460, 1130)], (208, 512), smallest_defect=20)
    assert "give" not in explain_scale([(128, 128)], (256, 256), smallest_defect=None), "nothing helps"


def test_images_that_are_squashed_are_counted() -> None:
    assert explain_spread([(100, 100), (100, 140)], (256, 256)) == ""
    assert "2 of 3 are squashed by more than 1.5" in explain_spread(
        [(100, 100), (100, 160), (160, 100)], (256, 256)
    )


def test_a_size_keeps_a_shape_that_it_changes_little() -> None:
    assert keeps_shape([(460, 1130)], (192, 448))
    assert not keeps_shape([(460, 1130)], (256, 256))
