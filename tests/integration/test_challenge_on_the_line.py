"""A line is ready only after a person has shown it the known parts, also where its publisher was killed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import cv2

from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.parts_folder import bad, good
from tests.real.port import free_port

CAMERA = """
[[camera]]
name = "{name}"
source = "folder://{folder}?fps=5&loop=1"
recipe = "plate"
deadline_ms = 2000

[[challenge.part]]
id = "{name}-1"
camera = "{name}"
expected = "{expected}"
verified_by = "J. Smith"
verified = 2026-01-01
expires = 2126-01-01
"""


def press(port: int, act: str = "arm") -> str:
    """Presses that button of the challenge page as a browser does. Returns the part; empty without the
    button."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/challenge")
        answer = connection.getresponse()
        cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
        form = dict(re.findall(r'name="(token|seen|act|part)" value="([\w-]+)"', answer.read().decode()))
        if form.get("act") != act:
            return ""
        kind = "application/x-www-form-urlencoded"
        body = urlencode({**form, "by": "anna"})
        connection.request("POST", "/challenge", body, {"Cookie": cookie, "Content-Type": kind})
        return form["part"] if connection.getresponse().status == 303 else ""
    except OSError:
        return ""
    finally:
        connection.close()


def test_the_line_is_ready_after_each_known_part_got_its_verdict(
    tmp_path: Path, write_config: Callable[..., Path], broker: Mosquitto
) -> None:
    text = ""
    for name, expected, draw in (("good", "pass", good), ("bad", "reject", bad)):
        (tmp_path / name).mkdir()
        for index in range(5):
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), draw(index))
        text += CAMERA.format(name=name, folder=tmp_path / name, expected=expected)
    config, port = write_config(text), free_port()
    config.write_text(config.read_text().replace("[review]\nport = 0", f"[review]\nport = {port}"))
    with Line(config, broker.port) as line:
        witness = line.witness
        line.wait_for(lambda: witness.status().get("reason") == "challenge", 60, "the challenge")
        assert witness.status()["challenge"]["cause"] == "start"
        line.wait_for(lambda: press(port) == "good-1", 20, "the page's first step")
        line.wait_for(lambda: witness.status()["challenge"]["part"] == "bad-1", 10, "the second part")
        state = line.settings.line.data / "challenge.json"
        # A publisher that dies before the step is on disk begins the challenge anew.
        line.wait_for(lambda: json.loads(state.read_bytes())["place"] == 1, 5, "the step on disk")
        os.kill(line.pid("publish"), signal.SIGKILL)
        assert witness.status()["ready"] is False
        line.wait_for(lambda: press(port) == "bad-1", 20, "the second step after the kill")
        line.wait_for(lambda: press(port, "clear") == "bad-1", 20, "the last part is away")
        line.wait_for(lambda: witness.status()["ready"] is True, 20, "ready")
        shown = [one.payload for one in witness.heard("bad/reject") if one.payload["challenge"]]
        assert {one["challenge"] for one in shown} == {"bad-1"}
        picture = line.settings.line.data / "snapshots" / shown[0]["snapshot"]
        line.wait_for(picture.with_suffix(".json").is_file, 10, "the snapshot")
        assert json.loads(picture.with_suffix(".json").read_text())["challenge"] == "bad-1"
        recorded = (line.settings.line.data / "audit.jsonl").read_text().splitlines()
        entries = [json.loads(entry) for entry in recorded]
        passed = [one["who"] for one in entries if one["kind"] == "challenge" and one["after"] == "passed"]
        assert passed == ["anna"]
