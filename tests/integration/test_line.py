"""The whole line as processes with a real broker: every part gets one verdict, whichever process dies."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.line_state.counts import count_verdicts
from monitor.line_state.ring import Ring
from monitor.verdict import Reason, Verdict
from tests.real import parts_folder
from tests.real.bmp_bytes import wrap
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.shared_line import DEADLINE_MS, SharedLine

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


def assert_one_verdict_since(line: Line, camera: str, ring: Ring, first: int) -> None:
    """Compares what was published of the frames from `first` on with the ring, while the line runs."""
    frames = range(first, ring.last_frame() + 1)
    assert frames
    line.wait_for(
        lambda: all(ring.final_verdict(number) is not None for number in frames), 10, "verdict of every frame"
    )
    published = line.witness.verdicts(camera)
    for number in frames:
        closed = ring.final_verdict(number)
        assert closed is not None
        of_frame = published.get(number, set())
        assert len(of_frame) <= 1, f"frame {number} has two verdicts: {of_frame}"
        if of_frame:
            assert next(iter(of_frame))[1] == closed.verdict.word


def truth_of(truth: dict[int, bool], ring: Ring, number: int) -> bool:
    """Whether the part in that frame is bad. `truth` is by the images of the camera's folder."""
    frame = ring.frame(number)
    assert frame is not None
    return truth[frame.device_frame % len(truth)]


def agreement(ring: Ring, truth: dict[int, bool], first: int = 1) -> tuple[float, float]:
    """The share of frames with a verdict, from `first` on, that were judged, and the share of these whose
    verdict is right."""
    judged = right = closed_frames = 0
    for number in range(first, ring.last_frame() + 1):
        closed = ring.final_verdict(number)
        if closed is None:
            continue
        closed_frames += 1
        if closed.verdict is Verdict.UNINSPECTED:
            continue
        judged += 1
        right += (closed.verdict is Verdict.REJECT) == truth_of(truth, ring, number)
    return judged / closed_frames, right / max(1, judged)


@pytest.mark.timing
def test_known_parts_get_the_right_verdicts(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    truth = parts_folder.write_parts(tmp_path / "parts", 20, bad_every=5)
    config = write_config(folder_camera(tmp_path / "parts"))
    notes = tmp_path / "data/run/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with Line(config, broker.port) as line:
        line.await_ready()
        ring = line.ring("top")
        time.sleep(4)
        folder = line.folder
        took = line.stop()
        assert took < 5.0
        assert line.process.returncode == 0
        assert "is killed" not in line.log.read_text(), "every worker ended by itself"
        assert not folder.exists(), "no ring, socket or board is left"
        assert notes.read_text() == "mine"
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
    workers: tuple[str, ...], shared_line: SharedLine
) -> None:
    line = shared_line
    ring = line.ring("top")
    first = ring.last_frame() + 1
    time.sleep(1)
    for worker in workers:
        kill_and_await_the_next(line, worker)
    assert_one_verdict_since(line, "top", ring, first)
    _, right = agreement(ring, line.truth, first)
    assert right == 1.0
    images = images_with_a_frame(ring, first)
    assert images == list(range(images[0], images[0] + len(images))), "no image comes twice"
    assert_parts_are_counted_on(line, ring)


def assert_parts_are_counted_on(line: Line, ring: Ring) -> None:
    """The heartbeats' counts never go down, and never go beyond the ring's."""
    counts = [message.payload["counts"] for message in line.witness.heard("heartbeat")]
    for kind in ("passed", "rejected", "uninspected"):
        told = [count[kind] for count in counts]
        assert told == sorted(told)
    assert 0 < sum(counts[-1].values()) <= ring.last_frame()


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
        return sum(message.payload["verdict"] != "uninspected" for message in recent) >= 8

    line.wait_for(judged_again, 10 - (time.monotonic() - at), "whole service")
    line.wait_for(lambda: line.witness.status()["ready"] is True, 5, "ready")


def images_with_a_frame(ring: Ring, first: int = 1) -> list[int]:
    """The index of the image of each frame from `first` on, in the order of the frames."""
    frames = (ring.frame(number) for number in range(first, ring.last_frame() + 1))
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
    shared_line: SharedLine,
) -> None:
    line = shared_line
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
    shared_line: SharedLine,
) -> None:
    line = shared_line
    session = line.witness.status()["session"]
    hanging, heard = line.pid("publish"), len(line.witness.heard("top/reject"))
    line.wait_for(lambda: len(line.witness.heard("top/reject")) > heard, 10, "a reject")
    os.kill(hanging, signal.SIGSTOP)
    # Long enough for the next bad part, and too short for the supervisor to replace the publisher.
    time.sleep(0.5)
    line.stop()
    assert line.folder.exists(), "the next start reads the rings"
    line.start()
    line.wait_for(lambda: line.witness.status()["session"] != session, 60, "the new session")
    line.wait_for(lambda: line.witness.status()["reason"] == "missed_reject", 60, "missed_reject")
    line.witness.say("reset")
    line.await_ready()


