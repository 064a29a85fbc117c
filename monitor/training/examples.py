"""The good images that a recipe is trained on: read once, resized, cut into tiles, and split by use.

It knows nothing of networks, losses or thresholds. An image is what a file holds; a picture is that image at
the recipe's size, as the network gets it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivers import image_file
from drivers.image_file import Image, ImageError
from monitor.images import preprocessing
from monitor.images.preprocessing import IndexedImages, Size
from monitor.images.tiling import Grid
from monitor.system.memory import usable_memory
from monitor.system.progress import Progress
from monitor.training.compare import Compare
from monitor.training.loop import TrainingError
from monitor.training.parts import Thumbnail, make_thumbnail
from monitor.training.readable_images import content_mark, find_image_files, read_with_progress, report_copies
from monitor.training.thresholds import images_needed, useful_parts

FEWEST_IMAGES = 3
"""The split needs one image for each of its three uses."""
_PICTURE_BYTES = 2 << 30
"""Resized pictures are kept in memory up to this (10,000 pictures of 256x256 pixels) and up to a quarter of
the machine's memory. The others are read from their files again in every epoch."""


@dataclass(frozen=True)
class Split:
    """Indices of the images by their use. No image has two uses, except in the paper's split."""

    train: tuple[int, ...]
    select: tuple[int, ...]
    calibrate: tuple[int, ...]


class Examples:
    """The usable images of a folder by index, resized to the recipe's size."""

    def __init__(self, size: Size, memory_bytes: int) -> None:
        """As many pictures as fit into `memory_bytes` are kept in memory."""
        self.files: list[Path] = []
        self.shapes: list[tuple[int, ...]] = []
        """The shape of each image before it was resized."""
        self.marks: list[str] = []
        self.thumbnails: list[Thumbnail] = []
        self.skipped = 0
        """How many files of the folder could not be read."""
        self._size = size
        self._kept: dict[int, Image] = {}
        self._kept_bytes = 0
        self._memory_bytes = memory_bytes

    def __len__(self) -> int:
        return len(self.files)

    def add(self, file: Path, content: bytes, image: Image) -> None:
        """`image` is the decoded `content`, uint8 (H, W, 3) BGR or (H, W) mono."""
        picture = preprocessing.resize_image(image, self._size)
        if self._kept_bytes + picture.nbytes <= self._memory_bytes:
            self._kept[len(self.files)] = picture
            self._kept_bytes += picture.nbytes
        self.files.append(file)
        self.shapes.append(image.shape)
        self.marks.append(content_mark(content))
        self.thumbnails.append(make_thumbnail(image))

    def __getitem__(self, index: int, /) -> Image:
        """Raises TrainingError if the file was readable before and is not any more."""
        if index in self._kept:
            return self._kept[index]
        try:
            return preprocessing.resize_image(image_file.read(self.files[index]), self._size)
        except ImageError as error:
            raise TrainingError(f"{self.files[index]}: {error}, during the training on it") from None


class TilePictures:
    """Every tile of every picture by index. The tiles of one picture have consecutive indices."""

    def __init__(self, pictures: IndexedImages, grid: Grid) -> None:
        self._pictures, self._grid = pictures, grid

    def __getitem__(self, index: int, /) -> Image:
        picture, tile = divmod(index, len(self._grid))
        return self._grid.cut(self._pictures[picture], tile)

    def indices(self, pictures: Sequence[int], seed: int) -> tuple[int, ...]:
        """The indices of all tiles of these pictures.

        They keep the pictures' order where each picture is one tile. Otherwise they are shuffled, so that the
        first few do not all come from one picture.
        """
        count = len(self._grid)
        if count == 1:
            return tuple(pictures)
        together = [picture * count + tile for picture in pictures for tile in range(count)]
        return tuple(int(i) for i in np.random.default_rng(seed).permutation(together))


