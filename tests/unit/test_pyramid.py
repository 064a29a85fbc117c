"""The paper's loss and map, compared with independent formulas in plain numpy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from monitor.pyramid import ResNetTrunk, anomaly_map, matching_loss, upsample

Array = NDArray[np.float64]
SHAPES = [(2, 5, 16, 12), (2, 7, 8, 6), (2, 9, 4, 3)]


def features(seed: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(rng.normal(size=shape)).float() for shape in SHAPES]


def distances(t: torch.Tensor, s: torch.Tensor) -> Array:
    """|t / |t| - s / |s||^2 at every pixel, from the cosine: 2 - 2 cos."""
    a, b = t.double().numpy(), s.double().numpy()
    lengths = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.asarray(2 - 2 * (a * b).sum(1) / lengths)


def bilinear(image: Array, rows: int, columns: int) -> Array:
    """Bilinear resize with half-pixel centres and repeated edges: one weight matrix for each axis."""

    def weights(old: int, new: int) -> Array:
        matrix = np.zeros((new, old))
        for i in range(new):
            place = min(max((i + 0.5) * old / new - 0.5, 0.0), old - 1.0)
            low = int(place)
            matrix[i, low] += 1 - (place - low)
            matrix[i, min(low + 1, old - 1)] += place - low
        return matrix

    return np.asarray(weights(image.shape[-2], rows) @ image @ weights(image.shape[-1], columns).T)


def test_the_loss_is_the_official_code_s() -> None:
    teacher, student = features(1), features(2)
    expected = sum(distances(t, s).mean() for t, s in zip(teacher, student, strict=True))
    assert float(matching_loss(teacher, student)) == pytest.approx(expected, rel=1e-6)


def test_the_map_is_the_product_at_the_first_level_s_resolution() -> None:
    teacher, student = features(1), features(2)
    expected = np.ones((2, 16, 12))
    for t, s in zip(teacher, student, strict=True):
        expected *= bilinear(distances(t, s), 16, 12)
    found = anomaly_map(teacher, student)
    assert found.shape == (2, 16, 12)
    assert found.numpy() == pytest.approx(expected, rel=1e-5)
    assert upsample(found, (64, 48)).numpy() == pytest.approx(bilinear(expected, 64, 48), rel=1e-5)


def test_a_perfect_student_sees_no_anomaly() -> None:
    teacher = features(1)
    scaled = [3 * level for level in teacher]
    assert float(matching_loss(teacher, scaled)) == pytest.approx(0, abs=1e-6)
    assert float(anomaly_map(teacher, scaled).max()) == pytest.approx(0, abs=1e-9)


def test_features_of_zeros_give_numbers() -> None:
    nothing = [torch.zeros(shape) for shape in SHAPES]
    assert torch.isfinite(anomaly_map(features(1), nothing)).all()
    assert torch.isfinite(matching_loss(nothing, nothing))


def test_half_precision_features_give_a_float32_map() -> None:
    teacher, student = features(1), features(2)
    exact = anomaly_map(teacher, student)
    half = anomaly_map([t.half() for t in teacher], [s.half() for s in student])
    assert half.dtype == torch.float32
    assert float((half - exact).abs().max() / exact.max()) < 5e-3


def test_levels_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="same levels"):
        matching_loss(features(1), features(2)[:2])
    with pytest.raises(ValueError, match="same levels"):
        anomaly_map([], [])


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", (2, 2, 2)), ("resnet34", (3, 4, 6))])
def test_the_trunk_is_torchvision_s_resnet(name: str, blocks: tuple[int, int, int]) -> None:
    from torchvision.models import get_model
    from torchvision.models.feature_extraction import create_feature_extractor

    theirs = create_feature_extractor(get_model(name, weights=None), ["layer1", "layer2", "layer3"]).eval()
    ours = ResNetTrunk(blocks).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for mine, yours in zip(ours(images), theirs(images).values(), strict=True):
            assert torch.equal(mine, yours)


def test_the_paper_s_module_loads_torch_alone() -> None:
    code = "import sys, monitor.pyramid; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "torch" in loaded.split()
    assert not {"torchvision", "cv2", "msgspec", "safetensors"} & set(loaded.split())
