"""How a memory of good features compares one level of a teacher, as `recipe.json` records it.

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
    level: Annotated[int, msgspec.Meta(ge=0, le=5)] = 0
    """1 to 3 are the levels of the recipe's teacher, 4 and 5 those of the memory's own teacher; 0, in the
    first recipes, is its place in the list."""
    smallest: Annotated[float, msgspec.Meta(ge=0, lt=4)] = 0.0
    """Smaller squared distances count as this one. Roots make differences near 0 large: without a bound,
    rounding alone would move a map by more than runtimes may differ."""


_SMALLEST = 1e-4
"""Float32 knows squared distances of vectors of length 1 to about 1e-6."""
MEMORY_LEVELS = (
    MemoryLevel(level=2, side=4, stride=2, square_roots=2, smallest=_SMALLEST),
    MemoryLevel(level=3, side=5, stride=1, square_roots=1, smallest=_SMALLEST),
    MemoryLevel(level=4, side=3, stride=1, square_roots=1, smallest=_SMALLEST),
    MemoryLevel(level=5, side=3, stride=1, square_roots=1, smallest=_SMALLEST),
)
"""The levels of a new memory (`tests/benchmarks/README.md`). Level 2 is averaged to about the places of level
3 and counts less than the others."""
FIRST_MEMORY_LEVELS = (
    MemoryLevel(side=6, stride=2, square_roots=2),
    MemoryLevel(side=3, stride=1, square_roots=0),
    MemoryLevel(side=3, stride=1, square_roots=0),
)
"""The levels in the first recipes that compare them apart, whose `recipe.json` does not describe them."""


def numbers_of(levels: Sequence[MemoryLevel]) -> list[int]:
    """Which level each of these describes, from 1."""
    return [level.level or place for place, level in enumerate(levels, start=1)]


def are_complete(levels: Sequence[MemoryLevel], *, own_teacher: bool) -> bool:
    """Whether they name all levels of one kind of memory, and all squares lie evenly around their places.

    `own_teacher` says whether the memory has a teacher of its own.
    """
    known = MEMORY_LEVELS if own_teacher else FIRST_MEMORY_LEVELS
    return numbers_of(levels) == numbers_of(known) and all(
        level.side >= level.stride and (level.side - level.stride) % 2 == 0 for level in levels
    )


def farthest_product(levels: Sequence[MemoryLevel]) -> float:
    """The largest value of such a memory's map: the squared distance of two vectors of length 1 is at most 4,
    and a projection makes no distance longer."""
    return float(4 ** sum(0.5**level.square_roots for level in levels))
