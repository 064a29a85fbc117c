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


def _rows(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> str:
    """A table of the rows. `columns` has by title the format of a row's cell."""
    cells = [[shown.format(**row) for shown in columns.values()] for row in rows]
    return markdown([list(columns), *cells])


def _ways(rows: Sequence[dict[str, Any]]) -> str:
    columns = {
        "compared with": "{compared}",
        "batch": "{batch}",
        "way": "{way}",
        "ms": "{ms:.2f}",
        "frames a second": "{frames_a_second:.0f}",
        "of eager": "{of_eager:.2f}",
        "scores apart": "{scores_apart:.0e}",
    }
    return _rows(rows, columns)


def _overlap(rows: Sequence[dict[str, Any]]) -> str:
    columns = {
        "way": "{way}",
        "frames": "{frames}",
        "upload ms": "{upload_ms:.1f}",
        "network ms": "{network_ms:.1f}",
        "together ms": "{together_ms:.1f}",
        "GB a second": "{gigabytes_a_second:.1f}",
        "hidden": "{hidden:.0%}",
    }
    return _rows(rows, columns)


def _growth(growth: dict[str, Any]) -> str:
    device, process = (
        (after - before) / 1e6 for before, after in (growth["device_bytes"], growth["process_bytes"])
    )
    return (
        f"{growth['frames']} frames in {growth['seconds']:.0f} s: the GPU's memory grew by {device:.1f} MB, "
        f"the process by {process:.1f} MB."
    )


def _goals(rows: Sequence[dict[str, Any]]) -> str:
    columns = {"goal": "{what}", "measured": "{value:.3g}", "limit": "{limit:.3g}", "reached": "{reached}"}
    return _rows([{**row, "reached": "yes" if row["reached"] else "NO"} for row in rows], columns)
