"""Scoring on a device: frames are resized, normalised and scored there, and only the scores are copied back.

It knows nothing of recipes, thresholds or verdicts. A map stays on the device until it is read. The steps
that only CUDA has (streams, pinned memory, recorded runs) are in `monitor.inference.cuda_transfer`; the code
here runs on any device, and the tests run it on the CPU.

The device's own resizing and a recorded run are used only after their results were compared with the plain
computation's on this machine and agreed: no part is scored by a step that was not compared.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drivers.image_file import Image
from monitor.images import preprocessing
from monitor.images.tiling import Grid, format_size
from monitor.inference.device_preprocessing import DevicePreprocessing, to_image
from monitor.teachers.architectures import NetworkLock

Run = Callable[[], tuple[Tensor, Tensor]]
"""Scores the current content of the network's input: maps (N, H, W) and their maxima (N,), float32 on the
device. The next run may overwrite them."""

_BATCH_SIZES = (1, 2, 4, 8, 16)
"""A batch is padded to the next of these sizes. Splitting it would take longer: 15 images would need four
runs, and a GPU takes hardly less time for a small batch than for one of twice its size, because most of the
time is latency."""
_MAX_SHAPES = 16
"""The number of frame shapes whose preprocessing is cached; each camera's region has one shape."""
_MAX_DIFFERENT = 0.01
"""The largest share of pixels that a device may round differently from the CPU. Two builds of OpenCV differ
in fewer pixels from each other."""
_MAX_MAP_PIXELS = 2**26
"""The most map pixels that one call leaves on the device (256 MiB); further maps are copied to the CPU."""


class DeviceTransfer(Protocol):
    """How frames are copied to a device, and how its runs are recorded."""

    def preprocessing_context(self) -> AbstractContextManager[object]:
        """A context whose work runs concurrently with the network."""

    def upload(self, image: Image) -> Tensor:
        """The image on the device, for use within `preprocessing_context`, until the next upload of its
        shape."""

    def copy_to_input(self, prepared: Tensor, network_input: Tensor) -> None:
        """Copy prepared images to the network's input. The next preprocessing may then overwrite
        `prepared`."""

    def record_run(self, run: Run, network_lock: AbstractContextManager[object]) -> Run | None:
        """The run with less overhead and with result tensors of its own; None where recording failed or is
        not supported. `network_lock` is held while no other network of this process may run."""

    def copy_to_cpu(self, scores: Tensor) -> NDArray[np.float32]:
        """The scores (N,) on the CPU."""


