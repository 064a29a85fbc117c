"""`check` fails for expired challenge parts, and warns before that and where bad parts are missing."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from monitor.commands.check_challenge import find_challenge, find_free_running
from monitor.commands.finding import Level
from monitor.settings import Settings

KNOWN = {"camera": "top", "verified_by": "J. Smith", "verified": "2026-11-01"}


def check(tmp_path: Path, *parts: dict[str, str], port: int = 8080) -> list[tuple[Level, str]]:
    tree = {
        "line": {"data": str(tmp_path)},
        "camera": [{"name": "top", "source": "simulated://plate", "recipe": "plate"}],
        "challenge": {
            "part": [{"expires": "2027-11-30", "expected": "reject", **KNOWN, **part} for part in parts]
        },
        "review": {"port": port},
    }
    found = find_challenge(Settings.model_validate(tree), date(2026, 11, 30))
    return [(finding.level, finding.text) for finding in found]


def test_parts_in_order_are_ok_and_a_line_without_parts_has_no_line(tmp_path: Path) -> None:
    assert check(tmp_path) == []
    ((level, text),) = check(tmp_path, {"id": "bad-1"}, {"id": "good-1", "expected": "pass"})
    assert level is Level.OK
    assert "2 parts" in text


@pytest.mark.parametrize(
    ("source", "part_camera", "warns"),
    [
        ("folder:///parts", "top", True),
        ("rtsp://camera/live", "top", True),
        ("gige://Basler-1?trigger=free-run", "top", True),
        ("gige://Basler-1", "top", False),
        ("folder:///parts", "side", False),
    ],
)
def test_a_camera_that_runs_free_without_a_presence_gate_has_a_warning(
    source: str, part_camera: str, warns: bool
) -> None:
    cameras = [{"name": "top", "source": source, "recipe": "plate"}]
    cameras.append({"name": "side", "source": "simulated://plate", "recipe": "plate"})
    part = {"id": "p", "expires": "2027-11-30", "expected": "reject", **KNOWN, "camera": part_camera}
    settings = Settings.model_validate({"camera": cameras, "challenge": {"part": [part]}})
    found = list(find_free_running(settings, settings.camera[0]))
    assert [one.level for one in found] == ([Level.WARN] if warns else [])


@pytest.mark.parametrize(
    ("part", "port", "level", "words"),
    [
        ({"expires": "2026-11-29"}, 8080, Level.FAIL, "challenge part p has expired"),
        ({"expires": "2026-11-30"}, 8080, Level.WARN, "may be used until 2026-11-30"),
        ({"verified": "2026-12-01"}, 8080, Level.WARN, "in the future"),
        ({"expected": "pass"}, 8080, Level.WARN, "camera top has no bad part"),
        ({}, 0, Level.FAIL, "review.port is 0"),
    ],
)
def test_each_trouble_has_one_line_with_the_fix(
    part: dict[str, str], port: int, level: Level, words: str, tmp_path: Path
) -> None:
    ((found, text),) = check(tmp_path, {"id": "p", **part}, port=port)
    assert found is level
    assert words in text
