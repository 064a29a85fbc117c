"""A simulated conveyor: `simulated://<scene>[?fps=10&defects=0.1&seed=0&count=N&size=WxH]`.

Every exposure shows one part; the share `defects` of them has one small defect. Exposure k of a scene, seed
and share is always the same image, and `truth` returns what it shows. The conveyor does not wait for its
reader: a part that was not read in time is reported as missed.
"""

from __future__ import annotations

import functools
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.camera import CameraError, Shot, SourceEnded
from drivers.pace import Clock, Sleep, wait_until
from drivers.progress import Progress, Unkept
from drivers.scenes import PRINT_CONTRAST, SCENES, Field, belt
from drivers.source import Options

Image = NDArray[np.uint8]

DEFAULT_SIZE = (320, 320)
DEFECTS = ("scratch", "stain", "dent", "worn-print")
LARGEST_AREA = 0.02
"""No defect covers more of its part than this."""
LARGEST_CONTRAST = 0.25
"""No defect changes the brightness of its part by a larger share than this."""

_BUFFERED = 8
"""Number of exposures that are kept for a late reader, like the buffers of a real camera."""
_PARTS = 64
_POOL_BYTES = 96 * 2**20
_NOISE = 1.8
"""Standard deviation of the sensor's noise in grey levels."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the exposure with index `exposure` really shows."""

    exposure: int
    defect: str | None
    """One of DEFECTS; None is a good part."""
    box: tuple[int, int, int, int] | None
    """x, y, width, height of the defect in the image's pixels."""
    area: float
    """The defect's share of the part's area, 0..LARGEST_AREA."""
    contrast: float
    """How much the defect changes the part's brightness, as a share of it, 0..LARGEST_CONTRAST."""

    @property
    def defective(self) -> bool:
        return self.defect is not None


@dataclass(frozen=True, slots=True)
class _Base:
    """One part on the belt, without defect and noise, with a margin for its displacement."""

    image: Image
    ink: Image
    matrix: NDArray[np.float64]
    """From the straight part's pixels to this image's."""


@dataclass(frozen=True, slots=True)
class _Exposure:
    """The random values of one exposure."""

    part: int
    left: int
    top: int
    gain: float
    noise: tuple[int, int]
    defect: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class _Defect:
    kind: str
    left: int
    top: int
    factor: Field
    """The factor by which the image is multiplied there, (rows, columns)."""
    mask: NDArray[np.bool_]
    contrast: float


