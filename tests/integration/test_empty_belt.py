"""A belt that is empty most of the time: empty frames pass as no_part, and only parts are scored."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.image_file import Image
from drivers.scenes import belt
from drivers.simulated import DEFAULT_SIZE
from monitor.cli import main
from monitor.line_state.counts import count_verdicts
from monitor.model.recipe_version import RecipeVersion
from monitor.verdict import Reason
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.parts_folder import bad, good
from tests.real.port import free_port

WriteConfig = Callable[..., Path]

PARTS_EVERY, DEFECTS_EVERY, COUNT, FPS = 5, 25, 100, 20


def empty_belt(index: int) -> Image:
    """The simulated belt without a part, with sensor noise and small changes of the light."""
    width, height = DEFAULT_SIZE
    still = belt(height, width, 1.0, np.random.default_rng(0)).astype(np.float32)
    rng = np.random.default_rng((77, index))
    seen = still * rng.uniform(0.99, 1.01) + rng.normal(0, 1.8, still.shape)
    return np.asarray(np.clip(seen, 0, 255), np.uint8)


def write(folder: Path, images: list[Image]) -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:04d}.png"), image)
    return folder


@pytest.fixture
def config(tmp_path: Path, write_config: WriteConfig) -> Path:
    """A belt with a part in every fifth frame, every fifth of them defective, and a recipe with a gate."""
    shown = [empty_belt(index) for index in range(COUNT)]
    for index in range(0, COUNT, PARTS_EVERY):
        shown[index] = bad(index) if index % DEFECTS_EVERY == 0 else good(index)
    folder = write(tmp_path / "belt", shown)
    file = write_config(
        f'[[camera]]\nname = "top"\nsource = "folder://{folder}?fps={FPS}&loop=1"\nrecipe = "plate"\n'
        "deadline_ms = 500\nstop_after_rejects = 2\n"
    )
    port = free_port()
    file.write_text(file.read_text().replace("[metrics]\nport = 0", f"[metrics]\nport = {port}"))
    empty = write(tmp_path / "empty", [empty_belt(1000 + index) for index in range(30)])
    fresh = write(tmp_path / "fresh", [good(3000 + index) for index in range(20)])
    asked = ["--images", str(fresh), "--empty", str(empty), "--overkill", "0.0001"]
    assert main(["--config", str(file), "calibrate", "plate", *asked]) == 0
    return file


def metric(line: Line, name: str) -> float:
    page = urllib.request.urlopen(f"http://127.0.0.1:{line.settings.metrics.port}/metrics", timeout=5)
    lines = [row for row in page.read().decode().splitlines() if row.startswith(name)]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0


@pytest.mark.timing
def test_empty_frames_pass_as_no_part_while_defects_are_rejected(config: Path, broker: Mosquitto) -> None:
    with Line(config, broker.port) as line:
        line.await_ready()
        ring = line.ring("top")
        recipe = RecipeVersion.load(line.settings.line.data / "recipes/plate")
        time.sleep(6)
        counted = metric(line, 'line_monitor_verdicts_total{camera="top",reason="no_part",verdict="pass"}')
        ratios = metric(line, 'line_monitor_score_ratio_count{camera="top"}')
        assert line.witness.status()["ready"] is True
        line.stop()
        now = count_verdicts(ring)
        assert now.in_flight == 0
        assert sum(now.uninspected) <= 0.05 * now.frames

        verdicts = {
            message.payload["frame"]: message.payload for message in line.witness.heard("top/verdict")
        }
        rejected = {message.payload["frame"] for message in line.witness.heard("top/reject")}
        for number, payload in verdicts.items():
            frame = ring.frame(number)
            assert frame is not None
            index = frame.device_frame % COUNT
            if payload["verdict"] == "uninspected":
                continue
            if index % PARTS_EVERY:
                assert (payload["verdict"], payload["reason"]) == ("pass", "no_part")
                assert payload["score"] is None
                assert payload["threshold"] > 0
                assert payload["recipe_sha"] == recipe.sha
                assert payload["snapshot"] is None
            else:
                assert payload["verdict"] == ("reject" if index % DEFECTS_EVERY == 0 else "pass")
                assert payload["reason"] is None
                assert payload["score"] is not None
                assert (number in rejected) == (index % DEFECTS_EVERY == 0)
        assert len(verdicts) > 100
        # Only the frames with a part were scored, one in five; the times from start to score show it.
        assert now.no_part >= counted > 0.7 * (counted + ratios)
        took: dict[Reason, list[int]] = {Reason.NONE: [], Reason.NO_PART: []}
        for number in range(1, ring.last_frame() + 1):
            if (scored := ring.scorer_verdict(number)) is not None and scored.reason in took:
                took[scored.reason].append(scored.scored_ns - scored.started_ns)
        assert np.median(took[Reason.NO_PART]) < 0.5 * np.median(took[Reason.NONE])


def test_check_names_the_recipes_gate(
    without_openvino: None, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        main(["--config", str(config), "check"])
        return "".join(row for row in capsys.readouterr().out.splitlines() if "recipe plate" in row)

    assert "presence gate from 30 empty pictures, the nearest of 20 good parts at" in said()
    assert "not tried on good parts" not in said()
    empty = str(config.parent / "empty")
    assert main(["--config", str(config), "calibrate", "plate", "--empty", empty]) == 0
    assert "never compared with parts" in said()
    assert "its presence gate was not tried on good parts" in said()
