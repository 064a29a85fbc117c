"""Measures the review page and the snapshot folder with many snapshots.

    .venv/bin/python -m tests.benchmarks.review_page [--sets 100000] [--at DIR]

DIR is filled once (three small files in each set, one set in ten has a label) and used again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from monitor.images.overlay import Caption, draw_overlay
from monitor.review.snapshot_files import SnapshotFiles
from monitor.review.snapshot_index import SnapshotIndex
from monitor.settings import SnapshotSettings
from monitor.snapshots.folder import SnapshotFolder
from monitor.verdict import snapshot_path
from tests.benchmarks.markdown import markdown
from tests.real.review_page import ReviewPage

SIDE = 256
DAYS = 30


def fill(root: Path, sets: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    caption = Caption(
        score=0.02,
        threshold=0.01,
        verdict="reject",
        recipe="disc",
        camera="top",
        frame=1,
        captured_utc="",
    )
    drawn = draw_overlay(frame, np.full((64, 64), 0.02, np.float32), caption)
    jpg = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 20])[1].tobytes()
    png = cv2.imencode(".png", np.zeros((SIDE, SIDE), np.uint8))[1].tobytes()
    now = datetime.now(UTC)
    for n in range(sets):
        moment = now - timedelta(days=DAYS * n / sets)
        camera = ("top", "side", "bottom")[n % 3]
        file = root / snapshot_path(int(moment.timestamp() * 1000) * 1_000_000, camera, sets - n, 0.02)
        file.parent.mkdir(parents=True, exist_ok=True)
        labels = [{"label": "overkill", "by": "", "utc": ""}] if n % 10 == 0 else []
        payload = {"verdict": "reject", "recipe": "disc", "score": 0.02, "threshold": 0.01, "labels": labels}
        # The newest page has real pictures; the other sets are only counted.
        for picture, content in ((file, jpg), (file.with_suffix(".png"), png)):
            picture.write_bytes(content if n < 500 else b"")
            # Sparse files have the size of real ones but take no disk space.
            os.truncate(picture, max(len(content), 100_000))
        file.with_suffix(".json").write_text(json.dumps(payload))


def ms(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return (time.monotonic() - started) * 1000


def over_http(data: Path) -> list[list[str]]:
    with ReviewPage(data) as page:
        rows = [["first page, just started", f"{ms(lambda: page.get('/')):.0f} ms"]]
        started = time.monotonic()
        while b"still" in page.get("/")[1]:
            time.sleep(0.2)
        rows.append(["every .json read in the background", f"{time.monotonic() - started:.1f} s"])
        for what, path in (
            ("first page", "/"),
            ("overkills of one camera", "/?camera=top&label=overkill"),
            ("nothing matches", "/?least=100"),
            ("today's page", "/today"),
        ):
            times = [ms(lambda path=path: page.get(path)) for _ in range(11)]  # type: ignore[misc]
            rows.append([what, f"{statistics.median(times):.0f} ms, at worst {max(times):.0f} ms"])
        _, content = page.get("/")
        pictures = [
            line.split('src="')[1].split('"')[0] for line in content.decode().split("\n") if "<img" in line
        ]
        rows.append(
            [f"{len(pictures)} thumbnails", f"{ms(lambda: [page.get(its) for its in pictures]):.0f} ms"]
        )
        memory = Path(f"/proc/{page.process.pid}/status").read_text().split("VmRSS:")[1].split()[0]
        rows.append(["memory of the page's process", f"{int(memory) / 1024:.0f} MB"])
        return rows


def in_folder(data: Path) -> list[list[str]]:
    root = data / "snapshots"
    index = SnapshotIndex(SnapshotFiles(root))
    rows = [["names read by the index", f"{ms(lambda: index._read_names(False, lambda: None)):.0f} ms"]]
    rows.append(
        ["looked at again, nothing new", f"{ms(lambda: index._read_names(False, lambda: None)):.1f} ms"]
    )
    folder = SnapshotFolder(root, SnapshotSettings(min_free_gb=0, keep_days=DAYS + 1))
    steps = []
    more = True
    while more:
        started = time.monotonic()
        more = folder.step()
        steps.append((time.monotonic() - started) * 1000)
    rows.append(
        [
            f"{len(steps)} steps of the writer's own scan",
            f"at worst {max(steps):.0f} ms, {sum(steps):.0f} in all",
        ]
    )
    rows.append(["a prune with nothing to do", f"{ms(folder.prune):.1f} ms"])
    # The folder is at its limit, so every write deletes the oldest set.
    full = SnapshotFolder(
        root, SnapshotSettings(min_free_gb=0, keep_days=DAYS + 1, max_gb=folder.total_bytes / 1e9)
    )
    while full.step():
        continue
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    now = time.time_ns()
    writes = [
        ms(lambda n=n: full.write(snapshot_path(now + n * 1_000_000, "top", n, 0.02), frame, frame, {}))  # type: ignore[misc]
        for n in range(100)
    ]
    rows.append(
        ["a write at the limit", f"{statistics.median(writes):.1f} ms, at worst {max(writes):.1f} ms"]
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=100_000)
    parser.add_argument("--at", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = (options.at or Path(temporary)) / "data"
        if not (data / "snapshots").exists():
            fill(data / "snapshots", options.sets)
        print(markdown([["what", "how long"], *over_http(data), *in_folder(data)]))


if __name__ == "__main__":
    main()
