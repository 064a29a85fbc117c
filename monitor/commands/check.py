"""`line-monitor check`: looks at everything that a line needs and prints a line for each item, with the fix.

It changes nothing. It must never print a secret, and never use a running line's camera or MQTT client id.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import drivers
from drivers.camera import CameraError, SourceEnded
from monitor import paths
from monitor.commands import stream_times
from monitor.commands.check_broker import OtherLineSearch, find_broker
from monitor.commands.finding import Finding, Level
from monitor.commands.hidden_paths import find_hidden
from monitor.commands.same_camera import find_contended, find_shared
from monitor.settings import (
    CameraSettings,
    Settings,
    SettingsError,
    find_settings_file,
    load_settings,
)

if TYPE_CHECKING:
    from monitor.inference.scorer import Scorer
    from monitor.model.recipe_json import Calibration, Document
    from monitor.model.recipe_version import RecipeVersion
    from monitor.model.version_files import VersionFile

_TIME_ERROR = 5
"""Result of ntp_adjtime(3) for a clock that is not synchronised."""
_GB = 1e9
_MIN_JUMBO_BYTES = 8000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments of its own."""


def run(options: argparse.Namespace) -> int:
    return check(options.config, sys.stdout)


def check(config: Path | None, out: TextIO) -> int:
    """Print all findings. Returns the exit code: 1 if one of them is FAIL, else 0."""
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
        Level.OK, "settings", f"{file}, {len(settings.camera)} cameras, MQTT topics {settings.prefix}/..."
    )
    running = _is_running(settings)
    yield from _review(settings, running)
    search = OtherLineSearch(settings, running)
    yield from _service(settings, running)
    yield _device(settings)
    yield from _recipes(settings)
    for camera in settings.camera:
        yield _camera(camera, running)
    yield from (Finding(Level.FAIL, "cameras", text) for text in find_contended(settings.camera))
    yield from (Finding(Level.WARN, "cameras", text) for text in find_shared(settings.camera))
    yield from find_hidden(settings)
    yield from _jumbo_frames(settings)
    if not settings.camera:
        yield Finding(
            Level.WARN, "cameras", "no [[camera]] in the settings: `line-monitor run` has nothing to inspect"
        )
    yield from _challenge(settings)
    yield from find_broker(settings, running, search)
    yield from _disk(settings, running)
    yield _clock()


def _challenge(settings: Settings) -> Iterator[Finding]:
    from monitor.commands.check_challenge import find_challenge
    from monitor.line_state.challenge_run import Moment

    yield from find_challenge(settings, Moment(0, time.time_ns(), settings.review.time_zone).day)


def _review(settings: Settings, running: bool) -> Iterator[Finding]:
    from monitor.accounts.accounts_file import AccountsError, AccountsFile
    from monitor.review.access import refusal

    if settings.review.port == 0:
        return
    try:
        has_accounts = AccountsFile.of(settings).exist()
    except AccountsError as error:
        yield Finding(Level.FAIL, "review", str(error))
        return
    if (why := refusal(settings.review, has_accounts=has_accounts)) is not None:
        # A credential of systemd is visible only to the service, so the password may be set although `check`
        # does not see it.
        is_set = settings.review.password_hash is not None
        yield Finding(
            Level.FAIL if is_set else Level.WARN,
            "review",
            f"{why}; or set the systemd credential review_password",
        )
        return
    verb = "is" if running else "would be"
    served = f"the page {verb} served on {settings.review.host} port {settings.review.port}"
    has_password = has_accounts or settings.review.password_hash is not None
    if (public := settings.review.public_url) and not has_password:
        yield Finding(
            Level.WARN,
            "review",
            f"{served}, and as {public} without a password of its own: add accounts, or set "
            "review.password_hash or the credential review_password, unless the proxy asks for one",
        )
        return
    yield Finding(Level.OK, "review", f"{served}{f', and as {public}' if public else ''}")


def _is_running(settings: Settings) -> bool:
    """Whether a line runs on this data folder, which is then locked."""
    if not (settings.line.data / ".lock").exists():
        return False
    try:
        with paths.DataLock(settings):
            return False
    except paths.PathError:
        return True


