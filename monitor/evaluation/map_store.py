"""Anomaly maps put by until their data set is whole: 0.26 MB each at 256 pixels, on disk and not in memory.

Only for one process and one run: the file has no name and goes with it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from numpy.typing import NDArray

from monitor.errors import LineMonitorError
from monitor.images.preprocessing import Size


class MapFileError(LineMonitorError):
    """There is no room for the maps; the message is one line with the fix."""


class MapFile:
    """Maps in the order they came."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = 0

    def put(self, anomaly_map: NDArray[np.float32]) -> int:
        """Where a float32 (H, W) map lies from now on. Raises MapFileError."""
        content = memoryview(np.ascontiguousarray(anomaly_map, np.float32).tobytes())
        place = self._end
        while content:
            try:
                written = os.pwrite(self._file.fileno(), content, self._end)
            except OSError as error:
                raise _no_room(error) from None
            self._end += written
            content = content[written:]
        return place

    def get(self, place: int, size: Size) -> NDArray[np.float32]:
        """The float32 map of that size at `place`."""
        content = os.pread(self._file.fileno(), 4 * size[0] * size[1], place)
        return np.frombuffer(content, np.float32).reshape(size)


@contextmanager
def map_file() -> Iterator[MapFile]:
    """An empty one, in $TMPDIR. Raises MapFileError."""
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    except OSError as error:
        raise _no_room(error) from None
    with file:
        yield MapFile(file)


def _no_room(error: OSError) -> MapFileError:
    why = error.strerror or str(error)
    return MapFileError(f"anomaly maps can't be kept in {tempfile.gettempdir()}: {why}: set TMPDIR elsewhere")
