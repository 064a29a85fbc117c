"""The metrics of drift, journal and overruns: no value is shown while it can't be known."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.line_state.board import Board, Field, WorkerState
from monitor.line_state.frame import Frame, PixelFormat
from monitor.line_state.ring import FinalVerdict, Ring
from monitor.line_state.worker_process import PUBLISH, SCORING, worker_names
from monitor.service.prometheus import Metrics
from monitor.settings import Settings
from monitor.verdict import Reason, Verdict

SETTINGS = Settings(
    line={"data": "data"},  # type: ignore[arg-type]
    camera=(
        {"name": "top", "source": "simulated://plate", "recipe": "plate"},  # type: ignore[arg-type]
        {"name": "live", "source": "simulated://plate", "recipe": "plate", "mode": "latest"},  # type: ignore[arg-type]
        {"name": "side", "source": "simulated://plate", "recipe": "plate"},  # type: ignore[arg-type]
    ),
)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    Board.create(tmp_path / "board", worker_names(SETTINGS))
    opened = Board(tmp_path / "board", worker_names(SETTINGS))
    opened.write(SCORING, Field.STATE, WorkerState.RUNNING)
    opened.write(SCORING, Field.ALIVE_UNTIL_NS, time.monotonic_ns() + 60_000_000_000)
    yield opened
    opened.close()


def gauge(board: Board, name: str) -> dict[str, float]:
    metrics = Metrics(SETTINGS, {}, board, logging.getLogger("metrics"))
    (family,) = [family for family in metrics.collect() if family.name == name]
    return {sample.labels["camera"]: sample.value for sample in family.samples}


def drift(board: Board) -> dict[str, float]:
    return gauge(board, "line_monitor_drift")


def test_drift_is_told_of_every_camera_whose_frames_are_parts_by_its_direction(board: Board) -> None:
    assert drift(board) == {"top": 0, "side": 0}
    board.write(SCORING, Field.DRIFT_HIGHER, 0b001)
    board.write(SCORING, Field.DRIFT_LOWER, 0b100)
    assert drift(board) == {"top": 1, "side": -1}


def test_of_a_scorer_that_is_gone_no_drift_is_told(board: Board) -> None:
    board.write(SCORING, Field.DRIFT_HIGHER, 0b001)
    board.write(SCORING, Field.STATE, WorkerState.STOPPED)
    assert drift(board) == {}


def test_a_live_view_without_time_is_told_while_the_scorer_runs(board: Board) -> None:
    name = "line_monitor_view_without_time"
    assert gauge(board, name) == {"live": 0}
    board.write(SCORING, Field.WITHOUT_TIME, 0b010)
    assert gauge(board, name) == {"live": 1}
    board.write(SCORING, Field.STATE, WorkerState.STOPPED)
    assert gauge(board, name) == {}


def test_the_journal_is_ok_only_while_a_publisher_lives_that_can_write_it(board: Board) -> None:
    def journal_ok() -> float:
        metrics = Metrics(SETTINGS, {}, board, logging.getLogger("metrics"))
        (family,) = [family for family in metrics.collect() if family.name == "line_monitor_journal_ok"]
        return float(family.samples[0].value)

    assert journal_ok() == 0
    board.write(PUBLISH, Field.STATE, WorkerState.RUNNING)
    board.write(PUBLISH, Field.ALIVE_UNTIL_NS, time.monotonic_ns() + 60_000_000_000)
    assert journal_ok() == 1
    board.write(PUBLISH, Field.JOURNAL_FAILING, 1)
    assert journal_ok() == 0


def test_rejects_that_a_killed_service_lost_are_among_the_missed_ones(board: Board, ring: Ring) -> None:
    lost = {"top": 3, "removed": 2}
    metrics = Metrics(SETTINGS, {"top": ring}, board, logging.getLogger("metrics"), lost)
    (family,) = [family for family in metrics.collect() if family.name == "line_monitor_rejects_missed"]
    counted = {one.labels["camera"]: one.value for one in family.samples if one.name.endswith("_total")}
    assert counted == lost
    ring.write_tally(replace(ring.tally(), missed_rejects=4))
    (family,) = [family for family in metrics.collect() if family.name == "line_monitor_rejects_missed"]
    assert {one.labels["camera"]: one.value for one in family.samples}["top"] == 7


def test_exposures_that_had_to_be_refused_are_counted(board: Board, ring: Ring) -> None:
    def overruns() -> float:
        metrics = Metrics(SETTINGS, {"top": ring}, board, logging.getLogger("metrics"))
        (family,) = [family for family in metrics.collect() if family.name == "line_monitor_overruns"]
        (sample,) = [one for one in family.samples if one.name == "line_monitor_overruns_total"]
        assert sample.labels == {"camera": "top"}
        return float(sample.value)

    assert overruns() == 0
    ring.count_overrun()
    ring.count_overrun()
    assert overruns() == 2


def test_challenge_parts_are_verdicts_of_their_own_so_that_the_sum_is_still_all_frames(
    board: Board, ring: Ring
) -> None:
    for number, challenge in enumerate((0, 1, 2), start=1):
        ring.write_captured(Frame(number, 1, 1, 1, 1, 1, -1, -1, -1, PixelFormat.Mono8, 1, 1))
        verdict = Verdict.REJECT if challenge == 2 else Verdict.PASS
        ring.write_closed(number, FinalVerdict(verdict, Reason.NONE, True, False, 1, 1, challenge))
    metrics = Metrics(SETTINGS, {"top": ring}, board, logging.getLogger("metrics"))
    (family,) = [family for family in metrics.collect() if family.name == "line_monitor_verdicts"]
    found = {(one.labels["verdict"], one.labels["reason"]): one.value for one in family.samples if one.value}
    assert found == {("pass", ""): 1, ("challenge", "pass"): 1, ("challenge", "reject"): 1}
