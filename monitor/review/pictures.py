"""The pictures of the page: thumbnails, and the two that lie on top of each other where one part is large.

Made from a snapshot's files when somebody looks, and kept in memory up to a bound. Must never write a file.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable

import cv2
import numpy as np

from drivers.image_file import Image
from monitor.images.overlay_layout import Panels, panels
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles

THUMBNAIL_PX = 360
"""The width of a thumbnail: frame and heatmap side by side."""
CACHE_BYTES = 48 * 1024 * 1024
MOST_PIXELS = 120_000_000
"""A file that claims more is not opened: it would take the machine's memory."""
_PNG_HEAD = struct.Struct(">8s4x4sII")


class Cache:
    """Encoded pictures by name, the most recently wanted ones, at most so many bytes. For several threads."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._bytes

    def get(self, name: tuple[str, str], make: Callable[[], bytes]) -> bytes:
        """The picture of that name; made where it isn't kept. Two threads may make the same one."""
        with self._lock:
            if (found := self._kept.get(name)) is not None:
                self._kept.move_to_end(name)
                return found
        made = make()
        with self._lock:
            if name not in self._kept and len(made) <= self._most:
                self._kept[name] = made
                self._bytes += len(made)
                while self._bytes > self._most:
                    self._bytes -= len(self._kept.popitem(last=False)[1])
        return made


class Pictures:
    """What a browser shows of a snapshot, as JPEG. Every method raises NoSuchSnapshot."""

    def __init__(self, files: SnapshotFiles, cache: Cache | None = None) -> None:
        self._files = files
        self._cache = cache or Cache()

    def thumbnail(self, key: Key) -> bytes:
        """Frame beside heatmap, `THUMBNAIL_PX` wide."""
        return self._cache.get((key.path, "thumbnail"), lambda: self._thumbnail(key))

    def frame(self, key: Key) -> bytes:
        """The frame as it was scored, as large as a screen shows it: as `heatmap` is."""
        return self._cache.get((key.path, "frame"), lambda: self._frame(key))

    def heatmap(self, key: Key) -> bytes:
        """The heatmap over the greyed frame, out of the `.jpg`."""
        return self._cache.get((key.path, "heatmap"), lambda: self._heatmap(key))

    def original(self, key: Key) -> bytes:
        """The `.png` itself."""
        return self._files.read(key, ".png")

    def _thumbnail(self, key: Key) -> bytes:
        content = self._files.read(key, ".jpg")
        try:
            layout = self._panels(key)
        except NoSuchSnapshot:
            # The frame was deleted by hand; the picture beside it still shows the part.
            layout = None
        reduced = 4 if layout and layout.width >= 3 * THUMBNAIL_PX else 2
        flag = cv2.IMREAD_REDUCED_COLOR_4 if reduced == 4 else cv2.IMREAD_REDUCED_COLOR_2
        picture = _decoded(content, flag)
        if layout is not None and picture.shape[1] == -(-layout.width // reduced):
            top, bottom = layout.frame.top // reduced, -(-layout.heatmap.bottom // reduced)
            left, right = layout.frame.left // reduced, -(-layout.heatmap.right // reduced)
            picture = picture[top:bottom, left:right]
        rows, columns = picture.shape[:2]
        size = (THUMBNAIL_PX, max(1, round(rows * THUMBNAIL_PX / columns)))
        return _jpeg(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8), 80)

    def _frame(self, key: Key) -> bytes:
        content = self._files.read(key, ".png")
        rows, columns = _png_size(content)
        image = _decoded(content, cv2.IMREAD_COLOR)
        place = panels(columns, rows).frame
        size = (place.right - place.left, place.bottom - place.top)
        smaller = columns > size[0] or rows > size[1]
        shown = cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        return _jpeg(np.asarray(shown, np.uint8), 92)

    def _heatmap(self, key: Key) -> bytes:
        layout = self._panels(key)
        picture = _decoded(self._files.read(key, ".jpg"), cv2.IMREAD_COLOR)
        if picture.shape[1] != layout.width:
            raise NoSuchSnapshot
        place = layout.heatmap
        return _jpeg(picture[place.top : place.bottom, place.left : place.right], 90)

    def _panels(self, key: Key) -> Panels:
        rows, columns = _png_size(self._files.read(key, ".png"))
        return panels(columns, rows)


def _png_size(content: bytes) -> tuple[int, int]:
    """Rows and columns that a PNG claims to have."""
    if len(content) < _PNG_HEAD.size:
        raise NoSuchSnapshot
    magic, kind, columns, rows = _PNG_HEAD.unpack_from(content)
    if magic != b"\x89PNG\r\n\x1a\n" or kind != b"IHDR" or not 0 < rows * columns <= MOST_PIXELS:
        raise NoSuchSnapshot
    return rows, columns


def _decoded(content: bytes, flag: int) -> Image:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if content else None
    except cv2.error:
        image = None
    if image is None:
        raise NoSuchSnapshot
    return np.asarray(image, np.uint8)


def _jpeg(image: Image, quality: int) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
