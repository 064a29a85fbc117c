"""The scorer: images in, scores and anomaly maps out, on this machine's CPU or GPU.

On a frame's way it stands between the frame's pixels and the verdict. It knows nothing of cameras or
verdicts: a score that is not finite is returned as it is.

The maps of each backend must agree with the plain float32 network's maps: max |a - b| / max |b| is at most
1e-4 in float32 and 1e-2 in float16. In float16 only the trunks are computed; the anomaly map stays float32.
Scores in bfloat16 and int8 differ more, but they can only pass a part (`monitor.inference.second_look`). A
CUDA error is not caught, because the process can't be trusted after one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drivers.image_file import Image
from monitor.images import preprocessing
from monitor.images.preprocessing import Size, normalise_image
from monitor.inference.backend_network import LaneNetwork, Network, build_network
from monitor.inference.backends import (
    BF16,
    F32,
    INT8,
    MAX_MAP_DIFFERENCE,
    OPENVINO,
    calibration_of,
    choose_precision,
    choose_runtime,
    quick_limit_of,
)
from monitor.inference.device_scoring import DeviceScoring
from monitor.inference.presence import PresenceGate
from monitor.model.recipe_json import REFERENCE, Calibration
from monitor.model.recipe_version import RecipeVersion
from monitor.teachers.architectures import NetworkLock

BATCH = 16
"""The largest number of network inputs (images or tiles) in one run of the network."""
_LANES = 2
"""The number of images that OpenVINO computes at once, each in a lane with its share of the CPU's threads.
For a ResNet-18 lanes take 74 MB more memory and half a second more at the start."""
_MAX_BATCH_PIXELS = BATCH * 512**2
"""The largest number of pixels in one run, to limit the memory. More pixels are scored in several runs."""


class ScoreResult:
    """Anomaly score and map of one image."""

    __slots__ = ("_anomaly_map", "score")

    def __init__(self, score: float, anomaly_map: NDArray[np.float32] | Tensor) -> None:
        """A map on a device stays there until it is read, because most maps are never read."""
        self.score = score
        """The anomaly map's maximum."""
        self._anomaly_map = anomaly_map

    @property
    def anomaly_map(self) -> NDArray[np.float32]:
        """float32 of the recipe's size, upsampled bilinearly from the product map."""
        if isinstance(self._anomaly_map, Tensor):
            self._anomaly_map = self._anomaly_map.cpu().numpy()
        return self._anomaly_map


