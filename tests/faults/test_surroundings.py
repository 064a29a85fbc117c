"""Faults around the line: the line reports each once, in one line, and continues where it can."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.test_line import assert_one_verdict_since, folder_camera
from tests.real import parts_folder
from tests.real.line import Line, settings_text
from tests.real.mosquitto import Mosquitto
from tests.real.port import free_port
from tests.real.shared_line import SharedLine

WriteConfig = Callable[..., Path]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system, which can be full or read-only for root too."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"mounting is not permitted here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def rejects_flow(line: Line) -> bool:
    recent = line.witness.heard("top/reject", since=time.monotonic() - 1.5)
    return any(message.payload["verdict"] == "reject" for message in recent)


@pytest.mark.parametrize(
    ("options", "words"),
    [pytest.param("ro", "read-only", marks=pytest.mark.slow), ("size=64k", "free some disk space")],
)
def test_without_a_place_for_snapshots_rejects_go_on_and_it_is_said_once(
    options: str, words: str, tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=2)
    config = write_config(folder_camera(tmp_path / "parts"))
    with mounted(tmp_path / "data/snapshots", options), Line(config, broker.port) as line:
        line.await_ready()
        time.sleep(4)
        assert rejects_flow(line)
        assert line.witness.status()["ready"] is True
        line.stop()
        log = line.log.read_text()
        complaints = [row for row in log.splitlines() if "not kept: snapshots" in row]
        assert len(complaints) == 1, log
        assert words in complaints[0].lower()
        assert "Traceback" not in log


@pytest.mark.timing
def test_a_broker_that_comes_later_is_found_and_gets_nothing_old(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=0)
    config = write_config(folder_camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        broker.stop()
        line.wait_for(lambda: (line.folder / "top.ring").exists(), 20, "ring")
        ring = line.ring("top")
        line.wait_for(lambda: ring.last_frame() > 20, 60, "frames without a broker")
        broker.start()
        back = time.monotonic()
        line.wait_for(lambda: bool(line.witness.heard("top/verdict", since=back)), 10, "verdicts")
        # Parts passed while no message could be sent. Without a `pass` the gate removes them. A message on
        # the reject topic that was not sent counts as a missed reject, also for an uninspected part.
        late = [
            message.payload["frame"]
            for message in line.witness.heard("top/verdict", since=back)
            if (frame := ring.frame(message.payload["frame"])) and message.at * 1e9 > frame.expires_ns + 5e7
        ]
        assert late == []
        log = line.log.read_text()
        assert sum("can't be reached" in row for row in log.splitlines()) == 1
        line.stop()
        assert "Traceback" not in line.log.read_text()


def test_a_frozen_broker_stops_the_line_and_a_thawed_one_gets_nothing_late(shared_line: SharedLine) -> None:
    line, ring = shared_line, shared_line.ring("top")
    first = ring.last_frame() + 1
    line.broker.signal(signal.SIGSTOP)
    time.sleep(8)
    line.broker.signal(signal.SIGCONT)
    # The next publisher may be there before the gate has missed a reject.
    replaced = time.monotonic()
    line.wait_for(lambda: bool(line.witness.heard("status", since=replaced)), 10, "status")
    line.reset_until_ready()
    line.wait_for(lambda: rejects_flow(line), 5, "rejects")
    assert_one_verdict_since(line, "top", ring, first)


@pytest.fixture(scope="module")
def troubled_line(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[Line]:
    """A line of a camera that works, one that can't be reached, and two without a recipe that can be used."""
    folder = tmp_path_factory.mktemp("troubled")
    parts_folder.write_parts(folder / "parts", 10, bad_every=0)
    recipes = folder / "data/recipes"
    for name in ("plate", "torn"):
        shutil.copytree(trained, recipes / name)
    whole = (recipes / "torn/recipe.json").read_bytes()
    (recipes / "torn/recipe.json").write_bytes(whole[: len(whole) // 2])
    cameras = [
        folder_camera(folder / "parts", name).replace('recipe = "plate"', f'recipe = "{recipe}"')
        for name, recipe in (("top", "plate"), ("side", "no-such"), ("rear", "torn"))
    ]
    dome = (
        '[[camera]]\nname = "dome"\nrecipe = "plate"\n'
        f'source = "rtsp://operator:s3cret@127.0.0.1:{free_port()}/live"\n'
    )
    with Mosquitto() as broker:
        config = folder / "line.toml"
        config.write_text(settings_text("".join(cameras) + dome, broker.port))
        with Line(config, broker.port) as line:
            yield line


def without_recipe(line: Line, camera: str) -> int:
    """The number of rejected parts of that camera that no recipe could judge."""
    return sum(one.payload["reason"] == "no_recipe" for one in line.witness.heard(f"{camera}/reject"))


@pytest.mark.xdist_group("troubled line")
def test_a_missing_and_a_corrupt_recipe_are_a_line_each_and_the_other_cameras_are_inspected(
    troubled_line: Line,
) -> None:
    line = troubled_line
    line.wait_for(lambda: line.witness.status().get("reason") == "no_recipe", 60, "no_recipe")
    line.wait_for(lambda: len(line.witness.heard("top/verdict")) > 5, 10, "verdicts of top")
    for camera in ("side", "rear"):
        line.wait_for(lambda camera=camera: without_recipe(line, camera) > 5, 10, f"rejects of {camera}")  # type: ignore[misc]
    assert any(one.payload["verdict"] == "pass" for one in line.witness.heard("top/verdict"))
    log = line.log.read_text()
    for recipe in ("no-such", "torn"):
        assert sum(recipe in row for row in log.splitlines()) == 1, log
    assert "Traceback" not in log


@pytest.mark.xdist_group("troubled line")
def test_an_unreachable_camera_is_one_line_and_the_others_work(troubled_line: Line) -> None:
    line = troubled_line
    line.wait_for(lambda: line.witness.status().get("cameras", {}).get("dome") == "lost", 60, "lost")
    since = time.monotonic()
    line.wait_for(lambda: len(line.witness.heard("top/verdict", since)) > 10, 10, "verdicts of top")
    assert line.witness.status()["ready"] is False
    log = line.log.read_text()
    assert sum("camera dome is lost" in row for row in log.splitlines()) == 1, log
    assert "s3cret" not in log
    assert "Traceback" not in log


def speaks_since(line: Line, since: float) -> bool:
    return any(message.payload["state"] != "offline" for message in line.witness.heard("status", since=since))


def test_a_stuck_worker_is_replaced(shared_line: SharedLine) -> None:
    line, ring = shared_line, shared_line.ring("top")
    first = ring.last_frame() + 1
    stuck, stopped = line.pid("publish"), time.monotonic()
    subprocess.run(["kill", "-STOP", str(stuck)], check=True)
    line.wait_for(lambda: line.pid("publish") != stuck, 12, "new publisher")
    # The successor is mostly there before a part's time is up; where it is not, the line is latched.
    line.wait_for(lambda: speaks_since(line, stopped), 10, "status of the new publisher")
    line.reset_until_ready()
    assert_one_verdict_since(line, "top", ring, first)
