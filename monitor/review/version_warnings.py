"""What a person must read and confirm before a version judges parts. For the page and the command line.

It knows nothing of HTTP and of signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monitor.model.recipe_json import Document
from monitor.model.threshold_change import real_defects, warn_of_change
from monitor.model.version_summary import VersionSummary, summarise


def warn_of_version(
    present: VersionSummary | None, wanted: VersionSummary, labelled: Sequence[float] = ()
) -> tuple[str, ...]:
    """The warnings about `wanted` in place of the version in force; empty where none is needed.

    `labelled` has the scores by `wanted` of the parts that are labelled as real defects now.
    """
    after = wanted.threshold
    if after is None or wanted.document is None:
        return ("This version can't be read.",)
    defects = real_defects(wanted.document.defect_scores, labelled)
    before = present.threshold if present and _have_one_scale(present.document, wanted.document) else None
    return warn_of_change(before or after, after, defects)


def find_warnings(folder: Path, number: int) -> tuple[str, ...]:
    """The same for a version of the recipe in that folder; empty where it has no such version. Raises
    RecipeError."""
    summaries = summarise(folder)
    present = next((one for one in summaries if one.is_in_force), None)
    for summary in summaries:
        if summary.version.number == number:
            return warn_of_version(present, summary)
    return ()


def _have_one_scale(one: Document | None, other: Document) -> bool:
    """Whether the scores of two versions compare: they do where the weights are the same."""
    return one is not None and (one.student, one.memory) == (other.student, other.memory)
