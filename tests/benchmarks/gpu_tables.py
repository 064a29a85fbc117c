"""The goals of `tests.benchmarks.gpu_proof`, and its figures as the tables of the documents.

It needs neither torch nor a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    of_student = {
        row["batch"]: row for row in figures["ways"] if (row["compared"], row["way"]) == ("student", PRODUCT)
    }
    ms, rate = of_student[1]["ms"], of_student[batch]["frames_a_second"]
    apart = max(row["scores_apart"] for row in figures["ways"])
    tests, growth = figures["tests"], figures["growth"]
    kept = not growth["grew"] and growth["frames"] >= growth["wanted"]
    return [
        Goal("CUDA tests that failed or were skipped", tests["failed"] + tests["skipped"], 0, _passed(tests)),
        Goal("ms for one frame from the CPU's memory, student", ms, _MS_TO_SCORE, ms <= _MS_TO_SCORE),
        Goal(
            f"frames a second in batches of {batch}, student",
            rate,
            _FRAMES_A_SECOND,
            rate >= _FRAMES_A_SECOND,
        ),
        Goal("largest difference of a score from eager", apart, _SCORES_APART, apart <= _SCORES_APART),
        Goal("frames without growth of memory", growth["frames"], growth["wanted"], kept),
    ]


def _passed(tests: dict[str, int]) -> bool:
    return tests["passed"] > 0 and tests["failed"] + tests["skipped"] == 0


def table(figures: dict[str, Any]) -> str:
    """The documents' tables, of as many steps as were measured."""
    machine = figures["machine"]
    blocks = [
        f"{machine['device']}, torch {machine['torch']}, CUDA {machine['cuda']}, Python {machine['python']}."
    ]
    if figures["rehearsal"]:
        blocks.insert(0, "**A rehearsal on a CPU: these times say nothing about a GPU.**")
    steps = {"ways": _ways, "overlap": _overlap, "growth": _growth, "goals": _goals}
    blocks += [
        step(figures[name]) if name in figures else f"not measured: {name}" for name, step in steps.items()
    ]
    return "\n\n".join(blocks)


def _ways(rows: Sequence[dict[str, Any]]) -> str:
    head = ["compared with", "batch", "way", "ms", "frames a second", "of eager", "scores apart"]
    return markdown(
        [head]
        + [
            [
                row["compared"],
                str(row["batch"]),
                row["way"],
                f"{row['ms']:.2f}",
                f"{row['frames_a_second']:.0f}",
                f"{row['of_eager']:.2f}",
                f"{row['scores_apart']:.0e}",
            ]
            for row in rows
        ]
    )


def _overlap(rows: Sequence[dict[str, Any]]) -> str:
    head = ["way", "frames", "upload ms", "network ms", "together ms", "GB a second", "hidden"]
    return markdown(
        [head]
        + [
            [
                row["way"],
                str(row["frames"]),
                f"{row['upload_ms']:.1f}",
                f"{row['network_ms']:.1f}",
                f"{row['together_ms']:.1f}",
                f"{row['gigabytes_a_second']:.1f}",
                f"{row['hidden']:.0%}",
            ]
            for row in rows
        ]
    )


def _growth(growth: dict[str, Any]) -> str:
    device, process = (
        (after - before) / 1e6 for before, after in (growth["device_bytes"], growth["process_bytes"])
    )
    return (
        f"{growth['frames']} frames in {growth['seconds']:.0f} s: the GPU's memory grew by {device:.1f} MB, "
        f"the process by {process:.1f} MB."
    )


def _goals(rows: Sequence[dict[str, Any]]) -> str:
    head = ["goal", "measured", "limit", "reached"]
    return markdown(
        [head]
        + [
            [row["what"], f"{row['value']:.3g}", f"{row['limit']:.3g}", "yes" if row["reached"] else "NO"]
            for row in rows
        ]
    )
