"""Snapshot sets, clocks and small disks for the tests of the snapshot folder."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from monitor.settings import SnapshotSettings
from monitor.snapshots.folder import SnapshotFolder
from monitor.verdict import snapshot_path

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
OVERLAY = np.full((40, 80, 3), 90, np.uint8)
FRAME = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
PAYLOAD = {"schema": 1, "verdict": "reject", "score": 0.02}
NO_FLOOR = SnapshotSettings(min_free_gb=0)
"""Settings without a bound on free disk space."""


class Clock:
    """UTC and monotonic time that move together, until `step` moves UTC alone."""

    def __init__(self) -> None:
        self.moment = NOW
        self.monotonic = 0

    def utc_ns(self) -> int:
        return ns(self.moment)

    def monotonic_ns(self) -> int:
        return self.monotonic

    def advance(self, by: timedelta) -> None:
        self.moment += by
        self.monotonic += int(by.total_seconds() * 1e9)

    def step(self, by: timedelta) -> None:
        self.moment += by


def ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def path_at(moment: datetime, frame: int = 1, camera: str = "top") -> str:
    return snapshot_path(ns(moment), camera, frame, 0.02)


def folder_at(
    root: Path, settings: SnapshotSettings = NO_FLOOR, clock: Clock | None = None
) -> tuple[SnapshotFolder, Clock]:
    clock = clock or Clock()
    return SnapshotFolder(root, settings, utc_ns=clock.utc_ns, monotonic_ns=clock.monotonic_ns), clock


def names(root: Path) -> list[str]:
    """All files below `root`, sorted."""
    return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())


def put_set(
    root: Path, moment: datetime, frame: int = 1, *, size: int = 100, labels: tuple[str, ...] = ()
) -> Path:
    """Write a set as an earlier run of the service left it. Returns its `.jpg`."""
    jpg = root / path_at(moment, frame)
    jpg.parent.mkdir(parents=True, exist_ok=True)
    jpg.write_bytes(bytes(size))
    jpg.with_suffix(".png").write_bytes(bytes(size))
    jpg.with_suffix(".json").write_text(json.dumps({**PAYLOAD, "labels": list(labels)}))
    return jpg


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Callable[[str], None]]:
    """Mount a small file system at `place`. The yielded function mounts it again with other options."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield (
            lambda other: subprocess.run(["mount", "-o", f"remount,{other}", str(place)], check=True) and None
        )
    finally:
        subprocess.run(["umount", str(place)], check=True)
