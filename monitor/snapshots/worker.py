"""The snapshot writer: it writes rejected frames with their heatmaps into the folder that operators review.

It knows nothing of MQTT, and decides no verdict: it writes the verdict with which the publisher closed the
frame. On a frame's way it comes last, behind the publisher: a slow or full disk loses snapshots, but delays
no reject.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import zmq

from monitor import paths
from monitor.images.overlay import Caption, draw_overlay
from monitor.line_state import messages, verdict_rules
from monitor.line_state.board import Field
from monitor.line_state.changeover import find_judge
from monitor.line_state.messages import MessageError, SnapshotMessage
from monitor.line_state.ring import FinalVerdict, Ring
from monitor.line_state.worker_process import SNAPSHOTS, Worker
from monitor.snapshots.folder import SnapshotFolder
from monitor.snapshots.folder_scan import SnapshotError
from monitor.system.trouble_log import TroubleLog
from monitor.verdict import rfc3339

_IDLE_MS = 200
_CLOSED_WITHIN_NS = 2_000_000_000
"""How long a snapshot waits for the publisher to close its frame."""
_PRUNE_EVERY_NS = 10_000_000_000
_NICENESS = 10


class SnapshotWriter:
    """The snapshot writer's loop."""

    def __init__(self, worker: Worker, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._worker, self._clock = worker, clock
        self._settings = worker.settings
        self._cameras = {camera.name: camera for camera in self._settings.camera}
        self._rings = {name: Ring(worker.folder, name, worker.session) for name in self._cameras}
        self._folder = SnapshotFolder(paths.snapshots(self._settings), self._settings.snapshots)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = messages.open_receiver(
            context, worker.folder, messages.SNAPSHOTS, messages.SNAPSHOTS_HELD
        )
        self._prune_at_ns = 0
        self._trouble = TroubleLog(
            worker.log, began="snapshots are not kept: %s", ended="snapshots are kept again"
        )

    def run(self) -> None:
        """Write snapshots until the worker is stopped, and then those that still wait."""
        self._worker.mark_running()
        while not self._worker.stopping:
            self._worker.report_alive(20.0)
            self._prune()
            if self._socket.poll(_IDLE_MS, zmq.POLLIN):
                self.run_once()
        while self._socket.poll(0, zmq.POLLIN):
            self.run_once()

    def run_once(self) -> None:
        """Write the next snapshot that waits."""
        try:
            message = messages.receive_snapshot(self._socket)
            closed = self._wait_for_verdict(message)
        except MessageError as error:
            self._worker.log.warning("refused a malformed snapshot message: %s", error)
            return
        camera = self._cameras[message.camera]
        if (
            closed is None
            or not verdict_rules.derive_consequences(closed, camera, self._settings).has_snapshot
        ):
            # The publisher closed the frame without its score, so its verdict names no snapshot.
            return
        try:
            self._write(message, closed)
        except SnapshotError as error:
            self._report(str(error))
        else:
            self._worker.board.write(SNAPSHOTS, Field.SNAPSHOT_BYTES, self._folder.total_bytes)
            self._report("")

    def _wait_for_verdict(self, message: SnapshotMessage) -> FinalVerdict | None:
        """The publisher's verdict on the frame, or None if there is none within 2 s. Raises MessageError for
        an unknown camera."""
        ring = self._rings.get(message.camera)
        if ring is None:
            raise MessageError(f"no camera is called {message.camera!r}")
        until = self._clock() + _CLOSED_WITHIN_NS
        while (closed := ring.final_verdict(message.frame)) is None and self._clock() < until:
            time.sleep(0.005)
        return closed

    def _write(self, message: SnapshotMessage, closed: FinalVerdict) -> None:
        camera, ring = self._cameras[message.camera], self._rings[message.camera]
        frame, scored = ring.frame(message.frame), ring.scorer_verdict(message.frame)
        if frame is None or scored is None:
            raise SnapshotError(
                f"frame {message.frame} of camera {message.camera!r} is no longer in the ring"
            )
        judge = find_judge(self._worker.board, camera, scored.recipe_sha)
        event = verdict_rules.make_event(
            self._settings.prefix,
            str(self._worker.session),
            camera,
            judge,
            frame,
            closed,
            scored,
            self._settings.challenge.find_id(closed.challenge),
        )
        if event.snapshot is None:
            raise SnapshotError(f"frame {message.frame} of camera {message.camera!r} has no snapshot path")
        caption = Caption(
            score=scored.score,
            threshold=scored.threshold,
            verdict=closed.verdict.word,
            recipe=judge.recipe,
            camera=camera.name,
            frame=frame.number,
            captured_utc=rfc3339(frame.captured_utc_ns),
        )
        drawn = draw_overlay(message.image, message.anomaly_map, caption)
        ttl_ms = max(0, (frame.expires_ns - closed.closed_ns) // 1_000_000)
        self._folder.write(event.snapshot, drawn, message.image, event.payload(ttl_ms))

    def _prune(self) -> None:
        if self._clock() < self._prune_at_ns:
            return
        self._prune_at_ns = self._clock() + _PRUNE_EVERY_NS
        try:
            self._folder.prune()
        except SnapshotError as error:
            self._report(str(error))
        self._worker.board.write(SNAPSHOTS, Field.SNAPSHOT_BYTES, self._folder.total_bytes)

    def _report(self, trouble: str) -> None:
        """Log the present trouble and write it to the board; it is empty for none."""
        if self._trouble.report(trouble):
            self._worker.board.write_trouble(SNAPSHOTS, trouble)


def work(worker: Worker) -> None:
    # Rejects come first: on a busy machine the scoring worker and the publisher have priority.
    os.nice(_NICENESS)
    SnapshotWriter(worker).run()
