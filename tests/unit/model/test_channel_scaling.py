"""The weight of a channel depends on its deviation over good images, not on the size of its values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monitor.inference.anomaly_network import Networks
from monitor.inference.torch_network import TorchNetwork
from monitor.model.channel_scaling import TENSOR_NAMES, add_deviations, channel_deviations, read_deviations
from monitor.pyramid import ScaledTrunk, anomaly_map
from monitor.teachers.architectures import build_trunk

SIZE = 32
CPU = torch.device("cpu")


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(count)]


class ConstantFeatures(nn.Module):
    """A teacher whose features are equal at every place."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.ones(len(x), channels, 4, 4) for channels in (2, 3, 4)]


@pytest.fixture(scope="module")
def trunk() -> nn.Module:
    torch.manual_seed(0)
    return build_trunk("resnet18").eval().requires_grad_(False)


def test_deviations_are_those_of_every_place_of_the_pictures(trunk: nn.Module) -> None:
    shown = pictures(5)
    found = channel_deviations(trunk, shown, [0, 1, 3], CPU)
    normal = np.stack([shown[i] for i in (0, 1, 3)]).astype(np.float32)[..., ::-1] / 255
    normal = (normal - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    levels = trunk(torch.from_numpy(normal.transpose(0, 3, 1, 2).copy()))
    for deviation, level in zip(found, levels, strict=True):
        plain = level.permute(1, 0, 2, 3).flatten(1).std(dim=1, correction=0)
        torch.testing.assert_close(deviation, plain.clamp_min(0.1 * plain.mean()), rtol=1e-4, atol=1e-6)


def test_a_channel_that_hardly_varies_does_not_become_the_loudest(trunk: nn.Module) -> None:
    for deviation in channel_deviations(trunk, pictures(3), [0, 1, 2], CPU):
        assert deviation.min() >= 0.099 * deviation.mean()


def test_a_teacher_that_sees_the_same_everywhere_is_left_as_it_is() -> None:
    found = channel_deviations(ConstantFeatures(), pictures(2), [0, 1], CPU)
    assert all(torch.isfinite(1 / deviation).all() for deviation in found)


def test_evened_levels_vary_alike_in_every_channel(trunk: nn.Module) -> None:
    shown = pictures(4)
    evened = ScaledTrunk(trunk, channel_deviations(trunk, shown, range(4), CPU))
    for deviation in channel_deviations(evened, shown, range(4), CPU):
        assert deviation.max() <= 1.001
        assert float(deviation.median()) == pytest.approx(1, abs=1e-3)


def test_a_defect_in_a_quiet_channel_is_seen_beside_a_loud_one() -> None:
    teacher = torch.tensor([100.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4).clone()
    student = teacher.clone()
    student[:, 1] = 3.0
    as_paper = anomaly_map([teacher], [student])
    scale = torch.tensor([50.0, 0.5]).view(1, 2, 1, 1)
    assert float(anomaly_map([teacher / scale], [student / scale]).max()) > 100 * float(as_paper.max())


def test_what_runs_is_what_the_paper_s_map_gives_on_evened_levels(trunk: nn.Module) -> None:
    torch.manual_seed(1)
    student = build_trunk("resnet18").eval().requires_grad_(False)
    deviations = channel_deviations(trunk, pictures(3), range(3), CPU)
    images = torch.randn(2, 3, SIZE, SIZE)
    found = TorchNetwork(
        Networks(ScaledTrunk(trunk, deviations), ScaledTrunk(student, deviations)), CPU, half=False
    )(images)
    scales = [deviation[:, None, None] for deviation in deviations]
    plain = anomaly_map(
        [level / scale for level, scale in zip(trunk(images), scales, strict=True)],
        [level / scale for level, scale in zip(student(images), scales, strict=True)],
    )
    larger = nn.functional.interpolate(
        plain[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False
    )[:, 0]
    assert float((found - larger).abs().max()) <= 1e-4 * float(larger.abs().max())


def test_deviations_travel_with_the_student_s_weights() -> None:
    deviations = [torch.rand(3), torch.rand(4), torch.rand(5)]
    weights = add_deviations({"conv1.weight": np.zeros(2, np.float32)}, deviations)
    found = read_deviations(weights)
    assert found is not None
    assert all(torch.equal(a, b) for a, b in zip(found, deviations, strict=True))
    assert read_deviations({"conv1.weight": np.zeros(2, np.float32)}) is None


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(None, id="missing"),
        pytest.param(np.zeros(4, np.float32), id="zero"),
        pytest.param(np.ones((4, 1), np.float32), id="another shape"),
        pytest.param(np.ones(4, np.float64), id="another type"),
    ],
)
def test_damaged_deviations_are_named(damaged: np.ndarray | None) -> None:
    weights = {name: np.ones(4, np.float32) for name in TENSOR_NAMES}
    if damaged is None:
        del weights[TENSOR_NAMES[1]]
    else:
        weights[TENSOR_NAMES[1]] = damaged
    with pytest.raises(ValueError, match=r"even\.2 is"):
        read_deviations(weights)
