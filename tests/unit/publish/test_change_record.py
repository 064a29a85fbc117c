"""The publisher's entries in the record of changes: a reset never waits for one, a missing one is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.audit.entry import Change, Kind
from monitor.audit.trail import AuditTrail
from monitor.publish.change_record import ChangeRecord, kind_of
from tests.unit.publish.scene import Scene


def reset() -> Change:
    utc = "2026-11-24T06:00:00.000Z"
    return Change(Kind.RESET, "MQTT", "latch", "missed_reject", None, "", utc, via="plant1/line1/reset")


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_change_waits_for_a_disk_that_can_be_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trail = AuditTrail(tmp_path / "audit.jsonl")
    trail.file.mkdir()
    record = ChangeRecord(trail, logging.getLogger(__name__))
    started = time.monotonic()
    assert not record.put_and_wait(reset(), 5)
    assert time.monotonic() - started < 4, "no wait for what can't be written"
    waits = "1 change waits for an entry: record of changes"
    wait_for(lambda: (record.state.problem or "").startswith(waits))
    assert "is done nevertheless and waits for its entry" in caplog.text
    trail.file.rmdir()
    assert record.close(5)
    assert record.state.problem is None
    assert [entry.kind for entry in trail.entries()] == ["begin", "reset"]
    assert record.state.head == trail.head()


def test_entries_of_other_programs_move_the_head_and_a_cut_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.publish.change_record._LOOK_EVERY_S", 0.01)
    trail = AuditTrail(tmp_path / "audit.jsonl")
    record = ChangeRecord(trail, logging.getLogger(__name__))
    head = AuditTrail(trail.file).append(reset())
    wait_for(lambda: record.state.head == head)
    trail.file.write_bytes(trail.file.read_bytes().splitlines(keepends=True)[0])
    wait_for(lambda: "it was cut or replaced" in caplog.text)
    assert record.put_and_wait(reset(), 5)
    wait_for(lambda: record.state.head == trail.head())
    assert "it was cut or replaced" in (record.state.problem or ""), "new entries must not hide a cut"
    record.close(5)


def test_a_cut_is_told_also_when_the_next_entry_comes_before_the_next_look(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit.jsonl")
    record = ChangeRecord(trail, logging.getLogger(__name__))
    assert record.put_and_wait(reset(), 5)
    wait_for(lambda: record.state.head == trail.head())
    trail.file.write_bytes(trail.file.read_bytes().splitlines(keepends=True)[0])
    assert record.put_and_wait(reset(), 5)
    assert "it was cut or replaced" in (record.state.problem or "")
    record.close(5)


def test_the_settings_of_a_first_start_are_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trail = AuditTrail(tmp_path / "audit.jsonl", log=logging.getLogger(__name__))
    record = ChangeRecord(trail, logging.getLogger(__name__))
    names = [f"mqtt.key{number}" for number in range(18)]
    for name in names:
        change = Change(Kind.SETTING, "service", name, None, "1", "", "2026-11-24T06:00:00.000Z")
        assert record.put_and_wait(change, 5)
    assert record.close(5)
    assert [entry.subject for entry in trail.entries() if entry.kind == "setting"] == names
    (said,) = (one.getMessage() for one in caplog.records if "settings" in one.getMessage())
    assert said == (
        f"record of changes: 18 settings by service: {', '.join(names[:5])} and 13 more; head {trail.head()}"
    )


def test_a_reset_from_the_gateway_is_in_the_record_and_the_head_in_the_status(scene: Scene) -> None:
    trail = AuditTrail.of(scene.settings)
    wait_for(lambda: any(entry.kind == "setting" for entry in trail.entries()))
    scene.miss_reject()
    scene.link.reconnect()
    scene.reset()
    record = scene.publisher._changes
    wait_for(lambda: any(entry.kind == "reset" for entry in trail.entries()))
    wait_for(lambda: record.state.head == trail.head())
    (done,) = (entry for entry in trail.entries() if entry.kind == "reset")
    assert (done.who, done.via, done.before, done.after) == (
        "MQTT",
        "plant1/line1/reset",
        "missed_reject",
        None,
    )
    assert done.meaning == "1 latched part to look for"

    def is_head_published() -> bool:
        # The settings of the start get their entries one by one, also after the reset's.
        scene.status()
        head = trail.head()
        published = {"head": head.hash, "count": head.count, "problem": None}
        return bool(scene.link.statuses[-1]["audit"] == published)

    wait_for(is_head_published)
    assert trail.verify(trail.head()).is_whole


def test_a_reset_is_done_also_while_it_can_not_be_recorded(scene: Scene) -> None:
    trail = AuditTrail.of(scene.settings)
    wait_for(lambda: trail.head().count > 0)
    scene.end()
    trail.file.unlink()
    trail.file.mkdir()
    scene.begin_session()
    scene.miss_reject()
    scene.link.reconnect()
    scene.reset()
    assert scene.status()[1] != "missed_reject"


def test_each_scope_of_the_journal_has_its_kind() -> None:
    scopes = ("settings", "recipe.plate", "camera.top.recipe_in_force")
    assert [kind_of(scope) for scope in scopes] == [Kind.SETTING, Kind.IN_FORCE, Kind.CHANGEOVER]