def test_a_second_line_on_the_same_data_is_refused_in_one_line(shared_line: SharedLine) -> None:
    line = shared_line
    second = subprocess.run(
        [sys.executable, "-P", "-m", "monitor.cli", "--config", str(line.config), "run"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 1
    assert "already runs" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert line.witness.status()["ready"] is True


def test_a_reject_that_could_not_be_sent_stops_the_line_until_reset(shared_line: SharedLine) -> None:
    line, ring = shared_line, shared_line.ring("top")
    line.broker.stop()
    # Longer than a part's time to act, so that rejects expire.
    time.sleep(DEADLINE_MS / 1000 + 1.5)
    back = time.monotonic()
    line.broker.start()
    line.wait_for(lambda: line.witness.status().get("reason") == "missed_reject", 10, "missed_reject")
    assert line.witness.status()["ready"] is False
    part = line.witness.status()["latched"]["parts"][0]
    assert part["camera"] == "top"
    assert (line.settings.line.data / "snapshots" / part["snapshot"]).exists()
    assert f"the gate missed a reject: expired: camera top, frame {part['frame']}, captured " in line.said()
    for message in [*line.witness.heard("top/reject", back), *line.witness.heard("top/verdict", back)]:
        assert message.payload["ttl_ms"] > 0
    stale = [
        message.payload["frame"]
        for message in line.witness.heard("top/verdict", back)
        if (frame := ring.frame(message.payload["frame"])) and message.at * 1e9 > frame.expires_ns + 5e7
    ]
    assert stale == [], "no expired verdict is sent"
    line.witness.say("reset", retain=False)
    line.wait_for(lambda: line.witness.status()["ready"] is True, 10, "ready after reset")
    assert line.witness.status()["latched"] == {"parts": [], "more": False}


@pytest.fixture(scope="module")
def answered_line(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[SharedLine]:
    """A line whose gateway acknowledges each reject within 1 s, or the line stops."""
    folder = tmp_path_factory.mktemp("answered")
    shutil.copytree(trained, folder / "data/recipes/plate")
    with SharedLine(folder, mqtt="ack_timeout_ms = 1000") as line:
        line.wait_for(lambda: line.witness.status().get("reason") == "missed_reject", 60, "missed_reject")
        yield line


@contextmanager
def answering(line: Line) -> Iterator[list[str]]:
    """A gateway that takes each reject; yields the events that it has acknowledged."""
    ended, events = threading.Event(), list[str]()
    # The line still waits for an answer to the rejects of the last second.
    since = time.monotonic() - 2

    def acknowledge() -> None:
        while not ended.wait(0.02):
            for message in line.witness.heard("top/reject", since)[len(events) :]:
                events.append(message.payload["event_id"])
                answer = {"event_id": events[-1], "result": "accepted", "utc": ""}
                line.witness.say("top/ack", json.dumps(answer))

    gateway = threading.Thread(target=acknowledge)
    gateway.start()
    try:
        yield events
    finally:
        ended.set()
        gateway.join()


@pytest.mark.xdist_group("answered line")
def test_a_gateway_that_does_not_answer_stops_the_line_and_one_that_does_keeps_it_running(
    answered_line: SharedLine,
) -> None:
    line = answered_line
    with answering(line) as events:
        line.reset_until_ready()
        before = len(events)
        time.sleep(3)
        assert len(events) >= before + 2
        assert line.witness.status()["ready"] is True
    line.wait_for(lambda: line.witness.status().get("reason") == "missed_reject", 10, "missed_reject")


@pytest.mark.xdist_group("answered line")
def test_a_gate_that_took_a_reject_and_then_failed_stops_the_line(answered_line: SharedLine) -> None:
    line = answered_line
    with answering(line) as events:
        line.reset_until_ready()
        before = len(events)
        line.wait_for(lambda: len(events) > before, 10, "a reject")
        publisher = line.pid("publish")
        for malformed in (b'{"event_id": "\xff"}', b"[" * 5000, b"", b"null"):
            line.witness.say("top/ack", malformed)
        event = events[-1]
        time.sleep(0.3)
        assert line.witness.status()["ready"] is True
        line.witness.say("top/ack", json.dumps({"event_id": event, "result": "failed"}))
        line.wait_for(lambda: line.witness.status().get("reason") == "missed_reject", 4, "missed_reject")
        rejects = (message.payload for message in line.witness.heard("top/reject"))
        failed = next(reject for reject in rejects if reject["event_id"] == event)
        named = line.witness.status()["latched"]["parts"][0]
        assert {key: named[key] for key in ("frame", "captured_utc", "snapshot")} == {
            key: failed[key] for key in ("frame", "captured_utc", "snapshot")
        }
        assert line.pid("publish") == publisher, "malformed messages do not end the publisher"


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
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    with Line(config, broker.port, stderr=writer) as line:
        line.wait_for(lambda: bool(line.witness.heard("top/verdict")), 30, "verdicts")
        os.kill(line.pid("scoring"), signal.SIGKILL)
        # The supervisor logs a line about it. After 1 s all verdicts of the killed scorer are published.
        gone = time.monotonic() + 1
        line.wait_for(lambda: passed_since(line, gone), 30, "a pass from the new scorer")
        assert line.stop() < 5.0
        os.close(reader)
        os.close(writer)
