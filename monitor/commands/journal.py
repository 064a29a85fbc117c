"""`line-monitor journal`: prints the journal as a table for people, as JSON lines or as CSV.

It writes nothing. It also prints the gaps of the record, since a time without entries can be a time in which
nothing was recorded.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import TextIO

import msgspec

from monitor.commands.arguments import CommandError, load_settings, print_to_stderr
from monitor.commands.output import ending_with_its_reader, print_json, print_table
from monitor.journal.reader import Change, Gap, JournalReader, JournalReadError, Session, VerdictRow
from monitor.verdict import rfc3339

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN_SHA_LENGTH = 12

Entry = VerdictRow | Gap | Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since",
        metavar="WHEN",
        help="first time to print: a date (2026-11-24), a UTC time (2026-11-24T06:00Z) or an age (90m, 8h)",
    )
    parser.add_argument("--camera", metavar="NAME", help="print only the parts of this camera")
    parser.add_argument(
        "--changes",
        action="store_true",
        help="print who changed which setting, recipe or threshold, instead of the parts",
    )
    output_format = parser.add_mutually_exclusive_group()
    output_format.add_argument("--json", action="store_true", help="print one JSON object a line")
    output_format.add_argument(
        "--csv", action="store_true", help="print CSV with a header; gaps and sessions go to stderr"
    )


def run(options: argparse.Namespace) -> int:
    from monitor import paths

    if options.changes and options.camera:
        raise CommandError("--camera can't be used together with --changes: leave one out")
    form = OutputFormat.JSON if options.json else OutputFormat.CSV if options.csv else OutputFormat.TABLE
    try:
        start = parse_since(options.since, time.time_ns()) if options.since is not None else ""
    except ValueError as error:
        raise CommandError(f"--since: {error}") from None
    with ending_with_its_reader(), JournalReader(paths.journal(load_settings(options))) as reader:
        if options.changes:
            print_changes(reader, form, since=start, out=sys.stdout)
        else:
            print_verdicts(
                reader, form, since=start, camera=options.camera, out=sys.stdout, say=print_to_stderr
            )
    return 0


class OutputFormat(Enum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def parse_since(text: str, now_ns: int) -> str:
    """The RFC 3339 time of a date, a time (UTC if it has no zone) or an age such as 90m, 8h, 7d.

    Raises ValueError with a message of one line.
    """
    if age := _AGE.fullmatch(text):
        return rfc3339(max(0, now_ns - int(float(age[1]) * _SECONDS[age[2]] * 1e9)))
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is not a time: use one like 2026-11-24, 2026-11-24T06:00:00Z, 90m, 8h or 7d"
        ) from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def print_verdicts(
    reader: JournalReader,
    form: OutputFormat,
    *,
    since: str,
    camera: str | None,
    out: TextIO,
    say: Callable[[str], None],
) -> None:
    """Print the verdicts with the gaps and sessions between them; in CSV `say` gets the gaps and sessions.

    Raises JournalReadError, also when the journal has no such camera.
    """
    if camera is not None and camera not in (known := reader.cameras()):
        raise JournalReadError(
            f"the journal has no camera called {camera!r}; there are: {', '.join(known) or 'none'}"
        )
    entries = _entries(reader, since, camera)
    match form:
        case OutputFormat.JSON:
            print_json(entries, out)
        case OutputFormat.CSV:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(VerdictRow.__struct_fields__)
            for entry in entries:
                if isinstance(entry, VerdictRow):
                    writer.writerow(msgspec.structs.astuple(entry))
                else:
                    say(_describe(entry))
        case OutputFormat.TABLE:
            _write_table(entries, max((len(name) for name in reader.cameras()), default=0), out)


def print_changes(reader: JournalReader, form: OutputFormat, *, since: str, out: TextIO) -> None:
    """Print the record of changes. Raises JournalReadError."""
    changes = reader.changes(since)
    match form:
        case OutputFormat.JSON:
            print_json(changes, out)
        case OutputFormat.CSV:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(Change.__struct_fields__)
            writer.writerows(map(msgspec.structs.astuple, changes))
        case OutputFormat.TABLE:
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
            print_table(rows, out)
            if not changes:
                print("no change recorded", file=out)


def _entries(reader: JournalReader, since: str, camera: str | None) -> Iterator[Entry]:
    """Verdicts in the order of their decision; each gap or session comes before the first later verdict."""
    notes: list[Gap | Session] = [*reader.sessions(since), *reader.gaps(since)]
    notes.sort(key=lambda note: note.utc, reverse=True)
    for verdict in reader.verdicts(since, camera):
        while notes and notes[-1].utc <= verdict.utc:
            yield notes.pop()
        yield verdict
    yield from reversed(notes)


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
    is_empty = True
    for entry in entries:
        if not isinstance(entry, VerdictRow):
            print(_describe(entry), file=out)
            continue
        is_empty = False
        outcome = entry.outcome + (f": {_printable(entry.ack_result)}" if entry.ack_result else "")
        if entry.challenge is not None:
            outcome += f", challenge part {_printable(entry.challenge)}"
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
    if is_empty:
        print("no verdict recorded", file=out)


def _describe(entry: Gap | Session) -> str:
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
    return value[:_SHOWN_SHA_LENGTH] if _SHA256.fullmatch(value) else _printable(value)


def _printable(text: str) -> str:
    """Replace control characters in text from other programs, since they could control the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
