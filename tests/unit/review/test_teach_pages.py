"""A recipe is taught on the page: images are collected, what stands out is named, states are in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from monitor.accounts.accounts_file import AccountsFile
from monitor.accounts.permissions import Role
from monitor.audit.trail import AuditTrail
from monitor.line_state.ring import FinalVerdict, Ring
from monitor.model.in_force import find_in_force, read_in_force
from monitor.model.recipe_json import REFERENCE, Presence
from monitor.review.application import Application, build
from monitor.review.snapshot_files import SnapshotFiles
from monitor.settings import CameraSettings, LineSettings, Settings, SnapshotSettings
from monitor.snapshots.labels import Label, LabelEntry
from monitor.teaching.frame_collection import CollectionState
from monitor.teaching.job_runner import RunningJob
from monitor.teaching.teaching_folder import TeachingFolder
from monitor.teaching.teaching_job import Job, JobState, read_job, write_job
from monitor.training.compare import Compare
from monitor.training.oddest_images import SHEET
from monitor.training.thresholds import make_calibration
from monitor.verdict import Reason, Verdict
from tests.real.browser import PASSWORD, Browser
from tests.real.parts import part, random_recipe, save
from tests.real.snapshot_set import write_snapshot

PAGE = "/teach/top/plate"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    camera = CameraSettings(name="top", source="simulated://plate", recipe="plate")
    return Settings(
        line=LineSettings(data=tmp_path / "data"),
        camera=(camera,),
        snapshots=SnapshotSettings(min_free_gb=0),
    )


@pytest.fixture
def application(settings: Settings, tmp_path: Path) -> Iterator[Application]:
    application = build(settings, tmp_path)
    yield application
    application.collections.stop()


@pytest.fixture
def page(application: Application) -> Browser:
    return Browser(application.wsgi.test_client())


@pytest.fixture
def good(settings: Settings) -> Path:
    return settings.line.data / "teaching/plate/good"


def write_state(settings: Settings, **fields: object) -> None:
    job = {"recipe": "plate", "camera": "top", "compare": Compare.MEMORY, "who": "edda", "started_utc": ""}
    write_job(settings.line.data / "teaching/plate", Job(**{**job, **fields}))  # type: ignore[arg-type]


def recorded(settings: Settings) -> list[str]:
    return [entry.after or "" for entry in AuditTrail.of(settings).entries() if entry.kind == "training"]


def test_good_parts_are_collected_from_the_running_camera_and_the_record_says_so(
    settings: Settings,
    application: Application,
    page: Browser,
    good: Path,
    ring: Ring,
    put_frame: Callable[[int, int], None],
) -> None:
    refused = page.post(f"{PAGE}/collect", count="2")
    assert refused.status_code == 409, "no line runs"
    assert f'href="{PAGE}">Back to Teach' in refused.text
    put_frame(1, 7)
    assert page.post(f"{PAGE}/collect", count="0").status_code == 409
    assert page.post(f"{PAGE}/collect", count="2").status_code == 303
    assert "0 of 2" in page.get(f"{PAGE}/state").text
    for number in (2, 3):
        put_frame(number, 7 + number)
        ring.write_closed(number, FinalVerdict(Verdict.UNINSPECTED, Reason.NO_RECIPE, False, False, 1, 1))
        until = time.monotonic() + 5
        while len(list(good.glob("*.png"))) < number - 1 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(list(good.glob("*.png"))) == 2
    last = application.collections.last
    while last is not None and last.state is CollectionState.WORKING and time.monotonic() < until:
        time.sleep(0.01)
    assert "2 of 2 images were collected" in page.get(PAGE).text
    assert "2 images of camera top are collected as good parts" in recorded(settings)
    assert page.post(f"{PAGE}/collect", count="1", kind="defects").status_code == 303
    put_frame(4, 20)
    ring.write_closed(4, FinalVerdict(Verdict.PASS, Reason.NONE, False, False, 1, 1))
    until = time.monotonic() + 5
    while "1 of 1 images were collected" not in page.get(f"{PAGE}/state").text and time.monotonic() < until:
        time.sleep(0.01)
    text = page.get(PAGE).text
    assert "<b>1</b> known defect." in text
    assert "1 from the camera." in text
    assert recorded(settings)[-1] == "1 images of camera top are collected as known defects"


def test_pictures_that_stand_out_are_named_and_removed_by_a_tap(
    settings: Settings, page: Browser, good: Path
) -> None:
    for index in range(12):
        save(good / f"{index:02d}.png", part(index))
    save(good / "20.png", part(3))
    save(good / "21.png", (part(13) * 0.5).astype(np.uint8))
    until = time.monotonic() + 5
    while "being looked at" in (text := page.get(PAGE).text) and time.monotonic() < until:
        time.sleep(0.01)
    assert "near copy of an earlier image" in text
    assert "darker than the others" in text
    assert page.get(f"{PAGE}/good/21.png.jpg").mimetype == "image/jpeg"
    assert page.get(f"{PAGE}/good/..%2Fjob.json.jpg").status_code == 404
    assert page.post(f"{PAGE}/remove", kind="good", name="21.png").status_code == 303
    assert page.post(f"{PAGE}/remove", kind="good", name="21.png").status_code == 409
    while "being looked at" in page.get(PAGE).text and time.monotonic() < until:
        time.sleep(0.01)
    assert "Remove all 1: near copy of an earlier image" in page.get(PAGE).text
    assert "Remove all 1 image of good parts" in page.get(f"{PAGE}/remove?kind=good&oddity=copy").text
    assert page.post(f"{PAGE}/remove", oddity="copy").status_code == 303
    assert sorted(file.stem for file in good.iterdir()) == [f"{index:02d}" for index in range(12)]
    assert "removed: 1 images, copy" in recorded(settings)
    for oddity, status in (("copy", 409), ("approved by QA", 400)):
        assert page.post(f"{PAGE}/remove", oddity=oddity).status_code == status
    assert recorded(settings)[-1] == "removed: 1 images, copy"
    assert "1 image of good parts was removed." in page.get(PAGE).text
    assert page.post(f"{PAGE}/restore").status_code == 303
    assert (good / "20.png").exists()
    assert page.post(f"{PAGE}/restore").status_code == 409
    assert recorded(settings)[-1] == "brought back: 1 images that were removed last"


def test_each_image_is_shown_large_with_its_neighbours_and_all_are_in_pages(
    page: Browser, good: Path
) -> None:
    for index in range(70):
        save(good / f"{index:02d}.png", part(index, side=16))
    text = page.get(f"{PAGE}?start=60").text
    assert "61 to 70 of 70" in text
    assert "1 to 60 of 70" in page.get(f"{PAGE}?start=-5").text
    assert "61 to 70 of 70" in page.get(f"{PAGE}?start=999").text
    text = page.get(f"{PAGE}/good/68.png/large").text
    assert "2 of 70 images of good parts" in text
    assert f'id="newer" href="{PAGE}/good/69.png/large"' in text
    assert f'id="older" href="{PAGE}/good/67.png/large"' in text
    assert page.get(f"{PAGE}/good/68.png/large.jpg").mimetype == "image/jpeg"
    assert page.get(f"{PAGE}/good/no.png/large").status_code == 404
    answer = page.post(f"{PAGE}/remove", kind="good", name="68.png", following="67.png")
    assert answer.headers["Location"] == f"{PAGE}/good/67.png/large"
    assert "1 image of good parts was removed." in page.get(f"{PAGE}/good/67.png/large").text


def test_parts_labelled_as_defects_become_known_defects(
    settings: Settings, application: Application, page: Browser
) -> None:
    snapshots = settings.line.data / "snapshots"
    keys = [
        write_snapshot(snapshots, datetime(2026, 11, 24, 5, n, tzinfo=UTC), n, recipe="plate")
        for n in range(1, 4)
    ]
    files = SnapshotFiles(snapshots)
    for key, label in zip(keys, (Label.DEFECT, Label.DEFECT, Label.OVERKILL), strict=True):
        files.label(key, LabelEntry(label))
        save(snapshots / f"{key.path}.png", part(key.frame, defect=True))
    application.index.step()
    assert "Add 2 labelled defects" in page.get(PAGE).text
    button = "Use as a known defect of recipe plate"
    assert button not in page.get(f"/part/{keys[2].path}").text
    assert page.post(f"/part/{keys[2].path}/known-defect").status_code == 409
    assert button in page.get(f"/part/{keys[0].path}").text
    assert page.post(f"/part/{keys[0].path}/known-defect").status_code == 303
    assert "It is a known defect" in page.get(f"/part/{keys[0].path}").text
    assert "Add 1 labelled defect" in page.get(PAGE).text
    twin = save(settings.line.data / "teaching/plate/good/1.png", part(keys[1].frame, defect=True))
    answer = page.post(f"{PAGE}/defects")
    assert "1 of them was among the good parts too" in page.get(answer.headers["Location"]).text
    assert not twin.exists()
    text = page.get(PAGE).text
    assert "Add 1 labelled defect" not in text
    assert "2 labelled on the page Rejects, which" in text
    assert "There is none yet" not in text
    found = sorted(file.name for file in (settings.line.data / "teaching/plate/defects").iterdir())
    assert found == [f"{key.day}_{key.stem}.png" for key in keys[:2]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"state": JobState.FAILED, "message": "out of memory: end other programs"},
            ("Not taught: out of", "Resume"),
        ),
        ({"state": JobState.CANCELLED}, ("was cancelled", "Resume")),
        ({"state": JobState.RUNNING}, ("was interrupted", "Resume")),
    ],
)
def test_how_a_teaching_ended_is_told_in_words(
    settings: Settings, page: Browser, good: Path, fields: dict[str, object], words: tuple[str, ...]
) -> None:
    save(good / "1.png", part(1))
    write_state(settings, **fields)
    text = page.get(PAGE).text
    assert all(word in text for word in words)


def test_a_student_that_will_begin_anew_is_named_beside_resume(
    settings: Settings, page: Browser, good: Path
) -> None:
    save(good / "1.png", part(1))
    student = {"compare": Compare.BOTH, "state": JobState.CANCELLED, "images": ("1.png",)}
    write_state(settings, **student)
    assert "begins anew" not in page.get(PAGE).text
    save(good / "2.png", part(2))
    assert "1 image of good parts changed since: resumed, the student begins anew" in page.get(PAGE).text
    job = read_job(settings.line.data / "teaching/plate")
    write_state(settings, state=JobState.DONE, unfinished_student=job)
    text = page.get(PAGE).text
    assert "Resume the student" in text
    assert "begins anew" in text


def test_the_images_of_a_recipe_stay_as_they_are_while_it_is_taught(
    settings: Settings, application: Application, page: Browser, good: Path
) -> None:
    save(good / "1.png", part(1))
    job = Job(recipe="plate", camera="top", compare=Compare.MEMORY, who="edda", started_utc="")
    application.teachings.running = RunningJob(job, TeachingFolder.of(settings, "plate"))
    forms: dict[str, dict[str, str]] = {
        "collect": {"count": "2"},
        "remove": {"kind": "good", "name": "1.png"},
        "restore": {},
        "defects": {},
    }
    for form, fields in forms.items():
        answer = page.post(f"{PAGE}/{form}", **fields)
        assert (answer.status_code, "is being taught" in answer.text) == (409, True)
    assert (good / "1.png").exists()


def test_labelled_defects_wait_for_the_end_of_a_teaching(
    settings: Settings, application: Application, page: Browser
) -> None:
    snapshots = settings.line.data / "snapshots"
    key = write_snapshot(snapshots, datetime(2026, 11, 24, 5, 1, tzinfo=UTC), 1, recipe="plate")
    SnapshotFiles(snapshots).label(key, LabelEntry(Label.DEFECT))
    application.index.step()
    job = Job(recipe="plate", camera="top", compare=Compare.MEMORY, who="edda", started_utc="")
    application.teachings.running = RunningJob(job, TeachingFolder.of(settings, "plate"))
    text = page.get(PAGE).text
    assert "1 labelled defect waits. It can be added when the teaching has ended." in text
    assert "Before step 1 of 3" in text


def test_the_last_result_stays_and_what_passes_can_be_counted_without_teaching(
    settings: Settings, application: Application, page: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There is no result yet" in page.get(PAGE).text
    assert page.post(f"{PAGE}/count").status_code == 409
    recipe = random_recipe(settings.line.data / "recipes/plate")
    write_state(settings, state=JobState.CANCELLED)
    assert "plate@1 is taught" in page.get(PAGE).text
    assert "Count what passes" not in page.get(PAGE).text
    save(settings.line.data / "teaching/plate/defects/1.png", part(1, defect=True))
    text = page.get(PAGE).text
    assert "No known defect was counted; 1 is in step 3." in text
    assert "1 put into the folder by hand." in text
    counted: list[tuple[str, str, int]] = []
    monkeypatch.setattr(
        application.teachings,
        "count",
        lambda recipe, camera, base, who: counted.append((recipe, camera, base)),
    )
    assert page.post(f"{PAGE}/count").status_code == 303
    assert counted == [("plate", "top", recipe.number)]
    assert recorded(settings)[-1] == "count of what passes with plate@1 is started, with 1 known defects"


@pytest.mark.parametrize(("second", "is_told"), [(0.5, True), (1.9, False)])
def test_an_image_that_alone_sets_the_threshold_is_told_beside_the_oddest(
    settings: Settings, page: Browser, second: float, is_told: bool
) -> None:
    recipe = random_recipe(settings.line.data / "recipes/plate")
    scores = (*[0.1] * 97, second, 2.0)
    recipe.with_calibration({REFERENCE: make_calibration(scores, 0.01)}).commit()
    save(recipe.folder / SHEET, part(1))
    write_state(settings, state=JobState.CANCELLED)
    text = page.get(PAGE).text
    assert "The good parts that scored highest" in text
    assert ("it scored 4.0 times as high as the next part" in text) == is_told


def test_what_was_taught_waits_for_a_signature_also_the_first_version(
    settings: Settings, page: Browser
) -> None:
    recipe = random_recipe(settings.line.data / "recipes/plate")
    write_state(settings, state=JobState.DONE, version=recipe.number)
    text = page.get(PAGE).text
    assert "does not judge the parts" in text
    assert f"/recipes/plate/{recipe.number}" in text
    assert page.post(f"/recipes/plate/{recipe.number}/use", signer="quinn").status_code == 303
    assert read_in_force(recipe.folder) is not None
    assert find_in_force(recipe.folder).number == recipe.number
    for address in (PAGE, f"/recipes/plate/{recipe.number}"):
        assert "It judges the parts of camera top once the line inspects" in page.get(address).text


def test_a_presence_gate_that_a_teaching_would_lose_is_named(settings: Settings, page: Browser) -> None:
    recipe = random_recipe(settings.line.data / "recipes/plate")
    assert "presence gate" not in page.get(PAGE).text
    gate = Presence(
        images=10, rows=80, columns=80, colour=False, means=(100.0,), deviations=(1.0,), limit=5.0
    )
    recipe.with_presence(gate).commit()
    assert "plate@2 is in force and has a presence gate" in page.get(PAGE).text


def test_only_who_may_teach_teaches(settings: Settings, page: Browser) -> None:
    accounts = AccountsFile.of(settings)
    for name, role in (("ada", Role.ADMIN), ("edda", Role.ENGINEER), ("otto", Role.OPERATOR)):
        accounts.add(name, role, PASSWORD, "2026-11-30T07:00:00.000Z")
    forms = ("collect", "stop", "remove", "restore", "defects", "start", "count", "cancel", "resume")
    page.sign_in("otto")
    assert {page.post(f"{PAGE}/{form}").status_code for form in forms} == {403}
    page.sign_in("edda")
    assert "needs an engineer" not in page.get(PAGE).text
    assert 403 not in {page.post(f"{PAGE}/{form}").status_code for form in forms}
    assert page.post(f"{PAGE}/start", compare="memory").status_code == 409, "there is no image"


@pytest.mark.parametrize("path", ["/teach/side/plate", "/teach/top/PLATE", "/teach?camera=top&recipe=.."])
def test_what_can_not_be_taught_is_refused_in_one_line(page: Browser, path: str) -> None:
    assert page.get(path).status_code in (400, 404)
    refused = page.get("/teach?camera=top&recipe=Screw Block 2")
    assert refused.status_code == 400
    assert "Screw Block 2 can't be a recipe's name" in refused.text
    assert "Back to Teach" in page.get("/teach/top/PLATE").text
    assert page.get("/teach?camera=top&recipe=disc").headers["Location"] == "/teach/top/disc"
    assert "Recipe of camera top" in page.get("/teach").text


def test_a_form_for_no_page_of_teach_is_refused_with_the_way_back(page: Browser) -> None:
    refused = page.post("/teach")
    assert refused.status_code == 405
    assert "Back to Teach" in refused.text