def _service(settings: Settings, running: bool) -> Iterator[Finding]:
    """Whether a line runs on this data folder. If none runs, whether the ports of the line are free."""
    if running:
        holder = (settings.line.data / ".lock").read_text(errors="replace").strip()
        yield Finding(
            Level.OK, "service", f"the line is running (pid {holder}): its ports and cameras are not tried"
        )
        return
    for name, host, port in (
        ("metrics", "0.0.0.0", settings.metrics.port),
        ("review", settings.review.host, settings.review.port),
    ):
        if port and (why := _port_problem(host, port)):
            yield Finding(
                Level.FAIL,
                name,
                f"{name}.port {port} can't be opened: {why}; set another port, or 0, or end the program "
                f"that uses it (ss -ltnp 'sport = :{port}' shows it)",
            )


def _port_problem(host: str, port: int) -> str | None:
    """Why a server can't listen on the port, or None when it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # Servers set this too: a connection that was closed lately does not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return str(error.strerror or error)
    return None


def _jumbo_frames(settings: Settings, interfaces: Path = Path("/sys/class/net")) -> Iterator[Finding]:
    """Whether the network has jumbo frames. Packets of 1500 bytes work, but cause six times the
    interrupts."""
    if not any(camera.source.startswith("gige://") for camera in settings.camera):
        return
    sizes = {
        place.name: int((place / "mtu").read_text())
        for place in sorted(interfaces.iterdir())
        if place.name != "lo" and (place / "device").exists()
    }
    if sizes and max(sizes.values()) < _MIN_JUMBO_BYTES:
        named = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        yield Finding(
            Level.WARN,
            "network",
            f"no network interface has jumbo frames ({named}): for GigE cameras run "
            "ip link set dev NAME mtu 9000, if the switch supports it too",
        )


def _device(settings: Settings) -> Finding:
    from monitor.inference.backends import choose_device
    from monitor.model.recipe_json import RecipeError

    try:
        device = choose_device(settings.scoring.device)
    except RecipeError as error:
        return Finding(Level.FAIL, "device", str(error))
    return Finding(
        Level.OK, "device", f"scoring.device {settings.scoring.device!r} is {device} on this machine"
    )


def _recipes(settings: Settings) -> Iterator[Finding]:
    """Each recipe that a camera uses: whether it loads, its threshold, its presence gate, its region."""
    from monitor.commands.check_challenge import find_free_running
    from monitor.inference.backend_choice import BackendWish, choose_backend
    from monitor.inference.backends import INT8
    from monitor.inference.scorer import Scorer
    from monitor.line_state import changeover
    from monitor.model.in_force import find_asked
    from monitor.model.recipe_json import RecipeError
    from monitor.model.recipe_version import RecipeVersion

    cameras: dict[str, list[CameraSettings]] = {}
    for camera in settings.camera:
        try:
            name = changeover.find_recipe_to_load(paths.changeovers(settings), camera)
        except changeover.ChangeoverError as error:
            yield Finding(Level.FAIL, f"camera {camera.name}", str(error))
        else:
            cameras.setdefault(name, []).append(camera)
    for name, its_cameras in cameras.items():
        try:
            version = find_asked(paths.recipes(settings), name)
            recipe = RecipeVersion.load(version.file)
            scoring = settings.scoring
            # Nothing is kept: `check` may run as another user than the line.
            choice = choose_backend(
                recipe,
                BackendWish(scoring.device, scoring.runtime, scoring.precision),
                paths.line_cache(settings),
                keep=False,
            )
            scorer = Scorer(recipe, device=scoring.device, runtime=choice.runtime, precision=choice.precision)
            threshold = scorer.threshold
        except RecipeError as error:
            yield Finding(Level.FAIL, f"recipe {name}", str(error))
            continue
        yield from _newer_version(version)
        yield from _unsigned(version, settings)
        short = name.partition("@")[0]
        yield from _recipe(short, scorer, threshold, choice.reason)
        if scorer.precision == INT8:
            yield from _faster_than_int8(short, recipe, settings)
        presence_is_missing = recipe.document.presence is None
        for camera in its_cameras:
            yield from _region(camera, scorer, name)
            if presence_is_missing:
                yield from find_free_running(settings, camera)


def _newer_version(version: VersionFile) -> Iterator[Finding]:
    """A warning where a later version than the one in force waits for its promotion."""
    from monitor.model.in_force import find_waiting

    if (waiting := find_waiting(version.folder)) is not None:
        yield Finding(
            Level.WARN,
            f"recipe {version.folder.name}",
            f"{waiting.name} is not in force, {version.name} judges: compare them with `line-monitor recipes "
            f"compare {version.name} {waiting.name}`, put it in force with `line-monitor recipes use "
            f"{waiting.name}`",
        )


def _unsigned(version: VersionFile, settings: Settings) -> Iterator[Finding]:
    """A warning where a changeover to that version would be refused, because nobody has signed for it."""
    from monitor.accounts.accounts_file import AccountsError, AccountsFile
    from monitor.model.in_force import is_promoted

    item = f"recipe {version.folder.name}"
    try:
        has_accounts = AccountsFile.of(settings).exist()
    except AccountsError as error:
        yield Finding(Level.FAIL, item, f"no changeover to it: {error}")
        return
    if has_accounts and not is_promoted(version):
        yield Finding(
            Level.WARN,
            item,
            f"nobody has signed for {version.name}, so a changeover to it is refused: "
            f"`line-monitor recipes use {version.name}`",
        )


def _recipe(name: str, scorer: Scorer, threshold: float, reason: str) -> Iterator[Finding]:
    from monitor.images.tiling import format_size
    from monitor.inference.presence import describe_gate

    item, recipe, calibration = f"recipe {name}", scorer.recipe, scorer.calibration
    presence = recipe.document.presence
    yield Finding(
        Level.OK,
        item,
        f"version {recipe.number}, {format_size(recipe.size)} px, threshold {threshold:.4g}, "
        f"teacher {recipe.document.teacher.name}, runs on {scorer.calibration_key}"
        + (f" ({reason})" if reason else "")
        + (f", {describe_gate(presence)}" if presence else ""),
    )
    if not calibration.guaranteed:
        yield Finding(Level.WARN, item, _weak_guarantee(name, calibration))
    yield _what_passes(name, recipe.document)
    if presence and not presence.parts:
        yield Finding(
            Level.WARN,
            item,
            "its presence gate was not tried on good parts, so it may take a part for an empty place: "
            f"run: line-monitor calibrate {name} --images DIR, with images of good parts",
        )


def _faster_than_int8(name: str, recipe: RecipeVersion, settings: Settings) -> Iterator[Finding]:
    """A warning where the settings name 8-bit integers, and the measurement finds another way faster."""
    from monitor.inference.backend_choice import BackendWish, choose_backend
    from monitor.inference.backends import INT8

    wish = BackendWish(settings.scoring.device, settings.scoring.runtime)
    choice = choose_backend(recipe, wish, paths.line_cache(settings), keep=False)
    if choice.precision != INT8:
        yield Finding(
            Level.WARN,
            f"recipe {name}",
            f'scoring.precision "int8" is not the fastest here ({choice.reason}): use precision "auto"',
        )


def _weak_guarantee(name: str, calibration: Calibration) -> str:
    """What a threshold guarantees that does not guarantee its recipe's rate, and what it needs."""
    from monitor.training.thresholds import count_parts, format_bound, images_needed, is_extrapolated

    parts = f"{count_parts(calibration)} good {'parts' if calibration.parts else 'images'}"
    needed = (
        f"{images_needed(calibration.overkill, calibration.left_out)} are needed for an overkill (good parts "
        f"rejected) of at most {calibration.overkill:.2%}; collect so many that the recipe has not seen and "
        f"run: line-monitor calibrate {name} --images DIR"
    )
    if calibration.guarantee is None or is_extrapolated(calibration):
        return f"its threshold is an estimate from {parts}: {needed}"
    return f"its threshold from {parts} guarantees at most {format_bound(calibration.guarantee)}: {needed}"


