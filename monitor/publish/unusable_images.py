"""The rule for when a camera's images are unusable so often that the camera counts as lost.

It knows nothing of MQTT or pixels: it takes numbers and reasons of closed frames. A camera may deliver images
that all are damaged or of an unusable size: each is `bad_frame`, and the line must not look fine meanwhile.
"""

from __future__ import annotations

import logging

from monitor.line_state.board import Board, CameraState, Field
from monitor.line_state.ring import Ring
from monitor.line_state.worker_process import capture_name
from monitor.verdict import Reason

MOST_IN_A_ROW = 10
"""A camera counts as lost after so many unusable images in a row."""
_UNUSABLE = (Reason.BAD_FRAME, Reason.NO_FRAME)


class UnusableImages:
    """Counts one camera's unusable images in a row. A usable one ends the loss."""

    def __init__(self, last_frame: int = 0, *, is_lost: bool = False) -> None:
        """`is_lost`: an earlier publisher found it so, when `last_frame` was the newest frame."""
        self.is_lost = is_lost
        self._newest, self._in_a_row = last_frame, 0

    def feed(self, number: int, reason: Reason) -> bool:
        """Adds a closed frame. Frames close in another order than they were captured in: an unusable one at
        once, the usable one before it after its score. Returns whether `is_lost` has changed."""
        before = self.is_lost
        if reason in _UNUSABLE:
            self._in_a_row = self._in_a_row + 1 if number == self._newest + 1 else 1
            self._newest = number
            self.is_lost |= self._in_a_row >= MOST_IN_A_ROW
        elif number > self._newest:
            self._newest, self._in_a_row, self.is_lost = number, 0, False
        return self.is_lost != before

    def clear(self) -> None:
        """Forgets all images, so that the camera is tried anew."""
        self._in_a_row, self.is_lost = 0, False


class ImageWatch:
    """The rule at work for one camera: it writes the board, and a log line at the beginning and the end."""

    def __init__(self, camera: str, ring: Ring, board: Board, log: logging.Logger) -> None:
        """Takes over what an earlier publisher of this session has found."""
        self._camera, self._board, self._log = camera, board, log
        self._capture = capture_name(camera)
        is_lost = bool(board.read(self._capture, Field.UNUSABLE))
        self._images = UnusableImages(ring.last_frame() if is_lost else 0, is_lost=is_lost)

    def step(self) -> None:
        """Tries the camera anew after another trouble, which its state shows."""
        if self._images.is_lost and self._read_state() is not CameraState.UP:
            self.try_anew()

    def feed(self, number: int, reason: Reason) -> None:
        """Adds a closed frame. Those of a frozen or undated camera do not count: the camera's state reports
        the trouble already."""
        if self._read_state() in (CameraState.FROZEN, CameraState.UNDATED):
            return
        if not self._images.feed(number, reason):
            return
        self._board.write(self._capture, Field.UNUSABLE, self._images.is_lost)
        if self._images.is_lost:
            self._log.error(
                "camera %s counts as lost: its last %d images were all unusable: %s",
                self._camera,
                MOST_IN_A_ROW,
                self._board.read_trouble(self._capture) or "the lines before say why",
            )
        else:
            self._log.info("camera %s sends usable images again", self._camera)

    def _read_state(self) -> CameraState:
        """The state that the capture worker has written."""
        return CameraState(self._board.read(self._capture, Field.CAMERA_STATE))

    def try_anew(self) -> None:
        """Forgets the unusable images, after a reset or a new connection to the camera."""
        self._images.clear()
        self._board.write(self._capture, Field.UNUSABLE, 0)
