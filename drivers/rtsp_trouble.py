"""Finds out why an RTSP camera gives no stream: asks it what FFmpeg asked, and puts the answer in words.

It knows nothing of images. It is used after a failure alone, since some cameras serve few clients, and takes
at most 3 s. A message must never hold a user name or a password.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from dataclasses import dataclass, replace
from typing import NoReturn

from drivers.rtsp_login import authorization

_LONGEST_S = 3.0
_MOST_BYTES = 1 << 16
_MOST_REDIRECTS = 3
_BUSY_PAUSES_S = (0.5, 1.0)
"""The waits before a camera that says that it is busy is asked again."""
_TLS_ALERT = b"\x15"
_PORTS = {"rtsp": 554, "rtsps": 322}


class _Trouble(Exception):
    """The reason with the fix, as the end of a sentence about the camera."""


class _Busy(_Trouble):
    """The camera says that it is busy. Our own session that has just failed may still be ending there."""


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a camera's URL, divided as FFmpeg divides them."""

    scheme: str
    login: str
    host: str
    port: int
    path: str
    """With its `/` and the query."""

    @property
    def uri(self) -> str:
        """The URL without the login, for requests."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @classmethod
    def parse(cls, url: str) -> Address:
        scheme, _, rest = url.partition("://")
        end = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
        login, _, place = rest[:end].rpartition("@")
        found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?", place)
        if found is None or not found[1] or int(found[2] or 1) not in range(1, 65536):
            raise _Trouble("its address is not HOST or HOST:PORT: write rtsp://user:password@host:554/path")
        port = int(found[2] or _PORTS.get(scheme.lower(), 554))
        return cls(scheme.lower(), login, found[1].strip("[]"), port, rest[end:])


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: str

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


def find_port(url: str) -> int:
    """The port of the camera's URL; 0 where the URL has no valid address."""
    try:
        return Address.parse(url).port
    except _Trouble:
        return 0


def find_trouble(url: str, transport: str) -> str | None:
    """Why the camera gives no stream by `transport` (tcp or udp), with the fix; None if it grants one."""
    for pause_s in _BUSY_PAUSES_S:
        try:
            return _find_trouble(url, transport)
        except _Busy:
            time.sleep(pause_s)
    try:
        return _find_trouble(url, transport)
    except _Busy as busy:
        return str(busy)


def _find_trouble(url: str, transport: str) -> str | None:
    """As `find_trouble`. Raises _Busy where the camera says that it is busy."""
    try:
        address = Address.parse(url)
        for _ in range(_MOST_REDIRECTS):
            with _Conversation(address) as conversation:
                elsewhere = _ask(conversation, transport)
            if elsewhere is None:
                return None
            address = replace(Address.parse(elsewhere), login=address.login)
    except _Busy:
        raise
    except _Trouble as trouble:
        return str(trouble)
    return "it names one address after the other (redirection): write the last one as the source"


def _ask(conversation: _Conversation, transport: str) -> str | None:
    """Ask for the stream's description and for the stream. Returns where the camera refers to instead, if it
    does."""
    described = conversation.request("DESCRIBE", conversation.address.uri, "Accept: application/sdp")
    if described.status in (301, 302, 303, 305) and described.header("location"):
        return described.header("location")
    if described.status != 200:
        _refuse(described, conversation.address)
    base = described.header("content-base") or conversation.address.uri
    track = find_video(described.body, base)
    if track is None:
        raise _Trouble("its stream has no video: check the path")
    if transport == "tcp":
        wish = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
        other = "it sends by UDP alone: add the option transport=udp to the source"
    else:
        wish = "Transport: RTP/AVP;unicast;client_port=50100-50101"
        other = "it does not send by UDP: remove the option transport=udp from the source"
    answer = conversation.request("SETUP", track, wish)
    if answer.status == 461:
        raise _Trouble(other)
    if answer.status != 200:
        _refuse(answer, conversation.address)
    return None


def _refuse(answer: _Answer, address: Address) -> NoReturn:
    said = f"({answer.status} {answer.reason})".replace(" )", ")")
    match answer.status:
        case 401 if not address.login:
            raise _Trouble(f"it asks for a user and a password {said}: write rtsp://user:password@host/path")
        case 401:
            escapes = "; write %25 for a % in them" if "%" in address.login else ""
            raise _Trouble(
                f"it refuses the user or the password {said}: check both{escapes}; "
                "some cameras lock a user out"
            )
        case 403:
            raise _Trouble(f"the user may not see this stream {said}: give the user the right to view it")
        case 404:
            raise _Trouble(f"it has no stream at this path {said}: look the path up in the camera's manual")
        case 503:
            raise _Busy(f"it is busy or starting {said}: close other programs that watch it")
        case 453:
            raise _Trouble(f"it has no room for another viewer {said}: close other programs that watch it")
    raise _Trouble(f"it refuses the stream {said}: check the path, and the stream's settings in the camera")


