"""Drift of lamp, lens and camera position is found with a real recipe and reported over MQTT."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from drivers.image_file import Image
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.scoring.drift import Drift, DriftDetector
from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe
from monitor.verdict import Verdict, judge
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.parts_folder import good
from tests.real.port import free_port

pytestmark = pytest.mark.xdist_group("drift")
Change = Callable[[Image], Image]


@pytest.fixture(scope="module")
def calibrated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained recipe with 60 calibration images, as many as the drift test needs."""
    data = tmp_path_factory.mktemp("calibrated")
    shutil.copytree(trained, data / "plate")
    write(data / "images", [good(5000 + index) for index in range(60)])
    with pytest.MonkeyPatch.context() as patch:
        # To compile the model for OpenVINO takes longer than all else here.
        patch.setattr("monitor.inference.backends.has_openvino", lambda: False)
        calibrate_recipe(
            CalibrationRequest(recipe=data / "plate", images=data / "images", overkill=0.02), say=print
        )
    return data / "plate"


@pytest.fixture(scope="module")
def scorer(calibrated: Path) -> Scorer:
    return Scorer(RecipeVersion.load(calibrated), device="cpu", runtime="torch")


def write(folder: Path, images: list[Image]) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        (folder / f"{index:04d}.bmp").write_bytes(cv2.imencode(".bmp", image)[1].tobytes())
    return folder


def unchanged(image: Image) -> Image:
    return image


def dimmed(image: Image, by: float = 0.15) -> Image:
    return np.asarray(image * (1 - by), np.uint8)


def nudged(image: Image) -> Image:
    """The camera moved by 3 % of the image; in training, parts lie within 2.5 % of the middle."""
    by = 0.03 * image.shape[1]
    matrix = np.array([[1, 0, -by], [0, 1, by]])
    return np.asarray(cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE))


def dusty(image: Image) -> Image:
    """A slight haze, a blur, and 15 specks out of focus that take at most a fifth of the light."""
    rng = np.random.default_rng(5)
    specks = np.zeros(image.shape[:2], np.float32)
    for _ in range(15):
        at = tuple(int(value) for value in rng.integers(20, min(specks.shape) - 20, 2))
        cv2.circle(specks, at, int(rng.integers(4, 12)), 1.0, -1)
    light = 1 - 0.2 * cv2.GaussianBlur(specks, (0, 0), 4)[..., None]
    return np.asarray((cv2.GaussianBlur(image, (0, 0), 2.5) * 0.95 + 6) * light, np.uint8)


def watch(scorer: Scorer, images: list[Image]) -> tuple[int, Drift, list[bool]]:
    """The number of parts up to the first alarm (0: none), the drift, and whether each part was rejected."""
    detector, rejected = DriftDetector(scorer.calibration), []
    for number, result in enumerate(scorer.score(images), start=1):
        verdict, _ = judge(result.score, scorer.threshold)
        rejected.append(verdict is Verdict.REJECT)
        if detector.feed(result.score, verdict):
            return number, detector.drift, rejected
    return 0, detector.drift, rejected


def shown(index: int) -> Image:
    """One of 300 good parts that were not calibrated with."""
    return good(8000 + index % 300)


def parts(change: Change, count: int) -> list[Image]:
    return [change(shown(index)) for index in range(count)]


def test_parts_as_they_were_calibrated_are_no_drift(scorer: Scorer) -> None:
    number, drift, _ = watch(scorer, parts(unchanged, 300))
    assert (number, drift) == (0, Drift.NONE)


@pytest.mark.parametrize(("change", "within"), [(dimmed, 50), (nudged, 100)])
def test_a_sudden_change_that_rejects_good_parts_is_found_within_a_hundred_parts(
    scorer: Scorer, change: Change, within: int
) -> None:
    number, drift, rejected = watch(scorer, parts(change, within))
    assert number > 0, f"{np.mean(rejected):.0%} rejected"
    assert drift is Drift.HIGHER


def test_dust_is_found_before_one_good_part_in_ten_is_rejected(scorer: Scorer) -> None:
    _, drift, rejected = watch(scorer, parts(dusty, 100))
    assert drift is Drift.HIGHER
    assert np.mean(rejected) < 0.1


def test_a_lamp_that_grows_dim_is_found_before_one_good_part_in_five_is_rejected(scorer: Scorer) -> None:
    count = 300
    images = [dimmed(shown(index), 0.15 * index / count) for index in range(count)]
    number, drift, rejected = watch(scorer, images)
    assert drift is Drift.HIGHER
    assert np.mean(rejected[-50:]) < 0.2
    later = scorer.score(images[-50:])
    assert number < count - 50
    assert np.mean([result.score > scorer.threshold for result in later]) > 0.2, "an ignored alarm costs more"


@pytest.mark.slow
def test_the_line_reports_drift_and_its_end_and_stays_ready(
    tmp_path: Path, write_config: Callable[..., Path], broker: Mosquitto, calibrated: Path
) -> None:
    changes = [*[unchanged] * 60, *[dimmed] * 60, *[unchanged] * 300]
    folder = write(tmp_path / "parts", [change(shown(index)) for index, change in enumerate(changes)])
    config = write_config(
        f'[[camera]]\nname = "top"\nsource = "folder://{folder}?fps=50"\nrecipe = "plate"\n'
        "deadline_ms = 800\n"
        '[[camera]]\nname = "live"\nsource = "simulated://plate?fps=1"\nrecipe = "plate"\nmode = "latest"\n'
    )
    shutil.copytree(calibrated, tmp_path / "data/recipes/plate", dirs_exist_ok=True)
    port = free_port()
    with Line(config, broker.port, environment={"LINE_MONITOR__METRICS__PORT": str(port)}) as line:
        line.await_ready()
        assert line.witness.status()["drift"] == []

        def drifting(camera: str) -> list[str]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
            sample = f'line_monitor_drift{{camera="{camera}"}} '
            return [row.removeprefix(sample) for row in text.splitlines() if row.startswith(sample)]

        line.wait_for(lambda: line.witness.status()["drift"] == ["top"], 20, "drift")
        assert drifting("top") == ["1.0"]
        assert drifting("live") == [], "a live view is not watched"
        said = next(heard.payload for heard in line.witness.heard("status") if heard.payload["drift"])
        assert (said["state"], said["ready"], said["reason"]) == ("degraded", True, "drift")
        line.wait_for(lambda: line.witness.status()["drift"] == [], 20, "the end of drift")
        log = line.log.read_text()
        assert log.count("camera top: scores drift higher") == 1
        assert log.count("camera top: scores are as they were at calibration again") == 1
        line.stop()
