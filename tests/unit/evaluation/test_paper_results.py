"""The table has the authors' figures beside ours, and its means are over the same categories."""

from __future__ import annotations

import json

import pytest

from monitor.evaluation.paper_results import COMPARED, PRINTED_MEANS, PUBLISHED, as_dict, format_table
from monitor.evaluation.results import Evaluation, Figures, Results


def evaluation(image_auroc: float | None, pro: float | None = 0.5) -> Evaluation:
    figures = Figures(10, image_auroc, 0.75, pro, 0.01, 0.25)
    return Evaluation("r", "sha", 0.1, figures, {"good": figures}, 12.5)


def test_the_published_figures_have_the_means_that_were_published() -> None:
    """The authors' README states 0.955488, 0.970174 and 0.9283467; a figure that is copied wrong changes
    one."""
    for name, mean in zip(COMPARED, (0.955488, 0.970174, 0.9283467), strict=True):
        ours = sum(getattr(figures, name) for figures in PUBLISHED.values()) / 15
        assert ours == pytest.approx(mean, abs=2e-6)
    assert PRINTED_MEANS.image_auroc == pytest.approx(0.955488, abs=5e-4)
    assert PRINTED_MEANS.pixel_auroc == pytest.approx(0.970174, abs=5e-4)


def test_means_are_over_the_same_categories() -> None:
    results = Results({"bottle": evaluation(0.5), "cable": evaluation(1.0)}, {})
    figures = json.loads(json.dumps(as_dict(results), allow_nan=False))
    assert figures["mean"]["image_auroc"] == 0.75
    assert figures["paper"]["mean"]["image_auroc"] == pytest.approx((1.0 + 0.935532) / 2)
    assert [row["category"] for row in figures["categories"]] == ["bottle", "cable"]
    assert figures["categories"][1]["paper"]["pro"] == 0.894954
    assert figures["categories"][1]["per_type"]["good"]["images"] == 10
    lines = format_table(results).splitlines()
    assert lines[1].split() == [
        "bottle", "10", "0.5000", "1.0000", "0.7500", "0.9879", "0.5000", "0.9592", "0.0100", "0.2500"
    ]  # fmt: skip
    assert lines[3].startswith("mean of 2")


def test_a_figure_that_is_not_there_is_counted_on_neither_side() -> None:
    figures = as_dict(Results({"bottle": evaluation(None), "cable": evaluation(1.0)}, {}))
    assert isinstance(figures["mean"], dict)
    assert isinstance(figures["paper"], dict)
    assert figures["mean"]["image_auroc"] == 1.0
    assert figures["paper"]["mean"]["image_auroc"] == 0.935532


def test_a_category_that_nobody_published_has_no_figures_beside_it() -> None:
    results = Results({"bottle": evaluation(0.5), "cap": evaluation(1.0)}, {"lid": "lid: no recipe"})
    figures = as_dict(results)
    assert isinstance(figures["paper"], dict)
    assert figures["paper"]["mean"]["image_auroc"] is None
    assert figures["failed"] == {"lid": "lid: no recipe"}
    assert format_table(results).splitlines()[2].split()[3] == "-"
    unpublished = format_table(Results({"cap": evaluation(1.0), "lid": evaluation(1.0)}, {}))
    assert "paper" not in unpublished
