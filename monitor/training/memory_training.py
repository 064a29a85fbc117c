"""The memory of good features of a recipe in training: its features, the units, and left-out scores.

It knows nothing of files, students in training or thresholds.

All good images give the memory their features, also those that calibrate. An image that calibrates is
therefore scored against the memory without the features of its block: a range of images in capture order that
never parts the images of one part. The guarantee of a threshold from such scores: a new part has no features
in the memory, and more features can only lower a score, so its score lies, in distribution, at or below the
scores of the images that calibrate. This needs what holds here: each image's features are drawn without a
look at other images, and deviations, projection and units come from images that never calibrate.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from monitor.feature_memory.collection import collect_features
from monitor.feature_memory.memory import kept_name
from monitor.images.preprocessing import IndexedImages, normalise_image
from monitor.images.tiling import Grid
from monitor.inference.anomaly_network import Networks, build_networks
from monitor.inference.backends import F16, available_backends
from monitor.inference.torch_network import TorchNetwork
from monitor.model.channel_scaling import OWN_TENSOR_NAMES, add_deviations
from monitor.model.memory_level import MEMORY_LEVELS, numbers_of
from monitor.model.recipe_json import Calibration, Memory, resize_name
from monitor.model.recipe_version import RecipeVersion, weights_file
from monitor.model.weights import Weights
from monitor.pyramid import Features, ScaledTrunk
from monitor.system.progress import SILENT, Progress
from monitor.teachers.architectures import Teacher, trunk_weights
from monitor.training.examples import Split
from monitor.training.operating_points import score_ceiling
from monitor.training.thresholds import USUAL_SPREAD, USUAL_WEIGHT, ThresholdRule, make_calibration

MEMORY_SHARE = 2 / 3
"""The memory's share in the map of a recipe with a student too (`tests/benchmarks/README.md`)."""
UNIT_DEVIATIONS = 2.0
"""The unit of a map is the score that lies this many standard deviations above the mean of the logarithms of
good images' scores, so that student and memory reach 1 on about equally many good parts."""


@dataclass(frozen=True)
class GoodImages:
    """The resized good images of a training, by number."""

    pictures: IndexedImages
    """The tiles of all images by index, as in `examples.TilePictures`."""
    grid: Grid
    blocks: Sequence[int]
    """By image, the number of the block that is left out with it."""

    def inputs(self, number: int) -> range:
        """The indices of an image's tiles."""
        return range(number * len(self.grid), (number + 1) * len(self.grid))


LeaveOut = Callable[[Sequence[int]], RecipeVersion]
"""Gives a recipe without what the images of some tiles gave to its memory (`LeftOutScorer.leave_out`)."""


@dataclass(frozen=True)
class MemoryTeacher:
    """The memory's own teacher, and how much its channels vary over images that never calibrate."""

    teacher: Teacher
    deviations: Features


