"""Runs teachings and counts: starts their process, follows its reports, cancels it, takes it up again.

It knows nothing of how a recipe is trained. One job works at a time on a line: a lock in the folder of all
teachings keeps a second page's process away. The job's file is written before the process starts and after
it has ended, so a job that was interrupted together with the page is found by the next page.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from monitor import paths
from monitor.errors import LineMonitorError
from monitor.line_state.worker_process import settings_for
from monitor.model.version_files import find_newest
from monitor.service.child_process import give_start_data, start_process
from monitor.settings import Settings
from monitor.teaching.background import count_threads
from monitor.teaching.teaching_folder import ImageKind, TeachingError, TeachingFolder
from monitor.teaching.teaching_job import (
    MOST_STARTS,
    Job,
    JobKind,
    JobState,
    find_running,
    read_job,
    write_job,
)
from monitor.teaching.training_messages import (
    CommitReport,
    EndReport,
    LineReport,
    ProgressReport,
    TrainingStart,
    decode_report,
)
from monitor.training.checkpoint import RESUMED
from monitor.training.compare import Compare
from monitor.verdict import rfc3339

MODULE = "monitor.teaching.training_process"
_LOCK = ".lock"
_LINES = 40
_CANCEL_S = 10.0
"""Seconds that a cancelled process has to end by itself."""
_STOP_S = 1.0
"""Seconds that a stop of the page waits for the process; it dies with the page."""


class StartProcess(Protocol):
    """`monitor.service.child_process.start_process`."""

    def __call__(
        self, module: str, pass_fds: tuple[int, ...] = (), **more: str
    ) -> subprocess.Popen[bytes]: ...


@dataclass(slots=True)
class RunningJob:
    """The job that works now, as far as its process has reported."""

    job: Job
    folder: TeachingFolder
    progress: ProgressReport | None = None
    resumed_at: int | None = None
    """The epoch at which the student goes on; None where it began anew."""
    is_cancelled: bool = False
    heard_at: float = 0.0
    """When its process was started or has reported last, by the clock of `TeachingJobs`."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    _process: subprocess.Popen[bytes] | None = None


