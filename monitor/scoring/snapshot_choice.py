"""The rule for which scored frames get a snapshot: rejects, and every n-th passed frame.

It knows nothing of pictures, sockets or the folder: it only counts verdicts.
"""

from __future__ import annotations

from collections import Counter

from monitor.settings import CameraSettings, Mode
from monitor.verdict import Verdict


class SnapshotChoice:
    """The counts that the rule needs. `pass_every` is the setting `snapshots.pass_every`; 0 keeps no passed
    frame."""

    def __init__(self, pass_every: int) -> None:
        self._pass_every = pass_every
        self._passed = Counter[str]()
        """The number of passed frames by camera, without the frames that showed no part."""
        self._rejecting: set[str] = set()
        """Live views whose last judged frame was a reject."""

    def wants(self, camera: CameraSettings, verdict: Verdict) -> bool:
        """Return whether the camera's next scored frame gets a snapshot. Call it once for every scored frame.

        Of the frames of a defect that stays in a live view, only the first gets a snapshot.
        """
        if verdict is Verdict.PASS:
            self._rejecting.discard(camera.name)
            self._passed[camera.name] += 1
            return self._pass_every > 0 and self._passed[camera.name] % self._pass_every == 0
        if verdict is not Verdict.REJECT:
            return False
        is_first = camera.name not in self._rejecting
        if camera.mode is Mode.LATEST:
            self._rejecting.add(camera.name)
        return is_first

    def see_empty_place(self, camera: str) -> None:
        """Note a frame without a part: the defect in a live view has left, so the next reject is a new
        one."""
        self._rejecting.discard(camera)
