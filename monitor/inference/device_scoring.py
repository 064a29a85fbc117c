"""From frames to scores on a device that the CPU only feeds: frames are squashed, normalised and scored there
and their maps put together, and nothing comes back but the scores, until somebody asks for a map.

What CUDA alone can do (streams, pinned memory, recorded runs) lies behind a `Lane`; all else here runs on any
device, and the tests run it on the CPU. Whatever a lane or a device offers is tried against the plain way
first, and left alone where it differs: must never score a part by something that was not compared.
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
from monitor.images.tiling import Grid, shown
from monitor.inference.device_preprocessing import Preparation, as_image
from monitor.teachers.architectures import Alone

Run = Callable[[], tuple[Tensor, Tensor]]
"""Scores what lies in the network's input: maps (N, H, W) and their maxima (N,), float32 on the device. The
next run may overwrite them."""

_SIZES = (1, 2, 4, 8, 16)
"""A batch is filled up to the next of these. Split into several instead, 15 would be four runs: a small batch
takes a GPU hardly less time than one of twice its size, because most of it is waiting."""
_SHAPES = 16
"""Frame shapes that preparations are kept for: each camera's region has one."""
_DIFFER = 0.01
"""The share of pixels that a device may round otherwise than the CPU. OpenCV's builds differ by less."""
_KEPT = 2**26
"""Pixels of maps that one call leaves on the device (256 MiB); further ones are fetched at once."""


class Lane(Protocol):
    """How frames get onto a device, and its runs ahead."""

    def preparing(self) -> AbstractContextManager[object]:
        """Within it, work is done beside the network's."""

    def upload(self, image: Image) -> Tensor:
        """The image on the device, for work within `preparing`, until the next upload of its shape."""

    def hand_over(self, prepared: Tensor, entering: Tensor) -> None:
        """Copies what was prepared for the network, which works on it from here on; what is prepared next may
        overwrite the first."""

    def recorded(self, run: Run, alone: AbstractContextManager[object]) -> Run | None:
        """The run without its overhead, into results of its own; None where there is no such thing or it
        failed. `alone` is entered while no other network of this process may run."""

    def fetched(self, scores: Tensor) -> NDArray[np.float32]:
        """(N,) on the CPU."""


