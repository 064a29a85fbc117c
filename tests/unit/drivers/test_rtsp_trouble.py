"""An RTSP camera that gives no stream is asked why, and each reason has a message of its own with the fix."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from drivers.rtsp_trouble import Address, find_trouble, find_video
from tests.real.odd_rtsp import OddRtsp
from tests.real.port import free_port

DIGEST = '401 Unauthorized\r\nWWW-Authenticate: Digest realm="cam", nonce="n0"'


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"DESCRIBE": "404 Not Found"}, ["no stream at this path", "404 Not Found", "manual"]),
        ({"DESCRIBE": "403 Forbidden"}, ["may not see", "right"]),
        ({"DESCRIBE": "453 Not Enough Bandwidth"}, ["no room", "close other programs"]),
        ({"DESCRIBE": "503 Service Unavailable"}, ["busy or starting (503 Service Unavailable)"]),
        ({"DESCRIBE": "500 Internal"}, ["refuses the stream (500 Internal)"]),
        ({"DESCRIBE": DIGEST}, ["asks for a user and a password", "rtsp://user:password@host"]),
        ({"SETUP": "461 Unsupported Transport"}, ["UDP alone", "transport=udp"]),
        ({"SETUP": "454 Session Not Found"}, ["refuses the stream (454 Session Not Found)"]),
        ({"DESCRIBE": "302 Moved\r\nLocation: rtsp://127.0.0.1:1/x"}, ["port 1 refuses the connection"]),
    ],
)
def test_each_answer_has_a_message_of_its_own(answers: dict[str, str], words: list[str]) -> None:
    with OddRtsp(answers=answers) as camera:
        trouble = find_trouble(camera.url, "tcp")
    assert trouble is not None
    assert "\n" not in trouble
    for word in words:
        assert word in trouble


def test_a_wrong_password_is_told_without_showing_it() -> None:
    with OddRtsp(answers={"DESCRIBE": DIGEST}) as camera:
        trouble = find_trouble(camera.url.replace("//", "//operator:geheim7@"), "tcp")
    assert trouble is not None
    assert "refuses the user or the password" in trouble
    assert "operator" not in trouble
    assert "geheim7" not in trouble


def test_a_camera_that_refuses_udp_is_told() -> None:
    with OddRtsp(answers={"SETUP": "461 Unsupported Transport"}) as camera:
        assert "remove the option transport=udp" in str(find_trouble(camera.url, "udp"))


def test_a_camera_that_grants_the_stream_has_no_trouble() -> None:
    with OddRtsp() as camera:
        assert find_trouble(camera.url, "tcp") is None


def test_addresses_that_lead_nowhere() -> None:
    assert "host name 'no-such-camera.invalid' is not known" in str(
        find_trouble("rtsp://no-such-camera.invalid/live", "tcp")
    )
    assert "is not known" in str(find_trouble(f"rtsp://{'a' * 70}.invalid/live", "tcp"))
    assert "refuses the connection" in str(find_trouble(f"rtsp://127.0.0.1:{free_port()}/live", "tcp"))
    assert "HOST:PORT" in str(find_trouble("rtsp://127.0.0.1:99999/live", "tcp"))
    assert "HOST:PORT" in str(find_trouble("rtsp://127.0.0.1:rtsp/live", "tcp"))


@pytest.mark.parametrize(
    ("says", "scheme", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "rtsp", "is no RTSP port"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "rtsp", "speaks TLS: write rtsps://"),
        (b"", "rtsp", "closes the connection"),
        (b"", "rtsps", "does not speak TLS"),
        (b"RTSP/1.0 400 Bad Request\r\n\r\n", "rtsps", "does not speak TLS"),
    ],
)
def test_another_kind_of_port_is_told(says: bytes, scheme: str, words: str) -> None:
    with _port(lambda client: client.sendall(says)) as port:
        assert words in str(find_trouble(f"{scheme}://127.0.0.1:{port.getsockname()[1]}/live", "tcp"))


def test_a_camera_that_never_answers_takes_three_seconds() -> None:
    done = threading.Event()
    with _port(lambda client: done.wait(10)) as port:
        trouble = find_trouble(f"rtsp://127.0.0.1:{port.getsockname()[1]}/live", "tcp")
        done.set()
    assert "does not answer" in str(trouble)


def _port(serve: Callable[[socket.socket], object]) -> socket.socket:
    """A port whose first client is read once, served, and closed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            serve(client)

    threading.Thread(target=accept, daemon=True).start()
    return listener


@pytest.mark.parametrize(
    ("url", "login", "host", "port", "path"),
    [
        ("rtsp://10.0.0.9/live?x=1", "", "10.0.0.9", 554, "/live?x=1"),
        ("rtsps://cam", "", "cam", 322, ""),
        ("rtsp://u:p@w@cam:8554/a@b", "u:p@w", "cam", 8554, "/a@b"),
        ("rtsp://u:p@[fe80::1]:554?x", "u:p", "fe80::1", 554, "?x"),
    ],
)
def test_an_address_is_divided_as_ffmpeg_divides_it(
    url: str, login: str, host: str, port: int, path: str
) -> None:
    address = Address.parse(url)
    assert (address.login, address.host, address.port, address.path) == (login, host, port, path)
    assert "p@" not in address.uri


@pytest.mark.parametrize(
    ("sdp", "track"),
    [
        ("m=audio 0 x\na=control:t1\nm=video 0 x\na=control:t2\n", "rtsp://h/live/t2"),
        ("m=video 0 x\na=control:rtsp://h/else\n", "rtsp://h/else"),
        ("m=video 0 x\na=control:*\n", "rtsp://h/live/"),
        ("m=video 0 x\n", "rtsp://h/live/"),
        ("m=audio 0 x\na=control:t1\n", None),
        ("", None),
    ],
)
def test_the_video_of_a_description(sdp: str, track: str | None) -> None:
    assert find_video(sdp, "rtsp://h/live/") == track
