"""What a training is asked for: images, teacher, size, and what is made from them.

It knows nothing of how a recipe is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from monitor.images.preprocessing import Size, as_size
from monitor.images.tiling import Grid
from monitor.model.recipe_json import (
    Roi,
    Tiles,
    make_grid,
)
from monitor.training.automatic_size import AutomaticSize
from monitor.training.compare import Compare

Say = Callable[[str], None]
"""Prints a line for a person."""


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What to train, from what, and how."""

    name: str
    """The recipe's name."""
    recipes: Path
    """The folder of all recipes; the recipe is committed to `recipes`/`name`."""
    images: Path
    """The folder of good images, at any depth."""
    empty: Path | None = None
    """A folder of images of the empty place, without a part, for a presence gate."""
    teacher: str | None
    """The teacher's name, as in `monitor.teachers.architectures.find_teacher`."""
    teacher_weights: Path | None
    """A file with the teacher's weights."""
    teachers: Path
    """The folder with files of teachers' weights."""
    size: int | Size = 256
    """The size to which images are resized, unless `automatic_size` asks for another."""
    automatic_size: AutomaticSize | None = None
    """Not None: the size is found from the images, with tiles where needed."""
    tiles: Tiles | None = None
    """The tiles into which resized images are cut."""
    epochs: int | None = None
    """None: as many as are usual for the mode and the number of images (`monitor.training.learning_rate`)."""
    overkill: float = 0.01
    """The share of good parts that may be rejected."""
    seed: int = 0
    device: str = "auto"
    as_paper: bool = False
    """The paper's split, batches of 32, optimiser and selection of the student, and no channel scaling."""
    int8: bool = False
    """Adds a model in 8-bit integers."""
    compare: Compare = Compare.STUDENT
    """What an image is compared with. The paper's mode has a student alone."""
    part_of: str | None = None
    """A regular expression that finds a part's name in an image's path (`monitor.training.parts`)."""
    extrapolate: bool = False
    """Allows a threshold above every good image where there are too few for the guarantee."""
    leave_out: tuple[Path, ...] = ()
    """Images of `images` that a person leaves out."""
    bad_by: str = ""
    """Who calls them bad parts; empty: they count as good parts that are rejected."""
    bad_reason: str = ""
    defects: Path | None = None
    """A folder of images of known bad parts: they state what passes, and never train."""
    who: str = ""
    """Who trains, for the version's lineage."""
    roi: Roi | None = None
    """The region of interest, which is only recorded: the images were cut to it when they were collected."""

    @property
    def grid(self) -> Grid:
        """The tiles of a resized image; one tile is the whole image."""
        return make_grid(as_size(self.size), self.tiles)
