"""What CUDA adds to `monitor.inference.device_scoring`: uploads from pinned memory beside the network's
work, and runs
that were recorded as CUDA graphs.

What can't be had here (pinned memory that the system refuses, a run that can't be recorded) is done the plain
way, with a line in the log. An error of the device while a line runs is not caught: after one the process
can't be trusted.
"""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drivers.image_file import Image
from monitor.inference.device_scoring import Lane, PlainLane, Run

_LOG = logging.getLogger(__name__)
_SHAPES = 16
"""Frame shapes that places are kept for: each camera's region has one."""
_IN_TURNS = 2
"""Places for frames of a shape: into one the next frame is copied while the other is being uploaded."""
_BAND = 2**21
"""Bytes that are uploaded while the next ones are copied into pinned memory."""
_SCORES = 256
_BROKEN_OFF: list[torch.cuda.CUDAGraph] = []
"""Recordings that could not even be ended. PyTorch's allocator goes on asking them about every recording to
come, so they must stay as long as the process, and there had better be none."""
_WARM_UPS = 3
"""As PyTorch's documentation has it: libraries choose and allocate in the first runs."""


def lane_for(device: torch.device) -> Lane:
    """CUDA's lane if it carries an image there and back whole; else the plain one, with a line in the log."""
    # The memory of recorded runs that are gone comes back only when it is asked for.
    torch.cuda.empty_cache()
    try:
        lane = CudaLane(device)
        lane.try_out()
    except RuntimeError as error:
        _LOG.warning("%s: frames are uploaded one after the other: %s", device, str(error).splitlines()[0])
        return PlainLane(device)
    return lane


class CudaLane:
    """A `Lane` with a stream of its own for uploads and what is done to frames before the network.

    The network's stream is the one that is current where it is called: the device's default one.
    """

    def __init__(self, device: torch.device) -> None:
        """Raises RuntimeError where there are no streams or no pinned memory to be had."""
        self._device = device
        # Streams come from two pools, by priority, and are handed out again after 32: uploads must never
        # find themselves on a stream that is being recorded.
        self._preparing = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._recording = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._places: OrderedDict[tuple[int, ...], deque[_Place]] = OrderedDict()
        self._scores = torch.empty(_SCORES, pin_memory=True)
        # The recorded runs' memory; they run one after the other, so they share it.
        self._pool = torch.cuda.graph_pool_handle()

    @torch.inference_mode()
    def try_out(self) -> None:
        """Raises RuntimeError when an image comes back changed."""
        noise = np.random.default_rng(0).integers(0, 256, (64, _BAND // 16), np.uint8)
        for image in (noise, noise[::-1]):
            with self.preparing():
                here = self.upload(image).float()
            there = torch.empty_like(here)
            self.hand_over(here, there)
            if not np.array_equal(there.cpu().numpy(), image):
                raise RuntimeError("an image came back changed")
            first = there[0, :_SCORES].clone()
            if not np.array_equal(self.fetched(first), image[0, :_SCORES]):
                raise RuntimeError("scores came back changed")
        self._places.clear()

    def preparing(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._preparing)

    def upload(self, image: Image) -> Tensor:
        place = self._place(image.shape)
        # Its last upload, so that nothing is overwritten that is still on its way. What was done to the frame
        # on the device stands before this in the same stream.
        place.uploaded.synchronize()
        rows = len(image)
        band = max(1, rows * _BAND // max(1, image.nbytes))
        for begin in range(0, rows, band):
            np.copyto(place.host[begin : begin + band], image[begin : begin + band])
            place.frame[begin : begin + band].copy_(place.pinned[begin : begin + band], non_blocking=True)
        place.uploaded.record(self._preparing)
        return place.frame

    def hand_over(self, prepared: Tensor, entering: Tensor) -> None:
        network = torch.cuda.current_stream(self._device)
        network.wait_stream(self._preparing)
        entering.copy_(prepared)
        self._preparing.wait_stream(network)

    def recorded(self, run: Run, alone: AbstractContextManager[object]) -> Run | None:
        if _BROKEN_OFF:
            return None
        # On the current stream, whose memory others can use again; an error here is a real one.
        for _ in range(_WARM_UPS):
            run()
        torch.cuda.current_stream(self._device).synchronize()
        try:
            with alone, _no_garbage_collected(), torch.cuda.stream(self._recording):
                return _Recorded(run, self._pool)
        except RuntimeError as error:
            _LOG.warning(
                "%s: a run could not be recorded and is launched anew each time: %s",
                self._device,
                str(error).splitlines()[0],
            )
            return None

    def fetched(self, scores: Tensor) -> NDArray[np.float32]:
        if len(scores) > len(self._scores):
            return scores.cpu().numpy()
        landing = self._scores[: len(scores)]
        landing.copy_(scores, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return landing.numpy().copy()

    def _place(self, shape: tuple[int, ...]) -> _Place:
        if shape not in self._places:
            self._places[shape] = deque(_Place(shape, self._device) for _ in range(_IN_TURNS))
            if len(self._places) > _SHAPES:
                self._places.popitem(last=False)
        self._places.move_to_end(shape)
        self._places[shape].rotate()
        return self._places[shape][0]


class _Place:
    """Where a frame lies on its way: uint8, on the CPU (pinned where the system allows it) and the device."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        try:
            self.pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            _LOG.warning("%s: frames are uploaded from plain memory: %s", device, str(error).splitlines()[0])
            self.pinned = torch.empty(shape, dtype=torch.uint8)
        self.host: NDArray[np.uint8] = self.pinned.numpy()
        self.frame = torch.empty(shape, dtype=torch.uint8, device=device)
        self.uploaded = torch.cuda.Event()  # type: ignore[no-untyped-call]


class _Recorded:
    """A run as a CUDA graph: one launch instead of a hundred and more."""

    def __init__(self, run: Run, pool: Any) -> None:
        """On the current stream, which must not be the default one. Raises RuntimeError.

        Of this thread alone nothing is done that can't be recorded: another one may go on scoring.
        """
        self._graph = torch.cuda.CUDAGraph()
        try:
            self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        except RuntimeError:
            _BROKEN_OFF.append(self._graph)
            raise
        try:
            self._results = run()
        except RuntimeError:
            # The first error says why.
            with suppress(RuntimeError):
                self._end()
            raise
        self._end()

    def _end(self) -> None:
        try:
            self._graph.capture_end()
        except RuntimeError:
            _BROKEN_OFF.append(self._graph)
            raise

    def __call__(self) -> tuple[Tensor, Tensor]:
        self._graph.replay()
        return self._results


@contextmanager
def _no_garbage_collected() -> Iterator[None]:
    """What Python collects may be CUDA's, and freeing it now would end up in the recording."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
