"""`line-monitor demo`: runs a whole line on simulated cameras, and compares its verdicts with the truth.

It trains a recipe on simulated good parts, runs the real service on an embedded MQTT broker, and receives its
rejects as a gateway does. Then it compares every verdict with the part that was really under the camera.
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
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from monitor import paths
from monitor.commands.arguments import as_path, positive_integer
from monitor.errors import LineMonitorError
from monitor.settings import CameraSettings, Settings, load_settings
from monitor.verdict import Verdict

if TYPE_CHECKING:
    from paho.mqtt import client as paho

    from drivers.simulated import Truth
    from monitor.line_state.ring import Ring

    Truths = dict[str, Callable[[int], Truth]]

_GOOD_IMAGES, _SIZE = 224, 192
"""Of 224 images 199 calibrate, so that the threshold is the second highest score and no single odd part sets
it. Before a memory had a teacher of its own, more defects were rejected at 192x192 pixels than at 128x128 or
256x256."""
_BAD_IMAGES = 20
"""Number of parts with a defect that state what passes. They do not train."""
_FIRST_SEED = 1000
"""First seed of the training parts, so that they differ from the parts on the line."""
_PARTS_A_SEED = 64
"""Number of different parts that the simulated conveyor draws from one seed."""
_START_S = 120.0
_MIN_CAUGHT, _MAX_OVERKILL = 0.95, 0.02
"""Share of defects that must be rejected, and share of good parts that may be rejected."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds",
        type=positive_integer,
        default=30,
        metavar="N",
        help="time for which the line runs, in seconds (default: 30)",
    )
    parser.add_argument("--keep", type=as_path, metavar="DIR", help="keep the recipes and snapshots in DIR")


def run(options: argparse.Namespace) -> int:
    # Print each reject at once, also into a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return demo(options.seconds, options.keep)


class DemoError(LineMonitorError):
    """The demo failed. The message is one line with the reason."""


def demo(seconds: int, keep: Path | None) -> int:
    """Run the demo. Returns 0 if defects were rejected over MQTT and snapshots written. Raises DemoError."""
    if keep is not None:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DemoError(f"can't make {keep}: {error.strerror}") from error
        return _demo_in(keep, seconds)
    with tempfile.TemporaryDirectory(prefix="line-monitor-demo-") as folder:
        return _demo_in(Path(folder), seconds)


def _demo_in(folder: Path, seconds: int) -> int:
    from monitor.commands.embedded_broker import embedded_broker

    with embedded_broker() as port:
        file = _write_settings(folder, port)
        settings = load_settings(file)
        trained: set[str] = set()
        for camera in settings.camera:
            if camera.recipe not in trained:
                _train(settings, camera)
                trained.add(camera.recipe)
        print(
            f"running {len(settings.camera)} cameras for {seconds} s; rejects as the gateway receives them:"
        )
        results = _run_line(settings, file, port, seconds)
    total = sum(results, start=LineResult())
    snapshots = len(list(paths.snapshots(settings).rglob("*.jpg")))
    _print_summary(total, snapshots)
    _require_success(total, snapshots)
    return 0


def _write_settings(folder: Path, port: int) -> Path:
    """Write the demo's settings file with this folder and port."""
    template = resources.files("monitor.config").joinpath("demo.toml").read_text(encoding="utf-8")
    file = folder / "line.toml"
    file.write_text(
        template.replace('data = "data"', f"data = {json.dumps(str(folder.resolve()))}").replace(
            "port = 1883", f"port = {port}"
        ),
        encoding="utf-8",
    )
    return file


# Training


def _train(settings: Settings, camera: CameraSettings) -> None:
    """Train the camera's recipe on simulated good parts: a memory alone, because it takes seconds."""
    from monitor.system import progress
    from monitor.training.compare import Compare
    from monitor.training.train_recipe import TrainingRequest, train_recipe

    scene = urlsplit(camera.source).netloc
    good, bad = settings.line.data / "good", settings.line.data / "bad"
    _draw_parts(scene, good, _GOOD_IMAGES, 0.0)
    _draw_parts(scene, bad, _BAD_IMAGES, 1.0)
    print(f"training recipe {camera.recipe!r} on {_GOOD_IMAGES} simulated good parts", flush=True)
    request = TrainingRequest(
        name=camera.recipe,
        recipes=paths.recipes(settings),
        images=good,
        teacher=None,
        teacher_weights=None,
        teachers=paths.teachers(settings),
        size=_SIZE,
        compare=Compare.MEMORY,
        defects=bad,
    )
    train_recipe(request, say=print, progress=progress.choose_progress(sys.stdout))