@dataclass(frozen=True)
class LeftOutScorer:
    """Scores good images without the features of their own block in the memory."""

    images: GoodImages
    owners: Sequence[NDArray[np.int64]]
    """By compared level and kept feature, the number of the image that it comes from."""

    def scores(
        self,
        network: TorchNetwork,
        numbers: Sequence[int],
        *,
        without: Sequence[int] = (),
        progress: Progress = SILENT,
    ) -> list[float]:
        """The score of each image of `numbers`; the features of the images `without` are ignored too."""
        grid, blocks = self.images.grid, np.asarray(self.images.blocks)
        ignored = [np.isin(own, np.asarray(without, np.int64)) for own in self.owners]
        scores = []
        for done, number in enumerate(numbers, start=1):
            left_out = [
                torch.from_numpy(also | (blocks[own] == blocks[number]))
                for own, also in zip(self.owners, ignored, strict=True)
            ]
            maps = (
                network(torch.from_numpy(normalise_image(self.images.pictures[index])[None]), left_out)
                .cpu()
                .numpy()[0]
                for index in self.images.inputs(number)
            )
            scores.append(float(grid.stitch_maps(maps).max()))
            progress.update("calibrate", done, len(numbers))
        return scores

    def leave_out(self, recipe: RecipeVersion, indices: Sequence[int]) -> RecipeVersion:
        """The recipe without the features of the images that these tiles are of.

        The recipe itself where none would be left.
        """
        entry = recipe.document.memory
        assert entry is not None
        assert recipe.memory is not None
        numbers = [index // len(self.images.grid) for index in indices]
        arrays = dict(recipe.memory)
        for level, own in zip(numbers_of(entry.levels), self.owners, strict=True):
            stays = ~np.isin(own, numbers)
            if not stays.any():
                return recipe
            arrays[kept_name(level)] = arrays[kept_name(level)][stays]
        return replace(recipe, memory=arrays)


def add_memory(
    draft: RecipeVersion,
    images: GoodImages,
    by_use: Split,
    deviations: Features,
    own: MemoryTeacher,
    *,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> tuple[RecipeVersion, LeftOutScorer]:
    """The recipe with a memory of all `images`, not yet calibrated, and what scores images left out.

    The images that select never calibrate; they determine the units. `deviations` are the channel deviations
    of the recipe's teacher.
    """
    count = len(images.blocks)
    done = 0

    def add_progress(added: int) -> None:
        nonlocal done
        done += added
        progress.update("memory", done, count)

    teacher = build_networks(_without_memory(draft)).teacher
    if draft.student is None:
        teacher = ScaledTrunk(teacher, deviations)
    teacher.to(device)
    own_trunk = ScaledTrunk(own.teacher.trunk, own.deviations).to(device)
    collection = collect_features(
        lambda batch: [*teacher(batch), *own_trunk(batch)],
        images.pictures,
        [images.inputs(number) for number in range(count)],
        seed=seed,
        device=device,
        add_progress=add_progress,
    )
    arrays = add_deviations(collection.arrays, own.deviations, OWN_TENSOR_NAMES)
    if draft.student is None:
        arrays = add_deviations(arrays, deviations)
    scorer = LeftOutScorer(images, collection.owners)
    return _fix_units(_state_memory(draft, arrays, own.teacher), scorer, by_use, device), scorer


def set_left_out_thresholds(
    recipe: RecipeVersion,
    scorer: LeftOutScorer,
    numbers: Sequence[int],
    parts: tuple[int, ...],
    rule: ThresholdRule,
    *,
    device: torch.device,
    progress: Progress,
) -> RecipeVersion:
    """The recipe with thresholds from the images `numbers`, scored without their own features.

    `parts` has the part of each of them. OpenVINO gets torch's scores: the maps of both agree
    (`backends.MAX_MAP_DIFFERENCE`), and only torch can leave features out. int8 judges no image near the
    threshold, so it gets them too. Raises CalibrationError.
    """
    scores: dict[bool, list[float]] = {}
    found: dict[str, Calibration] = {}
    for runtime, precision in available_backends(recipe, device):
        half = precision == F16
        if half not in scores:
            network = TorchNetwork(build_networks(recipe), device, half=half)
            scores[half] = scorer.scores(network, numbers, progress=progress)
        found[f"{runtime}-{precision}"] = make_calibration(
            scores[half],
            rule.overkill,
            score_ceiling(recipe.document),
            parts=parts,
            extrapolate=rule.extrapolate,
            left_out=rule.left_out,
        )
    return recipe.with_calibration(found)


def _state_memory(draft: RecipeVersion, arrays: Weights, own: Teacher) -> RecipeVersion:
    """The draft with a memory of these arrays and its own teacher; the unit is not fixed yet."""
    own_arrays = _halved(trunk_weights(own.trunk))
    entry = Memory(
        weights=weights_file("memory", arrays),
        unit=1.0,
        share=None if draft.student is None else MEMORY_SHARE,
        by_level=True,
        levels=MEMORY_LEVELS,
        teacher=own.entry(own_arrays),
    )
    stated = draft.with_changes(memory=entry, evened=True, resize=resize_name(draft.document.tiles, entry))
    return replace(stated, memory=arrays, memory_teacher=own_arrays)


def _fix_units(
    recipe: RecipeVersion, scorer: LeftOutScorer, by_use: Split, device: torch.device
) -> RecipeVersion:
    """The recipe with the units of its maps, from the images that select."""
    networks = build_networks(recipe)
    memory_alone = replace(networks, student=None, memory_unit=1.0, memory_share=None)
    # Without a student the unit is a common factor of all scores, and hardly any image would be left.
    without = by_use.calibrate if networks.student is not None else ()
    scores = scorer.scores(TorchNetwork(memory_alone, device, half=False), by_use.select, without=without)
    student_unit = 1.0
    if networks.student is not None:
        student_alone = Networks(networks.teacher, networks.student)
        student_unit = _unit(scorer.scores(TorchNetwork(student_alone, device, half=False), by_use.select))
    assert recipe.document.memory is not None
    fixed = msgspec.structs.replace(recipe.document.memory, unit=_unit(scores))
    return recipe.with_changes(memory=fixed, student_unit=student_unit)


def _without_memory(draft: RecipeVersion) -> RecipeVersion:
    """The draft for `build_networks`: without a student it has no deviations yet."""
    evened = draft.student is not None
    return draft.with_changes(evened=evened)


def _halved(weights: Weights) -> Weights:
    """Weights that came from float16 in float16 again: half of the bytes, no value changes."""
    return {name: array.astype(np.float16) for name, array in weights.items()}


def _unit(scores: Sequence[float]) -> float:
    """The unit of a map from good images' scores; 1 where no score is above 0.

    A few scores do not show their spread well, so it is averaged with a usual spread, as in
    `monitor.training.thresholds`.
    """
    logs = [math.log(score) for score in scores if score > 0]
    if not logs:
        return 1.0
    mean = statistics.fmean(logs)
    squares = sum((log - mean) ** 2 for log in logs)
    spread = math.sqrt((USUAL_WEIGHT * USUAL_SPREAD**2 + squares) / (USUAL_WEIGHT + len(logs) - 1))
    return math.exp(mean + UNIT_DEVIATIONS * spread)
