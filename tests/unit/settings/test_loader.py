"""Settings come from file, credentials and environment; a refused one is named with where it came from."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.journal.settings_changes import flatten_settings
from monitor.line_state.worker_process import settings_for
from monitor.settings import (
    Mode,
    OnUninspected,
    PublishVerdicts,
    Settings,
    SettingsError,
    find_settings_file,
    load_settings,
    tables,
)

ROOT = Path(__file__).resolve().parents[3]
CAMERA = """
[[camera]]
name = "top"
source = "folder:///parts"
recipe = "bottle-top"
"""

CAMERA_KEYS = {"name": "'top'", "source": "'folder:///parts'", "recipe": "'bottle-top'"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LINE_MONITOR") or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "line.toml"


def loaded(file: Path, text: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def refusal(file: Path, text: str) -> str:
    with pytest.raises(SettingsError) as failure:
        loaded(file, text)
    return str(failure.value)


CHALLENGE_PART = {
    "id": "'bad-1'",
    "camera": "'top'",
    "expected": "'reject'",
    "verified_by": "'J. Smith'",
    "verified": "2026-11-01",
    "expires": "2027-11-01",
}


def challenge_part(**other: str) -> str:
    keys = {**CHALLENGE_PART, **other}
    return "[[challenge.part]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items() if value)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            challenge_part(camera="'side'"),
            "camera 'side' does not exist; name one whose mode is every-part: top",
        ),
        (challenge_part() * 2, "two parts are called 'bad-1'; give each part its own id"),
        (
            challenge_part(expires="2026-10-31"),
            "number 1: expires (2026-10-31) is before verified (2026-11-01)",
        ),
        (challenge_part(expires="20271101"), "number 1: expires: must be a date, as in 2027-05-31"),
        (challenge_part(expires="2027-11-01T10:00:00"), "expires: must be a date, as in 2027-05-31"),
        (challenge_part(expected="'bad'"), "number 1: expected"),
        (challenge_part(verified_by=""), "number 1: verified_by: the key is missing; add it"),
        (challenge_part(expire="2027-11-01"), "number 1: expire: unknown key; did you mean 'expires'?"),
        (challenge_part().replace("[[", "[").replace("]]", "]"), "[[challenge.part]]"),
        ("[challenge]\nevery_hours = 8\n", "did you mean 'every_h'?"),
    ],
)
def test_a_wrong_challenge_is_one_line_with_the_fix(file: Path, parts: str, words: str) -> None:
    said = refusal(file, CAMERA + parts)
    assert words in said
    assert said.startswith(f"{file}: line ")
    assert "\n" not in said


def test_challenge_parts_reach_a_worker_and_the_record_of_settings(file: Path) -> None:
    settings = loaded(file, CAMERA + challenge_part())
    tree = settings_for(settings, "publish")
    assert Settings.model_validate(tree).challenge == settings.challenge
    recorded = flatten_settings(settings)
    assert recorded["challenge.part.bad-1.expires"] == "2027-11-01"
    assert recorded["challenge.part.bad-1.expected"] == "reject"


def test_line_alone_is_a_valid_file(file: Path) -> None:
    settings = loaded(file, "[line]\n")
    assert settings.prefix == "plant1/line1"
    assert settings.camera == ()


def test_the_defaults_are_the_documented_ones(file: Path) -> None:
    settings = loaded(file, CAMERA)
    assert settings.line.data == Path("/var/lib/line-monitor")
    camera = settings.camera[0]
    assert (camera.mode, camera.deadline_ms, camera.actuate_ms) == (Mode.EVERY_PART, 250, 750)
    assert (camera.on_uninspected, camera.roi) == (OnUninspected.REJECT, None)
    assert (settings.scoring.device, settings.scoring.runtime, settings.scoring.precision) == ("auto",) * 3
    mqtt = settings.mqtt
    assert (mqtt.host, mqtt.port, mqtt.protocol, mqtt.keepalive_s) == ("127.0.0.1", 1883, 5, 3)
    assert (mqtt.publish_verdicts, mqtt.ack_timeout_ms) == (PublishVerdicts.EVERY_PART, 0)
    snapshots = settings.snapshots
    assert (snapshots.keep_days, snapshots.max_gb, snapshots.min_free_gb, snapshots.pass_every) == (
        30,
        50,
        5,
        0,
    )
    assert (settings.metrics.port, settings.review.host, settings.review.port) == (9108, "127.0.0.1", 8080)


def test_the_default_of_actuate_ms_is_the_deadline_plus_500_ms(file: Path) -> None:
    assert loaded(file, CAMERA + "deadline_ms = 1000\n").camera[0].actuate_ms == 1500
    assert loaded(file, CAMERA + "deadline_ms = 100\nactuate_ms = 150\n").camera[0].actuate_ms == 150


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ("[line]\nnaem = 'x'\n", "line 2: line.naem", "did you mean 'name'?"),
        (CAMERA + "deadline = 100\n", "line 6: camera 'top': deadline", "did you mean 'deadline_ms'?"),
        ("[mqtt]\nhots = 'x'\n", "line 2: mqtt.hots", "did you mean 'host'?"),
        ("[snapshots]\nzzz = 1\n", "line 2: snapshots.zzz", "known here: keep_days"),
        ("[mqqt]\nport = 1\n", "line 1: mqqt", "did you mean 'mqtt'?"),
        ("[MQTT]\nport = 1\n", "line 1: MQTT", "did you mean 'mqtt'?"),
        ("[mqtt]\nPORT = 1\n", "line 2: mqtt.PORT", "did you mean 'port'?"),
        ("[mqtt]\nkeepalive-s = 1\n", "line 2: mqtt.keepalive-s", "did you mean 'keepalive_s'?"),
        ("host = 'x'\n[mqtt]\n", "line 1: host", "it belongs in [mqtt] or [review]"),
        ("[[cameras]]\nname = 'top'\n", "line 1: cameras", "did you mean 'camera'?"),
        (CAMERA + "keepalive_s = 3\n", "line 6: camera 'top': keepalive_s", "it belongs in [mqtt]"),
        ("_env_file = 'x'\n", "line 1: _env_file", "known here: line, camera"),
    ],
)
def test_an_unknown_key_is_refused_with_its_path_and_a_suggestion(
    file: Path, text: str, path: str, hint: str
) -> None:
    message = refusal(file, text)
    assert message.startswith(f"{file}: {path}: unknown key")
    assert hint in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[line]\nname = 'Line 1'\n", "line.name"),
        ("[line]\nname = '" + "a" * 33 + "'\n", "line.name"),
        ("[mqtt]\nport = 'x'\n", "mqtt.port"),
        ("[mqtt]\nport = 70000\n", "mqtt.port"),
        ("[mqtt]\nprotocol = 3\n", "mqtt.protocol"),
        ("[mqtt]\ncert_file = 'a'\n", "cert_file and key_file go together"),
        ("[scoring]\ndevice = 'gpu'\n", "scoring.device"),
        ("[snapshots]\nmax_gb = -1\n", "snapshots.max_gb"),
        (CAMERA + "mode = 'sometimes'\n", "camera 'top': mode"),
        (CAMERA + "deadline_ms = 5\n", "camera 'top': deadline_ms"),
        (CAMERA + "deadline_ms = 500\nactuate_ms = 400\n", "must be larger than deadline_ms"),
        (CAMERA + "roi = [0, 0, 0, 5]\n", "roi is [x, y, width, height]"),
        (CAMERA + "roi = [1, 2, 3]\n", "camera 'top': roi"),
        (CAMERA + CAMERA, "two cameras are called 'top'"),
        (CAMERA.replace("folder:///parts", "/parts"), "has no scheme"),
        (
            "[[camera]]\nname = 'top'\nsource = 'file:///x'\n",
            "line 1: camera 'top': recipe: the key is missing; add it",
        ),
    ],
)
def test_a_bad_value_is_refused_in_one_line_with_its_key(file: Path, text: str, words: str) -> None:
    message = refusal(file, text)
    assert words in message
    assert message.startswith(f"{file}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[line]\nname = 'Line 1'\n", "line.name: this text is not allowed; allowed: 1 to 32 of"),
        ("[mqtt]\nport = 'x'\n", "mqtt.port: must be a whole number; allowed: 1 to 65535 (TCP port)"),
        ("[mqtt]\nca_file = 1\n", "mqtt.ca_file: must be a path in quotes; allowed: the path of a PEM file"),
        ("[snapshots]\nmax_gb = 0\n", "must be greater than 0; allowed: more than 0 GB"),
        ("[journal]\nkeep_days = inf\n", "allowed: more than 0, at most 36500 days"),
        ("[camera]\nname = 'top'\n", "line 1: camera: [camera] in single brackets; write [[camera]]"),
        ("line = 1\n", "line: must be a table"),
        (CAMERA + "roi = [1, 2, 3]\n", "allowed: [x, y, width, height] in pixels"),
        (CAMERA + "mode = 'sometimes'\n", "camera 'top': mode: the value must be 'every-part' or 'latest'"),
        (CAMERA + "mode = 'latest'\nstop_after_rejects = 3\n", 'or set mode = "every-part"'),
    ],
)
def test_a_bad_value_is_refused_with_the_values_that_are_allowed(file: Path, text: str, words: str) -> None:
    message = refusal(file, text)
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[mqtt]\nport = '1883'\n",
            "line 2: mqtt.port: must be a number without quotes; allowed: 1 to 65535",
        ),
        (
            CAMERA + "deadline_ms = '2600 ms'\n",
            "deadline_ms: must be a whole number, without quotes and unit: write 2600; allowed: 10 to 600000",
        ),
        (CAMERA + "deadline_ms = '2 s'\n", "must be a whole number, without quotes and unit; allowed: 10"),
        (CAMERA + "deadline_ms = '2.5ms'\n", "must be a whole number, without quotes and unit; allowed: 10"),
        ("[snapshots]\nmax_gb = '0.5 GB'\n", "max_gb: must be a number, without quotes and unit: write 0.5;"),
        ("[mqtt]\nport = '1_883'\n", "line 2: mqtt.port: must be a whole number; allowed: 1 to 65535"),
        ("[mqtt]\nport = '0x75b'\n", "line 2: mqtt.port: must be a whole number"),
        ("[mqtt]\nport = ''\n", "line 2: mqtt.port: must be a whole number"),
        ("[journal]\nkeep_days = '1e1'\n", "line 2: journal.keep_days: must be a number without quotes"),
        ("[snapshots]\nkeep_days = '1_0'\n", "line 2: snapshots.keep_days: must be a number; allowed"),
        ("[snapshots]\nmax_gb = 'inf'\n", "line 2: snapshots.max_gb: must be a number; allowed"),
        (CAMERA + "roi = ['1_0', 0, 5, 5]\n", "camera 'top': roi: must be a whole number"),
        ("[mqtt]\nport = true\n", "line 2: mqtt.port: must be a number, not true or false"),
        ("[mqtt]\nport = 1883.5\n", "line 2: mqtt.port: must be a whole number"),
        ("[mqtt]\nport = nan\n", "line 2: mqtt.port: must be a finite number"),
        ("[mqtt]\nport = -1\n", "line 2: mqtt.port: "),
        ("[mqtt]\nport = 123456789012345678901234567890\n", "line 2: mqtt.port: "),
        ("[mqtt]\nport = 2026-11-30\n", "line 2: mqtt.port: must be a whole number"),
        ("[snapshots]\nmax_gb = '50'\n", "snapshots.max_gb: must be a number without quotes"),
        ("[snapshots]\nmax_gb = inf\n", "snapshots.max_gb: must be a finite number"),
        ("[snapshots]\nmax_gb = nan\n", "snapshots.max_gb: must be a finite number"),
        ("[journal]\nkeep_days = nan\n", "journal.keep_days: "),
        (CAMERA + "stop_reject_rate = nan\n", "camera 'top': stop_reject_rate: "),
        (CAMERA + "roi = ['0', 0, 5, 5]\n", "camera 'top': roi: must be a number without quotes"),
        (
            CAMERA + "roi = [1, 2, 3]\n",
            "camera 'top': roi: the list has too few values; allowed: [x, y, width",
        ),
        (CAMERA + "roi = '0,0,5,5'\n", "camera 'top': roi: must be a list"),
        (CAMERA + "roi = [true, 0, 5, 5]\n", "camera 'top': roi: must be a number, not true or false"),
        ("[mqtt]\nhost = 5\n", "mqtt.host: must be text in quotes"),
        ("[mqtt]\nhost = ''\n", "mqtt.host: the text is empty"),
        ("[mqtt]\nhost = 'mqtt://broker'\n", "mqtt.host: must be an address alone"),
        ("[mqtt]\nhost = 'broker:8883'\n", "mqtt.host: must be an address alone"),
        ("[mqtt]\npassword = 12345678\n", "mqtt.password: must be text in quotes"),
        ("[mqtt]\nca_file = ''\n", "mqtt.ca_file: the text is empty"),
        ("[line]\ndata = ''\n", "line.data: the text is empty"),
        ("[line]\ndata = '~/data'\n", "line.data: a path may not begin with ~: write it whole"),
        ("[mqtt]\nca_file = '~line/ca.crt'\n", "mqtt.ca_file: a path may not begin with ~"),
        ('[line]\ndata = "a\\u0000b"\n', "line.data: the text has a zero character"),
        ("[[mqtt]]\nport = 1883\n", "line 1: mqtt: [[mqtt]] in double brackets; write [mqtt]"),
        ("camera = ['top']\n", "line 1: camera number 1: must be a table"),
        ("[camera.top]\nsource = 'folder:///x'\n", "line 1: camera: [camera] in single brackets"),
        ("camera = 'top'\n", "line 1: camera: must be a list; allowed: [[camera]] in double brackets"),
        ("mqtt = 1883\n", "line 1: mqtt: must be a table; allowed: [mqtt] with keys below it"),
        (
            CAMERA + "[[camera]]\nsource = 'folder:///x'\nrecipe = 'x'\n",
            "line 6: camera number 2: name: the key",
        ),
    ],
)
def test_a_value_of_another_kind_is_refused_with_its_line(file: Path, text: str, words: str) -> None:
    message = refusal(file, text)
    assert words in message
    assert message.startswith(f"{file}: line ")
    assert "\n" not in message


VALUES = (
    "1",
    "-1",
    "1.5",
    "nan",
    "-inf",
    "true",
    "[]",
    "[1]",
    "{}",
    "{a = 1}",
    "2026-11-30",
    "'x y'",
    "''",
    "'\u2028'",
)


@pytest.mark.parametrize("table", tables())
def test_every_key_takes_any_value_or_refuses_it_in_one_line(file: Path, table: str) -> None:
    for key in tables()[table].model_fields:
        for value in VALUES:
            head, own = ("[[camera]]", CAMERA_KEYS) if table == "camera" else (f"[{table}]", {})
            keys = {**own, key: value}
            text = "\n".join([head, *(f"{name} = {shown}" for name, shown in keys.items())])
            file.write_text(text, encoding="utf-8")
            try:
                load_settings(file)
                continue
            except SettingsError as refused:
                message = str(refused)
            assert len(message.splitlines()) == 1, (key, value)
            assert re.match(rf"{re.escape(str(file))}: line \d: ", message), (key, value)
            assert key in message, (key, value)


def test_a_key_with_a_line_break_is_refused_in_one_line(file: Path) -> None:
    assert "\n" not in refusal(file, '[mqtt]\n"a\\nb" = 1\n')


def test_an_address_may_have_colons_of_its_own(file: Path) -> None:
    assert loaded(file, "[mqtt]\nhost = '::1'\n[review]\nhost = 'fe80::1%eth0'\n").mqtt.host == "::1"


GIGE = "[[camera]]\nname = '{}'\nsource = 'gige://{}'\nrecipe = 'x'\n"


@pytest.mark.parametrize("second", ["Basler-1", "basler-1?trigger=software", "Basler%2D1"])
def test_one_gige_camera_in_two_tables_is_refused_with_both_names(file: Path, second: str) -> None:
    message = refusal(file, GIGE.format("top", "Basler-1") + GIGE.format("side", second))
    assert message.startswith(f"{file}: line 7: cameras 'top' and 'side' have the same source gige://")
    assert "\n" not in message
    assert len(loaded(file, GIGE.format("top", "Basler-1") + GIGE.format("side", "Basler-2")).camera) == 2


def test_values_that_do_not_fit_each_other_are_named_where_they_come_from(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CAMERA + "\n\nactuate_ms = 600\n"
    assert refusal(file, text + "deadline_ms = 700\n").startswith(
        f"{file}: line 8: camera 'top': actuate_ms (600)"
    )
    monkeypatch.setenv("LINE_MONITOR__CAMERA__TOP__DEADLINE_MS", "700")
    message = refusal(file, text)
    assert message.startswith(
        "environment variable LINE_MONITOR__CAMERA__TOP__DEADLINE_MS: camera 'top': actuate_ms"
    )
    monkeypatch.setenv("LINE_MONITOR__MQTT__CERT_FILE", "/x.crt")
    monkeypatch.delenv("LINE_MONITOR__CAMERA__TOP__DEADLINE_MS")
    message = refusal(file, "[mqtt]\n")
    assert message.startswith(
        "environment variable LINE_MONITOR__MQTT__CERT_FILE: mqtt: cert_file and key_file"
    )


def test_a_table_that_the_environment_sets_as_a_whole_is_refused_in_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINE_MONITOR__LINE", "line1")
    message = refusal(file, "[line]\n")
    assert "set single keys, as in LINE_MONITOR__LINE__NAME=line1" in message
    assert "\n" not in message


def test_each_of_several_problems_has_its_own_line(file: Path) -> None:
    lines = refusal(file, "[line]\nname = 'A'\n[mqtt]\nport = 0\nhots = 'x'\n").splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{file}: ") for line in lines)


def test_a_file_that_is_not_settings_is_refused_in_one_line(file: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        load_settings(file)
    assert "not valid TOML" in refusal(file, "[line\n")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(file)
    with pytest.raises(SettingsError, match="directory"):
        load_settings(file.parent)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_that_notepad_saved_is_read_like_any_other(file: Path, newline: str, mark: bytes) -> None:
    file.write_bytes(mark + CAMERA.replace("\n", newline).replace(" = ", "\t=\t").encode())
    assert load_settings(file).camera[0].name == "top"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[line]\nname = 'x'\n".encode("utf-16"), "not UTF-8 text but UTF-16; save it as UTF-8"),
        ("[line]\n".encode("utf-16-le"), "line 1: not text, since it has zero bytes"),
        ("[line]\nsite = 'werk'  # für uns\n".encode("latin-1"), "line 2: not UTF-8 text; save the file"),
        (b"[mqtt]\nport = 1\nport = 2\n", "line 3: not valid TOML: a key or table is given twice; keep one"),
        (
            b"[mqtt]\nport = 1\n\n[mqtt]\nhost = 'x'\n",
            "line 4: not valid TOML: table [mqtt] is given twice; join",
        ),
        (
            b"[camera]\nname = 'a'\n[camera]\nname = 'b'\n",
            "line 3: not valid TOML: [camera] is given twice; write [[c",
        ),
        (b"[mqtt]\n[line\n", "line 2: not valid TOML: "),
        ("[line]\nname = “x”\n".encode(), "line 2: not valid TOML: the line has curved quotes"),
        (
            "[line]\n name = 'x'\n".encode(),
            "line 2: not valid TOML: the line has curved quotes or a non-break",
        ),
        (b'[line]\ndata = "C:\\data"\n', "line 2: not valid TOML: "),
        (b"x = " + b"[" * 600 + b"]" * 600, "its brackets or tables are nested too deep"),
        (b"[mqtt]\nport = " + b"9" * 5_000, "one of its numbers has thousands of digits"),
        (b"x" * 2_000_000, "larger than 1 MB, so it is no settings file"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_its_line(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError) as failure:
        load_settings(file)
    assert str(failure.value).startswith(f"{file}: {words}")
    assert "\n" not in str(failure.value)


def test_a_missing_file_is_blamed_on_the_variable_that_names_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINE_MONITOR_CONFIG", str(file))
    with pytest.raises(
        SettingsError, match="no such file; correct the environment variable LINE_MONITOR_CONFIG"
    ):
        load_settings(find_settings_file(None))


def test_the_environment_overrides_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINE_MONITOR__MQTT__PORT", "2883")
    monkeypatch.setenv("LINE_MONITOR__LINE__NAME", "line7")
    settings = loaded(file, "[mqtt]\nport = 1884\nhost = 'broker'\n")
    assert (settings.mqtt.port, settings.mqtt.host, settings.line.name) == (2883, "broker", "line7")
    # A worker process makes them again from a message, and must not read its own environment.
    assert type(settings) is Settings


def test_a_systemd_credential_overrides_the_file_and_the_environment_overrides_both(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mqtt_password").write_text("from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = loaded(file, "[mqtt]\nhost = 'broker'\npassword = 'from the file'\n")
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == "from systemd"
    assert settings.mqtt.host == "broker"
    monkeypatch.setenv("LINE_MONITOR__MQTT__PASSWORD", "from the environment")
    settings = load_settings(file)
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == "from the environment"


def test_a_secret_is_never_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(file, "[mqtt]\npassword = 'hunter2'\n")
    for shown in (str(settings), repr(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "hunter2" not in shown
    assert "hunter2" not in refusal(file, "[mqtt]\npassword = 'hunter2'\nport = 'x'\n")
    assert "hunter2" not in refusal(file, "[mqtt]\npassword = ['hunter2']\n")
    monkeypatch.setenv("LINE_MONITOR__MQTT__PASSWORD", "hunter2")
    assert "hunter2" not in refusal(file, "[mqtt]\nprotocol = 9\n")


def test_a_relative_data_folder_starts_at_the_settings_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert loaded(file, "[line]\ndata = 'data'\n").line.data == tmp_path / "data"


def test_an_unknown_camera_is_refused_with_the_names_of_the_known_ones(file: Path) -> None:
    settings = loaded(file, CAMERA)
    assert settings.camera_named("top").recipe == "bottle-top"
    with pytest.raises(SettingsError, match=r"no camera called 'side'.*there are: top"):
        settings.camera_named("side")


def test_the_settings_file_is_found_in_the_documented_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "line.toml").write_text("")
    assert find_settings_file(None) == Path("config/line.toml")
    monkeypatch.setenv("LINE_MONITOR_CONFIG", "/named/in/the/environment.toml")
    assert find_settings_file(None) == Path("/named/in/the/environment.toml")
    assert find_settings_file(Path("given.toml")) == Path("given.toml")


@pytest.mark.parametrize("name", ["line", "demo"])
def test_the_carried_settings_load(name: str) -> None:
    assert load_settings(ROOT / "config" / f"{name}.toml").camera


def test_the_annotated_example_shows_every_key_with_its_default(file: Path) -> None:
    """Users copy the keys in its comments, so each must exist and show its true default."""
    text = (ROOT / "config" / "line.toml").read_text(encoding="utf-8")
    uncommented = re.sub(r"^# (?=[a-z_]+ = |\[\[challenge)", "", text, flags=re.MULTILINE)
    shown = tomllib.loads(uncommented)
    loaded(file, uncommented)
    examples = {"username", "password", "ca_file", "cert_file", "key_file", "roi", "name", "source", "recipe"}
    examples |= {"password_hash", "public_url", "time_zone", "sets", "part"}
    defaults = loaded(file, text).model_dump(mode="json")
    for table, fields in defaults.items():
        rows = zip(shown[table], fields, strict=True) if table == "camera" else [(shown[table], fields)]
        for shown_row, row in rows:
            assert set(shown_row) == set(row), table
            for key, value in row.items():
                assert key in examples or shown_row[key] == value, f"{table}.{key}"


def test_an_empty_credential_counts_as_none_and_an_unreadable_one_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "line.toml"
    config.write_text('[line]\n[mqtt]\npassword = "in-the-file"\n')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "mqtt_password").write_text("\n")
    password = load_settings(config).mqtt.password
    assert password is not None
    assert password.get_secret_value() == "in-the-file"
    (tmp_path / "mqtt_password").unlink()
    (tmp_path / "mqtt_password").mkdir()
    with pytest.raises(
        SettingsError, match=r"credential .*mqtt_password: Is a directory; make it a text file"
    ):
        load_settings(config)


@pytest.fixture
def as_a_user_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The working folder is forbidden to the current user, who is not root."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    yield
    os.seteuid(was)
    tmp_path.chmod(0o700)


@pytest.mark.usefixtures("as_a_user_without_permission")
def test_a_default_file_in_a_forbidden_folder_is_skipped_and_named_if_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A home folder under `sudo -u line-monitor` is such a folder, and /etc/line-monitor for other users."""
    nowhere = Path("/nowhere/line.toml")
    monkeypatch.setattr("monitor.settings.loader.DEFAULT_FILES", (Path("config/line.toml"), nowhere))
    with pytest.raises(
        SettingsError, match=r"config/line\.toml: this user may not read the folder; .*--config FILE"
    ):
        find_settings_file(None)
    monkeypatch.setattr(
        "monitor.settings.loader.DEFAULT_FILES", (Path("config/line.toml"), Path("/etc/passwd"))
    )
    assert find_settings_file(None) == Path("/etc/passwd")