def _what_passes(name: str, document: Document) -> Finding:
    """How many defects pass, in the recipe's own words."""
    from monitor.model.recipe_json import REFERENCE, DefectSource
    from monitor.training.operating_points import own_point, warning
    from monitor.training.thresholds import is_extrapolated

    item, own = f"recipe {name}", own_point(document)
    if own is None:
        calibration = document.calibration[REFERENCE]
        keep = " --extrapolate" if is_extrapolated(calibration) else ""
        return Finding(
            Level.WARN,
            item,
            "it does not state how many defects pass (escape, missed defects), because an earlier version "
            "made it; from its recorded scores of good parts and from images of bad parts this states it: "
            f"line-monitor calibrate {name} --overkill {calibration.overkill:g}{keep} --defects DIR",
        )
    worry = warning(document)
    if not worry or own.source is DefectSource.UNKNOWN:
        return Finding(Level.WARN if worry else Level.OK, item, document.statement)
    return Finding(Level.WARN, item, f"{document.statement} {worry}")


def _region(camera: CameraSettings, scorer: Scorer, name: str) -> Iterator[Finding]:
    from monitor.model.camera_region import find_region_conflict, unchecked_region

    if why := find_region_conflict(camera, scorer.recipe, name):
        yield Finding(Level.FAIL, f"recipe {name}", why)
    elif roi := unchecked_region(camera, scorer.recipe):
        yield Finding(
            Level.WARN,
            f"recipe {name}",
            f"it records no roi, but camera {camera.name!r} has roi {list(roi)}: make sure that "
            "it was trained on images of this region",
        )


