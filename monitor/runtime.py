"""A recipe at work: images in, scores and anomaly maps out, on this machine's CPU or GPU.

Every way of running must agree with the plain float32 network: max |a - b| / max |b| of the maps at most 1e-4
in float32. Half precision stays inside the trunks. Nothing here decides what happens to a part: a score that
is not finite leaves here as it is. A CUDA error is not caught: after one the process can't be trusted.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from monitor import images as image_files
from monitor.device_scoring import DeviceScoring
from monitor.evening import kept_deviations
from monitor.images import Image, Size, normalised
from monitor.presence import Gate
from monitor.pyramid import Evened, anomaly_map, upsampled
from monitor.recipe import REFERENCE, Calibration, Recipe, RecipeError
from monitor.second_look import clearly_below
from monitor.teacher import LEVELS, Alone, TeacherError, build_trunk, fill
from monitor.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    import openvino as ov

TORCH = "torch"
OPENVINO = "openvino"
F32 = "f32"
F16 = "f16"
INT8 = "int8"
AGREES = 0.98
"""The least rank correlation with float32's scores that 8-bit integers are recommended with."""
BATCH = 16
ABREAST = 2
"""How many images OpenVINO computes side by side, each on its share of the CPU's threads. A ResNet-18 takes
74 MB more for that, and half a second to start."""
_PIXELS_AT_ONCE = BATCH * 512**2
"""More than this are scored in several runs, so that memory stays bounded."""


AGREEMENT = {F32: 1e-4, F16: 1e-2}
"""How far a map may be from the plain network's on the same input: max |a - b| / max |b|."""


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
        recipe: Recipe,
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
        self.runtime, self.device = _choose_runtime(runtime, device)
        self.precision = _choose_precision(precision, self.runtime, self.device, recipe)
        self._alone = alone
        presence = recipe.document.presence
        self.gate = Gate(presence) if presence else None
        """Of the recipe, if it has one; `score` does not ask it."""
        self._network = self._built(alone)
        self._coarse = self._in_eight_bits() if self.precision == INT8 else None
        self._on_device = self._beside() if self.device.type == "cuda" else None

    def _beside(self) -> DeviceScoring:
        from monitor.cuda_lane import lane_for

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
        from monitor.openvino_network import OpenVinoNetwork

        # A second look is at one picture, which only tiles make several of.
        abreast = 1 if self.precision == INT8 and len(self._grid) == 1 else ABREAST
        return OpenVinoNetwork(openvino_model(self.recipe, F32, alone), torch.get_num_threads(), abreast)

    def _in_eight_bits(self) -> Callable[[Tensor], Tensor]:
        from monitor.openvino_network import OpenVinoNetwork

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
                self._results(network, [image_files.squashed(blank, self.recipe.size)])
        if self.abreast > 1:
            self.score([blank] * self.abreast)

    def part_in(self, image: Image) -> Image | None:
        """What `score` is to be given of an image; None when the recipe's gate sees no part in it.

        The score is that of the image itself: it comes squashed, as the gate and the network want it, so that
        this is done once. Without a gate it comes as it is. Raises ValueError as `score` does.
        """
        if self.gate is None:
            return image
        picture = image_files.squashed(image, self.recipe.size)
        return None if self.gate.is_empty(image, picture) else picture

    def score(self, images: Sequence[Image]) -> list[ScoreResult]:
        """One result an image, in order. Images are uint8 (H, W, 3) BGR or (H, W) mono of any size.

        In 8-bit integers an image can only be found to be far below the threshold. All others are looked at
        again in float32, so that every reject, and every map of one, is float32's. Raises ValueError for an
        array that is no image.
        """
        if self._on_device is not None:
            return [ScoreResult(score, own) for score, own in self._on_device.score(images)]
        pictures = [image_files.squashed(image, self.recipe.size) for image in images]
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


