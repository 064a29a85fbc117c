"""The `journal` command: what stands in the journal, as a table for people, as JSON lines or as CSV.

It says where the record has gaps, so that nobody takes silence for "nothing happened".
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import TextIO

import msgspec

from monitor.commands.arguments import CommandError, load_settings, print_to_stderr
from monitor.journal.reader import Change, Gap, JournalReader, JournalUnreadable, NotedVerdict, Session
from monitor.verdict import rfc3339

_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN_SHA = 12
_WIDEST = 60

Entry = NotedVerdict | Gap | Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="WHEN", help="2026-11-24, 2026-11-24T06:00Z (UTC), 90m, 8h, 7d")
    parser.add_argument("--camera", metavar="NAME", help="this camera's alone")
    parser.add_argument("--changes", action="store_true", help="who changed which setting, recipe, threshold")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="with a header; gaps and sessions go to stderr")


def run(options: argparse.Namespace) -> int:
    from monitor import paths

    if options.changes and options.camera:
        raise CommandError("--camera does not go with --changes: leave one away")
    form = Form.JSON if options.json else Form.CSV if options.csv else Form.TABLE
    try:
        start = since(options.since, time.time_ns()) if options.since is not None else ""
    except ValueError as error:
        raise CommandError(f"--since: {error}") from None
    try:
        with JournalReader(paths.journal(load_settings(options))) as reader:
            if options.changes:
                show_changes(reader, form, since=start, out=sys.stdout)
            else:
                show(reader, form, since=start, camera=options.camera, out=sys.stdout, say=print_to_stderr)
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has what it wanted. What is left in the buffer has nowhere to go at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class Form(Enum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def since(text: str, now_ns: int) -> str:
    """RFC 3339 of a date, a time (UTC where it names no zone) or an age such as 90m, 8h, 7d.

    Raises ValueError with one line.
    """
    if age := _AGE.fullmatch(text):
        return rfc3339(max(0, now_ns - int(float(age[1]) * _AGES[age[2]] * 1e9)))
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time: give one like 2026-11-24, 2026-11-24T06:00:00Z, 90m, 8h or 7d"
        ) from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def show(
    reader: JournalReader,
    form: Form,
    *,
    since: str,
    camera: str | None,
    out: TextIO,
    say: Callable[[str], None],
) -> None:
    """Writes verdicts, and where they have gaps. `say` takes what has no place in the form.

    Raises JournalUnreadable, also when there is no such camera.
    """
    if camera is not None and camera not in (known := reader.cameras()):
        raise JournalUnreadable(
            f"no camera called {camera!r} in the journal; there are: {', '.join(known) or 'none'}"
        )
    entries = _entries(reader, since, camera)
    match form:
        case Form.JSON:
            _write_json(entries, out)
        case Form.CSV:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(NotedVerdict.__struct_fields__)
            for entry in entries:
                if isinstance(entry, NotedVerdict):
                    writer.writerow(msgspec.structs.astuple(entry))
                else:
                    say(_note(entry))
        case Form.TABLE:
            _write_table(entries, max((len(name) for name in reader.cameras()), default=0), out)


def show_changes(reader: JournalReader, form: Form, *, since: str, out: TextIO) -> None:
    """Writes the record of changes. Raises JournalUnreadable."""
    changes = reader.changes(since)
    match form:
        case Form.JSON:
            _write_json(changes, out)
        case Form.CSV:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(Change.__struct_fields__)
            writer.writerows(map(msgspec.structs.astuple, changes))
        case Form.TABLE:
            rows = [("time", "who", "what", "old", "", "new")] if changes else []
            for change in changes:
                rows.append(
                    (
                        change.utc,
                        _printable(change.who),
                        _printable(change.what),
                        _value(change.old),
                        "->",
                        _value(change.new),
                    )
                )
            widths = [min(_WIDEST, max(map(len, column))) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
                print("  ".join(cells).rstrip(), file=out)
            if not changes:
                print("no change noted", file=out)


def _entries(reader: JournalReader, since: str, camera: str | None) -> Iterator[Entry]:
    """Verdicts in the order of their decision, each gap and session before the first that is younger."""
    notes: list[Gap | Session] = [*reader.sessions(since), *reader.gaps(since)]
    notes.sort(key=lambda note: note.utc, reverse=True)
    for verdict in reader.verdicts(since, camera):
        while notes and notes[-1].utc <= verdict.utc:
            yield notes.pop()
        yield verdict
    yield from reversed(notes)


def _write_json(entries: Iterable[Entry | Change], out: TextIO) -> None:
    for entry in entries:
        print(msgspec.json.encode(entry).decode(), file=out)


def _write_table(entries: Iterable[Entry], camera_width: int, out: TextIO) -> None:
    def line(*cells: str) -> str:
        time, camera, frame, verdict, reason, score, threshold, outcome, latency = cells
        return (
            f"{time:24}  {camera:{max(6, camera_width)}}  {frame:>8}  {verdict:11}  {reason:14}  "
            f"{score:>10}  {threshold:>10}  {outcome:24}  {latency:>10}"
        ).rstrip()

    header = line(
        "time", "camera", "frame", "verdict", "reason", "score", "threshold", "what became of it", "latency"
    )
    print(header, file=out)
    noted = False
    for entry in entries:
        if not isinstance(entry, NotedVerdict):
            print(_note(entry), file=out)
            continue
        noted = True
        outcome = entry.outcome + (f": {_printable(entry.ack_result)}" if entry.ack_result else "")
        print(
            line(
                entry.captured_utc,
                entry.camera,
                str(entry.frame),
                entry.verdict,
                entry.reason or "",
                _number(entry.score),
                _number(entry.threshold),
                outcome,
                f"{entry.latency_ms:.1f} ms" if entry.latency_ms is not None else "",
            ),
            file=out,
        )
    if not noted:
        print("no verdict noted", file=out)


def _note(entry: Gap | Session) -> str:
    if isinstance(entry, Gap):
        lost = f"{entry.lost} rows lost, " if entry.lost is not None else ""
        return f"{entry.from_utc}  -- gap until {entry.to_utc}: {lost}{entry.why}"
    name = f"session {entry.session}" if entry.session else "session"
    if entry.ended_utc is None:
        end = "not ended"
    elif entry.properly:
        end = f"ended {entry.ended_utc}"
    else:
        end = f"did not end properly, last seen {entry.ended_utc}"
    return f"{entry.started_utc}  -- {name}: {end}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _value(value: str | None) -> str:
    if value is None:
        return "(none)"
    return value[:_SHOWN_SHA] if _SHA256.fullmatch(value) else _printable(value)


def _printable(text: str) -> str:
    """What others sent must not drive the reader's terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
