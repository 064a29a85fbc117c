"""The presence gate: whether an image shows a part, judged from images of the place without a part.

An image is averaged to 32x32 cells. It is empty only if every cell of every colour lies within `limit`
standard deviations of the cell's mean over the images without a part (the empty images). The limit is the
largest departure of any empty image from all the others, times a margin. A new empty image that is like these
departs further than all n of them with a probability of at most 1 / (n + 1), and exceeds the margin very
rarely.

The gate must never call an image empty that it can't compare: an image of another size or colour kind, a
value that is not a number, no light or too much light. An image that is not empty is scored as without a
gate, so every error of the gate costs only time, except one: a part that looks empty passes unscored.
Training therefore compares the gate with all good images at hand, as they are and as they would be in weaker
and stronger light (`monitor.training.presence_training`).

The comparison can't show two cases: light that changes in one place, in one colour or in its direction, and a
part that is nearer to the empty place in all cells than every good one. This module knows nothing of
networks, scores or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.model.recipe_json import Presence

MIN_EMPTY_IMAGES = 5
"""The fewest empty images that show how much they vary."""
MIN_PART_DEPARTURE = 2.0
"""The smallest departure that a good part must have, in units of the limit."""
MIN_LIGHT_DEPARTURE = 1.25
"""The smallest departure that a good part must keep in any light, in units of the limit."""
OUTLIER_DEVIATIONS = 20.0
"""In standard deviations: an empty image that departs further than this from all others shows something that
the others don't."""
MAX_TOLERANCE = 64.0
"""The largest distance from the mean, in grey levels, that a gate without a comparison may allow a cell."""
_GRID = 32
_MIN_DEVIATION = 1.0
"""In grey levels. A few images of a still place have hardly any deviation, but later ones will differ a
little."""
_MIN_LIMIT = 4.0
"""With the smallest deviation, this allows the light to change by 3 % at a middle grey level."""
_MARGIN = 1.5
_NOISE = 4.0
"""The largest share of noise in a cell's value, in standard deviations; of some thousand cells hardly any has
more."""
_CLIPPED = 250
"""From this grey level on, a cell may have been brighter than the image shows."""
_MEAN_WEIGHT = 4
"""The weight of the mean variance of all cells, in images, when it is averaged with a cell's own variance."""

Cells = NDArray[np.uint8]


