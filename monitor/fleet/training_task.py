"""One training of `fleet train`, as it runs in a process of its own on a node of the cluster.

It knows nothing of Ray or of other recipes. It gives the recipe that `line-monitor train` gives alone with
the same arguments and the same number of threads, since it runs the same code after the same preparations. A
training that was interrupted goes on at its checkpoint; a recipe that is taught already is left as it is.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from drivers.camera import CameraError
from monitor.errors import LineMonitorError
from monitor.fleet.fleet_error import FleetError
from monitor.fleet.training_record import (
    FOLDER,
    TrainingRecord,
    TrainingResult,
    TrainingState,
    hold_lock,
    is_taught,
    make_fingerprint,
    read_record,
    record_file,
    trained_document,
    training_utc,
    write_record,
)
from monitor.model.recipe_json import REFERENCE
from monitor.system.progress import TimeLeft
from monitor.training.checkpoint import FILE as CHECKPOINT
from monitor.training.checkpoint import RESUMED, checkpoint_folder
from monitor.verdict import rfc3339_seconds

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from monitor.model.recipe_version import RecipeVersion
    from monitor.training.training_request import TrainingRequest

_PROGRAMS = ("line-monitor", "torch", "torchvision", "numpy", "opencv-python", "openvino", "nncf")
_TEACHING = ("train", "memory")
"""The stages in which a recipe is taught; those before them only read images."""
_REPORT_S = 0.5
"""Progress is reported at most this often."""


@dataclass(frozen=True)
class TrainingTask:
    """What a node needs to teach one recipe."""

    recipe: str
    arguments: tuple[str, ...]
    """The arguments of `line-monitor train`."""
    files: tuple[Path, ...]
    """The files and folders that it reads."""
    cpus: int
    data: Path
    """`line.data`, which every node must see under this path."""
    make_request: Callable[[], TrainingRequest]
    """Makes the request of these arguments, on the node."""
    recording: Callable[[RecipeVersion], AbstractContextManager[object]]
    """Records that the recipe was taught, around its commit."""

    @property
    def folder(self) -> Path:
        """The recipe's folder."""
        return self.data / "recipes" / self.recipe

    @property
    def records(self) -> Path:
        """The folder of the records."""
        return self.data / FOLDER


@dataclass(frozen=True)
class TrainingReport:
    """How far one training is."""

    recipe: str
    node: str
    stage: str
    """What it does: `train`, `read`, `calibrate`."""
    done: float = 0.0
    total: int = 0
    time_left: str = ""
    resumed_at: int | None = None


SendReport = Callable[[TrainingReport], None]


