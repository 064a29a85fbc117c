"""Two versions beside each other: every image is counted once, and each change of a verdict is listed."""

from __future__ import annotations

import math
from pathlib import Path

from monitor.review.version_comparison import ComparedImage, Comparison, draw_changed, explain
from monitor.verdict import Verdict
from tests.real.parts import part, save

PASS, REJECT = Verdict.PASS, Verdict.REJECT


def comparison(*scores: tuple[float, float], folder: Path = Path("parts")) -> Comparison:
    images = tuple(ComparedImage(str(folder / f"{n}.png"), *both) for n, both in enumerate(scores))
    return Comparison("plate@1", "plate@2", (0.5, 0.6), images, ())


def test_counts_add_up_and_changes_are_listed_with_their_paths() -> None:
    compared = comparison((0.5, 0.4), (1.0, 1.2), (3.0, 0.5), (1.5, 0.9), (2.0, 9.0))
    counts = {(one, other): compared.count(one, other) for one in (PASS, REJECT) for other in (PASS, REJECT)}
    assert counts == {(PASS, PASS): 1, (PASS, REJECT): 1, (REJECT, PASS): 2, (REJECT, REJECT): 1}
    histogram = compared.histogram()
    assert [sum(row[column] for row in histogram) for column in (2, 3)] == [5, 5]
    assert sum(row[2] for row in histogram if row[1] <= 1.0) == 1, "a score at the threshold is not below it"
    lines = list(explain(compared))
    assert [line.rpartition("/")[2] for line in lines[-3:]] == ["2.png", "3.png", "1.png"]
    assert "reject -> pass  3.00 -> 0.50 thresholds" in lines[-3]
    assert "verdicts that would change: 3" in lines


def test_a_score_that_is_not_finite_is_counted_and_is_no_pass() -> None:
    compared = comparison((0.5, math.nan), (0.5, math.inf))
    assert [image.verdicts[1] for image in compared.images] == [Verdict.UNINSPECTED] * 2
    assert len(compared.changed) == 2
    assert list(explain(compared))


def test_the_picture_shows_what_would_change(tmp_path: Path) -> None:
    assert draw_changed(comparison((0.5, 0.4), folder=tmp_path)) is None
    save(tmp_path / "0.png", part(0))
    assert draw_changed(comparison((0.5, 1.4), folder=tmp_path)) is not None
