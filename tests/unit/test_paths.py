"""Only one service runs on a data folder, also when its disk is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.paths import DataLock, PathError
from monitor.settings import Settings


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system without a free byte. It is full for root too."""
    place = tmp_path / "full"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"mounting is not permitted here: {made.stderr.decode().strip()}")
    try:
        with pytest.raises(OSError, match="No space left"):
            (place / "filler").write_bytes(bytes(1 << 20))
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_does_not_keep_a_line_from_taking_its_lock(full_disk: Path) -> None:
    line = Settings(line={"data": full_disk})
    refused = pytest.raises(PathError, match="another line-monitor already runs")
    with DataLock(line), refused, DataLock(line):
        pass
    with DataLock(line):
        pass


def test_who_is_refused_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    line = Settings(line={"data": tmp_path})
    with DataLock(line), pytest.raises(PathError, match=r"\(pid \d+\) already runs"), DataLock(line):
        pass
