"""An exported model gives the same verdicts as the recipe, and no file is lost or half written."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import msgspec
import numpy as np
import openvino as ov
import openvino.properties.hint as hints
import pytest
from numpy.typing import NDArray

from drivers.image_file import Image
from monitor.cli import main
from monitor.images.preprocessing import resize_image
from monitor.inference import export as exporting
from monitor.inference.export import ExportError, export, metadata
from monitor.inference.scorer import Scorer
from monitor.model.recipe_json import REFERENCE, RecipeError, make_tiles
from monitor.model.recipe_version import RecipeVersion
from monitor.system import atomic_file
from monitor.teachers.architectures import BUNDLED
from tests.real.parts import part, random_recipe, save

onnx = pytest.importorskip("onnx", reason="exporting is an extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="only the tests of exported models need it")

SIZE = 64
WAYS = [("onnx", "f32"), ("openvino", "f32"), ("openvino", "int8")]
AGREEMENT = {"f32": 1e-2, "int8": 5e-2}
"""max |a - b| / max |b| of the maps, when a few pixels of the input differ by one grey level."""

Run = Callable[[Image], tuple[NDArray[np.float32], NDArray[np.float32]]]
ExportOnce = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def exported_once(made: RecipeVersion, tmp_path_factory: pytest.TempPathFactory) -> ExportOnce:
    """The file of the exported recipe by form and precision, alone in its folder. No test changes it."""

    @functools.cache
    def export_once(form: str, precision: str) -> Path:
        return exported(made.folder, tmp_path_factory.mktemp("out"), form=form, precision=precision)

    return export_once


@pytest.fixture(scope="module")
def run(exported_once: ExportOnce) -> Callable[[str, str], Run]:
    """Load the exported recipe with a runtime that does not use this program."""

    def loaded(form: str, precision: str) -> Run:
        file = exported_once(form, precision)
        if form == "onnx":
            session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            return lambda image: tuple(session.run(["anomaly_map", "score"], {"image": image[None]}))
        model = ov.Core().compile_model(str(file), "CPU", {hints.inference_precision: ov.Type.f32})

        def infer(image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            found = model({"image": image[None]})
            return found["anomaly_map"], found["score"]

        return infer

    return loaded


def exported(folder: Path, out: Path, **changes: Any) -> Path:
    wish: dict[str, Any] = {"form": "onnx", "precision": "f32", "force": False, "say": lambda line: None}
    return export(folder, out=out, **{**wish, **changes})


def frame(seed: int, rows: int, columns: int) -> Image:
    picture = cv2.resize(part(seed, side=200, defect=seed % 2 == 1), (columns, rows))
    noise = np.random.default_rng(seed).integers(-6, 7, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


@pytest.mark.parametrize(("form", "precision"), WAYS)
def test_it_judges_as_here(
    made: RecipeVersion, run: Callable[[str, str], Run], form: str, precision: str
) -> None:
    exported_model = run(form, precision)
    here = Scorer(made, device="cpu", runtime="torch" if form == "onnx" else form, precision=precision)
    verdicts = set()
    for shape in [(48, 64), (SIZE, SIZE), (300, 20), (480, 640), (1080, 1920), (2048, 2448)]:
        for seed in (1, 2):
            image = frame(seed, *shape)
            maps, scores = exported_model(image)
            # The line scores some int8 images again in float32; the exported model has only the int8 scores.
            (map_here,) = here.maps([resize_image(image, here.recipe.size)])
            assert (maps.shape, maps.dtype) == ((1, SIZE, SIZE), np.float32)
            assert (scores.shape, scores.dtype) == ((1,), np.float32)
            assert scores[0] == maps.max()
            assert np.abs(maps[0] - map_here).max() / map_here.max() <= AGREEMENT[precision], shape
            assert scores[0] == pytest.approx(map_here.max(), rel=1e-2)
            assert (scores[0] > here.threshold) == (map_here.max() > here.threshold)
            verdicts.add(bool(scores[0] > here.threshold))
    assert verdicts == {True, False}, "with one verdict alone, agreement proves little"


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_no_frame_s_score_depends_on_the_sizes_before_it(
    made: RecipeVersion, run: Callable[[str, str], Run], form: str
) -> None:
    exported_model = run(form, "f32")
    here = Scorer(made, device="cpu", runtime="torch" if form == "onnx" else form, precision="f32")
    before = 0.0
    for seed, halvings in enumerate([1, 2, 3, 1, 0, 2, 1, 3]):
        # After the halvings all frames have one size; the model must not return an earlier frame's result.
        image = frame(seed, 75 << halvings, 120 << halvings)
        expected = here.score([image])[0].score
        assert abs(expected / before - 1 if before else 1) > 0.05, "equal scores would hide a repeated result"
        assert exported_model(image)[1][0] == pytest.approx(expected, rel=1e-2), halvings
        before = expected


@pytest.mark.parametrize("architecture", ["efficientnet_b0", "mobilenet_v3_large"])
@pytest.mark.parametrize("form", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_every_kind_of_trunk_can_be_exported(tmp_path: Path, architecture: str, form: str) -> None:
    """The recipe of the tests above has a ResNet."""
    recipe = random_recipe(tmp_path / "r", architecture, size=96)
    file = exported(recipe.folder, tmp_path, form=form)
    image = part(3, side=200)
    if form == "onnx":
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (found,) = session.run(["anomaly_map"], {"image": image[None]})
    else:
        model = ov.Core().compile_model(str(file), "CPU", {hints.inference_precision: ov.Type.f32})
        found = model({"image": image[None]})["anomaly_map"]
    expected = Scorer(recipe, device="cpu", runtime="torch").score([image])[0].anomaly_map
    assert np.abs(found[0] - expected).max() / expected.max() <= 1e-3


def test_the_file_says_what_it_is_and_not_where_it_was_made(
    made: RecipeVersion, exported_once: ExportOnce
) -> None:
    file = exported_once("onnx", "f32")
    model = onnx.load(file)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries == metadata(made, "torch", "f32")
    assert entries["recipe"] == "disc"
    assert entries["recipe_sha256"] == made.sha
    assert float(entries["threshold"]) == made.document.calibration[REFERENCE].threshold
    assert entries["threshold_of"] == REFERENCE
    assert entries["size"] == f"{SIZE}x{SIZE}"
    assert entries["teacher"] == BUNDLED
    assert str(Path(exporting.__file__).parent).encode() not in file.read_bytes()
    assert [path.name for path in file.parent.iterdir()] == ["disc.onnx"], "all in one file"


@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_openvino_s_file_carries_the_threshold_of_its_way(
    made: RecipeVersion, exported_once: ExportOnce, precision: str
) -> None:
    file = exported_once("openvino", precision)
    model = ov.Core().read_model(file)
    entries = {name: entry.value for name, entry in model.get_rt_info()["line_monitor"].items()}
    assert entries == metadata(made, "openvino", precision)
    key = f"openvino-{precision}"
    assert entries["threshold_of"] == key
    assert float(entries["threshold"]) == made.document.calibration[key].threshold
    assert sorted(path.name for path in file.parent.iterdir()) == ["disc.bin", "disc.xml"]


def test_a_roi_is_told(made: RecipeVersion) -> None:
    cut = replace(made, document=msgspec.structs.replace(made.document, roi=(10, 20, 300, 200)))
    assert metadata(cut, "torch", "f32")["roi"] == "10,20,300,200"


def test_without_a_threshold_for_int8_nothing_is_exported(made: RecipeVersion) -> None:
    bare = made.with_calibration({REFERENCE: made.document.calibration[REFERENCE]})
    assert metadata(bare, "openvino", "f32")["threshold_of"] == REFERENCE
    with pytest.raises(RecipeError, match="no threshold for openvino-int8"):
        metadata(bare, "openvino", "int8")


def test_a_disk_that_refuses_leaves_the_old_model(
    made: RecipeVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = exported(made.folder, tmp_path, form="openvino")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    temporary_file, folders = atomic_file._temporary_file, []

    def full_at_the_second(
        folder: Path, mode: int | None, prefix: str
    ) -> contextlib.AbstractContextManager[tuple[BinaryIO, Path]]:
        folders.append(folder)
        if len(folders) == 2:
            raise OSError(28, "No space left on device")
        return temporary_file(folder, mode, prefix)

    monkeypatch.setattr(atomic_file, "_temporary_file", full_at_the_second)
    with pytest.raises(ExportError, match=f"{file} can't be written: No space left on device"):
        exported(made.folder, tmp_path, form="openvino", precision="int8", force=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_handbooks_example_runs_as_it_stands(
    exported_once: ExportOnce,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    section = (
        (Path(__file__).parents[3] / "deploy/README.md").read_text().split("## Run a recipe elsewhere\n")[1]
    )
    example = section.split("```python")[1].split("```")[0]
    shutil.copy(exported_once("onnx", "f32"), tmp_path / "bottle-top.onnx")
    monkeypatch.chdir(tmp_path)
    for image, verdict in ((part(100), "pass"), (part(101, defect=True), "reject")):
        save(tmp_path / "part.png", image)
        exec(compile(example, "deploy/README.md", "exec"), {})
        assert capsys.readouterr().out == f"{verdict}\n"


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A line in the working directory, with a recipe `disc` that has no int8 model."""
    random_recipe(tmp_path / "data/recipes/disc")
    (tmp_path / "line.toml").write_text('[line]\ndata = "data"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return ["--config", "line.toml", "export", "disc", *arguments]


def test_the_command_writes_here_and_replaces_nothing_unasked(
    line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form, names in (("onnx", ["disc.onnx"]), ("openvino", ["disc.xml", "disc.bin"])):
        for name in names:
            (line / name).write_text("something precious")
        if form == "openvino":
            (line / "disc.xml").unlink()  # the file of constants alone must not be replaced either
        assert main(command("--format", form)) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert f"{names[-1]} is there already" in said
        assert "--force" in said
        assert (line / names[-1]).read_text() == "something precious"
        assert main(command("--format", form, "--force")) == 0
        assert f"disc, {form} f32; reject when score > 0.5" in capsys.readouterr().out
        assert (line / names[-1]).stat().st_size > 1000
    (line / "disc.onnx").unlink()
    assert main(command("--format", "onnx")) == 0
    assert (line / "disc.onnx").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "onnx", "--precision", "int8"), "use --format openvino, or --precision f32"),
        (("--format", "openvino", "--precision", "int8"), "has no int8 model: train it again with --int8"),
        (("--format", "onnx", "-o", "disc.xml"), "must end in .onnx"),
        (("--format", "openvino", "-o", "disc.onnx"), "must end in .xml"),
        (("--format", "onnx", "-o", "/proc/no/disc.onnx"), "can't write to /proc/no"),
    ],
)
def test_what_can_not_be_exported_is_one_line_and_no_file(
    line: Path, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(line.iterdir())
    assert main(command(*arguments)) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert says in said
    assert sorted(line.iterdir()) == before


def test_a_recipe_that_is_not_there_is_one_line(line: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "line.toml", "export", "../disc", "--format", "onnx"]) == 1
    assert "can't be a recipe's name" in capsys.readouterr().err
    assert main(["--config", "line.toml", "export", "none", "--format", "onnx"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "no such file: train the recipe" in said


@pytest.mark.parametrize(
    ("form", "absent", "says"),
    [
        ("onnx", {"onnx", "onnxscript"}, "onnx and onnxscript are not installed"),
        ("onnx", {"onnxscript"}, "onnxscript is not installed"),
        ("openvino", {"openvino"}, "openvino is not installed"),
    ],
)
@pytest.mark.usefixtures("line")
def test_without_the_extra_it_is_one_line_with_the_fix(
    form: str,
    absent: set[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    assert main(command("--format", form)) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert says in said
    assert 'pip install "line-monitor[export]"' in said


def test_a_recipe_in_tiles_is_refused(tmp_path: Path) -> None:
    recipe = random_recipe(tmp_path / "r", size=128, tiles=make_tiles((64, 64)))
    with pytest.raises(ExportError, match="in tiles can't be one model"):
        exported(recipe.folder, tmp_path, form="onnx")
