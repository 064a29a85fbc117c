"""Versions on the page: listed with their lineage, put in force by a signature, and by nobody who may not."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Role
from monitor.audit.trail import AuditTrail
from monitor.line_state.changeover import find_recipe_to_load
from monitor.model.in_force import Approval, find_in_force, hold_in_force, put_in_force
from monitor.model.recipe_json import REFERENCE
from monitor.model.recipe_version import RecipeVersion
from monitor.review import recipe_pages, version_trial
from monitor.review.application import build
from monitor.settings import CameraSettings, LineSettings, RecipeSettings, Settings
from tests.real.browser import PASSWORD, Browser
from tests.real.parts import part, random_recipe, save
from tests.real.snapshot_set import write_snapshot


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second version has a threshold that is 4 times higher."""
    first = random_recipe(tmp_path_factory.mktemp("recipes") / "plate")
    own = first.document.calibration[REFERENCE]
    higher = first.with_calibration({REFERENCE: msgspec.structs.replace(own, threshold=2.0)}).commit()
    higher.with_changes(statement="third").commit()
    return first.folder


@pytest.fixture
def line(tmp_path: Path, three: Path) -> Settings:
    shutil.copytree(three, tmp_path / "data/recipes/plate")
    camera = CameraSettings(name="top", source="simulated://plate", recipe="plate")
    sets = RecipeSettings(sets={"one": {"top": "plate@1"}, "wrong": {"top": "plate@9"}})
    return Settings(line=LineSettings(data=tmp_path / "data"), camera=(camera,), recipes=sets)


@pytest.fixture
def page(line: Settings, tmp_path: Path) -> Browser:
    return Browser(build(line, tmp_path).wsgi.test_client())


def number_in_force(line: Settings) -> int:
    return find_in_force(line.line.data / "recipes/plate").number


def test_a_version_is_put_in_force_and_back_by_signatures_that_are_recorded(
    line: Settings, page: Browser
) -> None:
    assert page.get("/recipes").text.count("not promoted") == 2
    refused = page.post("/recipes/plate/1/use", signer="anna")
    assert refused.status_code == 409, "a threshold 4 times lower needs the second step"
    assert number_in_force(line) == 3
    assert page.post("/recipes/plate/1/use", signer="anna", understood="yes").status_code == 303
    assert number_in_force(line) == 1
    assert "approved for production, anna" in page.get("/recipes").text
    assert "Put plate@3 in force" in page.get("/recipes").text
    assert page.post("/recipes/plate/2/use", signer="anna", understood="yes", back="1").status_code == 409
    assert page.post("/recipes/plate/3/use", signer="anna", understood="yes", back="1").status_code == 303
    assert number_in_force(line) == 3
    kinds = [(entry.kind, entry.who) for entry in AuditTrail.of(line).entries()]
    assert kinds[1:] == [("promotion", "anna"), ("rollback", "anna")]


def test_who_puts_an_approved_version_in_force_does_not_approve_it(line: Settings, page: Browser) -> None:
    for number, more in (("3", {}), ("2", {}), ("3", {"back": "1"}), ("2", {})):
        name = "otto" if number == "3" and more else "quinn"
        assert page.post(f"/recipes/plate/{number}/use", signer=name, reason="x", **more).status_code == 303
    assert [entry.meaning for entry in AuditTrail.of(line).entries()][1:] == [
        "approved for production: x",
        "approved for production: x",
        "rollback to plate@3 (already approved by quinn (without a password)): x",
        "put in force (already approved by quinn (without a password)): x",
    ]


def test_labelled_defects_that_would_pass_need_the_second_step_at_each_way_into_force(
    line: Settings, tmp_path: Path
) -> None:
    snapshots, now = line.line.data / "snapshots", datetime(2026, 11, 24, 1, tzinfo=UTC)
    for number in range(2):
        key = write_snapshot(snapshots, now, number, recipe="plate", labels=[{"label": "defect"}])
        save(snapshots / f"{key.path}.png", part(number, defect=True))
    folder = line.line.data / "recipes/plate"
    newest = RecipeVersion.load(folder)
    own = msgspec.structs.replace(newest.document.calibration[REFERENCE], threshold=1e6)
    newest.with_calibration({REFERENCE: own}).commit()
    put_in_force(folder, 3, Approval(who="quinn", utc="", meaning=""))
    put_in_force(folder, 4, Approval(who="quinn", utc="", meaning=""))
    put_in_force(folder, 3, Approval(who="quinn", utc="", meaning=""))
    application = build(line, tmp_path)
    application.index.step()
    page = Browser(application.wsgi.test_client())
    for form in ({}, {"back": "1"}):
        refused = page.post("/recipes/plate/4/use", signer="quinn", **form)
        assert refused.status_code == 409
        assert "2 of 2 known defects would pass" in refused.text
    shown = page.get("/recipes/plate/4?back=1").text
    assert "2 of 2 known defects would pass" in shown
    assert 'name="understood"' in shown
    assert number_in_force(line) == 3
    answer = page.post("/recipes/plate/4/use", signer="quinn", understood="yes", back="1")
    assert answer.status_code == 303
    assert number_in_force(line) == 4


