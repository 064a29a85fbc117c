"""A simulated camera is taught from nothing to in force by forms of the page alone, and the line goes on."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from monitor.teaching.job_runner import MODULE
from monitor.teaching.teaching_job import JobState, read_job
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.page_visitor import PageVisitor
from tests.real.port import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timing, pytest.mark.timeout(1500)]
CONFIG = """
[line]
site = "plant"
name = "line"
data = "data"
[[camera]]
name = "top"
source = "simulated://bottle-top?fps=10&defects=0"
recipe = "cap"
deadline_ms = 3000
[mqtt]
port = {mqtt}
[metrics]
port = 0
[review]
port = {review}
[snapshots]
min_free_gb = 0
"""
PAGE = "/teach/top/cap"
WINDOWS, WINDOW_S = 6, 10.0


def p99(windows: list[list[float]]) -> float:
    """The median of the windows' 99th percentiles: a burst of another program falls into one window."""
    return float(np.median([np.percentile(window, 99) for window in windows]))


def training_pid(line: Line) -> int:
    """The process that trains for the page of that line."""
    page = line.pid("review")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_child = f"PPid:\t{page}\n" in (process / "status").read_text()
            if is_child and MODULE.encode() in (process / "cmdline").read_bytes():
                return int(process.name)
    raise AssertionError("no process trains")


def measure_both(line: Line) -> tuple[list[list[float]], list[list[float]]]:
    """Windows of latencies while the training stands still, and while it goes on, in turns: other programs
    of this machine slow both alike."""
    quiet, taught = list[list[float]](), list[list[float]]()
    trainer = training_pid(line)
    for _ in range(WINDOWS):
        for found, sent in ((quiet, signal.SIGSTOP), (taught, signal.SIGCONT)):
            os.kill(trainer, sent)
            time.sleep(1.0)
            found.append(line.latencies_ms("top", WINDOW_S))
    return quiet, taught


def shows(page: PageVisitor, path: str, words: str) -> bool:
    """Whether the page has these words; asked at most three times a second, since each answer takes
    processor time."""
    time.sleep(0.3)
    return words in page.get(path)


def newest_verdict(line: Line) -> str:
    heard = line.witness.heard("top/verdict")
    return str(heard[-1].payload["verdict"]) if heard else ""


def test_a_camera_is_taught_from_nothing_to_in_force_and_the_line_does_not_feel_it(
    tmp_path: Path, broker: Mosquitto
) -> None:
    port, config = free_port(), tmp_path / "line.toml"
    config.write_text(CONFIG.format(mqtt=broker.port, review=port))
    folder = tmp_path / "data/teaching/cap"
    page = PageVisitor(port)
    with Line(config, broker.port) as line:
        line.wait_for(lambda: newest_verdict(line) == "uninspected", 60, "parts that nothing judges yet")
        line.wait_for(lambda: shows(page, "/teach", "Recipe of camera top"), 30, "the page")
        assert page.post(f"{PAGE}/collect", count="200")[0] == 303
        line.wait_for(lambda: shows(page, PAGE, "200 of 200 images were collected"), 120, "200 good parts")

        assert page.post(f"{PAGE}/start", compare="memory")[0] == 303
        seconds = line.wait_for(
            lambda: shows(page, PAGE, "cap@1 is taught, by memory"), 300, "a recipe by memory"
        )
        # While the version is being tried, the signature is refused.
        line.wait_for(lambda: page.post("/recipes/cap/1/use", signer="anna")[0] == 303, 60, "the trial")
        taken = line.wait_for(lambda: newest_verdict(line) == "pass", 30, "parts that pass")
        print(f"by memory in {seconds:.1f} s, in force after {taken:.1f} s")

        assert page.post(f"{PAGE}/start", compare="both")[0] == 303
        line.wait_for(lambda: shows(page, f"{PAGE}/state", "Teaching the student"), 240, "the first step")
        since = time.monotonic()
        quiet, taught = measure_both(line)
        verdicts = [message.payload["verdict"] for message in line.witness.heard("top/verdict", since=since)]
        job = read_job(folder)
        assert job is not None
        assert job.state is JobState.RUNNING, "the student is still being taught"
        print(f"p99 {p99(quiet):.1f} ms without training, {p99(taught):.1f} ms beside it")
        assert "uninspected" not in verdicts
        assert len(verdicts) > 0.9 * 10 * 2 * WINDOWS * WINDOW_S
        assert p99(taught) < 1.5 * p99(quiet)

        assert page.post(f"{PAGE}/cancel")[0] == 303
        line.wait_for(lambda: shows(page, PAGE, "was cancelled"), 20, "the end of the teaching")
        assert page.post(f"{PAGE}/resume")[0] == 303
        line.wait_for(lambda: shows(page, f"{PAGE}/state", "was resumed at epoch"), 240, "the student again")
        dead = line.pid("review")
        os.kill(dead, signal.SIGKILL)
        line.wait_for(lambda: line.pid("review") != dead, 30, "the page again")
        line.wait_for(
            lambda: shows(page, f"{PAGE}/state", "was resumed at epoch"), 240, "the student once more"
        )

        assert page.post(f"{PAGE}/cancel")[0] == 303
        line.wait_for(lambda: shows(page, PAGE, "was cancelled"), 20, "the end of the teaching")
        assert page.post(f"{PAGE}/start", compare="memory")[0] == 303
        line.wait_for(lambda: shows(page, PAGE, "cap@2 is taught, by memory"), 300, "a second version")
        text = page.get(PAGE)
        assert len(re.findall(r'<td class="number">[\d.]+ %</td><td class="number">', text)) >= 4
        assert newest_verdict(line) == "pass"
        assert "cap@1 judges until somebody promotes" in text