def average_cells(resized: Image, side: int = _GRID) -> Cells:
    """An image averaged to (side, side) cells, or (side, side, 3), in whole grey levels.

    `resized` should have the recipe's size: 256x256 pixels take 0.04 ms, a 20-megapixel frame
    takes 15 ms.
    """
    return np.asarray(cv2.resize(resized, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def leave_one_out_departures(empties: Cells) -> NDArray[np.float64]:
    """The departure of each empty image from all the others, in standard deviations: (n,).

    `empties` has the cells of n > 2 images, (n, ...).
    """
    values = empties.reshape(len(empties), -1).astype(np.float64)
    total, squares, others = values.sum(axis=0), (values**2).sum(axis=0), len(values) - 1
    departures = np.empty(len(values))
    for number, value in enumerate(values):
        means = (total - value) / others
        variances = np.maximum(squares - value**2 - others * means**2, 0.0) / (others - 1)
        departures[number] = np.max(np.abs(value - means) / _deviations(variances, others))
    return departures


def learn_gate(empties: Cells, frame: tuple[int, ...]) -> Presence:
    """The gate from the cells of n empty images, (n, ...), not yet compared with parts.

    `frame` is the shape of these images: (H, W, 3) or (H, W). Raises ValueError for fewer than FEWEST.
    """
    count = len(empties)
    if count < MIN_EMPTY_IMAGES:
        raise ValueError(f"{count} empty images: at least {MIN_EMPTY_IMAGES} are needed")
    values = empties.reshape(count, -1).astype(np.float64)
    deviations = _deviations(values.var(axis=0, ddof=1), count)
    return Presence(
        images=count,
        rows=frame[0],
        columns=frame[1],
        colour=len(frame) == 3,
        means=tuple(round(value, 2) for value in values.mean(axis=0).tolist()),
        deviations=tuple(round(value, 2) for value in deviations.tolist()),
        limit=max(_MIN_LIMIT, _MARGIN * float(leave_one_out_departures(empties).max())),
    )


def _deviations(variances: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The standard deviation of each cell from `count` images. With few images a cell's own variance is
    uncertain, so it is averaged with the mean variance of all cells."""
    freedom = count - 1
    averaged = (_MEAN_WEIGHT * variances.mean() + freedom * variances) / (_MEAN_WEIGHT + freedom)
    return np.asarray(np.maximum(np.sqrt(averaged), _MIN_DEVIATION), np.float64)


def largest_tolerance(presence: Presence) -> float:
    """The largest distance of any cell from its mean in an empty frame, in grey levels."""
    return presence.limit * max(presence.deviations)


def record_parts(presence: Presence, departures: Sequence[float]) -> Presence:
    """The gate, with the departures of images of good parts recorded in it."""
    return msgspec.structs.replace(presence, parts=len(departures), nearest=min(departures, default=None))


class PresenceGate:
    """A recipe's presence gate, ready to judge images."""

    def __init__(self, presence: Presence) -> None:
        channels = (3,) if presence.colour else ()
        self._frame = (presence.rows, presence.columns, *channels)
        self._side = math.isqrt(len(presence.means) // (3 if presence.colour else 1))
        shape = (self._side, self._side, *channels)
        self._means = np.array(presence.means, np.float32).reshape(shape)
        self._deviations = np.array(presence.deviations, np.float32).reshape(shape)
        self._tolerance = self._deviations * np.float32(presence.limit)

    @property
    def kind(self) -> str:
        """Size and colour kind of the frames that the gate can compare, as text."""
        return kind(self._frame)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an image of that shape has the size and colour kind of the empty images."""
        return shape == self._frame

    def departure(self, resized: Image) -> float:
        """The largest distance of a cell from its mean, in units of the limit; up to 1 the image is empty.

        `resized` is an image at the recipe's size. Infinite when one of image and gate is mono and
        the other is not.
        """
        found = average_cells(resized, self._side)
        if found.shape != self._means.shape:
            return math.inf
        return float(np.max(np.abs(found - self._means) / self._tolerance))

    def nearest_light_factor(self, resized: Image, limits: float) -> float | None:
        """The factor on the light after which the image's departure is at most `limits`.

        Of all such factors it is the one nearest to 1; a factor of 0 is darkness. None when there is no such
        factor. `resized` is an image that `departure` can compare. The model: a cell's grey level is
        proportional to the light up to white, and its noise is not.
        """
        found, means, deviations, tolerance = (
            np.asarray(values, np.float64).ravel()
            for values in (
                average_cells(resized, self._side),
                self._means,
                self._deviations,
                self._tolerance * limits,
            )
        )
        lowest = means - tolerance
        highest = np.where(means + tolerance < 255, means + tolerance, math.inf)
        levels = np.maximum(found, 0.5)
        # A clipped cell may be brighter than its grey level, also in weaker light: it sets no lower bound.
        weakest = float(np.max(lowest / levels, where=found < _CLIPPED, initial=0.0))
        strongest = float(np.min(highest / levels, initial=1.0))
        if weakest <= strongest:
            return strongest
        # Light does not amplify noise, so the noise is taken off before the cells are scaled.
        noise = _NOISE * deviations
        weakest = float(np.max((lowest + noise) / (levels + noise), initial=1.0))
        strongest = float(np.min((highest - noise) / np.maximum(levels - noise, 1e-9)))
        return weakest if weakest <= strongest else None

    def is_empty(self, image: Image, resized: Image) -> bool:
        """Whether the image shows no part; `resized` is the same image at the recipe's size."""
        return self.fits(image.shape) and self.departure(resized) <= 1


def kind(shape: tuple[int, ...]) -> str:
    """An image's size and colour kind as text: 1920x1080 in colour."""
    return f"{shape[1]}x{shape[0]} in {'colour' if len(shape) == 3 else 'mono'}"


def describe_gate(presence: Presence) -> str:
    """One line about the gate for the user."""
    origin = f"presence gate from {presence.images} empty pictures"
    if presence.nearest is None:
        return f"{origin}, never compared with parts"
    return f"{origin}, the nearest of {presence.parts} good parts at {presence.nearest:.1f} times its limit"