def test_a_version_that_is_still_checked_is_not_put_in_force_and_that_is_said(
    line: Settings, page: Browser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begins = threading.Event()
    monkeypatch.setattr(version_trial, "run_process", lambda start, take: begins.wait(30) and None)
    monkeypatch.setattr(recipe_pages, "_TRIAL_S", 0.01)
    page = Browser(build(line, tmp_path).wsgi.test_client())
    shown = page.get("/recipes/plate/2").text
    assert "Nothing is put in force before somebody signs here" in shown
    assert 'name="signer"' not in shown
    refused = page.post("/recipes/plate/2/use", signer="anna", understood="yes")
    assert (refused.status_code, "Nothing is put in force" in refused.text) == (409, True)
    begins.set()
    assert number_in_force(line) == 3


def test_the_first_version_waits_for_a_signature_until_it_has_one(line: Settings, page: Browser) -> None:
    row = page.get("/recipes").text
    assert "waits for a signature" in row
    assert ">in force<" not in row
    assert "This version waits for a signature" in page.get("/recipes/plate/3").text
    assert page.post("/recipes/plate/3/use", signer="quinn").status_code == 303
    assert ">in force<" in page.get("/recipes").text


def test_a_version_that_the_line_could_not_use_is_not_put_in_force(line: Settings, page: Browser) -> None:
    folder = line.line.data / "recipes/plate"
    newest = RecipeVersion.load(folder)
    document = msgspec.structs.replace(newest.document, roi=(1, 2, 30, 40))
    number = replace(newest, document=document).commit().number
    hold = find_in_force(folder)
    refused = page.post(f"/recipes/plate/{number}/use", signer="anna", understood="yes")
    assert refused.status_code == 409
    assert f"plate@{number} is not put in force: camera &#39;top&#39; has no roi" in refused.text
    assert find_in_force(folder) == hold
    assert not any(entry.kind == "promotion" for entry in AuditTrail.of(line).entries())


def test_who_may_not_promote_may_only_choose_among_promoted_versions(line: Settings, page: Browser) -> None:
    accounts = AccountsFile.of(line)
    for name, role in (("ada", Role.ADMIN), ("edda", Role.ENGINEER), ("quinn", Role.QUALITY)):
        accounts.add(name, role, PASSWORD, "2026-11-30T07:00:00.000Z")

    def use(number: int, name: str, password: str = PASSWORD) -> int:
        page.post("/login", by=name, password=PASSWORD, next="/")
        path = f"/recipes/plate/{number}/use"
        return page.post(path, signer=name, signer_password=password, understood="yes").status_code

    assert use(1, "edda") == 403
    assert use(1, "quinn", "wrong") == 403
    assert number_in_force(line) == 3
    assert use(1, "quinn") == 303
    assert use(2, "quinn") == 303
    assert use(1, "edda") == 303
    assert number_in_force(line) == 1
    assert use(3, "edda") == 403


def test_a_version_that_waits_shows_on_every_page(line: Settings, page: Browser) -> None:
    assert "is accepted" not in page.get("/today").text
    folder = line.line.data / "recipes/plate"
    hold_in_force(folder, "2026-11-30T07:00:00.000Z")
    content = (folder / "recipe.json").read_bytes()
    (folder / "recipe.json").write_bytes(content.replace(b"third", b"fourth"))
    for path in ("/", "/today", "/live", "/recipes"):
        assert "plate@4 is accepted, but not in force: plate@3 judges" in page.get(path).text


def test_two_versions_are_compared_on_the_newest_snapshots(line: Settings, page: Browser) -> None:
    folder = line.line.data / "snapshots/2026-11-24/top"
    for number in range(3):
        stem = f"01000{number}000_top_{number}_0.02"
        save(folder / f"{stem}.png", part(number))
        (folder / f"{stem}.json").write_text('{"recipe": "plate"}')
    assert page.post("/recipes/plate/compare/start", one="1", other="1").status_code == 400
    assert page.post("/recipes/plate/compare/start", one="1", other="2").status_code == 303
    until = time.monotonic() + 60
    while "counts" not in (text := page.get("/recipes/plate/compare").text) and time.monotonic() < until:
        time.sleep(0.05)
    assert "The newest 3 snapshots" in text
    assert "plate@1: reject" in text


def test_a_set_is_changed_over_to_only_if_all_of_it_can_be_used(line: Settings, page: Browser) -> None:
    assert "plate@1" in page.get("/sets/one").text
    assert page.post("/sets/wrong/use", signer="anna").status_code == 409
    folder = line.line.data / "changeovers"
    assert not folder.exists()
    assert page.post("/sets/one/use", signer="anna").status_code == 303
    assert find_recipe_to_load(folder, line.camera[0]) == "plate@1", "from the next start of the line on"
    assert [entry.kind for entry in AuditTrail.of(line).entries()][-1] == "changeover"


@pytest.mark.parametrize(
    "path", ["/recipes/no/1", "/recipes/plate/9", "/recipes/../1", "/recipes/plate/x", "/sets/no"]
)
def test_what_does_not_exist_is_not_found(page: Browser, path: str) -> None:
    assert page.get(path).status_code == 404
