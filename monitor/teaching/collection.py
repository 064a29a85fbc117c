"""Collects a running camera's frames as pictures of good parts, on a thread, until there are enough.

It knows nothing of rings: functions give it a camera's newest frame and say what it shows. At most five
frames a second are saved, so that saving takes little time of the processor from the line. A frame is saved
once it has its verdict: only then is it known whether it shows a challenge part, which teaches nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from drivers.image_file import Image
from monitor.capture.collect import file_name
from monitor.errors import LineMonitorError
from monitor.line_state.frame import Frame
from monitor.teaching.teaching_folder import MOST_PICTURES, PictureKind, TeachingError, TeachingFolder
from monitor.verdict import rfc3339

NewestFrame = Callable[[str], tuple[Frame, Image] | None]
"""A camera's newest frame as the scorer gets it; None without one."""
IsChallenge = Callable[[str, int], bool | None]
"""Whether a camera's frame of that number shows a challenge part; None while it has no verdict."""
_LOOK_S = 0.05
_LEAST_PAUSE_S = 0.2
_LONGEST_VERDICT_S = 30.0
"""A frame that has no verdict after so long is left out: the line was restarted."""
_LONGEST_SILENCE_S = 600.0
"""A collection ends when the camera has given no frame for so long."""


class CollectionState(Enum):
    WORKING = "working"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True)
class Collection:
    """One collection, from the request to its end."""

    recipe: str
    camera: str
    count: int
    """How many frames are wanted."""
    saved: int = 0
    state: CollectionState = CollectionState.WORKING
    problem: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)


class Collections:
    """Runs one collection at a time. Safe for several threads. `clock` is in seconds."""

    def __init__(
        self,
        newest_frame: NewestFrame,
        is_challenge: IsChallenge,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._newest_frame, self._is_challenge, self._clock = newest_frame, is_challenge, clock
        self._lock = threading.Lock()
        self.last: Collection | None = None

    def start(self, recipe: str, camera: str, count: int, folder: TeachingFolder) -> Collection:
        """Raises TeachingError while another collection works, for a wrong count, and without a picture of
        the camera."""
        if not 1 <= count <= MOST_PICTURES:
            raise TeachingError(f"collect 1 to {MOST_PICTURES} pictures")
        with self._lock:
            if self.last is not None and self.last.state is CollectionState.WORKING:
                raise TeachingError(
                    f"pictures of camera {self.last.camera} are being collected for recipe "
                    f"{self.last.recipe}: wait until that ends, or stop it"
                )
            if self._newest_frame(camera) is None:
                raise TeachingError(
                    f"camera {camera} gives no picture: start the line, and look at the page Live"
                )
            folder.check_space()
            collection = self.last = Collection(recipe, camera, count)
        threading.Thread(target=self._work, args=(collection, folder), name="collection", daemon=True).start()
        return collection

    def stop(self) -> None:
        """Ends the collection that works, if any."""
        with self._lock:
            if self.last is not None and self.last.state is CollectionState.WORKING:
                self.last._stop.set()
                self.last.state = CollectionState.STOPPED

    def _work(self, collection: Collection, folder: TeachingFolder) -> None:
        try:
            self._save_frames(collection, folder)
        except LineMonitorError as error:
            self._end(collection, CollectionState.FAILED, str(error))
        else:
            self._end(collection, CollectionState.COMPLETE)

    def _save_frames(self, collection: Collection, folder: TeachingFolder) -> None:
        """Saves frames that come from now on. Raises TeachingError and CollectError."""
        before = self._newest_frame(collection.camera)
        last = before[0].number if before else None
        heard_at = taken_at = self._clock()
        waiting: tuple[Frame, Image] | None = None
        while collection.saved < collection.count and not collection._stop.wait(_LOOK_S):
            now = self._clock()
            if waiting is not None:
                is_challenge = self._is_challenge(collection.camera, waiting[0].number)
                if is_challenge is False:
                    self._save(collection, folder, *waiting)
                if is_challenge is not None or now - taken_at > _LONGEST_VERDICT_S:
                    waiting = None
                continue
            found = self._newest_frame(collection.camera) if now - taken_at >= _LEAST_PAUSE_S else None
            if found is not None and found[0].number != last:
                waiting, last = found, found[0].number
                heard_at = taken_at = now
            elif now - heard_at > _LONGEST_SILENCE_S:
                raise TeachingError(
                    f"camera {collection.camera} gave no picture for {_LONGEST_SILENCE_S / 60:.0f} minutes: "
                    "look at the page Live, then collect again"
                )

    @staticmethod
    def _save(collection: Collection, folder: TeachingFolder, frame: Frame, image: Image) -> None:
        """Raises TeachingError and CollectError."""
        name = file_name(rfc3339(frame.captured_utc_ns), collection.camera, frame.number)
        folder.add(PictureKind.GOOD, name, image)
        collection.saved += 1

    def _end(self, collection: Collection, state: CollectionState, problem: str = "") -> None:
        with self._lock:
            if collection.state is CollectionState.WORKING:
                collection.state, collection.problem = state, problem
