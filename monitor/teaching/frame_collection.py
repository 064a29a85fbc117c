"""Collects a running camera's frames as images of good parts or of known defects, on a thread.

It knows nothing of rings: a line gives it frames and their verdicts. At most five frames a second are saved,
so that saving takes little time of the processor from the line. A frame is saved once it has its verdict:
only then is it known whether it shows a part that may teach (`find_reason_to_leave_out`). No image is
both: one that is a known defect is not saved as a good part, and one that becomes a known defect is deleted
among the good parts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from drivers.image_file import Image
from monitor.capture.collect import encode_image, file_name
from monitor.errors import LineMonitorError
from monitor.line_state.frame import Frame
from monitor.line_state.ring import FinalVerdict
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder, most_images
from monitor.verdict import Reason, Verdict, rfc3339

_LOOK_S = 0.05
_LEAST_PAUSE_S = 0.2
_LONGEST_VERDICT_S = 30.0
"""A frame that has no verdict after so long is left out: the line was restarted."""
_LONGEST_SILENCE_S = 600.0
"""A collection ends when the camera has given no frame for so long."""


class CollectedLine(Protocol):
    """The running line, as far as a collection needs it (`monitor.review.line_view.LineView`)."""

    def newest_number(self, camera: str) -> int | None:
        """The number of the camera's newest frame; None without one. It copies no pixels."""

    def newest_frame(self, camera: str) -> tuple[Frame, Image] | None:
        """The camera's newest frame as the scorer gets it; None without one."""

    def final_verdict(self, camera: str, number: int) -> FinalVerdict | None:
        """The verdict of the camera's frame of that number; None before it, and after the frame has left the
        ring."""

    def judging_recipe(self, camera: str) -> str:
        """The name of the recipe that judges the camera's parts now."""


class LeftOut(Enum):
    """Why a frame is not collected, in words for the page."""

    CHALLENGE = "challenge parts"
    EMPTY = "frames without a part"
    REJECTED = "parts that the recipe rejects"
    KNOWN_DEFECT = "images that are known defects already"


def find_reason_to_leave_out(closed: FinalVerdict, *, is_own: bool) -> LeftOut | None:
    """Why a frame with that verdict must not teach; None for one that may. `is_own`: the recipe that is
    collected for judges the camera, so its rejects are likely to be bad parts. The rejects of another
    product's recipe say nothing."""
    if closed.challenge:
        return LeftOut.CHALLENGE
    if closed.reason is Reason.NO_PART:
        return LeftOut.EMPTY
    return LeftOut.REJECTED if is_own and closed.verdict is Verdict.REJECT else None


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
    kind: ImageKind = ImageKind.GOOD
    """What a person says that the parts are."""
    with_rejected: bool = False
    """Whether parts that the recipe itself rejects are saved too as good ones."""
    saved: int = 0
    moved: int = 0
    """How many images of good parts became known defects."""
    left_out: Counter[LeftOut] = field(default_factory=lambda: Counter(dict.fromkeys(LeftOut, 0)))
    """It has all keys from the start, because the page reads it while the thread counts."""
    state: CollectionState = CollectionState.WORKING
    problem: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)


