"""The page's pictures of a snapshot: its thumbnail, its frame and its heatmap, as JPEG.

It knows nothing of HTTP and writes no file. A picture is made from the snapshot's files at the first request
and kept in memory; the memory has a bound.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable

import cv2
import numpy as np

from drivers.image_file import Image
from monitor.images.overlay import draw_panel
from monitor.images.overlay_layout import PictureLayout, arrange_picture
from monitor.review.snapshot_files import Key, NoSuchSnapshot, SnapshotFiles

THUMBNAIL_PX = 360
"""Width in pixels: frame and heatmap side by side."""
CACHE_BYTES = 48 * 1024 * 1024
MAX_PIXELS = 120_000_000
"""A PNG that declares more pixels is not decoded: it would fill the machine's memory."""
_PNG_HEAD = struct.Struct(">8s4x4sII")


class PictureCache:
    """Encoded pictures by name; above `max_bytes` the least recently used go. Safe for several threads."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pictures: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._bytes

    def get(self, name: tuple[str, str], make: Callable[[], bytes]) -> bytes:
        """The picture of that name, made by `make` where it is missing. Two threads may make the same one."""
        with self._lock:
            if (picture := self._pictures.get(name)) is not None:
                self._pictures.move_to_end(name)
                return picture
        picture = make()
        with self._lock:
            if name not in self._pictures and len(picture) <= self._max_bytes:
                self._pictures[name] = picture
                self._bytes += len(picture)
                while self._bytes > self._max_bytes:
                    self._bytes -= len(self._pictures.popitem(last=False)[1])
        return picture


class Pictures:
    """A snapshot's pictures for a browser. Every method raises NoSuchSnapshot."""

    def __init__(self, files: SnapshotFiles, cache: PictureCache | None = None) -> None:
        self._files = files
        self._cache = cache or PictureCache()

    def thumbnail(self, key: Key) -> bytes:
        """Frame beside heatmap, `THUMBNAIL_PX` wide."""
        return self._cache.get((key.path, "thumbnail"), lambda: self._thumbnail(key))

    def frame(self, key: Key) -> bytes:
        """The frame as it was scored, in the same size as `heatmap`."""
        return self._cache.get((key.path, "frame"), lambda: self._frame(key))

    def heatmap(self, key: Key) -> bytes:
        """The heatmap over the grey frame, cut out of the `.jpg`."""
        return self._cache.get((key.path, "heatmap"), lambda: self._heatmap(key))

    def original(self, key: Key) -> bytes:
        """The content of the `.png` file."""
        return self._files.read(key, ".png")

    def _thumbnail(self, key: Key) -> bytes:
        content = self._files.read(key, ".jpg")
        try:
            layout = self._panels(key)
        except NoSuchSnapshot:
            # The `.png` was deleted by hand; the `.jpg` still shows the part.
            layout = None
        reduced = 4 if layout and layout.width >= 3 * THUMBNAIL_PX else 2
        flag = cv2.IMREAD_REDUCED_COLOR_4 if reduced == 4 else cv2.IMREAD_REDUCED_COLOR_2
        picture = _decode(content, flag)
        if layout is not None and picture.shape[1] == -(-layout.width // reduced):
            top, bottom = layout.frame.top // reduced, -(-layout.heatmap.bottom // reduced)
            left, right = layout.frame.left // reduced, -(-layout.heatmap.right // reduced)
            picture = picture[top:bottom, left:right]
        rows, columns = picture.shape[:2]
        size = (THUMBNAIL_PX, max(1, round(rows * THUMBNAIL_PX / columns)))
        return encode_jpeg(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8), 80)

    def _frame(self, key: Key) -> bytes:
        content = self._files.read(key, ".png")
        _png_size(content)
        return encode_jpeg(draw_panel(_decode(content, cv2.IMREAD_COLOR)), 92)

    def _heatmap(self, key: Key) -> bytes:
        layout = self._panels(key)
        picture = _decode(self._files.read(key, ".jpg"), cv2.IMREAD_COLOR)
        if picture.shape[1] != layout.width:
            raise NoSuchSnapshot
        cut = layout.heatmap
        return encode_jpeg(picture[cut.top : cut.bottom, cut.left : cut.right], 90)

    def _panels(self, key: Key) -> PictureLayout:
        rows, columns = _png_size(self._files.read(key, ".png"))
        return arrange_picture(columns, rows)


def _png_size(content: bytes) -> tuple[int, int]:
    """Rows and columns that the PNG header declares. Raises NoSuchSnapshot for more than `MAX_PIXELS`."""
    if len(content) < _PNG_HEAD.size:
        raise NoSuchSnapshot
    magic, kind, columns, rows = _PNG_HEAD.unpack_from(content)
    if magic != b"\x89PNG\r\n\x1a\n" or kind != b"IHDR" or not 0 < rows * columns <= MAX_PIXELS:
        raise NoSuchSnapshot
    return rows, columns


def _decode(content: bytes, flag: int) -> Image:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if content else None
    except cv2.error:
        image = None
    if image is None:
        raise NoSuchSnapshot
    return np.asarray(image, np.uint8)


def encode_jpeg(image: Image, quality: int) -> bytes:
    """`image` is uint8 BGR; `quality` is 0 to 100."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
