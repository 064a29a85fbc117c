"""The record of changes: who alters, removes or cuts it is found; a killed writer is not taken for one."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.audit import trail as trail_module
from monitor.audit.entry import EMPTY, Change, Head, HeadError, Kind
from monitor.audit.trail import AuditError, AuditTrail

UTC = "2026-11-24T06:00:00.000Z"


def change(subject: str = "recipe.top.threshold", **more: object) -> Change:
    fields = {
        "kind": Kind.THRESHOLD,
        "who": "anna",
        "subject": subject,
        "before": "0.5",
        "after": "0.6",
        "meaning": "approved for production",
        "utc": UTC,
        **more,
    }
    return Change(**fields)  # type: ignore[arg-type]


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    return AuditTrail(tmp_path / "audit.jsonl", "plant1/line1")


def alter(trail: AuditTrail, rule: Callable[[list[bytes]], list[bytes]]) -> None:
    trail.file.write_bytes(b"".join(rule(trail.file.read_bytes().splitlines(keepends=True))))


def test_the_first_entry_names_line_machine_and_time_and_a_head_counts_all(trail: AuditTrail) -> None:
    assert trail.head() == EMPTY
    head = trail.append(change())
    begin, first = trail.entries()
    assert (begin.kind, begin.subject, begin.utc) == ("begin", "plant1/line1", UTC)
    assert begin.after is not None
    assert os.uname().nodename in begin.after
    assert (first.who, first.before, first.after, first.meaning) == (
        "anna",
        "0.5",
        "0.6",
        "approved for production",
    )
    assert head == trail.head() == first.head == Head(first.hash, 2)
    assert trail.verify(head).is_whole
    assert trail.file.stat().st_mode & 0o777 == 0o640


def test_any_changed_byte_is_found(trail: AuditTrail) -> None:
    for number in range(4):
        trail.append(change(f"snapshot.{number}"))
    whole = trail.file.read_bytes()
    head = trail.head()
    for at in range(0, len(whole), 41):
        altered = bytearray(whole)
        altered[at] ^= 1
        trail.file.write_bytes(altered)
        assert not trail.verify(head).is_whole, f"byte {at}"


def test_a_removed_or_exchanged_entry_is_found_without_a_head(trail: AuditTrail) -> None:
    for number in range(4):
        trail.append(change(str(number)))
    whole = trail.file.read_bytes()
    alter(trail, lambda lines: [*lines[:2], *lines[3:]])
    (problem,) = trail.verify().problems
    assert problem.startswith("line 3: entry 4 does not follow entry 2")
    trail.file.write_bytes(whole)
    alter(trail, lambda lines: [lines[0], lines[2], lines[1], *lines[3:]])
    assert not trail.verify().is_whole


def test_a_cut_tail_is_found_against_a_head_and_only_then(trail: AuditTrail) -> None:
    trail.append(change())
    early = trail.head()
    head = trail.append(change())
    alter(trail, lambda lines: lines[:-1])
    assert trail.verify().is_whole
    assert trail.verify(early).is_whole
    assert "1 entry was cut off" in trail.verify(head).problems[0]
    assert not trail.verify(Head(head.hash, 0)).is_whole


def test_a_record_written_anew_is_found_against_a_head(trail: AuditTrail) -> None:
    head = trail.append(change())
    trail.file.unlink()
    trail.append(change(after="0.7"))
    assert trail.verify().is_whole
    assert "written anew" in trail.verify(head).problems[0]


def test_a_line_torn_by_a_kill_is_no_alteration_and_the_next_entry_states_it(trail: AuditTrail) -> None:
    head = trail.append(change("whole"))
    newest = trail.append(change("torn"))
    whole = trail.file.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for kept in (1, last // 2, last - 1):
        trail.file.write_bytes(whole[: len(whole) - last + kept])
        assert trail.verify(head).is_whole
        # Where the line break alone is missing, the entry is whole, and its head is found.
        assert trail.verify(head).is_torn == (kept < last - 1)
        assert trail.verify(newest).is_whole == (kept == last - 1)
        trail.append(change("after"))
        found = trail.verify(head)
        assert found.is_whole
        assert not found.is_torn
        assert found.repaired == (kept < last - 1)
        assert [entry.kind for entry in trail.entries()].count("repair") == found.repaired


def test_a_writer_killed_at_the_very_first_entry_is_no_alteration(trail: AuditTrail) -> None:
    trail.file.write_bytes(b'{"after":"mach')
    trail.append(change())
    assert trail.verify().is_whole
    assert [entry.kind for entry in trail.entries()] == ["begin", "repair", "threshold"]


def test_a_writer_killed_at_any_moment_loses_no_entry_that_it_told_of(trail: AuditTrail) -> None:
    for number in range(4):
        told, out = os.pipe()
        writer = os.fork()
        if writer == 0:
            while True:
                os.write(out, f"{AuditTrail(trail.file).append(change('x' * 1500))}\n".encode())
        os.close(out)
        time.sleep(0.02 + 0.01 * number)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        with os.fdopen(told) as heads:
            last = [line for line in heads if line.endswith("\n")][-1:]
        head = Head.parse(last[0]) if last else EMPTY
        assert trail.verify(head).is_whole
        trail.append(change("after"))
        assert trail.verify(head).is_whole


def test_nothing_follows_an_altered_last_line(trail: AuditTrail) -> None:
    trail.append(change())
    alter(trail, lambda lines: [*lines[:-1], lines[-1].replace(b"anna", b"otto")])
    with pytest.raises(AuditError, match="audit verify"):
        trail.append(change())


def test_writers_side_by_side_make_one_chain(trail: AuditTrail) -> None:
    def write() -> None:
        other = AuditTrail(trail.file, "plant1/line1")
        for _ in range(10):
            other.append(change())

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trail.verify().is_whole
    assert trail.head().count == 41


def test_a_full_disk_refuses_an_entry_and_leaves_the_record_as_it_was(trail: AuditTrail) -> None:
    head = trail.append(change())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The limit of a file's size fails a write in its middle, as a full disk does. Python ignores its signal.
    resource.setrlimit(resource.RLIMIT_FSIZE, (trail.file.stat().st_size + 60, limits[1]))
    try:
        with pytest.raises(AuditError, match="can't be written"):
            trail.append(change())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found = trail.verify(head)
    assert found.is_whole
    assert not found.is_torn
    assert trail.head() == head


def test_a_change_that_fails_after_its_entry_gets_a_second_entry(trail: AuditTrail) -> None:
    with pytest.raises(OSError, match="disk"), trail.recording(change(), lambda: UTC):
        raise OSError("disk full")
    *_, undone = trail.entries()
    assert (undone.before, undone.after) == ("0.6", "0.5")
    assert undone.meaning == "not done, entry 2 does not count: disk full"


def test_the_hash_can_be_computed_with_any_json_library(trail: AuditTrail) -> None:
    trail.append(change(who="Jörg \u2028 \x1b[2J", meaning="y" * 10_000))
    for line in trail.file.read_bytes().splitlines():
        fields = json.loads(line)
        given = fields.pop("hash")
        content = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(content.encode()).hexdigest() == given
        assert len(line) < 5_000
    assert b"\x1b" not in trail.file.read_bytes()


def test_a_head_is_read_as_it_is_shown() -> None:
    head = Head("ab" * 32, 17)
    assert Head.parse(str(head)) == head
    assert Head.parse("AB" * 32) == Head("ab" * 32, 0)
    with pytest.raises(HeadError, match="copy one"):
        Head.parse("17")


def test_the_newest_lines_are_read_backwards_from_any_place_and_without_the_rest(
    trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_module, "_END_BYTES", 1000)
    for n in range(40):
        trail.append(change(f"setting.{n}", before="x" * (n * 7)))
    with trail.file.open("ab") as opened:
        opened.write(b'{"torn')
    content = trail.file.read_bytes()
    found = list(trail.newest_lines())
    assert [line for _, line in found][::-1] == content.splitlines(keepends=True)
    assert all(content[at : at + len(line)] == line for at, line in found)
    middle = found[20][0]
    assert [at for at, _ in trail.newest_lines(middle)] == [at for at, _ in found[21:]]
    reads: list[int] = []
    pread = os.pread

    def count(handle: int, size: int, offset: int) -> bytes:
        reads.append(size)
        return pread(handle, size, offset)

    monkeypatch.setattr(os, "pread", count)
    next(trail.newest_lines())
    assert reads == [1000]
