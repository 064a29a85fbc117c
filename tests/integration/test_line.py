"""The whole line as processes with a real broker: every part gets one verdict, whichever process dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.line_state.counts import count_verdicts
from monitor.line_state.ring import Ring
from monitor.verdict import Reason, Verdict
from tests.real import parts_folder
from tests.real.bmp_bytes import wrap
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto

WriteConfig = Callable[..., Path]


def folder_camera(folder: Path, name: str = "top", more: str = "", fps: int = 10) -> str:
    return (
        f'[[camera]]\nname = "{name}"\nsource = "folder://{folder}?fps={fps}&loop=1"\n'
        f'recipe = "plate"\ndeadline_ms = 500\n{more}\n'
    )


def assert_one_verdict_a_frame(line: Line, camera: str, ring: Ring) -> None:
    """Compares what was published with the ring, after the line has stopped."""
    published = line.witness.verdicts(camera)
    last = ring.last_frame()
    assert last > 0
    now = count_verdicts(ring)
    assert now.in_flight == 0
    assert now.frames == last == now.passed + now.rejected + sum(now.uninspected)
    for number in range(1, last + 1):
        closed = ring.final_verdict(number)
        assert closed is not None, f"frame {number} has no verdict"
        of_frame = published.get(number, set())
        assert len(of_frame) <= 1, f"frame {number} has two verdicts: {of_frame}"
        if of_frame:
            assert next(iter(of_frame))[1] == closed.verdict.word
    assert set(published) <= set(range(1, last + 1))


def truth_of(truth: dict[int, bool], ring: Ring, number: int) -> bool:
    """Whether the part in that frame is bad. `truth` is by the images of the camera's folder."""
    frame = ring.frame(number)
    assert frame is not None
    return truth[frame.device_frame % len(truth)]


def agreement(ring: Ring, truth: dict[int, bool]) -> tuple[float, float]:
    """The share of frames that were judged, and the share of these whose verdict is right."""
    judged = right = 0
    last = ring.last_frame()
    for number in range(1, last + 1):
        closed = ring.final_verdict(number)
        assert closed is not None
        if closed.verdict is Verdict.UNINSPECTED:
            continue
        judged += 1
        right += (closed.verdict is Verdict.REJECT) == truth_of(truth, ring, number)
    return judged / last, right / max(1, judged)


