"""A recipe's networks as one: from normalised images to anomaly maps.

It knows nothing of runtimes, files or thresholds; torch, OpenVINO and the export all run this network.

A recipe has a student, a memory of good features, or both. With both, the map is at each pixel the
weighted mean of the two, each divided by its unit. The units were fixed at training, so that both reach 1 on
about equally many good parts. With a mean fewer defects pass at the recipes' own thresholds than with the
larger of both, because a good place that is odd for one is seldom odd for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from monitor.feature_memory.memory import FeatureMemory, JoinedMemory
from monitor.inference.batch_norm_folding import fold_batch_norm
from monitor.model.channel_scaling import OWN_TENSOR_NAMES, read_deviations
from monitor.model.recipe_json import Memory, RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.model.weights import Weights
from monitor.pyramid import ScaledTrunk, anomaly_map, upsample
from monitor.teachers.architectures import LEVELS, NetworkLock, TeacherError, build_trunk, fill
from monitor.teachers.lite_trunk import ARCHITECTURE, CHANNELS, LiteTrunk


@dataclass(frozen=True)
class Networks:
    """A recipe's networks in eval mode, and the units of their maps."""

    teacher: nn.Module
    student: nn.Module | None
    student_unit: float = 1.0
    memory: FeatureMemory | JoinedMemory | None = None
    memory_teacher: nn.Module | None = None
    """The memory's own teacher, which gives it two more levels."""
    memory_unit: float = 1.0
    memory_share: float | None = None
    """The memory's share in the weighted mean of both maps; None: the map is the larger of both."""

    def folded(self, network_lock: NetworkLock | None = None) -> Networks:
        """The same with folded batch normalisation (`fold_batch_norm`), in trunks that may be changed."""
        student = None if self.student is None else fold_batch_norm(self.student, network_lock)
        return replace(
            self,
            teacher=fold_batch_norm(self.teacher, network_lock),
            student=student,
            memory_teacher=deepcopy(self.memory_teacher),
        )