class ReportedProgress:
    """Passes the progress of a training on as reports, at most two a second, and notes how it began."""

    def __init__(
        self,
        recipe: str,
        node: str,
        send: SendReport,
        on_begin: Callable[[int | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_begin` is called once, before the first step, with the epoch at which a training is resumed, or
        None."""
        self._recipe, self._node, self._send, self._clock = recipe, node, send, clock
        self._on_begin = on_begin
        self._time_left = TimeLeft(clock)
        self._sent_at: float | None = None
        self._sent_stage = ""
        self._resumed_at: int | None = None
        self._has_begun = False

    def note_line(self, line: str) -> None:
        """Takes a line for the user; the one about a resumption names the epoch."""
        if line.startswith(RESUMED):
            self._resumed_at = int(line.removeprefix(RESUMED))

    def update(self, task: str, done: float, total: int, note: str = "") -> None:
        if task in _TEACHING and not self._has_begun:
            self._has_begun = True
            self._on_begin(self._resumed_at)
        left = self._time_left.text(task, done, total)
        now = self._clock()
        is_soon = self._sent_at is not None and now - self._sent_at < _REPORT_S
        if is_soon and task == self._sent_stage and done < total:
            return
        self._sent_at, self._sent_stage = now, task
        self._send(TrainingReport(self._recipe, self._node, task, done, total, left, self._resumed_at))

    def make_room(self) -> None:
        """Does nothing: each report stands alone."""


def run_task(task: TrainingTask, node: str, send: SendReport) -> TrainingResult:
    """Teaches the recipe. An expected failure is a result too, since another try would fail in the same
    way."""
    try:
        with hold_lock(task.records, task.recipe):
            return _teach(task, node, send)
    except (LineMonitorError, CameraError) as error:
        message = "; ".join(str(error).splitlines())
    except (MemoryError, RuntimeError) as error:
        from monitor.system.out_of_memory import explain_memory_error

        fix = explain_memory_error(error, sized=True)
        if fix is None:
            raise
        message = fix
    return TrainingResult(recipe=task.recipe, state=TrainingState.FAILED, message=message, node=node)


def find_unchanged(task: TrainingTask) -> TrainingResult | None:
    """The result of an earlier training of the same images and settings; None where there is none."""
    record = read_record(record_file(task.records, task.recipe))
    if record is None or record.result is None or not _is_taught(task, record, _fingerprint(task)):
        return None
    return msgspec.structs.replace(record.result, state=TrainingState.UNCHANGED)


def _is_taught(task: TrainingTask, record: TrainingRecord, fingerprint: str) -> bool:
    checkpoint = checkpoint_folder(task.folder.parent, task.recipe) / CHECKPOINT
    utc = training_utc(task.folder)
    return is_taught(record, fingerprint, utc, has_checkpoint=checkpoint.exists())


def _fingerprint(task: TrainingTask) -> str:
    return make_fingerprint((*task.arguments, f"cpus={task.cpus}"), _versions(), task.files)


def _teach(task: TrainingTask, node: str, send: SendReport) -> TrainingResult:
    file = record_file(task.records, task.recipe)
    record = read_record(file)
    fingerprint = _fingerprint(task)
    if record is not None and _is_taught(task, record, fingerprint):
        # A process that died after the commit has left no result.
        result = record.result or _read_result(task, node, record, None)
        write_record(file, msgspec.structs.replace(record, result=result))
        return msgspec.structs.replace(result, state=TrainingState.UNCHANGED)
    if record is None or record.result is not None or record.fingerprint != fingerprint:
        record = TrainingRecord(fingerprint=fingerprint, utc_before=training_utc(task.folder))
        write_record(file, record)
    record, seconds = _train(task, node, send, file, record)
    result = _read_result(task, node, record, seconds)
    write_record(file, msgspec.structs.replace(record, result=result))
    return result


def _train(
    task: TrainingTask, node: str, send: SendReport, file: Path, record: TrainingRecord
) -> tuple[TrainingRecord, float]:
    """Trains as the command does. Returns the record with this start, and the seconds that it took."""
    send(TrainingReport(task.recipe, node, "start"))
    _set_threads(task.cpus)
    from monitor.training.train_recipe import train_recipe

    records = [record]

    def count_start(resumed_at: int | None) -> None:
        last = records[-1]
        if resumed_at is None:
            next_record = msgspec.structs.replace(last, node=node, starts=last.starts + 1)
        else:
            resumed = (*last.resumed_at, resumed_at)
            next_record = msgspec.structs.replace(last, node=node, resumed_at=resumed)
        write_record(file, next_record)
        records.append(next_record)

    progress = ReportedProgress(task.recipe, node, send, count_start)
    log = task.records / f"{task.recipe}.log"
    began = time.monotonic()
    with log.open("a", encoding="utf-8", errors="backslashreplace") as lines:

        def say(line: str) -> None:
            progress.note_line(line)
            lines.write(f"{rfc3339_seconds(datetime.now(UTC))} {node} {line}\n")
            lines.flush()

        train_recipe(task.make_request(), say=say, progress=progress, recording=task.recording)
    return records[-1], time.monotonic() - began


def _set_threads(count: int) -> None:
    """As many threads as `train` has with OMP_NUM_THREADS: their number decides the last bits of sums."""
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def _read_result(
    task: TrainingTask, node: str, record: TrainingRecord, seconds: float | None
) -> TrainingResult:
    """The result as the committed recipe says it. Raises FleetError."""
    found = trained_document(task.folder)
    if found is None:
        raise FleetError(f"{task.recipe!r} was taught, but its recipe.json can't be read on {node}")
    document, training, sha = found
    own = document.calibration[REFERENCE]
    return TrainingResult(
        recipe=task.recipe,
        state=TrainingState.TRAINED,
        recipe_sha=sha,
        threshold=own.threshold,
        guarantee=own.guarantee,
        statement=document.statement,
        images=training.images,
        epochs=training.epochs,
        best_epoch=training.best_epoch,
        seed=training.seed,
        seconds=None if seconds is None else round(seconds, 1),
        node=node,
        starts=record.starts,
        resumed_at=record.resumed_at,
        utc=training.utc,
    )


def _versions() -> dict[str, str]:
    """The versions of the programs that decide a result."""
    found = {"python": platform.python_version()}
    for name in _PROGRAMS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