class TeachingJobs:
    """The teachings of one line. Safe for several threads. `clock` is in seconds."""

    def __init__(
        self,
        settings: Settings,
        start: StartProcess = start_process,
        utc_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._start_process, self._utc_ns, self._clock = settings, start, utc_ns, clock
        self._root = paths.teaching(settings)
        self._log = logging.getLogger(__name__)
        self._guard = threading.Lock()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.running: RunningJob | None = None

    def start(self, recipe: str, camera: str, compare: Compare, who: str) -> Job:
        """Starts a teaching; the one before is forgotten, except a student that can be resumed when only a
        memory is taught. Raises TeachingError."""
        return self._begin(
            self._next_job(recipe, camera, compare, who, keeps_student=not compare.has_student)
        )

    def count(self, recipe: str, camera: str, base: int, who: str) -> Job:
        """Starts a count of the known defects that pass with a version; it makes a new version and teaches
        nothing. A student that can be resumed is kept. Raises TeachingError."""
        job = self._next_job(recipe, camera, Compare.MEMORY, who, keeps_student=True)
        return self._begin(msgspec.structs.replace(job, kind=JobKind.COUNT, base=base))

    def silence_s(self, running: RunningJob) -> float:
        """Seconds since the job's process has reported."""
        return self._clock() - running.heard_at

    def resume(self, recipe: str, who: str) -> Job:
        """Starts the cancelled, failed or interrupted teaching of a recipe again: a student goes on at its
        last checkpoint. Raises TeachingError."""
        last = read_job(self._root / recipe)
        job = last.resumable if last is not None else None
        if last is None or job is None:
            raise TeachingError(f"no teaching of recipe {recipe} can be resumed: start one")
        return self._begin(
            msgspec.structs.replace(
                job,
                state=JobState.RUNNING,
                starts=1,
                who=who,
                ended_utc=None,
                message="",
                oddest=last.oddest,
                oddest_scores=last.oddest_scores,
            )
        )

    def cancel(self, recipe: str) -> None:
        """Ends the teaching of a recipe; it can be resumed. The job's file says so at once: a service that
        stops before the process has ended does not take it up. Raises TeachingError."""
        with self._guard:
            running = self.running
            if running is None or running.job.recipe != recipe:
                raise TeachingError(f"recipe {recipe} is not being taught here")
            running.is_cancelled = True
            if running._process is not None:
                _end(running._process)
            if not running.job.is_committed:
                self._write(running.folder, self._ended(running.job, JobState.CANCELLED))

    def take_up(self) -> None:
        """Starts the job again that was interrupted together with the page, if there is one. What goes wrong
        is logged: the page starts nevertheless."""
        try:
            found = list(find_running(self._root))
        except OSError as error:
            self._log.error("%s can't be read, so no teaching is taken up: %s", self._root, error.strerror)
            return
        for folder, job in found:
            try:
                if job.is_committed:
                    write_job(folder, self._ended(job, JobState.DONE, version=_newest(self._settings, job)))
                elif job.starts >= MOST_STARTS:
                    message = (
                        f"it was interrupted {job.starts} times together with the page: see the service's "
                        "log for the reason, then resume it"
                    )
                    write_job(folder, self._ended(job, JobState.FAILED, message=message))
                elif self.running is None:
                    self._log.info("recipe %s: the interrupted teaching is taken up again", job.recipe)
                    self._begin(msgspec.structs.replace(job, starts=job.starts + 1))
            except (LineMonitorError, OSError) as error:
                self._log.error("recipe %s: not taken up: %s", job.recipe, error)

    def stop(self) -> None:
        """Ends the process of the job that works; the next start of the page takes the job up again."""
        with self._guard:
            self._stopping = True
            if self.running is not None:
                self._uncount_start(self.running)
                if self.running._process is not None:
                    _end(self.running._process)
            thread = self._thread
        if thread is not None:
            thread.join(_STOP_S)

    def _uncount_start(self, running: RunningJob) -> None:
        """An orderly stop is no sign that the job ends the service (`MOST_STARTS`)."""
        if running.is_cancelled:
            return
        running.job = msgspec.structs.replace(running.job, starts=running.job.starts - 1)
        self._write(running.folder, running.job)

    def _next_job(self, recipe: str, camera: str, compare: Compare, who: str, *, keeps_student: bool) -> Job:
        """A new job, with what must not be lost of the one before."""
        try:
            last = read_job(self._root / recipe)
        except TeachingError as error:
            self._log.warning("%s", error)
            last = None
        job = Job(recipe=recipe, camera=camera, compare=compare, who=who, started_utc=self._utc())
        if last is None:
            return job
        resumable = last.resumable
        is_kept = keeps_student and resumable is not None and resumable.compare.has_student
        return msgspec.structs.replace(
            job,
            oddest=last.oddest,
            oddest_scores=last.oddest_scores,
            unfinished_student=resumable if is_kept else None,
        )

    def _begin(self, job: Job) -> Job:
        """Starts a process for the job. Returns it as it is on disk. Raises TeachingError."""
        folder = TeachingFolder.of(self._settings, job.recipe)
        job = msgspec.structs.replace(job, images=tuple(folder.list_names(ImageKind.GOOD)))
        with self._guard:
            if self.running is not None:
                raise TeachingError(
                    f"recipe {self.running.job.recipe} is being taught: wait until that ends, or cancel it"
                )
            folder.check_space()
            lock = _take_lock(self._root)
            try:
                write_job(folder.root, job)
            except TeachingError:
                os.close(lock)
                raise
            running = self.running = RunningJob(job, folder, heard_at=self._clock())
            # The process dies with this thread, which waits for it.
            self._thread = threading.Thread(
                target=self._run, args=(running, lock), name="teaching", daemon=True
            )
            self._thread.start()
        return job

    def _run(self, running: RunningJob, lock: int) -> None:
        ended: Job | None = None
        try:
            ended = self._follow(running)
        except LineMonitorError as error:
            self._log.error("recipe %s: %s", running.job.recipe, error)
        finally:
            # One step, so that no cancel replaces the end and no start finds the lock taken.
            with self._guard:
                if ended is not None:
                    self._write(running.folder, ended)
                    self._log.info("recipe %s: teaching %s %s", ended.recipe, ended.state, ended.message)
                self.running = None
                os.close(lock)

    def _write(self, folder: TeachingFolder, job: Job) -> None:
        """Writes the job's file. A disk that refuses is logged: it must not keep the job from its end."""
        try:
            write_job(folder.root, job)
        except TeachingError as error:
            self._log.error("recipe %s: %s", job.recipe, error)

    def _follow(self, running: RunningJob) -> Job | None:
        """Starts the process and reads its reports until it ends. Returns the job as it ended; None when the
        page stops, so that the next one takes the job up. Raises TeachingError."""
        reading, writing = os.pipe()
        try:
            process = self._start(running, writing)
        except OSError as error:
            os.close(reading)
            return self._ended(running.job, JobState.FAILED, message=f"no process can be started: {error}")
        finally:
            os.close(writing)
        end: EndReport | None = None
        with os.fdopen(reading, "rb") as reports:
            for line in reports:
                if not line.endswith(b"\n"):
                    # The process was killed while it reported.
                    break
                report, running.heard_at = decode_report(line), self._clock()
                if isinstance(report, ProgressReport):
                    running.progress = report
                elif isinstance(report, LineReport):
                    running.lines.append(report.text)
                    if report.text.startswith(RESUMED):
                        running.resumed_at = int(report.text.removeprefix(RESUMED))
                elif isinstance(report, CommitReport):
                    with self._guard:
                        running.job = msgspec.structs.replace(running.job, is_committed=True)
                        write_job(running.folder.root, running.job)
                else:
                    end = report
        code = process.wait()
        return self._find_end(running, end, code)

    def _start(self, running: RunningJob, report_to: int) -> subprocess.Popen[bytes]:
        """Raises OSError."""
        threads, job = count_threads(), running.job
        process = self._start_process(
            MODULE, (report_to,), OMP_NUM_THREADS=str(threads), MKL_CBWR="AUTO", GOMP_SPINCOUNT="0"
        )
        start = TrainingStart(
            parent=os.getpid(),
            report_to=report_to,
            settings=settings_for(self._settings, MODULE),
            recipe=job.recipe,
            camera=job.camera,
            compare=job.compare,
            who=job.who,
            threads=threads,
            kind=job.kind,
            base=job.base,
        )
        with self._guard:
            running._process = process
            if running.is_cancelled or self._stopping:
                _end(process)
        if not give_start_data(process, msgspec.json.encode(start)):
            self._log.warning("recipe %s: the training process ended before it had begun", job.recipe)
        return process

    def _find_end(self, running: RunningJob, end: EndReport | None, code: int) -> Job | None:
        job, lines = running.job, tuple(running.lines)
        if end is not None and end.version is not None:
            if job.kind is JobKind.TEACH:
                job = msgspec.structs.replace(job, oddest=end.oddest, oddest_scores=end.oddest_scores)
            return self._ended(job, JobState.DONE, version=end.version, lines=lines)
        if job.is_committed:
            return self._ended(job, JobState.DONE, version=_newest(self._settings, job), lines=lines)
        if running.is_cancelled:
            return self._ended(job, JobState.CANCELLED, lines=lines)
        if self._stopping:
            return None
        message = end.message if end is not None else explain_exit(code)
        return self._ended(job, JobState.FAILED, message=message, lines=lines)

    def _ended(self, job: Job, state: JobState, **more: object) -> Job:
        return msgspec.structs.replace(job, state=state, ended_utc=self._utc(), **more)

    def _utc(self) -> str:
        return rfc3339(self._utc_ns())


def explain_exit(code: int) -> str:
    """Why a training process ended without a report, in one line with the fix."""
    if code == -signal.SIGKILL:
        return (
            "the system ended the teaching, most likely because memory ran out: end other programs of this "
            "machine, then resume it"
        )
    if code < 0:
        return f"the teaching was ended by signal {-code}: resume it"
    return "the teaching failed unexpectedly: the service's log has the reason; resume it to try again"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, and kills it when it has not ended after a while."""
    process.terminate()
    timer = threading.Timer(_CANCEL_S, process.kill)
    timer.daemon = True
    timer.start()


def _newest(settings: Settings, job: Job) -> int | None:
    newest = find_newest(paths.recipe(settings, job.recipe))
    return newest.number if newest else None


def _take_lock(root: Path) -> int:
    """The open lock of all teachings of the line; the kernel frees it with this process. Raises
    TeachingError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TeachingError(f"can't write to {root}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise TeachingError(
            "a recipe is being taught by another page of this line: wait until that ends, or cancel it there"
        ) from None
    return handle
