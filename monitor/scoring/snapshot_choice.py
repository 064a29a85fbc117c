"""The rule for which scored frames get a snapshot: rejects, and every n-th passed frame.

It knows nothing of pictures, sockets or the folder: it only counts verdicts. A live view gets one snapshot a
second at most, so that the snapshots of a view whose verdict changes with every frame leave room for those of
parts.
"""

from __future__ import annotations

from collections import Counter

from monitor.settings import CameraSettings, Mode
from monitor.verdict import Verdict

_VIEW_EVERY_NS = 1_000_000_000


class SnapshotChoice:
    """The counts that the rule needs. `pass_every` is the setting `snapshots.pass_every`; 0 keeps no passed
    frame."""

    def __init__(self, pass_every: int) -> None:
        self._pass_every = pass_every
        self._passed = Counter[str]()
        """The number of passed frames by camera, without the frames that showed no part."""
        self._shown: set[str] = set()
        """Live views whose present defect has its snapshot."""
        self._view_from_ns: dict[str, int] = {}
        """By live view, when it may have its next snapshot."""

    def wants(self, camera: CameraSettings, verdict: Verdict, now_ns: int) -> bool:
        """Return whether the camera's next scored frame gets a snapshot. Call it once for every scored frame.

        Of the frames of a defect that stays in a live view, only one gets a snapshot: the first for which
        the view may have one.
        """
        wanted = self._count(camera, verdict)
        if not wanted or camera.mode is not Mode.LATEST:
            return wanted
        if now_ns < self._view_from_ns.get(camera.name, now_ns):
            return False
        self._view_from_ns[camera.name] = now_ns + _VIEW_EVERY_NS
        if verdict is Verdict.REJECT:
            self._shown.add(camera.name)
        return True

    def _count(self, camera: CameraSettings, verdict: Verdict) -> bool:
        """Count the verdict. Return whether the frame gets a snapshot by its verdict alone."""
        if verdict is Verdict.PASS:
            self._shown.discard(camera.name)
            self._passed[camera.name] += 1
            return self._pass_every > 0 and self._passed[camera.name] % self._pass_every == 0
        return verdict is Verdict.REJECT and camera.name not in self._shown

    def see_empty_place(self, camera: str) -> None:
        """Note a frame without a part: the defect in a live view has left, so the next reject is a new
        one."""
        self._shown.discard(camera)

    def see_unsent(self, camera: str) -> None:
        """Note that a snapshot could not be sent: the defect in a live view still has none."""
        self._shown.discard(camera)
