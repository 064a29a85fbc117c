"""Who may send which form, once there are named accounts: also by requests that no page offers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from monitor.accounts import password as passwords
from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Role
from monitor.audit.trail import AuditTrail
from monitor.review import access
from monitor.review.access import hash_password
from monitor.review.application import build
from monitor.review.endpoint_permissions import EVERYBODY, READING, REQUIRED, SIGNED
from monitor.review.snapshot_files import Key
from monitor.settings import LineSettings, ReviewSettings, Settings
from tests.real.browser import PASSWORD, Browser
from tests.real.snapshot_set import write_snapshot

PEOPLE = {"anna": Role.ADMIN, "otto": Role.OPERATOR, "edda": Role.ENGINEER, "quinn": Role.QUALITY}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(passwords, "_METHOD", "scrypt:1024:8:1")
    return Settings(line=LineSettings(data=tmp_path))


@pytest.fixture
def accounts(settings: Settings) -> AccountsFile:
    found = AccountsFile.of(settings)
    for name, role in PEOPLE.items():
        found.add(name, role, PASSWORD, "2026-11-24T06:00:00.000Z")
    return found


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return write_snapshot(tmp_path / "snapshots", datetime.now(UTC), 1)


@pytest.fixture
def browser(settings: Settings, accounts: AccountsFile, key: Key) -> Browser:
    application = build(settings)
    application.index.step()
    return Browser(application.wsgi.test_client())


def test_nothing_is_seen_without_an_account_and_a_session_ends_with_its_password(
    browser: Browser, accounts: AccountsFile
) -> None:
    assert browser.get("/").status_code == 303
    assert browser.sign_in("otto", "guessed").status_code == 403
    assert browser.sign_in("nobody").status_code == 403
    assert browser.sign_in("otto").status_code == 303
    assert "otto (operator)" in browser.get("/").text
    accounts.set_password("otto", "another one")
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    ("name", "form", "status"),
    [
        ("otto", "label", 303),
        ("edda", "label", 303),
        ("quinn", "label", 303),
        ("anna", "label", 403),
        ("otto", "recalibrate_start", 403),
        ("anna", "recalibrate_start", 403),
        ("edda", "recalibrate_start", 404),
        ("quinn", "recalibrate_discard", 404),
        ("otto", "name", 403),
    ],
)
def test_a_role_can_not_do_by_hand_what_its_pages_do_not_offer(
    browser: Browser, key: Key, name: str, form: str, status: int
) -> None:
    """404: the form was allowed, and there is no such recipe."""
    browser.sign_in(name)
    recipe, _, act = form.partition("_")
    path = {"label": f"/part/{key.path}/label", "name": "/name"}.get(form, f"/{recipe}/plate/{act}")
    answer = browser.post(path, label="defect", by="quinn")
    assert answer.status_code == status, answer.text
    if status == 403 and form != "name":
        assert f"{name} is {PEOPLE[name]}, which may not" in answer.text


def test_every_form_of_the_page_has_its_permission(settings: Settings) -> None:
    rules = build(settings).wsgi.url_map.iter_rules()
    forms = {rule.endpoint for rule in rules if rule.methods and "POST" in rule.methods}
    assert forms - {"name"} == {*REQUIRED, *SIGNED, *EVERYBODY, *READING}


def test_a_label_carries_the_accounts_name_and_stands_in_the_record(
    browser: Browser, settings: Settings, key: Key
) -> None:
    browser.sign_in("otto")
    browser.post(f"/part/{key.path}/label", label="defect")
    browser.post(f"/part/{key.path}/label", label="")
    assert [
        (entry.kind, entry.who, entry.subject, entry.before, entry.after)
        for entry in AuditTrail.of(settings).entries()
    ][1:] == [
        ("label", "otto", f"snapshots/{key.path}", None, "defect"),
        ("label", "otto", f"snapshots/{key.path}", "defect", None),
    ]


def test_a_form_that_a_role_may_not_send_stands_in_the_record_until_there_are_many(
    browser: Browser, settings: Settings
) -> None:
    browser.sign_in("otto")
    for _ in range(12):
        browser.post("/recalibrate/plate/start")
    refused = list(AuditTrail.of(settings).entries())[1:]
    assert len(refused) == 10
    assert (refused[0].kind, refused[0].who, refused[0].subject) == ("refused", "otto", "recipe.plate")
    assert refused[0].meaning.startswith("otto is operator, which may not calibrate a recipe")


def test_a_label_that_can_not_be_recorded_is_refused_in_one_line(
    browser: Browser, settings: Settings, key: Key
) -> None:
    browser.sign_in("otto")
    AuditTrail.of(settings).file.mkdir()
    answer = browser.post(f"/part/{key.path}/label", label="defect")
    assert answer.status_code == 503
    assert "Not done, since it can&#39;t be recorded" in answer.text
    assert '"labels": []' in (settings.line.data / "snapshots" / f"{key.path}.json").read_text()


def test_a_damaged_accounts_file_closes_the_page(browser: Browser, accounts: AccountsFile) -> None:
    browser.sign_in("otto")
    accounts.file.write_text("{")
    answer = browser.get("/")
    assert answer.status_code == 503
    assert "damaged" in answer.text


def test_the_one_password_works_until_there_is_an_account(
    settings: Settings, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_N", 2**14)
    review = ReviewSettings(password_hash=SecretStr(hash_password(PASSWORD)))
    application = build(settings.model_copy(update={"review": review}))
    application.index.step()
    browser = Browser(application.wsgi.test_client())
    assert browser.sign_in("ab").status_code == 303
    assert browser.post(f"/part/{key.path}/label", label="defect").status_code == 303
    AccountsFile.of(settings).add("anna", Role.ADMIN, "another one", "2026-11-24T06:00:00.000Z")
    assert browser.post(f"/part/{key.path}/label", label="overkill").status_code == 401
    assert browser.get("/").headers["Location"].startswith("/login")
    assert browser.sign_in("ab").status_code == 403
