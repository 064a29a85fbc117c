"""How a memory of good features compares one level of the teacher, as `recipe.json` records it.

It imports no torch and knows nothing of the features themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec


class MemoryLevel(msgspec.Struct, frozen=True, kw_only=True):
    """Over which squares a level is averaged, in places of the level, and how much its distance counts."""

    side: Annotated[int, msgspec.Meta(ge=1, le=64)]
    stride: Annotated[int, msgspec.Meta(ge=1, le=64)]
    square_roots: Annotated[int, msgspec.Meta(ge=0, le=8)]
    """How many square roots are taken of the squared distance before the levels are multiplied: 2 is the
    exponent 1/4."""
    smallest: Annotated[float, msgspec.Meta(ge=0, lt=4)] = 0.0
    """Smaller squared distances count as this one. Roots make differences near 0 large: without a bound,
    rounding alone would move a map by more than runtimes may differ."""


_SMALLEST = 1e-4
"""Float32 knows squared distances of vectors of length 1 to about 1e-6."""
MEMORY_LEVELS = (
    MemoryLevel(side=6, stride=2, square_roots=2, smallest=_SMALLEST),
    MemoryLevel(side=3, stride=1, square_roots=1, smallest=_SMALLEST),
    MemoryLevel(side=5, stride=1, square_roots=0),
)
"""The levels 1, 2 and 3 of a new memory (`tests/benchmarks/README.md`). Level 1 is averaged to the places of
level 2, over the same part of the image."""
FIRST_MEMORY_LEVELS = (
    MemoryLevel(side=6, stride=2, square_roots=2),
    MemoryLevel(side=3, stride=1, square_roots=0),
    MemoryLevel(side=3, stride=1, square_roots=0),
)
"""The levels in the first recipes that compare them apart, whose `recipe.json` does not describe them."""


def are_complete(levels: Sequence[MemoryLevel]) -> bool:
    """Whether these describe the three levels, with squares that lie evenly around their places."""
    return len(levels) == len(MEMORY_LEVELS) and all(
        level.side >= level.stride and (level.side - level.stride) % 2 == 0 for level in levels
    )


def farthest_product(levels: Sequence[MemoryLevel]) -> float:
    """The largest value of such a memory's map: the squared distance of two vectors of length 1 is at most 4,
    and a projection makes no distance longer."""
    return float(4 ** sum(0.5**level.square_roots for level in levels))
