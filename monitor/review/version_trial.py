"""Tries a version before a person signs for it: builds its networks, scores parts labelled as real defects.

It knows nothing of HTTP and of signatures. The work is done in a process of its own (`trial_process`), so
that the request that puts a version in force takes no longer than any other.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import msgspec

from monitor.model.version_files import VersionFile
from monitor.review.snapshot_files import Key
from monitor.review.trial_process import TrialReport, TrialStart
from monitor.service.child_process import give_start_data, start_process

MOST_SCORED = 100
"""The most labelled defects that a trial scores: the newest ones."""
_MODULE = "monitor.review.trial_process"
_MOST_TRIALS = 16
"""The results of so many versions are kept."""


class TrialState(Enum):
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Trial:
    """The trial of one version with some labelled defects."""

    defects: frozenset[Key]
    state: TrialState = TrialState.WORKING
    scores: dict[Key, float | None] = field(default_factory=dict)
    """The scores so far; None for a part whose picture can't be read."""
    error: str = ""
    """Why the line could not use the version, in one line."""
    ended: threading.Event = field(default_factory=threading.Event)
    is_told: bool = False
    """Whether a page has shown that it failed."""

    @property
    def done(self) -> int:
        """How many of the defects are scored."""
        return len(self.scores)

    @property
    def defect_scores(self) -> tuple[float, ...]:
        """The scores of the defects. What is not a number never passes."""
        return tuple(one for one in self.scores.values() if one is not None and not math.isnan(one))


RunProcess = Callable[[TrialStart, Callable[[TrialReport], None]], None]
"""Runs a trial to its end, and hands each report on."""


def run_process(start: TrialStart, take: Callable[[TrialReport], None]) -> None:
    """Runs the trial in a process of its own. Raises OSError where none can be started."""
    reading, writing = os.pipe()
    start = msgspec.structs.replace(start, report_to=writing)
    try:
        process = start_process(_MODULE, (writing,), OMP_NUM_THREADS="1")
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with process, os.fdopen(reading, "rb") as reports:
        # Where it ended before it had begun, the missing end says so.
        give_start_data(process, msgspec.json.encode(start))
        for line in reports:
            if line.endswith(b"\n"):
                take(msgspec.json.decode(line, type=TrialReport))


class VersionTrials:
    """The trials of one line's versions. One runs at a time; the others wait. Safe for several threads."""

    def __init__(self, snapshots: Path, run: RunProcess | None = None) -> None:
        self._snapshots, self._run = snapshots, run or run_process
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._trials: OrderedDict[str, Trial] = OrderedDict()
        """By `VersionFile.digits`."""

    def find(self, version: VersionFile, defects: Iterable[Key]) -> Trial:
        """The version's trial with these labelled defects, which begins now where there is none yet. One that
        failed is shown once, then made again."""
        wanted = frozenset(defects)
        with self._lock:
            before = self._trials.get(version.digits)
            if before is not None and _is_valid(before, wanted):
                before.is_told = before.state is TrialState.FAILED
                return before
            trial = Trial(wanted)
            if before is not None and before.state is TrialState.DONE:
                trial.scores = {key: score for key, score in before.scores.items() if key in wanted}
                if trial.scores.keys() == wanted:
                    trial.state = TrialState.DONE
                    trial.ended.set()
            self._trials[version.digits] = trial
            self._trials.move_to_end(version.digits)
            ended = [digits for digits, one in self._trials.items() if one.state is not TrialState.WORKING]
            for digits in ended[: max(0, len(self._trials) - _MOST_TRIALS)]:
                del self._trials[digits]
        if not trial.ended.is_set():
            threading.Thread(target=self._work, args=(version, trial), name="trial", daemon=True).start()
        return trial

    def _work(self, version: VersionFile, trial: Trial) -> None:
        missing = sorted(trial.defects - trial.scores.keys(), key=lambda key: key.order)
        start = TrialStart(
            parent=os.getpid(),
            report_to=-1,
            document=str(version.file.absolute()),
            snapshots=str(self._snapshots.absolute()),
            defects=tuple((key.day, key.camera, key.stem) for key in missing),
        )

        def take(report: TrialReport) -> None:
            if not report.is_end:
                trial.scores = {**trial.scores, missing[report.place]: report.score}
            elif report.error:
                trial.error, trial.state = report.error, TrialState.FAILED
            else:
                trial.state = TrialState.DONE

        try:
            with self._turn:
                self._run(start, take)
        except Exception:
            # Without an end the page would wait for ever.
            logging.getLogger(__name__).exception("the trial of %s failed", version.name)
        if trial.state is TrialState.WORKING:
            trial.error = "its trial was interrupted: the service's log has the reason"
            trial.state = TrialState.FAILED
        trial.ended.set()


def _is_valid(trial: Trial, wanted: frozenset[Key]) -> bool:
    """Whether the trial is shown for these defects; a running one with others is waited for first."""
    if trial.state is TrialState.FAILED:
        return not trial.is_told
    return trial.state is TrialState.WORKING or trial.defects == wanted
