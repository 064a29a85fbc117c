"""Proves the GPU's figures: scores, speed, overlap of uploads, and memory. `deploy/gpu-proof.sh` calls it.

    python -m tests.benchmarks.gpu_proof --json FILE [--rehearse]
    python -m tests.benchmarks.gpu_proof --table FILE

The networks are untrained: the time does not depend on the weights. Three ways are compared, in turns:

- *eager*: the networks in plain PyTorch, float32, nothing folded. OpenCV prepares the frame, `.to()` uploads
  it.
- *plain half*: the product's folded half-precision networks. Frames are resized on the GPU, and one step
  follows the other.
- *product*: the same with what `monitor.inference.cuda_transfer` adds: pinned uploads beside the network, and
  recorded launches.

Where *plain half* is as fast as *product*, `cuda_transfer` should go. `--rehearse` runs every line of this on
the CPU with small numbers; its times say nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from drivers.image_file import Image
from monitor.feature_memory.collection import DIMENSIONS, KEPT_FEATURES
from monitor.feature_memory.embedding import draw_projection
from monitor.feature_memory.memory import FeatureMemory, kept_name, projection_name
from monitor.images.preprocessing import prepare, resize_image
from monitor.images.tiling import Grid
from monitor.inference.anomaly_network import AnomalyNetwork, Networks
from monitor.inference.backends import F16, MAX_MAP_DIFFERENCE
from monitor.inference.cuda_transfer import choose_transfer
from monitor.inference.device_preprocessing import DevicePreprocessing
from monitor.inference.device_scoring import DeviceScoring, DeviceTransfer, PlainTransfer, Run
from monitor.inference.torch_network import TorchNetwork, disable_tf32
from monitor.model.memory_level import MEMORY_LEVELS, numbers_of
from monitor.pyramid import ScaledTrunk
from monitor.teachers.architectures import build_trunk
from monitor.teachers.lite_trunk import LiteTrunk
from monitor.training.memory_training import MEMORY_SHARE
from tests.benchmarks.gpu_tables import EAGER, PLAIN, PRODUCT, goals, table

_SCHEMA = 1
_COMPARED = ("student", "memory", "both")
_UNIT = 1.0
_GROWTH_BYTES, _GROWTH_RESIDENT = 1 << 20, 64 << 20
"""What the GPU's memory and the process may grow by; Python's allocator keeps some pages."""
_TESTS = ("tests/unit/inference/test_cuda_transfer.py", "tests/unit/inference/test_scorer.py")
_TESTS_S = 200


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    side: int
    batch: int
    kept: tuple[int, ...]
    """By compared level."""
    frame: tuple[int, int]
    seconds: float
    """Of each comparison."""
    frames: int
    """For the growth of memory."""
    growth_s: float
    """Its longest time."""


_FULL = Size(256, 64, KEPT_FEATURES, (1080, 1920), 6.0, 100_000, 120.0)
_REHEARSAL = Size(32, 4, (300, 300, 300, 300), (108, 192), 0.0, 48, 10.0)


def make_networks(compared: str, size: Size) -> Networks:
    """Untrained networks that compare with a student, a memory, or both."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunks = [build_trunk("resnet18"), build_trunk("resnet18"), LiteTrunk()]
        with torch.inference_mode():
            shapes = [
                [level.shape[1] for level in trunk.eval()(torch.zeros(1, 3, 64, 64))] for trunk in trunks
            ]
        teacher, student, own = (
            ScaledTrunk(trunk.requires_grad_(False), [torch.ones(count) for count in channels])
            for trunk, channels in zip(trunks, shapes, strict=True)
        )
        if compared == "student":
            return Networks(teacher, student)
        arrays = {}
        channels = [*shapes[0], *shapes[2]]
        for level, kept, dimensions in zip(numbers_of(MEMORY_LEVELS), size.kept, DIMENSIONS, strict=True):
            arrays[kept_name(level)] = torch.randn(kept, dimensions).numpy()
            arrays[projection_name(level)] = draw_projection(channels[level - 1], 0, dimensions).numpy()
        memory = FeatureMemory(arrays, channels, MEMORY_LEVELS)
        if compared == "memory":
            return Networks(teacher, None, memory=memory, memory_teacher=own, memory_unit=_UNIT)
        return Networks(teacher, student, _UNIT, memory, own, _UNIT, MEMORY_SHARE)


def half_network(networks: Networks, device: torch.device) -> TorchNetwork:
    """The product's network. A CPU takes ten times as long in half precision, so a rehearsal has float32."""
    return TorchNetwork(deepcopy(networks), device, half=device.type == "cuda")


class EagerScoring:
    """The networks as PyTorch runs them when nobody has made them faster."""

    def __init__(self, networks: Networks, size: Size, device: torch.device) -> None:
        self._device, self._side = device, size.side
        self._network = AnomalyNetwork(deepcopy(networks)).to(device).eval()

    @torch.inference_mode()
    def score(self, images: Sequence[Image]) -> list[float]:
        prepared = np.stack([prepare(image, (self._side, self._side)) for image in images])
        return self.score_prepared(torch.from_numpy(prepared).to(self._device)).tolist()

    @torch.inference_mode()
    def score_prepared(self, prepared: Tensor) -> Tensor:
        maps: Tensor = self._network(prepared)
        return maps.flatten(1).amax(1).cpu()


