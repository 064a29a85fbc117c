"""A reload takes over deadlines and the log's level, and names every other setting that differs."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.service.reload import compare_settings
from monitor.settings import Settings


def line(log: str = "info", mqtt: dict[str, object] | None = None, **cameras: Any) -> Settings:
    """Settings with the cameras `top` and `side`; each argument has further settings of one camera, or None
    for no such camera."""
    tables = [
        {"name": name, "source": "rtsp://me:first@host/path", "recipe": "plate", **more}
        for name, more in {"top": {}, "side": {}, **cameras}.items()
        if more is not None
    ]
    values = {"line": {"data": "/data"}, "camera": tables, "log": {"level": log}, "mqtt": mqtt or {}}
    return Settings.model_validate(values)


def test_a_deadline_and_the_gates_last_moment_that_follows_from_it_are_taken_over() -> None:
    found = compare_settings(line(), line(top={"deadline_ms": 400}))
    assert found.needs_restart == ()
    assert found.settings == line(top={"deadline_ms": 400})
    assert found.lines() == [
        "settings reloaded: camera top: deadline_ms 250 -> 400, from the next frame on",
        "settings reloaded: camera top: actuate_ms 750 -> 900, from the next frame on",
    ]


def test_a_deadline_alone_is_taken_over_where_the_last_moment_is_set() -> None:
    before, after = ({"deadline_ms": ms, "actuate_ms": 1000} for ms in (250, 300))
    found = compare_settings(line(side=before), line(side=after))
    assert found.changed == ("camera side: deadline_ms 250 -> 300, from the next frame on",)


def test_the_level_of_the_log_is_taken_over() -> None:
    found = compare_settings(line(), line(log="debug"))
    assert (found.changed, found.needs_restart) == (("log.level info -> debug",), ())
    assert found.settings.log.level == "debug"


@pytest.mark.parametrize(
    ("after", "path"),
    [
        (line(mqtt={"port": 8883}), "mqtt.port"),
        (line(mqtt={"password": "secret"}), "mqtt.password"),
        (line(top={"mode": "latest"}), "camera.top.mode"),
        (line(top={"source": "rtsp://me:first@host/other"}), "camera.top.source"),
        (line(top={"source": "rtsp://me:second@host/path"}), "camera.top.source"),
        (line(side=None), "camera.side"),
        (line(third={}), "camera.third"),
        (line(mqtt={"keepalive_s": 5}), "mqtt.keepalive_s"),
    ],
)
def test_what_needs_a_restart_is_named_and_not_taken_over(after: Settings, path: str) -> None:
    found = compare_settings(line(), after)
    assert found.settings == line()
    assert found.needs_restart == (path,)
    (said,) = found.lines()
    assert said.startswith(f"settings reloaded: {path} can't be changed while the line runs: restart")
    assert not any(secret in said for secret in ("first", "second", "secret"))


def test_both_kinds_of_change_at_once_are_both_told() -> None:
    after = line(log="error", mqtt={"port": 1884}, top={"deadline_ms": 300, "recipe": "bottle"}, side=None)
    found = compare_settings(line(), after)
    assert len(found.changed) == 3
    assert found.needs_restart == ("camera.side", "camera.top.recipe", "mqtt.port")
    assert found.settings.camera_named("top").deadline_ms == 300
    assert found.settings.camera_named("top").recipe == "plate"
    again = compare_settings(found.settings, after)
    assert (again.changed, again.needs_restart) == ((), found.needs_restart), "still to be restarted for"


def test_a_reload_without_a_change_says_so() -> None:
    assert compare_settings(line(), line()).lines() == [
        "settings reloaded: nothing that the line uses has changed"
    ]
