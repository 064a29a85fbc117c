"""The records of a fleet's trainings: what counts as taught, and that two never teach one recipe."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from monitor.fleet.fleet_error import FleetError
from monitor.fleet.training_record import (
    TrainingRecord,
    TrainingResult,
    TrainingState,
    hold_lock,
    is_taught,
    make_fingerprint,
    read_record,
    record_file,
    write_record,
)

BEGUN = TrainingRecord(fingerprint="a", utc_before="2026-01-01T00:00:00Z", starts=1)
DONE = msgspec.structs.replace(
    BEGUN,
    result=TrainingResult(recipe="top", state=TrainingState.TRAINED, utc="2026-01-02T00:00:00Z"),
)


@pytest.mark.parametrize(
    ("record", "fingerprint", "utc", "has_checkpoint", "taught"),
    [
        (None, "a", "2026-01-02T00:00:00Z", False, False),
        (DONE, "a", "2026-01-02T00:00:00Z", False, True),
        (DONE, "other images", "2026-01-02T00:00:00Z", False, False),
        (DONE, "a", "2026-01-03T00:00:00Z", False, False),
        (DONE, "a", "", False, False),
        # The process died between the commit and the record.
        (BEGUN, "a", "2026-01-02T00:00:00Z", False, True),
        # It died before the commit: the recipe is the one of before.
        (BEGUN, "a", "2026-01-01T00:00:00Z", False, False),
        (BEGUN, "a", "2026-01-02T00:00:00Z", True, False),
    ],
)
def test_a_recipe_is_taught_once(
    record: TrainingRecord | None, fingerprint: str, utc: str, has_checkpoint: bool, taught: bool
) -> None:
    assert is_taught(record, fingerprint, utc, has_checkpoint=has_checkpoint) is taught


def test_other_images_give_another_fingerprint(tmp_path: Path) -> None:
    image = tmp_path / "good" / "a.png"
    image.parent.mkdir()
    image.write_bytes(b"one")
    before = make_fingerprint(("train",), {}, (image.parent,))
    assert make_fingerprint(("train",), {}, (image.parent,)) == before
    os.utime(image, (1, 1))
    assert make_fingerprint(("train",), {}, (image.parent,)) != before
    assert make_fingerprint(("train",), {"torch": "3"}, (image.parent,)) != before


def test_a_record_that_is_damaged_counts_as_none(tmp_path: Path) -> None:
    file = record_file(tmp_path, "top")
    write_record(file, DONE)
    assert read_record(file) == DONE
    file.write_text("{")
    assert read_record(file) is None


def test_a_recipe_that_another_process_teaches_is_left_alone(tmp_path: Path) -> None:
    times = iter((0.0, 61.0))
    with (
        hold_lock(tmp_path, "top"),
        pytest.raises(FleetError, match="another process teaches 'top'"),
        hold_lock(tmp_path, "top", lambda: next(times)),
    ):
        pass
    with hold_lock(tmp_path, "top"):
        pass