def in_turns(ways: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median seconds of each way, all in turns until the time is over. Each must wait for its result."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for job in ways.values():
        job()
    until = time.perf_counter() + seconds
    while not times[next(iter(ways))] or time.perf_counter() < until:
        for way, job in ways.items():
            began = time.perf_counter()
            job()
            times[way].append(time.perf_counter() - began)
    return {way: float(np.median(own)) for way, own in times.items()}


def device_scoring(
    network: TorchNetwork, size: Size, device: torch.device, transfer: DeviceTransfer
) -> DeviceScoring:
    square = (size.side, size.side)
    scoring = DeviceScoring(
        network, Grid.whole(square), device, transfer, max_batch=16, agreement=MAX_MAP_DIFFERENCE[F16]
    )
    scoring.warm_up()
    return scoring


def own_transfer(device: torch.device) -> DeviceTransfer:
    return choose_transfer(device) if device.type == "cuda" else PlainTransfer(device)


def resident_run(network: nn.Module | Callable[[Tensor], Tensor], frames: Tensor, side: int) -> Run:
    """Scores frames of the network's size that lie on the device."""
    preparation = DevicePreprocessing((side, side), (side, side), frames.device)

    def run() -> tuple[Tensor, Tensor]:
        maps = network(preparation.prepare(frames))
        return maps, maps.flatten(1).amax(1)

    return run


def compare_ways(size: Size, device: torch.device) -> list[dict[str, Any]]:
    """Rows: what is compared with, batch, way, its time, and how far its scores are from the eager ones."""
    rows = []
    frame = np.random.default_rng(0).integers(0, 256, (*size.frame, 3), dtype=np.uint8)
    square = resize_image(frame, (size.side, size.side))
    frames = torch.from_numpy(np.stack([np.roll(square, 3 * n, axis=1) for n in range(size.batch)])).to(
        device
    )
    for compared in _COMPARED:
        networks = make_networks(compared, size)
        eager = EagerScoring(networks, size, device)
        half = half_network(networks, device)
        transfer = own_transfer(device)
        plain = device_scoring(half, size, device, PlainTransfer(device))
        product = device_scoring(half, size, device, transfer)
        one: dict[str, Callable[[], object]] = {
            EAGER: partial(eager.score, [frame]),
            PLAIN: partial(plain.score, [frame]),
            PRODUCT: partial(product.score, [frame]),
        }
        scores = {
            EAGER: eager.score([frame]),
            PLAIN: [plain.score([frame])[0][0]],
            PRODUCT: [product.score([frame])[0][0]],
        }
        rows += _rows(compared, 1, in_turns(one, size.seconds), scores)
        with torch.inference_mode():
            run = resident_run(half, frames, size.side)
            recorded = transfer.record_run(run, nullcontext()) or run
            preparation = DevicePreprocessing((size.side, size.side), (size.side, size.side), device)
            many: dict[str, Callable[[], Any]] = {
                EAGER: lambda eager=eager, preparation=preparation: eager.score_prepared(
                    preparation.prepare(frames)
                ),
                PLAIN: lambda run=run: run()[1].cpu(),
                PRODUCT: lambda recorded=recorded, transfer=transfer: transfer.copy_to_cpu(recorded()[1]),
            }
            scores = {way: [float(score) for score in job()] for way, job in many.items()}
            rows += _rows(compared, size.batch, in_turns(many, size.seconds), scores)
    return rows


def _rows(
    compared: str, batch: int, times: dict[str, float], scores: dict[str, list[float]]
) -> list[dict[str, Any]]:
    expected = np.array(scores[EAGER])
    return [
        {
            "compared": compared,
            "batch": batch,
            "way": way,
            "ms": 1000 * seconds,
            "frames_a_second": batch / seconds,
            "of_eager": seconds / times[EAGER],
            "scores_apart": float(np.abs(np.array(scores[way]) - expected).max() / np.abs(expected).max()),
        }
        for way, seconds in times.items()
    ]


def measure_overlap(size: Size, device: torch.device) -> list[dict[str, Any]]:
    """How much of the shorter of upload and network is hidden behind the longer, for frames in the CPU's
    memory."""
    drawn = np.random.default_rng(0)
    frames = [drawn.integers(0, 256, (*size.frame, 3), dtype=np.uint8) for _ in range(8)] * (
        size.batch // 8 or 1
    )
    half = half_network(make_networks("student", size), device)
    small = [resize_image(frame, (size.side, size.side)) for frame in frames]
    rows = []
    for way, transfer in ((PLAIN, PlainTransfer(device)), (PRODUCT, own_transfer(device))):
        scoring = device_scoring(half, size, device, transfer)

        def upload(transfer: DeviceTransfer = transfer) -> None:
            with transfer.preprocessing_context():
                for frame in frames:
                    transfer.upload(frame)
            _wait(device)

        times = in_turns(
            {
                "upload": upload,
                "small": partial(scoring.score, small),
                "whole": partial(scoring.score, frames),
            },
            size.seconds,
        )
        hidden = times["upload"] + times["small"] - times["whole"]
        rows.append(
            {
                "way": way,
                "frames": len(frames),
                "upload_ms": 1000 * times["upload"],
                "network_ms": 1000 * times["small"],
                "together_ms": 1000 * times["whole"],
                "gigabytes_a_second": sum(frame.nbytes for frame in frames) / times["upload"] / 1e9,
                "hidden": hidden / min(times["upload"], times["small"]),
            }
        )
    return rows


def measure_growth(size: Size, device: torch.device) -> dict[str, Any]:
    """Memory before and after many frames of three shapes, in turns of 16 as a busy line has them."""
    scoring = device_scoring(
        half_network(make_networks("both", size), device), size, device, own_transfer(device)
    )
    rows, columns = size.frame
    drawn = np.random.default_rng(0)
    shapes = ((size.side, size.side, 3), (size.side, size.side), (rows // 2, columns // 2, 3))
    turns = [[drawn.integers(0, 256, shape, dtype=np.uint8) for _ in range(16)] for shape in shapes]
    for turn in turns * 4:
        scoring.score(turn)
    before, scored, began = _memory(device), 0, time.monotonic()
    while scored < size.frames and time.monotonic() - began < size.growth_s:
        results = scoring.score(turns[scored // 16 % len(turns)])
        scored += len(results)
        del results
    after = _memory(device)
    return {
        "frames": scored,
        "wanted": size.frames,
        "seconds": time.monotonic() - began,
        "device_bytes": [before[0], after[0]],
        "process_bytes": [before[1], after[1]],
        "grew": after[0] - before[0] > _GROWTH_BYTES or after[1] - before[1] > _GROWTH_RESIDENT,
    }


def _memory(device: torch.device) -> tuple[int, int]:
    """Bytes that tensors take on the device, and that the process has in memory."""
    _wait(device)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    return (torch.cuda.memory_allocated(device) if device.type == "cuda" else 0, resident)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_tests() -> dict[str, int]:
    """How many of the tests that need a CUDA device passed, failed and were skipped; without one all are."""
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "tests.xml"
        # What all tests share needs packages that a GPU machine without a registry may not have.
        command = ["-m", "pytest", "-m", "cuda", *_TESTS, "--noconftest", "-q", "-p", "no:cacheprovider"]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run([sys.executable, *command, f"--junit-xml={report}"], check=False, timeout=_TESTS_S)
        suite = ET.parse(report).getroot().find("testsuite") if report.exists() else None
    if suite is None:
        return {"passed": 0, "failed": 1, "skipped": 0}
    failed, skipped = (
        int(suite.get("failures", 0)) + int(suite.get("errors", 0)),
        int(suite.get("skipped", 0)),
    )
    return {"passed": int(suite.get("tests", 0)) - failed - skipped, "failed": failed, "skipped": skipped}


def describe_machine(device: torch.device) -> dict[str, str]:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU ({platform.machine()})",
        "torch": str(torch.__version__),
        "cuda": str(torch.version.cuda) if cuda else "none",
        "python": platform.python_version(),
    }


def prove(
    size: Size, device: torch.device, rehearsal: bool, save: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """All figures. `save` gets them after each step, since the time of the machine may run out."""
    disable_tf32(device)
    figures: dict[str, Any] = {
        "schema": _SCHEMA,
        "rehearsal": rehearsal,
        "machine": describe_machine(device),
        "size": asdict(size),
    }
    steps: dict[str, Callable[[], object]] = {
        "ways": partial(compare_ways, size, device),
        "overlap": partial(measure_overlap, size, device),
        "growth": partial(measure_growth, size, device),
        "tests": run_tests,
        "goals": lambda: [asdict(goal) for goal in goals(figures)],
    }
    for name, step in steps.items():
        began = time.monotonic()
        figures[name] = step()
        save(figures)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--json", type=Path, metavar="FILE", help="measure, and write the figures to FILE")
    what.add_argument("--table", type=Path, metavar="FILE", help="print the tables of these figures")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with small numbers")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text(encoding="utf-8"))))
        return 0
    if not options.rehearse and not torch.cuda.is_available():
        print("no CUDA device: use --rehearse on a CPU", file=sys.stderr)
        return 1
    size, device = (_REHEARSAL, torch.device("cpu")) if options.rehearse else (_FULL, torch.device("cuda:0"))

    def save(figures: dict[str, Any]) -> None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")

    figures = prove(size, device, options.rehearse, save)
    print(table(figures))
    # A rehearsal shows only that everything runs; its times reach no goal.
    return 0 if options.rehearse else int(not all(goal["reached"] for goal in figures["goals"]))


if __name__ == "__main__":
    sys.exit(main())
