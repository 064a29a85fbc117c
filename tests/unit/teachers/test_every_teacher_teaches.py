"""Students of all seven architectures learn from the first steps on, with and without batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from drivers.image_file import Image
from monitor.images.preprocessing import normalise_image, resize_image
from monitor.system.progress import SILENT
from monitor.teachers.architectures import LEVELS, build_trunk
from monitor.training.loop import FitSettings, TrainedStudent, fit
from tests.real.parts import part


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread is faster: maps of a few cells are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settled_teacher(architecture: str, pictures: list[Image]) -> nn.Module:
    """A network of random weights whose batch statistics match its features, as a trained network's do."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        teacher = build_trunk(architecture)
        for module in teacher.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            teacher.train()(torch.from_numpy(np.stack([normalise_image(picture) for picture in pictures])))
    return teacher.eval().requires_grad_(False)


def learn(architecture: str, count: int, epochs: int) -> TrainedStudent:
    pictures = [resize_image(part(number), (64, 64)) for number in range(count)]
    return fit(
        settled_teacher(architecture, pictures),
        pictures,
        range(count - 2),
        range(count - 2, count),
        FitSettings(architecture=architecture, epochs=epochs, seed=0, device=torch.device("cpu"), batch=4),
        progress=SILENT,
    )


@pytest.mark.parametrize("architecture", LEVELS)
def test_the_loss_falls_from_the_first_steps_on(architecture: str) -> None:
    fitted = learn(architecture, count=10, epochs=3)
    assert fitted.losses[2] < fitted.losses[1] < fitted.losses[0]
    assert fitted.losses[2] < 0.97 * fitted.losses[0]
    assert all(bool(np.isfinite(array).all()) for array in fitted.student.values())


@pytest.mark.parametrize("architecture", ["squeezenet1_1", "mobilenet_v3_large", "efficientnet_b0"])
def test_the_student_that_is_kept_has_learnt(architecture: str) -> None:
    """Even after a short training, the running statistics of eval mode fit the trained weights."""
    fitted = learn(architecture, count=26, epochs=12)
    assert fitted.select_maps[fitted.best_epoch - 1] < 0.4 * fitted.select_maps[0]
    assert min(fitted.select_maps) < 0.3 * fitted.select_maps[0]
