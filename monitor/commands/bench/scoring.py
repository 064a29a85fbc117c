"""Measures how fast a teacher and student pair scores frames, and compares it with the arithmetic limit.

It knows nothing of recipes: the pair is untrained, since the time does not depend on the weights.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from drivers.image_file import Image
from monitor.images.preprocessing import as_size, normalise_image, prepare, resize_image
from monitor.images.tiling import Grid
from monitor.inference.anomaly_network import Networks
from monitor.inference.backends import (
    F16,
    F32,
    INT8,
    MAX_MAP_DIFFERENCE,
    OPENVINO,
    TORCH,
    can_quantise,
    choose_device,
    has_openvino,
    torch_precisions,
)
from monitor.inference.cuda_transfer import choose_transfer
from monitor.inference.device_preprocessing import DevicePreprocessing
from monitor.inference.device_scoring import DeviceScoring, DeviceTransfer, PlainTransfer, Run
from monitor.inference.torch_network import TorchNetwork
from monitor.teachers.architectures import build_trunk

BATCHES = (1, 2, 4, 8)
_MATRIX = 2048
_FRAME = (1080, 1920, 3)
RESIDENT = 64


@dataclass(frozen=True)
class ScoringRow:
    """Median times of one runtime, precision and batch size, in milliseconds."""

    runtime: str
    precision: str
    batch: int
    ms_per_frame: float
    """The network without preprocessing: from normalised images to anomaly maps."""
    prepare_ms: float
    """Preprocessing of one 1920x1080 frame to a normalised image."""
    limit_ms_per_frame: float
    """The time of the network's multiplications and additions at the rate of a large matrix product, which is
    measured in turns with the network."""

    @property
    def ratio(self) -> float:
        """The time as a multiple of the arithmetic limit."""
        return self.ms_per_frame / self.limit_ms_per_frame


def measure(
    architecture: str,
    size: int,
    device: str,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[ScoringRow]:
    """Measure for about `seconds`; yields a row for every precision and batch size. Raises RecipeError if the
    device can't be used."""
    where = choose_device(device)
    frame = np.random.default_rng(0).integers(0, 256, _FRAME, dtype=np.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher, student = build_trunk(architecture).eval(), build_trunk(architecture).eval()
    networks = list(_networks(teacher, student, resize_image(frame, as_size(size)), where))
    share = seconds / (sum(len(candidate.batches) for candidate in networks) + 1)
    prepare_ms = 1000 * float(np.median(_times((partial(prepare, frame, as_size(size)),), share, clock)[0]))
    work = operations(teacher, size) + operations(student, size)
    for candidate in networks:
        for batch in candidate.batches:
            images = torch.from_numpy(np.stack([prepare(frame, as_size(size))] * batch)).to(where)
            # The two are measured in turns, so that other programs slow both down alike.
            own, product = _times((partial(_score, candidate.run, images), candidate.product), share, clock)
            limit = float(np.median(product)) * work / (2 * _MATRIX**3)
            ms = 1000 * float(np.median(own)) / batch
            yield ScoringRow(candidate.runtime, candidate.precision, batch, ms, prepare_ms, 1000 * limit)


@dataclass(frozen=True)
class DeviceRow:
    """Median times of one precision on a device to which frames must be copied (a GPU)."""

    precision: str
    ms_to_score: float
    """From a 1920x1080 frame in the CPU's memory to its score in the CPU's memory, one frame at a time."""
    frames_a_second: float
    """From `RESIDENT` frames of the network's size in the device's memory to their scores there."""


def measure_device(
    architecture: str,
    size: int,
    device: str,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    *,
    resident: int = RESIDENT,
) -> Iterator[DeviceRow]:
    """Measure for about `seconds`; yields a row for every precision. Raises RecipeError if the device can't
    be used."""
    where, square = choose_device(device), as_size(size)
    frame = np.random.default_rng(0).integers(0, 256, _FRAME, dtype=np.uint8)
    frames = torch.from_numpy(np.stack([resize_image(frame, square)] * resident)).to(where)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher, student = build_trunk(architecture).eval(), build_trunk(architecture).eval()
    share = seconds / (2 * len(torch_precisions(where)))
    for precision in torch_precisions(where):
        network = _network(teacher, student, where, precision)
        lane = choose_transfer(where) if where.type == "cuda" else PlainTransfer(where)
        scoring = DeviceScoring(
            network, Grid.whole(square), where, lane, max_batch=1, agreement=MAX_MAP_DIFFERENCE[precision]
        )
        scoring.warm_up()
        ms = 1000 * float(np.median(_times((partial(scoring.score, [frame]),), share, clock)[0]))
        preparation = DevicePreprocessing(square, square, where)
        with torch.inference_mode():
            plain: Run = partial(_resident, network, preparation, frames)
            run = lane.record_run(plain, nullcontext()) or plain
            seconds_taken = float(np.median(_times((partial(_fetch, lane, run),), share, clock)[0]))
        yield DeviceRow(precision, ms, resident / seconds_taken)


def _network(teacher: nn.Module, student: nn.Module, where: torch.device, precision: str) -> TorchNetwork:
    """A network with copies of the trunks, because half precision changes the trunks."""
    return TorchNetwork(
        Networks(copy.deepcopy(teacher), copy.deepcopy(student)), where, half=precision == F16
    )


def _resident(
    network: TorchNetwork, preparation: DevicePreprocessing, frames: Tensor
) -> tuple[Tensor, Tensor]:
    maps = network(preparation.prepare(frames))
    return maps, maps.flatten(1).amax(1)


def _fetch(lane: DeviceTransfer, run: Run) -> None:
    lane.copy_to_cpu(run()[1])


@dataclass(frozen=True)
class _Candidate:
    runtime: str
    precision: str
    batches: tuple[int, ...]
    run: Callable[[Tensor], Tensor]
    product: Callable[[], object]
    """Multiplies two square matrices of _MATRIX rows in this precision."""


def _networks(
    teacher: nn.Module, student: nn.Module, picture: Image, where: torch.device
) -> Iterator[_Candidate]:
    for precision in torch_precisions(where):
        half = precision == F16
        matrix = torch.ones(_MATRIX, _MATRIX, device=where, dtype=torch.float16 if half else torch.float32)
        network = _network(teacher, student, where, precision)
        yield _Candidate(TORCH, precision, BATCHES, network, partial(_square, matrix))
    if where.type != "cpu" or not has_openvino():
        return
    from monitor.inference.openvino_network import OpenVinoNetwork, convert_module, convert_networks

    # `OpenVinoNetwork` scores one image at a time, so only a batch of 1 is measured.
    threads, alone = torch.get_num_threads(), BATCHES[:1]
    model = convert_networks(Networks(teacher, student).folded(), picture.shape[:2])
    matrix = torch.ones(_MATRIX, _MATRIX)
    yield _Candidate(OPENVINO, F32, alone, OpenVinoNetwork(model, threads), partial(_square, matrix))
    if not can_quantise():
        return
    from monitor.training.quantisation import quantise_model

    eight = quantise_model(model, [0], lambda index: normalise_image(picture)[None])
    # A convolution with 1x1 taps is a matrix product, and OpenVINO has it in 8 bits.
    tap = nn.Conv2d(_MATRIX, _MATRIX, 1, bias=False).eval().requires_grad_(False)
    places = torch.rand(1, _MATRIX, _MATRIX // 64, 64)
    product = OpenVinoNetwork(
        quantise_model(convert_module(tap, places), [0], lambda index: places.numpy()), threads
    )
    yield _Candidate(OPENVINO, INT8, alone, OpenVinoNetwork(eight, threads), partial(product, places))


def operations(trunk: nn.Module, size: int) -> int:
    """Floating-point operations of the trunk's convolutions for one image; a multiplication and an addition
    are two operations."""
    total = 0

    def count(module: nn.Module, entering: tuple[Tensor, ...], leaving: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        taps = module.weight[0].numel()
        total += 2 * taps * leaving[0].numel()

    hooks = [
        module.register_forward_hook(count) for module in trunk.modules() if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.inference_mode():
            trunk(torch.zeros(1, 3, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _score(network: Callable[[Tensor], Tensor], images: Tensor) -> None:
    _finish(network(images))


def _square(matrix: Tensor) -> None:
    _finish(matrix @ matrix)


def _finish(result: Tensor) -> None:
    """Wait for the result: a GPU still computes when the call returns."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)


def _times(
    jobs: Sequence[Callable[[], object]], seconds: float, clock: Callable[[], float]
) -> list[list[float]]:
    """Times in seconds of each job. The jobs run in turns until the time is over, at least three times each,
    after one turn to warm up."""
    times: list[list[float]] = [[] for _ in jobs]
    for job in jobs:
        job()
    until = clock() + seconds
    while len(times[0]) < 3 or clock() < until:
        for job, own in zip(jobs, times, strict=True):
            began = clock()
            job()
            own.append(clock() - began)
    return times
