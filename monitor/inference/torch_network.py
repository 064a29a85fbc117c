"""Teacher and student in torch: from a recipe's weights to one function from images to anomaly maps.

It knows nothing of files, thresholds or verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from monitor.model.channel_scaling import kept_deviations
from monitor.model.recipe_document import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.model.weights import Weights
from monitor.pyramid import Evened, anomaly_map, upsampled
from monitor.teachers.architectures import LEVELS, Alone, TeacherError, build_trunk, fill


class Network:
    """Teacher and student as one function from normalised images to anomaly maps, fast on one device.

    Convolutions take in their batch normalisation, and everything is channels-last: on two CPU cores a
    256x256 image takes 20 ms instead of 36. Tracing and freezing on top of that gained nothing.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        device: torch.device,
        *,
        half: bool,
        alone: Alone | None = None,
    ) -> None:
        exactly(device)
        self._device = device
        self._type = torch.float16 if half else torch.float32
        self._trunks: list[Callable[[Tensor], list[Tensor]]] = [
            _placed(folded(trunk, alone), device, self._type) for trunk in (teacher, student)
        ]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float32, normalised, to anomaly maps (N, H, W) float32 on the device."""
        images = images.to(self._device, non_blocking=True)
        entering = images.to(dtype=self._type, memory_format=torch.channels_last)
        teacher, student = (trunk(entering) for trunk in self._trunks)
        rows, columns = images.shape[-2:]
        return upsampled(anomaly_map(teacher, student), (rows, columns))


def exactly(device: torch.device) -> None:
    """From here on float32 is float32 on a CUDA device; a CPU knows nothing else.

    TensorFloat-32 has 10 bits where float32 has 23: too coarse for the promised agreement. The switches are
    the whole process's: thrown back after a run, they would be in the midst of another thread's.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def folded(trunk: nn.Module, alone: Alone | None = None) -> fx.GraphModule:
    """The trunk in eval mode with every batch normalisation that follows a convolution made part of it.

    The argument is not changed, but shares its other weights with the result.
    """
    with alone or nullcontext():
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


def trunks(recipe: RecipeVersion, alone: Alone | None = None) -> tuple[nn.Module, nn.Module]:
    """A recipe's teacher and student in eval mode on the CPU, evened out if it is so. Raises RecipeError."""
    document = recipe.document
    if document.levels != LEVELS.get(document.teacher.architecture):
        raise RecipeError(
            f"{recipe.folder}: levels {', '.join(document.levels)} of {document.teacher.architecture} "
            "are not known here: update the program or train the recipe again"
        )
    teacher = _rebuild(recipe, document.teacher.architecture, recipe.teacher, alone)
    student = _rebuild(recipe, document.teacher.architecture, recipe.student, alone)
    deviations = kept_deviations(recipe.student)
    if document.evened != (deviations is not None):
        raise RecipeError(
            f"{recipe.folder}: recipe.json and the student's weights don't agree on whether channels are "
            "evened out: train the recipe again"
        )
    if deviations is None:
        return teacher, student
    return Evened(teacher, deviations), Evened(student, deviations)


def _rebuild(recipe: RecipeVersion, architecture: str, weights: Weights, alone: Alone | None) -> nn.Module:
    # On the meta device nothing is initialised that the weights then replace.
    with torch.device("meta"):
        trunk = build_trunk(architecture, alone)
    try:
        fill(trunk, {name: torch.from_numpy(array) for name, array in weights.items()})
    except TeacherError as error:
        raise RecipeError(
            f"{recipe.folder}: its weights are not {architecture}'s ({error}): train the recipe again"
        ) from None
    return trunk.eval().requires_grad_(False)


def _placed(trunk: nn.Module, device: torch.device, kind: torch.dtype) -> nn.Module:
    """The trunk on a device, computing in `kind`. What evens its levels out stays float32: half precision
    ends at 65504, and a channel that hardly varies is multiplied by much."""
    evening = dict(trunk.named_buffers(recurse=False))
    trunk.to(device, kind).to(memory_format=torch.channels_last)
    for name, factors in evening.items():
        trunk.register_buffer(name, factors.to(device))
    return trunk
