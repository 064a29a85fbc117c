"""A camera counts as lost after 10 unusable images in a row, and no longer once one is usable."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

import drivers
from drivers.progress import Progress
from monitor.line_state.board import CameraState, Field, WorkerState
from monitor.line_state.worker_process import PUBLISH, SCORING, capture_name
from monitor.publish.unusable_images import MOST_IN_A_ROW, UnusableImages
from monitor.verdict import Reason
from tests.unit.publish.scene import MS, Scene

CAPTURE = capture_name("top")


def lost_after(*frames: tuple[int, Reason]) -> bool:
    images = UnusableImages()
    for number, reason in frames:
        images.feed(number, reason)
    return images.is_lost


def bad(first: int, last: int, step: int = 1) -> list[tuple[int, Reason]]:
    return [(number, Reason.BAD_FRAME) for number in range(first, last + 1, step)]


def test_ten_in_a_row_and_not_nine_make_a_camera_lost() -> None:
    assert not lost_after(*bad(1, 9))
    assert lost_after(*bad(1, 10))
    assert lost_after(*bad(1, 9), (10, Reason.NO_FRAME))
    assert not lost_after(*bad(1, 9), (10, Reason.NONE), *bad(11, 19))


def test_a_usable_image_from_before_the_run_changes_nothing() -> None:
    assert lost_after(*bad(4, 13), (2, Reason.NONE), (3, Reason.DEADLINE))
    assert not lost_after(*bad(4, 13), (14, Reason.DEADLINE))


def test_frames_that_wait_for_their_score_are_not_taken_for_unusable_ones() -> None:
    """Every second image is damaged; those between wait for the scorer."""
    assert not lost_after(*bad(1, 39, step=2))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder with one good image, 12 damaged ones, and 2 good ones."""
    folder = tmp_path / "parts"
    folder.mkdir()
    good = cv2.imencode(".png", np.full((8, 8), 9, np.uint8))[1].tobytes()
    for number in range(15):
        (folder / f"{number:02}.png").write_bytes(good if number in (0, 13, 14) else good[:40])
    return folder


def test_a_camera_that_sends_only_damaged_images_takes_the_run_permission_and_is_logged_once(
    tmp_path: Path, damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene(tmp_path, publish_verdicts="none", on_uninspected="pass")
    camera = drivers.open(f"folder://{damaged}", lambda: scene.now, lambda seconds: None, Progress())
    camera.open()
    for worker in (SCORING, PUBLISH, CAPTURE):
        scene.board.write(worker, Field.STATE, WorkerState.RUNNING)
        scene.board.write(worker, Field.EVER_RAN, 1)
        scene.board.write(worker, Field.ALIVE_UNTIL_NS, scene.now + 10**12)
    scene.board.write(CAPTURE, Field.CAMERA_STATE, CameraState.UP)

    def judge(images: int) -> tuple[object, object, object]:
        for _ in range(images):
            scene.now += 1000 * MS
            shot = camera.read(0.1)
            assert shot is not None
            scene.board.write_trouble(CAPTURE, scene.intake.admit(shot) or "")
            scene.turn(later_ms=240)
        scene.turn(later_ms=60)
        last = scene.link.statuses[-1]
        return last["ready"], last["reason"], last["cameras"]

    assert judge(10) == (True, None, {"top": "up"})
    assert judge(1) == (False, "camera_lost", {"top": "lost"})
    scene.end()
    scene.publisher, scene.link = scene.start()
    assert judge(2) == (False, "camera_lost", {"top": "lost"}), "the next publisher knows it too"
    assert judge(1) == (True, None, {"top": "up"})
    scene.end()
    said = [record.getMessage() for record in caplog.records if "usable" in record.getMessage()]
    assert len(said) == 2
    assert said[0].startswith(
        f"camera top counts as lost: its last {MOST_IN_A_ROW} images were all unusable: "
        "10.png is not a readable image: "
    )
    assert said[1] == "camera top sends usable images again"


@pytest.mark.parametrize("by_reset", [True, False])
def test_a_reset_or_a_new_connection_has_a_lost_camera_tried_anew(scene: Scene, by_reset: bool) -> None:
    """A triggered camera sends nothing while the line is not ready."""
    scene.board.write(CAPTURE, Field.CAMERA_STATE, CameraState.UP)
    for _ in range(MOST_IN_A_ROW):
        scene.intake.admit(drivers.Shot(None, "Mono8", scene.now, fault="incomplete"))
        scene.turn()
    assert scene.board.camera_state(CAPTURE) is CameraState.LOST
    if by_reset:
        scene.reset()
    else:
        scene.board.write(CAPTURE, Field.CAMERA_STATE, CameraState.LOST)
        scene.turn()
        scene.board.write(CAPTURE, Field.CAMERA_STATE, CameraState.UP)
    assert scene.board.camera_state(CAPTURE) is CameraState.UP


def test_the_images_of_a_frozen_camera_are_told_by_its_state_alone(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.board.write(CAPTURE, Field.CAMERA_STATE, CameraState.FROZEN)
    for _ in range(3 * MOST_IN_A_ROW):
        scene.intake.admit(drivers.Shot(None, "Mono8", scene.now, fault="frozen"))
        scene.turn()
    assert scene.board.camera_state(CAPTURE) is CameraState.FROZEN
    assert "counts as lost" not in caplog.text
