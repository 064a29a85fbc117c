"""The record of changes has each recipe and threshold in use, each latch, and who reset it."""

from __future__ import annotations

import inspect
import re
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.journal.reader import JournalReader, VerdictRow
from monitor.journal.recorder import OUTCOMES, Recorder, choose_outcome, latency_ms
from monitor.journal.writer import JournalWriter
from monitor.line_state.latch_file import Latch
from monitor.line_state.ring import Stage
from monitor.settings import JournalSettings, Settings
from monitor.verdict import Event, Reason, Verdict

EVENT = Event(
    prefix="plant1/line1",
    camera="top",
    session=str(uuid.uuid4()),
    frame=1,
    part=1,
    verdict=Verdict.PASS,
    reason=Reason.NONE,
    score=0.01,
    threshold=0.02,
    recipe="can",
    recipe_sha="ab" * 32,
    captured_utc_ns=10**18,
    decided_utc_ns=10**18,
    expires_utc_ns=10**18,
    snapshot=None,
)


def service(file: Path, *events: Event) -> None:
    """One run of a service that judges these parts."""
    journal = JournalWriter(file, JournalSettings())
    recorder = Recorder(journal, Settings(), [], lambda *_: EVENT)
    for event in events:
        recorder.record_verdict(event)
    assert journal.close()


def changes(file: Path) -> list[tuple[str, str | None, str | None]]:
    with JournalReader(file) as reader:
        return [(change.what, change.old, change.new) for change in reader.changes()]


def test_a_recipe_is_recorded_once_and_again_when_it_was_calibrated_or_trained_anew(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    service(file, EVENT, EVENT)
    first = changes(file)
    assert first[1:] == [
        ("recipe.can.sha256", None, "ab" * 32),
        ("recipe.can.threshold", None, "0.02"),
    ]
    service(file, EVENT)
    assert changes(file) == first
    service(file, replace(EVENT, recipe_sha="cd" * 32, threshold=0.025))
    assert changes(file)[len(first) :] == [
        ("recipe.can.sha256", "ab" * 32, "cd" * 32),
        ("recipe.can.threshold", "0.02", "0.025"),
    ]


def test_a_latch_and_its_reset_name_who_and_a_reset_of_nothing_is_none(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "journal.sqlite", JournalSettings())
    recorder = Recorder(journal, Settings(), [], lambda *_: EVENT)
    recorder.reset(Latch.NONE, "plant1/line1/reset")
    recorder.record_latch(Latch.MISSED_REJECT)
    recorder.reset(Latch.MISSED_REJECT, "plant1/line1/reset")
    assert journal.close()
    with JournalReader(tmp_path / "journal.sqlite") as reader:
        latches = [change for change in reader.changes() if change.what == "latch"]
    assert [(change.old, change.new) for change in latches] == [
        (None, "missed_reject"),
        ("missed_reject", None),
    ]
    assert latches[0].who.startswith("service, as ")
    assert latches[1].who == "plant1/line1/reset"


@pytest.mark.parametrize(
    ("stage", "to_send", "word"),
    [
        (Stage.SENT, True, "published"),
        (Stage.SENT, False, "not published"),
        (Stage.ACKNOWLEDGED, True, "acknowledged"),
        (Stage.EXPIRED, True, "expired"),
        (Stage.UNACKNOWLEDGED, True, "unacknowledged"),
    ],
)
def test_every_end_has_its_word(stage: Stage, to_send: bool, word: str) -> None:
    assert choose_outcome(stage, to_send) == word


def test_latency_runs_from_capture_to_sending_and_is_none_of_what_was_not_sent() -> None:
    assert latency_ms(1_000_000, 32_500_000) == 31.5
    assert latency_ms(1_000_000, 0) is None
    assert latency_ms(1_000_000, None) is None


def test_what_is_written_about_outcomes_names_those_that_the_code_writes_and_no_others() -> None:
    (listed,) = re.findall(r'    outcome: str\n    """(.*?)\."""', inspect.getsource(VerdictRow), re.S)
    named = [re.sub(r"\(.*?\)", "", one, flags=re.S).strip() for one in re.split(r",\s+", listed)]
    assert sorted(named) == sorted(OUTCOMES)