class Scorer:
    """A recipe on one device. Not for several threads at once.

    `inspect` applies the presence gate and scores. The scoring worker calls its two steps separately: an
    empty frame then gets its verdict without waiting for the network lock or for the other frames of its
    batch.
    """

    def __init__(
        self,
        recipe: RecipeVersion,
        *,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        network_lock: NetworkLock | None = None,
    ) -> None:
        """Building and warming up hold `network_lock` while no other network of this process may run: while a
        trunk is traced or a CUDA run is recorded, up to some hundredths of a second at a time. Raises
        RecipeError when this machine has no such backend; the message names what to use instead."""
        self.recipe = recipe
        self._grid = recipe.grid
        self.runtime, self.device = choose_runtime(runtime, device)
        self.precision = choose_precision(precision, self.runtime, self.device, recipe)
        self._network_lock = network_lock
        presence = recipe.document.presence
        self.presence_gate = PresenceGate(presence) if presence else None
        """The recipe's presence gate, if it has one. `score` does not apply it."""
        quick = self.precision in (BF16, INT8)
        # After a first look, this network gives the second look, one image at a time. Lanes then help only
        # with tiles, because each tile is a network input of its own.
        lanes = 1 if quick and len(self._grid) == 1 else _LANES
        self._network = self._build_network(F32 if quick else self.precision, lanes)
        # In lanes, OpenVINO 2026.4 gives other int8 scores with each compilation; bfloat16's stay the same.
        lanes = 1 if self.precision == INT8 else _LANES
        self._quick_network = self._build_network(self.precision, lanes) if quick else None
        self._device_scoring = self._build_device_scoring() if self.device.type == "cuda" else None

    def _build_network(self, precision: str, parallel: int) -> Network:
        return build_network(
            self.recipe,
            self.runtime,
            precision,
            self.device,
            parallel=parallel,
            network_lock=self._network_lock,
        )

    def _build_device_scoring(self) -> DeviceScoring:
        from monitor.inference.cuda_transfer import choose_transfer

        return DeviceScoring(
            self._network,
            self._grid,
            self.device,
            choose_transfer(self.device),
            max_batch=_batch_size(self._grid.tile),
            agreement=MAX_MAP_DIFFERENCE[self.precision],
        )

    @property
    def calibration(self) -> Calibration:
        """The calibration for this runtime and precision, float32's for bfloat16; the reference's
        (`torch-f32`) where the recipe has none for them.

        Raises RecipeError for int8 without a calibration for int8: the int8 model was then never compared
        with the reference.
        """
        return calibration_of(self.recipe, self.runtime, self.precision)

    @property
    def threshold(self) -> float:
        """Scores above it are rejected."""
        return self.calibration.threshold

    @property
    def calibration_key(self) -> str:
        """The recipe's key for the calibration of this runtime and precision, for example `torch-f32`."""
        return f"{self.runtime}-{self.precision}"

    @property
    def lanes(self) -> int:
        """The number of lanes: `stream` computes that many images at once, faster than one after the other;
        1 if there are none.

        The number is 1 with tiles, because the tiles of one image are already computed concurrently. It is 1
        on a GPU, which computes the images of a batch together, whatever their number.
        """
        threads = torch.get_num_threads()
        # With an odd number of threads, one thread would be idle.
        divisible = threads >= _LANES and threads % _LANES == 0
        usable = self.runtime == OPENVINO and self.precision != INT8 and len(self._grid) == 1
        return _LANES if usable and divisible else 1

    def warm_up(self) -> None:
        """Score blank images once in each way that `score` may use. It takes at most seconds.

        The first run with a new batch size or image shape takes longer, because libraries tune themselves to
        it; no frame should wait for that. Raises RecipeError when there is no threshold for this runtime and
        precision.
        """
        _ = self.threshold
        if self._device_scoring is not None:
            self._device_scoring.warm_up(self._network_lock)
        blank = np.full((*self.recipe.frame, 3), 127, np.uint8)
        self.score([blank])
        if self._device_scoring is not None:
            # The device's preprocessing is compared with the CPU's at the first image of each shape.
            self.score([blank[:, :, 0]])
        if self._quick_network is not None:
            # If the blank image passed by its quick score, the float32 network has not run yet.
            for network in (self._quick_network, self._network):
                self._results(network, [preprocessing.resize_image(blank, self.recipe.size)])
        if self.lanes > 1:
            _ = list(self.stream([blank] * self.lanes))

    def inspect(self, images: Sequence[Image]) -> list[ScoreResult | None]:
        """Apply the presence gate, then score the images that show a part.

        One entry for each image, in order; None where the gate finds no part. Each image is resized once.
        Raises ValueError as `score` does.
        """
        parts = [self.part_image(image) for image in images]
        results = iter(self.score([part for part in parts if part is not None]))
        return [None if part is None else next(results) for part in parts]

    def part_image(self, image: Image) -> Image | None:
        """The first step of `inspect`: the image for `score`, or None when the gate finds no part in it.

        With a gate the image is returned resized, because gate and network need the same size; its score is
        that of the original. ValueError is then raised for an array that is not an image. Without a gate the
        array is returned unchanged and unchecked; `score` checks it.
        """
        if self.presence_gate is None:
            return image
        resized = preprocessing.resize_image(image, self.recipe.size)
        return None if self.presence_gate.is_empty(image, resized) else resized

    def score(self, images: Sequence[Image]) -> list[ScoreResult]:
        """One result for each image, in order. Images are uint8 (H, W, 3) BGR or (H, W) mono of any size.

        In bfloat16 and int8, the quick result is returned only if its score is at most `quick_pass_limit`,
        which lies below the threshold (`monitor.inference.second_look`). Every other image is scored again in
        float32, so that the score and map of every reject are float32's. Raises ValueError for an array that
        is not such an image.
        """
        if self._device_scoring is not None:
            return [ScoreResult(score, own_map) for score, own_map in self._device_scoring.score(images)]
        resized = [preprocessing.resize_image(image, self.recipe.size) for image in images]
        if self._quick_network is None:
            return self._results(self._network, resized)
        quick = self._results(self._quick_network, resized)
        limit = self.quick_pass_limit
        return [
            result if result.score <= limit else self._results(self._network, [image])[0]
            for result, image in zip(quick, resized, strict=True)
        ]

    @cached_property
    def quick_pass_limit(self) -> float:
        """The highest bfloat16 or int8 score that passes a part without a float32 score. Cached: every frame
        needs it."""
        if self.precision == BF16:
            threshold = self.threshold
        else:
            # While int8 is being calibrated it has no threshold yet. It will get the threshold of float32 on
            # OpenVINO, so that is used; the reference's threshold is used where the recipe has none for it.
            found = self.recipe.document.calibration
            own = found.get(self.calibration_key) or found.get(f"{OPENVINO}-{F32}") or found[REFERENCE]
            threshold = own.threshold
        return quick_limit_of(self.recipe, self.runtime, self.precision, threshold)

    def stream(self, images: Iterable[Image | None]) -> Iterator[tuple[int, ScoreResult]]:
        """The result of each image as soon as it is done, with its image's place, where `lanes` is above 1.

        The next image is taken when a lane is free, so `images` may choose it as late as that. None takes no
        lane and has no result. Raises ValueError as `score` does, and TypeError for a scorer without lanes.
        """
        network = self._quick_network or self._network
        if self.lanes == 1 or not isinstance(network, LaneNetwork):
            raise TypeError(f"{self.calibration_key} has no lanes here: call score() instead")
        in_lanes: dict[int, Image] = {}

        def inputs() -> Iterator[NDArray[np.float32] | None]:
            for place, image in enumerate(images):
                if image is None:
                    yield None
                    continue
                in_lanes[place] = preprocessing.resize_image(image, self.recipe.size)
                yield normalise_image(in_lanes[place])

        for place, found in network.stream(inputs()):
            resized, result = in_lanes.pop(place), ScoreResult(float(found.max()), found)
            if self._quick_network is not None and not result.score <= self.quick_pass_limit:
                (result,) = self._results(self._network, [resized])
            yield place, result

    def _results(self, network: Network, resized: Sequence[Image]) -> list[ScoreResult]:
        count = len(self._grid)
        maps = self._maps(
            network, (self._grid.cut(image, tile) for image in resized for tile in range(count))
        )
        stitched = [self._grid.stitch_maps(islice(maps, count)) for _ in resized]
        return [ScoreResult(float(whole.max()), whole) for whole in stitched]

    def maps(self, tiles: Iterable[Image]) -> Iterator[NDArray[np.float32]]:
        """The anomaly map of each network input, in order, in the scorer's precision without a second look.

        `tiles` are resized images, or tiles of them: uint8 (H, W, 3) or (H, W) of a tile's size. The maps are
        float32 (H, W).
        """
        return self._maps(self._quick_network or self._network, tiles)

    def _maps(self, network: Network, tiles: Iterable[Image]) -> Iterator[NDArray[np.float32]]:
        waiting = iter(tiles)
        while batch := list(islice(waiting, _batch_size(self._grid.tile))):
            prepared = np.stack([normalise_image(tile) for tile in batch])
            yield from network(torch.from_numpy(prepared)).cpu().numpy()


def _batch_size(tile: Size) -> int:
    """The largest number of tiles in one run of the network."""
    return max(1, min(BATCH, _MAX_BATCH_PIXELS // (tile[0] * tile[1])))
