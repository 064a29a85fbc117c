"""A recipe's networks on Intel's OpenVINO, which runs them faster on a CPU than torch does.

It knows nothing of thresholds or verdicts. OpenVINO is an optional dependency, so only code that needs it
imports this module. The module calls OpenVINO's PyTorch frontend directly, because `openvino.convert_model`
sends usage data over the network and takes eight times as long.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterator
from operator import itemgetter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import openvino as ov
import openvino.properties as props
import openvino.properties.hint as hints
import torch
from numpy.typing import NDArray
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from monitor.images.preprocessing import Size
from monitor.inference.anomaly_network import AnomalyNetwork, Networks, build_networks
from monitor.inference.backends import INT8
from monitor.model.recipe_json import RecipeError
from monitor.model.recipe_version import RecipeVersion
from monitor.model.weights import Weights
from monitor.teachers.architectures import NetworkLock

_LANE_CHECK_S = 0.5
"""How long a lane is waited for before the lanes are asked whether one has failed."""


def build_model(recipe: RecipeVersion, precision: str, network_lock: NetworkLock | None = None) -> ov.Model:
    """A recipe's networks as a model from normalised images of a tile's size to anomaly maps.

    For int8 it is the model that the recipe has, and a float32 model where it has none. `network_lock` is
    held while a trunk is traced. Raises RecipeError.
    """
    if precision == INT8 and recipe.quantised is not None:
        try:
            return from_arrays(recipe.quantised, recipe.grid.tile)
        except ValueError as error:
            raise RecipeError(
                f"{recipe.folder}: OpenVINO can't use its int8 model ({error}): "
                "train the recipe again or use precision f32"
            ) from None
    return convert_networks(build_networks(recipe, network_lock).folded(network_lock), recipe.grid.tile)


def convert_networks(networks: Networks, size: Size) -> ov.Model:
    """A recipe's networks as one float32 model for OpenVINO, for one image of that size at a time.

    The trunks' batch normalisation is folded (`Networks.folded`).
    """
    module = AnomalyNetwork(networks).eval().requires_grad_(False)
    return convert_module(module, torch.zeros(1, 3, *size))


def convert_module(module: nn.Module, example: Tensor) -> ov.Model:
    """A torch module in eval mode as a float32 model for OpenVINO, for inputs of the example's shape."""
    # torch.jit.script does not support every network, and torch.export takes ten times as long as tracing.
    with torch.inference_mode(), warnings.catch_warnings():
        # torch warns that tracing is deprecated, and that the check of the levels' shapes is not traced.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # Held in a variable: the frontend does not keep it alive.
    model: ov.Model = frontend.convert(frontend.load(decoder))
    model.reshape(ov.PartialShape(list(example.shape)))
    model.validate_nodes_and_infer_types()
    _name_operations(model)
    return model


def _name_operations(model: ov.Model) -> None:
    """Name each operation by its position, because OpenVINO's own names depend on what the process made
    before."""
    model.set_friendly_name("pair")
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")


def to_arrays(model: ov.Model) -> dict[str, NDArray[np.uint8]]:
    """The model as two arrays of bytes that a recipe stores: its graph (XML) and its constants."""
    _name_operations(model)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        ov.save_model(model, file, compress_to_fp16=False)
        return {
            name: np.frombuffer(file.with_suffix(suffix).read_bytes(), np.uint8)
            for name, suffix in (("graph", ".xml"), ("constants", ".bin"))
        }


def from_arrays(weights: Weights, size: Size) -> ov.Model:
    """The model from its stored arrays, `graph` and `constants`.

    Raises ValueError when they are not a model for images of that size.
    """
    try:
        graph, constants = weights["graph"].tobytes(), weights["constants"].tobytes()
        model = ov.Core().read_model(graph, constants)
        shape = model.input(0).get_partial_shape()
    except (KeyError, RuntimeError) as error:
        raise ValueError(str(error).strip().splitlines()[-1]) from None
    if shape != ov.PartialShape([1, 3, *size]):
        raise ValueError(f"it takes images of {shape}, not of {size[0]} rows and {size[1]} columns")
    return model