class Conveyor:
    """The parts of one scene and seed. The same arguments always give the same images, in any order."""

    def __init__(self, scene: str, seed: int, defects: float, size: tuple[int, int] = DEFAULT_SIZE) -> None:
        self.size = size
        self._scene = zlib.crc32(scene.encode())
        self._seed = seed
        self._share = defects
        width, height = size
        self._unit = min(size) / 320
        self._margin = max(2, round(8 * self._unit))
        self._shape = (height + 2 * self._margin, width + 2 * self._margin)
        self._part = SCENES[scene](*self._shape, self._unit)
        self._area = float(self._part.alpha.sum())
        self._room = cv2.distanceTransform(self._part.face.astype(np.uint8), cv2.DIST_L2, 5)
        # The light gets weaker to the lower right, in every image alike, since the lamp does not move.
        rows, columns = np.mgrid[0 : self._shape[0], 0 : self._shape[1]].astype(np.float32)
        self._light = 1.03 - 0.07 * (0.6 * columns / self._shape[1] + 0.4 * rows / self._shape[0])
        shadow = cv2.GaussianBlur(self._part.alpha, (0, 0), 7 * self._unit)
        shift = np.array([[1, 0, 7 * self._unit], [0, 1, 8 * self._unit]])
        self._shadow = cv2.warpAffine(shadow, shift, self._shape[::-1])
        drawing = self._generator(0xBE17)
        self._belt = belt(2 * self._shape[0], 2 * self._shape[1], self._unit, drawing)
        noise = drawing.standard_normal((height + 64, width + 64, 3), dtype=np.float32) * _NOISE
        self._noise = np.round(noise).astype(np.int16)
        self.parts = max(8, min(_PARTS, _POOL_BYTES // (self._shape[0] * self._shape[1] * 4)))
        self._bases: dict[int, _Base] = {}

    def prepare(self) -> None:
        """Draw all parts now, so that each later image takes less than 1 ms."""
        for part in range(self.parts):
            self._base(part)

    def image(self, exposure: int) -> Image:
        """(H, W, 3) uint8 BGR."""
        chance = self._chance(exposure)
        base = self._base(chance.part)
        width, height = self.size
        seen = base.image[chance.top : chance.top + height, chance.left : chance.left + width]
        image = cv2.convertScaleAbs(seen, alpha=chance.gain)
        defect = self._defect(chance)
        if defect is not None:
            rows, columns = defect.factor.shape
            y, x = defect.top - chance.top, defect.left - chance.left
            patch = image[y : y + rows, x : x + columns]
            patch[:] = np.clip(patch * defect.factor[..., None] + 0.5, 0, 255).astype(np.uint8)
        row, column = chance.noise
        noise = self._noise[row : row + height, column : column + width]
        return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), dtype=np.uint8)

    def truth(self, exposure: int) -> Truth:
        chance = self._chance(exposure)
        defect = self._defect(chance)
        if defect is None:
            return Truth(exposure, None, None, 0.0, 0.0)
        rows, columns = np.nonzero(defect.mask)
        box = (
            int(defect.left - chance.left + columns.min()),
            int(defect.top - chance.top + rows.min()),
            int(np.ptp(columns)) + 1,
            int(np.ptp(rows)) + 1,
        )
        return Truth(exposure, defect.kind, box, float(defect.mask.sum()) / self._area, defect.contrast)

    def mask(self, exposure: int) -> NDArray[np.bool_]:
        """(H, W), True on the defect."""
        chance = self._chance(exposure)
        defect = self._defect(chance)
        whole = np.zeros(self._shape, np.bool_)
        if defect is not None:
            rows, columns = defect.mask.shape
            whole[defect.top : defect.top + rows, defect.left : defect.left + columns] = defect.mask
        width, height = self.size
        return whole[chance.top : chance.top + height, chance.left : chance.left + width]

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((self._scene, self._seed, *key))

    def _chance(self, exposure: int) -> _Exposure:
        draw = self._generator(1, exposure)
        # The order of these draws must not change: another share of defects must change nothing else.
        defective = draw.random() < self._share
        left, top = (int(value) for value in draw.integers(0, 2 * self._margin + 1, 2))
        gain = float(draw.uniform(0.96, 1.03))
        row, column = (int(value) for value in draw.integers(0, 65, 2))
        kind = DEFECTS[int(draw.integers(len(DEFECTS)))]
        seed = int(draw.integers(2**32))
        return _Exposure(
            exposure % self.parts, left, top, gain, (row, column), kind if defective else None, seed
        )

    def _base(self, part: int) -> _Base:
        if part not in self._bases:
            self._bases[part] = self._draw(part)
        return self._bases[part]

    def _matrix(self, draw: np.random.Generator) -> NDArray[np.float64]:
        centre = (self._shape[1] / 2, self._shape[0] / 2)
        degrees, scale = draw.uniform(-2, 2), draw.uniform(0.997, 1.003)
        return np.asarray(cv2.getRotationMatrix2D(centre, degrees, scale), dtype=np.float64)

    def _draw(self, part: int) -> _Base:
        draw = self._generator(2, part)
        matrix = self._matrix(draw)
        straight = self._part
        printed = straight.texture(draw) * (1 - PRINT_CONTRAST * straight.ink)
        layers = np.dstack([straight.colour * printed[..., None], straight.alpha])
        size = self._shape[::-1]
        layers = cv2.warpAffine(layers, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        ink = cv2.warpAffine(straight.ink, matrix, size, flags=cv2.INTER_LINEAR)
        y, x = (int(draw.integers(side)) for side in self._shape)
        ground = self._belt[y : y + self._shape[0], x : x + self._shape[1]]
        ground = ground * (1 - 0.55 * self._shadow[..., None])
        alpha = layers[..., 3:]
        image = (ground * (1 - alpha) + layers[..., :3] * alpha) * self._light[..., None]
        return _Base(np.clip(image, 0, 255).astype(np.uint8), (ink * 255).astype(np.uint8), matrix)

    def _defect(self, chance: _Exposure) -> _Defect | None:
        if chance.defect is None:
            return None
        draw = np.random.default_rng(chance.seed)
        if chance.defect == "worn-print":
            return self._worn_print(chance, draw)
        paint = {"scratch": _scratch, "stain": _stain, "dent": _dent}[chance.defect]
        contrast = float(draw.uniform(0.2, 0.245))
        shape = paint(self._area, contrast, draw)
        mask = np.abs(shape) > 0.5 * contrast
        reach = max(shape.shape) / 2
        # The distance from edges is at least the defect's reach, or as large as the part allows.
        room = np.argwhere(self._room > min(reach, 0.5 * float(self._room.max())))
        y, x = room[int(draw.integers(len(room)))]
        x, y = self._base_matrix(chance.part) @ (x, y, 1.0)
        return _Defect(
            chance.defect,
            round(x - shape.shape[1] / 2),
            round(y - shape.shape[0] / 2),
            (1 + shape).astype(np.float32),
            mask,
            contrast,
        )

    def _worn_print(self, chance: _Exposure, draw: np.random.Generator) -> _Defect:
        """Missing print around one printed point."""
        base = self._base(chance.part)
        ink = base.ink.astype(np.float32) / 255
        wanted = round(self._area * draw.uniform(0.011, 0.015))
        window = 2 * round(24 * self._unit) + 1
        # The point has enough print around it. Around a single mark the bare spot would become too wide.
        nearby = cv2.boxFilter(ink, -1, (window, window), normalize=False)
        places = np.argwhere((ink > 0.5) & (nearby > min(wanted, 0.9 * float(nearby[ink > 0.5].max()))))
        middle = places[int(draw.integers(len(places)))]
        distance = np.hypot(*(np.argwhere(ink > 0.5) - middle).T)
        radius = float(np.partition(distance, wanted)[wanted])
        top, left = np.floor(middle - radius).astype(int) - 2
        bottom, right = np.ceil(middle + radius).astype(int) + 3
        rows, columns = np.mgrid[top:bottom, left:right]
        bare = np.clip(radius - np.hypot(rows - middle[0], columns - middle[1]) + 0.5, 0, 1)
        here = ink[top:bottom, left:right]
        # So much print remains that the bare spot is brighter by at most the largest contrast.
        kept = 1 - draw.uniform(0.72, 0.8)
        factor = (1 - PRINT_CONTRAST * here * (1 - bare * (1 - kept))) / (1 - PRINT_CONTRAST * here)
        contrast = (1 - PRINT_CONTRAST * kept) / (1 - PRINT_CONTRAST) - 1
        mask = (here > 0.5) & (bare > 0.5)
        return _Defect("worn-print", int(left), int(top), factor.astype(np.float32), mask, float(contrast))

    def _base_matrix(self, part: int) -> NDArray[np.float64]:
        return self._matrix(self._generator(2, part))


def _canvas(reach: float) -> tuple[Field, Field]:
    side = 2 * math.ceil(reach) + 1
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) - math.ceil(reach)
    return columns, rows


