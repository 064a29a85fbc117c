"""The review page shows a running line and resets it; neither its load nor its death delays the line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from monitor.cli import main
from tests.real.line import Line, settings_text
from tests.real.mosquitto import Mosquitto
from tests.real.parts_folder import write_parts
from tests.real.port import free_port

pytestmark = pytest.mark.timing
CAMERA = """
[[camera]]
name = "top"
source = "folder://{folder}/parts?fps=10&loop=1"
recipe = "plate"
deadline_ms = 1000
"""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[Line]:
    """A line of one camera with its page."""
    folder = tmp_path_factory.mktemp("line")
    shutil.copytree(trained, folder / "data/recipes/plate")
    write_parts(folder / "parts", 20, 4)
    with Mosquitto() as broker:
        config = folder / "line.toml"
        config.write_text(settings_text(CAMERA.format(folder=folder), broker.port, page=free_port()))
        with Line(config, broker.port) as line:
            line.await_ready()
            line.wait_for(lambda: shows(line.settings.review.port), 30, "the page")
            yield line


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def shows(port: int) -> bool:
    try:
        return get(port, "/live/top.jpg")[0] == 200
    except OSError:
        return False


@contextmanager
def request_load(port: int, rate: float) -> Iterator[list[int]]:
    """Four clients that together send `rate` requests a second; yields the status codes of the answers."""
    ended, answers = threading.Event(), list[int]()

    def send(first: float) -> None:
        due = time.monotonic() + first
        while not ended.is_set():
            for path in ("/", "/live/status", "/live/top.jpg", "/today"):
                try:
                    answers.append(get(port, path)[0])
                except OSError:
                    answers.append(0)
                due += 4 / rate
                ended.wait(max(0.0, due - time.monotonic()))

    threads = [threading.Thread(target=send, args=(n / rate,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def reset_on_the_page(port: int, by: str) -> int:
    """Resets the line as a browser does. Returns the status of the answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/reset")
        answer = connection.getresponse()
        cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        form = dict(re.findall(r'name="(token|seen)" value="(\w+)"', answer.read().decode()))
        body = urlencode({**form, "by": by})
        kind = "application/x-www-form-urlencoded"
        connection.request("POST", "/reset", body, {"Cookie": cookie, "Content-Type": kind})
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_missed_reject_is_told_at_once_and_the_line_is_reset_from_the_page_and_by_a_command(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    config, port = line.config, line.settings.review.port

    def ask(*words: str) -> tuple[int, str]:
        """What a command prints about the line, with its exit code."""
        code = main(["--config", str(config), *words])
        return code, "".join(capsys.readouterr())

    stream = urlopen(f"http://127.0.0.1:{port}/events", timeout=20)
    told: list[str] = []
    threading.Thread(target=lambda: told.extend(part.decode() for part in stream), daemon=True).start()
    line.wait_for(lambda: "Newest reject" in "".join(told), 20, "a reject in the stream")

    def miss() -> None:
        reject = line.witness.heard("top/reject")[-1].payload
        line.witness.say("top/ack", json.dumps({"event_id": reject["event_id"], "result": "failed"}))
        line.wait_for(lambda: line.witness.status()["reason"] == "missed_reject", 10, "the latch")

    miss()
    line.wait_for(lambda: "Reject missed" in "".join(told), 5, "the missed reject in the stream")
    code, text = ask("status")
    assert (code, "not ready (missed_reject)" in text, "look for: camera top" in text) == (0, True, True)
    assert reset_on_the_page(port, "anna") == 303
    line.wait_for(lambda: bool(line.witness.status()["ready"]), 5, "ready after the reset on the page")
    miss()
    code, text = ask("reset")
    assert (code, ", ready" in text, "it was latched for: camera top" in text) == (0, True, True)
    line.wait_for(lambda: bool(line.witness.status()["ready"]), 2, "ready after the command")
    passed = r"<td>top</td><td class=\"number\">\d+</td><td class=\"number\">([1-9]\d*)</td>"
    line.wait_for(lambda: bool(re.search(passed, get(port, "/today")[1].decode())), 15, "passes of today")
    assert "anna, on the operators' page" in ask("journal", "--changes")[1]


def test_the_page_shows_the_line_and_neither_its_load_nor_its_death_is_felt(line: Line) -> None:
    port = line.settings.review.port
    line.reset_until_ready()
    pictures = set()
    until = time.monotonic() + 2
    while time.monotonic() < until:
        status, content = get(port, "/live/top.jpg")
        assert status == 200
        pictures.add(content)
        time.sleep(0.1)
    assert len(pictures) >= 4, "a few frames a second"
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert min(picture.shape[:2]) > 100
    words = get(port, "/live/status")[1].decode()
    assert "Parts are inspected. The line may run." in get(port, "/state")[1].decode()
    assert 'class="state up"' in words
    line.wait_for(lambda: b"top" in get(port, "/")[1], 20, "reject on the wall")
    assert os.getpriority(os.PRIO_PROCESS, line.pid("review")) >= 10

    quiet = line.latencies_ms("top", 3)
    with request_load(port, 200) as answers:
        loaded = line.latencies_ms("top", 3)
    assert answers.count(200) > 0.9 * len(answers) > 0
    calm, busy = statistics.median(quiet), statistics.median(loaded)
    print(f"{len(answers) / 3:.0f} requests a second; {calm:.1f} ms without them, {busy:.1f} ms with")
    assert len(loaded) >= 20
    assert busy < 2 * calm + 30
    assert max(loaded) < 1000

    before = time.monotonic()
    dead = line.pid("review")
    os.kill(dead, signal.SIGKILL)
    line.wait_for(lambda: line.pid("review") != dead and shows(port), 30, "the page again")
    statuses = [message.payload for message in line.witness.heard("status", since=before)]
    assert all(payload["ready"] and payload["state"] == "inspecting" for payload in statuses)


def test_a_line_that_has_stopped_is_not_reset(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    """It comes last: the line does not run any more."""
    line.stop()
    assert main(["--config", str(line.config), "reset"]) == 1
    said = "".join(capsys.readouterr())
    assert "no heartbeat" in said, said
    assert said.count("\n") == 1
