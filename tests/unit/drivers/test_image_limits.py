"""What a decoder says is one line; a size that no image has is refused."""

from __future__ import annotations

import pytest

from drivers.image_limits import MAX_PIXELS, ImageError, check_size, damaged


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("broken\n  chunk", "broken chunk"),
        ("tag \x1b[2J\x00", "tag ?[2J?"),
        ("", "its header can't be read"),
        ("not identified by this driver", "its header can't be read"),
        ("x" * 1000, "x" * 200),
    ],
)
def test_what_a_decoder_says_becomes_one_line(said: str, shown: str) -> None:
    assert str(damaged(ValueError(said))) == f"the file is damaged ({shown})"


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (MAX_PIXELS, 1), (1 << 14, 1 << 14), (14192, 10640)])
def test_a_size_up_to_the_limit_is_taken(columns: int, rows: int) -> None:
    check_size(columns, rows)


@pytest.mark.parametrize(("columns", "rows"), [(0, 1), (1, 0), (-1, 5), (MAX_PIXELS + 1, 1), (2**31, 2**31)])
def test_any_other_size_is_refused_with_the_fix(columns: int, rows: int) -> None:
    with pytest.raises(ImageError, match=f"{columns}x{rows} pixels.*damaged"):
        check_size(columns, rows)
