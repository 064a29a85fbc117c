"""The page behind a TLS proxy on the same machine works as the handbook says, and for nobody else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import sync_playwright

from monitor.review.access import hash_password
from tests.integration.test_review_page import CHROMIUM, FLAGS
from tests.real import handbook
from tests.real.caddy import Caddy, find_caddy
from tests.real.https_request import NAME
from tests.real.nginx import Nginx
from tests.real.review_page import ReviewPage

PASSWORD = "gloves and all"
PLAIN = "proxy_pass http://127.0.0.1:8080;"
CADDY = "reverse_proxy 127.0.0.1:8080"
AS_CADDY = (
    "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; "
    "proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;"
)
"""The headers that Caddy's reverse_proxy sends by default."""


class Proxied:
    """A page with a password behind a proxy, and one browser's cookie."""

    def __init__(self, page: ReviewPage, proxy: Nginx | Caddy) -> None:
        self.page, self.proxy, self.cookie, self.token = page, proxy, "", ""

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, form: str, **headers: str) -> tuple[int, str, str]:
        return self._ask("POST", path, form, headers)

    def _ask(self, method: str, path: str, form: str | None, headers: dict[str, str]) -> tuple[int, str, str]:
        """Status, address of a redirection, and text."""
        answer, text = self.proxy.request(method, path, form, {"Cookie": self.cookie, **headers})
        self.set_cookie = answer.getheader("Set-Cookie", "")
        self.cookie = self.set_cookie.partition(";")[0] or self.cookie
        return answer.status, answer.getheader("Location", ""), text

    def sign_in(self, below: str = "", password: str = PASSWORD, **headers: str) -> tuple[int, str, str]:
        if not self.token:
            _, _, text = self.get(f"{below}/login?next=/live")
            (self.token, *_) = re.findall(r'name="token" value="(\w+)"', text)
        form = f"token={self.token}&next=/live&by=kb&password={quote(password)}"
        return self.post(f"{below}/login", form, **headers)


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Callable[..., Proxied]]:
    """Makes a page behind nginx. `location` is what the handbook's block has in its location, `below` the
    path below which the proxy serves the page."""
    running: list[ReviewPage | Nginx] = []

    def make(location: str = PLAIN, public: str = "{url}", place: str = "/") -> Proxied:
        (tmp_path / "data").mkdir()
        (block,) = handbook.written_in("nginx")
        assert PLAIN in block
        page = ReviewPage(tmp_path / "data", f'password_hash = "{hash_password(PASSWORD)}"')
        block = block.replace("location / {", f"location {place} {{").replace(PLAIN, location)
        proxy = Nginx(tmp_path / "nginx", block.replace("8080", str(page.port)))
        if public:
            text = page.config.read_text().rstrip()
            page.config.write_text(f'{text}\npublic_url = "{public.format(url=proxy.url)}"\n')
        for one in (page, proxy):
            one.__enter__()
            running.append(one)
        return Proxied(page, proxy)

    yield make
    for one in reversed(running):
        one.__exit__(None, None, None)


@pytest.fixture
def behind_caddy(tmp_path: Path) -> Iterator[Callable[..., Proxied]]:
    """Makes a page behind Caddy. `inside` is what the handbook's block has in it, `below` is added to the
    public address."""
    if find_caddy() is None:
        pytest.skip("no Caddy here: apt-get install caddy")
    with contextlib.ExitStack() as running:

        def make(inside: str = CADDY, below: str = "") -> Proxied:
            (tmp_path / "data").mkdir()
            (block,) = handbook.written_in("caddy")
            assert CADDY in block
            page = ReviewPage(tmp_path / "data", f'password_hash = "{hash_password(PASSWORD)}"')
            proxy = Caddy(tmp_path / "caddy", block.replace(CADDY, inside).replace("8080", str(page.port)))
            text = page.config.read_text().rstrip()
            page.config.write_text(f'{text}\npublic_url = "{proxy.url}{below}"\n')
            return Proxied(running.enter_context(page), running.enter_context(proxy))

        yield make


@pytest.mark.parametrize("headers", ["", AS_CADDY], ids=["nginx", "headers-as-caddy"])
def test_a_person_signs_in_and_sends_a_form_by_the_public_address(
    proxied: Callable[..., Proxied], headers: str
) -> None:
    _sign_in_and_send_a_form(proxied(f"{PLAIN} {headers}"))


def test_a_person_signs_in_and_sends_a_form_through_caddy(behind_caddy: Callable[..., Proxied]) -> None:
    _sign_in_and_send_a_form(behind_caddy())


