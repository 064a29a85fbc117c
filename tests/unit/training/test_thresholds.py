"""The threshold keeps its promise: it rejects at most the given share of good parts (overkill)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monitor.pyramid import anomaly_map
from monitor.teachers.architectures import LEVELS, build_trunk, map_ceiling
from monitor.training.thresholds import (
    CalibrationError,
    add_overkills,
    calibrate_again,
    confident_rate,
    explain,
    explain_all,
    format_bound,
    images_needed,
    is_extrapolated,
    make_calibration,
    rank,
    share_float32_threshold,
    useful_parts,
    without_guarantee,
)


@pytest.mark.parametrize(
    ("count", "overkill", "expected"),
    [
        (99, 0.01, 99),
        (98, 0.01, 99),
        (199, 0.01, 198),
        (9, 0.1, 9),
        (19, 0.05, 19),
        (100, 0.5, 51),
        (1, 0.01, 2),
    ],
)
def test_the_rank_is_the_conformal_one(count: int, overkill: float, expected: int) -> None:
    assert rank(count, overkill) == expected


@pytest.mark.parametrize("overkill", [0.001, 0.01, 0.02, 0.05, 0.1, 1 / 3, 0.5])
def test_the_guarantee_begins_where_it_says(overkill: float) -> None:
    enough = images_needed(overkill)
    assert rank(enough, overkill) <= enough
    assert rank(enough - 1, overkill) > enough - 1


@pytest.mark.parametrize(("count", "overkill"), [(99, 0.01), (60, 0.05), (200, 0.02)])
def test_good_parts_are_rejected_at_the_promised_rate_whatever_their_scores(
    count: int, overkill: float
) -> None:
    """The rate is an average over calibration sets, from a distribution that the code does not assume."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(3000):
        threshold = make_calibration((rng.pareto(2, count) + 0.1).tolist(), overkill).threshold
        rates.append((threshold - 0.1 + 1) ** -2.0)  # The probability that another score is larger.
    error = np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) <= overkill + 3 * error
    assert np.mean(rates) >= overkill - 1 / (count + 1) - 3 * error


@pytest.mark.parametrize("overkill", [0.9, 0.999999, 1 - 1e-12, math.nextafter(1, 0)])
def test_whoever_bears_any_overkill_gets_the_lowest_score(overkill: float) -> None:
    assert make_calibration([3.0, 1.0, 2.0, 4.0], overkill).threshold == 1.0


def test_a_score_equal_to_the_threshold_is_a_calibration_score_and_passes() -> None:
    scores = [0.1 * i for i in range(1, 100)]
    found = make_calibration(scores, 0.01)
    assert found.guaranteed
    assert found.threshold == max(scores)


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("count", [1, 2, 8, 16, 40, 98])
def test_with_few_images_the_estimate_is_near_what_was_asked_for(count: int, spread: float) -> None:
    """The overkill is far below that of the largest score alone, and the threshold still rejects defects."""
    rng = np.random.default_rng(1)
    rates, over_best = [], []
    best = math.exp(2.326 * spread)  # One good part in a hundred exceeds this.
    for _ in range(300):
        scores = np.exp(rng.normal(0, spread, count)).tolist()
        found = make_calibration(scores, 0.01, extrapolate=True)
        assert not found.guaranteed
        rates.append(0.5 * math.erfc(math.log(found.threshold) / spread / math.sqrt(2)))
        over_best.append(found.threshold / best)
    assert np.mean(rates) < (0.03 if count > 4 else 0.2)
    assert np.median(over_best) < 2


def test_the_margin_is_gone_where_the_guarantee_begins() -> None:
    scores = np.exp(np.random.default_rng(2).normal(0, 0.4, 98))
    found = make_calibration(scores.tolist(), 0.01, extrapolate=True)
    assert found.threshold == pytest.approx(scores.max(), rel=0.02)