class PlainTransfer:
    """One step after the other: on a CPU, and on a device on which `CudaTransfer` does not work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def preprocessing_context(self) -> AbstractContextManager[object]:
        return nullcontext()

    def upload(self, image: Image) -> Tensor:
        return torch.from_numpy(np.array(image)).to(self._device)

    def copy_to_input(self, prepared: Tensor, network_input: Tensor) -> None:
        network_input.copy_(prepared)

    def record_run(self, run: Run, network_lock: AbstractContextManager[object]) -> Run | None:
        return None

    def copy_to_cpu(self, scores: Tensor) -> NDArray[np.float32]:
        return scores.cpu().numpy()


class DeviceScoring:
    """From frames to scores with one network on one device. Not for several threads at once."""

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        grid: Grid,
        device: torch.device,
        transfer: DeviceTransfer,
        *,
        max_batch: int,
        agreement: float,
    ) -> None:
        """`network` maps (N, 3, *grid.tile) float32, normalised, to (N, *grid.tile) on the device, with N up
        to `max_batch`. A recorded run is used only if its maps agree with the network's to `agreement`
        (max |a - b| / max |b|)."""
        self._grid, self._device, self._transfer, self._agreement = grid, device, transfer, agreement
        self._log = logging.getLogger(__name__)
        self._preprocessing: OrderedDict[tuple[int, ...], DevicePreprocessing | None] = OrderedDict()
        """The preprocessing of each frame shape; None where the device's result differed from the CPU's, so
        that the CPU resizes these frames."""
        sizes = [size for size in _BATCH_SIZES if size <= max_batch]
        # Two buffers: the next batch is prepared in the first while the network reads the second.
        self._prepared, self._network_input = (
            torch.zeros(sizes[-1], 3, *grid.tile, device=device) for _ in range(2)
        )
        transfer.copy_to_input(self._prepared, self._network_input)
        self._runs = {size: partial(_run, network, self._network_input[:size]) for size in sizes}
        self._recorded: dict[int, Run] = {}
        self._shares = [
            tuple(torch.from_numpy(share).to(device) for share in grid.tile_weights(number))
            for number in range(len(grid))
            if len(grid) > 1
        ]

    @torch.inference_mode()
    def warm_up(self, network_lock: NetworkLock | None = None) -> None:
        """Run every batch size once, and record it where the device can. It takes at most seconds."""
        noise = np.random.default_rng(0).standard_normal(self._network_input.shape, np.float32)
        # The largest size first, because the smaller ones then reuse its memory.
        for size, run in sorted(self._runs.items(), reverse=True):
            self._network_input.copy_(torch.from_numpy(noise))
            recorded = self._transfer.record_run(run, network_lock or nullcontext())
            # The comparison uses another input than the recording, so that a stale result differs.
            self._network_input.neg_()
            expected = run()
            if recorded is None:
                continue
            difference = _difference(recorded(), expected)
            if not difference <= self._agreement:
                self._log.warning(
                    "the recorded run of %d images differs from the plain one by %.2g: the plain one is used",
                    size,
                    difference,
                )
                continue
            self._recorded[size] = recorded

    @torch.inference_mode()
    def score(self, images: Sequence[Image]) -> list[tuple[float, Tensor]]:
        """The score and the map of each image, in order; images as in `Scorer.score`.

        Maps are float32 of the grid's size, on the device up to a limit. Each map has memory of its own,
        which is freed with it. Raises ValueError for an array that is not an image.
        """
        for image in images:
            preprocessing.check_image(image)
        if not images:
            return []
        scored = self._score_tiles(images)
        maps: list[Tensor] = []
        maxima: list[Tensor] = []
        free_pixels = _MAX_MAP_PIXELS
        for _ in images:
            own_map, maximum = self._stitch(islice(scored, len(self._grid)))
            free_pixels -= own_map.numel()
            maps.append(own_map if free_pixels >= 0 else own_map.cpu())
            maxima.append(maximum)
        scores = self._transfer.copy_to_cpu(torch.stack(maxima))
        return [(float(score), own_map) for score, own_map in zip(scores, maps, strict=True)]

    def _score_tiles(self, images: Sequence[Image]) -> Iterator[tuple[Tensor, Tensor]]:
        """The map and its maximum of every tile of every image, as copies that later runs don't overwrite."""
        waiting = 0
        for image in images:
            with self._transfer.preprocessing_context():
                prepared = self._prepare(image)
            for number in range(len(self._grid)):
                with self._transfer.preprocessing_context():
                    self._prepared[waiting].copy_(self._cut(prepared, number))
                waiting += 1
                if waiting == len(self._prepared):
                    yield from self._score_batch(waiting)
                    waiting = 0
        if waiting:
            yield from self._score_batch(waiting)

    def _score_batch(self, count: int) -> list[tuple[Tensor, Tensor]]:
        size = next(size for size in self._runs if size >= count)
        self._transfer.copy_to_input(self._prepared[:size], self._network_input[:size])
        maps, maxima = self._recorded.get(size, self._runs[size])()
        copies = zip(maps[:count], maxima[:count].clone(), strict=True)
        return [(own_map.clone(), maximum) for own_map, maximum in copies]

    def _stitch(self, tiles: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The map of a whole image, as `Grid.stitch_maps` computes it, and its maximum."""
        if len(self._grid) == 1:
            (only,) = tiles
            return only
        whole = torch.zeros(self._grid.size, device=self._device)
        for number, ((tile_map, _), (of_rows, of_columns)) in enumerate(
            zip(tiles, self._shares, strict=True)
        ):
            part = self._cut(whole, number)
            part += tile_map * of_rows[:, None] * of_columns
        return whole, whole.amax()

    def _cut(self, whole: Tensor, number: int) -> Tensor:
        """The tile of that number of a tensor (..., *size), as `Grid.cut` cuts arrays."""
        (row, column), (height, width) = self._grid.places[number], self._grid.tile
        return whole[..., row : row + height, column : column + width]

    def _prepare(self, image: Image) -> Tensor:
        """(3, *size) normalised, on the device."""
        preparation = self._preprocessing_for(image.shape)
        if preparation is None:
            image = preprocessing.resize_image(image, self._grid.size)
            preparation = DevicePreprocessing(self._grid.size, self._grid.size, self._device)
        return preparation.prepare(self._upload(image))[0]

    def _preprocessing_for(self, shape: tuple[int, ...]) -> DevicePreprocessing | None:
        if shape not in self._preprocessing:
            self._preprocessing[shape] = self._compare_preprocessing(shape)
            if len(self._preprocessing) > _MAX_SHAPES:
                self._preprocessing.popitem(last=False)
        self._preprocessing.move_to_end(shape)
        return self._preprocessing[shape]

    def _compare_preprocessing(self, shape: tuple[int, ...]) -> DevicePreprocessing | None:
        """The preprocessing for a new shape; None where the device's result differs from the CPU's."""
        preparation = DevicePreprocessing((shape[0], shape[1]), self._grid.size, self._device)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        found = to_image(preparation.resize(self._upload(noise)))
        difference = np.abs(found.astype(np.int16) - preprocessing.resize_image(noise, self._grid.size))
        if difference.max() <= 1 and (difference > 0).mean() <= _MAX_DIFFERENT:
            return preparation
        self._log.warning(
            "frames of %s are resized by the CPU: on %s a share of %.2g of the pixels differs, by up to %d "
            "grey levels",
            format_size((shape[0], shape[1])),
            self._device,
            (difference > 0).mean(),
            difference.max(),
        )
        return None

    def _upload(self, image: Image) -> Tensor:
        """uint8 (1, H, W, C) on the device."""
        return self._transfer.upload(image).reshape(1, *image.shape[:2], -1)


def _run(network: Callable[[Tensor], Tensor], network_input: Tensor) -> tuple[Tensor, Tensor]:
    maps = network(network_input)
    return maps, maps.flatten(1).amax(1)


def _difference(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """max |a - b| / max |b| of maps and maxima; not a number where either has one."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))
