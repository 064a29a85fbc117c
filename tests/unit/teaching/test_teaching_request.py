"""A training from the page asks for what `train` takes by default, and leaves the GPU to the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.settings import CameraSettings, LineSettings, Settings, SnapshotSettings
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder
from monitor.teaching.teaching_request import make_teaching_request
from monitor.training.compare import Compare

ROI = (0, 0, 64, 64)


def test_the_request_has_the_camera_s_region_the_pictures_and_no_gpu(tmp_path: Path) -> None:
    camera = CameraSettings(name="top", source="simulated://plate", recipe="plate", deadline_ms=200, roi=ROI)
    settings = Settings(
        line=LineSettings(data=tmp_path), camera=(camera,), snapshots=SnapshotSettings(min_free_gb=0)
    )
    folder = TeachingFolder.of(settings, "disc")
    with pytest.raises(TeachingError, match="collect some first"):
        make_teaching_request(settings, "disc", "top", Compare.MEMORY, "edda")
    folder.copy(ImageKind.GOOD, "a.png", b"")
    request = make_teaching_request(settings, "disc", "top", Compare.MEMORY, "edda")
    assert (request.device, request.roi, request.compare, request.who) == ("cpu", ROI, Compare.MEMORY, "edda")
    assert request.images == tmp_path / "teaching/disc/good"
    assert request.automatic_size is not None
    assert request.automatic_size.deadline_ms == 200
    assert request.defects is None
    folder.copy(ImageKind.DEFECT, "b.png", b"")
    request = make_teaching_request(settings, "disc", "top", Compare.BOTH, "edda")
    assert request.defects == tmp_path / "teaching/disc/defects"
