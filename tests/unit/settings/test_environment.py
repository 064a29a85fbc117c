"""Variables set settings by their kind; one that sets nothing is named with the one that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.settings import Settings, SettingsError, load_settings
from monitor.settings.environment import read_variables

FILE = """
[[camera]]
name = "top"
source = "folder:///parts"
recipe = "bottle-top"
[[camera]]
name = "side-2"
source = "folder:///others"
recipe = "bottle-side"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    config = tmp_path / "line.toml"
    config.write_text(FILE)
    return config


def loaded(file: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings(file)


def refusal(file: Path, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    with pytest.raises(SettingsError) as failure:
        loaded(file, monkeypatch, **variables)
    return str(failure.value)


def test_a_variable_sets_a_number_a_text_and_a_list(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(
        file,
        monkeypatch,
        LINE_MONITOR__MQTT__PORT="2883",
        LINE_MONITOR__MQTT__USERNAME="1883",
        line_monitor__mqtt__keepalive_s=" 5 ",
        LINE_MONITOR__SNAPSHOTS__MAX_GB="0.5",
        LINE_MONITOR__CAMERA__TOP__DEADLINE_MS="100",
        LINE_MONITOR__CAMERA__SIDE_2__ROI="[0, 0, 32, 24]",
        LINE_MONITOR__METRICS='{"port": 0}',
    )
    assert (settings.mqtt.port, settings.mqtt.username, settings.mqtt.keepalive_s) == (2883, "1883", 5)
    assert (settings.snapshots.max_gb, settings.metrics.port) == (0.5, 0)
    assert [(one.deadline_ms, one.roi) for one in settings.camera] == [(100, None), (250, (0, 0, 32, 24))]


def test_a_variable_with_the_whole_list_of_cameras_takes_the_place_of_the_file_s(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = '[{"name": "a", "source": "folder:///x", "recipe": "r"}]'
    assert [one.name for one in loaded(file, monkeypatch, LINE_MONITOR__CAMERA=one).camera] == ["a"]
    message = refusal(file, monkeypatch, LINE_MONITOR__CAMERA='[{"name": "a", "recipe": "r"}]')
    assert message.startswith(
        "environment variable LINE_MONITOR__CAMERA: camera 'a': source: the key is missing"
    )


def test_the_key_of_one_camera_beside_the_whole_list_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place in the file's list may be another camera's in the variable's."""
    one = '[{"name": "a", "source": "folder:///x", "recipe": "r"}]'
    message = refusal(
        file, monkeypatch, LINE_MONITOR__CAMERA=one, LINE_MONITOR__CAMERA__TOP__DEADLINE_MS="100"
    )
    assert message == (
        "environment variable LINE_MONITOR__CAMERA__TOP__DEADLINE_MS: "
        "environment variable LINE_MONITOR__CAMERA sets all cameras; set the key there"
    )


def test_the_keys_of_a_table_come_from_all_sources(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(FILE + "[mqtt]\nhost = 'broker'\nport = 1884\nkeepalive_s = 9\n")
    (tmp_path / "mqtt_password").write_text("secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    mqtt = loaded(
        file,
        monkeypatch,
        LINE_MONITOR__MQTT='{"port": 1885, "username": "from-the-table"}',
        LINE_MONITOR__MQTT__USERNAME="from-the-key",
    ).mqtt
    assert (mqtt.host, mqtt.port, mqtt.keepalive_s, mqtt.username) == ("broker", 1885, 9, "from-the-key")
    assert mqtt.password is not None
    assert mqtt.password.get_secret_value() == "secret"


@pytest.mark.parametrize("variable", ["LINE_MONITOR__MQTT__PORT", "LINE_MONITOR__MQTT"])
def test_a_variable_does_not_hide_that_the_file_s_table_is_none(
    file: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    file.write_text("mqtt = 1884\n")
    message = refusal(file, monkeypatch, **{variable: "1885" if "PORT" in variable else '{"port": 1885}'})
    assert message.startswith(f"{file}: line 1: mqtt: must be a table")


def test_the_keys_of_a_camera_are_its_own_when_one_is_its_name_or_another_camera_has_none(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = loaded(
        file,
        monkeypatch,
        LINE_MONITOR__CAMERA__TOP__NAME="upper",
        LINE_MONITOR__CAMERA__TOP__RECIPE="other",
        LINE_MONITOR__CAMERA__SIDE_2__RECIPE="third",
    )
    assert [(one.name, one.recipe) for one in settings.camera] == [("upper", "other"), ("side-2", "third")]
    file.write_text(FILE.replace('name = "top"\n', ""))
    message = refusal(file, monkeypatch, LINE_MONITOR__CAMERA__SIDE_2__RECIPE="A b").splitlines()
    assert "environment variable LINE_MONITOR__CAMERA__SIDE_2__RECIPE: camera 'side-2': recipe: " in " ".join(
        message
    )


def test_an_empty_variable_counts_as_not_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(file, monkeypatch, LINE_MONITOR__MQTT__PORT="", LINE_MONITOR__MQTT__CA_FILE=" ")
    assert (settings.mqtt.port, settings.mqtt.ca_file) == (1883, None)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LINE_MONITOR__MQTT__PORT", "x", "mqtt.port: must be a whole number; allowed: 1 to 65535"),
        ("LINE_MONITOR__MQTT__PORT", "1_883", "mqtt.port: must be a whole number; allowed: 1 to 65535"),
        ("LINE_MONITOR__MQTT__PORT", "１８８３", "mqtt.port: must be a whole number"),
        ("LINE_MONITOR__JOURNAL__KEEP_DAYS", "1_0", "journal.keep_days: must be a number; allowed"),
        ("LINE_MONITOR__MQTT__PORT", "1883.5", "mqtt.port: must be a whole number"),
        ("LINE_MONITOR__MQTT__PORT", "1_883", "mqtt.port: must be a whole number"),
        ("LINE_MONITOR__JOURNAL__KEEP_DAYS", "1_0", "journal.keep_days: must be a number"),
        ("LINE_MONITOR__MQTT", '{"port": "1_883"}', "mqtt.port: must be a whole number"),
        ("LINE_MONITOR__MQTT__PORT", "70000", "mqtt.port: the value must be less than or equal to 65535"),
        ("LINE_MONITOR__MQTT__PORT", "tcp://10.0.0.1:1883", "mqtt.port: must be a whole number"),
        ("LINE_MONITOR__SNAPSHOTS__MAX_GB", "nan", "snapshots.max_gb: must be a finite number"),
        ("LINE_MONITOR__SNAPSHOTS__MAX_GB", "-inf", "snapshots.max_gb: must be a finite number"),
        ("LINE_MONITOR__SNAPSHOTS__MAX_GB", "١", "snapshots.max_gb: must be a number"),
        ("LINE_MONITOR__LINE__NAME", "Line 1", "line.name: this text is not allowed"),
        ("LINE_MONITOR__CAMERA__TOP__ROI", "0,0,5,5", "camera 'top': roi: must be a list; allowed: [x, y"),
        (
            "LINE_MONITOR__CAMERA__TOP__MODE",
            "sometimes",
            "camera 'top': mode: the value must be 'every-part'",
        ),
        ("LINE_MONITOR__MQTT__PROT", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("LINE_MONITOR__MQQT__PORT", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("LINE_MONITOR__MQTT_PORT", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("LINE_MONITOR_MQTT_PORT", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("LINE_MONITOR_MQTT__PORT", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("LINEMONITOR__MQTT__PORT", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("LINE_MONTOR__MQTT__PASSWORD", "x", "unknown setting; did you mean LINE_MONITOR__MQTT__PASSWORD?"),
        ("LINE__MONITOR__MQTT__PORT", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("line_monitors__mqtt__port", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("LINE_MONITOR__MQTT", "[" * 50_000, "sets the whole table mqtt, and is not its JSON"),
        ("line_monitor_mqtt_pasword", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PASSWORD?"),
        ("LINE_MONITOR_CONFIG_FILE", "x", "unknown setting; did you mean LINE_MONITOR_CONFIG?"),
        ("LINE_MONITOR__CONFIG", "x", "unknown setting; did you mean LINE_MONITOR_CONFIG?"),
        ("LINE_MONITOR__MQTT__PORT__X", "1", "unknown setting; did you mean LINE_MONITOR__MQTT__PORT?"),
        ("LINE_MONITOR__ZZZ__QQQ", "1", "unknown setting; correct or remove it"),
        (
            "LINE_MONITOR__CAMERA__LEFT__SOURCE",
            "x",
            "no camera called 'left' in the settings; there are: top, side-2",
        ),
        (
            "LINE_MONITOR__CAMERA__0__SOURCE",
            "x",
            "no camera called '0' in the settings; there are: top, side-2",
        ),
        (
            "LINE_MONITOR__CAMERA__TOP__SORCE",
            "x",
            "unknown setting; did you mean LINE_MONITOR__CAMERA__TOP__SOURCE?",
        ),
        ("LINE_MONITOR__MQTT", "broker", "sets the whole table mqtt, and is not its JSON; set single keys"),
        ("LINE_MONITOR__MQTT", "[1]", "sets the whole table mqtt, and is not its JSON; set single keys"),
        ("LINE_MONITOR__MQTT", '{"hots": 1}', "mqtt.hots: unknown key; did you mean 'host'?"),
        ("LINE_MONITOR__LINE__SITE", "w\udcfcrzburg", "not UTF-8 text"),
    ],
)
def test_a_mistake_in_a_variable_is_blamed_on_the_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    message = refusal(file, monkeypatch, **{variable: value})
    assert message.startswith(f"environment variable {variable}: {words}")
    assert "\n" not in message
    assert str(file) not in message


@pytest.mark.parametrize(
    "variable",
    [
        "LINE_MONITOR_PORT",
        "LINE_MONITOR_SERVICE_HOST",
        "LINE_MONITOR_MQTT_SERVICE_HOST",
        "MQTT_PORT",
        "ONLINE_MONITOR_MQTT_PORT",
    ],
)
def test_a_variable_of_another_program_is_left_alone(variable: str) -> None:
    assert read_variables({variable: "tcp://10.0.0.1:80"}, ["top"]) == ([], [])


def test_one_setting_by_two_variables_is_refused() -> None:
    both = {"LINE_MONITOR__MQTT__PORT": "1", "line_monitor__mqtt__port": "2"}
    _, (problem,) = read_variables(both, [])
    assert "sets the same key as environment variable LINE_MONITOR__MQTT__PORT; remove one" in problem


def test_mistakes_in_the_file_and_in_variables_are_each_named_with_their_place(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(FILE + "[mqtt]\nport = 'x'\n")
    lines = refusal(
        file, monkeypatch, LINE_MONITOR__LINE__NAME="A b", LINE_MONITOR__MQTT__HOSTT="x"
    ).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "environment variable LINE_MONITOR__MQTT__HOSTT",
        "environment variable LINE_MONITOR__LINE__NAME",
        str(file),
    ]


def test_a_credential_is_read_without_a_byte_order_mark_and_blamed_by_its_name(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mqtt_password").write_bytes(b"\xef\xbb\xbfsecret\r\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    password = load_settings(file).mqtt.password
    assert password is not None
    assert password.get_secret_value() == "secret"
    (tmp_path / "mqtt_password").write_bytes(b"# of line1\nsecret\n")
    message = refusal(file, monkeypatch)
    assert (
        message
        == f"credential {tmp_path / 'mqtt_password'}: it has several lines; keep the one with the secret"
    )
    (tmp_path / "mqtt_password").write_bytes(b"sec\0ret")
    message = refusal(file, monkeypatch)
    assert message.startswith(f"credential {tmp_path / 'mqtt_password'}: mqtt.password: the text has a zero")
    assert "sec" not in message.removeprefix(f"credential {tmp_path}")
