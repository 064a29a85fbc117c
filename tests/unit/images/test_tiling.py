"""Tiles cover every pixel of an image, and their maps make one map without seams."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.images.tiling import STEP, Grid, TilingError
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import Tiles, size_problem
from tests.real.parts import draft_recipe

sides = st.integers(32, 700)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    size = (draw(sides), draw(sides))
    tile = (draw(st.integers(32, size[0])), draw(st.integers(32, size[1])))
    return Grid(size, tile, draw(st.integers(0, min(tile) // 2)))


@given(grids())
def test_every_pixel_is_in_a_tile_and_neighbours_overlap_as_asked(grid: Grid) -> None:
    seen = np.zeros(grid.size, int)
    picture = np.arange(grid.size[0] * grid.size[1]).reshape(grid.size)
    for number, (row, column) in enumerate(grid.places):
        tile = grid.cut(picture, number)
        assert tile.shape == grid.tile
        assert tile[0, 0] == picture[row, column]
        seen[row : row + grid.tile[0], column : column + grid.tile[1]] += 1
    assert seen.min() >= 1
    for axis in (0, 1):
        starts = sorted({place[axis] for place in grid.places})
        assert all(b - a <= grid.tile[axis] - grid.overlap for a, b in pairwise(starts))


@given(grids(), st.integers(0, 2**32 - 1))
def test_tiles_of_one_map_make_that_map_again(grid: Grid, seed: int) -> None:
    whole = np.random.default_rng(seed).random(grid.size, np.float32)
    cut = (grid.cut(whole, number) for number in range(len(grid)))  # type: ignore[arg-type]
    assert np.allclose(grid.stitch_maps(cut), whole, rtol=1e-5)


@given(grids())
def test_from_one_tile_to_the_next_the_map_fades(grid: Grid) -> None:
    """Maps of 0 and 1 in turn are the worst case; no step in the whole map exceeds the slope of the fade."""
    numbers = {place: number for number, place in enumerate(grid.places)}
    rows = sorted({row for row, _ in numbers})
    maps = [np.full(grid.tile, rows.index(row) % 2, np.float32) for row, _ in grid.places]
    step = np.abs(np.diff(grid.stitch_maps(maps), axis=0))
    if grid.overlap >= 8 and len(rows) > 1:
        assert step.max() <= 3 / grid.overlap + 1e-5


def test_what_a_tile_sees_at_its_border_counts_for_nothing_where_another_sees_further() -> None:
    grid = Grid((256, 640), (256, 256), 64)
    border = np.zeros(grid.tile, np.float32)
    border[:, :12] = border[:, -12:] = 1
    inner = grid.stitch_maps([border] * len(grid))[:, 16:-16]
    assert inner.max() < 1e-4


def test_tiles_begin_where_the_network_s_coarsest_places_begin() -> None:
    grid = Grid((2048, 2432), (512, 512), 64)
    assert {row % STEP for row, _ in grid.places} == {column % STEP for _, column in grid.places} == {0}


@pytest.mark.parametrize(
    ("size", "tile", "overlap", "message"),
    [
        ((256, 256), (512, 512), 64, "tiles of 512x512 are larger than the 256x256"),
        ((1024, 1024), (256, 512), 129, "overlap by 129 pixels: use 0 to 128"),
        ((1024, 1024), (256, 256), -1, "overlap by -1 pixels"),
    ],
)
def test_tiles_that_cannot_be_are_named(
    size: tuple[int, int], tile: tuple[int, int], overlap: int, message: str
) -> None:
    with pytest.raises(TilingError, match=message):
        Grid(size, tile, overlap)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_no_recipe_has_tiles_with_a_gap_between_them(size: tuple[int, int]) -> None:
    assert "use 0 or more" in size_problem(size, Tiles(rows=64, columns=64, overlap=-5))


def test_seams_leave_no_trace_in_a_real_network_s_map(tmp_path: Path) -> None:
    """For an even texture, the map's level and its local changes are the same near seams and between them."""
    tiles = Tiles(rows=128, columns=128, overlap=32)
    recipe = draft_recipe(tmp_path / "r", "resnet18", size=(128, 704), tiles=tiles)
    scorer = Scorer(recipe, device="cpu", runtime="torch")
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (128, 704, 3), dtype=np.uint8) for _ in range(12)]
    maps = np.stack([result.anomaly_map for result in scorer.score(frames)])
    level, change = maps.mean(axis=(0, 1)), np.abs(np.diff(maps, axis=2)).mean(axis=(0, 1))
    seam = np.zeros(704, bool)
    for column in {column for _, column in recipe.grid.places} - {0}:
        seam[column : column + 32] = True
    inner = np.zeros(704, bool)
    inner[64:-64] = True
    for along in (level, change):
        near, between = along[seam[: len(along)]], along[(inner & ~seam)[: len(along)]]
        assert near.mean() / between.mean() == pytest.approx(1, abs=0.1)
