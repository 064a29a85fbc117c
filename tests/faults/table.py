"""Runs every fault once: `python -m tests.faults.table`. The exit code is 1 if a promise was broken."""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.markdown import markdown
from tests.faults.catalogue import FAULTS
from tests.faults.plant import Plant, Unavailable
from tests.faults.scenario import Outcome, moment, run_fault

HEAD = ("fault", "what the line did", "noticed", "whole again", "parts", "uninspected")


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def row(outcome: Outcome) -> tuple[str, ...]:
    lost = ", ".join(f"{count} {reason}" for reason, count in outcome.uninspected.items())
    if outcome.abandoned:
        lost = f"{lost}, {outcome.abandoned} in flight".removeprefix(", ")
    return (
        outcome.fault,
        outcome.did,
        seconds(outcome.noticed_s),
        seconds(outcome.recovered_s),
        str(outcome.parts),
        lost or "0",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a regular expression for the faults' names")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(100_000))
    options = parser.parse_args()
    untried: list[str] = []
    rows: list[tuple[str, ...]] = [HEAD]
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name, Plant(Path(name)) as plant:
        for fault in FAULTS:
            if not re.search(options.only, fault.name):
                continue
            try:
                outcome = run_fault(plant, fault, before_s=moment(options.seed, fault))
            except Unavailable as why:
                untried.append(f"{fault.name}: {why}")
                rows.append((fault.name, f"not tried: {why}", "", "", "", ""))
                continue
            rows.append(row(outcome))
            print("\t".join(rows[-1]), outcome.quiet, file=sys.stderr, flush=True)
            wrong += [f"{fault.name}: {one}" for one in outcome.wrong]
            for one in outcome.wrong[:10]:
                print(f"  WRONG: {one}", file=sys.stderr, flush=True)
        counts, unseen = plant.gateway.counts(), len(plant.audit.unseen())
    print(markdown(rows))
    print(f"\n{counts.parts} parts: the gateway let {counts.passed} pass and removed {counts.removed}.")
    print(
        f"{unseen} of them passed a camera while it gave no frames; {counts.unmatched} messages met no part."
    )
    print(f"The moments of the faults are those of --seed {options.seed}.")
    for one in untried:
        print(f"NOT TRIED: {one}")
    for one in wrong:
        print(f"WRONG: {one}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
