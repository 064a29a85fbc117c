"""The process that trains a recipe for the page, or counts what passes: `python -m` with this module.

It knows nothing of HTTP or of the job's file: it gets its start data on standard input and reports on a pipe.
It dies with the page's process, and a training that died goes on at its checkpoint when it is started again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from drivers.camera import CameraError
from monitor.errors import LineMonitorError
from monitor.line_state.worker_process import die_with, ignore_signals_of_the_line
from monitor.settings import Settings
from monitor.system import logs
from monitor.system.progress import TimeLeft
from monitor.teaching.background import work_in_background
from monitor.teaching.teaching_job import JobKind
from monitor.teaching.training_messages import (
    CommitReport,
    EndReport,
    LineReport,
    ProgressReport,
    Report,
    TrainingStart,
    encode_report,
)

if TYPE_CHECKING:
    from monitor.model.recipe_version import RecipeVersion

VIA = "page, teaching"
_REPORT_S = 0.5
"""Progress is reported at most this often."""

Send = Callable[[Report], None]


class ReportedProgress:
    """Passes the progress of a training on as reports, at most two a second and the last of each step."""

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._time_left = TimeLeft(clock)
        self._sent_at = clock() - _REPORT_S

    def update(self, task: str, done: float, total: int, note: str = "") -> None:
        left = self._time_left.text(task, done, total)
        if done < total and self._clock() - self._sent_at < _REPORT_S:
            return
        self._sent_at = self._clock()
        self._send(ProgressReport(step=task, done=done, total=total, time_left=left, note=note))

    def make_room(self) -> None:
        """Does nothing: each report stands alone."""


def main() -> None:
    """Does what the start data ask for."""
    ignore_signals_of_the_line()
    start = msgspec.json.decode(sys.stdin.buffer.read(), type=TrainingStart)
    die_with(start.parent)
    # Python's own way out: the record of changes states what was not done.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    logs.configure()
    work_in_background()
    with os.fdopen(start.report_to, "wb") as pipe:
        report_end(start, lambda report: _write(pipe, report))


def _write(pipe: BinaryIO, report: Report) -> None:
    pipe.write(encode_report(report))
    pipe.flush()


def report_end(start: TrainingStart, send: Send) -> None:
    """Trains or counts, and reports how it ended. Other exceptions than the expected ones end the process."""
    try:
        send(_count(start, send) if start.kind is JobKind.COUNT else _train(start, send))
    except (LineMonitorError, CameraError) as error:
        send(EndReport(message="; ".join(str(error).splitlines())))
    except (MemoryError, RuntimeError) as error:
        from monitor.system.out_of_memory import explain_memory_error

        fix = explain_memory_error(error, sized=False)
        if fix is None:
            raise
        send(EndReport(message=fix))


def _train(start: TrainingStart, send: Send) -> EndReport:
    """Trains and commits the version. Raises LineMonitorError."""
    _set_threads(start.threads)
    from monitor.model.recipe_json import REFERENCE
    from monitor.model.version_retention import remove_old_versions
    from monitor.teaching.recorded_training import record_training
    from monitor.teaching.teaching_request import make_teaching_request
    from monitor.training.oddest_images import read_oddest
    from monitor.training.train_recipe import train_recipe

    settings = Settings.model_validate(start.settings)
    oddest: list[tuple[str, float]] = []

    def say(line: str) -> None:
        if (found := read_oddest(line)) is not None:
            oddest.append(found)
        send(LineReport(text=line))

    @contextmanager
    def recording(draft: RecipeVersion) -> Iterator[None]:
        with postpone_termination():
            with record_training(settings, draft, start.who, VIA):
                yield
            send(CommitReport())

    made = train_recipe(
        make_teaching_request(settings, start.recipe, start.camera, start.compare, start.who),
        say=say,
        progress=ReportedProgress(send),
        recording=recording,
    )
    remove_old_versions(made.folder, settings.recipes.keep_versions)
    threshold = made.document.calibration[REFERENCE].threshold
    return EndReport(
        version=made.number,
        oddest=tuple(Path(file).name for file, _ in oddest),
        oddest_scores=tuple(score / threshold for _, score in oddest),
    )


def _count(start: TrainingStart, send: Send) -> EndReport:
    """Commits a version like the base that states how many known defects pass. Raises LineMonitorError."""
    _set_threads(start.threads)
    from monitor import paths
    from monitor.model.image_mark import known_marks
    from monitor.model.version_files import find_version
    from monitor.model.version_retention import remove_old_versions
    from monitor.model.version_summary import read_document
    from monitor.teaching.recorded_training import record_count
    from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder
    from monitor.training.calibrate_recipe import CalibrationRequest, calibrate_recipe
    from monitor.training.readable_images import file_mark

    settings = Settings.model_validate(start.settings)
    folder = TeachingFolder.of(settings, start.recipe)
    defects = folder.list_names(ImageKind.DEFECT)
    if start.base is None or not defects:
        raise TeachingError(f"there is no known defect for recipe {start.recipe}: collect some first")
    base = find_version(paths.recipe(settings, start.recipe), start.base)
    taught = known_marks(read_document(base))
    wrong = sum(file_mark(folder.find(ImageKind.DEFECT, name)) in taught for name in defects)
    if wrong:
        raise TeachingError(
            f"{wrong} of the known defects taught {base.name} as good parts: teach again without them"
        )

    @contextmanager
    def recording(before: RecipeVersion, after: RecipeVersion) -> Iterator[None]:
        with postpone_termination():
            with record_count(settings, before, after, start.who, VIA):
                yield
            send(CommitReport())

    made = calibrate_recipe(
        CalibrationRequest(
            recipe=base.file,
            defects=folder.place(ImageKind.DEFECT),
            device="cpu",
            who=start.who,
        ),
        say=lambda line: send(LineReport(text=line)),
        progress=ReportedProgress(send),
        approve=recording,
    )
    remove_old_versions(made.folder, settings.recipes.keep_versions)
    return EndReport(version=made.number)


@contextmanager
def postpone_termination() -> Iterator[None]:
    """SIGTERM during the block takes effect at its end, so that a version which is on disk is also recorded.

    A mask of blocked signals would not do: the kernel gives the signal to another thread, for which Python
    runs the handler in the main thread nevertheless.
    """
    came: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if came:
            signal.raise_signal(signal.SIGTERM)


def _set_threads(count: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


if __name__ == "__main__":
    main()
