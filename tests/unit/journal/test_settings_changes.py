"""The record of changes has every setting that is not the default, and no secret as plain text."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from drivers.source import find_secrets, redacted
from monitor.journal.settings_changes import flatten_settings
from monitor.journal.writer import JournalWriter
from monitor.settings import JournalSettings, Settings


def settings(password: str = "first", **camera: Any) -> Settings:
    source = f"rtsp://operator:{password}@10.0.0.9/main"
    tree: dict[str, Any] = {
        "camera": ({"name": "top", "source": source, "recipe": "bottle-top", **camera},),
        "mqtt": {"host": "10.0.0.5", "port": 1883, "password": password},
    }
    return Settings(**tree)


def changes(file: Path, *steps: Settings) -> list[tuple[str, str | None, str | None]]:
    """The record after services with these settings have run one after another."""
    for step in steps:
        journal = JournalWriter(file, JournalSettings())
        journal.record_values("settings", flatten_settings(step), "service")
        assert journal.close()
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.execute("SELECT what, old, new FROM changes ORDER BY rowid"))


def test_defaults_are_left_out_and_secrets_are_no_text() -> None:
    found = flatten_settings(settings(roi=(0, 0, 320, 240), mode="latest"))
    assert {what: value for what, value in found.items() if not isinstance(value, SecretStr)} == {
        "program": found["program"],
        "camera.top.source": "rtsp://***@10.0.0.9/main",
        "camera.top.recipe": "bottle-top",
        "camera.top.mode": "latest",
        "camera.top.roi": "[0, 0, 320, 240]",
        "mqtt.host": "10.0.0.5",
    }
    assert {what for what, value in found.items() if isinstance(value, SecretStr)} == {
        "camera.top.source.secrets",
        "mqtt.password",
    }


def test_the_first_service_records_its_settings_and_the_same_ones_again_nothing(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    first = changes(file, settings())
    assert ("camera.top.recipe", None, "bottle-top") in first
    assert changes(file, settings(), settings()) == first


def test_what_changed_while_the_service_was_away_is_recorded_old_and_new(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    before = changes(file, settings(deadline_ms=300, actuate_ms=900))
    after = changes(file, settings(recipe="can", actuate_ms=900))
    assert after[len(before) :] == [
        ("camera.top.recipe", "bottle-top", "can"),
        ("camera.top.deadline_ms", "300", None),
    ]


def test_another_password_is_told_and_stands_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    before = changes(file, settings("hunter-one"))
    after = changes(file, settings("hunter-two"))
    assert after[len(before) :] == [
        ("camera.top.source.secrets", "(secret)", "(secret, changed)"),
        ("mqtt.password", "(secret)", "(secret, changed)"),
    ]
    assert b"hunter" not in file.read_bytes()


@pytest.mark.parametrize("statement", ["UPDATE changes SET new = 'x'", "DELETE FROM changes"])
def test_the_record_can_only_grow(tmp_path: Path, statement: str) -> None:
    file = tmp_path / "journal.sqlite"
    before = changes(file, settings())
    with closing(sqlite3.connect(file)) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
        connection.rollback()
    assert changes(file) == before


@pytest.mark.parametrize(
    ("source", "hidden"),
    [
        ("rtsp://user:pass@host/path", "user:pass"),
        ("rtsp://host/path?token=abc&fps=5", "token=abc"),
        ("gige://Basler-1?gain=3", ""),
        ("rtsp://a:b/c@d@host", "a:b/c@d"),
    ],
)
def test_secrets_of_a_source_are_what_is_redacted(source: str, hidden: str) -> None:
    assert find_secrets(source) == hidden
    assert (redacted(source) == source) == (hidden == "")
