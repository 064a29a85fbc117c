"""Export: a recipe as a model file that other programs run, from a camera's frame to a score.

Resize, colour order and normalisation are part of the model (`monitor.inference.onnx_preprocessing`). The
threshold, and the runtime and precision that it was computed for, are in the model's metadata. No file is
replaced without `force`. This module knows nothing of cameras or verdicts.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from monitor.errors import LineMonitorError
from monitor.images.tiling import format_size
from monitor.inference.anomaly_network import AnomalyNetwork, build_networks
from monitor.inference.backends import F32, INT8, OPENVINO, TORCH, calibration_of
from monitor.inference.second_look import quick_pass_limit
from monitor.model.recipe_json import REFERENCE
from monitor.model.recipe_version import RecipeVersion
from monitor.system.atomic_file import write_together

if TYPE_CHECKING:
    import onnx

ONNX = "onnx"
SUFFIXES = {ONNX: ".onnx", OPENVINO: ".xml"}
"""The suffix of the model's file, by format. OpenVINO has its constants in a second file, `.bin`."""

_PACKAGES = {ONNX: ("onnx", "onnxscript"), OPENVINO: ("onnx", "openvino")}
_MAP, _SCORE = "anomaly_map", "score"


class ExportError(LineMonitorError):
    """The export failed and changed no file. The message is one line with the fix."""


def export(
    folder: Path,
    *,
    form: str,
    precision: str,
    out: Path | None,
    force: bool,
    say: Callable[[str], None],
) -> Path:
    """Write the recipe in `folder` as a model and return the model's file.

    `out` is a file or a folder; without it the file is `<recipe>.onnx` or `<recipe>.xml` in the working
    directory. The model's input is `image`, uint8 (1, H, W, 3) BGR of any H and W; its outputs are
    `anomaly_map`, float32 (1, rows, columns), and `score`, float32 (1,). `form` is onnx or openvino;
    `precision` is f32 or int8 (OpenVINO only). `say` gets one line at a time for the user. Raises ExportError
    and RecipeError.
    """
    _check_request(form, precision)
    recipe = RecipeVersion.load(folder)
    if recipe.document.tiles is not None:
        raise ExportError(
            f"{recipe.folder}: a recipe in tiles can't be one model: train a recipe without --tile to export"
        )
    if precision == INT8 and recipe.quantised is None:
        raise ExportError(
            f"{recipe.folder}: the recipe has no int8 model: train it again with --int8 where OpenVINO and "
            'NNCF are (pip install "line-monitor[openvino]"), or use --precision f32'
        )
    about = metadata(recipe, TORCH if form == ONNX else OPENVINO, precision)
    file = _output_file(out, recipe.name, SUFFIXES[form])
    _check_writable(file, force=force)
    if form == ONNX:
        contents = {file: _build_onnx(recipe, about)}
    else:
        graph, constants = _build_openvino(recipe, precision, about)
        contents = {file.with_suffix(".bin"): constants, file: graph}
    try:
        write_together(contents)
    except OSError as error:
        raise ExportError(f"{file} can't be written: {error.strerror or error}") from None
    say(f"{file}: {recipe.name}, {form} {precision}; reject when score > {about['threshold']}")
    if "clearly_below" in about:
        say(f"score images above {about['clearly_below']} again with the float32 model, as the line does")
    if recipe.roi:
        say(f"crop each frame to the recipe's roi first: x, y, width, height = {about['roi']}")
    return file


def metadata(recipe: RecipeVersion, runtime: str, precision: str) -> dict[str, str]:
    """The metadata of the model for a runtime and precision, by key. Raises RecipeError."""
    calibration = calibration_of(recipe, runtime, precision)
    key = f"{runtime}-{precision}"
    about = {
        "recipe": recipe.name,
        "recipe_sha256": recipe.sha,
        "threshold": repr(calibration.threshold),
        "threshold_of": key if key in recipe.document.calibration else REFERENCE,
        "teacher": recipe.document.teacher.name,
        "size": format_size(recipe.size),
        "line_monitor": version("line-monitor"),
    }
    if precision == INT8 and recipe.document.quantised is not None:
        about["clearly_below"] = repr(
            quick_pass_limit(recipe.document.quantised.pairs, calibration.threshold)
        )
    memory = recipe.document.memory
    if memory is not None and memory.teacher is not None:
        about["memory_teacher"] = memory.teacher.name
    if recipe.roi:
        about["roi"] = ",".join(map(str, recipe.roi))
    return about