def _draw_parts(scene: str, folder: Path, count: int, defects: float) -> None:
    """Save images of simulated parts, of which the share `defects` has a defect."""
    import cv2

    from drivers import simulated

    folder.mkdir(parents=True, exist_ok=True)
    for exposure in range(count):
        # A conveyor repeats its parts; another seed gives new ones.
        image = simulated.render(scene, _FIRST_SEED + exposure // _PARTS_A_SEED, exposure, defects)
        (folder / f"{exposure:04d}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())


# The running line


def _run_line(settings: Settings, file: Path, port: int, seconds: int) -> list[LineResult]:
    """Run the service for so long and print its rejects. Returns each camera's result."""
    from drivers import simulated
    from monitor.line_state.ring import Ring, RingError

    gateway = DemoGateway(settings.prefix, port)
    log = settings.line.data / "service.log"
    with log.open("w") as out:
        service = subprocess.Popen(
            [sys.executable, "-P", "-m", "monitor.cli", "--config", str(file), "run"],
            stdout=out,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            _wait_until_ready(gateway, service, log)
            # The mapped rings stay readable after the service has stopped and deleted their files.
            rings = {camera.name: Ring(paths.runtime(settings), camera.name) for camera in settings.camera}
            truths = {camera.name: simulated.truth(camera.source) for camera in settings.camera}
            until = time.monotonic() + seconds
            while time.monotonic() < until and service.poll() is None:
                _print_rejects(gateway, rings, truths)
            service.send_signal(signal.SIGTERM)
            service.wait(10)
            _print_rejects(gateway, rings, truths)
        except (RingError, subprocess.TimeoutExpired) as error:
            raise DemoError(f"{error}; see {log}") from error
        finally:
            if service.poll() is None:
                service.kill()
                service.wait()
            gateway.close()
    return [
        _compare_with_truth(ring, truths[name], gateway.rejected.get(name, set()))
        for name, ring in rings.items()
    ]


def _wait_until_ready(gateway: DemoGateway, service: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while not gateway.is_ready:
        if service.poll() is not None:
            raise DemoError(f"the service ended with exit code {service.returncode}; see {log}")
        if time.monotonic() > until:
            raise DemoError(f"the line did not start within {_START_S:.0f} s; see {log}")
        time.sleep(0.1)


def _print_rejects(gateway: DemoGateway, rings: dict[str, Ring], truths: Truths) -> None:
    for payload in gateway.take(0.2):
        camera, number = payload["camera"], payload["frame"]
        frame = rings[camera].frame(number)
        truth = truths[camera](frame.device_frame) if frame and frame.device_frame >= 0 else None
        really = f"really: {truth.defect or 'good'}" if truth else ""
        what = f"  {payload['captured_utc'][11:23]} {camera} frame {number}:"
        if payload["verdict"] == "reject":
            ratio = payload["score"] / payload["threshold"]
            print(f"{what} reject, {ratio:.1f} x threshold, {really}")
        else:
            print(f"{what} uninspected, {payload['reason']}")


class DemoGateway:
    """An MQTT client that receives the line's status and rejects as a gateway does."""

    def __init__(self, prefix: str, port: int) -> None:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self.is_ready = False
        self.rejected: dict[str, set[int]] = {}
        """By camera, the frames for which a reject was received."""
        self._received: queue.Queue[dict[str, Any]] = queue.Queue()
        self._prefix = prefix
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="demo-gateway", protocol=paho.MQTTv311
        )
        self._client.on_message = self._on_message
        self._client.on_connect = self._on_connect
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def take(self, wait_s: float) -> Iterator[dict[str, Any]]:
        """The payloads of rejects, until none was received for `wait_s` seconds."""
        while True:
            try:
                yield self._received.get(timeout=wait_s)
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
            self._received.put(payload)


# The result


@dataclass(frozen=True, slots=True)
class LineResult:
    """Numbers of frames, by verdict and by what the part really was."""

    frames: int = 0
    defects: int = 0
    caught: int = 0
    """Defects whose reject was received over MQTT."""
    escapes: int = 0
    overkills: int = 0
    uninspected: int = 0
    rejects_received: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def __add__(self, other: LineResult) -> LineResult:
        return LineResult(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def _compare_with_truth(ring: Ring, truth: Callable[[int], Truth], rejected: set[int]) -> LineResult:
    """Compare each verdict of a camera with the truth. `rejected` are the frames of received rejects."""
    frames = defects = caught = escapes = overkills = uninspected = 0
    latencies_ms = []
    for number in range(1, ring.last_frame() + 1):
        frame, closed, sent_ns = ring.frame(number), ring.final_verdict(number), ring.sent_ns(number)
        if frame is None or closed is None:
            continue
        frames += 1
        # The number of a missed exposure is not known.
        defective = frame.device_frame >= 0 and truth(frame.device_frame).defective
        defects += defective
        caught += defective and closed.verdict is Verdict.REJECT and number in rejected
        escapes += defective and closed.verdict is Verdict.PASS
        overkills += not defective and closed.verdict is Verdict.REJECT
        uninspected += closed.verdict is Verdict.UNINSPECTED
        if sent_ns:
            latencies_ms.append((sent_ns - frame.captured_ns) / 1e6)
    return LineResult(frames, defects, caught, escapes, overkills, uninspected, len(rejected), latencies_ms)


def _print_summary(total: LineResult, snapshots: int) -> None:
    import numpy as np

    p50, p99 = np.percentile(total.latencies_ms, [50, 99]) if total.latencies_ms else (np.nan, np.nan)
    print(
        f"\nframes      {total.frames} ({total.defects} with a defect)\n"
        f"rejects     {total.rejects_received} received over MQTT, "
        f"{total.caught} of {total.defects} defects\n"
        f"overkills   {total.overkills} of {total.frames - total.defects} good parts rejected\n"
        f"escapes     {total.escapes} defects passed\n"
        f"uninspected {total.uninspected}\n"
        f"snapshots   {snapshots}\n"
        f"capture to publish  p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    )


def _require_success(total: LineResult, snapshots: int) -> None:
    """Raises DemoError for too few rejected defects, too many rejected good parts, or no snapshot."""
    good = total.frames - total.defects
    if total.caught == 0 or snapshots == 0:
        raise DemoError("no defect was rejected over MQTT, or no snapshot was written")
    # In a short run the shares may be off by one part.
    if total.caught < min(_MIN_CAUGHT * total.defects, total.defects - 1):
        raise DemoError(f"only {total.caught} of {total.defects} defects were rejected")
    if total.overkills > max(_MAX_OVERKILL * good, 1):
        raise DemoError(f"{total.overkills} of {good} good parts were rejected")
