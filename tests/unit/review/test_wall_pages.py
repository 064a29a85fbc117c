"""The pages of snapshots are shown even when one snapshot is damaged."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.review.application import build
from monitor.settings import LineSettings, Settings
from tests.real.snapshot_set import DAMAGED_JSON, write_snapshot


@pytest.mark.parametrize("content", DAMAGED_JSON.values(), ids=DAMAGED_JSON)
def test_every_page_is_shown_with_a_damaged_json_among_the_others(tmp_path: Path, content: str) -> None:
    settings = Settings(line=LineSettings(data=tmp_path))
    key = write_snapshot(tmp_path / "snapshots", datetime.now(UTC), 1)
    (tmp_path / "snapshots" / f"{key.path}.json").write_text(content)
    application = build(settings)
    application.index.step()
    page = application.wsgi.test_client()
    for path in ("/", "/today", f"/part/{key.path}"):
        answer = page.get(path, headers={"Host": "localhost"})
        assert answer.status_code == 200, answer.text
        assert key.path in answer.text or path == "/today"
