"""One line of totals of several test runs, from the files that pytest's --junit-xml writes.

Used by `deploy/test.sh`: python -m tests.totals RESULT.xml...
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree


def totals(results: Iterable[Path]) -> str:
    """`N passed, N failed, N skipped`. An error counts as failed, and so does a run that left no result."""
    counts: Counter[str] = Counter()
    for result in results:
        try:
            cases = list(ElementTree.parse(result).iter("testcase"))
        except (OSError, ElementTree.ParseError):
            counts["failed"] += 1
            continue
        for case in cases:
            kinds = {child.tag for child in case}
            if kinds & {"failure", "error"}:
                counts["failed"] += 1
            else:
                counts["skipped" if "skipped" in kinds else "passed"] += 1
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "failed", "skipped"))


if __name__ == "__main__":
    print(totals(map(Path, sys.argv[1:])))
