"""Whether a picture shows a part at all, by what the place looks like without one.

A picture is averaged to 32x32 cells. It is empty only if every cell of every colour lies within `limit`
deviations of its mean over pictures of the empty place. The limit is the largest departure of any of these
from all the others, with a margin: a new empty frame that is like them departs further than all n of them
with a probability of at most 1 / (n + 1), and further than the margin allows hardly ever.

Must never call empty what it can't compare: an image of another size or colour kind, a value that is no
number, no light at all or too much of it. What is not empty is scored as if there were no gate, so every
error but one costs time alone; that one, a part that looks empty, is looked for in all good images at hand
(`beside_parts`), as they are and as they would be in any weaker or stronger light.

What remains is what those images can't tell: a light that changes in one place or one colour alone, or comes
from elsewhere, and a part that in all cells is nearer to the empty place than every good one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.model.recipe_document import Presence

FEWEST = 5
"""Empty pictures, to know how much they differ among themselves."""
PARTS_APART = 2.0
"""In limits, how far the nearest good part must be from the empty place."""
LIGHT_APART = 1.25
"""In limits, how far the nearest good part must stay from the empty place, however the light changes."""
ODD = 20.0
"""In deviations: an empty picture further than this from all the others shows something that they don't."""
MOST_ROOM = 64.0
"""In grey levels, how much a cell may differ in a gate that nobody compared with parts."""
_GRID = 32
_LEAST_DEVIATION = 1.0
"""In grey levels: few pictures of a still place would promise that it will never be brighter by a hair."""
_LEAST_LIMIT = 4.0
"""With the least deviation, a lamp may change by 3 % at a middle grey."""
_MARGIN = 1.5
_NOISE = 4.0
"""In deviations, how much of a cell's value may be noise: of some thousand cells hardly one has more."""
_CLIPPED = 250
"""From this grey level on a cell may have been brighter than its picture shows."""
_USUAL_WEIGHT = 4
"""How many pictures the deviation of all cells together is worth beside each cell's own."""

Cells = NDArray[np.uint8]


def cells(picture: Image, side: int = _GRID) -> Cells:
    """A picture averaged to (side, side) cells, or (side, side, 3); in whole grey levels.

    Meant for what `monitor.images.preprocessing.squashed` made: of 256x256 pixels it takes 0.04 ms, of a
    20-megapixel frame
    15 ms.
    """
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def left_out(empties: Cells) -> NDArray[np.float64]:
    """How far each of n > 2 empty pictures, (n, ...) cells, is from all the others, in deviations: (n,)."""
    values = empties.reshape(len(empties), -1).astype(np.float64)
    total, squares, others = values.sum(axis=0), (values**2).sum(axis=0), len(values) - 1
    found = np.empty(len(values))
    for place, value in enumerate(values):
        means = (total - value) / others
        variances = np.maximum(squares - value**2 - others * means**2, 0.0) / (others - 1)
        found[place] = np.max(np.abs(value - means) / _deviations(variances, others))
    return found


def learned(empties: Cells, frame: tuple[int, ...]) -> Presence:
    """The gate that n empty pictures make, (n, ...) cells as `cells` gives them, not yet compared with parts.

    `frame` is the shape of the images that they are of: (H, W, 3) or (H, W). Raises ValueError for fewer than
    FEWEST.
    """
    count = len(empties)
    if count < FEWEST:
        raise ValueError(f"{count} empty pictures: at least {FEWEST} are needed")
    values = empties.reshape(count, -1).astype(np.float64)
    deviations = _deviations(values.var(axis=0, ddof=1), count)
    return Presence(
        images=count,
        rows=frame[0],
        columns=frame[1],
        colour=len(frame) == 3,
        means=tuple(round(value, 2) for value in values.mean(axis=0).tolist()),
        deviations=tuple(round(value, 2) for value in deviations.tolist()),
        limit=max(_LEAST_LIMIT, _MARGIN * float(left_out(empties).max())),
    )


