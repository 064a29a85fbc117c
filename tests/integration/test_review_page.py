"""The review page in a real browser, and with requests that no browser would send."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, ConsoleMessage, TimeoutError, sync_playwright
from playwright.sync_api import Page as Tab

from monitor.audit.trail import AuditTrail
from monitor.model.recipe_version import RecipeVersion
from monitor.review.access import hash_password
from monitor.review.snapshot_files import Key, SnapshotFiles
from monitor.review.torch_import import LONGEST_S
from monitor.snapshots.labels import Label, LabelEntry
from tests.real.review_page import ReviewPage, write_snapshots
from tests.real.snapshot_set import write_snapshot

pytestmark = pytest.mark.xdist_group("review page")
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
]
PASSWORD = "gloves and all"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Key]]:
    folder = tmp_path_factory.mktemp("reviewed") / "data"
    return folder, write_snapshots(folder, 12)


@pytest.fixture(scope="module")
def page(data: tuple[Path, list[Key]]) -> Iterator[ReviewPage]:
    with ReviewPage(data[0]) as running:
        yield running


def is_error(message: ConsoleMessage) -> bool:
    """Whether the page did something wrong. These tests open so many pages that a busy server may have no
    stream free; the page then asks for the state instead."""
    has_no_stream = message.location["url"].endswith("/events") and "503" in message.text
    return message.type == "error" and not has_no_stream


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    opened = browser.new_page(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
    yield opened
    opened.close()
    assert not errors


def labels(data: Path, key: Key) -> list[str]:
    document = json.loads((data / "snapshots" / f"{key.path}.json").read_text())
    return [entry["label"] for entry in document["labels"]]


def label(data: Path, key: Key, word: str) -> None:
    SnapshotFiles(data / "snapshots").label(key, LabelEntry(Label(word), "test"))


def await_page(tab: Tab, selector: str, within_s: float = 30.0) -> None:
    """Waits until a new page shows the element and its script handles keys. A failure quotes the page."""
    try:
        tab.wait_for_selector(selector, timeout=within_s * 1000)
    except TimeoutError as error:
        raise AssertionError(f"no {selector} on {tab.url}:\n{tab.inner_text('body')}") from error
    tab.wait_for_load_state("load")


def await_effects(tab: Tab) -> None:
    """Waits for the effects of a new threshold. The first time the server imports torch for them, which takes
    up to a minute where other tests need the processor too."""
    await_page(tab, "#effects", within_s=LONGEST_S)


def address(page: ReviewPage, key: Key) -> str:
    return f"{page.address}/part/{key.path}"


def test_browse_filter_and_label_by_keyboard(
    data: tuple[Path, list[Key]], page: ReviewPage, tab: Tab
) -> None:
    folder, keys = data
    tab.goto(page.address)
    assert tab.locator(".wall li").count() == len(keys)
    assert (
        tab.locator(".wall img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
        > 100
    )
    tab.locator("[name=by]").fill("kb")
    tab.get_by_role("button", name="Set").click()
    await_page(tab, "[name=by][value=kb]")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    tab.wait_for_url(address(page, keys[-2]))
    tab.keyboard.press("d")
    await_page(tab, "#label-defect[aria-pressed=true]")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_url(address(page, keys[-3]))
    tab.keyboard.press("o")
    await_page(tab, "#label-overkill[aria-pressed=true]")
    assert "by kb" in tab.locator(".said").inner_text()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_url(address(page, keys[-4]))
    tab.keyboard.press("u")
    await_page(tab, "#label-unsure[aria-pressed=true]")
    tab.keyboard.press("x")
    await_page(tab, "#label-none[disabled]")
    assert labels(folder, keys[-2]) == ["defect"]
    assert labels(folder, keys[-3]) == ["overkill"]
    assert labels(folder, keys[-4]) == []
    tab.keyboard.press("Escape")
    tab.wait_for_url(f"{page.address}/")
    tab.select_option("[name=label]", "overkill")
    tab.get_by_role("button", name="Show").click()
    tab.wait_for_url("**/?*label=overkill*")
    assert tab.locator(".wall li").count() == 1
    tab.locator(".wall a").click()
    tab.wait_for_url("**/part/**")
    assert tab.locator("#newer, #older").count() == 0


@pytest.mark.parametrize("size", [(1280, 800), (800, 1280)])
def test_a_part_is_labelled_on_the_wall_with_one_touch_and_the_next_one_follows(
    tmp_path: Path, browser: Browser, size: tuple[int, int]
) -> None:
    data = tmp_path / "data"
    now = datetime.now(UTC)
    keys = [write_snapshot(data / "snapshots", now - timedelta(minutes=9 - n), n) for n in range(4)]
    with ReviewPage(data) as page:
        touched = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, has_touch=True, bypass_csp=True
        )
        tab = touched.new_page()
        tab.goto(page.address)
        assert tab.locator("#state .headline").inner_text().upper() == "NO LINE RUNS"
        assert "green" not in (tab.locator("#state").get_attribute("class") or "")
        cards = tab.locator(".wall li")
        cards.nth(0).get_by_role("button", name="Defect").tap()
        cards.nth(0).locator(".tag").wait_for()
        assert labels(data, keys[-1]) == ["defect"]
        # The keys go on from the part that follows.
        tab.keyboard.press("o")
        cards.nth(1).locator(".tag").wait_for()
        assert labels(data, keys[-2]) == ["overkill"]
        # A new reject comes to the wall without a reload, and not under a hand that is at work.
        write_snapshot(data / "snapshots", datetime.now(UTC), 99)
        fresh = tab.get_by_role("button", name="Show 1 new")
        fresh.tap()
        tab.wait_for_function("document.querySelectorAll('.wall li').length === 5")
        assert fresh.is_hidden()
        touched.close()


def test_two_lines_on_one_machine_know_their_visitors_apart(
    page: ReviewPage, tmp_path: Path, tab: Tab
) -> None:
    with ReviewPage(tmp_path / "data") as other:
        for address_, name in ((page.address, "anna"), (other.address, "bert")):
            tab.goto(address_)
            tab.locator("[name=by]").fill(name)
            tab.get_by_role("button", name="Set").click()
            await_page(tab, f"[name=by][value={name}]")
        for address_, name in ((page.address, "anna"), (other.address, "bert")):
            tab.goto(address_)
            assert tab.locator("[name=by]").input_value() == name
        tab.goto("about:blank")


def test_the_slider_lays_the_heatmap_over_the_frame(
    data: tuple[Path, list[Key]], page: ReviewPage, tab: Tab
) -> None:
    tab.goto(address(page, data[1][0]))
    heatmap, under = tab.locator("#heatmap"), tab.locator(".under")
    for image in (heatmap, under):
        image.evaluate("image => image.decode()")
    sizes = [
        image.evaluate("image => [image.naturalWidth, image.naturalHeight]") for image in (heatmap, under)
    ]
    assert sizes[0] == sizes[1]
    assert heatmap.bounding_box() == under.bounding_box()
    tab.keyboard.press("ArrowUp")
    assert heatmap.evaluate("image => image.style.opacity") == "0.6"
    tab.keyboard.press(" ")
    assert heatmap.evaluate("image => image.style.opacity") == "0"
    tab.keyboard.press(" ")
    assert heatmap.evaluate("image => image.style.opacity") == "0.6"


@pytest.mark.parametrize("width", [1280, 800])
def test_a_glove_takes_hold_of_the_slider_wherever_its_thumb_is_touched(
    data: tuple[Path, list[Key]], page: ReviewPage, tab: Tab, width: int
) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(address(page, data[1][0]))
    slider = tab.locator("#blend")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    # A touch beside the thumb would move the thumb to that place.
    for dx, dy in ((-19, 0), (19, 0), (0, -19), (0, 19)):
        tab.mouse.move(x + dx, y + dy)
        tab.mouse.down()
        assert slider.input_value() == "50"
        tab.mouse.up()
    tab.mouse.move(x + 40, y)
    tab.mouse.down()
    tab.mouse.up()
    assert int(slider.input_value()) > 50


@pytest.mark.timeout(300)
def test_overkills_become_good_images_once_the_effect_was_seen_and_accepted(tmp_path: Path, tab: Tab) -> None:
    keys = write_snapshots(tmp_path / "data", 6)
    recipe = tmp_path / "data/recipes/plate"
    document = json.loads((recipe / "recipe.json").read_text())
    for calibration in document["calibration"].values():
        # A third of the threshold rejects every part, as a change of the parts' look would.
        calibration["scores"] = [score / 3 for score in calibration["scores"]]
        calibration["threshold"] /= 3
    (recipe / "recipe.json").write_text(json.dumps(document))
    for number, key in enumerate(keys):
        label(tmp_path / "data", key, "overkill" if number % 2 else "defect")
    before = RecipeVersion.load(recipe)
    # To compile the model for OpenVINO would take longer than to score.
    with ReviewPage(tmp_path / "data", '[scoring]\nruntime = "torch"') as page:
        tab.goto(f"{page.address}/today")
        assert "3 of 6 labelled rejects (50 %) were overkill (good part rejected)" in tab.inner_text("main")
        assert tab.locator("svg.plot rect.overkill").count() > 0
        tab.get_by_role("link", name="Use these good parts").click()
        tab.get_by_role("button", name="Show the effect").click()
        await_effects(tab)
        rows = [row.split("\t") for row in tab.locator("#effects tr").all_inner_texts()[1:]]
        assert [row[0] for row in rows] == ["real defect", "overkill (good part rejected)", "unsure"]
        assert rows[1][1:3] == ["3", "3"]
        assert int(rows[1][3]) < 3
        assert "the guarantee stays valid" in tab.inner_text("main")
        assert RecipeVersion.load(recipe).sha == before.sha
        tab.goto(address(page, keys[0]))
        tab.keyboard.press("o")
        await_page(tab, "#label-overkill[aria-pressed=true]")
        tab.goto(f"{page.address}/recalibrate/plate")
        assert "Labels have changed since this result: calculate it again" in tab.inner_text("#old")
        assert tab.get_by_role("button", name="Accept the new threshold").count() == 0
        tab.get_by_role("button", name="Show the effect").click()
        await_effects(tab)
        assert tab.locator("#old").count() == 0
        assert tab.locator("#effects tr.overkill td").nth(1).inner_text() == "4"
        tab.locator("[name=signer]").fill("ab")
        tab.locator("[name=understood]").check()
        tab.get_by_role("button", name="Accept the new threshold").click()
        await_page(tab, "main [role=status]")
        assert "Accepted" in tab.inner_text("main [role=status]")
        warned = "of 2 known defects would pass with the new threshold"
        tab.get_by_role("link", name="Look at plate@").click()
        await_page(tab, "[name=signer]")
        assert warned in tab.inner_text(".danger"), "the version says what its acceptance said"
        assert tab.locator("[name=understood][required]").count() == 1
        # As a browser is left whose signature got no answer.
        tab.evaluate(
            "sessionStorage.setItem('signing', document.querySelector('.signature').closest('form').action)"
        )
        tab.reload()
        await_page(tab, "[name=signer]")
        assert "nothing was put in force" in tab.inner_text("[data-unanswered]")
        tab.locator("[name=signer]").fill("quinn")
        tab.locator("[name=understood]").check()
        tab.get_by_role("button", name="Put in force", exact=True).click()
        tab.wait_for_url("**/recipes")
        tab.goto(f"{page.address}/recalibrate/plate")
        assert "Accepted" not in tab.inner_text("main"), "a proposal ends with the promotion of its version"
        tab.goto("about:blank")
    after = RecipeVersion.load(recipe).document.calibration["torch-f32"]
    assert after.threshold > before.document.calibration["torch-f32"].threshold
    assert len(after.added) == 4
    signed, promoted = list(AuditTrail(tmp_path / "data/audit.jsonl").entries())[-2:]
    assert (signed.kind, signed.who, signed.signed) == ("threshold", "ab", False)
    assert (promoted.kind, promoted.who) == ("promotion", "quinn")
    assert signed.after == repr(after.threshold)


def test_help_is_one_touch_away_on_every_page_and_its_links_lead_somewhere(
    data: tuple[Path, list[Key]], page: ReviewPage, tab: Tab
) -> None:
    for path in ("/", f"/part/{data[1][0].path}", "/live", "/today", "/record", "/recalibrate/plate"):
        tab.goto(page.address + path)
        tab.get_by_role("link", name="Help", exact=True).click()
        tab.wait_for_url(f"{page.address}/help")
    targets = tab.locator("main a").evaluate_all("all => all.map(link => link.href)")
    assert len(targets) >= 3
    for target in targets:
        assert page.get(target.removeprefix(page.address))[0].status == 200


def test_a_report_opens_in_the_browser_with_its_pictures_and_needs_nothing_else(
    data: tuple[Path, list[Key]], page: ReviewPage, tab: Tab
) -> None:
    tab.goto(f"{page.address}/today")
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.get_by_role("link", name="Report of this recipe").click()
    tab.wait_for_url("**/report/recipe/plate")
    assert "Nobody has signed for this version" in tab.inner_text("main")
    assert tab.locator(".grid img").evaluate_all("all => all.every(image => image.naturalWidth > 100)")
    assert tab.locator("h1").evaluate("head => getComputedStyle(head).color") == "rgb(0, 0, 0)"
    # The page before asks for its news until it is left.
    since = asked[asked.index(tab.url) :]
    assert [url for url in since if not url.startswith("data:")] == [tab.url]


def test_the_record_leads_to_the_part_and_says_what_its_check_proves(
    data: tuple[Path, list[Key]], page: ReviewPage, tab: Tab
) -> None:
    tab.goto(address(page, data[1][0]))
    tab.keyboard.press("u")
    await_page(tab, "#label-unsure[aria-pressed=true]")
    tab.get_by_role("link", name="Record", exact=True).click()
    tab.get_by_role("button", name="Verify").click()
    check = tab.locator("#check [role=status]")
    check.get_by_text(re.compile(r"The record is whole: \d+ entries")).wait_for()
    assert "It does not prove" in check.inner_text()
    tab.get_by_label("What").select_option("label")
    tab.get_by_role("button", name="Show").click()
    tab.get_by_role("link", name="the part").first.click()
    tab.wait_for_url(address(page, data[1][0]))


@pytest.mark.parametrize("width", [1280, 800, 400])
def test_gloves_find_every_target_and_nothing_is_cut_off(
    data: tuple[Path, list[Key]], page: ReviewPage, tab: Tab, width: int
) -> None:
    tab.set_viewport_size({"width": width, "height": 900})
    for path in (
        "/",
        f"/part/{data[1][0].path}",
        "/live",
        "/today",
        "/record",
        "/recalibrate/plate",
        "/help",
    ):
        tab.goto(page.address + path)
        small = tab.locator("button, .button, select, input:not([type=hidden]), nav a").evaluate_all(
            "all => all.filter(e => e.checkVisibility()).filter(e => { const box = e.getBoundingClientRect();"
            " return Math.min(box.height, box.width) < 48 }).map(e => e.outerHTML)"
        )
        assert small == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator("#state").evaluate("bar => bar.getBoundingClientRect().width") == width


def test_every_answer_carries_the_headers_that_keep_others_out(page: ReviewPage) -> None:
    for path in ("/", "/nowhere", "/static/review.css"):
        answer, _ = page.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "Server" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/part/../../etc/passwd",
        "/part/%2e%2e/%2e%2e/etc/frame.jpg",
        "/part/..%2f..%2f/top/x/frame.jpg",
        "/part/2026-11-24/top/..%2f..%2f..%2frecipes%2fplate%2frecipe/original.png",
        "/static/../application.py",
        "/static/%2e%2e/application.py",
        "/static//etc/passwd",
        "/part/2026-11-24/top/%00/frame.jpg",
    ],
)
def test_no_address_leads_out_of_the_snapshot_folder(page: ReviewPage, path: str) -> None:
    answer, content = page.get(path)
    assert answer.status in (308, 400, 404)
    assert b"root:" not in content
    assert b"import" not in content


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"POST /name HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /name HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET /?least=nan HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
        b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=["nonsense", "long header", "large body", "negative length", "bad filter", "host", "bytes", "method"],
)
def test_a_malformed_or_oversized_request_is_refused_and_the_page_goes_on(
    page: ReviewPage, request_: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", page.port), 10) as connection:
        connection.sendall(request_)
        answer = connection.recv(4096)
    assert 400 <= int(answer.split()[1]) < 500
    for header in (b"Content-Security-Policy: default-src 'none'", b"X-Content-Type-Options: nosniff"):
        assert answer.count(header) == 1
    assert page.get("/")[0].status == 200


def test_any_address_of_this_machine_serves_the_page(tmp_path: Path) -> None:
    with ReviewPage(tmp_path / "data", host="127.0.0.2") as page:
        assert page.get("/")[0].status == 200
        assert page.get("/", {"Host": f"localhost:{page.port}"})[0].status == 200
        assert page.get("/", {"Host": "evil.example"})[0].status == 421


@pytest.mark.parametrize("target", ["//[", "//evil.example/", "/\\evil.example", "http://[", "x", "/\n"])
def test_signing_in_leads_to_this_page_and_nowhere_else(page: ReviewPage, target: str) -> None:
    answer, content = page.get(f"/login?next={quote(target, safe='')}")
    assert answer.status == 200
    assert re.findall(r'name="next" value="([^"]*)"', content.decode())[-1] == "/"


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null", "", "http://evil.example"])
def test_a_form_of_no_known_origin_is_refused(page: ReviewPage, origin: str) -> None:
    assert page.post("/name", "by=x", {"Origin": origin})[0].status == 403


def test_a_form_from_another_site_changes_nothing(
    data: tuple[Path, list[Key]], page: ReviewPage, tab: Tab
) -> None:
    folder, keys = data
    before = labels(folder, keys[0])
    target = f"/part/{keys[0].path}/label"
    for body in ("label=overkill", "label=overkill&token=" + "0" * 64):
        assert page.post(target, body)[0].status == 403
    tab.goto(address(page, keys[0]))
    token = tab.locator("form.labels [name=token]").get_attribute("value")
    cookie = "; ".join(f"{its['name']}={its['value']}" for its in tab.context.cookies())
    right = f"label=overkill&token={token}"
    for foreign in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert page.post(target, right, {"Cookie": cookie, **foreign})[0].status == 403
    assert page.post(target, right)[0].status == 403  # the token without its session
    assert labels(folder, keys[0]) == before
    same = {"Cookie": cookie, "Origin": page.address, "Sec-Fetch-Site": "same-origin"}
    assert page.post(target, right, same)[0].status == 303
    assert labels(folder, keys[0]) == [*before, "overkill"]


def test_with_a_password_nothing_is_seen_without_it(data: tuple[Path, list[Key]], tab: Tab) -> None:
    folder, keys = data
    with ReviewPage(folder, f'host = "0.0.0.0"\npassword_hash = "{hash_password(PASSWORD)}"') as page:
        for path in ("/", f"/part/{keys[0].path}", f"/part/{keys[0].path}/frame.jpg", "/help"):
            answer, content = page.get(path)
            assert answer.status == 401
            assert content == b"Sign in first.\n"
        tab.goto(f"{page.address}/?camera=top")
        assert "/login" in tab.url
        tab.locator("[name=by]").last.fill("anna")
        tab.locator("[name=password]").fill(PASSWORD)
        tab.locator("form.login").get_by_role("button").click()
        tab.wait_for_url(f"{page.address}/?camera=top")
        assert tab.locator(".wall li").count() == len(keys)
        tab.get_by_role("button", name="Sign out").click()
        tab.goto(page.address)
        assert "/login" in tab.url
        tab.goto("about:blank")


def test_a_client_that_says_nothing_takes_nothing_from_the_others(page: ReviewPage) -> None:
    silent = [socket.create_connection(("127.0.0.1", page.port), 10) for _ in range(20)]
    try:
        for connection in silent:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        started = time.monotonic()
        assert page.get("/alive")[0].status == 204
        assert time.monotonic() - started < 2
    finally:
        for connection in silent:
            connection.close()
