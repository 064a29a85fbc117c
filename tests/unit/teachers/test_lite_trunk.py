"""The memory's own teacher has two levels for images of every size, and comes from the published file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from monitor.teachers.lite_trunk import (
    LiteTrunk,
    load_lite_teacher,
)
from monitor.teachers.lite_weights import make_lite_teacher
from monitor.teachers.weight_files import LITE_FILE, LITE_TEACHER, TeacherError
from tests.unit.teachers.published_lite import published_lite


@pytest.mark.parametrize("size", [(128, 192), (256, 320)], ids=["whole", "halved"])
def test_the_made_teacher_does_what_the_published_network_does(size: tuple[int, int], tmp_path: Path) -> None:
    published = published_lite()
    source, made = tmp_path / "source.pth", tmp_path / "made.safetensors"
    torch.save(published.state_dict(), source)
    made.write_bytes(make_lite_teacher(source))
    assert made.read_bytes() == make_lite_teacher(source), "the same bytes each time"
    grey_levels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (grey_levels / 255 - mean[:, None, None]) / deviation[:, None, None]
    with torch.inference_mode():
        expected = published(F.avg_pool2d(grey_levels, 2) if size[0] == 256 else grey_levels)
        found = load_lite_teacher(made).trunk(normalised)
    for own, other in zip(found, expected, strict=True):
        assert own.shape == other.shape
        # The made weights are half precision, and 15 blocks add up their rounding.
        assert (own - other).abs().max() < 0.03 * other.abs().max()


@pytest.mark.parametrize(("side", "fourth", "fifth"), [(32, 2, 1), (33, 3, 2), (100, 7, 4), (256, 8, 4)])
def test_images_of_every_size_have_two_levels(side: int, fourth: int, fifth: int) -> None:
    levels = LiteTrunk().eval()(torch.zeros(1, 3, side, side + 64))
    assert [tuple(level.shape[1:3]) for level in levels] == [(112, fourth), (192, fifth)]


def test_the_carried_file_names_its_source() -> None:
    teacher = load_lite_teacher()
    assert teacher.name == LITE_TEACHER
    assert LITE_FILE.stat().st_size < 6e6
    with safe_open(LITE_FILE, "pt") as content:
        about = json.loads(content.metadata()["about"])
    assert about["source sha256"] in (LITE_FILE.parent / "NOTICE").read_text()
    assert hashlib.sha256(LITE_FILE.read_bytes()).hexdigest() in (LITE_FILE.parent / "NOTICE").read_text()


def test_another_network_is_one_clear_line(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, other)
    with pytest.raises(TeacherError, match=r"other\.pth does not hold the weights of EfficientNet-Lite0"):
        make_lite_teacher(other)
    with pytest.raises(TeacherError, match=r"missing\.pth: there is no such file"):
        make_lite_teacher(tmp_path / "missing.pth")
    with pytest.raises(TeacherError, match="install the program again"):
        load_lite_teacher(other)