def _scratch(part_area: float, contrast: float, draw: np.random.Generator) -> Field:
    """A long, thin, bright line that is slightly bent and gets thinner at its ends."""
    area = part_area * draw.uniform(0.013, 0.018)
    length = math.sqrt(area) * draw.uniform(3.8, 4.6)
    width = area / length
    x, y = _canvas(length / 2 + width)
    turn = draw.uniform(0, math.pi)
    along = x * math.cos(turn) + y * math.sin(turn)
    aside = y * math.cos(turn) - x * math.sin(turn) - draw.uniform(-0.3, 0.3) * along**2 / length
    half = width * 0.56 * np.clip(1 - (2 * along / length) ** 4, 0, 1)
    line = np.clip(half - np.abs(aside) + 0.5, 0, 1) * (np.abs(along) < length / 2)
    return np.asarray(line * contrast, dtype=np.float32)


def _stain(part_area: float, contrast: float, draw: np.random.Generator) -> Field:
    """A dark spot with an irregular outline."""
    radius = math.sqrt(part_area * draw.uniform(0.011, 0.016) / math.pi)
    x, y = _canvas(1.6 * radius)
    angle = np.arctan2(y, x)
    outline = np.ones_like(angle)
    for lobes in (2, 3, 5):
        outline += draw.uniform(-0.14, 0.14) * np.cos(lobes * angle + draw.uniform(0, 2 * math.pi))
    spot = np.clip((outline * radius - np.hypot(x, y)) / 2 + 0.5, 0, 1)
    return np.asarray(-contrast * spot, dtype=np.float32)


