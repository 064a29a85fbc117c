"""The snapshot writer: rejected frames with their heatmaps into the folder that operators review.

It works at its leisure, behind the verdict: a slow or full disk costs snapshots, never a reject. It must
never write a verdict of its own: what stands in a snapshot is what the publisher closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import zmq

from monitor import paths
from monitor.images.overlay import Caption, draw_overlay
from monitor.line_state import messages, verdict_rules
from monitor.line_state.board import Word
from monitor.line_state.changeover import recipe_name
from monitor.line_state.messages import BadMessage, SnapshotParts
from monitor.line_state.ring import Closed, Ring
from monitor.line_state.worker_process import SNAPSHOTS, Worker
from monitor.snapshots.folder import SnapshotError, SnapshotFolder
from monitor.verdict import rfc3339

_IDLE_MS = 200
_PATIENCE_NS = 2_000_000_000
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
        self._socket = messages.pull(context, worker.folder, messages.SNAPSHOTS, messages.SNAPSHOTS_HELD)
        self._prune_at_ns = 0
        self._trouble = ""

    def run(self) -> None:
        """Writes until told to stop, and then what still waits."""
        self._worker.running()
        while not self._worker.stopping:
            self._worker.promise(20.0)
            self._prune()
            if self._socket.poll(_IDLE_MS, zmq.POLLIN):
                self.run_once()
        while self._socket.poll(0, zmq.POLLIN):
            self.run_once()

    def run_once(self) -> None:
        """Writes the next snapshot that waits."""
        try:
            parts = messages.receive_snapshot(self._socket)
            closed = self._closed(parts)
        except BadMessage as error:
            self._worker.log.warning("refused a message: %s", error)
            return
        if closed is None or not (closed.judged and closed.snapshot):
            # The frame was closed without its score: nobody was told of a snapshot.
            return
        try:
            self._write(parts, closed)
        except SnapshotError as error:
            self._say(str(error))
        else:
            self._worker.board.write(SNAPSHOTS, Word.SNAPSHOT_BYTES, self._folder.total_bytes)
            self._say("")

    def _closed(self, parts: SnapshotParts) -> Closed | None:
        """The publisher's verdict, which is there in a moment if it is not yet."""
        ring = self._rings.get(parts.camera)
        if ring is None:
            raise BadMessage(f"no camera is called {parts.camera!r}")
        until = self._clock() + _PATIENCE_NS
        while (closed := ring.closed(parts.frame)) is None and self._clock() < until:
            time.sleep(0.005)
        return closed

    def _write(self, parts: SnapshotParts, closed: Closed) -> None:
        camera, ring = self._cameras[parts.camera], self._rings[parts.camera]
        frame, scored = ring.frame(parts.frame), ring.scored(parts.frame)
        if frame is None or scored is None:
            raise SnapshotError(f"frame {parts.frame} of camera {parts.camera!r} has left the ring")
        recipe = recipe_name(self._worker.board, camera, scored.recipe_sha)
        event = verdict_rules.event(
            self._settings.prefix, str(self._worker.session), camera, recipe, frame, closed, scored
        )
        if event.snapshot is None:
            raise SnapshotError(f"frame {parts.frame} of camera {parts.camera!r} has no snapshot path")
        caption = Caption(
            score=scored.score,
            threshold=scored.threshold,
            verdict=closed.verdict.word,
            recipe=recipe,
            camera=camera.name,
            frame=frame.number,
            captured_utc=rfc3339(frame.captured_utc_ns),
        )
        drawn = draw_overlay(parts.image, parts.anomaly_map, caption)
        ttl_ms = max(0, (frame.expires_ns - closed.closed_ns) // 1_000_000)
        self._folder.write(event.snapshot, drawn, parts.image, event.payload(ttl_ms))

    def _prune(self) -> None:
        if self._clock() < self._prune_at_ns:
            return
        self._prune_at_ns = self._clock() + _PRUNE_EVERY_NS
        try:
            self._folder.prune()
        except SnapshotError as error:
            self._say(str(error))
        self._worker.board.write(SNAPSHOTS, Word.SNAPSHOT_BYTES, self._folder.total_bytes)

    def _say(self, trouble: str) -> None:
        """One line when trouble starts or changes, one when it ends."""
        if trouble == self._trouble:
            return
        if trouble:
            self._worker.log.error("not kept: %s", trouble)
        else:
            self._worker.log.info("snapshots are kept again")
        self._trouble = trouble
        self._worker.board.say(SNAPSHOTS, trouble)


def work(worker: Worker) -> None:
    # Rejects come first: on a busy machine the scorer and the publisher take the processor.
    os.nice(_NICENESS)
    SnapshotWriter(worker).run()