def find_video(sdp: str, base: str) -> str | None:
    """The address of the first video track in a stream's description (SDP); None without one."""
    media = re.split(r"(?m)^m=", sdp)[1:]
    for track in media:
        if track.startswith("video"):
            found = re.search(r"(?m)^a=control:(.*?)\s*$", track)
            control = found[1] if found else "*"
            if control.lower().startswith(("rtsp://", "rtsps://")):
                return control
            return base if control == "*" else base.rstrip("/") + "/" + control
    return None


class _Conversation:
    """One connection to the camera, with a limit for all of it. Every failure is a _Trouble."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._until = time.monotonic() + _LONGEST_S
        self._number = 0
        self._challenges: list[str] = []
        where = f"{address.host} port {address.port}"
        try:
            self._socket: socket.socket = socket.create_connection(
                (address.host, address.port), self._left_s()
            )
        except (socket.gaierror, UnicodeError):
            raise _Trouble(
                f"the host name {address.host!r} is not known: check it, or write the IP address"
            ) from None
        except ConnectionRefusedError:
            raise _Trouble(
                f"{where} refuses the connection: check the port, and that RTSP is switched on in the camera"
            ) from None
        except TimeoutError:
            raise _Trouble(
                f"{where} does not answer: check address, cable, and that the camera is on"
            ) from None
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise _Trouble(f"{where} can't be reached ({why}): check address, cable and network") from None
        if address.scheme == "rtsps":
            self._begin_tls()

    def __enter__(self) -> _Conversation:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def request(self, method: str, uri: str, header: str) -> _Answer:
        """Ask once, and once more with the login if the camera asks for it."""
        answer = self._exchange(method, uri, header)
        if answer.status == 401 and self.address.login and not self._challenges:
            self._challenges = [value for key, value in answer.headers if key == "www-authenticate"]
            answer = self._exchange(method, uri, header)
        return answer

    def _begin_tls(self) -> None:
        # The question is why there is no stream; FFmpeg does not look at certificates either.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            self._socket.settimeout(self._left_s())
            self._socket = context.wrap_socket(self._socket)
        except (ssl.SSLError, ConnectionError, TimeoutError):
            self._socket.close()
            raise _Trouble(
                f"port {self.address.port} does not speak TLS: write rtsp:// in place of rtsps://, "
                "or the port for TLS"
            ) from None

    def _exchange(self, method: str, uri: str, header: str) -> _Answer:
        self._number += 1
        lines = [f"{method} {uri} RTSP/1.0", f"CSeq: {self._number}", "User-Agent: line-monitor", header]
        if login := authorization(self._challenges, self.address.login, method, uri, self._number):
            lines.append(f"Authorization: {login}")
        port = self.address.port
        try:
            self._socket.settimeout(self._left_s())
            self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
            return self._receive()
        except TimeoutError:
            raise _Trouble(
                f"port {port} takes the connection, but does not answer: is the camera starting?"
            ) from None
        except OSError:
            raise _Trouble(
                f"port {port} closes the connection: is it the camera's RTSP port, without TLS?"
            ) from None

    def _receive(self) -> _Answer:
        content = b""
        while b"\r\n\r\n" not in content:
            content += self._receive_some(len(content))
            if content[:1] == _TLS_ALERT:
                raise _Trouble(f"port {self.address.port} speaks TLS: write rtsps:// in place of rtsp://")
            if content[:5] != b"RTSP/"[: len(content)]:
                raise _Trouble(
                    f"port {self.address.port} is no RTSP port: look it up in the camera (usually 554)"
                )
        head, _, body = content.partition(b"\r\n\r\n")
        first, *rows = head.decode(errors="replace").split("\r\n")
        pairs = [row.partition(":") for row in rows]
        headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
        status = re.match(r"RTSP/\d\.\d (\d{3}) ?(.*)", first)
        answer = _Answer(
            int(status[1]) if status else 0,
            re.sub(r"[^ -~]", "", status[2])[:40] if status else "",
            headers,
            "",
        )
        length = answer.header("content-length")
        while length.isdecimal() and len(body) < int(length):
            body += self._receive_some(len(body))
        return replace(answer, body=body.decode(errors="replace").replace("\r\n", "\n"))

    def _receive_some(self, so_far: int) -> bytes:
        self._socket.settimeout(self._left_s())
        more = self._socket.recv(4096)
        if not more or so_far > _MOST_BYTES:
            raise ConnectionError
        return more

    def _left_s(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