class PlainLane:
    """One thing after the other: on a CPU, and on a device that the better lane does not work for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def preparing(self) -> AbstractContextManager[object]:
        return nullcontext()

    def upload(self, image: Image) -> Tensor:
        return torch.from_numpy(np.array(image)).to(self._device)

    def hand_over(self, prepared: Tensor, entering: Tensor) -> None:
        entering.copy_(prepared)

    def recorded(self, run: Run, alone: AbstractContextManager[object]) -> Run | None:
        return None

    def fetched(self, scores: Tensor) -> NDArray[np.float32]:
        return scores.cpu().numpy()


class DeviceScoring:
    """A network's way from frames to scores. Not for several threads at once."""

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        grid: Grid,
        device: torch.device,
        lane: Lane,
        *,
        most: int,
        agreement: float,
    ) -> None:
        """`network` maps (N, 3, *grid.tile) float32, normalised, to (N, *grid.tile), on the device; at most
        `most` at once. A recorded run must agree with it to `agreement` (max |a - b| / max |b|)."""
        self._grid, self._device, self._lane, self._agreement = grid, device, lane, agreement
        self._log = logging.getLogger(__name__)
        self._preparations: OrderedDict[tuple[int, ...], Preparation | None] = OrderedDict()
        sizes = [size for size in _SIZES if size <= most]
        # Twice: the next batch is prepared in the first while the network works on the second.
        self._prepared, self._entering = (
            torch.zeros(sizes[-1], 3, *grid.tile, device=device) for _ in range(2)
        )
        lane.hand_over(self._prepared, self._entering)
        self._runs = {size: partial(_run, network, self._entering[:size]) for size in sizes}
        self._recorded: dict[int, Run] = {}
        self._shares = [
            tuple(torch.from_numpy(share).to(device) for share in grid.shares(number))
            for number in range(len(grid))
            if len(grid) > 1
        ]

    @torch.inference_mode()
    def warm_up(self, alone: Alone | None = None) -> None:
        """Every batch size once, recorded where the lane can; takes at most seconds."""
        noise = np.random.default_rng(0).standard_normal(self._entering.shape, np.float32)
        # The largest first: the smaller ones find room in what it took.
        for size, run in sorted(self._runs.items(), reverse=True):
            self._entering.copy_(torch.from_numpy(noise))
            recorded = self._lane.recorded(run, alone or nullcontext())
            # With other pictures than it was recorded with.
            self._entering.neg_()
            expected = run()
            if recorded is None:
                continue
            apart = _apart(recorded(), expected)
            if not apart <= self._agreement:
                self._log.warning(
                    "a recorded run of %d images is %.2g off the plain one: the plain one is taken",
                    size,
                    apart,
                )
                continue
            self._recorded[size] = recorded

    @torch.inference_mode()
    def score(self, images: Sequence[Image]) -> list[tuple[float, Tensor]]:
        """The score and the map of each image, in order; images as in `Scorer.score`.

        Maps are float32 of the grid's size, on the device while there is room, and nobody else's: who drops
        one frees its memory. Raises ValueError for an array that is no image.
        """
        for image in images:
            preprocessing.require(image)
        if not images:
            return []
        scored = self._tiles(images)
        maps: list[Tensor] = []
        tops: list[Tensor] = []
        room = _KEPT
        for _ in images:
            own, top = self._stitched(islice(scored, len(self._grid)))
            room -= own.numel()
            maps.append(own if room >= 0 else own.cpu())
            tops.append(top)
        scores = self._lane.fetched(torch.stack(tops))
        return [(float(score), own) for score, own in zip(scores, maps, strict=True)]

    def _tiles(self, images: Sequence[Image]) -> Iterator[tuple[Tensor, Tensor]]:
        """The map and its maximum of every tile of every image, as tensors that stay."""
        waiting = 0
        for image in images:
            with self._lane.preparing():
                picture = self._picture(image)
            for number in range(len(self._grid)):
                with self._lane.preparing():
                    self._prepared[waiting].copy_(self._part(picture, number))
                waiting += 1
                if waiting == len(self._prepared):
                    yield from self._scored(waiting)
                    waiting = 0
        if waiting:
            yield from self._scored(waiting)

    def _scored(self, count: int) -> list[tuple[Tensor, Tensor]]:
        size = next(size for size in self._runs if size >= count)
        self._lane.hand_over(self._prepared[:size], self._entering[:size])
        maps, tops = self._recorded.get(size, self._runs[size])()
        return [(own.clone(), top) for own, top in zip(maps[:count], tops[:count].clone(), strict=True)]

    def _stitched(self, tiles: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """`Grid.stitched` on the device, and the maximum."""
        if len(self._grid) == 1:
            (only,) = tiles
            return only
        whole = torch.zeros(self._grid.size, device=self._device)
        for number, ((own, _), (down, along)) in enumerate(zip(tiles, self._shares, strict=True)):
            part = self._part(whole, number)
            part += own * down[:, None] * along
        return whole, whole.amax()

    def _part(self, whole: Tensor, number: int) -> Tensor:
        """`Grid.cut` for tensors (…, *size)."""
        (row, column), (high, wide) = self._grid.places[number], self._grid.tile
        return whole[..., row : row + high, column : column + wide]

    def _picture(self, image: Image) -> Tensor:
        """(3, *size) normalised."""
        preparation = self._preparation(image.shape)
        if preparation is None:
            image = preprocessing.squashed(image, self._grid.size)
            preparation = Preparation(self._grid.size, self._grid.size, self._device)
        return preparation.prepared(self._uploaded(image))[0]

    def _preparation(self, shape: tuple[int, ...]) -> Preparation | None:
        if shape not in self._preparations:
            self._preparations[shape] = self._tried(shape)
            if len(self._preparations) > _SHAPES:
                self._preparations.popitem(last=False)
        self._preparations.move_to_end(shape)
        return self._preparations[shape]

    def _tried(self, shape: tuple[int, ...]) -> Preparation | None:
        """For a shape that is met for the first time; None where it does not give what the CPU gives."""
        preparation = Preparation((shape[0], shape[1]), self._grid.size, self._device)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        found = as_image(preparation.squashed(self._uploaded(noise)))
        apart = np.abs(found.astype(np.int16) - preprocessing.squashed(noise, self._grid.size))
        if apart.max() <= 1 and (apart > 0).mean() <= _DIFFER:
            return preparation
        self._log.warning(
            "frames of %s are squashed by the CPU: %s would make %.2g of the pixels other ones, by up to %d",
            shown((shape[0], shape[1])),
            self._device,
            (apart > 0).mean(),
            apart.max(),
        )
        return None

    def _uploaded(self, image: Image) -> Tensor:
        """uint8 (1, H, W, C) on the device."""
        return self._lane.upload(image).reshape(1, *image.shape[:2], -1)


def _run(network: Callable[[Tensor], Tensor], entering: Tensor) -> tuple[Tensor, Tensor]:
    maps = network(entering)
    return maps, maps.flatten(1).amax(1)


def _apart(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """Not a number where either is not."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))
