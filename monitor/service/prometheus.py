"""The line's metrics for Prometheus, read from the rings and the board.

It knows nothing of how frames are judged or sent. The supervisor's process serves them, so that no worker
waits for a request. The counts come from the rings, so they survive the restart of any worker.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from monitor.line_state.board import Board, CameraState, Field
from monitor.line_state.counts import Counts, count_verdicts
from monitor.line_state.ring import RECORDS, Ring
from monitor.line_state.worker_process import PUBLISH, SCORING, SNAPSHOTS, capture_name, worker_names
from monitor.settings import Mode, Settings
from monitor.verdict import Reason, Verdict

_LATENCY_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5)
_RATIO_BUCKETS = (0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 5.0, 10.0)
_FRAMES_PER_STEP = 2000
_RETRY_PORT_NS = 15_000_000_000


class Metrics(Collector):
    """The metrics and their HTTP port."""

    def __init__(
        self,
        settings: Settings,
        rings: Mapping[str, Ring],
        board: Board,
        log: logging.Logger,
        lost_rejects: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._settings, self._rings, self._board, self._log = settings, rings, board, log
        self._lost_rejects = lost_rejects
        """By camera: the rejects that were lost with a killed service before this session. A camera may have
        been removed from the settings since."""
        self._registry = CollectorRegistry()
        self._latency = Histogram(
            "line_monitor_latency_seconds",
            "Time a frame spent in a stage, and in total from capture to sent verdict",
            ["camera", "stage"],
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._ratio = Histogram(
            "line_monitor_score_ratio",
            "Score divided by threshold",
            ["camera"],
            buckets=_RATIO_BUCKETS,
            registry=self._registry,
        )
        self._answers = Histogram(
            "line_monitor_ack_seconds",
            "Time from sending a reject to the gateway's answer, with mqtt.ack_timeout_ms above 0",
            ["camera"],
            buckets=(*_LATENCY_BUCKETS, 5.0, 10.0),
            registry=self._registry,
        )
        self._registry.register(self)
        self._followed = dict.fromkeys(rings, 0)
        self._server: WSGIServer | None = None
        self._serve_at_ns = 0

    def step(self) -> None:
        """Opens the port if it is not open, and takes new frames from the rings. Called many times a
        second."""
        if self._server is None and time.monotonic_ns() >= self._serve_at_ns:
            self._serve_at_ns = time.monotonic_ns() + _RETRY_PORT_NS
            self._open_port()
        self.follow()

    def _open_port(self) -> None:
        """Opens the port if one is set. A port in use is logged, and tried again after 15 s."""
        port = self._settings.metrics.port
        if port == 0:
            return
        try:
            self._server, _ = start_http_server(port, registry=self._registry)
        except OSError as error:
            self._log.error(
                "metrics port %d can't be opened: %s; set metrics.port to a free one, or 0",
                port,
                error.strerror,
            )

    def close(self) -> None:
        """Closes the port. It does not wait for the thread that serves the port."""
        if self._server is not None:
            threading.Thread(target=self._server.shutdown, daemon=True).start()
            self._server = None

    def follow(self) -> None:
        """Reads the latencies of counted frames from the rings, before later frames replace their records."""
        for camera, ring in self._rings.items():
            start, cursor = self._followed[camera], ring.tally().cursor
            start = max(start, cursor - RECORDS // 2)
            end = min(cursor, start + _FRAMES_PER_STEP)
            for number in range(start + 1, end + 1):
                self._observe(camera, ring, number)
            self._followed[camera] = end

    def _observe(self, camera: str, ring: Ring, number: int) -> None:
        frame, scored, sent_ns = ring.frame(number), ring.scorer_verdict(number), ring.sent_ns(number)
        if frame is None:
            return
        if scored is not None:
            self._latency.labels(camera, "queue").observe((scored.started_ns - frame.captured_ns) / 1e9)
            self._latency.labels(camera, "score").observe((scored.scored_ns - scored.started_ns) / 1e9)
            closed = ring.final_verdict(number)
            is_production = closed is None or not closed.challenge
            if is_production and scored.threshold > 0 and math.isfinite(scored.score):
                self._ratio.labels(camera).observe(scored.score / scored.threshold)
            if sent_ns and sent_ns >= scored.scored_ns:
                self._latency.labels(camera, "publish").observe((sent_ns - scored.scored_ns) / 1e9)
        if sent_ns and (answered_ns := ring.answered_ns(number)):
            self._answers.labels(camera).observe((answered_ns - sent_ns) / 1e9)
        if sent_ns:
            self._latency.labels(camera, "total").observe((sent_ns - frame.captured_ns) / 1e9)

    def collect(self) -> Iterator[Metric]:
        """The counts and states at this moment, from the rings and the board."""
        frames = CounterMetricFamily("line_monitor_frames", "Frames captured", labels=["camera"])
        verdicts = CounterMetricFamily(
            "line_monitor_verdicts", "Frames closed", labels=["camera", "verdict", "reason"]
        )
        misses = CounterMetricFamily(
            "line_monitor_deadline_misses", "Frames without a score at their deadline", labels=["camera"]
        )
        missed = CounterMetricFamily(
            "line_monitor_rejects_missed",
            "Rejects not sent in time, not acknowledged in time, not acted on by the gate, or lost with a "
            "killed service before this one",
            labels=["camera"],
        )
        overruns = CounterMetricFamily(
            "line_monitor_overruns",
            "Exposures refused because the ring was full: the publisher was stopped for too long",
            labels=["camera"],
        )
        up = GaugeMetricFamily(
            "line_monitor_camera_up", "Whether the camera delivers frames", labels=["camera"]
        )
        for camera, ring in self._rings.items():
            now = count_verdicts(ring)
            frames.add_metric([camera], now.frames)
            _add_verdicts(verdicts, camera, now)
            misses.add_metric([camera], now.uninspected[Reason.DEADLINE])
            missed.add_metric([camera], now.missed_rejects + self._lost_rejects.get(camera, 0))
            overruns.add_metric([camera], ring.overruns())
            worker = capture_name(camera)
            state = self._board.camera_state(worker)
            alive = self._board.is_fresh(worker, time.monotonic_ns())
            up.add_metric([camera], float(alive and state is CameraState.UP))
        for camera in self._lost_rejects.keys() - self._rings.keys():
            missed.add_metric([camera], self._lost_rejects[camera])
        yield from (frames, verdicts, misses, missed, overruns, up, self._collect_drift())
        yield self._collect_without_time()
        publishing = self._board.is_fresh(PUBLISH, time.monotonic_ns())
        ready = self._board.read(PUBLISH, Field.READY) if publishing else 0
        yield GaugeMetricFamily("line_monitor_ready", "The run permission as last sent", value=ready)
        recorded = publishing and not self._board.read(PUBLISH, Field.JOURNAL_FAILING)
        yield GaugeMetricFamily("line_monitor_journal_ok", "Whether the journal is written", value=recorded)
        yield GaugeMetricFamily(
            "line_monitor_snapshot_bytes",
            "Bytes in the snapshot folder",
            value=self._board.read(SNAPSHOTS, Field.SNAPSHOT_BYTES),
        )
        yield from self._collect_disk()
        restarts = CounterMetricFamily(
            "line_monitor_worker_restarts", "Restarts of the worker", labels=["worker"]
        )
        for worker in worker_names(self._settings)[1:]:
            restarts.add_metric([worker], self._board.read(worker, Field.RESTARTS))
        yield restarts

    def _collect_disk(self) -> Iterator[GaugeMetricFamily]:
        """The free space on the disk. There is no sample while it can't be read, so a missing sample shows a
        trouble with the disk."""
        free = GaugeMetricFamily("line_monitor_disk_free_bytes", "Free bytes on the disk of line.data")
        with contextlib.suppress(OSError):
            free.add_metric([], shutil.disk_usage(self._settings.line.data).free)
        yield free

    def _collect_without_time(self) -> GaugeMetricFamily:
        """Whether parts leave a live view no time. There is no sample while the scoring worker is stopped."""
        without = GaugeMetricFamily(
            "line_monitor_view_without_time", "1: parts leave no time for the live view", labels=["camera"]
        )
        if self._board.is_fresh(SCORING, time.monotonic_ns()):
            bits = self._board.read(SCORING, Field.WITHOUT_TIME)
            for i, camera in enumerate(self._settings.camera):
                if camera.mode is Mode.LATEST:
                    without.add_metric([camera.name], bits >> i & 1)
        return without

    def _collect_drift(self) -> GaugeMetricFamily:
        """The drift of each camera. There is no sample while the scoring worker is stopped: its last value
        may be wrong by then."""
        drift = GaugeMetricFamily(
            "line_monitor_drift",
            "Scores of good parts against calibration: 1 higher, -1 lower, 0 the same",
            labels=["camera"],
        )
        if self._board.is_fresh(SCORING, time.monotonic_ns()):
            higher = self._board.read(SCORING, Field.DRIFT_HIGHER)
            lower = self._board.read(SCORING, Field.DRIFT_LOWER)
            for i, camera in enumerate(self._settings.camera):
                if camera.mode is Mode.EVERY_PART:
                    drift.add_metric([camera.name], (higher >> i & 1) - (lower >> i & 1))
        return drift


def _add_verdicts(verdicts: CounterMetricFamily, camera: str, now: Counts) -> None:
    verdicts.add_metric([camera, "pass", ""], now.passed - now.no_part)
    if now.no_part:
        verdicts.add_metric([camera, "pass", Reason.NO_PART.word or ""], now.no_part)
    verdicts.add_metric([camera, "reject", ""], now.rejected)
    if sum(now.challenges):
        for verdict, count in zip(Verdict, now.challenges, strict=True):
            verdicts.add_metric([camera, "challenge", verdict.word], count)
    for reason in Reason:
        if reason is not Reason.NONE and now.uninspected[reason]:
            verdicts.add_metric([camera, "uninspected", reason.word or ""], now.uninspected[reason])