@pytest.mark.timing
def test_known_parts_get_the_right_verdicts(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    truth = parts_folder.write_parts(tmp_path / "parts", 20, bad_every=5)
    config = write_config(folder_camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        line.await_ready()
        ring = line.ring("top")
        time.sleep(6)
        folder = line.folder
        took = line.stop()
        assert took < 5.0
        assert line.process.returncode == 0
        assert not folder.exists(), "no ring, socket or board is left"
        assert line.witness.status()["state"] == "stopped"
        assert line.witness.status()["ready"] is False
        assert_one_verdict_a_frame(line, "top", ring)
        judged, right = agreement(ring, truth)
        assert judged >= 0.95
        assert right == 1.0

        rejects = line.witness.heard("top/reject")
        assert rejects
        assert len(line.witness.heard("top/verdict")) == ring.last_frame()
        for message in rejects:
            payload = message.payload
            assert not message.retained
            assert payload["schema"] == 1
            assert 0 < payload["ttl_ms"] <= 1000
            if payload["verdict"] == "reject":
                assert payload["score"] > payload["threshold"]
                assert len(payload["recipe_sha"]) == 64
        shown = {
            path.relative_to(line.settings.line.data / "snapshots").as_posix() for path in line.snapshots()
        }
        named = {message.payload["snapshot"] for message in rejects if message.payload["snapshot"]}
        assert named
        assert named == shown
        for path in line.snapshots():
            assert path.with_suffix(".png").exists()
            assert json.loads(path.with_suffix(".json").read_text())["verdict"] == "reject"


@pytest.mark.parametrize(
    "workers",
    [("capture-top", "publish", "snapshots"), pytest.param(("scoring",), marks=pytest.mark.timing)],
    ids=" ".join,
)
def test_every_part_gets_its_verdict_though_each_worker_is_killed(
    workers: tuple[str, ...], tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    """One line for several workers, since its start takes the most time."""
    truth = parts_folder.write_parts(tmp_path / "parts", 20, bad_every=5)
    config = write_config(folder_camera(tmp_path / "parts", fps=20))
    with Line(config, broker.port) as line:
        line.await_ready()
        ring = line.ring("top")
        time.sleep(2)
        for worker in workers:
            kill_and_await_the_next(line, worker)
        line.stop()
        assert_one_verdict_a_frame(line, "top", ring)
        _, right = agreement(ring, truth)
        assert right == 1.0
        assert images_with_a_frame(ring) == list(range(ring.last_frame())), "no image comes twice"


def kill_and_await_the_next(line: Line, worker: str) -> None:
    """Kill a worker, and assert that the line works again within 10 s."""
    killed, at = line.pid(worker), time.monotonic()
    os.kill(killed, signal.SIGKILL)
    line.wait_for(lambda: line.pid(worker) != killed, 10, f"new {worker}")
    if worker == "publish":
        line.wait_for(lambda: line.witness.status()["state"] != "offline", 10, "status")
        line.witness.say("reset")

    def judged_again() -> bool:
        recent = line.witness.heard("top/verdict", since=time.monotonic() - 1.0)
        return sum(message.payload["verdict"] != "uninspected" for message in recent) >= 15

    line.wait_for(judged_again, 10 - (time.monotonic() - at), "whole service")
    line.wait_for(lambda: line.witness.status()["ready"] is True, 5, "ready")


def images_with_a_frame(ring: Ring) -> list[int]:
    """The index of the image of each frame, in the order of the frames."""
    frames = (ring.frame(number) for number in range(1, ring.last_frame() + 1))
    return [frame.device_frame for frame in frames if frame is not None]


def test_a_folder_with_damaged_files_is_shown_once_though_the_capture_worker_is_killed(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    """None of these files ends the worker, and the worker that follows a killed one repeats no part."""
    parts_folder.write_parts(tmp_path / "parts", 40, bad_every=0)
    images = sorted((tmp_path / "parts").iterdir())
    spoilt = [0, 7, 13, 21, 22, 39]
    header = wrap(b"", 131392, 131392, 24)
    for number, content in zip(
        spoilt, (header, b"", header[:20], b"\xff\xd8\xff", b"II*\0", None), strict=True
    ):
        images[number].unlink()
        if content is None:
            os.mkfifo(images[number])
        else:
            images[number].write_bytes(content)
    (tmp_path / "parts" / f"._{images[3].name}").write_bytes(b"left by macOS")
    config = write_config(folder_camera(tmp_path / "parts", fps=10).replace("&loop=1", ""))
    with Line(config, broker.port) as line:
        line.wait_for(lambda: line.folder.joinpath("top.ring").exists(), 30, "the ring")
        ring = line.ring("top")
        line.wait_for(lambda: ring.last_frame() >= 10, 30, "ten frames")
        killed = line.pid("capture-top")
        os.kill(killed, signal.SIGKILL)
        line.wait_for(lambda: line.pid("capture-top") != killed, 10, "new capture worker")
        line.wait_for(lambda: ring.last_frame() >= len(images), 30, "all images")
        time.sleep(1)
        line.stop()
        assert_one_verdict_a_frame(line, "top", ring)
        assert images_with_a_frame(ring) == list(range(len(images)))
        refused = [number for number in range(len(images)) if is_bad_frame(ring, number + 1)]
        # The image that was being read when the worker was killed is not read again.
        assert set(spoilt) <= set(refused)
        assert len(refused) <= len(spoilt) + 1


def test_a_folder_that_goes_away_or_is_all_damaged_takes_the_run_permission_until_it_is_whole(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts, away = tmp_path / "parts", tmp_path / "away"
    parts_folder.write_parts(parts, 40, bad_every=0)
    with Line(write_config(folder_camera(parts, fps=20)), broker.port) as line:
        line.await_ready()
        ring = line.ring("top")

        def has_status(ready: bool, camera: str) -> bool:
            status = line.witness.status()
            return (status["ready"], status["cameras"]["top"]) == (ready, camera)

        parts.rename(away)
        line.wait_for(lambda: has_status(False, "lost"), 20, "the lost camera")
        assert line.witness.status()["reason"] == "camera_lost"
        lost_at = ring.last_frame()
        away.rename(parts)
        line.wait_for(lambda: has_status(True, "up"), 20, "the camera again")
        assert not any(is_bad_frame(ring, number) for number in range(1, ring.last_frame() + 1))
        assert ring.last_frame() > lost_at
        whole = {file: file.read_bytes() for file in parts.iterdir()}
        for file, content in whole.items():
            file.write_bytes(content[:50])
        line.wait_for(lambda: has_status(False, "lost"), 20, "a camera of damaged images")
        for file, content in whole.items():
            file.write_bytes(content)
        line.wait_for(lambda: has_status(True, "up"), 20, "whole images again")
        line.stop()
        assert_one_verdict_a_frame(line, "top", ring)
        # The n-th frame is the n-th file.
        assert images_with_a_frame(ring) == list(range(ring.last_frame()))


def is_bad_frame(ring: Ring, number: int) -> bool:
    frame = ring.frame(number)
    return frame is not None and frame.refused is Reason.BAD_FRAME


def test_when_the_supervisor_is_killed_its_workers_die_and_the_next_start_is_clean(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 5, bad_every=0)
    config = write_config(folder_camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        line.await_ready()
        workers = [line.pid(name) for name in ("scoring", "publish", "snapshots", "capture-top")]
        session = line.witness.status()["session"]
        line.process.kill()
        line.process.wait()
        until = time.monotonic() + 5
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < until, "the workers are still running"
            time.sleep(0.05)
        until = time.monotonic() + 5
        while line.witness.status()["state"] != "offline":
            assert time.monotonic() < until, "the broker has not published the Will"
            time.sleep(0.05)
        line.start()
        line.wait_for(lambda: line.witness.status()["session"] != session, 60, "the new session")
        # A part without a verdict when the service was killed has latched the line.
        line.witness.say("reset")
        line.await_ready()


def test_a_reject_that_a_hanging_publisher_had_not_sent_is_latched_by_the_next_start(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 5, bad_every=1)
    config = write_config(folder_camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        line.await_ready()
        session = line.witness.status()["session"]
        os.kill(line.pid("publish"), signal.SIGSTOP)
        time.sleep(0.5)
        line.stop()
        assert line.folder.exists(), "the next start reads the rings"
        line.start()
        line.wait_for(lambda: line.witness.status()["session"] != session, 60, "the new session")
        line.wait_for(lambda: line.witness.status()["reason"] == "missed_reject", 60, "missed_reject")
        line.witness.say("reset")
        line.await_ready()
        line.stop()
        assert not line.folder.exists()


def test_a_second_line_on_the_same_data_is_refused_in_one_line_and_only_what_the_program_made_is_removed(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 5, bad_every=0)
    config = write_config(folder_camera(tmp_path / "parts"))
    notes = tmp_path / "data/run/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with Line(config, broker.port) as line:
        line.await_ready()
        second = subprocess.run(
            [sys.executable, "-P", "-m", "monitor.cli", "--config", str(config), "run"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert second.returncode == 1
        assert "already runs" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert line.witness.status()["ready"] is True
        line.stop()
    assert notes.read_text() == "mine"


def test_a_reject_that_could_not_be_sent_stops_the_line_until_reset(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=2)
    config = write_config(folder_camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        line.await_ready()
        broker.stop()
        time.sleep(3)
        back = time.monotonic()
        broker.start()
        line.wait_for(lambda: line.witness.status().get("reason") == "missed_reject", 10, "missed_reject")
        assert line.witness.status()["ready"] is False
        part = line.witness.status()["latched"]["parts"][0]
        assert part["camera"] == "top"
        assert (line.settings.line.data / "snapshots" / part["snapshot"]).exists()
        assert (
            f"the gate missed a reject: expired: camera top, frame {part['frame']}, captured "
            in line.log.read_text()
        )
        for message in [*line.witness.heard("top/reject", back), *line.witness.heard("top/verdict", back)]:
            assert message.payload["ttl_ms"] > 0
        ring = line.ring("top")
        stale = [
            message.payload["frame"]
            for message in line.witness.heard("top/verdict", back)
            if (frame := ring.frame(message.payload["frame"])) and message.at * 1e9 > frame.expires_ns + 5e7
        ]
        assert stale == [], "no expired verdict is sent"
        line.witness.say("reset", retain=False)
        line.wait_for(lambda: line.witness.status()["ready"] is True, 10, "ready after reset")
        assert line.witness.status()["latched"] == {"parts": [], "more": False}


def test_a_gateway_that_does_not_answer_stops_the_line_and_one_that_does_keeps_it_running(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 20, bad_every=10)
    config = write_config(folder_camera(tmp_path / "parts"), mqtt="ack_timeout_ms = 1000")
    with Line(config, broker.port) as line:
        line.await_ready()
        answered = 0
        until = time.monotonic() + 5
        while time.monotonic() < until:
            rejects = line.witness.heard("top/reject")
            for message in rejects[answered:]:
                answer = {"event_id": message.payload["event_id"], "result": "accepted", "utc": ""}
                line.witness.say("top/ack", json.dumps(answer))
            answered = len(rejects)
            time.sleep(0.02)
        assert answered >= 2
        assert line.witness.status()["ready"] is True
        line.wait_for(lambda: line.witness.status().get("reason") == "missed_reject", 10, "missed_reject")


def test_a_gate_that_took_a_reject_and_then_failed_stops_the_line(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=5)
    config = write_config(folder_camera(tmp_path / "parts"), mqtt="ack_timeout_ms = 5000")
    with Line(config, broker.port) as line:
        line.await_ready()
        line.wait_for(lambda: bool(line.witness.heard("top/reject")), 10, "a reject")
        publisher = line.pid("publish")
        for malformed in (b'{"event_id": "\xff"}', b"[" * 5000, b"", b"null"):
            line.witness.say("top/ack", malformed)
        event = line.witness.heard("top/reject")[0].payload["event_id"]
        line.witness.say("top/ack", json.dumps({"event_id": event, "result": "accepted"}))
        time.sleep(0.3)
        assert line.witness.status()["ready"] is True
        line.witness.say("top/ack", json.dumps({"event_id": event, "result": "failed"}))
        line.wait_for(lambda: line.witness.status().get("reason") == "missed_reject", 4, "missed_reject")
        first = line.witness.heard("top/reject")[0].payload
        named = line.witness.status()["latched"]["parts"][0]
        assert {key: named[key] for key in ("frame", "captured_utc", "snapshot")} == {
            key: first[key] for key in ("frame", "captured_utc", "snapshot")
        }
        assert line.pid("publish") == publisher, "malformed messages do not end the publisher"


def test_a_broker_that_takes_one_message_at_a_time_gets_the_rejects_first(
    tmp_path: Path, write_config: WriteConfig
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=2)
    with Mosquitto(extra="max_inflight_messages 1") as narrow:
        config = write_config(folder_camera(tmp_path / "parts"))
        text = config.read_text()
        port = text[text.index("port = ") :].split()[2]
        config.write_text(text.replace(f"port = {port}", f"port = {narrow.port}", 1))
        with Line(config, narrow.port) as line:
            line.await_ready()
            ring = line.ring("top")
            time.sleep(3)
            line.stop()
            assert_one_verdict_a_frame(line, "top", ring)
            published = line.witness.verdicts("top")
            assert set(published) == set(range(1, ring.last_frame() + 1))
            assert (
                sum(message.payload["verdict"] == "reject" for message in line.witness.heard("top/reject"))
                > 10
            )


def passed_since(line: Line, moment: float) -> bool:
    """Whether a pass was published since then."""
    recent = line.witness.heard("top/verdict", since=moment)
    return any(message.payload["verdict"] == "pass" for message in recent)


@pytest.mark.timing
def test_a_full_pipe_at_stderr_does_not_stop_the_line(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=0)
    config = write_config(folder_camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        line.await_ready()
        line.stop()
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        line.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "monitor.cli", "--config", str(config), "run"], stderr=writer
        )
        start = time.monotonic()
        line.wait_for(lambda: bool(line.witness.heard("top/verdict", since=start)), 30, "verdicts")
        os.kill(line.pid("scoring"), signal.SIGKILL)
        # The supervisor logs a line about it. After 1 s all verdicts of the killed scorer are published.
        gone = time.monotonic() + 1
        line.wait_for(lambda: passed_since(line, gone), 30, "a pass from the new scorer")
        assert line.stop() < 5.0
        os.close(reader)
        os.close(writer)


def test_a_missing_recipe_is_one_line_and_the_other_cameras_are_inspected(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 5, bad_every=0)
    other = folder_camera(tmp_path / "parts", name="side").replace('recipe = "plate"', 'recipe = "no-such"')
    config = write_config(folder_camera(tmp_path / "parts") + other)
    with Line(config, broker.port) as line:
        line.wait_for(lambda: line.witness.status().get("reason") == "no_recipe", 60, "no_recipe")
        line.wait_for(lambda: len(line.witness.heard("top/verdict")) > 5, 10, "verdicts of top")
        line.wait_for(lambda: len(line.witness.heard("side/reject")) > 5, 10, "rejects of side")
        assert line.witness.heard("side/reject")[-1].payload["reason"] == "no_recipe"
        assert any(m.payload["verdict"] == "pass" for m in line.witness.heard("top/verdict"))
        line.stop()
        log = line.log.read_text()
        assert sum("no-such" in row for row in log.splitlines()) == 1
        assert "Traceback" not in log