class AnomalyNetwork(nn.Module):
    """Normalised images to anomaly maps of the same size."""

    def __init__(self, networks: Networks, convert: Callable[[nn.Module], nn.Module] = lambda trunk: trunk):
        """`convert` is applied to each trunk, for example to move it to a device.

        The memory must be moved by the caller: it is float32 in every precision.
        """
        super().__init__()
        self.teacher = convert(networks.teacher)
        self.student = None if networks.student is None else convert(networks.student)
        self.memory = networks.memory
        own = networks.memory_teacher
        self.memory_teacher = None if own is None else convert(own)
        share = networks.memory_share
        self._join = torch.maximum if share is None else torch.add
        student_weight, memory_weight = (1.0, 1.0) if share is None else (1 - share, share)
        self._student_factor = student_weight / networks.student_unit
        self._memory_factor = memory_weight / networks.memory_unit

    def forward(self, images: Tensor, left_out: Sequence[Tensor] | None = None) -> Tensor:
        """(N, 3, H, W), in the precision of the trunks, to float32 (N, H, W).

        `left_out` are kept features that are ignored, as in `FeatureMemory.forward`.
        """
        maps = self.maps_alone(images, left_out)
        return maps[0] if len(maps) == 1 else self._join(*maps)

    def maps_alone(self, images: Tensor, left_out: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The maps that `forward` joins: the student's, the memory's, as far as the recipe has them."""
        size = (images.shape[-2], images.shape[-1])
        levels = self.teacher(images)
        maps = []
        if self.student is not None:
            product = anomaly_map(levels, self.student(images))
            # A recipe without a memory has no units: its maps are the paper's.
            maps.append(upsample(product if self.memory is None else product * self._student_factor, size))
        if self.memory is not None:
            if self.memory_teacher is not None:
                levels = [*levels, *self.memory_teacher(images)]
            own = self.memory(levels) if left_out is None else self.memory(levels, left_out)
            maps.append(upsample(own * self._memory_factor, size))
        return maps

    def forward_each(self, images: Tensor) -> Tensor:
        """The maps of `forward` and of `maps_alone`: (N, M, H, W). M is 1 with a student or a memory, 3 with
        both."""
        maps = self.maps_alone(images)
        return torch.stack(maps if len(maps) == 1 else [self._join(*maps), *maps], dim=1)


def build_networks(recipe: RecipeVersion, network_lock: NetworkLock | None = None) -> Networks:
    """A recipe's networks in eval mode on the CPU, with its channel scaling if it has any.

    `network_lock` is held while a trunk is traced. Raises RecipeError.
    """
    document = recipe.document
    if document.levels != LEVELS.get(document.teacher.architecture):
        raise RecipeError(
            f"{recipe.folder}: levels {', '.join(document.levels)} of {document.teacher.architecture} "
            "are not known here: update the program or train the recipe again"
        )
    teacher = _build_trunk(recipe, document.teacher.architecture, recipe.teacher, network_lock)
    student: nn.Module | None = None
    if recipe.student is not None:
        student = _build_trunk(recipe, document.teacher.architecture, recipe.student, network_lock)
    # Where the memory alone judges, the deviations are among its arrays.
    try:
        deviations = read_deviations(recipe.student if recipe.student is not None else recipe.memory or {})
    except ValueError as error:
        raise RecipeError(
            f"{recipe.folder}: its channel scaling is damaged ({error}): train the recipe again"
        ) from None
    if document.evened != (deviations is not None):
        raise RecipeError(
            f'{recipe.folder}: "evened" in recipe.json disagrees with the recipe\'s weights: '
            "train the recipe again"
        )
    if deviations is not None:
        teacher = ScaledTrunk(teacher, deviations)
        student = None if student is None else ScaledTrunk(student, deviations)
    networks = Networks(teacher, student, document.student_unit)
    if recipe.memory is None or document.memory is None:
        return networks
    if deviations is None:
        raise RecipeError(f"{recipe.folder}: a memory needs channel scaling: train the recipe again")
    channels = [len(deviation) for deviation in deviations]
    memory, own = _build_memory(recipe, document.memory, recipe.memory, channels)
    return replace(
        networks,
        memory=memory,
        memory_teacher=own,
        memory_unit=document.memory.unit,
        memory_share=document.memory.share if student is not None else None,
    )


def _build_memory(
    recipe: RecipeVersion, entry: Memory, arrays: Weights, channels: Sequence[int]
) -> tuple[FeatureMemory | JoinedMemory, nn.Module | None]:
    """The memory and its own teacher. `channels` are those of the recipe's teacher. Raises RecipeError."""
    compared, own = entry.compared_levels(), None
    try:
        if not compared:
            return JoinedMemory(arrays, channels), None
        if entry.teacher is not None and recipe.memory_teacher is not None:
            deviations = read_deviations(arrays, OWN_TENSOR_NAMES)
            if deviations is None or tuple(map(len, deviations)) != CHANNELS:
                raise ValueError("its own teacher's channel deviations are missing or of another network")
            own = ScaledTrunk(
                _build_own_teacher(entry.teacher.architecture, recipe.memory_teacher), deviations
            )
            channels = [*channels, *map(len, deviations)]
        return FeatureMemory(arrays, channels, compared), own
    except (ValueError, TeacherError) as error:
        raise RecipeError(
            f"{recipe.folder}: its memory is damaged ({error}): train the recipe again"
        ) from None


def _build_own_teacher(architecture: str, weights: Weights) -> nn.Module:
    """Raises TeacherError."""
    if architecture != ARCHITECTURE:
        raise TeacherError(f"its teacher {architecture} is not known here: update the program")
    with _WithoutRandomValues():
        trunk = LiteTrunk()
    return _fill_trunk(trunk, weights)


def _build_trunk(
    recipe: RecipeVersion, architecture: str, weights: Weights, lock: NetworkLock | None
) -> nn.Module:
    # No time is spent on initial values that the weights replace.
    with torch.device("meta"), _WithoutRandomValues():
        trunk = build_trunk(architecture, lock)
    try:
        return _fill_trunk(trunk, weights)
    except TeacherError as error:
        raise RecipeError(
            f"{recipe.folder}: its weights are not {architecture}'s ({error}): train the recipe again"
        ) from None


def _fill_trunk(trunk: nn.Module, weights: Weights) -> nn.Module:
    """The trunk with these weights, frozen. Raises TeacherError."""
    fill(trunk, {name: torch.from_numpy(array) for name, array in weights.items()})
    return trunk.eval().requires_grad_(False)


class _WithoutRandomValues(TorchFunctionMode):
    """Leaves tensors as they are instead of filling them with random values. On the meta device torch imports
    its compiler for that, which takes a second of each start."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))
