"""Compares the time from one frame to one score with Anomalib's inferencers, in turns on the same frames.

    .venv/bin/python -m tests.benchmarks.speed_beside_anomalib --images DIR --anomalib-python PYTHON

`--images` are real images of good parts. Frames of 1920x1080 are made of them, and a recipe with a student
and a memory (`--compare` chooses another one) is trained on them for one epoch, because its accuracy does not
change the time. In bfloat16 and in 8 bits the time depends on the score: a clearly good part is one row, a
part that float32 scores again is another row. "auto" is what the measurement at the start of a line chooses.
Anomalib runs in its own environment with openvino and onnx; it is no dependency of this project. The exit
code is 1 if a limit is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from drivers import image_file
from monitor.inference.backend_choice import BackendWish, choose_backend
from monitor.inference.scorer import Scorer
from monitor.model.recipe_version import RecipeVersion
from monitor.system.processor import describe_processor, has_native_bf16, read_flags
from monitor.teachers.architectures import BUNDLED
from monitor.training.compare import Compare
from monitor.training.train_recipe import TrainingRequest, train_recipe
from tests.benchmarks.markdown import markdown

CHILD = Path(__file__).with_name("anomalib_speed_child.py")
_FRAMES, _SHAPE = 20, (1080, 1920)
_AUTO, _TWICE = "auto", ", looked at twice"
_OURS = ("torch-f32", "openvino-f32", "torch-bf16", "openvino-bf16", f"openvino-bf16{_TWICE}", _AUTO)
_INT8 = ("openvino-int8", f"openvino-int8{_TWICE}")
_THEIRS = {
    "torch": "Anomalib TorchInferencer",
    "openvino": "Anomalib OpenVINOInferencer, f32",
    "bf16": "Anomalib OpenVINOInferencer, as it comes",
}
_LIMITS = (
    (_AUTO, _THEIRS["torch"], 0.5),
    (_AUTO, _THEIRS["bf16"], 0.6 if "amx_bf16" in read_flags() else 0.75),
)


def frames_of(folder: Path) -> NDArray[np.uint8]:
    """Full-size frames (N, 1080, 1920, 3), one for each real image."""
    files = image_file.find(folder)
    picked = [files[i] for i in np.linspace(0, len(files) - 1, _FRAMES).astype(int)]
    frames = []
    for file in picked:
        image = image_file.read(file)
        colour = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        frames.append(cv2.resize(colour, _SHAPE[::-1], interpolation=cv2.INTER_CUBIC))
    return np.stack(frames).astype(np.uint8)


def our_way(recipe: RecipeVersion, name: str) -> Callable[[NDArray[np.uint8]], object]:
    """A scorer with a threshold far above every score; for second looks the threshold is far below."""
    runtime, _, precision = name.partition(",")[0].partition("-")
    if name == _AUTO:
        choice = choose_backend(recipe, BackendWish(device="cpu"), recipe.folder, keep=False)
        print(f"auto: {choice.runtime}-{choice.precision}: {choice.reason}")
        runtime, precision = choice.runtime, choice.precision
    threshold = 1e-6 if name.endswith(_TWICE) else 1e6
    found = recipe.document.calibration
    recipe = recipe.with_calibration(
        {key: msgspec.structs.replace(own, threshold=threshold) for key, own in found.items()}
    )
    scorer = Scorer(recipe, device="cpu", runtime=runtime, precision=precision)
    scorer.warm_up()
    return lambda frame: scorer.score([frame])


def timed(job: Callable[[NDArray[np.uint8]], object], frame: NDArray[np.uint8]) -> float:
    began = time.perf_counter()
    job(frame)
    return 1000 * (time.perf_counter() - began)


def table(times: Mapping[str, Sequence[float]]) -> str:
    middle = {name: float(np.median(own)) for name, own in times.items()}
    rows = [
        [name, f"{middle[name]:.1f}", f"{np.percentile(own, 10):.1f} to {np.percentile(own, 90):.1f}"]
        + [f"{middle[name] / middle[theirs]:.2f}" for theirs in _THEIRS.values()]
        for name, own in times.items()
    ]
    heads = ["", "ms a frame", "10th to 90th percentile", *(f"of {name}" for name in _THEIRS.values())]
    return markdown([heads, *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--anomalib-python", type=Path, required=True, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--compare", type=Compare, choices=list(Compare), default=Compare.BOTH)
    parser.add_argument("--int8", action="store_true", help="also in 8-bit integers")
    options = parser.parse_args()
    frames = frames_of(options.images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "frames.npy", frames)
        recipe = train_recipe(
            TrainingRequest(
                name="speed",
                recipes=folder / "recipes",
                images=options.images,
                teacher=BUNDLED,
                teacher_weights=None,
                teachers=folder,
                epochs=1,
                compare=options.compare,
                int8=options.int8,
                device="cpu",
            ),
            say=lambda line: None,
        )
        names = [name for name in _OURS if "bf16" not in name or has_native_bf16()]
        names += _INT8 if options.int8 else ()
        ours = {way: our_way(recipe, way) for way in names}
        times: dict[str, list[float]] = {way: [] for way in (*names, *_THEIRS.values())}
        child = subprocess.Popen(
            [options.anomalib_python.absolute(), CHILD, folder / "frames.npy"],
            stdin=subprocess.PIPE,
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin
        assert child.stdout
        if child.stdout.readline().strip() != "ready":
            print("Anomalib's side did not start", file=sys.stderr)
            return 1
        for _ in range(options.rounds):
            for number, frame in enumerate(frames):
                for way, job in ours.items():
                    times[way].append(timed(job, frame))
                for way, theirs in _THEIRS.items():
                    child.stdin.write(f"{way} {number}\n")
                    child.stdin.flush()
                    times[theirs].append(float(child.stdout.readline()))
        child.stdin.close()
        child.wait(30)
    print(f"{describe_processor()}, {torch.get_num_threads()} threads")
    print(table(times))
    missed = False
    for own, other, limit in _LIMITS:
        ratio = float(np.median(times[own]) / np.median(times[other]))
        missed |= ratio > limit
        print(f"{own}: {ratio:.2f} of {other}, at most {limit}: {'yes' if ratio <= limit else 'NO'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
