"""The bar at the top: words for every state, green only where the line may run and parts are inspected."""

from __future__ import annotations

import itertools

import pytest

from monitor.line_state.latch_file import Latch
from monitor.publish.status import OperatingState
from monitor.review.state_banner import Light, ServiceState, StateBanner, describe_state

REASONS = (
    None,
    "starting",
    "camera_starting",
    "camera_lost",
    "camera_frozen",
    "camera_undated",
    "scorer_lost",
    "no_recipe",
    "worker_failing",
    "drift",
    "journal",
    "no_time",
    "a reason of a later version",
    *(latch.word for latch in Latch if latch is not Latch.NONE),
)


def test_green_stands_only_where_parts_are_inspected_and_the_line_may_run() -> None:
    for service, state, reason, is_ready, may_run in itertools.product(
        ServiceState, OperatingState, REASONS, (False, True), (False, True)
    ):
        banner = describe_state(service, state, reason, is_ready=is_ready, may_run=may_run)
        assert 0 < len(banner.headline) <= 16
        assert banner.sentence
        if banner.light is Light.GREEN:
            assert (service, is_ready, may_run) == (ServiceState.RUNNING, True, True)


@pytest.mark.parametrize("latch", [latch.word for latch in Latch if latch is not Latch.NONE])
def test_a_latched_line_asks_for_a_look_and_a_reset(latch: str) -> None:
    banner = describe_state(
        ServiceState.RUNNING, OperatingState.DEGRADED, latch, is_ready=False, may_run=False
    )
    assert (banner.light, banner.needs_reset) == (Light.RED, True)


def test_a_lost_camera_is_named() -> None:
    banner = describe_state(
        ServiceState.RUNNING,
        OperatingState.DEGRADED,
        "camera_lost",
        is_ready=False,
        may_run=False,
        cameras=("top",),
    )
    assert banner == StateBanner(
        Light.RED,
        "Camera lost",
        "Camera top: Look at its cable, its power, its network or its folder of images. "
        "The line may not run.",
    )


def test_a_line_without_a_recipe_leads_to_the_page_that_teaches_one() -> None:
    banner = describe_state(
        ServiceState.RUNNING, OperatingState.DEGRADED, "no_recipe", is_ready=False, may_run=False
    )
    assert (banner.light, banner.needs_recipe) == (Light.RED, True)