def _camera(camera: CameraSettings, running: bool) -> Finding:
    """Whether the camera delivers a frame that can be inspected, within 10 s."""
    from monitor.line_state.frame import ShotError, crop_shot
    from monitor.line_state.ring import FrameTooLarge, check_fits

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
                check_fits(crop_shot(shot, camera.roi)[0].nbytes)
            except (ShotError, FrameTooLarge) as error:
                return Finding(Level.FAIL, item, f"{error}; its frames can't be inspected")
            if why := stream_times.find_problem(camera.source, driver, shot):
                return Finding(Level.FAIL, item, why)
            place = drivers.place(driver)
            return Finding(
                Level.OK, item, f"{width}x{height} {shot.pixel_format}" + (f" from {place}" if place else "")
            )
        return Finding(Level.WARN, item, "it is connected, but sent no frame within 10 s: is it triggered?")
    except SourceEnded:
        return Finding(Level.FAIL, item, f"{drivers.redacted(camera.source)} has no frames")
    except CameraError as error:
        return Finding(Level.FAIL, item, str(error))
    finally:
        driver.close()


def _disk(settings: Settings, running: bool) -> Iterator[Finding]:
    data = settings.line.data
    # The service makes the folder at its first start. Until then its nearest parent is tried.
    folder = next(place for place in (paths.snapshots(settings), data, *data.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free / _GB
    except OSError as error:
        yield Finding(
            Level.FAIL, "disk", f"can't write to {folder}: {error.strerror}; let this user write there"
        )
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
    if (foreign := _path_of_another_user(data)) is not None:
        yield Finding(
            Level.FAIL,
            "data",
            f"{foreign} does not belong to {data.owner()}, as {data} does: chown -R {data.owner()}: {data}",
        )
    if not running:
        runtime = paths.runtime(settings)
        yield Finding(Level.OK, "runtime", f"rings and sockets in {runtime}")


def _path_of_another_user(data: Path) -> Path | None:
    """A file or folder that the service's user does not own, for example after `sudo line-monitor train`."""
    if not data.is_dir():
        return None
    owner = data.stat().st_uid
    candidates = [*data.iterdir(), *(data / "recipes").glob("*"), *(data / "recipes").glob("*/*")]
    return next((path for path in sorted(candidates) if path.lstat().st_uid != owner), None)


def _clock(adjtime: Callable[[], int] | None = None) -> Finding:
    """Whether the clock is synchronised, by the kernel's state. Verdicts carry UTC times for other
    machines."""
    state = (adjtime or _ntp_adjtime)()
    if state == _TIME_ERROR:
        return Finding(
            Level.WARN,
            "clock",
            "not synchronised: the UTC times in verdicts may be wrong (deadlines do not depend on them); "
            "run chrony or systemd-timesyncd",
        )
    if state < 0:
        return Finding(Level.WARN, "clock", "this machine does not report whether it is synchronised")
    return Finding(Level.OK, "clock", "synchronised")


def _ntp_adjtime() -> int:
    # The structure of zeros means `modes = 0`, which only reads. 256 bytes hold any version of struct timex.
    return int(ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(256)))
