"""Snapshots written by hand, without a line: the three files of one snapshot, with placeholder pictures."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.review.snapshot_files import Key
from monitor.verdict import snapshot_path

DAMAGED_JSON = {
    "empty": "",
    "a list": "[]",
    "not JSON": "nonsense",
    "wrong types": '{"labels": 3, "score": "x", "verdict": []}',
    "unknown label": '{"labels": ["hm"]}',
    "nested too deep": "[" * 60_000,
    "number too large": '{"score": ' + "9" * 400 + "}",
    "half a surrogate pair": r'{"recipe": "\ud800"}',
}
"""Contents of a damaged `.json`, by the kind of damage."""


def write_snapshot(
    root: Path, moment: datetime, frame: int, *, camera: str = "top", score: float = 0.02, **more: Any
) -> Key:
    """Writes `.jpg`, `.png` and `.json`; `more` are further fields of the `.json`."""
    jpg = root / snapshot_path(int(moment.timestamp()) * 10**9, camera, frame, score)
    jpg.parent.mkdir(parents=True, exist_ok=True)
    payload = {"verdict": "reject", "recipe": "disc", "score": score, "threshold": 0.01, "labels": [], **more}
    jpg.write_bytes(b"jpg")
    jpg.with_suffix(".png").write_bytes(b"png")
    jpg.with_suffix(".json").write_text(json.dumps(payload))
    return Key(jpg.parent.parent.name, camera, jpg.stem)
