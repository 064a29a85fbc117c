"""CUDA transfer: uploads from pinned memory concurrent with the network, and runs recorded as CUDA graphs.

It is the faster `DeviceTransfer` of `monitor.inference.device_scoring`. Where a step is not available (the
system refuses pinned memory, or a run can't be recorded), the plain step is used and logged. A CUDA error
while a line runs is not caught, because the process can't be trusted after one. This module knows nothing of
networks, recipes or scores.
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
from monitor.inference.device_scoring import DeviceTransfer, PlainTransfer, Run

_LOG = logging.getLogger(__name__)
_MAX_SHAPES = 16
"""The number of frame shapes that have buffers; each camera's region has one shape."""
_BUFFERS = 2
"""Buffers for each shape: the next frame is copied into one while the other is uploaded."""
_BAND_BYTES = 2**21
"""This many bytes are uploaded while the next ones are copied into pinned memory."""
_MAX_SCORES = 256
_BROKEN_RECORDINGS: list[torch.cuda.CUDAGraph] = []
"""Recordings that failed and could not be ended. PyTorch's allocator goes on querying them during each later
recording, so they must live as long as the process, and no other run is recorded after one."""
_WARM_UP_RUNS = 3
"""As in PyTorch's documentation: libraries select algorithms and allocate memory in the first runs."""


def choose_transfer(device: torch.device) -> DeviceTransfer:
    """`CudaTransfer` if a test image and test scores come back unchanged; otherwise the plain transfer, with
    a line in the log."""
    # PyTorch gives back the memory of deleted recordings only on this call.
    torch.cuda.empty_cache()
    try:
        transfer = CudaTransfer(device)
        transfer.check()
    except RuntimeError as error:
        _LOG.warning("%s: frames are uploaded one after the other: %s", device, str(error).splitlines()[0])
        return PlainTransfer(device)
    return transfer


class CudaTransfer:
    """A `DeviceTransfer` that uploads and preprocesses frames on a CUDA stream of its own.

    The network runs on the stream that is current at the call: the device's default stream.
    """

    def __init__(self, device: torch.device) -> None:
        """Raises RuntimeError where there are no streams or no pinned memory."""
        self._device = device
        # PyTorch has two pools of 32 streams, one for each priority, and reuses streams after that. Uploads
        # have another priority, so that they never use a stream that is being recorded.
        self._upload_stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]
        self._recording_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: OrderedDict[tuple[int, ...], deque[_FrameBuffer]] = OrderedDict()
        self._scores = torch.empty(_MAX_SCORES, pin_memory=True)
        # One memory pool for all recorded runs: they run one after the other, so they can share it.
        self._pool = torch.cuda.graph_pool_handle()

    @torch.inference_mode()
    def check(self) -> None:
        """Raises RuntimeError when an image or scores come back changed."""
        noise = np.random.default_rng(0).integers(0, 256, (64, _BAND_BYTES // 16), np.uint8)
        for image in (noise, noise[::-1]):
            with self.preprocessing_context():
                uploaded = self.upload(image).float()
            copied = torch.empty_like(uploaded)
            self.copy_to_input(uploaded, copied)
            if not np.array_equal(copied.cpu().numpy(), image):
                raise RuntimeError("an image came back changed")
            first = copied[0, :_MAX_SCORES].clone()
            if not np.array_equal(self.copy_to_cpu(first), image[0, :_MAX_SCORES]):
                raise RuntimeError("scores came back changed")
        self._buffers.clear()

    def preprocessing_context(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._upload_stream)

    def upload(self, image: Image) -> Tensor:
        buffer = self._next_buffer(image.shape)
        # Wait for the buffer's last upload before its pinned memory is overwritten. The preprocessing of the
        # last frame is earlier in the same stream, so it needs no wait.
        buffer.uploaded.synchronize()
        rows = len(image)
        band = max(1, rows * _BAND_BYTES // max(1, image.nbytes))
        for begin in range(0, rows, band):
            np.copyto(buffer.host[begin : begin + band], image[begin : begin + band])
            buffer.frame[begin : begin + band].copy_(buffer.pinned[begin : begin + band], non_blocking=True)
        buffer.uploaded.record(self._upload_stream)
        return buffer.frame

    def copy_to_input(self, prepared: Tensor, network_input: Tensor) -> None:
        network_stream = torch.cuda.current_stream(self._device)
        network_stream.wait_stream(self._upload_stream)
        network_input.copy_(prepared)
        self._upload_stream.wait_stream(network_stream)

    def record_run(self, run: Run, network_lock: AbstractContextManager[object]) -> Run | None:
        if _BROKEN_RECORDINGS:
            return None
        # On the current stream, whose memory other code can reuse. An error here is not about recording, so
        # it is not caught.
        for _ in range(_WARM_UP_RUNS):
            run()
        torch.cuda.current_stream(self._device).synchronize()
        try:
            with network_lock, _garbage_collection_off(), torch.cuda.stream(self._recording_stream):
                return _RecordedRun(run, self._pool)
        except RuntimeError as error:
            _LOG.warning(
                "%s: a run could not be recorded, so each one is launched step by step: %s",
                self._device,
                str(error).splitlines()[0],
            )
            return None

    def copy_to_cpu(self, scores: Tensor) -> NDArray[np.float32]:
        if len(scores) > len(self._scores):
            return scores.cpu().numpy()
        pinned = self._scores[: len(scores)]
        pinned.copy_(scores, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return pinned.numpy().copy()

    def _next_buffer(self, shape: tuple[int, ...]) -> _FrameBuffer:
        if shape not in self._buffers:
            self._buffers[shape] = deque(_FrameBuffer(shape, self._device) for _ in range(_BUFFERS))
            if len(self._buffers) > _MAX_SHAPES:
                self._buffers.popitem(last=False)
        self._buffers.move_to_end(shape)
        self._buffers[shape].rotate()
        return self._buffers[shape][0]


class _FrameBuffer:
    """Memory for one frame, uint8: on the CPU (pinned where the system allows it) and on the device."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        try:
            self.pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            _LOG.warning(
                "%s: frames are uploaded from memory that is not pinned: %s",
                device,
                str(error).splitlines()[0],
            )
            self.pinned = torch.empty(shape, dtype=torch.uint8)
        self.host: NDArray[np.uint8] = self.pinned.numpy()
        self.frame = torch.empty(shape, dtype=torch.uint8, device=device)
        self.uploaded = torch.cuda.Event()  # type: ignore[no-untyped-call]


class _RecordedRun:
    """A run as a CUDA graph: one launch instead of more than a hundred."""

    def __init__(self, run: Run, pool: Any) -> None:
        """Records on the current stream, which must not be the default one. Raises RuntimeError.

        Only operations of this thread can spoil the recording; another thread may go on scoring.
        """
        self._graph = torch.cuda.CUDAGraph()
        try:
            self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        except RuntimeError:
            _BROKEN_RECORDINGS.append(self._graph)
            raise
        try:
            self._results = run()
        except RuntimeError:
            # An error from ending the recording would hide the first one, which has the reason.
            with suppress(RuntimeError):
                self._end()
            raise
        self._end()

    def _end(self) -> None:
        try:
            self._graph.capture_end()
        except RuntimeError:
            _BROKEN_RECORDINGS.append(self._graph)
            raise

    def __call__(self) -> tuple[Tensor, Tensor]:
        self._graph.replay()
        return self._results


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Turn Python's garbage collector off: a CUDA object freed during a recording would spoil it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
