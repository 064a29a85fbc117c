"""A person's browser at the page of a running line: keeps the cookie, and sends forms with their token."""

from __future__ import annotations

import re
from http.client import HTTPConnection
from urllib.parse import urlencode


class PageVisitor:
    """Requests to the page on that port of this machine."""

    def __init__(self, port: int) -> None:
        self._port, self._cookie, self._token = port, "", ""

    def get(self, path: str) -> str:
        """The page's text; empty where the page does not answer."""
        try:
            return self._request("GET", path, None)[1]
        except OSError:
            return ""

    def post(self, path: str, **form: str) -> tuple[int, str]:
        """The answer's status and text."""
        self.get("/help")
        return self._request("POST", path, urlencode({"token": self._token, **form}))

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            kind = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
            connection.request(method, path, body, {"Cookie": self._cookie, "Accept": "text/html", **kind})
            answer = connection.getresponse()
            text = answer.read().decode()
            self._cookie = (answer.getheader("Set-Cookie") or self._cookie).partition(";")[0]
            if token := re.search(r'name="token" value="(\w+)"', text):
                self._token = token[1]
            return answer.status, text
        finally:
            connection.close()
