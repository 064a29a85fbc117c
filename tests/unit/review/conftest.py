"""Fixtures of the review page's tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.ring import Ring
from monitor.review import recipe_pages, version_trial
from monitor.review.snapshot_files import Key
from monitor.review.trial_process import TrialReport, TrialStart, try_version
from monitor.settings import CameraSettings, LineSettings, Settings
from monitor.snapshots.labels import Label, LabelEntry
from tests.real.snapshot_set import write_snapshot

SIDE = 600


@pytest.fixture(autouse=True)
def _trials_without_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version is tried in the test's own process, which has imported torch. Networks are built only where
    there is something to score: two threads must not build networks at once."""

    def run(start: TrialStart, take: Callable[[TrialReport], None]) -> None:
        if start.defects:
            try_version(start, take)
        else:
            take(TrialReport(is_end=True))

    monkeypatch.setattr(version_trial, "run_process", run)
    monkeypatch.setattr(recipe_pages, "_TRIAL_S", 60.0)


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 24, 1, 0, tzinfo=UTC)


@pytest.fixture
def overkill() -> LabelEntry:
    return LabelEntry(Label.OVERKILL, "ab", "2026-11-24T01:00:00.000Z")


@pytest.fixture
def keys(tmp_path: Path, now: datetime) -> list[Key]:
    """Ten snapshots in `tmp_path`, oldest first, of two days and two cameras."""
    return [
        write_snapshot(
            tmp_path,
            now - timedelta(minutes=20 * (10 - n)),
            n,
            camera="top" if n % 2 else "side",
            score=0.02 + n / 1000,
            recipe="disc" if n < 5 else "plate",
        )
        for n in range(10)
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a line with one camera called `top`, the camera of `ring`."""
    camera = CameraSettings(name="top", source="simulated://plate", recipe="plate")
    return Settings(line=LineSettings(data=tmp_path / "data"), camera=(camera,))


@pytest.fixture
def put_frame(ring: Ring) -> Callable[[int, int], None]:
    """Writes a frame of that number and of one grey value into the ring, and releases its slot."""
    ring.reserve(SIDE * SIDE)

    def put(number: int, value: int) -> None:
        slot = ring.free_slot()
        assert slot is not None
        now = time.monotonic_ns()
        frame = Frame(number, now, now, now, now, now, 0, number, slot, PixelFormat.Mono8, SIDE, SIDE)
        ring.write_captured(frame)
        ring.fill(frame, np.full((SIDE, SIDE), value, np.uint8))
        ring.release(frame)

    return put
