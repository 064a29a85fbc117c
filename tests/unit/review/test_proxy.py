"""The public address decides by which name the page opens; only this machine's forwarded headers count."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.review.proxy import ProxiedApplication, PublicAddress
from monitor.settings import ReviewSettings

PAGE = PublicAddress.parse("https://Line-PC.example")


@pytest.mark.parametrize(
    "host", ["line-pc.example", "LINE-PC.example:443", "line-pc.example.", "line-pc.example.:443"]
)
def test_the_host_of_the_public_address_opens_the_page(host: str) -> None:
    assert PAGE.is_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "evil.example",
        "line-pc.example.evil",
        "line-pc.example..",
        "line-pc.example:8443",
        "x@line-pc",
        "evil@line-pc.example",
        "u:p@line-pc.example:443",
        "@line-pc.example",
        "line-pc.example/x",
        "line-pc.example?x",
        "line-pc.example#x",
        "[::1",
    ],
)
def test_another_host_does_not(host: str) -> None:
    assert not PAGE.is_host(host)


def test_a_proxy_may_leave_out_its_port() -> None:
    page = PublicAddress.parse("https://line-pc.example:8443/line1/")
    assert page.path == "/line1"
    assert page.is_host("line-pc.example:8443")
    assert page.is_host("line-pc.example")
    assert page.is_origin("https://line-pc.example:8443")
    assert not page.is_origin("https://line-pc.example")


@pytest.mark.parametrize("origin", ["https://line-pc.example", "https://LINE-PC.example:443"])
def test_a_form_of_the_public_address_is_the_page_s_own(origin: str) -> None:
    assert PAGE.is_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://line-pc.example",
        "https://evil.example",
        "https://line-pc.example:444",
        "https://[x",
        "https://u@line-pc.example",
        "https://u:p@line-pc.example:443",
        "https://line-pc.example/live",
        "https://line-pc.example#@evil.example",
    ],
)
def test_a_form_of_another_origin_is_not(origin: str) -> None:
    assert not PAGE.is_origin(origin)


def seen(peer: str, path: str = "/live", public: PublicAddress = PAGE, **headers: str) -> dict[str, Any]:
    """What the application is given."""
    found: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: object) -> list[bytes]:
        found.update(environ)
        return []

    environ = {"REMOTE_ADDR": peer, "PATH_INFO": path, "wsgi.url_scheme": "http", **headers}
    ProxiedApplication(application, public)(environ, None)
    return found


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "127.0.0.9", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    ("said", "address"),
    [("10.0.0.7", "10.0.0.7"), ("1.2.3.4, 10.0.0.7", "10.0.0.7"), ("[fe80::7]", "fe80::7")],
)
def test_a_proxy_on_this_machine_names_the_client_and_the_scheme(peer: str, said: str, address: str) -> None:
    found = seen(peer, HTTP_X_FORWARDED_FOR=said, HTTP_X_FORWARDED_PROTO="http, https")
    assert (found["REMOTE_ADDR"], found["monitor.proxy"], found["wsgi.url_scheme"]) == (
        address,
        peer,
        "https",
    )


@pytest.mark.parametrize("said", ["", "unknown", "10.0.0.7:5000", "<script>", "10.0.0.7, _hidden"])
def test_what_is_no_address_is_no_client(said: str) -> None:
    assert seen("127.0.0.1", HTTP_X_FORWARDED_FOR=said)["REMOTE_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize("peer", ["10.0.0.5", "::ffff:10.0.0.5", "", "line-pc"])
def test_another_machine_names_nothing(peer: str) -> None:
    found = seen(peer, HTTP_X_FORWARDED_FOR="10.0.0.7", HTTP_X_FORWARDED_PROTO="https")
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == (peer, "http")
    assert "monitor.proxy" not in found


@pytest.mark.parametrize(
    ("path", "inside"),
    [("/line1/live", "/live"), ("/live", "/live"), ("/line1", "/"), ("/line12/x", "/line12/x")],
)
def test_the_path_of_the_public_address_may_be_passed_on_or_not(path: str, inside: str) -> None:
    found = seen("127.0.0.1", path, PublicAddress.parse("https://line-pc.example/line1/"))
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/line1", inside)


@pytest.mark.parametrize(
    "url",
    [
        "line-pc.example",
        "ftp://line-pc.example",
        "https://",
        "https://u:p@h",
        "https://h/?x=1",
        "https://h/#x",
        "https://h:70000",
        "https://h/a b",
    ],
)
def test_what_no_browser_could_open_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"as https://line-pc\.example"):
        ReviewSettings(public_url=url)


@pytest.mark.parametrize(
    "url",
    ["https://h", "http://h:8080/", "https://line-pc.example/a/b", "https://[::1]:8443", "https://10.0.0.5"],
)
def test_an_address_that_browsers_open_is_taken(url: str) -> None:
    assert ReviewSettings(public_url=url).public_url == url
