"""Measures the difference between an exported model and this program: resized pixels, anomaly maps, scores.

    .venv/bin/python -m tests.benchmarks.exported --recipe DIR --images DIR

It exports the recipe's networks at several sizes, for ONNX Runtime and for OpenVINO in float32. Each model
gets frames of all sizes, with noise and with `--photographs` enlarged images. It writes only to a temporary
folder. The exit code is 1 if a difference is larger than promised.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import msgspec
import numpy as np
import onnxruntime
import openvino as ov
import openvino.properties.hint as hints
from numpy.typing import NDArray

from drivers import image_file
from drivers.image_file import Image
from monitor.images.preprocessing import SCALE, Size, prepare
from monitor.images.tiling import format_size
from monitor.inference.export import ONNX, SUFFIXES, export
from monitor.inference.onnx_preprocessing import IMAGE, build_preprocessing
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from tests.benchmarks.markdown import markdown

_SIZES: list[Size] = [(224, 224), (256, 256), (320, 512)]
_FRAMES: list[Size] = [(480, 640), (960, 1280), (1024, 1280), (1080, 1920), (2048, 2448)]
_PIXELS, _LEVELS, _MAPS, _SCORES = 4e-3, 1.01, 1e-2, 3e-3

Apart = NDArray[np.float64]
Run = Callable[[Image], list[NDArray[np.float32]]]


def on_onnxruntime(model: bytes | Path) -> Run:
    session = onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), providers=["CPUExecutionProvider"]
    )
    return lambda image: [np.asarray(found) for found in session.run(None, {IMAGE: image[None]})]


def on_openvino(model: bytes | Path) -> Run:
    core = ov.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {hints.inference_precision: ov.Type.f32})
    return lambda image: [np.array(found) for found in compiled({IMAGE: image[None]}).values()]


def frames(shape: Size, photographs: list[Path]) -> Iterator[Image]:
    yield np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for file in photographs:
        image = image_file.read(file)
        larger = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_CUBIC)
        yield np.asarray(larger if image.ndim == 3 else cv2.cvtColor(larger, cv2.COLOR_GRAY2BGR), np.uint8)


def sized(recipe: RecipeVersion, size: Size, folder: Path) -> RecipeVersion:
    """The recipe with another size, committed in `folder`. Its threshold is not valid there."""
    document = msgspec.structs.replace(recipe.document, name=folder.name, size=size, quantised=None)
    return replace(recipe, folder=folder, document=document, quantised=None).commit()


def apart(
    made: RecipeVersion, form: str, folder: Path, photographs: list[Path]
) -> Iterator[tuple[Size, Apart]]:
    """For each frame size: the share of pixels that differ, their largest difference in levels, and the
    largest difference of maps and scores relative to the map's maximum. Each is the largest of all images."""
    file = folder / f"model{SUFFIXES[form]}"
    export(made.folder, form=form, precision="f32", out=file, force=False, say=lambda line: None)
    on, runtime = (on_onnxruntime, "torch") if form == ONNX else (on_openvino, "openvino")
    resized, judged = on(build_preprocessing(*made.size).SerializeToString()), on(file)
    here = Scorer(made, device="cpu", runtime=runtime, precision="f32")
    for shape in _FRAMES:
        worst = np.zeros(4)
        for image in frames(shape, photographs):
            levels = np.abs(resized(image)[0][0] - prepare(image, made.size)) / SCALE[:, None, None]
            maps, scores = judged(image)
            expected = here.score([image])[0]
            of_map = np.abs(maps[0] - expected.anomaly_map).max() / expected.score
            of_score = abs(scores[0] / expected.score - 1)
            worst = np.maximum(worst, [(levels > 0.5).mean(), levels.max(), of_map, of_score])
        yield shape, worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True, metavar="DIR")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--photographs", type=int, default=4, metavar="N", help="evenly among the images (4)")
    options = parser.parse_args()
    found = image_file.find(options.images)
    photographs = found[:: max(1, len(found) // options.photographs)][: options.photographs]
    recipe = RecipeVersion.load(options.recipe)
    rows = [["network", "frame", "format", "pixels that differ", "levels", "maps apart", "scores apart"]]
    failed = False
    for size, form in product(_SIZES, SUFFIXES):
        with tempfile.TemporaryDirectory() as temporary:
            made = sized(recipe, size, Path(temporary) / "sized")
            for shape, worst in apart(made, form, Path(temporary), photographs):
                failed |= bool((worst > (_PIXELS, _LEVELS, _MAPS, _SCORES)).any())
                pixels, levels, maps, scores = worst
                rows.append([format_size(size), format_size(shape), form, f"{pixels:.2%}", f"{levels:.0f}"])
                rows[-1] += [f"{maps:.1e}", f"{scores:.1e}"]
    print(markdown(rows))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
