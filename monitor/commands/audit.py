"""`line-monitor audit`: prints the record of changes, or checks that it is whole.

It writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TextIO

import msgspec

from monitor.audit.entry import Entry, Head, Kind
from monitor.audit.verification import DOES_NOT_PROVE, PROVES, Verification
from monitor.commands.arguments import FAILED, CommandError, load_settings, print_to_stderr
from monitor.commands.output import ending_with_its_reader, print_json, print_table

_COLUMNS = ("entry", "time", "who", "what", "subject", "before", "", "after", "meaning")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints the record of changes: labels, thresholds, trainings, promotions, resets, settings, "
        "accounts. `audit verify` checks that no entry was altered, removed or cut off."
    )
    parser.add_argument("action", nargs="?", choices=("list", "verify"), default="list", help="default: list")
    parser.add_argument(
        "--against",
        metavar="HEAD",
        help="with verify: a head of the record from the service's log, the MQTT status or a report, as in "
        "17:4f0c...; entries that were cut off since are found",
    )
    parser.add_argument("--kind", choices=[kind.value for kind in Kind], help="with list: only these entries")
    parser.add_argument("--json", action="store_true", help="print JSON: one object an entry")


def run(options: argparse.Namespace) -> int:
    from monitor.audit.trail import AuditTrail

    is_verify = options.action == "verify"
    if options.against and not is_verify:
        raise CommandError("--against is for `audit verify`: write `audit verify --against HEAD`")
    if options.kind and is_verify:
        raise CommandError("`audit verify` checks every entry: leave --kind out")
    trail = AuditTrail.of(load_settings(options))
    if is_verify:
        found = trail.verify(Head.parse(options.against) if options.against else None)
        print_verification(found, as_json=options.json, out=sys.stdout)
        return 0 if found.is_whole else FAILED
    entries = (entry for entry in trail.entries() if options.kind in (None, entry.kind))
    with ending_with_its_reader():
        print_entries(entries, as_json=options.json, out=sys.stdout)
        sys.stdout.flush()
        print_to_stderr(f"head {trail.head()}")
    return 0


def print_verification(found: Verification, *, as_json: bool, out: TextIO) -> None:
    """Print what was found, and what it proves."""
    if as_json:
        document = {
            "whole": found.is_whole,
            "head": found.head.hash,
            "count": found.head.count,
            "problems": found.problems,
            "repaired": found.repaired,
            "torn": found.is_torn,
        }
        print(msgspec.json.encode(document).decode(), file=out)
        return
    for problem in found.problems:
        print(f"ALTERED  {problem}", file=out)
    for note in found.notes:
        print(f"note     {note}", file=out)
    word = "whole" if found.is_whole else "NOT whole"
    print(f"the record is {word}: {found.head.count} entries, head {found.head}", file=out)
    print(PROVES, file=out)
    print(DOES_NOT_PROVE, file=out)


def print_entries(entries: Iterable[Entry], *, as_json: bool, out: TextIO) -> None:
    """Print the entries as a table or as JSON lines."""
    if as_json:
        print_json(entries, out)
        return
    rows = [_COLUMNS, *map(_row, entries)]
    if len(rows) == 1:
        print("no change recorded", file=out)
        return
    print_table(rows, out)


def _row(entry: Entry) -> tuple[str, ...]:
    who = f"{entry.who} ({entry.via})" if entry.via else entry.who
    return (
        str(entry.n),
        entry.utc,
        f"{who}, signed" if entry.signed else who,
        entry.kind,
        entry.subject,
        entry.before if entry.before is not None else "(none)",
        "->",
        entry.after if entry.after is not None else "(none)",
        entry.meaning,
    )