class Collections:
    """Runs one collection at a time. Safe for several threads. `clock` is in seconds."""

    def __init__(self, line: CollectedLine, clock: Callable[[], float] = time.monotonic) -> None:
        self._line, self._clock = line, clock
        self._lock = threading.Lock()
        self.last: Collection | None = None

    def start(
        self,
        recipe: str,
        camera: str,
        count: int,
        folder: TeachingFolder,
        *,
        kind: ImageKind = ImageKind.GOOD,
        with_rejected: bool = False,
    ) -> Collection:
        """Raises TeachingError while another collection works, for a wrong count, without an image of the
        camera, and where the disk has no space for all."""
        if not 1 <= count <= most_images(kind):
            raise TeachingError(f"collect 1 to {most_images(kind)} images")
        with self._lock:
            if self.last is not None and self.last.state is CollectionState.WORKING:
                raise TeachingError(
                    f"images of camera {self.last.camera} are being collected for recipe "
                    f"{self.last.recipe}: wait until that ends, or stop it"
                )
            found = self._line.newest_frame(camera)
            if found is None:
                raise TeachingError(
                    f"camera {camera} gives no image: start the line, and look at the page Live"
                )
            folder.check_space(count * found[1].nbytes)
            collection = self.last = Collection(recipe, camera, count, kind, with_rejected)
        threading.Thread(
            target=self._work, args=(collection, folder, found[0].number), name="collection", daemon=True
        ).start()
        return collection

    def stop(self) -> None:
        """Ends the collection that works, if any."""
        with self._lock:
            if self.last is not None and self.last.state is CollectionState.WORKING:
                self.last._stop.set()
                self.last.state = CollectionState.STOPPED

    def forget_ended(self, recipe: str) -> None:
        """Forgets the recipe's last collection, unless it works: its numbers are no longer those of the
        images that are there."""
        with self._lock:
            last = self.last
            if last is not None and last.recipe == recipe and last.state is not CollectionState.WORKING:
                self.last = None

    def _work(self, collection: Collection, folder: TeachingFolder, last: int) -> None:
        try:
            self._save_frames(collection, folder, last)
        except LineMonitorError as error:
            self._end(collection, CollectionState.FAILED, str(error))
        except Exception:
            logging.getLogger(__name__).exception("recipe %s: the collection failed", collection.recipe)
            self._end(
                collection, CollectionState.FAILED, "it failed unexpectedly: the service's log has the reason"
            )
        else:
            self._end(collection, CollectionState.COMPLETE)

    def _save_frames(self, collection: Collection, folder: TeachingFolder, last: int) -> None:
        """Saves frames that come after the last one. Raises TeachingError."""
        camera = collection.camera
        heard_at = taken_at = self._clock()
        waiting: tuple[Frame, Image] | None = None
        while collection.saved < collection.count and not collection._stop.wait(_LOOK_S):
            now = self._clock()
            if waiting is not None:
                closed = self._line.final_verdict(camera, waiting[0].number)
                if closed is not None:
                    self._save(collection, folder, *waiting, closed)
                if closed is not None or now - taken_at > _LONGEST_VERDICT_S:
                    waiting = None
                continue
            number = self._line.newest_number(camera) if now - taken_at >= _LEAST_PAUSE_S else None
            found = self._line.newest_frame(camera) if number not in (None, last) else None
            if found is not None:
                waiting, last = found, found[0].number
                heard_at = taken_at = now
            elif now - heard_at > _LONGEST_SILENCE_S:
                raise TeachingError(
                    f"camera {camera} gave no image for {_LONGEST_SILENCE_S / 60:.0f} minutes: "
                    "look at the page Live, then collect again"
                )

    def _save(
        self,
        collection: Collection,
        folder: TeachingFolder,
        frame: Frame,
        image: Image,
        closed: FinalVerdict,
    ) -> None:
        """Saves the frame unless it must not serve. Raises TeachingError."""
        is_good = collection.kind is ImageKind.GOOD
        is_own = self._line.judging_recipe(collection.camera) == collection.recipe
        reason = find_reason_to_leave_out(closed, is_own=is_own and is_good and not collection.with_rejected)
        if reason is not None:
            collection.left_out[reason] += 1
            return
        content = encode_image(image)
        if folder.find_copies(ImageKind.DEFECT, content):
            collection.left_out[LeftOut.KNOWN_DEFECT] += 1
            return
        name = file_name(rfc3339(frame.captured_utc_ns), collection.camera, frame.number)
        if is_good:
            folder.copy(ImageKind.GOOD, name, content)
        else:
            collection.moved += folder.add_defect(name, content)
        collection.saved += 1

    def _end(self, collection: Collection, state: CollectionState, problem: str = "") -> None:
        with self._lock:
            if collection.state is CollectionState.WORKING:
                collection.state, collection.problem = state, problem
