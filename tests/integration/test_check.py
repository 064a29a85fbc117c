"""Each problem that `check` reports, on a machine that really has it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor import paths
from monitor.commands.check import Finding, Level, _clock, _jumbo_frames, findings
from monitor.settings import Settings, load_settings
from tests.real import parts_folder
from tests.real.mosquitto import Mosquitto

WriteConfig = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Path:
    """A line with a real broker and without a trained recipe."""
    (tmp_path / "data/recipes").mkdir(parents=True)
    parts_folder.write_parts(tmp_path / "parts", 3, bad_every=0)
    config = tmp_path / "line.toml"
    config.write_text(
        f'[line]\ndata = "data"\n[mqtt]\nport = {broker.port}\n[metrics]\nport = 0\n[review]\nport = 0\n'
        f'[[camera]]\nname = "top"\nrecipe = "plate"\nsource = "folder://{tmp_path}/parts?fps=50&loop=1"\n'
    )
    return config


def of(item: str, config: Path) -> list[Finding]:
    return [finding for finding in findings(config) if finding.item == item]


def test_a_port_that_another_program_has_is_told(config: Path) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        config.write_text(config.read_text().replace("[metrics]\nport = 0", f"[metrics]\nport = {port}"))
        (found,) = of("metrics", config)
        config.write_text(config.read_text().replace("[review]\nport = 0", f"[review]\nport = {port}"))
        review = of("review", config)
    assert "would be served" in review[0].text
    assert f"review.port {port} can't be opened" in review[1].text
    assert found.level is Level.FAIL
    assert f"metrics.port {port} can't be opened: Address already in use" in found.text
    assert f"ss -ltnp 'sport = :{port}'" in found.text
    assert not of("metrics", config), "the port is free again"


def test_a_line_that_runs_is_left_alone(config: Path) -> None:
    with socket.socket() as metrics:
        metrics.bind(("0.0.0.0", 0))
        metrics.listen()
        port = metrics.getsockname()[1]
        config.write_text(config.read_text().replace("[metrics]\nport = 0", f"[metrics]\nport = {port}"))
        with paths.DataLock(load_settings(config)):
            found = {finding.item: finding for finding in findings(config)}
    assert found["service"].level is Level.OK
    assert f"pid {os.getpid()}" in found["service"].text
    assert "metrics" not in found, "the line itself uses the port"
    assert "in use by the running line" in found["camera top"].text
    assert "publish" not in found["broker"].text, "nothing is published for a running line"


def test_one_folder_for_two_cameras_is_told_with_both_names(config: Path, tmp_path: Path) -> None:
    assert not of("cameras", config)
    (tmp_path / "link").symlink_to("parts")
    second = f'[[camera]]\nname = "side"\nrecipe = "plate"\nsource = "folder://{tmp_path}/link"\n'
    config.write_text(config.read_text() + second)
    (found,) = of("cameras", config)
    assert found.level is Level.WARN
    assert found.text.startswith(f"'top' and 'side' both read folder://{tmp_path}/parts")


def test_a_mistake_in_the_environment_is_not_blamed_on_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINE_MONITOR__MQTT__PASWORD", "secret")
    (found,) = findings(config)
    assert (found.level, found.item) == (Level.FAIL, "settings")
    assert found.text == (
        "environment variable LINE_MONITOR__MQTT__PASWORD: unknown setting; "
        "did you mean LINE_MONITOR__MQTT__PASSWORD?"
    )


def test_a_threshold_without_its_guarantee_is_told_with_what_it_needs(write_config: WriteConfig) -> None:
    config = write_config('[[camera]]\nname = "top"\nrecipe = "plate"\nsource = "simulated://bottle-top"\n')
    found = of("recipe plate", config)
    assert [finding.level for finding in found] == [Level.OK, Level.WARN, *[f.level for f in found[2:]]]
    assert "estimate from 52 good images" in found[1].text
    assert "9999 are needed" in found[1].text
    assert "line-monitor calibrate plate --images" in found[1].text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_left_in_the_data_folder_is_told(config: Path) -> None:
    data = load_settings(config).line.data
    os.chown(data, 1, 1)
    (found,) = of("data", config)
    assert found.level is Level.FAIL
    assert f"{data}/recipes does not belong to daemon" in found.text
    assert f"chown -R daemon: {data}" in found.text
    for path in (data, *data.rglob("*")):
        os.chown(path, 1, 1)
    assert not of("data", config)


def test_mqtt_311_and_open_passwords_and_missing_files_are_told(config: Path, broker: Mosquitto) -> None:
    text = config.read_text()
    config.write_text(text.replace("[mqtt]", '[mqtt]\nprotocol = 4\nusername = "line1"'))
    found = of("broker", config)
    assert [finding.level for finding in found] == [Level.OK, Level.WARN, Level.WARN]
    assert "no message expiry" in found[1].text
    assert "/etc/line-monitor/mqtt_password" in found[2].text
    assert "LINE_MONITOR__MQTT__PASSWORD" in found[2].text
    config.write_text(text.replace("[mqtt]", '[mqtt]\nca_file = "/no/such/ca.crt"'))
    found = of("broker", config)
    assert "mqtt.ca_file /no/such/ca.crt: no such file" in found[0].text
    assert {finding.level for finding in found} == {Level.FAIL}


def test_gige_cameras_without_jumbo_frames_are_told(tmp_path: Path) -> None:
    settings = Settings(camera=[{"name": "top", "recipe": "plate", "source": "gige://1"}])
    for name, mtu in (("eth0", 1500), ("eth1", 1500), ("lo", 65536)):
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "mtu").write_text(f"{mtu}\n")
    (found,) = _jumbo_frames(settings, tmp_path)
    assert found.level is Level.WARN
    assert "eth0 has 1500, eth1 has 1500" in found.text
    assert "mtu 9000" in found.text
    (tmp_path / "eth1/mtu").write_text("9000\n")
    assert not list(_jumbo_frames(settings, tmp_path))


@pytest.mark.parametrize(("state", "level"), [(0, Level.OK), (5, Level.WARN), (-1, Level.WARN)])
def test_a_clock_that_nobody_sets_is_told(state: int, level: Level) -> None:
    found = _clock(lambda: state)
    assert found.level is level
    assert (state != 5) or "chrony" in found.text
