"""A recipe at work: images in, scores and anomaly maps out, on this machine's CPU or GPU.

Every way of running must agree with the plain float32 network: max |a - b| / max |b| of the maps at most 1e-4
in float32. Half precision stays inside the trunks. Nothing here decides what happens to a part: a score that
is not finite leaves here as it is. A CUDA error is not caught: after one the process can't be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drivers.image_file import Image
from monitor.images import preprocessing
from monitor.images.preprocessing import Size, normalised
from monitor.inference.backends import (
    AGREEMENT,
    F16,
    F32,
    INT8,
    OPENVINO,
    TORCH,
    calibration_of,
    choose_precision,
    choose_runtime,
)
from monitor.inference.device_scoring import DeviceScoring
from monitor.inference.presence import Gate
from monitor.inference.second_look import clearly_below
from monitor.inference.torch_network import Network, folded, trunks
from monitor.model.recipe_document import REFERENCE, Calibration, RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.teachers.architectures import Alone

if TYPE_CHECKING:
    from collections.abc import Callable

    import openvino as ov

BATCH = 16
ABREAST = 2
"""How many images OpenVINO computes side by side, each on its share of the CPU's threads. A ResNet-18 takes
74 MB more for that, and half a second to start."""
_PIXELS_AT_ONCE = BATCH * 512**2
"""More than this are scored in several runs, so that memory stays bounded."""


class ScoreResult:
    """How unlike the good images one image is."""

    __slots__ = ("_anomaly_map", "score")

    def __init__(self, score: float, anomaly_map: NDArray[np.float32] | Tensor) -> None:
        """A map that is on a device stays there until it is asked for: mostly nobody does."""
        self.score = score
        """The anomaly map's maximum."""
        self._anomaly_map = anomaly_map

    @property
    def anomaly_map(self) -> NDArray[np.float32]:
        """Of the recipe's size: bilinear from the product map."""
        if isinstance(self._anomaly_map, Tensor):
            self._anomaly_map = self._anomaly_map.cpu().numpy()
        return self._anomaly_map


