"""The exported preprocessing gives the same network input as this program, for every frame size."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import openvino as ov
import openvino.properties.hint as hints
import pytest
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.images.preprocessing import DEVIATION, normalise_image, prepare
from monitor.model.recipe_json import MIN_SIDE
from tests.real.parts import part

onnx = pytest.importorskip("onnx", reason="exporting is an extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="only the tests of exported models need it")

from monitor.inference.onnx_preprocessing import IMAGE, PREPARED, build_preprocessing  # noqa: E402

SIZE = 64
LEVEL = 1 / (255 * min(DEVIATION))
"""The largest change of the network's input for one grey level."""

Prepared = Callable[[Image], NDArray[np.float32]]


def on_onnxruntime(model: bytes) -> Prepared:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda image: session.run([PREPARED], {IMAGE: image[None]})[0][0]


def on_openvino(model: bytes) -> Prepared:
    core = ov.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {hints.inference_precision: ov.Type.f32})
    return lambda image: compiled({IMAGE: image[None]})[0][0]


@pytest.fixture(scope="module", params=[on_onnxruntime, on_openvino])
def prepared(request: pytest.FixtureRequest) -> Prepared:
    made: Prepared = request.param(build_preprocessing(SIZE, SIZE).SerializeToString())
    return made


def frame(rows: int, columns: int) -> Image:
    """An image of a part with noise in every pixel, which no resize smooths away."""
    picture = cv2.resize(part(1, side=200, defect=True), (columns, rows))
    noise = np.random.default_rng(rows * columns).integers(-20, 21, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


@pytest.mark.parametrize(
    "shape",
    [
        (SIZE, SIZE),
        (2 * SIZE, 2 * SIZE),  # OpenCV rounds halves up for this factor and to even for others
        (3 * SIZE, 2 * SIZE),
        (4 * SIZE, 4 * SIZE),
        (16 * SIZE + 2, 9 * SIZE),
        (8 * SIZE, 10 * SIZE + 1),  # large enough for a halving, but with an odd side
        (480, 640),
        (1080, 1920),
        (2048, 2448),
        (48, 64),
        (20, 30),
        (37, 41),
        (63, 65),
        (600, 20),
        (20, 600),
        (1, 20),
        (1, 1),
    ],
)
def test_every_size_is_resized_as_here(prepared: Prepared, shape: tuple[int, int]) -> None:
    image = frame(*shape)
    apart = np.abs(prepared(image) - prepare(image, (SIZE, SIZE)))
    assert apart.max() <= 1.01 * LEVEL
    # The sums are added in another order: a mean halfway between two grey levels may round to the other.
    assert (apart > 1e-5).mean() <= 2e-3


@pytest.mark.parametrize("least", [(SIZE, SIZE), (SIZE + 3, SIZE)])
def test_each_frame_is_resized_as_if_it_were_the_first(prepared: Prepared, least: tuple[int, int]) -> None:
    # After the halvings all frames have one size; a runtime must not return an earlier frame's result.
    for turn, halvings in enumerate([1, 2, 3, 1, 0, 2, 0, 3]):
        image = np.roll(frame(least[0] << halvings, least[1] << halvings), turn, axis=1)
        apart = np.abs(prepared(image) - prepare(image, (SIZE, SIZE)))
        assert apart.max() <= 1.01 * LEVEL, halvings
        assert (apart > 1e-5).mean() <= 2e-3, halvings


@pytest.mark.parametrize("runtime", [on_onnxruntime, on_openvino])
@pytest.mark.parametrize("size", [(224, 224), (320, 512)])
def test_a_mean_between_two_levels_is_rounded_as_here(
    runtime: Callable[[bytes], Prepared], size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1024, 1280, 3), np.uint8)
    apart = np.abs(runtime(build_preprocessing(*size).SerializeToString())(image) - prepare(image, size))
    assert apart.max() <= 1.01 * LEVEL
    # One mean in 25 is halfway between two levels. Where OpenCV's sum is wrong in its last bit, OpenCV
    # rounds to the other level.
    assert (apart > 1e-5).mean() <= 4e-3


def test_a_frame_of_twenty_megapixels_is_halved_seven_times_for_the_smallest_network() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (36 << 4, 40 << 4, 3), np.uint8)
    image = np.tile(noise, (8, 8, 1))
    run = on_onnxruntime(build_preprocessing(MIN_SIDE, MIN_SIDE).SerializeToString())
    apart = np.abs(run(image) - prepare(image, (MIN_SIDE, MIN_SIDE)))
    assert apart.max() <= 1.01 * LEVEL
    assert (apart > 1e-5).mean() <= 4e-3


def test_colours_are_not_exchanged(prepared: Prepared) -> None:
    blue = np.full((90, 70, 3), (255, 0, 0), np.uint8)
    assert np.allclose(prepared(blue), prepare(blue, (SIZE, SIZE)), atol=1e-5)


def test_the_network_s_input_need_not_be_square() -> None:
    model = build_preprocessing(32, 96)
    onnx.checker.check_model(model, full_check=True)
    run = on_onnxruntime(model.SerializeToString())
    same, twice = frame(32, 96), frame(64, 192)
    assert np.allclose(run(same), normalise_image(same), atol=1e-5)
    smaller = cv2.resize(twice, (96, 32), interpolation=cv2.INTER_AREA)
    assert np.allclose(run(twice), normalise_image(np.asarray(smaller, np.uint8)), atol=1e-5)
