"""`check` names the folders and files that the systemd service can't see."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.commands.hidden_paths import find_hidden
from monitor.settings import Settings


def hidden(source: str, data: str = "/srv/line", **mqtt: str) -> list[str]:
    line = Settings(
        line={"data": data},  # type: ignore[arg-type]
        camera=({"name": "top", "source": source, "recipe": "plate"},),  # type: ignore[arg-type]
        mqtt=mqtt,  # type: ignore[arg-type]
    )
    return [finding.text.partition(" is hidden")[0] for finding in find_hidden(line)]


@pytest.mark.parametrize("place", ["/tmp", "/var/tmp", "/home/anna", "/root", "/run/user/1000"])
def test_what_the_service_does_not_see_is_named(place: str) -> None:
    assert hidden(f"folder://{place}/parts?fps=1") == [f"camera top: {place}/parts"]
    assert hidden(f"file://{place}/clip.mp4") == [f"camera top: {place}/clip.mp4"]
    assert hidden("simulated://plate", f"{place}/line") == [f"line.data: {place}/line"]
    assert hidden("simulated://plate", ca_file=f"{place}/ca.crt") == [f"mqtt.ca_file: {place}/ca.crt"]


def test_what_the_service_sees_is_not_named() -> None:
    assert hidden("folder:///srv/tmp/parts", "/var/lib/line-monitor") == []
    assert hidden("folder:///tmpfiles/parts", "/homes/line") == []
    assert hidden("rtsp://10.0.0.5/tmp/live") == []


def test_a_link_to_a_hidden_folder_is_named_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/home/anna/parts")
    assert hidden(f"folder://{tmp_path}/link") == [f"camera top: {tmp_path}/link, which is /home/anna/parts"]
