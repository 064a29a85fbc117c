"""Whoever may see the page reads the record there, and learns whether it is whole and what that proves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from monitor.accounts import password as passwords
from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Role
from monitor.audit.entry import Change, Kind
from monitor.audit.trail import AuditTrail
from monitor.review.application import build
from monitor.settings import Settings

LOCAL = {"Host": "localhost"}
PASSWORD = "gloves and all"


@pytest.fixture
def trail(settings: Settings) -> AuditTrail:
    settings.line.data.mkdir()
    trail = AuditTrail.of(settings)
    trail.append(Change(Kind.RESET, "<otto>", "line", None, None, "looked", "2026-11-24T06:00:00.000Z"))
    return trail


@pytest.fixture
def page(tmp_path: Path, settings: Settings, trail: AuditTrail) -> FlaskClient:
    return build(settings, tmp_path).wsgi.test_client()


def verify(page: FlaskClient, against: str = "") -> str:
    shown = page.get("/record", headers=LOCAL).get_data(as_text=True)
    token = re.search('name="token" value="([^"]+)"', shown)
    assert token
    fields = {"token": token[1], "against": against}
    answer = page.post("/record/verify", headers=LOCAL, data=fields, follow_redirects=True)
    return " ".join(answer.get_data(as_text=True).split())


def test_entries_stand_newest_first_and_as_text(page: FlaskClient) -> None:
    shown = page.get("/record", headers=LOCAL).get_data(as_text=True)
    assert shown.index("entry-2") < shown.index("entry-1")
    assert "&lt;otto&gt;" in shown
    assert page.get("/record?before=x", headers=LOCAL).status_code == 400


def test_the_page_says_whether_the_record_is_whole_and_what_that_does_not_prove(
    page: FlaskClient, trail: AuditTrail
) -> None:
    assert "It does not prove" in (shown := verify(page))
    assert "The record is whole: 2 entries" in shown
    head = str(trail.head())
    assert "the given head is among them" in verify(page, head)
    lines = trail.file.read_bytes().splitlines(keepends=True)
    trail.file.write_bytes(lines[0])
    cut = verify(page, head)
    assert "The record is NOT whole" in cut
    assert "1 entry was cut off at the end" in cut


def test_once_there_are_accounts_every_account_reads_and_verifies_and_nobody_else(
    tmp_path: Path, settings: Settings, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_METHOD", "scrypt:1024:8:1")
    accounts = AccountsFile.of(settings)
    accounts.add("anna", Role.ADMIN, PASSWORD, "")
    accounts.add("otto", Role.OPERATOR, PASSWORD, "")
    page = build(settings, tmp_path).wsgi.test_client()
    assert page.get("/record", headers=LOCAL).status_code == 401
    shown = page.get("/login", headers=LOCAL).get_data(as_text=True)
    token = re.search('name="token" value="([^"]+)"', shown)
    assert token
    page.post("/login", headers=LOCAL, data={"token": token[1], "by": "otto", "password": PASSWORD})
    assert "The record is whole" in verify(page)
