"""A worker's settings are the supervisor's; the worker's own environment never changes them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from monitor.line_state.board import Board
from monitor.line_state.worker_process import (
    PUBLISH,
    SCORING,
    Worker,
    WorkerStart,
    settings_for,
    worker_names,
)
from monitor.settings import Settings


def worker_settings(folder: Path, settings: Settings, name: str) -> Settings:
    """The settings of a worker that starts in `folder` with the start data of the supervisor."""
    Board.create(folder / "board", worker_names(settings))
    start = WorkerStart(name, str(folder), str(uuid.uuid4()), 0, settings_for(settings, name))
    worker = Worker(start)
    worker.board.close()
    return worker.settings


def test_a_workers_settings_do_not_change_with_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.model_validate(
        {
            "line": {"data": "/data"},
            "camera": [{"name": "top", "source": "folder:///parts", "recipe": "bottle-top"}],
            "mqtt": {"host": "10.0.0.5", "password": "from the supervisor"},
        }
    )
    monkeypatch.setenv("LINE_MONITOR__MQTT__HOST", "elsewhere")
    monkeypatch.setenv("LINE_MONITOR__MQTT__PASSWORD", "from the environment")
    monkeypatch.setenv("LINE_MONITOR__CAMERA", "[]")
    monkeypatch.setenv("LINE_MONITOR__LINE__NAME", "Not A Name")
    (tmp_path / "mqtt_password").write_text("from a credential")
    (tmp_path / "review_password").write_text("from a credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert worker_settings(tmp_path, settings, PUBLISH) == settings
    no_password = settings.mqtt.model_copy(update={"password": None})
    assert worker_settings(tmp_path, settings, SCORING) == settings.model_copy(update={"mqtt": no_password})
    assert (Settings().line.name, Settings().mqtt.password) == ("line1", None)
