"""The state of all lines as it follows from their messages."""

from __future__ import annotations

import json
from typing import Any

from monitor.fleet.plant_overview import PlantOverview, explain_lines, find_differences, make_payload


def take(plant: PlantOverview, topic: str, now_s: float = 0.0, **payload: Any) -> None:
    plant.take(topic, json.dumps({"schema": 1, **payload}).encode(), now_s)


def take_status(plant: PlantOverview, line: str, now_s: float = 0.0, **changes: Any) -> None:
    status = {"state": "inspecting", "ready": True, "reason": None, "session": "s", **changes}
    take(plant, f"plant/{line}/status", now_s, **status)


def take_recipe(plant: PlantOverview, line: str, sha: str) -> None:
    take(plant, f"plant/{line}/top/recipe", in_force={"recipe": "bottle", "recipe_sha": sha * 64})


def test_a_will_makes_a_line_offline_at_once() -> None:
    plant = PlantOverview()
    take_status(plant, "line1")
    assert plant.lines(0.0)[0].ready
    take_status(plant, "line1", 0.1, state="offline", ready=False, reason="offline")
    assert plant.lines(0.1)[0].state == "offline"
    assert not plant.lines(0.1)[0].ready


def test_a_line_without_a_heartbeat_for_two_seconds_is_silent_and_not_ready() -> None:
    plant = PlantOverview()
    take_status(plant, "line1")
    take(plant, "plant/line1/heartbeat", 5.0, n=1)
    (alive,), (silent,) = plant.lines(6.9), plant.lines(7.0)
    assert (alive.state, alive.ready) == ("inspecting", True)
    assert (silent.state, silent.ready) == ("silent", False)


def test_it_is_settled_once_each_line_has_been_heard_or_is_gone() -> None:
    plant = PlantOverview()
    assert not plant.is_settled()
    take_status(plant, "line1")
    take_status(plant, "line2", state="stopped", ready=False)
    assert not plant.is_settled()
    take(plant, "plant/line1/heartbeat", 0.5, n=1)
    assert plant.is_settled()


def test_other_versions_of_one_recipe_are_named() -> None:
    plant = PlantOverview()
    for line, sha in (("line1", "a"), ("line2", "a"), ("line3", "b")):
        take_status(plant, line, drift=["top"] if line == "line2" else [])
        take_recipe(plant, line, sha)
    lines = plant.lines(0.0)
    (difference,) = find_differences(lines)
    assert difference.lines == {
        "a" * 64: ("plant/line1/top", "plant/line2/top"),
        "b" * 64: ("plant/line3/top",),
    }
    text = list(explain_lines(lines))
    assert text[-1].startswith("recipe 'bottle' differs: @aaaaaaaaaaaa on plant/line1/top")
    assert "top" in text[2].split()
    assert not any(row.startswith("sum") for row in text), "nobody counts"
    take_recipe(plant, "line3", "a")
    assert find_differences(plant.lines(0.0)) == []


def test_parts_are_summed_over_the_lines_that_count_since_their_start() -> None:
    plant = PlantOverview()
    counts = {"passed": 1200, "rejected": 30, "uninspected": 4}
    for line in ("line1", "line2", "line3", "line4"):
        take_status(plant, line)
    take(plant, "plant/line1/heartbeat", counts=counts)
    take(plant, "plant/line2/heartbeat", counts=counts)
    take(plant, "plant/line3/heartbeat", counts={**counts, "passed": True})
    take(plant, "plant/line4/heartbeat", n=1)
    said = make_payload(plant.lines(0.0))
    assert [line["counts"] for line in said["lines"]] == [counts, counts, None, None]
    assert said["counts"] == {"passed": 2400, "rejected": 60, "uninspected": 8}
    assert " ".join(list(explain_lines(plant.lines(0.0)))[-1].split()) == "sum of 2 lines 2,400 60 8"
    take_status(plant, "line2", session="the next")
    assert make_payload(plant.lines(0.0))["counts"] == counts


def test_messages_of_other_programs_are_ignored_and_a_removed_line_is_gone() -> None:
    plant = PlantOverview()
    plant.take("zigbee/lamp/status", b"on", 0.0)
    plant.take("plant/line1/status", b'{"ready": true}', 0.0)
    assert plant.lines(0.0) == []
    take_status(plant, "line1")
    assert len(plant.lines(0.0)) == 1
    plant.take("plant/line1/status", b"", 0.0)
    assert plant.lines(0.0) == []