def choose_device(name: str) -> torch.device:
    """auto (CUDA if there is one), cpu, cuda or cuda:N. Raises RecipeError."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or not (index == "" or index.isdecimal()):
        raise RecipeError(f"device {name!r} is not known: use auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        found = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device"
        raise RecipeError(
            f"device {name!r}: this machine has {found}: use {'cuda' if count else 'cpu'} or auto"
        )
    return torch.device("cuda", int(index or 0))


def can_quantise() -> bool:
    """Whether this installation can make 8-bit models, too."""
    return has_openvino() and importlib.util.find_spec("nncf") is not None


def trunks(recipe: Recipe, alone: Alone | None = None) -> tuple[nn.Module, nn.Module]:
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


def precisions(device: torch.device) -> tuple[str, ...]:
    """What torch runs on a device, float32 first."""
    return (F32, F16) if device.type == "cuda" else (F32,)


def calibration_of(recipe: Recipe, runtime: str, precision: str) -> Calibration:
    """A recipe's calibration for one way of running, or the reference's where it has none of its own.

    Raises RecipeError for int8 without its own: nobody has seen the two agree.
    """
    found, key = recipe.document.calibration, f"{runtime}-{precision}"
    if precision == INT8 and key not in found:
        raise RecipeError(
            f"{recipe.folder}: has no threshold for {key}: "
            "calibrate it where OpenVINO is, or use precision f32"
        )
    return found.get(key, found[REFERENCE])


def openvino_model(recipe: Recipe, precision: str, alone: Alone | None = None) -> ov.Model:
    """The pair for OpenVINO, from normalised images of a tile's size to anomaly maps. Raises RecipeError.

    For int8 the one that was made with the recipe, where it has one.
    """
    from monitor.openvino_network import converted, restored

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


def has_openvino() -> bool:
    """Whether this installation can run recipes on OpenVINO."""
    return importlib.util.find_spec("openvino") is not None


def ways(recipe: Recipe, device: torch.device) -> tuple[tuple[str, str], ...]:
    """Runtime and precision of every way that the recipe can run here, the reference first: torch's on a
    device, OpenVINO's on the CPU."""
    found = [(TORCH, precision) for precision in precisions(device)]
    if has_openvino():
        found += [(OPENVINO, F32)] + [(OPENVINO, INT8)] * (recipe.quantised is not None)
    return tuple(found)


def _choose_runtime(name: str, device: str) -> tuple[str, torch.device]:
    """With the device that it runs on. On a CPU OpenVINO is the faster one wherever it was measured."""
    if name not in ("auto", TORCH, OPENVINO):
        raise RecipeError(f"runtime {name!r} is not known: use auto, torch or openvino")
    if name == OPENVINO and not has_openvino():
        raise RecipeError(
            'runtime "openvino" is not installed: pip install "line-monitor[openvino]", or use auto or torch'
        )
    chosen = choose_device("cpu" if name == OPENVINO and device == "auto" else device)
    if name == OPENVINO and chosen.type != "cpu":
        raise RecipeError(f'runtime "openvino" runs on the CPU, not on {device!r}: use device cpu or auto')
    if name == "auto":
        name = OPENVINO if chosen.type == "cpu" and has_openvino() else TORCH
    return name, chosen


def _choose_precision(name: str, runtime: str, device: torch.device, recipe: Recipe) -> str:
    if name not in ("auto", F32, F16, INT8):
        raise RecipeError(f"precision {name!r} is not known: use auto, f32, f16 or int8")
    if name == INT8 and runtime != OPENVINO:
        where = "on a CPU" if device.type == "cuda" else 'there (pip install "line-monitor[openvino]")'
        raise RecipeError(f'precision "int8" runs on OpenVINO, {where}: use auto or f32')
    if name == INT8 and recipe.quantised is None:
        raise RecipeError(
            f'{recipe.folder}: precision "int8": the recipe has no int8 model: train it again where OpenVINO '
            'and NNCF are (pip install "line-monitor[openvino]"), or use auto or f32'
        )
    if device.type == "cuda":
        return F32 if name == F32 else F16
    if name == F16:
        raise RecipeError('precision "f16" is slower than f32 on a CPU: use auto or f32, or a CUDA device')
    # 8-bit integers give the same verdicts in a third of the time, but a part near the threshold takes a
    # third longer than in float32: whether a line wants that is for a person to choose.
    return F32 if name == "auto" else name


def _rebuild(recipe: Recipe, architecture: str, weights: Weights, alone: Alone | None) -> nn.Module:
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


def _at_once(tile: Size) -> int:
    """How many tiles go through the network together at most."""
    return max(1, min(BATCH, _PIXELS_AT_ONCE // (tile[0] * tile[1])))
