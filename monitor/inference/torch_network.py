"""Teacher and student in torch: from a recipe's weights to one function from images to anomaly maps.

It knows nothing of files, thresholds or verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from monitor.model.channel_scaling import read_deviations
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.model.weights import Weights
from monitor.pyramid import ScaledTrunk, anomaly_map, upsample
from monitor.teachers.architectures import LEVELS, NetworkLock, TeacherError, build_trunk, fill


class TorchNetwork:
    """Teacher and student as one function from normalised images to anomaly maps, on one device.

    Batch normalisation is folded into the convolutions and everything is channels-last: on two CPU cores a
    256x256 image takes 20 ms instead of 36. Tracing and freezing on top of that gained nothing.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        device: torch.device,
        *,
        half: bool,
        network_lock: NetworkLock | None = None,
    ) -> None:
        """`half` computes the trunks in float16. `network_lock` is held while the trunks are traced."""
        disable_tf32(device)
        self._device = device
        self._dtype = torch.float16 if half else torch.float32
        self._trunks: list[Callable[[Tensor], list[Tensor]]] = [
            _move_to_device(fold_batch_norm(trunk, network_lock), device, self._dtype)
            for trunk in (teacher, student)
        ]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float32, normalised, to anomaly maps (N, H, W) float32 on the device."""
        images = images.to(self._device, non_blocking=True)
        trunk_input = images.to(dtype=self._dtype, memory_format=torch.channels_last)
        teacher, student = (trunk(trunk_input) for trunk in self._trunks)
        rows, columns = images.shape[-2:]
        return upsample(anomaly_map(teacher, student), (rows, columns))


def disable_tf32(device: torch.device) -> None:
    """Make this process compute float32 in full precision on a CUDA device; no effect on a CPU.

    TensorFloat-32 has 10 mantissa bits instead of 23, too few for the agreement that
    `backends.MAX_MAP_DIFFERENCE` demands. The switches belong to the whole process and are never set back,
    because another thread's network may be running.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def fold_batch_norm(trunk: nn.Module, network_lock: NetworkLock | None = None) -> fx.GraphModule:
    """The trunk in eval mode, each batch normalisation after a convolution folded into that convolution.

    The argument is not changed, but shares its other weights with the result. `network_lock` is held while
    the trunk is traced.
    """
    with network_lock or nullcontext():
        graph = fx.symbolic_trace(trunk.eval())
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        convolution = modules.get(before.target) if before.op == "call_module" else None
        if isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            fused = fuse_conv_bn_eval(convolution, modules[node.target])
            graph.set_submodule(before.target, fused)
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
    graph.recompile()
    graph.delete_all_unused_submodules()
    return graph.eval()


def build_teacher_and_student(
    recipe: RecipeVersion, network_lock: NetworkLock | None = None
) -> tuple[nn.Module, nn.Module]:
    """A recipe's teacher and student in eval mode on the CPU, with its channel scaling if it has any.

    `network_lock` is held while a trunk is traced. Raises RecipeError.
    """
    document = recipe.document
    if document.levels != LEVELS.get(document.teacher.architecture):
        raise RecipeError(
            f"{recipe.folder}: levels {', '.join(document.levels)} of {document.teacher.architecture} "
            "are not known here: update the program or train the recipe again"
        )
    teacher = _build_trunk(recipe, document.teacher.architecture, recipe.teacher, network_lock)
    if recipe.student is None:
        raise RecipeError(f"{recipe.folder}: the recipe has no student: train the recipe again")
    student = _build_trunk(recipe, document.teacher.architecture, recipe.student, network_lock)
    deviations = read_deviations(recipe.student)
    if document.evened != (deviations is not None):
        raise RecipeError(
            f'{recipe.folder}: "evened" in recipe.json disagrees with the student\'s weights: '
            "train the recipe again"
        )
    if deviations is None:
        return teacher, student
    return ScaledTrunk(teacher, deviations), ScaledTrunk(student, deviations)


def _build_trunk(
    recipe: RecipeVersion, architecture: str, weights: Weights, lock: NetworkLock | None
) -> nn.Module:
    # On the meta device no time is spent on initial values that the weights replace.
    with torch.device("meta"):
        trunk = build_trunk(architecture, lock)
    try:
        fill(trunk, {name: torch.from_numpy(array) for name, array in weights.items()})
    except TeacherError as error:
        raise RecipeError(
            f"{recipe.folder}: its weights are not {architecture}'s ({error}): train the recipe again"
        ) from None
    return trunk.eval().requires_grad_(False)


def _move_to_device(trunk: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The trunk on a device, computing in `dtype`.

    The factors of channel scaling stay float32: the largest float16 number is 65504, and a channel with a
    small deviation has a large factor.
    """
    scaling = dict(trunk.named_buffers(recurse=False))
    trunk.to(device, dtype).to(memory_format=torch.channels_last)
    for name, factors in scaling.items():
        trunk.register_buffer(name, factors.to(device))
    return trunk
