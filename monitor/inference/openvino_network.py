"""Teacher and student on Intel's OpenVINO, which runs them faster on a CPU than torch does.

Imported only where OpenVINO is wanted: it is an extra. Goes to its PyTorch frontend directly, because
`openvino.convert_model` reports to its makers over the network, and takes eight times as long.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from monitor.model.weights import Weights
from monitor.pyramid import anomaly_map, upsampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from monitor.pyramid import Features


class Pair(nn.Module):
    """Teacher and student as one module from normalised images to anomaly maps."""

    def __init__(
        self, teacher: Callable[[Tensor], Features], student: Callable[[Tensor], Features], size: Size
    ) -> None:
        super().__init__()
        self.teacher, self.student, self._size = teacher, student, size

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, *size) float32 to (N, *size) float32."""
        product = anomaly_map(self.teacher(images), self.student(images))
        return upsampled(product, self._size)


def converted(teacher: nn.Module, student: nn.Module, size: Size) -> ov.Model:
    """The pair as a model of OpenVINO, float32, for one image of that size at a time.

    `teacher` and `student` are trunks in eval mode, their batch normalisation folded.
    """
    pair = Pair(teacher, student, size).eval().requires_grad_(False)
    return from_torch(pair, torch.zeros(1, 3, *size))


def from_torch(module: nn.Module, example: Tensor) -> ov.Model:
    """A module in eval mode as a model of OpenVINO, float32, for inputs of the example's shape."""
    # Scripting a network is not possible in general, and exporting one takes ten times as long as tracing.
    with torch.inference_mode(), warnings.catch_warnings():
        # That tracing will go some day, and that the check of the levels' shapes is traced as passed.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # the frontend does not keep it alive
    model: ov.Model = frontend.convert(frontend.load(decoder))
    model.reshape(ov.PartialShape(list(example.shape)))
    model.validate_nodes_and_infer_types()
    _name(model)
    return model


def _name(model: ov.Model) -> None:
    """By places: the names that operations have count what this process made before."""
    model.set_friendly_name("pair")
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")


def kept(model: ov.Model) -> dict[str, NDArray[np.uint8]]:
    """The model as bytes that a recipe keeps: its graph (XML) and its constants."""
    _name(model)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        ov.save_model(model, file, compress_to_fp16=False)
        return {
            name: np.frombuffer(file.with_suffix(suffix).read_bytes(), np.uint8)
            for name, suffix in (("graph", ".xml"), ("constants", ".bin"))
        }


def restored(weights: Weights, size: Size) -> ov.Model:
    """The model that `kept` made these of. Raises ValueError when they are no model for that size."""
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
    """A model of `converted`'s kind, ready to run on this machine's CPU.

    One image is computed by all threads together. Of several, `abreast` at a time are computed side by side,
    each by its share of the threads: they don't wait for each other at every layer, which costs most where
    other processes want the same cores.
    """

    def __init__(self, model: ov.Model, threads: int, abreast: int = 1) -> None:
        self._alone = _compiled(model, threads, 1).create_infer_request()
        self._abreast: list[ov.InferRequest] = []
        if 1 < abreast <= threads:
            side_by_side = _compiled(model, threads, abreast)
            self._abreast = [side_by_side.create_infer_request() for _ in range(abreast)]

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float32, normalised, to anomaly maps (N, H, W) float32.

        Each by itself: no score depends on its image's company.
        """
        waiting = [image[None] for image in images.contiguous().numpy()]
        maps: list[NDArray[np.float32]] = []
        while len(waiting) > 1 and self._abreast:
            count = len(self._abreast)
            now, waiting = waiting[:count], waiting[count:]
            running = list(zip(self._abreast, now, strict=False))
            for request, image in running:
                request.start_async([image], share_inputs=True)
            for request, _ in running:
                request.wait()
                # Its memory is the next image's.
                maps.append(np.array(request.get_output_tensor(0).data, np.float32))
        for image in waiting:
            found = self._alone.infer([image], share_inputs=True, share_outputs=False)[0]
            maps.append(np.asarray(found, np.float32))
        return torch.from_numpy(np.concatenate(maps))


def _compiled(model: ov.Model, threads: int, streams: int) -> ov.CompiledModel:
    settings: dict[Any, Any] = {
        # Without this it computes in bfloat16 where the processor can: 2 % off.
        hints.inference_precision: ov.Type.f32,
        # A thread that is pinned to a core waits there behind whatever else runs on it.
        hints.enable_cpu_pinning: False,
        props.inference_num_threads: threads,
        props.num_streams: streams,
    }
    return ov.Core().compile_model(model, "CPU", settings)
