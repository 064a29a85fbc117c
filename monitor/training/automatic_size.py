"""Finds the size of a recipe's images where the user gives none: reads some images and the recipe before.

It knows nothing of the rule itself (`monitor.training.image_size`) nor of what the images train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from drivers import image_file
from drivers.image_file import ImageError
from monitor.images.preprocessing import Size, as_size
from monitor.images.tiling import format_size
from monitor.model.recipe_json import Document, RecipeError, Tiles, size_problem
from monitor.model.recipe_version import RecipeVersion
from monitor.training.image_size import ChosenSize, choose_size, explain_scale, explain_spread, keeps_shape
from monitor.training.loop import TrainingError

LOOKED_AT = 20
"""The number of images whose shapes decide, evenly spread over the files."""


@dataclass(frozen=True)
class AutomaticSize:
    """Asks for a size that fits the images."""

    smallest_defect: float | None = None
    """The smallest defect that matters, in pixels of the images."""
    deadline_ms: float | None = None
    """The shortest deadline of the cameras that use the recipe; None: there is no such camera."""


def find_size(
    files: Sequence[Path],
    recipe: Path,
    wish: AutomaticSize,
    *,
    architecture: str,
    tiles: Tiles | None,
    say: Callable[[str], None],
) -> tuple[ChosenSize, AutomaticSize] | None:
    """The size for the images of `files`, and the wish that it fulfils; None if no image can be read.

    The recipe that is in the folder `recipe` keeps its size if that was found like this for the same smallest
    defect and fits the images. `tiles` are the user's own. `say` gets lines about size and defects. Raises
    TrainingError for tiles that don't fit the size.
    """
    shapes = list(islice(_shapes(files), LOOKED_AT))
    if not shapes:
        return None
    chosen = None
    if (before := _document(recipe)) and (kept := _kept_wish(before, wish, tiles, shapes)):
        wish = kept
        chosen = _size_of(before)
    if chosen is None:
        chosen = choose_size(
            shapes,
            smallest_defect=wish.smallest_defect,
            deadline_ms=wish.deadline_ms,
            architecture=architecture,
            tiles=tiles,
        )
    if problem := size_problem(chosen.size, chosen.tiles):
        raise TrainingError(f"{problem}, or give --size")
    say(chosen.reason)
    say(explain_scale(shapes, chosen.size, smallest_defect=wish.smallest_defect))
    if spread := explain_spread(shapes, chosen.size):
        say(spread)
    return chosen, wish


def _shapes(files: Sequence[Path]) -> Iterator[Size]:
    """The shapes of the images that can be read: first of some that are evenly spread, then of the others.

    Files that can't be read are passed over without a line: whoever reads all files reports them.
    """
    count = min(len(files), LOOKED_AT)
    first = dict.fromkeys(len(files) * number // count for number in range(count))
    for index in (*first, *(index for index in range(len(files)) if index not in first)):
        try:
            rows, columns = image_file.read(files[index]).shape[:2]
        except ImageError:
            continue
        yield rows, columns


def _document(recipe: Path) -> Document | None:
    """The document of the recipe in that folder; None if there is none that can be used."""
    try:
        return RecipeVersion.load(recipe).document
    except RecipeError:
        return None


def _kept_wish(
    before: Document, wish: AutomaticSize, tiles: Tiles | None, shapes: Sequence[Size]
) -> AutomaticSize | None:
    """The wish that the size of the recipe before fulfils, if that size may be kept; else None."""
    training = before.training
    if training is None or not training.automatic_size or tiles not in (None, before.tiles):
        return None
    if wish.smallest_defect not in (None, training.smallest_defect):
        return None
    if not keeps_shape(shapes, _size_of(before).size):
        return None
    return replace(wish, smallest_defect=training.smallest_defect)


def _size_of(document: Document) -> ChosenSize:
    size = as_size(document.size)
    tiles = document.tiles
    cut = f" in tiles of {format_size((tiles.rows, tiles.columns))}" if tiles else ""
    reason = (
        f"size {format_size(size)} (width x height){cut}, as in the recipe that is there; --size sets another"
    )
    return ChosenSize(size, tiles, reason)
