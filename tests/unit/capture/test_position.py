"""A capture worker that follows a dead one goes on where that one was."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

import pytest

import drivers
from drivers.camera import Shot, SourceEnded
from drivers.progress import Mark, Step
from monitor import paths
from monitor.capture.position import StoredPosition, recover
from monitor.capture.worker import Clocks, Intake
from monitor.line_state.frame import Frame
from monitor.line_state.ring import Ring
from monitor.settings import CameraSettings
from monitor.verdict import Reason
from tests.real.image_bytes import encoded

DECODING, DECODED, TOLD = Step


@pytest.mark.parametrize(
    ("found", "newest", "mark"),
    [
        (None, -1, Mark(-1)),
        (None, 7, Mark(7)),
        (Mark(8, "i.png", DECODING), 7, Mark(8, "i.png", DECODING)),
        (Mark(8, "i.png", DECODED), 7, Mark(8, "i.png", DECODED)),
        # The frame was written and the worker died before it said so.
        (Mark(8, "i.png", DECODED), 8, Mark(8, "i.png", TOLD)),
        (Mark(8, "i.png", DECODING), 8, Mark(8, "i.png", TOLD)),
        (Mark(8, "i.png", TOLD), 8, Mark(8, "i.png", TOLD)),
        # The ring was full: the image has no frame, and is not told again.
        (Mark(8, "i.png", TOLD), 5, Mark(8, "i.png", TOLD)),
        (Mark(3, "d.png", TOLD), 8, Mark(8)),
    ],
)
def test_ring_and_mark_together_say_where_to_go_on(found: Mark | None, newest: int, mark: Mark) -> None:
    assert recover(found, newest) == mark


@pytest.mark.parametrize("name", ["a.png", "#5 ä.png", "x" * 255, "\udcff.png", ""])
def test_a_mark_outlives_its_worker(ring: Ring, tmp_path: Path, name: str) -> None:
    position = StoredPosition(tmp_path, ring)
    assert position.mark == Mark(-1)
    position.begin(5, name)
    assert StoredPosition(tmp_path, ring).mark == Mark(5, name, DECODING)
    position.finish()
    assert StoredPosition(tmp_path, ring).mark == Mark(5, name, DECODED)
    position.tell(5)
    assert StoredPosition(tmp_path, ring).mark == Mark(5, name, TOLD)
    position.close()


def test_a_line_starts_again_after_a_camera_has_kept_its_mark(ring: Ring, tmp_path: Path) -> None:
    place = tmp_path / "runtime"
    paths.make_runtime(place)
    for _ in range(2):
        StoredPosition(place, ring).close()
        paths.make_runtime(place)
        assert not list(place.iterdir()), "the mark belongs to the session before"
    StoredPosition(place, ring).close()
    paths.remove_runtime(place)
    assert not place.exists()


def test_the_mark_of_another_session_or_a_damaged_one_is_none(ring: Ring, tmp_path: Path) -> None:
    position = StoredPosition(tmp_path, ring)
    position.begin(5, "a.png")
    file = tmp_path / f"{ring.camera}.position"
    content = file.read_bytes()
    file.write_bytes(content[:40] + b"x" + content[41:])
    assert StoredPosition(tmp_path, ring).mark == Mark(-1)
    file.write_bytes(content)
    Ring.create(tmp_path, ring.camera, uuid.uuid4())
    assert StoredPosition(tmp_path, Ring(tmp_path, ring.camera)).mark == Mark(-1)


def test_a_frame_in_the_ring_is_never_told_again(ring: Ring, tmp_path: Path) -> None:
    """The worker is killed between the frame and the mark."""
    position = StoredPosition(tmp_path, ring)
    position.begin(0, "a.png")
    position.finish()
    camera = CameraSettings(name="top", source="folder:///x", recipe="part")
    Intake(camera, ring, lambda number: None, Clocks()).admit(
        Shot(pixels=None, pixel_format="BGR8", captured_ns=0, device_frame=0, fault="damaged")
    )
    assert StoredPosition(tmp_path, ring).mark == Mark(0, "a.png", TOLD)
    assert (tmp_path / f"{ring.camera}.position").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("killed_after", "again"), [(0, 4), (1, 4), (2, 4), (3, 5)])
def test_a_shot_after_missed_exposures_is_told_once(
    ring: Ring, tmp_path: Path, killed_after: int, again: int
) -> None:
    """The worker is killed after that many frames, of which the shot's own is the third."""

    class KilledRing(Ring):
        def write_captured(self, frame: Frame) -> None:
            if frame.number > killed_after:
                raise Killed
            super().write_captured(frame)

    StoredPosition(tmp_path, ring).begin(4)
    intake = Intake(
        CameraSettings(name="top", source="simulated://bottle", recipe="part"),
        KilledRing(tmp_path, ring.camera),
        lambda number: None,
        Clocks(),
    )
    with contextlib.suppress(Killed):
        intake.admit(
            Shot(pixels=None, pixel_format="BGR8", captured_ns=0, device_frame=4, missed=2, fault="damaged")
        )
    assert StoredPosition(tmp_path, ring).mark.next_index == again


class Killed(BaseException):
    """The worker's death."""


def work_until_killed(folder: Path, ring: Ring, steps: int) -> int:
    """A capture worker that is killed before its step of that number. Returns the steps that it did.

    A step is the writing of a mark or of a frame: whatever happens between two of them leaves no trace.
    """
    done = 0

    def step() -> None:
        nonlocal done
        if done == steps:
            raise Killed
        done += 1

    class Position(StoredPosition):
        def keep(self, mark: Mark) -> None:
            step()
            super().keep(mark)

    class OneRing(Ring):
        def write_captured(self, frame: Frame) -> None:
            step()
            super().write_captured(frame)

    own = OneRing(folder, ring.camera)
    position = Position(folder, own)
    camera = CameraSettings(name="top", source=f"folder://{folder}/parts?fps=1000", recipe="part")
    intake = Intake(camera, own, lambda number: None, Clocks())
    driver = drivers.open(camera.source, progress=position)
    driver.open()
    try:
        while shot := driver.read(1.0):
            intake.admit(shot)
            position.tell(shot.device_frame)
    except (Killed, SourceEnded):
        pass
    finally:
        position.close()
        own.close()
    return done


@pytest.mark.parametrize("first", range(17))
def test_whenever_a_worker_dies_every_image_gets_one_frame(ring: Ring, tmp_path: Path, first: int) -> None:
    """The first one dies after `first` steps, each that follows after five."""
    (tmp_path / "parts").mkdir()
    for number in range(4):
        (tmp_path / "parts" / f"{number}.png").write_bytes(encoded("PNG"))
    (tmp_path / "parts" / "2.png").write_bytes(b"damaged")
    steps = first
    while work_until_killed(tmp_path, ring, steps) == steps:
        steps = 5
    frames = [ring.frame(number) for number in range(1, ring.last_frame() + 1)]
    assert [frame.device_frame for frame in frames if frame] == [0, 1, 2, 3]
    assert frames[2] is not None
    assert frames[2].refused is Reason.BAD_FRAME
