"""A browser without a window: it asks the page's application directly, and sends forms with their token."""

from __future__ import annotations

import re

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

PASSWORD = "gloves and all"
_HEADERS = {"Host": "localhost", "Accept": "text/html"}


class Browser:
    """A browser that sends forms with the token of its session."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def get(self, path: str) -> TestResponse:
        return self._client.get(path, headers=_HEADERS)

    def post(self, path: str, **form: str) -> TestResponse:
        # A page of any kind holds the token of the session.
        token = re.search(r'name="token" value="([0-9a-f]+)"', self.get("/login").text)
        assert token is not None
        return self._client.post(path, data={"token": token[1], **form}, headers=_HEADERS)

    def sign_in(self, name: str, password: str = PASSWORD) -> TestResponse:
        return self.post("/login", by=name, password=password, next="/")
