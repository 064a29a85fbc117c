"""A store of anomaly maps on disk, for a data set whose masks may come after its images.

A map takes 0.26 MB at 256x256 pixels. The store is for one run of one process: its file has no name, and is
deleted when the process ends. This module knows nothing of recipes or data sets.
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


class MapStoreError(LineMonitorError):
    """The maps can't be written, as on a full disk. The message is one line with the fix."""


class MapStore:
    """Anomaly maps in one file, one after the other."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = 0

    def put(self, anomaly_map: NDArray[np.float32]) -> int:
        """Writes a float32 (H, W) map and returns its offset, with which `get` reads it. Raises
        MapStoreError."""
        content = memoryview(np.ascontiguousarray(anomaly_map, np.float32).tobytes())
        offset = self._end
        while content:
            try:
                written = os.pwrite(self._file.fileno(), content, self._end)
            except OSError as error:
                raise _write_error(error) from None
            self._end += written
            content = content[written:]
        return offset

    def get(self, offset: int, size: Size) -> NDArray[np.float32]:
        """The float32 map of that size at `offset`."""
        content = os.pread(self._file.fileno(), 4 * size[0] * size[1], offset)
        return np.frombuffer(content, np.float32).reshape(size)


@contextmanager
def open_map_store() -> Iterator[MapStore]:
    """An empty store in $TMPDIR. Raises MapStoreError."""
    try:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
    except OSError as error:
        raise _write_error(error) from None
    with file:
        yield MapStore(file)


def _write_error(error: OSError) -> MapStoreError:
    why = error.strerror or str(error)
    return MapStoreError(
        f"anomaly maps can't be written to {tempfile.gettempdir()}: {why}: set TMPDIR to another folder"
    )