class OpenVinoNetwork:
    """A model for one image at a time (`build_model`), compiled for this machine's CPU.

    All threads together compute one image. Of several images, `parallel` at a time are computed concurrently,
    each in a lane of its own with its share of the threads. Lanes don't wait for each other at every layer,
    and these waits cost most where other processes use the same cores.
    """

    def __init__(self, model: ov.Model, threads: int, parallel: int = 1, *, bfloat16: bool = False) -> None:
        """`bfloat16` computes in bfloat16 where the processor has it, the distances too."""
        precision = ov.Type.bf16 if bfloat16 else ov.Type.f32
        self._single_request = _compile(model, threads, 1, precision).create_infer_request()
        self._lanes: list[ov.InferRequest] = []
        if 1 < parallel <= threads:
            compiled = _compile(model, threads, parallel, precision)
            self._lanes = [compiled.create_infer_request() for _ in range(parallel)]

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float32, normalised, to anomaly maps (N, H, W) float32.

        Each image is a request of its own, so no score depends on the other images.
        """
        waiting = list(images.contiguous().numpy())
        if len(waiting) > 1 and self._lanes:
            maps = [one for _, one in sorted(self.stream(iter(waiting)), key=itemgetter(0))]
        else:
            maps = [self._infer(image) for image in waiting]
        return torch.from_numpy(np.stack(maps))

    def _infer(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        result = self._single_request.infer([image[None]], share_inputs=True, share_outputs=False)[0]
        return np.asarray(result[0], np.float32)

    def stream(
        self, images: Iterator[NDArray[np.float32] | None]
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The anomaly maps (H, W) of images (3, H, W), each as soon as it is done, with its image's place.

        The next image is taken when a lane is free, so `images` may choose it as late as that. None takes no
        lane: whatever is done is returned before the next image is taken. Only for a network with lanes.
        """
        waiting, free, more = enumerate(images), list(range(len(self._lanes))), True
        done: SimpleQueue[tuple[int, int]] = SimpleQueue()
        while True:
            while more and free and done.empty():
                place, image = next(waiting, (-1, None))
                more = place >= 0
                if image is not None:
                    lane = free.pop()
                    # Called on a thread of OpenVINO's.
                    self._lanes[lane].set_callback(done.put, (place, lane))
                    self._lanes[lane].start_async([image[None]], share_inputs=True)
            if len(free) == len(self._lanes):
                return
            place, lane = self._next_done(done, free)
            free.append(lane)
            # A copy, because the lane's next image overwrites the output.
            yield place, np.array(self._lanes[lane].get_output_tensor(0).data[0], np.float32)

    def _next_done(self, done: SimpleQueue[tuple[int, int]], free: Collection[int]) -> tuple[int, int]:
        """Waits for the next lane that is done. Raises the error of a lane that failed, for which OpenVINO
        calls nothing."""
        while True:
            try:
                place, lane = done.get(timeout=_LANE_CHECK_S)
            except Empty:
                for lane, request in enumerate(self._lanes):
                    if lane not in free and request.wait_for(0):
                        request.wait()
            else:
                self._lanes[lane].wait()
                return place, lane


def _compile(model: ov.Model, threads: int, streams: int, precision: ov.Type) -> ov.CompiledModel:
    settings: dict[Any, Any] = {
        # The default is bfloat16 where the processor has it, with maps that differ by 2 % to 5 %.
        hints.inference_precision: precision,
        # A thread that is pinned to a core has to wait for other processes on that core.
        hints.enable_cpu_pinning: False,
        props.inference_num_threads: threads,
        props.num_streams: streams,
    }
    return ov.Core().compile_model(model, "CPU", settings)
