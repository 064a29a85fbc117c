"""Measures the publisher with many rejects and no subscriber: what a first sending waits for.

    .venv/bin/python -m tests.benchmarks.unheard_rejects [--rate 200] [--seconds 10]

A real publisher and a real Mosquitto; the parts of four cameras are written into their rings as if scored.
For the first half of the time no client is subscribed to the rejects, then one is. The exit code is 1 if a
first sending took longer than a deadline of 250 ms, a connection was dropped, or the line was latched.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drivers.camera import Shot
from monitor.capture.worker import Clocks, Intake
from monitor.line_state.board import Board, Field
from monitor.line_state.ring import Ring, ScorerVerdict
from monitor.line_state.worker_process import PUBLISH, Worker, WorkerStart, settings_for, worker_names
from monitor.publish.mqtt_connection import LinkState
from monitor.publish.worker import Publisher
from monitor.settings import Settings
from monitor.verdict import Reason, Verdict
from tests.benchmarks.markdown import markdown
from tests.real.line import Witness
from tests.real.mosquitto import Mosquitto

_CAMERAS = ("a", "b", "c", "d")
_DEADLINE_MS = 250


@dataclass
class Measured:
    """What became of the rejects. The times are of first sendings, from the score on."""

    alone_ms: list[float] = field(default_factory=list)
    """While no client was subscribed."""
    received_ms: list[float] = field(default_factory=list)
    """From the subscription on."""
    rejects: int = 0
    repeated: int = 0
    """Rejects that reached the subscriber after it had missed their first sending."""
    dropped: int = 0
    latch: int = 0


class _Line:
    """A publisher in this process, and the rings of its cameras."""

    def __init__(self, folder: Path, port: int) -> None:
        cameras = [{"name": name, "source": "simulated://plate", "recipe": "plate"} for name in _CAMERAS]
        settings = Settings(line={"data": folder / "data"}, camera=cameras, mqtt={"port": port})  # type: ignore[arg-type]
        (folder / "data").mkdir()
        session = uuid.uuid4()
        Board.create(folder / "board", worker_names(settings))
        self.board = Board(folder / "board", worker_names(settings))
        self.rings: list[Ring] = []
        self.intakes: list[Intake] = []
        for camera in settings.camera:
            Ring.create(folder, camera.name, session)
            ring = Ring(folder, camera.name, session)
            clocks = Clocks(time.monotonic_ns, time.time_ns)
            self.rings.append(ring)
            self.intakes.append(Intake(camera, ring, lambda frame: None, clocks))
        start = WorkerStart(PUBLISH, str(folder), str(session), os.getpid(), settings_for(settings, PUBLISH))
        self.publisher = Publisher(Worker(start))
        self.prefix = settings.prefix

    def reject(self, place: int) -> None:
        """A part of that camera is captured, and its score is above the threshold."""
        ring, now = self.rings[place], time.monotonic_ns()
        self.intakes[place].admit(Shot(np.zeros((2, 2), np.uint8), "Mono8", now))
        number = ring.last_frame()
        frame = ring.frame(number)
        assert frame is not None
        scored = ScorerVerdict(Verdict.REJECT, Reason.NONE, 2.0, 1.0, now, now, "", False)
        ring.write_scored(number, scored)
        ring.release(frame)

    def run(self, rate: float, seconds: float, parts: int) -> int:
        """Rejects for so long at that rate over all cameras. Returns how many there were, with `parts`."""
        began = time.monotonic()
        first = parts
        while (now := time.monotonic()) < began + seconds:
            while first + (now - began) * rate > parts:
                self.reject(parts % len(_CAMERAS))
                parts += 1
            self.publisher.run_once()
            self.publisher._wait()
        return parts

    def last_frames(self) -> list[int]:
        return [ring.last_frame() for ring in self.rings]

    def unsent(self) -> bool:
        """Whether a reject still waits for its first sending."""
        return any(
            ring.sent_ns(number) is None for ring in self.rings for number in range(1, ring.last_frame() + 1)
        )

    def sendings_ms(self, after: list[int], until: list[int]) -> list[float]:
        """The times from each score to the first sending, of each ring's frames between those numbers."""
        found = []
        for ring, first, last in zip(self.rings, after, until, strict=True):
            for number in range(first + 1, last + 1):
                scored, sent_ns = ring.scorer_verdict(number), ring.sent_ns(number)
                if scored is not None and sent_ns is not None:
                    found.append((sent_ns - scored.scored_ns) / 1e6)
        return found


def measure(folder: Path, port: int, rate: float, seconds: float) -> Measured:
    """Half of the time without a subscriber, the other half with one."""
    line, result = _Line(folder, port), Measured()
    until = time.monotonic() + 20
    while line.publisher._link.state is not LinkState.UP and time.monotonic() < until:
        line.publisher.run_once()
        time.sleep(0.01)
    line.run(0, 0.1, 0)
    generation = line.publisher._link.generation
    parts = line.run(rate, seconds / 2, 0)
    before = line.last_frames()
    witness = Witness(port, line.prefix)
    parts = line.run(rate, seconds / 2, parts)
    line.run(0, 0.5, parts)
    until = time.monotonic() + 10
    while line.unsent() and time.monotonic() < until:
        line.run(0, 0.1, parts)
    result.alone_ms = line.sendings_ms([0] * len(_CAMERAS), before)
    result.received_ms = line.sendings_ms(before, line.last_frames())
    result.rejects = parts
    result.repeated = sum(
        payload.payload["frame"] <= before[place]
        for place, name in enumerate(_CAMERAS)
        for payload in witness.heard(f"{name}/reject")
    )
    result.dropped = line.publisher._link.generation - generation
    result.latch = line.board.read(PUBLISH, Field.LATCH)
    witness.close()
    line.publisher._stop()
    return result


def faults(result: Measured, share: float = 1.0) -> list[str]:
    """What was not as promised, one line each; that share of the first sendings must be within a deadline."""
    times, found = [*result.alone_ms, *result.received_ms], []
    if len(times) != result.rejects:
        found.append(f"{result.rejects - len(times)} of {result.rejects} rejects were not sent")
    if times and (longest := float(np.quantile(times, share))) >= _DEADLINE_MS:
        found.append(f"{share:.0%} of the first sendings took up to {longest:.0f} ms, not {_DEADLINE_MS} ms")
    if result.dropped:
        found.append(f"the connection was dropped {result.dropped} times")
    if result.latch:
        found.append(f"the line was latched: {result.latch}")
    if not result.repeated:
        found.append("no reject was repeated for the subscriber")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200.0, help="rejects a second (default: 200)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long (default: 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Mosquitto() as broker:
        result = measure(Path(folder), broker.port, options.rate, options.seconds)
    rows = [["", "first sendings", "p50 ms", "p99 ms", "longest ms"]]
    rows += [
        [what, str(len(times)), *(f"{value:.1f}" for value in np.percentile(times, [50, 99, 100]))]
        for what, times in (("no subscriber", result.alone_ms), ("a subscriber", result.received_ms))
    ]
    print(markdown(rows))
    print(f"\nrejects {result.rejects}, repeated {result.repeated}, connections dropped {result.dropped}")
    found = faults(result)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
