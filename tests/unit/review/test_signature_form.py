"""A signature on a page: a refused one ends the request and is recorded, a warning needs its tick box."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask, g, request
from werkzeug.exceptions import HTTPException

from monitor.accounts import password as passwords
from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Permission, Role
from monitor.accounts.signature import Signature, Signatures
from monitor.audit.trail import AuditTrail
from monitor.review.access import Session
from monitor.review.signature_form import SignatureForm

PASSWORD = "gloves and all"
MEANING = "approved for production"


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    return AuditTrail(tmp_path / "audit.jsonl")


@pytest.fixture
def form(tmp_path: Path, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch) -> SignatureForm:
    monkeypatch.setattr(passwords, "_METHOD", "scrypt:1024:8:1")
    accounts = AccountsFile(tmp_path / "accounts.json")
    accounts.add("anna", Role.ADMIN, PASSWORD, "")
    accounts.add("quinn", Role.QUALITY, PASSWORD, "")
    return SignatureForm(Signatures(accounts, lambda: 0.0), trail, lambda: 0)


def take(form: SignatureForm, fields: dict[str, str], warnings: tuple[str, ...] = ()) -> Signature | int:
    """The signature, or the status of the refusal."""
    app = Flask("page")
    app.add_url_rule("/recipes/<recipe>/<int:number>/use", "version_use", methods=["POST"])
    with app.test_request_context("/recipes/plate/3/use", method="POST", data=fields):
        request.remote_addr = "10.0.0.7"
        g.session = Session("id", known=True, by="otto")
        try:
            return form.take(Permission.PROMOTE, MEANING, warnings)
        except HTTPException as refusal:
            return refusal.code or 0


def test_the_meaning_is_followed_by_the_reason(form: SignatureForm, trail: AuditTrail) -> None:
    fields = {"signer": " quinn ", "signer_password": PASSWORD, "reason": " 40 challenge\nparts "}
    assert take(form, fields) == Signature("quinn", f"{MEANING}: 40 challenge parts", is_proven=True)
    assert list(trail.entries()) == []


def test_a_refused_signature_is_recorded_until_guessing_is_limited(
    form: SignatureForm, trail: AuditTrail
) -> None:
    assert take(form, {"signer": "anna", "signer_password": PASSWORD}) == 403
    assert [take(form, {"signer": "quinn", "signer_password": "guessed"}) for _ in range(6)][-1] == 429
    refused = [entry for entry in trail.entries() if entry.kind == "refused"]
    assert {(entry.who, entry.subject, entry.via) for entry in refused} == {
        ("otto", "plate@3", "page, from 10.0.0.7")
    }
    assert [entry.meaning for entry in refused][:2] == [
        f"not signed as anna: {MEANING}. anna is admin, which may not promote a version of a recipe: that "
        "needs quality.",
        f"not signed as quinn: {MEANING}. Wrong name or password.",
    ]
    assert len(refused) == 5
    assert PASSWORD not in trail.file.read_text()


def test_what_was_typed_as_a_name_is_recorded_only_if_it_is_one(
    form: SignatureForm, trail: AuditTrail, caplog: pytest.LogCaptureFixture
) -> None:
    assert take(form, {"signer": PASSWORD, "signer_password": "quinn"}) == 403
    assert take(form, {"signer": "", "signer_password": PASSWORD}) == 403
    assert [entry.meaning for entry in trail.entries()][1:] == [
        f"not signed: {MEANING}. Wrong name or password.",
        f"not signed: {MEANING}. Give your name: a signature needs name and password.",
    ]
    assert PASSWORD not in trail.file.read_text() + caplog.text


def test_a_warning_needs_its_tick_box_before_the_password_counts(form: SignatureForm) -> None:
    fields = {"signer": "quinn", "signer_password": PASSWORD}
    warnings = ("2 of 10 known defects would pass.",)
    assert take(form, fields, warnings) == 409
    signature = take(form, {**fields, "understood": "yes"}, warnings)
    assert isinstance(signature, Signature)
    assert signature.statement == f"{MEANING}; warning read and confirmed: {warnings[0]}"