def split_images(
    parts: Sequence[int],
    seed: int,
    *,
    as_paper: bool = False,
    compare: Compare = Compare.STUDENT,
    overkill: float = 0.01,
    left_out: int = 0,
) -> Split:
    """Splits images at random by their use. `parts` has, by image, the number of the part that it shows;
    `left_out` is as in `make_calibration`.

    A tenth select the student and fix the units, at least one. With a student, as many calibrate as the
    guarantee of `overkill` needs, but about a fifth at least and at most half; the rest train. Without a
    student all others may calibrate, because the memory scores each of them without its own features. Where
    each part has one image, just so many of these calibrate that the threshold guarantees `overkill`
    (`useful_parts`); the rest select too. Images of one part have one use. The paper's split is 80 % train
    and 20 % select, and the 20 % calibrate too.

    Raises TrainingError for fewer than 3 images, and for fewer than 3 parts outside the paper's split.
    """
    count = len(parts)
    if count < FEWEST_IMAGES:
        raise TrainingError(
            f"{count} usable images: at least {FEWEST_IMAGES} good images are needed, better 100"
        )
    rng = np.random.default_rng(seed)
    if as_paper:
        order = tuple(int(i) for i in rng.permutation(count))
        # A fifth is rounded up, as in sklearn's train_test_split, which the authors' code calls.
        fifth = math.ceil(round(0.2 * count, 9))
        return Split(train=order[fifth:], select=order[:fifth], calibrate=order[:fifth])
    members: dict[int, list[int]] = {}
    for image, part in enumerate(parts):
        members.setdefault(part, []).append(image)
    if len(members) < FEWEST_IMAGES:
        raise TrainingError(
            f"the {count} images show {len(members)} different parts, counted by --part-of and near copies: "
            f"at least {FEWEST_IMAGES} are needed, better 100"
        )
    drawn = [list(members.values())[int(i)] for i in rng.permutation(len(members))]
    tenth, few = max(1, round(0.1 * len(drawn))), max(1, round(0.2 * len(drawn)))
    half = (len(drawn) - tenth) // 2
    calibrating = max(few, min(len(drawn) // 2, images_needed(overkill, left_out)))
    if not compare.has_student:
        calibrating = len(drawn) - tenth
    elif calibrating + tenth >= len(drawn):
        calibrating = max(1, half)
    # Where some parts have several images, every further part can lower the threshold.
    if len(drawn) == count:
        calibrating = useful_parts(calibrating, overkill, left_out)
    selecting = tenth if compare.has_student else len(drawn) - calibrating
    uses = drawn[:calibrating], drawn[calibrating:][:selecting], drawn[calibrating:][selecting:]
    calibrate, select, train = (tuple(i for part in use for i in part) for use in uses)
    return Split(train=train, select=select, calibrate=calibrate)


def find_training_files(folder: Path) -> list[Path]:
    """The image files in `folder`, at any depth, sorted by path. Raises TrainingError if there are none."""
    files = find_image_files(folder, TrainingError)
    if not files:
        kinds = " ".join(sorted(suffix[1:] for suffix in image_file.SUFFIXES))
        raise TrainingError(f"{folder}: no images there ({kinds}, at any depth)")
    return files


def read_examples(
    folder: Path,
    files: Sequence[Path],
    grid: Grid,
    *,
    excluded: Collection[str] = (),
    say: Callable[[str], None],
    progress: Progress,
) -> Examples:
    """The usable images of `files`, which lie in `folder`, without copies of the marks `excluded`.

    Raises TrainingError if there are none.
    """
    # With tiles the 2 GiB bound does not apply: reading a picture again for each tile would take longer than
    # the training on it.
    memory_bytes = usable_memory() // 4
    examples = Examples(grid.size, memory_bytes if len(grid) > 1 else min(_PICTURE_BYTES, memory_bytes))
    marks, read = set[str](excluded), 0
    for file, content, image in read_with_progress(files, "read", say=say, progress=progress):
        read += 1
        mark = content_mark(content)
        # A copy is left out, because it could train the student and calibrate its threshold too.
        if mark not in marks:
            marks.add(mark)
            examples.add(file, content, image)
    if not read:
        raise TrainingError(f"{folder}: none of the {len(files)} images there can be read")
    examples.skipped = len(files) - read
    report_copies(read - len(examples), say)
    return examples