@pytest.mark.parametrize("architecture", LEVELS)
def test_no_anomaly_map_is_above_its_ceiling(architecture: str) -> None:
    """The map of a teacher's levels and of the student's levels that are as far from them as possible."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(3)
        seen = build_trunk(architecture).eval()(torch.randn(2, 3, 64, 64))
    signed = any(bool((level < 0).any()) for level in seen)
    # The farthest vector is the opposite one. Where no value may be negative, it is 1 where the teacher's
    # value is 0, and 0 elsewhere.
    farthest = [-level if signed else (level == 0).float() for level in seen]
    ceiling = map_ceiling(architecture)
    assert float(anomaly_map(seen, farthest).max()) == pytest.approx(ceiling, rel=0.01)


@pytest.mark.parametrize("ceiling", [8.0, 64.0])
@pytest.mark.parametrize(
    "scores", [[1, 2, 2.5, 3, 3, 4, 5, 6.2], [7.9], [8.0, 8.0], [7.0] * 30, [0.0, 7.99], [4.0, 8.000001]]
)
def test_an_estimate_is_never_above_what_a_map_can_reach(scores: list[float], ceiling: float) -> None:
    threshold = make_calibration(scores, 0.01, ceiling, extrapolate=True).threshold
    assert max(scores) <= threshold <= max(ceiling, *scores)
    before = make_calibration(scores[:1], 0.01, ceiling, extrapolate=True)
    assert add_overkills(before, scores[1:], ceiling).threshold <= max(ceiling, *scores)


def test_an_estimate_below_the_ceiling_leaves_room_for_rejects() -> None:
    found = make_calibration([1, 2, 2.5, 3, 3, 4, 5, 6.2], 0.01, 8.0, extrapolate=True)
    assert 6.2 < found.threshold < 7.5


def test_far_below_the_ceiling_it_changes_nothing() -> None:
    scores = np.exp(np.random.default_rng(4).normal(-5, 0.4, 20)).tolist()
    free = make_calibration(scores, 0.01, extrapolate=True).threshold
    under = make_calibration(scores, 0.01, 8.0, extrapolate=True).threshold
    assert under == pytest.approx(free, rel=0.01)


@pytest.mark.parametrize("shape", [(2, 2), (5, 2), (2, 6)])
@pytest.mark.parametrize("count", [8, 16, 40])
def test_under_a_ceiling_the_estimate_is_near_what_was_asked_for_too(
    count: int, shape: tuple[float, float]
) -> None:
    """The scores end at the ceiling; they have beta distributions, which the code does not assume."""
    rng = np.random.default_rng(5)
    many = 8 * rng.beta(*shape, 100_000)
    rates = [
        np.mean(many > make_calibration(scores, 0.01, 8.0, extrapolate=True).threshold)
        for scores in (8 * rng.beta(*shape, (200, count))).tolist()
    ]
    assert 0.005 < np.mean(rates) < 0.06


def test_a_threshold_that_hardly_any_defect_reaches_is_said_once() -> None:
    high, low = make_calibration([1, 2, 5, 6.2], 0.01, 8.0), make_calibration([0.1, 0.2], 0.01, 8.0)
    printed = list(explain_all({"torch-f32": high, "openvino-f32": high}))
    assert len(printed) == 2
    assert printed[0].endswith("(for torch-f32, openvino-f32)"), "equal thresholds are said once"
    assert printed[1].startswith(f"warning: the threshold {high.threshold:.4g} is so high")
    assert len(list(explain_all({"torch-f32": low}))) == 1
    assert len(list(explain_all({"torch-f32": low, "openvino-f32": make_calibration([0.1, 0.3], 0.01)}))) == 2


@pytest.mark.parametrize(
    ("threshold", "unrelated", "warned"),
    [
        (4.0, 8.0, False),
        (5.08, 8.0, False),
        (5.99, 8.0, False),
        (6.0, 8.0, True),
        (6.75, 8.0, True),
        (6.0, math.inf, False),
    ],
)
def test_hardly_any_defect_is_said_from_six_of_eight_on(
    threshold: float, unrelated: float, warned: bool
) -> None:
    """A student with a threshold of 5.08 let 5 % of its defects pass; those from 6 on let 90 % and more."""
    printed = list(explain_all({"torch-f32": make_calibration([1.0, threshold], 0.01)}, (), unrelated))
    assert any("hardly any defect" in line for line in printed) is warned


@pytest.mark.parametrize(("quick", "warned"), [(0.98, False), (0.5, True)])
def test_eight_bits_that_would_take_longer_than_they_save_are_advised_against(
    quick: float, warned: bool
) -> None:
    scores = [0.2 + 0.01 * n for n in range(60)]
    found = dict.fromkeys(("torch-f32", "openvino-f32", "openvino-int8"), make_calibration(scores, 0.05))
    # In every other pair the int8 score is `quick` times the float32 score.
    pairs = [(score * (quick if n % 2 else 1.0), score) for n, score in enumerate(scores)]
    printed = [line for line in explain_all(found, pairs) if line.startswith("int8: ")]
    assert bool(printed) is warned
    assert not warned or 'better not set precision = "int8"' in printed[0]


def test_how_many_more_images_are_needed_is_said() -> None:
    assert "83 more good parts" in explain(make_calibration([1.0] * 16, 0.01))
    assert "; 1 more good part that calibrates is needed for 1 %" in explain(
        make_calibration([1.0] * 98, 0.01)
    )
    assert "at most 1 %" in explain(make_calibration([1.0] * 99, 0.01))


def test_scores_that_are_no_numbers_are_no_calibration() -> None:
    with pytest.raises(CalibrationError, match="not finite"):
        make_calibration([1.0, math.nan], 0.01)
    with pytest.raises(CalibrationError, match="no good images"):
        make_calibration([], 0.01)
    assert make_calibration([0.0, 0.0], 0.01).threshold > 0


@pytest.mark.parametrize(("count", "overkill"), [(1, 0.01), (16, 0.01), (60, 0.01), (98, 0.01), (20, 0.02)])
def test_too_few_images_guarantee_the_smallest_rate_that_they_can(count: int, overkill: float) -> None:
    scores = np.random.default_rng(6).random(count).tolist()
    found = make_calibration(scores, overkill)
    assert found.threshold == max(scores), "a threshold above every good part is for --extrapolate alone"
    assert not found.guaranteed
    assert not is_extrapolated(found)
    assert found.guarantee == pytest.approx(1 / (count + 1))
    assert found.guarantee > overkill


@pytest.mark.parametrize("left_out", [0, 3])
@pytest.mark.parametrize("overkill", [0.005, 0.01, 0.013, 0.05])
def test_so_many_parts_are_useful_that_one_part_less_would_have_a_higher_threshold_or_no_guarantee(
    overkill: float, left_out: int
) -> None:
    for count in range(1, 700):
        useful = useful_parts(count, overkill, left_out)
        assert useful <= count
        # The number of parts above the threshold is the same for all parts and for the useful ones.
        above = [number + left_out - rank(number + left_out, overkill) for number in (count, useful)]
        assert above[0] == above[1]
        if useful < count:
            fewer = useful - 1 + left_out
            assert fewer - rank(fewer, overkill) < above[1]


def test_both_guarantees_are_said() -> None:
    few = explain(make_calibration([1.0] * 60, 0.01))
    assert "at most 1.7 % of good parts" in few
    assert "39 more good parts" in few
    assert "an estimate above all of them" in explain(make_calibration([1.0] * 60, 0.01, extrapolate=True))
    of_parts = explain(make_calibration([1.0] * 60, 0.01, parts=[n // 3 for n in range(60)]))
    assert "60 calibration images of 20 parts" in of_parts
    assert "79 more good parts that calibrate are needed" in of_parts


@pytest.mark.parametrize(
    ("rate", "text"), [(1 / 61, "1.7 %"), (0.0298, "3 %"), (0.01, "1 %"), (0.158, "16 %"), (0.0, "0 %")]
)
def test_a_bound_is_rounded_up(rate: float, text: str) -> None:
    assert format_bound(rate) == text


def test_one_recipe_stays_below_3_percent_with_99_images_at_1_percent() -> None:
    found = make_calibration(np.random.default_rng(7).random(99).tolist(), 0.01)
    assert found.guarantee == 0.01
    assert found.confident == pytest.approx(0.0298, abs=5e-5)


@pytest.mark.parametrize(("count", "overkill"), [(99, 0.01), (60, 0.01), (150, 0.02), (400, 0.05)])
def test_19_of_20_recipes_stay_below_the_confident_rate(count: int, overkill: float) -> None:
    rng = np.random.default_rng(8)
    bound = confident_rate(count, max(overkill, 1 / (count + 1)))
    rates = [1 - make_calibration(rng.random(count).tolist(), overkill).threshold for _ in range(4000)]
    below = np.mean(np.asarray(rates) < bound)
    assert below == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 4000))


def test_with_one_image_a_part_the_weighted_rule_is_the_rank_rule() -> None:
    rng = np.random.default_rng(9)
    for count in (1, 5, 19, 99, 100, 151):
        scores = rng.random(count).tolist()
        for overkill in (0.005, 0.01, 0.02, 0.05, 0.1, 1 / 3, 0.9):
            plain = make_calibration(scores, overkill)
            assert make_calibration(scores, overkill, parts=range(count)) == plain
            if plain.guaranteed:
                assert plain.threshold == sorted(scores)[rank(count, overkill) - 1]


def test_images_of_one_part_share_its_weight() -> None:
    """Of 4 parts, the one with three images counts as much as each of the others."""
    scores, parts = [1.0, 2.0, 3.0, 7.0, 8.0, 9.0], [0, 1, 2, 3, 3, 3]
    rates = {0.2: 9.0, 0.26: 9.0, 0.27: 8.0, 0.34: 7.0, 0.4: 3.0, 0.41: 3.0, 0.6: 2.0}
    found = {rate: make_calibration(scores, rate, parts=parts).threshold for rate in rates}
    assert found == rates
    assert make_calibration(scores, 0.1, parts=parts).guarantee == pytest.approx(0.2)
    with pytest.raises(ValueError, match="5 numbers of parts for 6 scores"):
        make_calibration(scores, 0.1, parts=parts[:5])


@pytest.mark.parametrize(("count", "overkill"), [(39, 0.05), (60, 0.05), (99, 0.01), (150, 0.02)])
def test_images_that_hang_together_by_part_keep_both_guarantees(count: int, overkill: float) -> None:
    """Each part has 1 to 5 images, whose scores are its own level and a little noise."""
    rng = np.random.default_rng(10)
    many_levels = rng.normal(0, 1, (4000, 1))
    many = np.sort((many_levels + rng.normal(0, 0.1, (4000, 25))).ravel())
    rates = []
    for _ in range(500):
        sizes = rng.integers(1, 6, count)
        parts = np.repeat(np.arange(count), sizes)
        scores = rng.normal(0, 1, count)[parts] + rng.normal(0, 0.1, len(parts)) + 20
        found = make_calibration(scores.tolist(), overkill, parts=parts.tolist())
        rates.append(1 - np.searchsorted(many, found.threshold - 20, "right") / len(many))
    assert found.confident is not None
    assert np.mean(rates) <= overkill + 3 * np.std(rates) / math.sqrt(len(rates))
    assert np.mean(np.asarray(rates) < found.confident) > 0.93


def test_several_images_a_part_never_make_the_confident_rate_lower() -> None:
    for count in (1, 20, 99, 100, 199, 500):
        for overkill in (0.01, 0.05, 0.3):
            reached = max(overkill, 1 / (count + 1))
            plain = confident_rate(count, reached)
            grouped = confident_rate(count, reached, one_image_a_part=False)
            assert grouped >= plain - 1e-9
            if rank(count, reached) == count and reached == 1 / (count + 1):
                assert grouped == pytest.approx(plain)


def test_another_rate_from_the_recorded_scores_is_what_calibrating_at_it_gives() -> None:
    rng = np.random.default_rng(11)
    scores, parts = rng.random(300).tolist(), [n // 2 for n in range(300)]
    before = make_calibration(scores, 0.01, parts=parts)
    again = calibrate_again(before, 0.05)
    assert again == make_calibration(scores, 0.05, parts=parts)
    assert calibrate_again(again, 0.01) == before
    with_overkills = calibrate_again(add_overkills(before, [2.0, 3.0]), 0.05)
    assert with_overkills.added == (2.0, 3.0)
    assert with_overkills.threshold >= again.threshold


def test_scores_that_selected_the_student_guarantee_nothing_at_any_rate() -> None:
    chosen = without_guarantee(make_calibration([1.0] * 200, 0.01))
    assert "these images selected the student" in explain(chosen)
    again = calibrate_again(chosen, 0.05, as_paper=True)
    assert not again.guaranteed
    assert again.guarantee is None
    assert again.confident is None
    fresh = make_calibration([1.0] * 200, 0.01)
    assert calibrate_again(fresh, 0.05, as_paper=True).guaranteed, "calibrated again with new images"


def test_overkills_keep_the_parts_and_both_guarantees() -> None:
    before = make_calibration([1.0, 1.1, 2.0, 2.1, 3.0, 3.1] * 10, 0.05, parts=[n // 2 for n in range(60)])
    after = add_overkills(before, [5.0])
    assert (after.parts, after.guarantee, after.confident) == (
        before.parts,
        before.guarantee,
        before.confident,
    )
    assert after.scores == before.scores
    assert after.threshold >= before.threshold


def test_int8_with_float32_s_threshold_above_its_own_scores_is_no_estimate() -> None:
    exact, quick = make_calibration([1.0, 2.0], 0.01), make_calibration([0.9, 1.9], 0.01)
    shared = share_float32_threshold({"openvino-f32": exact, "openvino-int8": quick})["openvino-int8"]
    assert shared.threshold == 2.0
    assert not is_extrapolated(shared)
    assert "estimate" not in explain(shared)
