"""What every test may use."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# As the command line sets them, and before torch is loaded: threads that spin while they wait slow every
# process beside them, and MKL's sums in an order of their own make another student of the same seed.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("MKL_CBWR", "AUTO")

import torch

from monitor.line_state.ring import Ring
from monitor.model.recipe_version import RecipeVersion
from monitor.teachers.architectures import BUNDLED
from monitor.training.train_recipe import TrainingRequest, train_recipe
from tests.real import bundle, parts_folder
from tests.real.line import settings_text
from tests.real.machine import MachineError
from tests.real.mosquitto import Mosquitto
from tests.real.parts import good_parts
from tests.real.service import Service, running
from tests.real.shared_line import SharedLine

TESTS = Path(__file__).parent
PROGRAMS = ("integration", "faults")
"""The folders of tests that start the line's processes and other programs, and mostly wait for them."""


@pytest.fixture(autouse=True)
def usual_log_level() -> None:
    """Python's usual level at the start of every test: an earlier test may have changed it."""
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache folder for all tests, away from the user's: a recipe's fastest backend is measured once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(_common(tmp_path_factory) / "cache"))
        yield


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads of torch in this process and in the programs that it starts, as on a line PC."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process works as on a machine without OpenVINO and bfloat16, with torch alone.

    For tests that prove the same with either: to compile a model for OpenVINO, or to make the pairs for first
    looks in bfloat16, takes most of their time.
    """
    monkeypatch.setattr("monitor.inference.backends.has_openvino", lambda: False)
    monkeypatch.setattr("monitor.training.first_look.has_native_bf16", lambda: False)


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    """An empty ring of one camera called `top`."""
    session = uuid.uuid4()
    Ring.create(tmp_path, "top", session)
    opened = Ring(tmp_path, "top", session)
    yield opened
    opened.close()


# First: pytest chooses by the markers that are set here.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests of whole programs and those of systemd, by which `deploy/test.sh` makes its groups.

    Tests that take long are skipped unless their file, or a folder below `tests`, is named.
    """
    here = config.invocation_params.dir
    named = [here / str(argument).split("::")[0] for argument in config.invocation_params.args]
    below = [place.resolve() for place in named if place.exists() and TESTS in place.resolve().parents]
    for item in items:
        if any(item.path.is_relative_to(TESTS / folder) for folder in PROGRAMS):
            item.add_marker("integration")
        fixtures = getattr(item, "fixturenames", ())
        if "installed" in fixtures:
            item.add_marker("systemd")
        if "shared_line" in fixtures:
            item.add_marker(pytest.mark.xdist_group("shared line"))
        if item.get_closest_marker("slow") and not any(item.path.is_relative_to(place) for place in below):
            item.add_marker(pytest.mark.skip(reason="slow: run by name"))


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills, once for all processes that run tests side by side.

    `deploy/test.sh` names a folder in TESTS_SHARED, so that its groups share it too.
    """
    common = _common(factory)
    folder = common / name
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            # A process that failed to make it has left a part of it.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "whole").touch()
    return folder


def _common(factory: pytest.TempPathFactory) -> Path:
    """The folder that all processes of a test run share."""
    if given := os.environ.get("TESTS_SHARED"):
        return Path(given)
    common = factory.getbasetemp()
    return common.parent if "PYTEST_XDIST_WORKER" in os.environ else common


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a recipe that tells known good from bad parts."""
    data = shared(
        tmp_path_factory, "trained", lambda folder: parts_folder.train(folder / "recipes", folder / "good")
    )
    return data / "recipes/plate"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> RecipeVersion:
    """A recipe of grey discs at 64 pixels, with a model in 8-bit integers."""

    def make(folder: Path) -> None:
        train_recipe(
            TrainingRequest(
                name="disc",
                recipes=folder / "recipes",
                images=good_parts(folder / "good", 52),
                teacher=BUNDLED,
                teacher_weights=None,
                teachers=folder,
                size=64,
                epochs=10,
                # The threshold is an estimate above all good parts: frames with more noise pass too.
                extrapolate=True,
                int8=True,
                device="cpu",
            ),
            say=lambda line: None,
        )

    return RecipeVersion.load(shared(tmp_path_factory, "made", make) / "recipes/disc")


@pytest.fixture(scope="session")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an engineer carries to a line PC: a folder that `deploy/bundle.sh` made."""
    place = shared(tmp_path_factory, "bundle", lambda folder: bundle.make(folder / "carried"))
    return place / "carried"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, trained: Path, carried: Path) -> Iterator[Service]:
    """The service under a real systemd. Tests leave it running, but for the one that removes it at last."""
    try:
        with running(tmp_path_factory.mktemp("machine") / "of-its-own", trained, carried) as service:
            yield service
    except MachineError as error:
        pytest.skip(str(error))


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto() as running:
        yield running


@pytest.fixture(scope="session")
def standing_line(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[SharedLine]:
    """The line of `shared_line`, in whatever state the last test has left it."""
    folder = tmp_path_factory.mktemp("shared-line")
    shutil.copytree(trained, folder / "data/recipes/plate")
    with SharedLine(folder) as line:
        yield line


@pytest.fixture
def shared_line(standing_line: SharedLine) -> SharedLine:
    """A running line that is ready, with the recipe `plate` in force: one for all tests that ask for it."""
    standing_line.recover()
    return standing_line


@pytest.fixture
def write_config(tmp_path: Path, trained: Path, broker: Mosquitto) -> Callable[..., Path]:
    """Writes a settings file with the given cameras (TOML) and the trained recipe in its data folder."""

    def write(cameras: str, mqtt: str = "", more: str = "") -> Path:
        shutil.copytree(trained, tmp_path / "data/recipes/plate", dirs_exist_ok=True)
        config = tmp_path / "line.toml"
        config.write_text(settings_text(cameras, broker.port, mqtt, more))
        return config

    return write
