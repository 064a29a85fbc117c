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

from tests.integration.test_line import assert_one_verdict_a_frame, folder_camera
from tests.real import parts_folder
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.port import free_port

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


@pytest.mark.parametrize(("options", "words"), [("ro", "read-only"), ("size=64k", "free some disk space")])
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


def test_a_frozen_broker_stops_the_line_and_a_thawed_one_gets_nothing_late(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=2)
    config = write_config(folder_camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        line.await_ready()
        ring = line.ring("top")
        time.sleep(1)
        broker.signal(signal.SIGSTOP)
        time.sleep(8)
        broker.signal(signal.SIGCONT)
        # The next publisher may be there before the gate has missed a reject.
        replaced = time.monotonic()
        line.wait_for(lambda: bool(line.witness.heard("status", since=replaced)), 10, "status")
        line.reset_until_ready()
        line.wait_for(lambda: rejects_flow(line), 5, "rejects")
        line.stop()
        assert_one_verdict_a_frame(line, "top", ring)


def test_unreachable_cameras_and_a_corrupt_recipe_are_a_line_each_and_the_others_work(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=0)
    dome = (
        '[[camera]]\nname = "dome"\nrecipe = "plate"\n'
        f'source = "rtsp://operator:s3cret@127.0.0.1:{free_port()}/live"\n'
    )
    side = folder_camera(tmp_path / "parts", name="side").replace('recipe = "plate"', 'recipe = "torn"')
    config = write_config(folder_camera(tmp_path / "parts") + dome + side)
    recipes = tmp_path / "data/recipes"
    shutil.copytree(recipes / "plate", recipes / "torn")
    whole = (recipes / "torn/recipe.json").read_bytes()
    (recipes / "torn/recipe.json").write_bytes(whole[: len(whole) // 2])
    with Line(config, broker.port) as line:
        line.wait_for(lambda: line.witness.status().get("cameras", {}).get("dome") == "lost", 60, "lost")
        line.wait_for(lambda: len(line.witness.heard("top/verdict")) > 10, 10, "verdicts of top")
        assert line.witness.status()["ready"] is False
        assert all(message.payload["reason"] == "no_recipe" for message in line.witness.heard("side/reject"))
        line.stop()
        log = line.log.read_text()
        assert sum("torn" in row for row in log.splitlines()) == 1, log
        assert sum("camera dome is lost" in row for row in log.splitlines()) == 1, log
        assert "s3cret" not in log
        assert "Traceback" not in log


def speaks_since(line: Line, since: float) -> bool:
    return any(message.payload["state"] != "offline" for message in line.witness.heard("status", since=since))


def test_a_stuck_worker_is_replaced(tmp_path: Path, write_config: WriteConfig, broker: Mosquitto) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=0)
    config = write_config(folder_camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        line.await_ready()
        ring = line.ring("top")
        stuck, stopped = line.pid("publish"), time.monotonic()
        subprocess.run(["kill", "-STOP", str(stuck)], check=True)
        line.wait_for(lambda: line.pid("publish") != stuck, 12, "new publisher")
        # The successor is mostly there before a part's time is up; where it is not, the line is latched.
        line.wait_for(lambda: speaks_since(line, stopped), 10, "status of the new publisher")
        line.reset_until_ready()
        line.stop()
        assert_one_verdict_a_frame(line, "top", ring)
