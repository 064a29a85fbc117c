"""Three kinds of cameras on one line: RTSP, GigE Vision and a folder, scored by one worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_line import agreement, assert_one_verdict_a_frame, folder_camera
from tests.real import parts_folder
from tests.real.cameras import GigeCamera, RtspServer
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto

pytestmark = pytest.mark.gige


def camera(name: str, source: str) -> str:
    return f'[[camera]]\nname = "{name}"\nsource = "{source}"\nrecipe = "plate"\ndeadline_ms = 500\n'


def state_of(line: Line, name: str) -> str:
    return str(line.witness.status().get("cameras", {}).get(name))


def judged_lately(line: Line, name: str, least: int = 3) -> bool:
    recent = line.witness.heard(f"{name}/verdict", since=time.monotonic() - 1.5)
    return sum(message.payload["verdict"] != "uninspected" for message in recent) >= least


def test_three_protocols_one_scorer_and_a_lost_camera_concerns_nobody_else(
    tmp_path: Path, write_config: Callable[..., Path], broker: Mosquitto
) -> None:
    truth = parts_folder.write_parts(tmp_path / "parts", 20, bad_every=5)
    with RtspServer(fps=10) as rtsp, GigeCamera("LINE01") as gige:
        config = write_config(
            folder_camera(tmp_path / "parts", fps=5)
            + camera("dome", rtsp.url)
            + camera("side", f"{gige.source}?fps=5")
        )
        with Line(config, broker.port) as line:
            line.await_ready()
            rings = {name: line.ring(name) for name in ("top", "dome", "side")}
            time.sleep(2)
            for part, name, lost_within in ((rtsp, "dome", 5.0), (gige, "side", 8.0)):
                before = time.monotonic()
                part.stop()
                line.wait_for(lambda name=name: state_of(line, name) == "lost", lost_within, f"lost {name}")
                assert line.witness.status()["ready"] is False
                assert line.witness.status()["reason"] == "camera_lost"
                time.sleep(2)
                others = {"top", "dome", "side"} - {name}
                for other in others:
                    assert judged_lately(line, other), f"the loss of {name} affected {other}"
                    assert all(
                        message.payload["verdict"] != "uninspected"
                        for message in line.witness.heard(f"{other}/verdict", since=before)
                    )
                part.start()
                back = time.monotonic()
                line.wait_for(lambda name=name: state_of(line, name) == "up", 10, f"{name} up")
                line.wait_for(
                    lambda name=name: judged_lately(line, name),
                    10 - (time.monotonic() - back),
                    f"{name} judged",
                )
                line.wait_for(lambda: line.witness.status()["ready"] is True, 5, "ready")
            line.stop()
            for name, ring in rings.items():
                assert_one_verdict_a_frame(line, name, ring)
            judged, right = agreement(rings["top"], truth)
            assert judged >= 0.99
            assert right == 1.0
            assert "Traceback" not in line.log.read_text()
