"""Where each training of a manifest stands: the rows of the live table, and lines for logs.

It knows nothing of Ray. The overview takes reports and results and is read by whoever shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from monitor.fleet.training_record import TrainingResult, TrainingState
from monitor.fleet.training_task import TrainingReport

COLUMNS = ("recipe", "state", "epoch", "time left", "node")
_LINE_EVERY_S = 30.0


@dataclass(frozen=True)
class OverviewRow:
    """One recipe in the table."""

    recipe: str
    state: str
    epoch: str = ""
    time_left: str = ""
    node: str = ""

    def cells(self) -> tuple[str, ...]:
        return self.recipe, self.state, self.epoch, self.time_left, self.node


class TrainingOverview:
    """The state of all trainings of one manifest, in its order."""

    def __init__(self, recipes: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._reports: dict[str, TrainingReport] = {}
        self._results: dict[str, TrainingResult] = {}
        self._recipes = tuple(recipes)
        self._told: dict[str, str] = {}
        self._clock, self._line_due = clock, clock() + _LINE_EVERY_S

    def take_reports(self, reports: Sequence[TrainingReport]) -> None:
        """Takes the newest report of each running training."""
        for report in reports:
            if report.recipe not in self._results:
                self._reports[report.recipe] = report

    def take_result(self, result: TrainingResult) -> None:
        self._results[result.recipe] = result

    @property
    def results(self) -> list[TrainingResult]:
        """The results so far, in the manifest's order."""
        return [self._results[name] for name in self._recipes if name in self._results]

    def rows(self) -> list[OverviewRow]:
        return [self._row(name) for name in self._recipes]

    def _row(self, name: str) -> OverviewRow:
        if (result := self._results.get(name)) is not None:
            epoch = str(result.epochs) if result.epochs is not None else ""
            return OverviewRow(name, result.state.value, epoch, "", result.node)
        if (report := self._reports.get(name)) is None:
            return OverviewRow(name, "waiting")
        is_training = report.stage == "train"
        epoch = f"{report.done:.1f}/{report.total}" if is_training else ""
        return OverviewRow(name, report.stage, epoch, report.time_left, report.node)

    def take_lines(self) -> Iterator[str]:
        """What has changed since the last call, one line each; every 30 s also a line about all."""
        for name in self._recipes:
            line = self._describe(name)
            if line and self._told.get(name) != line:
                self._told[name] = line
                yield line
        if self._clock() >= self._line_due:
            self._line_due = self._clock() + _LINE_EVERY_S
            yield self.summary()

    def _describe(self, name: str) -> str:
        """The last event of one recipe; empty while it waits."""
        if (result := self._results.get(name)) is not None:
            if result.state is TrainingState.FAILED:
                return f"{name}: failed on {result.node or 'the cluster'}: {result.message}"
            return f"{name}: {result.state.value} on {result.node}, threshold {result.threshold:.4g}"
        if (report := self._reports.get(name)) is None:
            return ""
        again = f", resumed at epoch {report.resumed_at}" if report.resumed_at else ""
        return f"{name}: runs on {report.node}{again}"

    def summary(self) -> str:
        """How many recipes are done, run and wait."""
        failed = sum(result.state is TrainingState.FAILED for result in self._results.values())
        running = len(self._reports.keys() - self._results.keys())
        waiting = len(self._recipes) - len(self._results) - running
        return (
            f"{len(self._results) - failed} of {len(self._recipes)} recipes are taught, {running} run, "
            f"{waiting} wait, {failed} failed"
        )
