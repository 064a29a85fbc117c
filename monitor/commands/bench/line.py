"""Measures the time from capture to published verdict on a whole line.

The line is the real service with one simulated camera and the embedded broker. The recipe is trained for one
epoch, since the time does not depend on its scores.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from drivers import simulated
from monitor import paths
from monitor.commands.embedded_broker import embedded_broker
from monitor.errors import LineMonitorError
from monitor.line_state.ring import Ring, RingError
from monitor.settings import load_settings
from monitor.teachers.architectures import BUNDLED
from monitor.training.train_recipe import TrainingRequest, train_recipe

_SCENE, _CAMERA, _IMAGES = "bottle-top", "bench", 12
_START_S = 60.0
_MIN_S = 3.0


class LineBenchError(LineMonitorError):
    """The line did not run. The message is one line with the reason."""


@dataclass(frozen=True)
class LineRow:
    """Frames and latencies of one camera."""

    frames: int
    uninspected: int
    p50_ms: float
    """From the capture to the moment at which the verdict is sent to the broker."""
    p99_ms: float


def measure(folder: Path, size: int, device: str, fps: int, seconds: float) -> LineRow:
    """Train a recipe, run the line with it for about `seconds`, and measure. Raises LineBenchError."""
    images = folder / "good"
    images.mkdir(parents=True)
    for number in range(_IMAGES):
        picture = simulated.render(_SCENE, 0, number, 0.0)
        (images / f"{number}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    train_recipe(
        TrainingRequest(
            name=_CAMERA,
            recipes=folder / "data" / "recipes",
            images=images,
            teacher=BUNDLED,
            teacher_weights=None,
            teachers=folder,
            size=size,
            epochs=1,
            device=device,
        ),
        say=lambda line: None,
    )
    with embedded_broker() as port:
        config = folder / "line.toml"
        config.write_text(
            f"[line]\ndata = {json.dumps(str(folder / 'data'))}\n"
            f'[[camera]]\nname = "{_CAMERA}"\nsource = "simulated://{_SCENE}?fps={fps}"\n'
            f'recipe = "{_CAMERA}"\ndeadline_ms = 2000\n'
            f'[scoring]\ndevice = "{device}"\n[mqtt]\nport = {port}\nprotocol = 4\n'
            "[metrics]\nport = 0\n[review]\nport = 0\n[snapshots]\nmin_free_gb = 0\n",
            encoding="utf-8",
        )
        return _run(config, seconds)


def _run(config: Path, seconds: float) -> LineRow:
    settings, log = load_settings(config), config.with_suffix(".log")
    with log.open("w") as out:
        service = subprocess.Popen(
            [sys.executable, "-P", "-m", "monitor.cli", "--config", str(config), "run"],
            stdout=out,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            ring = _first_verdict(paths.runtime(settings), service, log)
            first = ring.tally().cursor + 1
            time.sleep(max(seconds, _MIN_S))
            last = ring.tally().cursor
            service.send_signal(signal.SIGTERM)
            service.wait(20)
        except subprocess.TimeoutExpired as error:
            raise LineBenchError(f"the line did not stop: {_last_line(log)}") from error
        finally:
            if service.poll() is None:
                service.kill()
                service.wait()
    return _summarise(ring, first, last, log)


def _first_verdict(folder: Path, service: subprocess.Popen[bytes], log: Path) -> Ring:
    """The camera's ring, after the first verdict: until then the scoring worker warms up."""
    ring: Ring | None = None
    until = time.monotonic() + _START_S
    while time.monotonic() < until and service.poll() is None:
        try:
            ring = ring or Ring(folder, _CAMERA, writable=False)
        except RingError:
            ring = None
        if ring is not None and ring.tally().passed + ring.tally().rejected > 0:
            return ring
        time.sleep(0.1)
    raise LineBenchError(f"the line did not start: {_last_line(log)}")


def _summarise(ring: Ring, first: int, last: int, log: Path) -> LineRow:
    latencies, uninspected = [], 0
    for number in range(first, last + 1):
        frame, sent_ns, scored = ring.frame(number), ring.sent_ns(number), ring.scorer_verdict(number)
        if frame is None:
            continue
        uninspected += scored is None
        if sent_ns:
            latencies.append((sent_ns - frame.captured_ns) / 1e6)
    if not latencies:
        raise LineBenchError(f"no verdict was published: {_last_line(log)}")
    p50, p99 = np.percentile(latencies, [50, 99])
    return LineRow(last - first + 1, uninspected, float(p50), float(p99))


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