class Scorer:
    """A recipe on one device. Not for several threads at once."""

    def __init__(
        self,
        recipe: RecipeVersion,
        *,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        alone: Alone | None = None,
    ) -> None:
        """Raises RecipeError when this machine can't do what is asked, with what it can. `alone` is entered
        for a few hundredths of a second at a time, while no other network of this process may run."""
        self.recipe = recipe
        self._grid = recipe.grid
        self.runtime, self.device = choose_runtime(runtime, device)
        self.precision = choose_precision(precision, self.runtime, self.device, recipe)
        self._alone = alone
        presence = recipe.document.presence
        self.gate = Gate(presence) if presence else None
        """Of the recipe, if it has one; `score` does not ask it."""
        self._network = self._built(alone)
        self._coarse = self._in_eight_bits() if self.precision == INT8 else None
        self._on_device = self._beside() if self.device.type == "cuda" else None

    def _beside(self) -> DeviceScoring:
        from monitor.inference.cuda_transfer import lane_for

        return DeviceScoring(
            self._network,
            self._grid,
            self.device,
            lane_for(self.device),
            most=_at_once(self._grid.tile),
            agreement=AGREEMENT[self.precision],
        )

    def _built(self, alone: Alone | None) -> Callable[[Tensor], Tensor]:
        if self.runtime == TORCH:
            teacher, student = trunks(self.recipe, alone)
            return Network(teacher, student, self.device, half=self.precision == F16, alone=alone)
        from monitor.inference.openvino_network import OpenVinoNetwork

        # A second look is at one picture, which only tiles make several of.
        abreast = 1 if self.precision == INT8 and len(self._grid) == 1 else ABREAST
        return OpenVinoNetwork(openvino_model(self.recipe, F32, alone), torch.get_num_threads(), abreast)

    def _in_eight_bits(self) -> Callable[[Tensor], Tensor]:
        from monitor.inference.openvino_network import OpenVinoNetwork

        # Never side by side: OpenVINO 2026.4 then gives other scores from one compilation to the next.
        return OpenVinoNetwork(openvino_model(self.recipe, INT8), torch.get_num_threads())

    @property
    def calibration(self) -> Calibration:
        """Of this way of running, or the reference's where it has none of its own.

        Raises RecipeError for int8 without its own: nobody has seen the two agree.
        """
        return calibration_of(self.recipe, self.runtime, self.precision)

    @property
    def threshold(self) -> float:
        """Scores above it are rejected."""
        return self.calibration.threshold

    @property
    def calibration_key(self) -> str:
        """Under which the recipe keeps the threshold of this way of running."""
        return f"{self.runtime}-{self.precision}"

    @property
    def abreast(self) -> int:
        """How many images it computes side by side, in less time than one after the other. The tiles of a
        large image are so already, and a GPU takes as many as there are."""
        threads = torch.get_num_threads()
        # Of an odd number of threads one would be idle.
        shared_out = threads >= ABREAST and threads % ABREAST == 0 and self.precision != INT8
        return ABREAST if self.runtime == OPENVINO and len(self._grid) == 1 and shared_out else 1

    def warm_up(self) -> None:
        """Runs once for every batch size that libraries tune themselves to; takes at most seconds.

        Raises RecipeError when there is no threshold for this way of running.
        """
        _ = self.threshold
        if self._on_device is not None:
            self._on_device.warm_up(self._alone)
        blank = np.full((*self.recipe.frame, 3), 127, np.uint8)
        self.score([blank])
        if self._on_device is not None:
            # Mono frames are squashed another way, which is tried out when the first one comes.
            self.score([blank[:, :, 0]])
        if self._coarse is not None:
            # `score` may have needed but one of the two.
            for network in (self._coarse, self._network):
                self._results(network, [preprocessing.squashed(blank, self.recipe.size)])
        if self.abreast > 1:
            self.score([blank] * self.abreast)

    def part_in(self, image: Image) -> Image | None:
        """What `score` is to be given of an image; None when the recipe's gate sees no part in it.

        The score is that of the image itself: it comes squashed, as the gate and the network want it, so that
        this is done once. Without a gate it comes as it is. Raises ValueError as `score` does.
        """
        if self.gate is None:
            return image
        picture = preprocessing.squashed(image, self.recipe.size)
        return None if self.gate.is_empty(image, picture) else picture

    def score(self, images: Sequence[Image]) -> list[ScoreResult]:
        """One result an image, in order. Images are uint8 (H, W, 3) BGR or (H, W) mono of any size.

        In 8-bit integers an image can only be found to be far below the threshold. All others are looked at
        again in float32, so that every reject, and every map of one, is float32's. Raises ValueError for an
        array that is no image.
        """
        if self._on_device is not None:
            return [ScoreResult(score, own) for score, own in self._on_device.score(images)]
        pictures = [preprocessing.squashed(image, self.recipe.size) for image in images]
        if self._coarse is None:
            return self._results(self._network, pictures)
        results = self._results(self._coarse, pictures)
        clear = self._clearly_below
        return [
            result if result.score <= clear else self._results(self._network, [picture])[0]
            for result, picture in zip(results, pictures, strict=True)
        ]

    @cached_property
    def _clearly_below(self) -> float:
        """By the scores of 8-bit integers; asked for every frame, and the same for each."""
        entry, found = self.recipe.document.quantised, self.recipe.document.calibration
        assert entry is not None
        # While it is being calibrated: float32's, which `calibrate` hands on.
        own = found.get(self.calibration_key) or found.get(f"{OPENVINO}-{F32}") or found[REFERENCE]
        return clearly_below(entry.pairs, own.threshold)

    def _results(self, network: Callable[[Tensor], Tensor], pictures: Sequence[Image]) -> list[ScoreResult]:
        count = len(self._grid)
        maps = self._maps(network, (self._grid.cut(one, tile) for one in pictures for tile in range(count)))
        stitched = [self._grid.stitched(islice(maps, count)) for _ in pictures]
        return [ScoreResult(float(whole.max()), whole) for whole in stitched]

    def maps(self, tiles: Iterable[Image]) -> Iterator[NDArray[np.float32]]:
        """The anomaly map of each picture as the network sees it, a whole squashed image or a tile of one, in
        the precision that was asked for and no other.

        uint8 (H, W, 3) or (H, W) of a tile's size, in order; the maps are float32 (H, W).
        """
        return self._maps(self._coarse or self._network, tiles)

    def _maps(
        self, network: Callable[[Tensor], Tensor], tiles: Iterable[Image]
    ) -> Iterator[NDArray[np.float32]]:
        waiting = iter(tiles)
        while batch := list(islice(waiting, _at_once(self._grid.tile))):
            prepared = np.stack([normalised(tile) for tile in batch])
            yield from network(torch.from_numpy(prepared)).cpu().numpy()


def openvino_model(recipe: RecipeVersion, precision: str, alone: Alone | None = None) -> ov.Model:
    """The pair for OpenVINO, from normalised images of a tile's size to anomaly maps. Raises RecipeError.

    For int8 the one that was made with the recipe, where it has one.
    """
    from monitor.inference.openvino_network import converted, restored

    if precision == INT8 and recipe.quantised is not None:
        try:
            return restored(recipe.quantised, recipe.grid.tile)
        except ValueError as error:
            raise RecipeError(
                f"{recipe.folder}: OpenVINO can't use its int8 model ({error}): "
                "train the recipe again or use precision f32"
            ) from None
    teacher, student = trunks(recipe, alone)
    return converted(folded(teacher, alone), folded(student, alone), recipe.grid.tile)


def _at_once(tile: Size) -> int:
    """How many tiles go through the network together at most."""
    return max(1, min(BATCH, _PIXELS_AT_ONCE // (tile[0] * tile[1])))
