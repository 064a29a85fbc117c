"""Whichever process is killed, the journal has every rejected or uninspected part and its outcome."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from monitor.journal.reader import Gap, JournalReader, Session, VerdictRow
from tests.real import parts_folder
from tests.real.line import Line
from tests.real.mosquitto import Mosquitto
from tests.real.shared_line import SharedLine

WriteConfig = Callable[..., Path]


def camera(folder: Path, fps: int = 20) -> str:
    return (
        f'[[camera]]\nname = "top"\nsource = "folder://{folder}?fps={fps}&loop=1"\nrecipe = "plate"\n'
        "deadline_ms = 400\n"
    )


def sent_to_gate(line: Line) -> dict[str, str]:
    """The verdicts of all parts that the gate was to remove, by event."""
    return {
        message.payload["event_id"]: message.payload["verdict"]
        for message in line.witness.heard("top/reject")
    }


def recorded(line: Line) -> dict[str, VerdictRow]:
    with JournalReader(line.settings.line.data / "journal.sqlite") as reader:
        return {row.event_id: row for row in reader.verdicts()}


def sessions(line: Line) -> list[Session]:
    with JournalReader(line.settings.line.data / "journal.sqlite") as reader:
        return reader.sessions()


def gaps(line: Line) -> list[Gap]:
    with JournalReader(line.settings.line.data / "journal.sqlite") as reader:
        return reader.gaps()


@pytest.mark.slow
def test_a_publisher_killed_again_and_again_leaves_no_reject_out_of_the_journal_and_no_gap(
    tmp_path: Path, write_config: WriteConfig, broker: Mosquitto
) -> None:
    parts_folder.write_parts(tmp_path / "parts", 10, bad_every=2)
    config = write_config(camera(tmp_path / "parts"))
    with Line(config, broker.port) as line:
        line.await_ready()
        for _ in range(2):
            killed = line.pid("publish")
            with closing(sqlite3.connect(line.settings.line.data / "journal.sqlite")) as other:
                # The lock keeps the rejects of the next moments out of the journal until the publisher dies.
                other.execute("BEGIN IMMEDIATE")
                time.sleep(0.8)
                unwritten = sent_to_gate(line).keys() - recorded(line).keys()
                assert len(unwritten) > 2
                os.kill(killed, signal.SIGKILL)
            line.wait_for(lambda killed=killed: line.pid("publish") != killed, 10, "new publisher")  # type: ignore[misc]
            line.wait_for(lambda: line.witness.status().get("state") != "offline", 10, "status")
        time.sleep(1.0)
        line.stop()
        sent, rows = sent_to_gate(line), recorded(line)
        assert len(sent) > 10
        assert {event: rows[event].verdict for event in sent} == sent
        assert {rows[event].outcome for event in sent} <= {"published", "expired"}
        with JournalReader(line.settings.line.data / "journal.sqlite") as reader:
            assert reader.gaps() == []
            (session,) = reader.sessions()
            assert session.properly
            changed = {change.what: change.new for change in reader.changes()}
            judged_by = {row.recipe_sha for row in rows.values() if row.verdict == "reject"}
            assert {changed["recipe.plate.sha256"]} == judged_by
            assert changed["mqtt.port"] == str(broker.port)


def test_a_service_killed_as_a_whole_is_accounted_for_at_the_next_start(shared_line: SharedLine) -> None:
    line = shared_line
    starts, missing = len(sessions(line)), gaps(line)
    with closing(sqlite3.connect(line.settings.line.data / "journal.sqlite")) as other:
        # The lock keeps the rejects of the next moments out of the journal until the service dies.
        other.execute("BEGIN IMMEDIATE")
        line.wait_for(lambda: line.witness.status()["journal"] != "ok", 10, "the trouble in the status")
        assert "locked by another program" in line.witness.status()["journal"]
        assert line.witness.status()["ready"] is True
        assert line.witness.status()["reason"] == "journal"
        line.wait_for(lambda: len(sent_to_gate(line).keys() - recorded(line).keys()) > 5, 10, "rejects")
        line.process.kill()
        line.process.wait()
        sent = sent_to_gate(line)
        assert len(sent.keys() - recorded(line).keys()) > 5
        other.rollback()
    before = line.witness.status()["session"]
    line.start()
    line.wait_for(lambda: line.witness.status()["session"] != before, 60, "the new session")

    def ready_or_latched() -> bool:
        # A reject that was being sent at the kill may have been missed.
        status = line.witness.status()
        return status["ready"] is True or status["reason"] == "missed_reject"

    line.wait_for(ready_or_latched, 60, "ready or a latch")
    line.wait_for(lambda: line.witness.status()["journal"] == "ok", 5, "a journal that works")
    line.wait_for(lambda: len(sessions(line)) == starts + 1, 5, "the new session in the journal")
    rows = recorded(line)
    assert {event: rows[event].verdict for event in sent} == sent
    assert {rows[event].outcome for event in sent} <= {"published", "unknown"}
    assert gaps(line) == missing, "nothing is missing"
    assert [session.properly for session in sessions(line)][-2:] == [False, None]
