"""The presence gate: whether an image shows a part, judged from images of the place without a part.

On a frame's way it stands before the network. It knows nothing of networks, scores or files.

The images of the place without a part are the empty images. An image is averaged to 32x32 cells, and each
cell of each colour has a mean and a standard deviation over the empty images. An image's departure is the
largest distance of any cell from that cell's mean. Names that end in `_SD` or `_sd` give it in standard
deviations of the cell, all others in units of the gate's limit. An image is empty only if its departure is at
most the limit.

The limit is 1.5 times the largest departure of any empty image from all the others, and at least 4 standard
deviations. A new empty image that is like the n others departs further than all of them with a probability of
at most 1 / (n + 1), and beyond the limit very rarely.

The gate must never call an image empty that it can't compare: an image of another size or colour kind, or one
with a value that is not a number. An image that is not empty is scored as without a gate, so every error of
the gate costs only time, except one: a part that looks empty passes unscored. Training therefore refuses a
gate that would call an image without any light or with far too much light empty, and it compares the gate
with all good images at hand, as they are and as they would be in weaker and stronger light
(`monitor.training.presence_training`).

The comparison does not cover two cases: light that changes in one place, in one colour or in its direction,
and a part that is nearer to the empty place in all cells than every good part at hand.
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
"""The smallest number of empty images that a gate is computed from."""
MIN_PART_DEPARTURE = 2.0
"""In units of the limit. Every good part at hand must have a larger departure."""
MIN_LIGHT_DEPARTURE = 1.25
"""In units of the limit. Every good part at hand must have a larger departure in any light."""
OUTLIER_DEPARTURE_SD = 20.0
"""In standard deviations. An empty image with a larger departure from all the others shows something that
they don't show."""
MAX_TOLERANCE = 64.0
"""In grey levels. The largest distance from its mean that a gate without a comparison may allow a cell."""
_GRID = 32
_MIN_DEVIATION = 1.0
"""In grey levels. A few images of a still place have hardly any deviation, but later images will differ a
little."""
_MIN_LIMIT = 4.0
"""In standard deviations. With the smallest deviation, this allows the light to change by 3 % at a middle
grey level."""
_MARGIN = 1.5
"""A factor on the largest departure of any empty image from all the others."""
_MAX_NOISE = 4.0
"""In standard deviations: the largest noise that a cell's value is expected to contain. Of some thousand
cells hardly any has more."""
_CLIPPED = 250
"""From this grey level on, a cell may have been brighter than the image shows."""
_MEAN_WEIGHT = 4
"""The weight of the mean variance of all cells, in images, when it is averaged with a cell's own variance."""

Cells = NDArray[np.uint8]


def average_cells(resized: Image, side: int = _GRID) -> Cells:
    """An image averaged to (side, side) cells, or (side, side, 3), in whole grey levels.

    `resized` should have the recipe's size: 256x256 pixels take 0.04 ms, a 20-megapixel frame takes 15 ms.
    """
    return np.asarray(cv2.resize(resized, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def leave_one_out_departures_sd(empties: Cells) -> NDArray[np.float64]:
    """The departure of each empty image from the mean of all the others, in standard deviations: (n,).

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

    `frame` is the shape of these images: (H, W, 3) or (H, W). Raises ValueError for fewer than
    MIN_EMPTY_IMAGES images.
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
        limit=max(_MIN_LIMIT, _MARGIN * float(leave_one_out_departures_sd(empties).max())),
    )


def _deviations(variances: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The standard deviation of each cell, from the variances over `count` images.

    With few images a cell's own variance is uncertain, so it is averaged with the mean variance of all cells.
    """
    freedom = count - 1
    averaged = (_MEAN_WEIGHT * variances.mean() + freedom * variances) / (_MEAN_WEIGHT + freedom)
    return np.asarray(np.maximum(np.sqrt(averaged), _MIN_DEVIATION), np.float64)


def largest_tolerance(presence: Presence) -> float:
    """The largest distance from its mean, in grey levels, that the gate allows any cell of an empty image."""
    return presence.limit * max(presence.deviations)


def record_parts(presence: Presence, departures: Sequence[float]) -> Presence:
    """The gate with the number of images of good parts and the smallest of their departures."""
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
    def frame_description(self) -> str:
        """Size and colour kind of the frames that the gate can compare, as text."""
        return describe_shape(self._frame)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an image of that shape has the size and colour kind of the empty images."""
        return shape == self._frame

    def departure(self, resized: Image) -> float:
        """The departure of an image, in units of the limit: at most 1 for an image that is empty.

        `resized` is the image at the recipe's size. The departure is infinite if only one of image and gate
        is mono.
        """
        found = average_cells(resized, self._side)
        if found.shape != self._means.shape:
            return math.inf
        return float(np.max(np.abs(found - self._means) / self._tolerance))

    def nearest_light_factor(self, resized: Image, max_departure: float) -> float | None:
        """The factor on the light with which the image's departure would be at most `max_departure`.

        Of all such factors it is the one nearest to 1; a factor of 0 is darkness. None when there is no such
        factor. `resized` is an image that `departure` can compare, and `max_departure` is in units of the
        limit. The model: a cell's grey level is proportional to the light until it is white; its noise does
        not depend on the light.
        """
        found, means, deviations, tolerance = (
            np.asarray(values, np.float64).ravel()
            for values in (
                average_cells(resized, self._side),
                self._means,
                self._deviations,
                self._tolerance * max_departure,
            )
        )
        lowest = means - tolerance
        highest = np.where(means + tolerance < 255, means + tolerance, math.inf)
        levels = np.maximum(found, 0.5)
        # The true brightness of a clipped cell is unknown and may exceed its grey level, so the cell sets no
        # lower bound on the factor.
        weakest = float(np.max(lowest / levels, where=found < _CLIPPED, initial=0.0))
        strongest = float(np.min(highest / levels, initial=1.0))
        if weakest <= strongest:
            return strongest
        # The factor does not apply to a cell's noise, because more light does not amplify it. The bounds
        # allow for the largest expected noise in both directions.
        noise = _MAX_NOISE * deviations
        weakest = float(np.max((lowest + noise) / (levels + noise), initial=1.0))
        strongest = float(np.min((highest - noise) / np.maximum(levels - noise, 1e-9)))
        return weakest if weakest <= strongest else None

    def is_empty(self, image: Image, resized: Image) -> bool:
        """Whether the image shows no part; `resized` is the same image at the recipe's size."""
        return self.fits(image.shape) and self.departure(resized) <= 1


def describe_shape(shape: tuple[int, ...]) -> str:
    """An image's size and colour kind as text: 1920x1080 in colour."""
    return f"{shape[1]}x{shape[0]} in {'colour' if len(shape) == 3 else 'mono'}"


def describe_gate(presence: Presence) -> str:
    """One line about the gate for the user."""
    origin = f"presence gate from {presence.images} empty pictures"
    if presence.nearest is None:
        return f"{origin}, never compared with parts"
    return f"{origin}, the nearest of {presence.parts} good parts at {presence.nearest:.1f} times its limit"
