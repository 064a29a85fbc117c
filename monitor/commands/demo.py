"""The `demo` command: the whole line on simulated cameras and an embedded broker, judged by its own truth.

It trains on simulated good parts, runs the real service as a user would, listens to its rejects over MQTT,
and compares every verdict with what was really on the conveyor. Nothing here is on a frame's way.
"""

from __future__ import annotations

import argparse
import json
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from drivers import simulated
from monitor import paths
from monitor.commands.arguments import positive_integer
from monitor.commands.embedded_broker import embedded_broker
from monitor.errors import LineMonitorError
from monitor.line_state.ring import Ring, RingError
from monitor.settings import CameraSettings, Settings, load_settings
from monitor.verdict import Verdict

_GOOD_IMAGES, _CALIBRATION_IMAGES = 192, 256
_SIZE, _EPOCHS = 128, 50
_SEEDS = 1000
"""Parts to train and calibrate on are others than those on the line."""
_PARTS_A_SEED = 64
_START_S = 60.0
_LEAST_CAUGHT, _MOST_OVERKILL = 0.95, 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=positive_integer, default=60, metavar="N", help="how long the line runs"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep recipes and snapshots in DIR")


def run(options: argparse.Namespace) -> int:
    # Each reject is to be seen as it happens, also through a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return demo(options.seconds, options.keep)


class DemoError(LineMonitorError):
    """The demo can't go on; one line says why."""


