"""The `check` command: everything a line needs, one line an item, with the fix. Changes nothing.

Must never print a secret, and never take a camera or a client id away from a running line.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TextIO

import drivers
from drivers.camera import CameraError, SourceEnded
from monitor import paths
from monitor.images.tiling import shown
from monitor.line_state import changeover
from monitor.line_state.frame import PixelFormat, crop
from monitor.publish import mqtt
from monitor.settings import (
    CameraSettings,
    MqttSettings,
    Settings,
    SettingsError,
    find_settings_file,
    load_settings,
)

_TIME_ERROR = 5
"""ntp_adjtime(3): the clock is not synchronised."""
_GB = 1e9
_JUMBO = 8000
_PROBE = "line-monitor-check"
"""What the broker is asked about as if it were a camera."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes no arguments of its own."""


def run(options: argparse.Namespace) -> int:
    return check(options.config, sys.stdout)


class Level(Enum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    item: str
    text: str


def check(config: Path | None, out: TextIO) -> int:
    """Prints all findings; the exit code is 1 when one of them is FAIL."""
    failed = False
    for finding in findings(config):
        failed |= finding.level is Level.FAIL
        out.write(f"{finding.level.value:<5} {finding.item}: {finding.text}\n")
        out.flush()
    return int(failed)


def findings(config: Path | None) -> Iterator[Finding]:
    try:
        file = find_settings_file(config)
        settings = load_settings(file)
    except SettingsError as error:
        for line in str(error).splitlines():
            yield Finding(Level.FAIL, "settings", line)
        return
    yield Finding(
        Level.OK, "settings", f"{file}, {len(settings.camera)} cameras, topics {settings.prefix}/..."
    )
    yield from _review(settings)
    running = _running(settings)
    yield from _service(settings, running)
    yield _device(settings)
    yield from _recipes(settings)
    for camera in settings.camera:
        yield _camera(camera, running)
    yield from _jumbo_frames(settings)
    if not settings.camera:
        yield Finding(Level.WARN, "cameras", "no [[camera]] in the settings: `run` has nothing to inspect")
    yield from _broker(settings, running)
    yield from _disk(settings, running)
    yield _clock()


def _review(settings: Settings) -> Iterator[Finding]:
    from monitor.review.access import refusal

    if settings.review.port == 0:
        return
    if (why := refusal(settings.review)) is not None:
        # systemd hands credentials to the service alone: here it may only not be seen.
        seen = settings.review.password_hash is not None
        yield Finding(
            Level.FAIL if seen else Level.WARN, "review", f"{why}; or the credential review_password"
        )
        return
    yield Finding(Level.OK, "review", f"the page is at {settings.review.host} port {settings.review.port}")


def _running(settings: Settings) -> bool:
    if not (settings.line.data / ".lock").exists():
        return False
    try:
        with paths.DataLock(settings):
            return False
    except paths.PlaceError:
        return True


def _service(settings: Settings, running: bool) -> Iterator[Finding]:
    """Whether a line runs on this data folder; where none does, whether its ports are free."""
    if running:
        holder = (settings.line.data / ".lock").read_text(errors="replace").strip()
        yield Finding(Level.OK, "service", f"a line runs here (pid {holder}): what it holds is not tried")
        return
    for name, host, port in (
        ("metrics", "0.0.0.0", settings.metrics.port),
        ("review", settings.review.host, settings.review.port),
    ):
        if port and (why := _not_free(host, port)):
            yield Finding(
                Level.FAIL,
                name,
                f"{name}.port {port} can't be had: {why}; set another one, or 0, or end what has it "
                f"(ss -ltnp 'sport = :{port}' shows it)",
            )


def _not_free(host: str, port: int) -> str | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: what lingers of an earlier connection is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return str(error.strerror or error)
    return None


def _jumbo_frames(settings: Settings, interfaces: Path = Path("/sys/class/net")) -> Iterator[Finding]:
    """GigE Vision in packets of 1500 bytes works, but costs the processor six times the interrupts."""
    if not any(camera.source.startswith("gige://") for camera in settings.camera):
        return
    sizes = {
        place.name: int((place / "mtu").read_text())
        for place in sorted(interfaces.iterdir())
        if place.name != "lo" and (place / "device").exists()
    }
    if sizes and max(sizes.values()) < _JUMBO:
        named = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        yield Finding(
            Level.WARN,
            "network",
            f"no interface takes jumbo frames ({named}): for GigE cameras, ip link set dev NAME mtu 9000, "
            "where the switch does too",
        )


def _device(settings: Settings) -> Finding:
    from monitor.inference.backends import choose_device
    from monitor.model.recipe_document import RecipeError

    try:
        device = choose_device(settings.scoring.device)
    except RecipeError as error:
        return Finding(Level.FAIL, "device", str(error))
    return Finding(Level.OK, "device", f"scoring.device {settings.scoring.device!r} is {device} here")


def _recipes(settings: Settings) -> Iterator[Finding]:
    from monitor.inference.presence import explain
    from monitor.inference.scorer import Scorer
    from monitor.model.recipe_document import RecipeError
    from monitor.model.recipe_version import RecipeVersion
    from monitor.training.thresholds import needed

    in_force: dict[str, str] = {}
    for camera in settings.camera:
        try:
            in_force[camera.name] = changeover.to_load(paths.changeovers(settings), camera)
        except changeover.ChangeoverError as error:
            yield Finding(Level.FAIL, f"camera {camera.name}", str(error))
    for name in dict.fromkeys(in_force.values()):
        try:
            recipe = RecipeVersion.load(paths.recipes(settings) / name)
            scorer = Scorer(
                recipe,
                device=settings.scoring.device,
                runtime=settings.scoring.runtime,
                precision=settings.scoring.precision,
            )
            threshold = scorer.threshold
        except RecipeError as error:
            yield Finding(Level.FAIL, f"recipe {name}", str(error))
            continue
        yield Finding(
            Level.OK,
            f"recipe {name}",
            f"{shown(recipe.size)} px, threshold {threshold:.4g}, teacher {recipe.document.teacher.name}, "
            f"runs on {scorer.calibration_key}"
            + (f", {explain(recipe.document.presence)}" if recipe.document.presence else ""),
        )
        calibration = scorer.calibration
        if not calibration.guaranteed:
            yield Finding(
                Level.WARN,
                f"recipe {name}",
                f"its threshold is an estimate from {len(calibration.scores)} good images: for at most "
                f"{calibration.overkill:.2%} overkill {needed(calibration.overkill)} are needed; "
                f"collect some and run: line-monitor calibrate {name} --images DIR",
            )
        if recipe.document.presence and not recipe.document.presence.parts:
            yield Finding(
                Level.WARN,
                f"recipe {name}",
                "nobody looked whether its presence gate takes parts for an empty place: "
                f"run: line-monitor calibrate {name} --images DIR, with good images",
            )
        for camera in settings.camera:
            trained = tuple(recipe.roi) if recipe.roi else None
            if in_force.get(camera.name) == name and trained != camera.roi:
                yield Finding(
                    Level.FAIL if trained else Level.WARN,
                    f"recipe {name}",
                    f"trained on roi {list(trained) if trained else 'none'}, camera {camera.name} has "
                    f"{list(camera.roi) if camera.roi else 'none'}: set that one, or train a recipe for this",
                )


def _camera(camera: CameraSettings, running: bool) -> Finding:
    item = f"camera {camera.name}"
    if running:
        return Finding(Level.OK, item, "in use by the running line; see its status")
    try:
        driver = drivers.open(camera.source)
    except CameraError as error:
        return Finding(Level.FAIL, item, str(error))
    try:
        driver.open()
        for _ in range(10):
            if (shot := driver.read(1.0)) is None:
                continue
            if shot.pixels is None:
                return Finding(Level.FAIL, item, f"its frames are unusable: {shot.fault}")
            height, width = shot.pixels.shape[:2]
            try:
                crop(shot.pixels, PixelFormat[shot.pixel_format], camera.roi)
            except (KeyError, ValueError) as error:
                return Finding(Level.FAIL, item, f"{error}; its frames can't be inspected")
            return Finding(Level.OK, item, f"{width}x{height} {shot.pixel_format}")
        return Finding(Level.WARN, item, "there, but no frame came within 10 s: is it triggered?")
    except SourceEnded:
        return Finding(Level.FAIL, item, f"{drivers.redacted(camera.source)} has no frames")
    except CameraError as error:
        return Finding(Level.FAIL, item, str(error))
    finally:
        driver.close()


def _broker(settings: Settings, running: bool) -> Iterator[Finding]:
    where = f"{settings.mqtt.host}:{settings.mqtt.port}"
    yield from _tls_files(settings.mqtt)
    # A topic that the ACL treats as a camera's, of a camera that no gateway knows; a running line has told
    # already what it may not say.
    known = {camera.name for camera in settings.camera}
    topic = None if running or _PROBE in known else f"{settings.prefix}/{_PROBE}/verdict"
    try:
        mqtt.probe(settings.mqtt, f"{settings.line.site}-{settings.line.name}-check-{os.getpid()}", topic)
    except mqtt.ConnectError as error:
        yield Finding(Level.FAIL, "broker", str(error))
    except mqtt.PublishRefused as error:
        yield Finding(Level.FAIL, "broker", f"{where} {error}, config/mosquitto-acl-example shows one")
    else:
        # MQTT 3.1.1 has no way to say that a message was refused.
        lets = " and lets us publish" if topic and settings.mqtt.protocol == 5 else ""
        yield Finding(Level.OK, "broker", f"{where} answers{lets}")
    if settings.mqtt.protocol == 4:
        yield Finding(
            Level.WARN,
            "broker",
            "mqtt.protocol = 4 has no message expiry: a broker that was away could hand out old messages; "
            "use a broker with MQTT 5 and set 5",
        )
    is_local = settings.mqtt.host in ("127.0.0.1", "localhost", "::1")
    if settings.mqtt.password is not None and settings.mqtt.ca_file is None and not is_local:
        yield Finding(Level.WARN, "broker", "the password travels unencrypted: set mqtt.ca_file for TLS")
    if settings.mqtt.username is not None and settings.mqtt.password is None:
        yield Finding(
            Level.WARN,
            "broker",
            "mqtt.username has no password here: put it into /etc/line-monitor/mqtt_password, and run check "
            "with CREDENTIALS_DIRECTORY=/etc/line-monitor",
        )


def _tls_files(settings: MqttSettings) -> Iterator[Finding]:
    for key in ("ca_file", "cert_file", "key_file"):
        file: Path | None = getattr(settings, key)
        if file is not None and not os.access(file, os.R_OK):
            why = "can't be read by this user" if file.exists() else "no such file"
            yield Finding(Level.FAIL, "broker", f"mqtt.{key} {file}: {why}")


def _disk(settings: Settings, running: bool) -> Iterator[Finding]:
    data = settings.line.data
    # The service makes the folder at its first start; until then its nearest parent tells.
    there = next(place for place in (paths.snapshots(settings), data, *data.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free / _GB
    except OSError as error:
        yield Finding(Level.FAIL, "disk", f"can't write to {there}: {error.strerror}; give it to this user")
        return
    least = settings.snapshots.min_free_gb
    if free < least:
        yield Finding(
            Level.WARN,
            "disk",
            f"{free:.1f} GB free at {data}, below snapshots.min_free_gb = {least}: no snapshot will be kept",
        )
    else:
        yield Finding(Level.OK, "disk", f"{free:.1f} GB free at {data}")
    if (strange := _of_another_user(data)) is not None:
        yield Finding(
            Level.FAIL,
            "data",
            f"{strange} does not belong to {data.owner()}, as {data} does: chown -R {data.owner()}: {data}",
        )
    if not running:
        runtime = paths.runtime(settings)
        yield Finding(Level.OK, "runtime", f"rings and sockets in {runtime}")


def _of_another_user(data: Path) -> Path | None:
    """A recipe or folder that, say, `sudo line-monitor train` left where the service can't use it."""
    if not data.is_dir():
        return None
    owner = data.stat().st_uid
    near = [*data.iterdir(), *(data / "recipes").glob("*"), *(data / "recipes").glob("*/*")]
    return next((path for path in sorted(near) if path.lstat().st_uid != owner), None)


def _clock(adjtime: Callable[[], int] | None = None) -> Finding:
    """Whether the kernel counts the clock as synchronised: verdicts carry UTC for other machines."""
    state = (adjtime or _ntp_adjtime)()
    if state == _TIME_ERROR:
        return Finding(
            Level.WARN,
            "clock",
            "not synchronised: times in verdicts may be off (decisions do not use them); run chrony or "
            "systemd-timesyncd",
        )
    if state < 0:
        return Finding(Level.WARN, "clock", "whether it is synchronised can't be told here")
    return Finding(Level.OK, "clock", "synchronised")


def _ntp_adjtime() -> int:
    # `modes = 0` in the zeroed structure reads only; 256 bytes hold any version of struct timex.
    return int(ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(256)))