def _sign_in_and_send_a_form(browser: Proxied) -> None:
    assert browser.get("/live")[:2] == (303, "/login?next=/live")
    assert browser.sign_in()[:2] == (303, "/live")
    assert "; Secure" in browser.set_cookie
    status, _, text = browser.get("/live")
    assert status == 200
    (token, *_) = re.findall(r'name="token" value="(\w+)"', text)
    assert browser.post("/name", f"token={token}&by=new&next=/live")[:2] == (303, "/live")
    assert 'value="new"' in browser.get("/live")[2]
    status, _, text = browser.post("/name", f"token={token}&by=evil", Origin="https://evil.example")
    assert status == 403
    assert "from another site" in text
    assert browser.post("/name", f"token={token}&by=evil", Origin=f"http://{NAME}")[0] == 403
    assert browser.post("/name", f"token={token}&by=evil", Origin="null")[0] == 403


@pytest.mark.parametrize("location", [PLAIN, "proxy_pass http://127.0.0.1:8080/;"], ids=["whole", "stripped"])
def test_several_lines_share_a_proxy_by_a_path(proxied: Callable[..., Proxied], location: str) -> None:
    _use_below_a_path(proxied(location, public="{url}/line1", place="/line1/"))


@pytest.mark.parametrize("directive", ["handle", "handle_path"], ids=["whole", "stripped"])
def test_several_lines_share_caddy_by_a_path(behind_caddy: Callable[..., Proxied], directive: str) -> None:
    _use_below_a_path(behind_caddy(f"{directive} /line1/* {{\n{CADDY}\n}}", below="/line1"))


def _use_below_a_path(browser: Proxied) -> None:
    assert browser.get("/line1/live")[:2] == (303, "/line1/login?next=/live")
    assert browser.sign_in("/line1")[:2] == (303, "/line1/live")
    assert "; Path=/line1/" in browser.set_cookie
    status, _, text = browser.get("/line1/live")
    assert status == 200
    links = re.findall(r'(?:href|src|action|data-from)="([^"]*)"', text)
    assert len(links) > 5
    assert all(link.startswith("/line1/") for link in links)
    assert all(browser.get(link)[0] < 400 for link in links if not link.endswith(("name", "logout")))


def test_without_the_public_address_a_proxy_is_told_what_to_set(proxied: Callable[..., Proxied]) -> None:
    browser = proxied(f"{PLAIN} {AS_CADDY}", public="")
    status, _, text = browser.get("/live")
    assert status == 421
    assert "Behind a proxy, set review.public_url" in text


def test_the_name_of_an_upstream_block_is_told_apart(proxied: Callable[..., Proxied]) -> None:
    status, _, text = proxied(f"{PLAIN} proxy_set_header Host line;").get("/live")
    assert status == 421
    assert "Let the proxy pass on the Host header of the browser" in text


def test_a_name_in_a_header_opens_nothing(proxied: Callable[..., Proxied]) -> None:
    """A foreign page in a browser on this machine can set any header of its requests."""
    page = proxied().page
    for headers in (
        {"Host": "evil.example"},
        {"Host": "evil.example", "X-Forwarded-Host": NAME, "Forwarded": f"host={NAME}"},
        {"Host": f"{NAME}.evil.example"},
    ):
        assert page.get("/login", headers)[0].status == 421
    assert page.get("/login", {"Host": NAME})[0].status == 200


def test_wrong_passwords_are_counted_by_client_and_all_together(proxied: Callable[..., Proxied]) -> None:
    browser = proxied()
    for attempt in range(8):
        status, _, text = browser.sign_in(password="wrong", **{"X-Forwarded-For": "10.0.0.1"})
        assert status == (403 if attempt < 5 else 429), text
    assert browser.sign_in(password="wrong", **{"X-Forwarded-For": "10.0.0.2"})[0] == 403
    # nginx passes on what a client says of itself, so a client that lies is limited too.
    statuses = [browser.sign_in(password="wrong", **{"X-Forwarded-For": f"10.0.1.{n}"})[0] for n in range(30)]
    assert statuses[0] == 403
    assert statuses[-1] == 429


def test_caddy_counts_wrong_passwords_by_the_real_client(behind_caddy: Callable[..., Proxied]) -> None:
    """Caddy replaces what a client says of itself."""
    browser = behind_caddy()
    statuses = [
        browser.sign_in(password="wrong", **{"X-Forwarded-For": f"10.0.0.{attempt}"})[0]
        for attempt in range(7)
    ]
    assert statuses == [403] * 5 + [429] * 2


@pytest.mark.parametrize("proxy", ["proxied", "behind_caddy"])
def test_a_browser_uses_the_page_through_a_proxy(request: pytest.FixtureRequest, proxy: str) -> None:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium here: apt-get install chromium")
    url = request.getfixturevalue(proxy)().proxy.url
    rules = f"--host-resolver-rules=MAP {NAME} 127.0.0.1"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*FLAGS, rules])
        tab = chromium.new_page(ignore_https_errors=True)
        tab.goto(f"{url}/live")
        tab.locator("[name=password]").fill(PASSWORD)
        tab.locator("[name=password]").press("Enter")
        tab.wait_for_url(f"{url}/live")
        tab.locator("[name=by]").fill("kb")
        tab.get_by_role("button", name="Set").click()
        tab.wait_for_selector("[name=by][value=kb]")
        chromium.close()