@dataclass(slots=True)
class Outcome:
    """One camera's verdicts against the truth."""

    frames: int = 0
    defects: int = 0
    caught: int = 0
    escapes: int = 0
    overkills: int = 0
    uninspected: int = 0
    rejects_heard: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        for name in ("frames", "defects", "caught", "escapes", "overkills", "uninspected", "rejects_heard"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.latencies_ms += other.latencies_ms


def demo(seconds: int, keep: Path | None) -> int:
    """Runs the demo; 0 when defects were rejected over MQTT and snapshots written, as they should be."""
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DemoError(f"can't make {keep}: {error.strerror}") from error
        return _run(seconds, keep)
    with tempfile.TemporaryDirectory(prefix="line-monitor-demo-") as folder:
        return _run(seconds, Path(folder))


def _run(seconds: int, folder: Path) -> int:
    with embedded_broker() as port:
        file = _write_settings(folder, port)
        settings = load_settings(file)
        for recipe in dict.fromkeys(camera.recipe for camera in settings.camera):
            _train(settings, next(camera for camera in settings.camera if camera.recipe == recipe))
        print(f"running {len(settings.camera)} cameras for {seconds} s; rejects as the gateway hears them:")
        outcomes = _inspect(settings, file, port, seconds)
    return _summary(settings, outcomes, folder)


def _write_settings(folder: Path, port: int) -> Path:
    """The carried settings, with this demo's folder and port."""
    template = resources.files("monitor.config").joinpath("demo.toml").read_text(encoding="utf-8")
    file = folder / "line.toml"
    file.write_text(
        template.replace('data = "data"', f"data = {json.dumps(str(folder.resolve()))}").replace(
            "port = 1883", f"port = {port}"
        ),
        encoding="utf-8",
    )
    return file


def _train(settings: Settings, camera: CameraSettings) -> None:
    from monitor.model.recipe_document import RecipeError
    from monitor.system import progress
    from monitor.teachers.architectures import TeacherError
    from monitor.training.calibration import calibrate_recipe
    from monitor.training.thresholds import CalibrationError
    from monitor.training.train_recipe import TrainingError, TrainingRequest, train_recipe

    scene = urlsplit(camera.source).netloc
    good = settings.line.data / "good"
    _draw_parts(scene, good / "train", 0, _GOOD_IMAGES)
    _draw_parts(scene, good / "calibrate", _GOOD_IMAGES, _CALIBRATION_IMAGES)
    print(f"training recipe {camera.recipe!r} on {_GOOD_IMAGES} simulated good parts", flush=True)
    try:
        recipe = train_recipe(
            TrainingRequest(
                name=camera.recipe,
                recipes=paths.recipes(settings),
                images=good / "train",
                teacher=None,
                teacher_weights=None,
                teachers=paths.teachers(settings),
                size=_SIZE,
                epochs=_EPOCHS,
            ),
            say=print,
            progress=progress.on(sys.stdout),
        )
        calibrate_recipe(
            recipe=recipe.folder,
            images=good / "calibrate",
            say=print,
            progress=progress.on(sys.stdout),
        )
    except (RecipeError, TrainingError, TeacherError, CalibrationError) as error:
        raise DemoError(str(error)) from error


def _draw_parts(scene: str, folder: Path, first: int, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for exposure in range(first, first + count):
        # A conveyor's parts come round again; another seed brings new ones.
        image = simulated.render(scene, _SEEDS + exposure // _PARTS_A_SEED, exposure, 0.0)
        (folder / f"{exposure:04d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())


def _inspect(settings: Settings, file: Path, port: int, seconds: int) -> dict[str, Outcome]:
    witness = Witness(settings.prefix, port)
    log = settings.line.data / "service.log"
    with log.open("w") as out:
        service = subprocess.Popen(
            [sys.executable, "-P", "-m", "monitor.cli", "--config", str(file), "run"],
            stdout=out,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        rings: dict[str, Ring] = {}
        try:
            _await(lambda: _is_ready(witness, service), _START_S, f"the line did not start; see {log}")
            # The mappings outlive the service, which removes its files when it stops.
            rings = {c.name: Ring(paths.runtime(settings), c.name) for c in settings.camera}
            truths = {c.name: simulated.truth(c.source) for c in settings.camera}
            until = time.monotonic() + seconds
            while time.monotonic() < until and service.poll() is None:
                _print_rejects(witness, rings, truths)
            service.send_signal(signal.SIGTERM)
            service.wait(10)
            _print_rejects(witness, rings, truths)
        except (RingError, subprocess.TimeoutExpired) as error:
            raise DemoError(f"{error}; see {log}") from error
        finally:
            if service.poll() is None:
                service.kill()
                service.wait()
            witness.close()
    heard = witness.rejected
    return {name: _judge(ring, truths[name], heard.get(name, set())) for name, ring in rings.items()}


def _is_ready(witness: Witness, service: subprocess.Popen[bytes]) -> bool:
    if service.poll() is not None:
        raise DemoError(f"the service ended with exit code {service.returncode}")
    return witness.is_ready


def _print_rejects(
    witness: Witness, rings: dict[str, Ring], truths: dict[str, Callable[[int], simulated.Truth]]
) -> None:
    for payload in witness.take(0.2):
        camera, number = payload["camera"], payload["frame"]
        frame = rings[camera].frame(number)
        truth = truths[camera](frame.device_frame) if frame else None
        really = f"really: {truth.defect or 'good'}" if truth else ""
        what = f"  {payload['captured_utc'][11:23]} {camera} frame {number}:"
        if payload["verdict"] == "reject":
            ratio = payload["score"] / payload["threshold"]
            print(f"{what} reject, {ratio:.1f} x threshold, {really}")
        else:
            print(f"{what} uninspected, {payload['reason']}")


def _judge(ring: Ring, truth: Callable[[int], simulated.Truth], heard: set[int]) -> Outcome:
    outcome = Outcome(rejects_heard=len(heard))
    for number in range(1, ring.last_frame() + 1):
        frame, closed, sent_ns = ring.frame(number), ring.closed(number), ring.sent_ns(number)
        if frame is None or closed is None:
            continue
        outcome.frames += 1
        defective = truth(frame.device_frame).defective
        outcome.defects += defective
        # A defect counts as caught only when the gateway heard of it.
        outcome.caught += defective and closed.verdict is Verdict.REJECT and number in heard
        outcome.escapes += defective and closed.verdict is Verdict.PASS
        outcome.overkills += not defective and closed.verdict is Verdict.REJECT
        outcome.uninspected += closed.verdict is Verdict.UNINSPECTED
        if sent_ns:
            outcome.latencies_ms.append((sent_ns - frame.captured_ns) / 1e6)
    return outcome


def _summary(settings: Settings, outcomes: dict[str, Outcome], folder: Path) -> int:
    total = Outcome()
    for outcome in outcomes.values():
        total.add(outcome)
    snapshots = len(list(paths.snapshots(settings).rglob("*.jpg")))
    good = total.frames - total.defects
    p50, p99 = np.percentile(total.latencies_ms, [50, 99]) if total.latencies_ms else (np.nan, np.nan)
    print(
        f"\nframes      {total.frames} ({total.defects} with a defect)\n"
        f"rejects     {total.rejects_heard} heard over MQTT, {total.caught} of {total.defects} defects\n"
        f"overkills   {total.overkills} of {good} good parts\n"
        f"escapes     {total.escapes}\n"
        f"uninspected {total.uninspected}\n"
        f"snapshots   {snapshots}\n"
        f"capture to publish  p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    )
    if total.caught == 0 or snapshots == 0:
        raise DemoError("no defect was rejected over MQTT, or no snapshot was written")
    # One part more or less is chance on a short run.
    if total.caught < min(_LEAST_CAUGHT * total.defects, total.defects - 1):
        raise DemoError(f"only {total.caught} of {total.defects} defects were rejected")
    if total.overkills > max(_MOST_OVERKILL * good, 1):
        raise DemoError(f"{total.overkills} of {good} good parts were rejected")
    return 0


class Witness:
    """Listens at the broker as a gateway would."""

    def __init__(self, prefix: str, port: int) -> None:
        self.is_ready = False
        self.rejected: dict[str, set[int]] = {}
        self._heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self._prefix = prefix
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="demo-gateway", protocol=paho.MQTTv311
        )
        self._client.on_message = self._on_message
        self._client.on_connect = self._on_connect
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def take(self, wait_s: float) -> Iterator[dict[str, Any]]:
        """What came on the reject topics until nothing came for that long."""
        while True:
            try:
                yield self._heard.get(timeout=wait_s)
            except queue.Empty:
                return

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *rest: object) -> None:
        client.subscribe([(f"{self._prefix}/status", 1), (f"{self._prefix}/+/reject", 1)])

    def _on_message(self, client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        payload = json.loads(message.payload)
        if message.topic.endswith("/status"):
            self.is_ready = payload["ready"]
        elif payload["frame"] not in (seen := self.rejected.setdefault(payload["camera"], set())):
            seen.add(payload["frame"])
            self._heard.put(payload)


def _await(condition: Callable[[], bool], within_s: float, otherwise: str) -> None:
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > until:
            raise DemoError(otherwise)
        time.sleep(0.1)