def _dent(part_area: float, contrast: float, draw: np.random.Generator) -> Field:
    """A hollow that is dark on the side of the light and bright on the opposite side."""
    area = part_area * draw.uniform(0.013, 0.018)
    ratio = draw.uniform(0.75, 1.0)
    radius = math.sqrt(area / math.pi / ratio)
    x, y = _canvas(radius + 2)
    turn = draw.uniform(0, math.pi)
    across = (x * math.cos(turn) + y * math.sin(turn)) / radius
    along = (y * math.cos(turn) - x * math.sin(turn)) / (radius * ratio)
    edge = np.clip((1 - np.hypot(across, along)) * radius / 2 + 0.5, 0, 1)
    slope = np.tanh(4 * (x + 1.2 * y) / (1.56 * radius))
    return np.asarray(contrast * edge * slope, dtype=np.float32)


@functools.lru_cache(maxsize=4)
def conveyor(scene: str, seed: int, defects: float, size: tuple[int, int] = DEFAULT_SIZE) -> Conveyor:
    """The conveyor of these arguments. It is cached, because drawing its parts takes long."""
    return Conveyor(scene, seed, defects, size)


def render(
    scene: str, seed: int, exposure: int, defects: float, size: tuple[int, int] = DEFAULT_SIZE
) -> Image:
    """The image of one exposure, (H, W, 3) uint8 BGR."""
    return conveyor(scene, seed, defects, size).image(exposure)


def truth(source: str) -> Callable[[int], Truth]:
    """A function that returns the Truth of an exposure by its index, for a `simulated://` source."""
    settings = _settings(source)
    return conveyor(settings.scene, settings.seed, settings.defects, settings.size).truth


@dataclass(frozen=True, slots=True)
class _Settings:
    scene: str
    fps: float
    defects: float
    seed: int
    count: int | None
    size: tuple[int, int]


def _settings(source: str) -> _Settings:
    options = Options(source)
    fps = options.number("fps", 0.01, 1000)
    defects = options.number("defects", 0, 1)
    seed = options.integer("seed", 0, 2**32 - 1)
    count = options.integer("count", 1, 2**53)
    size = options.size("size", 96, 2048)
    options.refuse_unknown()
    if options.host not in SCENES or options.path.strip("/"):
        scene = options.host + options.path
        raise options.error(f"no scene called {scene!r}: use one of {', '.join(sorted(SCENES))}")
    return _Settings(
        options.host,
        10.0 if fps is None else fps,
        0.1 if defects is None else defects,
        0 if seed is None else seed,
        count,
        size or DEFAULT_SIZE,
    )


class SimulatedCamera:
    """Implements `Camera`. `device_frame` is the exposure's index, `device_ns` its time in the stream."""

    def __init__(
        self,
        source: str,
        clock: Clock = time.monotonic_ns,
        sleep: Sleep = time.sleep,
        progress: Progress | None = None,
    ) -> None:
        self._settings = _settings(source)
        self._progress = progress or Unkept()
        self._clock = clock
        self._sleep = sleep
        self._period_ns = round(1e9 / self._settings.fps)
        self._conveyor: Conveyor | None = None
        self._start_ns = 0
        self._next = 0

    def open(self) -> None:
        settings = self._settings
        self._conveyor = Conveyor(settings.scene, settings.seed, settings.defects, settings.size)
        self._conveyor.prepare()
        self._next = self._progress.mark.next_index
        self._start_ns = self._clock() - self._next * self._period_ns

    def read(self, timeout_s: float) -> Shot | None:
        if self._conveyor is None:
            raise CameraError("the simulated camera is not open: call open() before read()")
        count = self._settings.count
        if count is not None and self._next >= count:
            raise SourceEnded(f"all {count} parts were shown")
        if not wait_until(self._due(self._next), timeout_s, self._clock, self._sleep):
            return None
        newest = (self._clock() - self._start_ns) // self._period_ns
        if count is not None:
            newest = min(newest, count - 1)
        exposure = max(self._next, newest - _BUFFERED + 1)
        missed = exposure - self._next
        self._next = exposure + 1
        self._progress.begin(exposure)
        return Shot(
            pixels=self._conveyor.image(exposure),
            pixel_format="BGR8",
            captured_ns=self._due(exposure),
            device_ns=exposure * self._period_ns,
            device_frame=exposure,
            missed=missed,
        )

    def close(self) -> None:
        self._conveyor = None

    def _due(self, exposure: int) -> int:
        return self._start_ns + exposure * self._period_ns
