"""The pages of snapshots are shown even when one snapshot is damaged."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.review.application import build
from monitor.review.judged_snapshots import find_newest
from monitor.settings import LineSettings, ReviewSettings, Settings
from tests.real.snapshot_set import DAMAGED_JSON, write_snapshot

LOCAL = {"Host": "localhost"}


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


@pytest.mark.parametrize(("version", "shown"), [(3, "disc@3"), (None, "disc"), ("x", "disc"), (True, "disc")])
def test_a_part_names_the_version_that_judged_it(tmp_path: Path, version: object, shown: str) -> None:
    key = write_snapshot(tmp_path / "snapshots", datetime.now(UTC), 1, version=version)
    page = build(Settings(line=LineSettings(data=tmp_path))).wsgi.test_client()
    assert f"<dd>{shown}</dd>" in page.get(f"/part/{key.path}", headers=LOCAL).text


def test_a_part_is_labelled_on_the_wall_and_its_card_comes_back_alone(tmp_path: Path) -> None:
    settings = Settings(line=LineSettings(data=tmp_path), review=ReviewSettings(time_zone="Europe/Berlin"))
    key = write_snapshot(tmp_path / "snapshots", datetime(2026, 11, 24, 5, 30, tzinfo=UTC), 1)
    application = build(settings)
    application.index.step()
    page = application.wsgi.test_client()
    wall = page.get("/?day=2026-11-24&shift=06:00&only=cards", headers=LOCAL).text
    assert "<b>06:30:00</b>" in wall
    assert "<strong>1</strong> of 1 parts with an image" in wall
    assert key.stem not in page.get("/?day=2026-11-24&shift=14:00&only=cards", headers=LOCAL).text
    before = application.index.generation
    token = re.findall(r'name="token" value="(\w+)"', wall)[0]
    form = {"token": token, "label": "defect", "from": "wall"}
    card = page.post(f"/part/{key.path}/label", data=form, headers={**LOCAL, "Accept": "text/plain"})
    assert card.status_code == 200
    assert card.text.startswith(f'<li id="{key.stem}" class="labelled">')
    # The stream of events tells the other open pages.
    assert application.index.generation > before
    # Without the script the wall is shown again, at this part.
    answer = page.post(f"/part/{key.path}/label", data=form, headers={**LOCAL, "Accept": "text/html"})
    assert answer.headers["Location"].endswith(f"#{key.stem}")


def test_a_challenge_part_is_no_reject_of_the_day_and_gets_no_label(tmp_path: Path) -> None:
    settings = Settings(line=LineSettings(data=tmp_path))
    moment = datetime.now(UTC)
    key = write_snapshot(tmp_path / "snapshots", moment, 1, challenge="scratch-1")
    other = write_snapshot(tmp_path / "snapshots", moment, 2, challenge=None)
    application = build(settings)
    application.index.step()
    page = application.wsgi.test_client()
    wall = page.get("/?only=cards", headers=LOCAL).text
    assert other.stem in wall
    assert key.stem not in wall
    assert find_newest(tmp_path / "snapshots", "disc", 9) == [tmp_path / f"snapshots/{other.path}.png"]
    part = page.get(f"/part/{key.path}", headers=LOCAL).text
    assert "Challenge part scratch-1" in part
    assert "label-defect" not in part
    token = re.findall(r'name="token" value="(\w+)"', part)[0]
    form = {"token": token, "label": "overkill"}
    assert page.post(f"/part/{key.path}/label", data=form, headers=LOCAL).status_code == 409