def _deviations(variances: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Of each cell; of few pictures its own variance says little, and is weighed against that of all."""
    freedom = count - 1
    evened = (_USUAL_WEIGHT * variances.mean() + freedom * variances) / (_USUAL_WEIGHT + freedom)
    return np.asarray(np.maximum(np.sqrt(evened), _LEAST_DEVIATION), np.float64)


def room(presence: Presence) -> float:
    """In grey levels, how far from its mean the most unsteady cell may lie in an empty frame."""
    return presence.limit * max(presence.deviations)


def beside_parts(presence: Presence, departures: Sequence[float]) -> Presence:
    """The gate with what good parts say of it: their departures as `Gate.departure` gives them."""
    return msgspec.structs.replace(presence, parts=len(departures), nearest=min(departures, default=None))


class Gate:
    """A recipe's presence gate at work."""

    def __init__(self, presence: Presence) -> None:
        channels = (3,) if presence.colour else ()
        self._frame = (presence.rows, presence.columns, *channels)
        self._side = math.isqrt(len(presence.means) // (3 if presence.colour else 1))
        shape = (self._side, self._side, *channels)
        self._means = np.array(presence.means, np.float32).reshape(shape)
        self._deviations = np.array(presence.deviations, np.float32).reshape(shape)
        self._room = self._deviations * np.float32(presence.limit)

    @property
    def kind(self) -> str:
        """Which images the gate is for."""
        return kind(self._frame)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an image of that shape is of the size and colour kind that the empty place is known in."""
        return shape == self._frame

    def departure(self, picture: Image) -> float:
        """How far the furthest cell lies from its mean, in limits; up to 1 the picture is empty.

        `picture` is an image as `squashed` gives it. Infinite when it is mono and the gate is not, or the
        other way round.
        """
        found = cells(picture, self._side)
        if found.shape != self._means.shape:
            return math.inf
        return float(np.max(np.abs(found - self._means) / self._room))

    def nearest_light(self, picture: Image, apart: float) -> float | None:
        """By what factor the light would have to change for the picture to depart by no more than `apart`
        limits: the one nearest to 1, 0 for darkness, or None when it would in no light.

        `picture` is one that `departure` can compare. Cells are taken to follow the light up to white, and
        their noise not to.
        """
        found, means, deviations, rooms = (
            np.asarray(values, np.float64).ravel()
            for values in (cells(picture, self._side), self._means, self._deviations, self._room * apart)
        )
        lowest, highest = means - rooms, np.where(means + rooms < 255, means + rooms, math.inf)
        seen = np.maximum(found, 0.5)
        # What is clipped may have been any amount brighter, and then is after it was dimmed.
        weakest = float(np.max(lowest / seen, where=found < _CLIPPED, initial=0.0))
        strongest = float(np.min(highest / seen, initial=1.0))
        if weakest <= strongest:
            return strongest
        # A stronger light would make more of the noise, too, if that were part of the picture.
        noise = _NOISE * deviations
        weakest = float(np.max((lowest + noise) / (seen + noise), initial=1.0))
        strongest = float(np.min((highest - noise) / np.maximum(seen - noise, 1e-9)))
        return weakest if weakest <= strongest else None

    def is_empty(self, image: Image, picture: Image) -> bool:
        """Whether there is no part in the image; `picture` is the same one, squashed."""
        return self.fits(image.shape) and self.departure(picture) <= 1


def kind(shape: tuple[int, ...]) -> str:
    """An image's shape for a person: 1920x1080 in colour."""
    return f"{shape[1]}x{shape[0]} in {'colour' if len(shape) == 3 else 'mono'}"


def explain(presence: Presence) -> str:
    """A few words for a person."""
    known = f"presence gate from {presence.images} empty pictures"
    if presence.nearest is None:
        return f"{known}, never compared with parts"
    return f"{known}, the nearest of {presence.parts} good parts at {presence.nearest:.1f} times its limit"
