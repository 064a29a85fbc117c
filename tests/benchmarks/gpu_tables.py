"""The goals of `tests.benchmarks.gpu_proof`, and its figures as the tables of the documents.

It needs neither torch nor a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.benchmarks.markdown import markdown

EAGER, PLAIN, PRODUCT = "eager", "plain half", "product"
_MS_TO_SCORE, _FRAMES_A_SECOND = 1.5, 10_000
"""The goals for a student: one frame from the CPU's memory, and batches from the GPU's."""
_SCORES_APART = 1e-2
"""As `monitor.inference.backends.MAX_MAP_DIFFERENCE` has it for half precision."""


@dataclass(frozen=True)
class Goal:
    what: str
    value: float
    limit: float
    reached: bool


def goals(figures: dict[str, Any]) -> list[Goal]:
    """What was promised, and what was measured."""
    batch = figures["size"]["batch"]

    def product(wanted: int) -> dict[str, Any]:
        rows = figures["ways"]
        return next(
            row for row in rows if (row["compared"], row["batch"], row["way"]) == ("student", wanted, PRODUCT)
        )

    ms, rate = product(1)["ms"], product(batch)["frames_a_second"]
    apart = max(row["scores_apart"] for row in figures["ways"])
    tests, growth = figures["tests"], figures["growth"]
    return [
        Goal(
            "CUDA tests that failed",
            tests["failures"] + tests["errors"],
            0,
            tests["exit_code"] == 0 and tests["tests"] > 0,
        ),
        Goal("ms for one frame from the CPU's memory, student", ms, _MS_TO_SCORE, ms <= _MS_TO_SCORE),
        Goal(
            f"frames a second in batches of {batch}, student",
            rate,
            _FRAMES_A_SECOND,
            rate >= _FRAMES_A_SECOND,
        ),
        Goal(
            "largest difference of a score from eager",
            apart,
            _SCORES_APART,
            apart <= _SCORES_APART,
        ),
        Goal(
            "frames without growth of memory",
            growth["frames"],
            growth["wanted"],
            not growth["grew"] and growth["frames"] >= growth["wanted"],
        ),
    ]


def table(figures: dict[str, Any]) -> str:
    """The documents' tables."""
    machine, growth = figures["machine"], figures["growth"]
    ways = [["compared with", "batch", "way", "ms", "frames a second", "of eager", "scores apart"]]
    ways += [
        [
            row["compared"],
            str(row["batch"]),
            row["way"],
            f"{row['ms']:.2f}",
            f"{row['frames_a_second']:.0f}",
            f"{row['of_eager']:.2f}",
            f"{row['scores_apart']:.0e}",
        ]
        for row in figures["ways"]
    ]
    overlap = [["way", "frames", "upload ms", "network ms", "together ms", "GB a second", "hidden"]]
    overlap += [
        [
            row["way"],
            str(row["frames"]),
            f"{row['upload_ms']:.1f}",
            f"{row['network_ms']:.1f}",
            f"{row['together_ms']:.1f}",
            f"{row['gigabytes_a_second']:.1f}",
            f"{row['hidden']:.0%}",
        ]
        for row in figures["overlap"]
    ]
    reached = [["goal", "measured", "limit", "reached"]]
    reached += [
        [goal["what"], f"{goal['value']:.3g}", f"{goal['limit']:.3g}", "yes" if goal["reached"] else "NO"]
        for goal in figures["goals"]
    ]
    device, process = (
        (after - before) / 1e6 for before, after in (growth["device_bytes"], growth["process_bytes"])
    )
    rehearsal = (
        "**A rehearsal on a CPU: these times say nothing about a GPU.**\n\n" if figures["rehearsal"] else ""
    )
    return (
        f"{rehearsal}{machine['device']}, torch {machine['torch']}, CUDA {machine['cuda']}, "
        f"Python {machine['python']}.\n\n"
        f"{markdown(ways)}\n\n{markdown(overlap)}\n\n"
        f"{growth['frames']} frames in {growth['seconds']:.0f} s: the GPU's memory grew by {device:.1f} MB, "
        f"the process by {process:.1f} MB.\n\n{markdown(reached)}"
    )