class _ScoreModule(nn.Module):
    """A recipe's networks as one module from normalised images (N, 3, H, W) to anomaly maps and scores."""

    def __init__(self, network: AnomalyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.network(images)
        return maps, maps.amax(dim=(1, 2))


def _build_onnx(recipe: RecipeVersion, about: Mapping[str, str]) -> bytes:
    import onnx.compose
    import onnx.helper

    from monitor.inference.onnx_preprocessing import OPSET, PREPARED, build_preprocessing

    rows, columns = recipe.size
    network = AnomalyNetwork(build_networks(recipe).folded())
    module = _ScoreModule(network).eval().requires_grad_(False)
    program = torch.onnx.export(
        module,
        (torch.zeros(1, 3, rows, columns),),
        dynamo=True,
        opset_version=OPSET,
        input_names=[PREPARED],
        output_names=[_MAP, _SCORE],
        verbose=False,
    )
    assert program is not None
    network = program.model_proto
    _remove_source_paths(network.graph)
    # A prefix keeps torch's names apart from the preprocessing's.
    network = onnx.compose.add_prefix(network, "pair/", rename_inputs=False, rename_outputs=False)
    preprocessing = build_preprocessing(rows, columns)
    preprocessing.ir_version = network.ir_version
    model = onnx.compose.merge_models(
        preprocessing, network, [(PREPARED, PREPARED)], name=recipe.name, producer_name="line-monitor"
    )
    model.producer_version = about["line_monitor"]
    onnx.helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _remove_source_paths(graph: onnx.GraphProto) -> None:
    """Remove the paths of this machine's Python files, which torch adds to each operation."""
    graph.ClearField("metadata_props")
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _build_openvino(recipe: RecipeVersion, precision: str, about: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The model's graph (XML) and its constants."""
    import openvino as ov
    from openvino import opset13 as ops

    from monitor.inference.onnx_preprocessing import IMAGE, build_preprocessing
    from monitor.inference.openvino_network import build_model, to_arrays

    rows, columns = recipe.size
    preprocessing = ov.Core().read_model(build_preprocessing(rows, columns).SerializeToString())
    network = build_model(recipe, precision)
    prepared = preprocessing.get_results()[0].input_value(0)
    for network_input in network.get_parameters()[0].output(0).get_target_inputs():
        network_input.replace_source_output(prepared)
    maps = network.get_results()[0].input_value(0)
    scores = ops.reduce_max(maps, [1, 2], keep_dims=False)
    model = ov.Model([ops.result(maps), ops.result(scores)], preprocessing.get_parameters(), recipe.name)
    model.input(0).get_tensor().set_names({IMAGE})
    model.output(0).get_tensor().set_names({_MAP})
    model.output(1).get_tensor().set_names({_SCORE})
    model.validate_nodes_and_infer_types()
    for name, value in about.items():
        model.set_rt_info(value, ["line_monitor", name])
    weights = to_arrays(model)
    return weights["graph"].tobytes(), weights["constants"].tobytes()


def _check_request(form: str, precision: str) -> None:
    if form == ONNX and precision != F32:
        raise ExportError(
            f"the recipe's {precision} model is OpenVINO's: use --format openvino, or --precision f32"
        )
    missing = [name for name in _PACKAGES[form] if importlib.util.find_spec(name) is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise ExportError(
            f"--format {form}: {' and '.join(missing)} {are} not installed: "
            'pip install "line-monitor[export]"'
        )


def _output_file(out: Path | None, name: str, suffix: str) -> Path:
    path = Path() if out is None else out
    if path.is_dir():
        return path / f"{name}{suffix}"
    if path.suffix != suffix:
        raise ExportError(f"{path}: the file's name must end in {suffix}")
    return path


def _check_writable(file: Path, *, force: bool) -> None:
    """Check before the long work that the model's files can be written. Raises ExportError."""
    files = {file, file.with_suffix(".bin")} if file.suffix == SUFFIXES[OPENVINO] else {file}
    for existing in files:
        if existing.exists() and not force:
            raise ExportError(f"{existing} is there already: use another name, or --force to replace it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise ExportError(f"can't write to {file.parent}: {error.strerror or error}") from None
